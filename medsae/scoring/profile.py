"""What each neuron does over the images: how often it fires, its range, its histogram, the images worth showing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsae.scoring.activity import Held, gathered

BINS = 40
"""Bins of a neuron's histogram."""


@dataclass(frozen=True)
class Activations:
    """Activations worth keeping, sorted by neuron, then value from largest to smallest, then image."""

    neuron: NDArray[np.int32]
    image: NDArray[np.int32]
    """Row of the image, 0 .. n."""
    value: NDArray[np.float32]
    complete: bool
    """Every non-zero activation is here."""


@dataclass(frozen=True)
class Profile:
    """One row a neuron. Empty histograms (a dead or constant neuron) count nothing."""

    active_m: NDArray[np.int64]
    """Images with a non-zero activation."""
    low_m: NDArray[np.float64]
    high_m: NDArray[np.float64]
    spread_m: NDArray[np.float64]
    """1 / kurtosis = (mean of c^2)^2 / mean of c^4 for c = z - mean: 1 for a coin, near 1 / n for a neuron that fires
    on one image. It orders neurons by the shape of their permutation null. 0 for a constant neuron."""
    edges_mb: NDArray[np.float32]
    """Histogram edges [m, bins + 1]: 0 (or the lowest) to the highest value of a sparse neuron, its range if dense."""
    counts_mb: NDArray[np.int64]
    """Images a bin [m, bins]; of a sparse neuron only those with a non-zero activation."""
    activations: Activations


def profile(held: Held, mean_m: NDArray[np.float64], top: int) -> Profile:
    """Profile of a representation after its first pass.

    Sparse and held: every non-zero (the `top` largest of each neuron where there are more than `held.most`), no further
    pass. Else one more pass: of a dense representation the `top` largest and smallest values of each neuron (all of
    them when n <= 2 top), of a sparse one that is not held the `top` largest.
    """
    if held.held is not None:
        return _from_nonzeros(held, mean_m, top)
    return _from_blocks(held, mean_m, top)


