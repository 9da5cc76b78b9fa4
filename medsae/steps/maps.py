"""Maps at score time: where the value of a neuron was collected, on its top pictures (docs/decisions/072). Whether that
is where the finding is: `located`.

A map is exact for encoders whose embedding is a sum over cells (`encoders.cells`): cells + constant = pre-activation.
The cohort's mean map is taken off, because positive and negative parts nearly cancel and show anatomy otherwise; the
sum stays exact with another constant. Maps are computed in float32, whatever the embeddings were stored from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medsae.arrays import Rows
from medsae.geometry import packed
from medsae.progress import Progress, UserError
from medsae.steps import deletion, located, occlusion
from medsae.steps.eyes import (
    BATCH,
    Direction,
    Eye,
    Sees,
    encoder_of,
    eye_with,
    pictures_of,
    sampled,
    side_by_side,
)
from medsae.steps.located import Asked
from medsae.store.artifacts import Artifact, Store

if TYPE_CHECKING:
    from medsae.sae.model import Sae

TOP = 25
"""Pictures of a neuron whose maps are kept."""


def compute(
    eye: Sees, pictures: Any, images: np.ndarray, spaces: Sequence[Direction], asked: Asked, progress: Progress
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(places in `asked`, maps [k, cells], constants [k]) by picture; a picture that cannot be read is left out.

    `pictures[image]` decodes; `images` are the images of the scored rows.
    """
    order = np.lexsort((asked.neuron, asked.space, asked.row))
    rows, starts = np.unique(asked.row[order], return_index=True)
    bounds = [*starts.tolist(), len(order)]

    def of_batch(batch: range) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        read = [(k, p) for k in batch if (p := _prepared(eye, pictures, int(images[rows[k]]))) is not None]
        if not read:
            return []
        found, parts = [], eye.parts([p for _, p in read])
        for (k, _), parts_cd, constant_d in zip(read, *parts, strict=True):
            places = order[bounds[k] : bounds[k + 1]]
            for space in np.unique(asked.space[places]):
                own = places[asked.space[places] == space]
                found.append((own, *eye.maps(parts_cd, constant_d, spaces[space], asked.neuron[own])))
        return found

    batches = [range(begin, min(len(rows), begin + BATCH)) for begin in range(0, len(rows), BATCH)]
    with progress.task("maps", len(rows), "pictures") as task:
        for batch, found in zip(batches, side_by_side(of_batch, batches), strict=True):
            task.advance(len(batch))
            yield from found


def _prepared(eye: Sees, pictures: Any, image: int) -> np.ndarray | None:
    try:
        return eye.prepared(pictures[image])
    except ValueError:
        return None


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
    x_nd: np.ndarray | Rows
    activation: pd.DataFrame
    """neuron, row, value; sorted by neuron, value descending."""
    recovery: pd.DataFrame
    """A row a finding that was planted or marked: its best neurons (empty without any)."""
    sae_artifact: Artifact | None
    seed: int
    deletions: int = 0
    """Neurons that are drawn for the test by deletion; 0: none."""
    first: tuple[int, ...] = ()
    """Neurons that it asks too: the best of each label."""
    device: str = "cpu"
    """Where the encoder runs for them."""
    occlude: bool = False
    """Maps by occlusion where there are no exact ones."""

    @cached_property
    def sae(self) -> Sae | None:
        """The model, None for raw."""
        from medsae.sae.model import Sae

        return Sae.load(self.sae_artifact.file("sae.safetensors")) if self.sae_artifact else None

    @property
    def representations(self) -> tuple[str, ...]:
        """As `located.Told` has them."""
        return ("sae", "raw", "random") if self.sae else ("raw", "random")

    @property
    def spaces(self) -> list[Direction]:
        """The directions of each representation."""
        return self._spaces

    @cached_property
    def _spaces(self) -> list[Direction]:
        d = self.x_nd.shape[1]
        own = [Direction.of_sae(self.sae)] if self.sae else []
        spaces = [*own, Direction.of_raw(d)]
        return [*spaces, Direction.at_random(d, len(spaces[0].row_md), self.seed)]

    def size(self, space: int) -> int:
        """Neurons of a space."""
        return len(self.spaces[space].row_md)

    def fires(self, rows: np.ndarray) -> np.ndarray:
        """bool [n, m]: where the neurons of the SAE fire."""
        assert self.sae is not None
        return self.sae.encode(self.x_nd[rows]) > 0

    def values(self, space: int, neuron: int, rows: np.ndarray) -> np.ndarray:
        """float [n] of one direction."""
        return self.x_nd[rows] @ self.spaces[space].row_md[neuron]


