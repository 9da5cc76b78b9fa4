"""Encoders seen cell by cell: neurons as directions, an encoder that gives the parts of an embedding, and the
pictures of a cohort that they look at."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from medsae import config as c
from medsae import encoders, plugins
from medsae.progress import Progress, UserError
from medsae.steps import located
from medsae.store.artifacts import Artifact, Store

if TYPE_CHECKING:
    from medsae.encoders.cells import Cells
    from medsae.sae.model import Sae

REFERENCE = 256
"""Pictures whose mean map is taken off."""
BATCH = 16
LANES = 16
"""Batches at once at most."""


@dataclass(frozen=True)
class Direction:
    """Neurons as rows of a matrix: the part of a pre-activation that comes from the embedding is row_md @ x."""

    row_md: np.ndarray
    constant_m: np.ndarray

    @staticmethod
    def of_sae(sae: Sae) -> Direction:
        """W_enc (s (x - mean) - b_pre) + b_enc: linear in x, so what it gives for x = 0 is the constant."""
        rows = sae.weights["W_enc"].cpu().numpy() * np.float32(sae.normalisation.scale)
        return Direction(rows, sae.pre_activations(np.zeros((1, sae.d), np.float32))[0])

    @staticmethod
    def of_raw(d: int) -> Direction:
        """The identity representation."""
        return Direction(np.eye(d, dtype=np.float32), np.zeros(d, np.float32))

    @staticmethod
    def at_random(d: int, m: int, seed: int) -> Direction:
        """The random directions that scores compare with (`scoring.activity.RandomDirections`)."""
        from medsae.scoring.activity import random_directions

        return Direction(np.ascontiguousarray(random_directions(d, m, seed).T), np.zeros(m, np.float32))


REFERENCE_FILE = "reference.npy"
"""The mean parts that were taken off the maps of these scores, float32 [cells, d]."""


class Sees(Protocol):
    """Where on a picture values come from: exactly (`Eye`), or by what they lose (`occlusion.Occluded`)."""

    @property
    def encoder(self) -> encoders.Encoder: ...

    @property
    def unit_norm(self) -> bool: ...

    @property
    def places(self) -> located.Cells: ...

    @property
    def how(self) -> str: ...

    def grid_row(self) -> dict[str, Any]: ...

    def prepared(self, picture: np.ndarray) -> np.ndarray:
        """What `parts` takes of a picture uint8 [h, w]; called in the threads that compute."""
        ...

    def parts(self, prepared: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Parts [b, cells, d] and constant [b, d] whose sum is the embedding."""
        ...

    def maps(self, parts_cd: np.ndarray, constant_d: np.ndarray, directions: Direction, neurons: np.ndarray) -> tuple[
        np.ndarray, np.ndarray
    ]:  # fmt: skip
        """Maps [k, cells] of some neurons on one picture and constants [k]: their sum is the pre-activation."""
        ...