def _edges(held: Held, low_m: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Edges [m, bins + 1] and bins per unit [m] (0 where there is no range)."""
    width = np.where(np.isfinite(held.high_m), held.high_m, 0) - low_m
    edges = low_m[:, None] + width[:, None] * np.linspace(0, 1, BINS + 1)
    return edges.astype(np.float32), np.divide(BINS, width, out=np.zeros(held.m), where=width > 0)


def _from_nonzeros(held: Held, mean_m: NDArray[np.float64], top: int) -> Profile:
    low_m = np.minimum(held.low_m, 0)
    edges, per_unit = _edges(held, low_m)
    counts_mb = np.zeros((held.m, BINS), np.int64)
    square, fourth = np.zeros(held.m), np.zeros(held.m)
    complete = int(held.active_m.sum()) <= held.most
    kept_m = held.active_m if complete else np.minimum(held.active_m, top)
    size = int(kept_m.sum())
    neuron, image, value = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.float32)
    filled = 0
    for neurons in held.groups():
        columns = held.columns(neurons)
        place = np.repeat(np.arange(len(neurons), dtype=np.int32), np.diff(columns.indptr))
        # By neuron, then value, then image: images ascend already, and stable sorts leave them so.
        order = np.argsort(-columns.data, kind="stable")
        key = place[order]
        order = order[np.argsort(key.astype(np.uint16) if len(neurons) <= 2**16 else key, kind="stable")]
        z = np.asarray(columns.data[order], np.float32)
        low, scale, mean = (of_m[neurons][place] for of_m in (low_m, per_unit, mean_m))
        index = np.clip((z - low) * scale, 0, BINS - 1).astype(np.int64)
        flat = (index + place.astype(np.int64) * BINS)[scale > 0]
        counts_mb[neurons] = np.bincount(flat, minlength=len(neurons) * BINS).reshape(-1, BINS)
        square[neurons] = np.bincount(place, (z - mean) ** 2, len(neurons))
        fourth[neurons] = np.bincount(place, (z - mean) ** 4, len(neurons))
        # Beyond what a table holds the largest of each neuron are worth keeping.
        some = slice(None) if complete else np.arange(len(place)) - columns.indptr[:-1][place] < top
        here = slice(filled, filled + int(kept_m[neurons].sum()))
        neuron[here], image[here], value[here] = neurons[place][some], columns.indices[order][some], z[some]
        filled = here.stop
    silent = held.n - held.active_m
    square, fourth = square + silent * mean_m**2, fourth + silent * mean_m**4
    return Profile(
        held.active_m, held.low_m, held.high_m, _spread(square, fourth, held), edges, counts_mb,
        Activations(neuron, image, value, complete),
    )  # fmt: skip


def _spread(square: NDArray[np.float64], fourth: NDArray[np.float64], held: Held) -> NDArray[np.float64]:
    varies = (held.high_m > held.low_m) & (fourth > 0)
    return np.divide(square**2, fourth * held.n, out=np.zeros(held.m), where=varies)


def _from_blocks(held: Held, mean_m: NDArray[np.float64], top: int) -> Profile:
    low_m = np.minimum(held.low_m, 0) if held.source.sparse else held.low_m
    edges, per_unit = _edges(held, low_m)
    counts = np.zeros(held.m * BINS, np.int64)
    square, fourth = np.zeros(held.m), np.zeros(held.m)
    keep_all = not held.source.sparse and held.n <= 2 * top
    highest = _Extremes(held.m, held.n if keep_all else top)
    lowest = None if keep_all or held.source.sparse else _Extremes(held.m, top)
    offset = np.arange(held.m) * BINS
    for rows, z_bm in gathered(held.source, held.n):
        centred = z_bm - mean_m
        np.square(centred, out=centred)
        square += centred.sum(0)
        fourth += np.einsum("bm,bm->m", centred, centred)
        index = np.clip((z_bm - low_m) * per_unit, 0, BINS - 1).astype(np.int64) + offset
        counted = (z_bm != 0) & (per_unit > 0) if held.source.sparse else np.broadcast_to(per_unit > 0, z_bm.shape)
        counts += np.bincount(index[counted], minlength=held.m * BINS)
        highest.add(z_bm, rows.start)
        if lowest is not None:
            lowest.add(-z_bm, rows.start)
    neuron, image, value = highest.result()
    if held.source.sparse:
        fires = value != 0
        neuron, image, value = neuron[fires], image[fires], value[fires]
    if lowest is not None:
        n, i, v = lowest.result()
        neuron, image, value = np.concatenate([neuron, n]), np.concatenate([image, i]), np.concatenate([value, -v])
    order = np.lexsort((image, -value, neuron))
    return Profile(
        held.active_m, held.low_m, held.high_m, _spread(square, fourth, held), edges, counts.reshape(held.m, BINS),
        Activations(neuron[order], image[order], value[order], keep_all),
    )  # fmt: skip


class _Extremes:
    """The `top` largest values of each neuron with their images, from blocks in order; of equals the earlier image."""

    def __init__(self, m: int, top: int):
        self.top = top
        self.value_mt = np.full((m, top), -np.inf, np.float32)
        self.image_mt = np.full((m, top), -1, np.int32)

    def add(self, z_bm: NDArray[np.float32], start: int) -> None:
        # Once the lists are full few values of a block pass the smallest kept: only neurons that gain are touched.
        floor_m = self.value_mt.min(1)
        passing = z_bm > floor_m
        for neuron in np.flatnonzero(passing.any(0)):
            rows = np.flatnonzero(passing[:, neuron])
            value = np.concatenate([self.value_mt[neuron], z_bm[rows, neuron]])
            image = np.concatenate([self.image_mt[neuron], (rows + start).astype(np.int32)])
            # A stable sort keeps the earlier of equal values.
            kept = np.argsort(-value, kind="stable")[: self.top]
            self.value_mt[neuron], self.image_mt[neuron] = value[kept], image[kept]

    def result(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
        filled = self.image_mt >= 0
        neuron = np.broadcast_to(np.arange(len(filled), dtype=np.int32)[:, None], filled.shape)
        return neuron[filled], self.image_mt[filled], self.value_mt[filled]