@dataclass(frozen=True)
class Made:
    """Tables `cell`, `cell_grid`, `cell_average`, `localisation`, `deletion`, rows of `summary`; the mean parts that
    were taken off [cells, d]."""

    tables: dict[str, pd.DataFrame]
    reference_cd: np.ndarray | None
    how: str
    """`exact`, `occlusion`, or why there is nothing."""


EXACT, OCCLUSION = "exact", "occlusion"


def at_score(scored: Scored, store: Store, progress: Progress) -> Made:
    """Everything that is kept of maps."""
    try:
        pictures = pictures_of(scored.cohort)
        sample = sampled(pictures)
        if not sample:
            raise UserError("no picture of the cohort can be read here", scored.cohort.id)
        eye = _eye(scored, sample, store, progress)
    except UserError as error:
        progress.say(f"no maps: {error.what}" + (f" ({error.do})" if error.do else ""))
        return Made({}, None, error.what)
    made = _made(scored, eye, pictures, progress)
    if scored.deletions:
        asked = deletion.Deleted(scored, deletion.OfWhole(eye, scored.spaces[0]), pictures, scored.deletions,
                                 scored.first)  # fmt: skip
        made = replace(made, tables=made.tables | asked.tables(sample, progress))
    return made


def _eye(scored: Scored, sample: Sequence[np.ndarray], store: Store, progress: Progress) -> Sees:
    """What sees where values come from. UserError says why nothing can."""
    encoder = encoder_of(scored.embeddings, store, progress)
    try:
        return eye_with(encoder, scored.embeddings).with_reference(sample)
    except UserError as error:
        if not scored.occlude:
            do = "score --occlude keeps approximate ones, look --occlude makes those of one picture"
            raise UserError(error.what, error.where, do) from error
    progress.say(f"maps by occlusion, approximate: the encoder runs {occlusion.PASSES} times for each picture")
    return occlusion.Occluded.of(encoder, scored.embeddings, scored.cohort, scored.device)


def _made(scored: Scored, eye: Sees, pictures: Any, progress: Progress) -> Made:
    row, neuron = top_pairs(*(scored.activation[k].to_numpy() for k in ("neuron", "row", "value")))
    top = Asked(row, np.zeros(len(row), np.intp), neuron)
    questions = [q for finding in located.findings(scored, eye.places) for q in finding.questions(scored)]
    asked = Asked.joined([top, *(q.asked for q in questions)])
    images = scored.images["image"].to_numpy()
    maps, scale, constant = [b""] * len(row), np.zeros(len(row), np.float32), np.zeros(len(row), np.float32)
    kept = np.full((len(asked.row) - len(row), eye.places.count), np.nan, np.float32)
    for places, map_kc, constant_k in compute(eye, pictures, images, scored.spaces, asked, progress):
        first = places < len(row)
        if first.any():
            made, scales = packed(map_kc[first])
            for place, bytes_ in zip(places[first], made, strict=True):
                maps[place] = bytes_
            scale[places[first]], constant[places[first]] = scales, constant_k[first]
        kept[places[~first] - len(row)] = map_kc[~first]
    cell = pd.DataFrame({"neuron": neuron, "image": images[row], "map": maps, "scale": scale, "constant": constant})
    cell = cell[cell["map"].map(len) > 0]
    tables = {"cell": cell, "cell_grid": pd.DataFrame([eye.grid_row()])}
    if questions:
        tables["localisation"] = located.answers(questions, kept, scored.seed)
    if not isinstance(eye, Eye):
        return Made(tables, None, OCCLUSION)
    average, scale = packed(scored.spaces[0].row_md @ eye.reference_cd.T)
    tables["cell_average"] = pd.DataFrame({"neuron": np.arange(len(scale)), "map": average, "scale": scale})
    return Made(tables, eye.reference_cd, EXACT)
