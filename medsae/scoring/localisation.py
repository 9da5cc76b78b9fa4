"""Does a neuron look where the finding is? Maps against masks, and against what anatomy alone would give.

A map is a value for each cell of a picture. The *strict hit*: the cell with the largest value lies inside the mask (the
largest value of a bilinear picture of the map always lies at a cell, so no interpolation is needed). Tolerance of a
cell, or AUROC over the whole picture, are too lenient: the centre of the picture passes them. A finding has a place by
anatomy (the heart is where the heart is), so a hit rate means nothing alone. Two nulls stand beside it:

- *place*: another firing neuron's map on the same picture. What any neuron would get.
- *following*: the same neuron's maps, exchanged among the pictures of the finding. What is left when the map does not
  know which picture it is of; it stays high, rightly, where the place of the finding never changes.

and two rivals that see no picture: the mean mask of the finding on other patients' pictures (it knows the truth), and
the share of the picture that the mask covers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from medsae.scoring.draws import Patients, mean_by_patient

LEAST = 8
"""Pictures with the finding that a hit rate needs."""


@dataclass(frozen=True)
class Located:
    """How well one neuron's maps find one finding. Rates lie in 0 .. 1; NaN with a reason where there are too few."""

    n: int
    """Pictures that have the finding and on which the neuron fires."""
    hit: float
    low: float
    """95 %, bootstrap by patient."""
    high: float
    place: float
    """Hit rate of another firing neuron's map on the same pictures."""
    exchanged: float
    """Hit rate of the same maps exchanged among the pictures."""
    p: float
    """Share of exchanges that hit as often (one-sided, (1 + hits) / (1 + draws))."""
    mean_mask: float
    """Hit rate of the most frequent place of the finding on other patients."""
    area: float
    """Mean share of the picture that the mask covers: a place at random."""
    mass: float
    """Share of the positive part of the maps inside the mask over its area: 1 means no preference."""
    reason: str = ""


def locate(
    map_nc: NDArray[np.floating],
    other_nc: NDArray[np.floating],
    inside_nc: NDArray[np.bool_],
    cover_nc: NDArray[np.floating],
    patients: Patients,
    draws: int = 1000,
    seed: int = 0,
) -> Located:
    """Maps [n, cells] of one neuron against masks of the same pictures.

    `other_nc`: maps of another firing neuron. `inside_nc`: whether the centre of a cell lies in the mask. `cover_nc`:
    share of the cell's own square that the mask covers, 0 .. 1. Pictures without a mask must be left out before.
    """
    n = len(map_nc)
    if n < LEAST:
        nan = float("nan")
        return Located(n, nan, nan, nan, nan, nan, nan, nan, nan, nan, f"{n} pictures, {LEAST} are needed")
    at_n = map_nc.argmax(1)
    hits_nn = inside_nc[:, at_n]  # [mask of picture, map of picture]
    hit_n = np.diagonal(hits_nn)
    rng = np.random.default_rng([seed, 11])
    orders = np.argsort(rng.random((draws, n)), axis=1)
    drawn = hits_nn[np.arange(n), orders].mean(1)
    off = hits_nn.sum() - hit_n.sum()
    low, high = mean_by_patient(hit_n.astype(float), patients, draws, rng)
    area_n = cover_nc.mean(1)
    positive_nc = np.maximum(map_nc, 0)
    total_n = positive_nc.sum(1)
    usable = (total_n > 0) & (area_n > 0)
    inside_n = (positive_nc * cover_nc).sum(1)
    mass = (inside_n[usable] / total_n[usable]).mean() / area_n[usable].mean() if usable.any() else float("nan")
    return Located(
        n=n, hit=float(hit_n.mean()), low=low, high=high,
        place=float(inside_nc[np.arange(n), other_nc.argmax(1)].mean()),
        exchanged=float(off / (n * (n - 1))),
        p=float((1 + (drawn >= hit_n.mean() - 1e-12).sum()) / (1 + draws)),
        mean_mask=_mean_mask(cover_nc, inside_nc, patients),
        area=float(area_n.mean()), mass=float(mass),
    )  # fmt: skip


def _mean_mask(cover_nc: NDArray[np.floating], inside_nc: NDArray[np.bool_], patients: Patients) -> float:
    """Each picture is guessed by the mean mask of the other patients."""
    total_c = cover_nc.sum(0)
    own_pc = np.zeros((len(patients.size_p), cover_nc.shape[1]))
    np.add.at(own_pc, patients.code_n, cover_nc)
    guess_n = (total_c - own_pc)[patients.code_n].argmax(1)
    return float(inside_nc[np.arange(len(inside_nc)), guess_n].mean())


def at_cells(
    mask_hw: NDArray[np.bool_], y: NDArray[np.floating], x: NDArray[np.floating], step: tuple[float, float]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """(the centre of each cell lies in the mask, share of the cell's square that it covers), each [rows * columns].

    `step`: side of a cell's square in px of the picture, rows and columns. Beyond the picture there is no mask.
    """
    height, width = mask_hw.shape
    total = np.zeros((height + 1, width + 1))
    np.cumsum(np.cumsum(mask_hw, 0), 1, out=total[1:, 1:])
    top, bottom = (np.clip(np.round(y + half * step[0]).astype(int), 0, height) for half in (-0.5, 0.5))
    left, right = (np.clip(np.round(x + half * step[1]).astype(int), 0, width) for half in (-0.5, 0.5))
    count = (total[np.ix_(bottom, right)] - total[np.ix_(top, right)] - total[np.ix_(bottom, left)]
             + total[np.ix_(top, left)])  # fmt: skip
    yi, xi = np.round(y).astype(int), np.round(x).astype(int)
    here = ((yi >= 0) & (yi < height))[:, None] & ((xi >= 0) & (xi < width))[None]
    inside = mask_hw[np.ix_(np.clip(yi, 0, height - 1), np.clip(xi, 0, width - 1))] & here
    return inside.ravel(), (count / (step[0] * step[1])).clip(0, 1).ravel()


def table_row(located: Located) -> dict[str, object]:
    """The columns of the table `localisation`, NULL (None) for NaN."""
    return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in asdict(located).items()}
