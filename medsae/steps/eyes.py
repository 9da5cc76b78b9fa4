"""Encoders seen cell by cell: neurons as directions, an encoder that gives the parts of an embedding, and the
pictures of a cohort that they look at."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
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
    """Where on a picture values come from: exactly (`Eye`), or by what they lose (`replaced.Occluded`)."""

    @property
    def encoder(self) -> encoders.Encoder: ...

    @property
    def unit_norm(self) -> bool: ...

    @property
    def places(self) -> located.Cells: ...

    @property
    def how(self) -> str: ...

    def grid_row(self) -> dict[str, Any]: ...

    def parts(self, pictures: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
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

    def parts(self, pictures: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """uint8 pictures -> parts float32 [b, cells, d] and constant [b, d] whose sum is the embedding, divided by its
        norm where the embeddings are."""
        import torch

        pixels = torch.from_numpy(np.stack([self.encoder.prepare(p) for p in pictures]))
        with torch.inference_mode():
            parts, constant = self.cells(pixels)
            whole = parts.sum(1) + constant
            norm = whole.norm(dim=1) if self.unit_norm else torch.ones(len(whole))
            parts, constants = parts / norm[:, None, None], constant / norm[:, None]
        return parts.numpy(), constants.numpy()

    def with_reference(self, pictures: Sequence[np.ndarray]) -> Eye:
        """The same with the mean map of these pictures."""
        total, count = None, 0
        for start in range(0, len(pictures), BATCH):
            parts = self.parts(pictures[start : start + BATCH])[0].sum(0, dtype=np.float64)
            total, count = (parts if total is None else total + parts), count + len(pictures[start : start + BATCH])
        assert total is not None
        return Eye(self.encoder, self.cells, self.unit_norm, (total / count).astype(np.float32))

    def maps(self, parts_cd: np.ndarray, constant_d: np.ndarray, directions: Direction, neurons: np.ndarray) -> tuple[
        np.ndarray, np.ndarray
    ]:  # fmt: skip
        """Maps [k, cells] of some neurons on one picture, reference taken off, and constants [k]: their sum is the
        pre-activation."""
        rows = directions.row_md[neurons]
        maps = (parts_cd - self.reference_cd) @ rows.T
        return maps.T, rows @ (constant_d + self.reference_cd.sum(0)) + directions.constant_m[neurons]


def eye_of(embeddings: Artifact, store: Store, progress: Progress) -> Eye:
    """The encoder that made these embeddings, ready to make maps. UserError says why there can be none."""
    if embedded_with(embeddings).pool == "tokens":
        raise UserError("of token embeddings the map is the tokens' own activations", embeddings.id)
    return eye_with(encoder_of(embeddings, store, progress), embeddings)


def eye_with(encoder: encoders.Encoder, embeddings: Artifact) -> Eye:
    """The same where the encoder is loaded already."""
    from medsae.encoders import cells

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
