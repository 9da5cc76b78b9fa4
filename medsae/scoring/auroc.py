"""How well a neuron alone separates images with a label from images without: the area under the ROC curve.

AUROC = P(z of a positive > z of a negative) + half of P(equal), from ranks, so that no threshold is chosen. Zeros of a
sparse neuron are one big tie: only its non-zeros are sorted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import stdtrit
from scipy.stats import rankdata

from medsae.scoring.activity import Held
from medsae.scoring.labels import mask_patterns
from medsae.scoring.threads import strips

GROUP_BYTES = 768 * 2**20
"""Dense activations held at a time; more neurons than fit take another pass each."""
CHUNK_BYTES = 2 * 2**20
"""Dense activations sorted at a time."""


@dataclass(frozen=True)
class Area:
    """An AUROC with its 95 % interval; NaN with a reason if a side has too few images."""

    value: float
    low: float
    high: float
    positives: int
    negatives: int
    reason: str = ""


def auroc(z_n: NDArray[np.floating], y_n: NDArray[np.floating], mask_n: NDArray[np.bool_] | None = None) -> float:
    """AUROC of activations [n] for a 0/1 label [n] where `mask_n`; ties count half; NaN without positives or negatives.

    Any label above 0 is a positive (an uncertain label kept as -1 is a negative).
    """
    if mask_n is not None:
        z_n, y_n = z_n[mask_n], y_n[mask_n]
    positive = y_n > 0
    p, n = int(positive.sum()), int((~positive).sum())
    if not p or not n:
        return float("nan")
    return float((rankdata(z_n)[positive].sum() - p * (p + 1) / 2) / (p * n))


def auroc_interval(
    z_n: NDArray[np.floating], y_n: NDArray[np.floating], patient_n: NDArray[np.integer], level: float = 0.95
) -> Area:
    """AUROC with an interval by patient that holds at 0 and 1.

    All areas A whose distance from the estimate is at most t * sqrt(f V(A)): a score interval, so that the estimate
    lies inside and an estimate of exactly 0 or 1 has an interval as wide as so few patients ask for (Newcombe 2006,
    Stat. Med. 25:559). V is the variance of Hanley and McNeil (1982, Radiology 143:29) with patients as the units. f
    brings it to these data: the variance of the structural components of DeLong et al. (1988, Biometrics 44:837),
    summed by patient before squaring (Obuchowski 1997, Biometrics 53:567), over V. The logarithm of that ratio counts
    by e / (e + 4), e the number of patients that the spread of the components rests on (of the side with fewer): a few
    errors know little of the variance, and none know nothing. t: Student's, by the degrees of freedom of the
    components. Coverage: docs/statistics.md.

    It says nothing of having chosen the best of many neurons: choose on other patients.
    """
    positive = y_n > 0
    p, n = int(positive.sum()), int((~positive).sum())
    if p < 2 or n < 2:
        reason = f"{p} positive and {n} negative images; at least 2 of each are needed"
        return Area(np.nan, np.nan, np.nan, p, n, reason)
    overall = rankdata(z_n)
    above = (overall[positive] - rankdata(z_n[positive])) / n
    below = 1 - (overall[~positive] - rankdata(z_n[~positive])) / p
    area = float(above.mean())
    _, code = np.unique(patient_n, return_inverse=True)
    patients = int(code.max()) + 1
    sums_p = np.bincount(code[positive], above - area, patients) / p
    sums_n = np.bincount(code[~positive], below - area, patients) / n
    with_p, with_n = len(np.unique(code[positive])), len(np.unique(code[~positive]))
    own_p = with_p / max(with_p - 1, 1) * float((sums_p**2).sum())
    own_n = with_n / max(with_n - 1, 1) * float((sums_n**2).sum())
    variance = own_p + own_n + 2 * patients / max(patients - 1, 1) * float((sums_p * sums_n).sum())
    scale = 1.0
    if own_p + own_n > 0:
        effective = min(_effective(sums_p), _effective(sums_n))
        inside = float(np.clip(area, 0.5 / (p * n), 1 - 0.5 / (p * n)))
        ratio = max(variance / float(_hanley_mcneil(np.array(inside), with_p, with_n)), 1e-3)
        scale = float(np.exp(effective / (effective + 4) * np.log(ratio)))
        freedom = 2 * (own_p + own_n) ** 2 / (own_p**2 / max(with_p - 1, 1) + own_n**2 / max(with_n - 1, 1))
    else:
        freedom = min(with_p, with_n) - 1
    t = float(stdtrit(max(freedom, 3), 0.5 + level / 2))
    # The ends are where |A - estimate| = t sqrt(f V(A)): a fine grid is exact enough (1e-4) and cannot fail.
    grid = np.concatenate([[area], np.linspace(0, 1, 10_001)])
    inside_g = grid[(grid - area) ** 2 <= t * t * scale * _hanley_mcneil(grid, with_p, with_n) + 1e-18]
    return Area(area, float(inside_g.min()), float(inside_g.max()), p, n)


def _effective(part_p: NDArray[np.float64]) -> float:
    """On how many patients a variance rests: (sum of squares)^2 / sum of fourth powers; 0 where there is no spread."""
    fourth = float((part_p**4).sum())
    return float((part_p**2).sum()) ** 2 / fourth if fourth > 0 else 0.0


def _hanley_mcneil(area: NDArray[np.float64], p: int, n: int) -> NDArray[np.float64]:
    """Variance of an AUROC with `p` positive and `n` negative units (Hanley and McNeil 1982)."""
    both, one = area / (2 - area), 2 * area**2 / (1 + area)
    return (area * (1 - area) + (p - 1) * (both - area**2) + (n - 1) * (one - area**2)) / (p * n)


def auroc_all(held: Held, y_nk: NDArray[np.floating], masks: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.float64]]:
    """AUROC [m, k] of every neuron for every label, once for each mask [n, k] (all images, half of them ...).

    Held non-zeros: one sort of them. Dense: every neuron is sorted once, in as many passes as `GROUP_BYTES` asks for.
    NaN where a label has no positives or no negatives.
    """
    positive_nk = y_nk > 0
    work = [(positive_nk & mask, *mask_patterns(mask)) for mask in masks]
    out = [np.full((held.m, y_nk.shape[1]), np.nan) for _ in masks]
    if held.held is not None:
        columns = _sorted_columns(held)
        for areas, (positive, mask_nq, pattern_k) in zip(out, work, strict=True):
            for q in range(mask_nq.shape[1]):
                labels = np.flatnonzero(pattern_k == q)
                areas[:, labels] = _sparse_areas(columns, mask_nq[:, q] > 0, positive[:, labels])
        return out
    width = max(1, CHUNK_BYTES // (4 * held.n))
    for neurons, z_nc in dense_columns(held):

        def strip(part: slice, z_nc: NDArray[np.float32] = z_nc, offset: int = neurons.start) -> None:
            for first in range(part.start, part.stop, width):
                last = min(first + width, part.stop)
                chunk = _SortedRows(np.ascontiguousarray(z_nc[:, first:last].T))
                for areas, (positive, mask_nq, pattern_k) in zip(out, work, strict=True):
                    for q in range(mask_nq.shape[1]):
                        labels = np.flatnonzero(pattern_k == q)
                        found = chunk.areas(mask_nq[:, q] > 0, positive[:, labels])
                        areas[offset + first : offset + last, labels] = found

        strips(strip, z_nc.shape[1])
    return out


def dense_columns(held: Held) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Whole columns [n, c] of a dense representation, as many neurons at a time as fit; one pass a group."""
    width = max(1, min(held.m, GROUP_BYTES // (4 * held.n)))
    for first in range(0, held.m, width):
        neurons = slice(first, min(first + width, held.m))
        z_nc = np.empty((held.n, neurons.stop - neurons.start), np.float32)
        for rows, block in held.parts():
            assert isinstance(block, np.ndarray)
            z_nc[rows] = block[:, neurons]
        yield neurons, z_nc


def columns_of(held: Held, neurons: NDArray[np.integer]) -> NDArray[np.float32]:
    """Activations [n, len(neurons)] of some neurons (dense ones centred); one pass."""
    z_nc = np.empty((held.n, len(neurons)), np.float32)
    for rows, block in held.parts():
        some = block[:, neurons]
        z_nc[rows] = some if isinstance(some, np.ndarray) else some.toarray()
    return z_nc


def _area(rank_sum: NDArray[np.float64], p: NDArray[np.float64], n: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((p > 0) & (n > 0), (rank_sum - p * (p + 1) / 2) / (p * n), np.nan)


# --- dense ------------------------------------------------------------------------------------------------------------


class _SortedRows:
    """Neurons [c, n], each sorted once; ranks among any subset of the images follow by counting."""

    def __init__(self, z_cn: NDArray[np.float32]):
        self.order_cn = np.argsort(z_cn, axis=1)
        sorted_cn = np.take_along_axis(z_cn, self.order_cn, axis=1)
        same = sorted_cn[:, 1:] == sorted_cn[:, :-1]
        self.tied = bool(same.any())
        if self.tied:
            c, n = z_cn.shape
            place = np.arange(n)
            edge = np.ones((c, 1), bool)
            begins = np.concatenate([edge, ~same], axis=1)
            ends = np.concatenate([~same, edge], axis=1)
            self.first_cn = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
            self.last_cn = np.minimum.accumulate(np.where(ends, place, n)[:, ::-1], axis=1)[:, ::-1]

    def areas(self, use_n: NDArray[np.bool_], positive_nk: NDArray[np.bool_]) -> NDArray[np.float64]:
        """AUROC [c, k] among the images `use_n` (positives lie within them)."""
        used = use_n[self.order_cn]
        rank = np.cumsum(used, axis=1, dtype=np.int32).astype(np.float64)
        if self.tied:
            before = np.take_along_axis(rank - used, self.first_cn, axis=1)
            rank = (before + np.take_along_axis(rank, self.last_cn, axis=1) + 1) / 2
        rank_cn = np.empty_like(rank)
        np.put_along_axis(rank_cn, self.order_cn, rank, axis=1)
        p = positive_nk.sum(0, dtype=float)
        return _area(rank_cn @ positive_nk.astype(float), p, use_n.sum(dtype=float) - p)


# --- sparse -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """Non-zeros sorted by neuron, then value from smallest to largest."""

    neuron: NDArray[np.int32]
    image: NDArray[np.int32]
    value: NDArray[np.float32]
    n: int
    m: int


def _sorted_columns(held: Held) -> _Columns:
    columns = held.columns()
    neuron = np.repeat(np.arange(held.m, dtype=np.int32), np.diff(columns.indptr))
    value = np.asarray(columns.data, np.float32)
    order = np.lexsort((value, neuron))
    return _Columns(neuron, columns.indices[order].astype(np.int32), value[order], held.n, held.m)


def _sparse_areas(columns: _Columns, use_n: NDArray[np.bool_], positive_nk: NDArray[np.bool_]) -> NDArray[np.float64]:
    """AUROC [m, k] among the images `use_n`: ranks of the non-zeros, and one shared rank for all zeros of a neuron."""
    kept = use_n[columns.image]
    neuron, image, value = columns.neuron[kept], columns.image[kept], columns.value[kept]
    m, used = columns.m, float(use_n.sum())
    count_m = np.bincount(neuron, minlength=m)
    start_m = np.cumsum(count_m) - count_m
    zero_m = used - count_m
    below_m = np.bincount(neuron[value < 0], minlength=m)
    new = np.ones(len(neuron), bool)
    new[1:] = (neuron[1:] != neuron[:-1]) | (value[1:] != value[:-1])
    tie = np.cumsum(new) - 1
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(neuron)) - 1
    middle = ((first + last) / 2)[tie] if len(neuron) else np.zeros(0)
    rank = middle - start_m[neuron] + 1 + np.where(value > 0, zero_m[neuron], 0)
    indptr = np.concatenate([[0], np.cumsum(count_m)])
    positive = positive_nk.astype(float)
    rank_sum = sparse.csr_array((rank, image, indptr), shape=(m, columns.n)) @ positive
    firing = sparse.csr_array((np.ones(len(image)), image, indptr), shape=(m, columns.n)) @ positive
    p = positive.sum(0)
    rank_sum += (p - firing) * (below_m + (zero_m + 1) / 2)[:, None]
    return _area(rank_sum, p, used - p)