@dataclass(frozen=True)
class Eye:
    """An encoder with its pictures, seen cell by cell."""

    encoder: encoders.Encoder
    cells: Cells
    unit_norm: bool
    reference_cd: np.ndarray
    """Mean parts over the cohort [cells, d]; zeros until `with_reference`."""

    @property
    def places(self) -> located.Cells:
        """Where the cells lie."""
        return located.Cells(self.cells.grid, self.cells.first_px, self.cells.step_px, self.encoder.size)

    how = "exact minus the cohort's mean"

    def grid_row(self) -> dict[str, Any]:
        """The row of the table `cell_grid`."""
        cells = self.cells
        return {
            "rows": cells.grid[0], "columns": cells.grid[1], "first_px": cells.first_px, "step_px": cells.step_px,
            "reach_px": cells.reach_px, "size_px": self.encoder.size, "how": self.how,
        }  # fmt: skip

    def prepared(self, picture: np.ndarray) -> np.ndarray:
        """As the network takes it."""
        return self.encoder.prepare(picture)

    def parts(self, prepared: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Prepared pictures -> parts float32 [b, cells, d] and constant [b, d] whose sum is the embedding, divided by
        its norm where the embeddings are."""
        import torch

        from medsae.encoders.plan import channels_last

        pixels = channels_last(torch.from_numpy(np.stack(prepared)))
        with torch.inference_mode():
            parts, constant = self.cells(pixels)
            whole = parts.sum(1) + constant
            norm = whole.norm(dim=1) if self.unit_norm else torch.ones(len(whole))
            parts, constants = parts / norm[:, None, None], constant / norm[:, None]
        return parts.numpy(), constants.numpy()

    def with_reference(self, pictures: Sequence[np.ndarray]) -> Eye:
        """The same with the mean map of these pictures."""
        batches = [pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH)]

        def total(batch: Sequence[np.ndarray]) -> np.ndarray:
            return self.parts([self.prepared(p) for p in batch])[0].sum(0, dtype=np.float64)

        assert batches
        mean_cd = np.sum([*side_by_side(total, batches)], axis=0) / len(pictures)
        return Eye(self.encoder, self.cells, self.unit_norm, mean_cd.astype(np.float32))

    def maps(self, parts_cd: np.ndarray, constant_d: np.ndarray, directions: Direction, neurons: np.ndarray) -> tuple[
        np.ndarray, np.ndarray
    ]:  # fmt: skip
        """Maps [k, cells] of some neurons on one picture, reference taken off, and constants [k]: their sum is the
        pre-activation."""
        import torch

        rows = directions.row_md[neurons]
        # By torch, whose threads are those of the network: two pools of threads would wait for each other.
        map_kc = (torch.from_numpy(rows) @ torch.from_numpy(parts_cd - self.reference_cd).T).numpy()
        return map_kc, rows @ (constant_d + self.reference_cd.sum(0)) + directions.constant_m[neurons]


def side_by_side(work: Callable[[Any], Any], batches: Sequence[Any]) -> Iterator[Any]:
    """`work` of each batch in order, computed some at once, each on one core, as embedding is (docs/decisions/037)."""
    import torch

    before = torch.get_num_threads()
    count = min(before, LANES)
    pool = ThreadPoolExecutor(count, "maps", torch.set_num_threads, (1,))
    try:
        under_way = [pool.submit(work, batch) for batch in batches[:count]]
        for k in range(len(batches)):
            if k + count < len(batches):
                under_way.append(pool.submit(work, batches[k + count]))
            yield under_way.pop(0).result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def eye_of(embeddings: Artifact, store: Store, progress: Progress) -> Eye:
    """The encoder that made these embeddings, ready to make maps. UserError says why there can be none."""
    if embedded_with(embeddings).pool == "tokens":
        raise UserError("of token embeddings the map is the tokens' own activations", embeddings.id)
    return eye_with(encoder_of(embeddings, store, progress), embeddings)


def eye_with(encoder: encoders.Encoder, embeddings: Artifact) -> Eye:
    """The same where the encoder is loaded already."""
    import torch

    from medsae.encoders import cells

    # A third of the time of convolutions on a CPU.
    encoder.module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    parts = cells.of(encoder)
    if parts is None:
        raise UserError(f"an embedding of {encoder.name} is no sum over cells of the picture", embeddings.id)
    count = parts.grid[0] * parts.grid[1]
    reference_cd = np.zeros((count, encoder.dim), np.float32)
    return Eye(encoder, parts, unit_norm(encoder, embeddings), reference_cd)


def unit_norm(encoder: encoders.Encoder, embeddings: Artifact) -> bool:
    """Whether these embeddings were divided by their norm."""
    asked = embedded_with(embeddings).unit_norm
    return bool(encoder.unit_norm_default if asked is None else asked)


def encoder_of(embeddings: Artifact, store: Store, progress: Progress) -> encoders.Encoder:
    """The encoder that made these embeddings, ready to compute. UserError where there is none, or not the same."""
    config = embedded_with(embeddings)
    if config.encoder is None:
        raise UserError("these embeddings were made elsewhere: there is no encoder here to ask", embeddings.id)
    encoder = encoders.load_encoder(config.encoder, config.weights, store.cache, progress, config)
    if encoder.weights_sha256 != embeddings.facts.get("weights_sha256", encoder.weights_sha256):
        raise UserError("the encoder's weights are not those that made these embeddings", embeddings.id)
    return encoder


def embedded_with(embeddings: Artifact) -> c.Embed:
    """The config of an embeddings artifact as it was asked, weights where the command named them."""
    values = {k: v for k, v in embeddings.config.items() if k not in ("step", "source")}
    words = embeddings.manifest.get("command", [])
    weights = Path(words[words.index("--weights") + 1]) if "--weights" in words[:-1] else None
    # The record names a model of a family (`hf:`) without its place; the command says where its files lie.
    name = words[words.index("--encoder") + 1] if "--encoder" in words[:-1] else values.get("encoder")
    values |= {"encoder": name} if name else {}
    kind = c.joined(c.Embed, plugins.encoders.get(name).options) if name else c.Embed
    known = {f.name for f in fields(kind)}
    if name is None:
        return c.Embed(cohort=str(values["cohort"]), from_=Path("elsewhere"), rows=Path("elsewhere"))
    return kind(**{k: v for k, v in values.items() if k in known and k != "weights"}, weights=weights)


def sampled(pictures: Any, most: int = REFERENCE) -> list[np.ndarray]:
    """Pictures for the mean map: of the whole cohort as it was embedded, not only of those that are scored. The same
    ones whoever asks, so that a map made later has the same reference."""
    found: list[np.ndarray] = []
    drawn = np.random.default_rng(12).permutation(len(pictures))
    for part in (drawn[:most], drawn[most : 2 * most]):
        # In order: pictures are stored in blocks, and each is read once.
        for image in np.sort(part[: most - len(found)]):
            with contextlib.suppress(ValueError):
                found.append(pictures[int(image)])
    return found


def pictures_of(cohort: Artifact) -> Any:
    """The cohort's pictures by number; none where they are gone."""
    from medsae.steps.embed import Pictures

    try:
        return Pictures(cohort)
    except UserError:
        return []
