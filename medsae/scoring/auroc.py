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

from medsae.arrays import ranks
from medsae.scoring.activity import Held
from medsae.scoring.labels import mask_patterns
from medsae.scoring.threads import strips

GROUP_BYTES = 768 * 2**20
"""Dense activations held at a time; more neurons than fit take another pass each."""
CHUNK_BYTES = 2 * 2**20
"""Dense activations sorted at a time."""
KNOWN = 3
"""So many patients' worth of variance is what Hanley and McNeil's formula knows before any data."""


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
    return float((ranks(z_n)[positive].sum() - p * (p + 1) / 2) / (p * n))


def auroc_interval(
    z_n: NDArray[np.floating], y_n: NDArray[np.floating], patient_n: NDArray[np.integer], level: float = 0.95
) -> Area:
    """AUROC with an interval by patient that holds at 0 and 1.

    All areas A whose distance from the estimate is at most t * sqrt(f V(A)): a score interval, so that the estimate
    lies inside and an estimate of exactly 0 or 1 has an interval as wide as so few patients ask for (Newcombe 2006,
    Stat. Med. 25:559). V is the variance of Hanley and McNeil (1982, Radiology 143:29) with as many units as the images
    are worth: n / (1 + (s - 1) r), s the images of a mean image's patient and r how alike the ranks of one patient's
    images are. f brings it to these data: the variance of the structural components of DeLong et al. (1988, Biometrics
    44:837), summed by patient before squaring (Obuchowski 1997, Biometrics 53:567), over V. The logarithm of that ratio
    counts by e / (e + 3), e the number of patients that the spread of the components rests on (of the side with fewer):
    a few errors know little of the variance, and none know nothing. t: Student's, by the degrees of freedom of the
    components and two more for what V knows; where A is so near 0 or 1 that no estimate can lie too far on that side,
    the whole error is given to the other side. Coverage: docs/statistics.md.

    It says nothing of having chosen the best of many neurons: choose on other patients.
    """
    positive = y_n > 0
    p, n = int(positive.sum()), int((~positive).sum())
    sides = [len(np.unique(patient_n[side])) for side in (positive, ~positive)]
    if min(sides) < 2:
        reason = f"{p} positive and {n} negative images of {sides[0]} and {sides[1]} patients; at least 2 are needed"
        return Area(np.nan, np.nan, np.nan, p, n, reason)
    c = _components(z_n, positive, patient_n)
    units_p, units_n = (len(own) / (1 + (_images_of_mine(own) - 1) * c.alike) for own in (c.code_p, c.code_n))
    scale = 1.0
    freedom = float(min(sides) - 1)
    if c.own > 0:
        inside = float(np.clip(c.area, 0.5 / (p * n), 1 - 0.5 / (p * n)))
        ratio = max(c.variance / float(_hanley_mcneil(np.array(inside), units_p, units_n)), 1e-3)
        scale = float(np.exp(c.effective / (c.effective + KNOWN) * np.log(ratio)))
        freedom = c.freedom
    two, one = (float(stdtrit(max(freedom + 2, 3), 1 - (1 - level) / tails)) for tails in (2, 1))
    # The ends are where |A - estimate| = t sqrt(f V(A)): a fine grid is exact enough (1e-4) and cannot fail.
    grid = np.concatenate([[c.area], np.linspace(0, 1, 10_001)])
    sd_g = np.sqrt(scale * _hanley_mcneil(grid, units_p, units_n))
    below_g, above_g = (np.where(room < two * sd_g, one, two) for room in (1 - grid, grid))
    reach_g = np.where(grid > c.area, below_g, above_g) * sd_g
    inside_g = grid[np.abs(grid - c.area) <= reach_g + 1e-9]
    return Area(c.area, float(inside_g.min()), float(inside_g.max()), p, n)


@dataclass(frozen=True)
class _Components:
    """DeLong's structural components, summed by patient."""

    area: float
    code_p: NDArray[np.intp]
    """Patient of each positive image, 0 .. patients; ..."""
    code_n: NDArray[np.intp]
    """... and of each negative one."""
    own: float
    """Variance of the area from positives and negatives as if no patient had both."""
    variance: float
    """The same with what patients with both take away, at least a tenth of it."""
    freedom: float
    """Satterthwaite's; NaN where nothing varies."""
    effective: float
    """Patients that the variance rests on, of the side with fewer."""
    alike: float
    """Correlation of the ranks of two images of one patient and label, 0 .. 1; 1 where each has one image."""


