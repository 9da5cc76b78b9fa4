"""Maps at score time: where the value of a neuron was collected, on its top pictures, and whether that is where the
finding is (docs/decisions/072).

A map is exact for encoders whose embedding is a sum over cells (`encoders.cells`): cells + constant = pre-activation.
The cohort's mean map is taken off, because positive and negative parts nearly cancel and show anatomy otherwise; the
sum stays exact with another constant. Maps are computed in float32, whatever the embeddings were stored from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medsae import config as c
from medsae import encoders, plugins
from medsae.geometry import packed
from medsae.progress import Progress, UserError
from medsae.store.artifacts import Artifact, Store

if TYPE_CHECKING:
    from medsae.encoders.cells import Cells
    from medsae.sae.model import Sae

TOP = 25
"""Pictures of a neuron whose maps are kept."""
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


@dataclass(frozen=True)
class Eye:
    """An encoder with its pictures, seen cell by cell."""

    encoder: encoders.Encoder
    cells: Cells
    unit_norm: bool
    reference_cd: np.ndarray
    """Mean parts over the cohort [cells, d]; zeros until `with_reference`."""

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
    from medsae.encoders import cells

    config = embedded_with(embeddings)
    if config.encoder is None:
        raise UserError("these embeddings were made elsewhere: there is no encoder here to ask", embeddings.id)
    if config.pool == "tokens":
        raise UserError("of token embeddings the map is the tokens' own activations", embeddings.id)
    encoder = encoders.load_encoder(config.encoder, config.weights, store.cache, progress, config)
    if encoder.weights_sha256 != embeddings.facts.get("weights_sha256", encoder.weights_sha256):
        raise UserError("the encoder's weights are not those that made these embeddings", embeddings.id)
    parts = cells.of(encoder)
    if parts is None:
        raise UserError(f"an embedding of {encoder.name} is no sum over cells of the picture", embeddings.id)
    unit = config.unit_norm if config.unit_norm is not None else encoder.unit_norm_default
    count = parts.grid[0] * parts.grid[1]
    return Eye(encoder, parts, unit, np.zeros((count, encoder.dim), np.float32))


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


@dataclass(frozen=True)
class Asked:
    """Maps that are wanted, one a place: picture (row of the scored images), whose directions, neuron."""

    row: np.ndarray
    space: np.ndarray
    neuron: np.ndarray

    @staticmethod
    def joined(parts: Sequence[Asked]) -> Asked:
        return Asked(*(np.concatenate([getattr(p, k) for p in parts]) for k in ("row", "space", "neuron")))


def compute(
    eye: Eye, pictures: Any, images: np.ndarray, spaces: Sequence[Direction], asked: Asked, progress: Progress
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(places in `asked`, maps [k, cells], constants [k]) by picture; a picture that cannot be read is left out.

    `pictures[image]` decodes; `images` are the images of the scored rows.
    """
    order = np.lexsort((asked.neuron, asked.space, asked.row))
    rows, starts = np.unique(asked.row[order], return_index=True)
    bounds = [*starts.tolist(), len(order)]

    def read(k: int) -> np.ndarray | None:
        try:
            return pictures[int(images[rows[k]])]
        except ValueError:
            return None

    with ThreadPoolExecutor(2, "decode") as pool, progress.task("maps", len(rows), "pictures") as task:
        for begin in range(0, len(rows), BATCH):
            batch = range(begin, min(len(rows), begin + BATCH))
            read_ones = [(k, p) for k, p in zip(batch, pool.map(read, batch), strict=True) if p is not None]
            task.advance(len(batch))
            if not read_ones:
                continue
            parts, constants = eye.parts([p for _, p in read_ones])
            for (k, _), parts_cd, constant_d in zip(read_ones, parts, constants, strict=True):
                places = order[bounds[k] : bounds[k + 1]]
                for space in np.unique(asked.space[places]):
                    own = places[asked.space[places] == space]
                    yield (own, *eye.maps(parts_cd, constant_d, spaces[space], asked.neuron[own]))


def top_pairs(neuron: np.ndarray, row: np.ndarray, value: np.ndarray, top: int = TOP) -> tuple[np.ndarray, np.ndarray]:
    """(row, neuron) of the `top` strongest pictures of every neuron; activations sorted by neuron, value descending."""
    first = np.r_[True, neuron[1:] != neuron[:-1]]
    rank = np.arange(len(neuron)) - np.maximum.accumulate(np.where(first, np.arange(len(neuron)), 0))
    kept = (rank < top) & (value > 0)
    return row[kept], neuron[kept]