def _components(z_n: NDArray[np.floating], positive: NDArray[np.bool_], patient_n: NDArray[np.integer]) -> _Components:
    overall, among_p, among_n = ranks(z_n), ranks(z_n[positive]), ranks(z_n[~positive])
    p, n = len(among_p), len(among_n)
    above = (overall[positive] - among_p) / n
    below = 1 - (overall[~positive] - among_n) / p
    area = float(above.mean())
    _, code = np.unique(patient_n, return_inverse=True)
    patients = int(code.max()) + 1
    code_p, code_n = code[positive], code[~positive]
    sums_p = np.bincount(code_p, above - area, patients) / p
    sums_n = np.bincount(code_n, below - area, patients) / n
    with_p, with_n = len(np.unique(code_p)), len(np.unique(code_n))
    own_p, own_n = with_p / (with_p - 1) * (sums_p @ sums_p), with_n / (with_n - 1) * (sums_n @ sums_n)
    own = float(own_p + own_n)
    both = 2 * patients / (patients - 1) * float(sums_p @ sums_n)
    freedom = own**2 / (own_p**2 / (with_p - 1) + own_n**2 / (with_n - 1)) if own > 0 else float("nan")
    centred = np.concatenate([(among_p - 0.5) / p, (among_n - 0.5) / n]) - 0.5
    alike = _alike(centred, np.concatenate([code_p, patients + code_n]))
    effective = min(_effective(sums_p), _effective(sums_n))
    return _Components(area, code_p, code_n, own, max(own + both, own / 10), float(freedom), effective, alike)


def _images_of_mine(code: NDArray[np.intp]) -> float:
    """Images of the patient that a mean image belongs to."""
    return float((np.bincount(code) ** 2).sum() / len(code))


def _alike(value: NDArray[np.float64], group: NDArray[np.intp]) -> float:
    """Correlation within groups of values with mean 0, by one-way analysis of variance, cut to 0 .. 1."""
    size = np.bincount(group)
    total, size = np.bincount(group, value)[size > 0], size[size > 0]
    n, groups = len(value), len(size)
    if n == groups:
        return 1.0
    between = float((total**2 / size).sum())
    within = (float((value**2).sum()) - between) / (n - groups)
    between /= max(groups - 2, 1)  # the means of positives and of negatives were taken out
    usual = (n - (size**2).sum() / n) / max(groups - 2, 1)
    spread = between + (usual - 1) * within
    return float(np.clip((between - within) / spread, 0, 1)) if spread > 0 else 1.0


def _effective(part_p: NDArray[np.float64]) -> float:
    """On how many patients a variance rests: (sum of squares)^2 / sum of fourth powers; 0 where there is no spread."""
    fourth = float((part_p**4).sum())
    return float((part_p**2).sum()) ** 2 / fourth if fourth > 0 else 0.0


def _hanley_mcneil(area: NDArray[np.float64], p: float, n: float) -> NDArray[np.float64]:
    """Variance of an AUROC with `p` positive and `n` negative units (Hanley and McNeil 1982).

    Their formula is of a test that works; below 0.5 it is taken of the same neuron read the other way round.
    """
    area = np.maximum(area, 1 - area)
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
        for neurons in held.groups():
            columns = _sorted_columns(held, neurons)
            for areas, (positive, mask_nq, pattern_k) in zip(out, work, strict=True):
                for q in range(mask_nq.shape[1]):
                    labels = np.flatnonzero(pattern_k == q)
                    found = _sparse_areas(columns, mask_nq[:, q], positive[:, labels])
                    areas[np.ix_(neurons, labels)] = found
        return out
    width = max(1, CHUNK_BYTES // (4 * held.n))
    for neurons, z_nc in dense_columns(held):

        def strip(part: slice, z_nc: NDArray[np.float32] = z_nc, offset: int = neurons.start) -> None:
            chunk = _SortedRows(np.ascontiguousarray(z_nc[:, part].T))
            for areas, (positive, mask_nq, pattern_k) in zip(out, work, strict=True):
                for q in range(mask_nq.shape[1]):
                    labels = np.flatnonzero(pattern_k == q)
                    found = chunk.areas(mask_nq[:, q], positive[:, labels])
                    areas[offset + part.start : offset + part.stop, labels] = found

        strips(strip, z_nc.shape[1], width)
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


def _sorted_columns(held: Held, neurons: NDArray[np.integer]) -> _Columns:
    columns = held.columns(neurons)
    neuron = np.repeat(np.arange(len(neurons), dtype=np.int32), np.diff(columns.indptr))
    value = np.asarray(columns.data, np.float32)
    order = np.lexsort((value, neuron))
    return _Columns(neuron, columns.indices[order].astype(np.int32), value[order], held.n, len(neurons))


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