@dataclass(frozen=True)
class Scored:
    """What `score` has when maps are made: the scored images and what was found on them."""

    embeddings: Artifact
    cohort: Artifact
    images: pd.DataFrame
    """image, patient of each scored row."""
    x_nd: np.ndarray
    activation: pd.DataFrame
    """neuron, row, value; sorted by neuron, value descending."""
    recovery: pd.DataFrame
    """The table `recovery` (empty without planted factors)."""
    sae_artifact: Artifact | None
    seed: int

    @cached_property
    def sae(self) -> Sae | None:
        """The model, None for raw."""
        from medsae.sae.model import Sae

        return Sae.load(self.sae_artifact.file("sae.safetensors")) if self.sae_artifact else None


@dataclass(frozen=True)
class Made:
    """Tables `cell`, `cell_grid`, `localisation`, and the mean parts that were taken off [cells, d]."""

    tables: dict[str, pd.DataFrame]
    reference_cd: np.ndarray


def at_score(scored: Scored, store: Store, progress: Progress) -> tuple[Made, str]:
    """Everything that is kept of maps, and "" or the reason why there is nothing."""
    try:
        pictures = pictures_of(scored.cohort)
        sample = sampled(pictures)
        if not sample:
            raise UserError("no picture of the cohort can be read here", scored.cohort.id)
        eye = eye_of(scored.embeddings, store, progress).with_reference(sample)
    except UserError as error:
        progress.say(f"no maps: {error.what}")
        return Made({}, np.zeros((0, 0), np.float32)), error.what
    return _made(scored, eye, pictures, progress), ""


def _made(scored: Scored, eye: Eye, pictures: Any, progress: Progress) -> Made:
    d = scored.x_nd.shape[1]
    spaces = [Direction.of_sae(scored.sae) if scored.sae else Direction.of_raw(d)]
    row, neuron = top_pairs(*(scored.activation[k].to_numpy() for k in ("neuron", "row", "value")))
    top = Asked(row, np.zeros(len(row), np.intp), neuron)
    findings = _findings(scored, eye)
    if findings:  # in the order of `Finding.questions`
        spaces += [Direction.of_raw(d)] if scored.sae else []
        spaces += [Direction.at_random(d, len(spaces[0].row_md), scored.seed)]
    questions = [q for finding in findings for q in finding.questions(scored, spaces)]
    asked = Asked.joined([top, *(q.asked for q in questions)])
    images = scored.images["image"].to_numpy()
    cells = eye.cells.grid[0] * eye.cells.grid[1]
    maps, scale, constant = [b""] * len(row), np.zeros(len(row), np.float32), np.zeros(len(row), np.float32)
    kept = np.full((len(asked.row) - len(row), cells), np.nan, np.float32)
    for places, map_kc, constant_k in compute(eye, pictures, images, spaces, asked, progress):
        first = places < len(row)
        if first.any():
            made, scales = packed(map_kc[first])
            for place, bytes_ in zip(places[first], made, strict=True):
                maps[place] = bytes_
            scale[places[first]], constant[places[first]] = scales, constant_k[first]
        kept[places[~first] - len(row)] = map_kc[~first]
    cell = pd.DataFrame({"neuron": neuron, "image": images[row], "map": maps, "scale": scale, "constant": constant})
    cell = cell[cell["map"].map(len) > 0]
    tables = {"cell": cell, "cell_grid": grid_frame(eye)}
    if questions:
        begin, rows = 0, []
        for question in questions:
            count = len(question.asked.row)
            rows.append(question.answer(kept[begin : begin + count], scored.seed))
            begin += count
        tables["localisation"] = pd.DataFrame(rows)
    return Made(tables, eye.reference_cd)


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


@dataclass(frozen=True)
class Finding:
    """A finding with masks: the scored rows that show it, of patients who had no say in the choice of its neuron."""

    factor: str
    neurons: dict[str, int]
    """Representation -> its best neuron by the other half of the patients."""
    row: np.ndarray
    inside_nc: np.ndarray
    cover_nc: np.ndarray

    def questions(self, scored: Scored, spaces: Sequence[Direction]) -> list[Question]:
        """One a representation: the maps of its neuron, and of another firing neuron, on these pictures."""
        rng = np.random.default_rng([scored.seed, 13])
        x_nd = scored.x_nd[self.row]
        out = []
        for representation, neuron in self.neurons.items():
            space = (("sae", "raw", "random") if scored.sae else ("raw", "random")).index(representation)
            if representation == "sae":
                assert scored.sae is not None
                z_nm = scored.sae.encode(x_nd)
            else:
                z_nm = np.broadcast_to(np.float32(1), (len(x_nd), len(spaces[space].row_md)))
            fires = z_nm[:, neuron] > 0
            other = np.zeros(len(x_nd), np.intp)
            for i in np.flatnonzero(fires):
                rivals = np.flatnonzero(z_nm[i] > 0)
                rivals = rivals[rivals != neuron]
                other[i] = rng.choice(rivals) if len(rivals) else neuron
            sign = 1.0
            if representation != "sae":
                sign = _sign(scored, spaces[space].row_md[neuron], self.row)
            out.append(Question(self, representation, neuron, fires, other[fires], space, sign, scored.images))
        return out


@dataclass(frozen=True)
class Question:
    """Maps of one neuron and of another one on the pictures of a finding."""

    finding: Finding
    representation: str
    neuron: int
    fires: np.ndarray
    other: np.ndarray
    space: int
    sign: float
    """-1 where the direction tells the finding by small values."""
    images: pd.DataFrame

    @property
    def asked(self) -> Asked:
        row = self.finding.row[self.fires]
        neuron = np.full(len(row), self.neuron)
        return Asked(np.tile(row, 2), np.full(2 * len(row), self.space), np.concatenate([neuron, self.other]))

    def answer(self, maps: np.ndarray, seed: int) -> dict[str, Any]:
        """A row of the table `localisation`."""
        from medsae.scoring import localisation
        from medsae.scoring.draws import Patients

        own, other = np.split(maps, 2)
        read = np.isfinite(own).all(1) & np.isfinite(other).all(1)
        patients = self.images["patient"].to_numpy()[self.finding.row[self.fires][read]]
        located = localisation.locate(
            self.sign * own[read], other[read], self.finding.inside_nc[self.fires][read],
            self.finding.cover_nc[self.fires][read], Patients.of(patients), seed=seed,
        )  # fmt: skip
        row = {"finding": self.finding.factor, "representation": self.representation, "neuron": self.neuron}
        return row | localisation.table_row(located)


def _sign(scored: Scored, direction_d: np.ndarray, rows: np.ndarray) -> float:
    value_n = scored.x_nd @ direction_d
    return 1.0 if value_n[rows].mean() >= value_n.mean() else -1.0


def _findings(scored: Scored, eye: Eye) -> list[Finding]:
    """Planted factors with masks whose best neurons are known, judged on the half that did not choose."""
    from medsae.scoring.best import halves
    from medsae.scoring.draws import Patients

    if not len(scored.recovery):
        return []
    patients = scored.images["patient"].to_numpy()
    judged = ~halves(Patients.of(patients), scored.seed)
    row_of = {int(image): row for row, image in enumerate(scored.images["image"]) if judged[row]}
    masks = _masks(scored.cohort, row_of, eye)
    with scored.cohort.connect() as connection:
        table = connection.execute(
            "SELECT image, substr(attribute, 8) AS factor FROM attribute"
            " WHERE attribute LIKE 'factor:%' AND value = '1'"
        ).df()
    found = []
    for entry in scored.recovery.to_dict("records"):
        base = str(entry["factor"]).partition(":")[0]
        if base not in masks or pd.isna(entry["neuron"]):
            continue
        with_factor = {row_of[i] for i in table[table["factor"] == entry["factor"]]["image"] if i in row_of}
        rows = np.array(sorted(with_factor & set(masks[base])), np.intp)
        if not len(rows):
            continue
        inside, cover = (np.stack([masks[base][int(r)][k] for r in rows]) for k in (0, 1))
        own = "sae" if scored.sae else "raw"
        neurons = {own: int(entry["neuron"])}
        for name in ("raw", "random"):
            column = f"{name}_neuron"
            if name not in neurons and column in entry and not pd.isna(entry[column]):
                neurons[name] = int(entry[column])
        found.append(Finding(str(entry["factor"]), neurons, rows, inside, cover))
    return found


def _masks(cohort: Artifact, row_of: dict[int, int], eye: Eye) -> dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]:
    """finding -> row -> (the centre of each cell lies inside, share of each cell covered)."""
    from medsae import runs as run_lengths
    from medsae.geometry import centres
    from medsae.scoring.localisation import at_cells

    images = ", ".join(map(str, row_of)) or "-1"
    with cohort.connect() as connection:
        rows = connection.execute(
            f"SELECT m.image, m.finding, m.runs, i.height, i.width FROM mask m JOIN image i USING (image)"
            f" WHERE m.image IN ({images})"
        ).fetchall()
    found: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
    for image, finding, runs, height, width in rows:
        mask = run_lengths.decode(runs, (height, width))
        if mask.any():
            size = eye.encoder.size
            y, x = centres(eye.cells.grid, eye.cells.first_px, eye.cells.step_px, size, (height, width))
            step = eye.cells.step_px * max(size, height, width) / size
            found.setdefault(finding, {})[row_of[image]] = at_cells(mask, y, x, (step, step))
    return found


def grid_frame(eye: Eye) -> pd.DataFrame:
    """The one row of the table `cell_grid`."""
    cells = eye.cells
    return pd.DataFrame([{
        "rows": cells.grid[0], "columns": cells.grid[1], "first_px": cells.first_px, "step_px": cells.step_px,
        "reach_px": cells.reach_px, "size_px": eye.encoder.size, "how": "exact minus the cohort's mean",
    }])  # fmt: skip
