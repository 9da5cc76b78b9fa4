"""Exact and saddle-point tails of the permutation null, for the neurons whose p-value decides.

Pooled draws (`selective.py`) are right down to p = 0.01; the false-discovery rate reads the tail far below, where
neighbours in kurtosis still differ: a sparse neuron was called on 20 % of complete nulls. Here every neuron that the
pooled draws find promising gets the tail of its *own* null for its closest label: the sum of activations over images
with the label, when the label's values are dealt to the images (or patients) anew.

- Fires on at most 14 units: all subsets, with their hypergeometric weights. Exact.
- Otherwise the double saddle-point of the sum given the number of positives (Skovgaard 1987, J. Appl. Probab. 24:875;
  Robinson 1982, JRSS B 44:91), a relative error of a few per cent at any depth, without a draw.

The closest label was chosen among k, so its tail is multiplied by k (Bonferroni). With several images a patient a
patient takes the labels of another one: of the images on which a neuron fires those of one patient get labels that are
alike, as `clustered.py` counts. Compared with pooled draws and generalised Pareto tails in docs/decisions/101.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, log_ndtr

from medsae.scoring.threads import side_by_side

Cumulants: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""K [g], its gradient [g, 2], its second derivatives (ss, st, tt) [g, 3]."""
MOST_ENUMERATED = 14
"""Firing units whose subsets are all counted (16,384 of them)."""
BINS = 512
"""More distinct values of a neuron than this are gathered in bins of equal width, each at its mean."""
CELLS = 2**20
"""Values worked on at a time."""
HALVINGS = 30
"""Of a step that overshoots, at most."""
LEAST = -700.0
"""Logarithm of a tail that is as good as 0."""
STEPS = 60
"""Newton steps at most."""
TIE = 1e-6
"""Sums this close (in units of their spread) are equal."""
SMALLEST = 1e-300


@dataclass(frozen=True)
class Dealt:
    """One neuron beside one label: the sum of `value` times label over units, the label's values dealt anew."""

    neuron: int
    value: NDArray[np.float64]
    """Distinct values of the units that fire [a]."""
    weight: NDArray[np.float64]
    """How many units have each value [a]."""
    units: int
    """All units, the silent ones too."""
    level: NDArray[np.float64]
    """Values of the label [l]; ..."""
    count: NDArray[np.float64]
    """... and how many units have each [l]."""
    distance: float
    """How far the sum lies from its mean under the null, in standard deviations."""


def binned(value: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The values with their weights; more than `BINS` of them are gathered in bins, each at its mean."""
    if len(value) <= BINS:
        return value, weight
    low, high = value.min(), value.max()
    place = np.minimum(((value - low) * (BINS / max(high - low, 1e-30))).astype(int), BINS - 1)
    total = np.bincount(place, weight, BINS).astype(float)
    filled = total > 0
    return np.bincount(place, weight * value, BINS)[filled] / total[filled], total[filled]


def tails(found: list[Dealt]) -> NDArray[np.float64]:
    """P(the sum lies at least `distance` from its mean, on either side) of each."""
    out = np.ones(len(found))
    binary = [len(one.level) == 2 for one in found]
    few = [two and len(one.value) <= MOST_ENUMERATED for two, one in zip(binary, found, strict=True)]
    for size in {len(one.value) for one, easy in zip(found, few, strict=True) if easy}:
        rows = [i for i, one in enumerate(found) if few[i] and len(one.value) == size]
        step = max(1, CELLS >> size)
        for begin in range(0, len(rows), step):
            part = rows[begin : begin + step]
            out[part] = _enumerated([found[i] for i in part])
    rest = [i for i in range(len(found)) if not few[i]]
    rest.sort(key=lambda i: (len(found[i].level), len(found[i].value)))
    parts: list[list[int]] = []
    begin = 0
    while begin < len(rest):
        levels = len(found[rest[begin]].level)
        end = begin
        while end < len(rest) and len(found[rest[end]].level) == levels and (
            (end - begin + 1) * (len(found[rest[end]].value) + 1) * levels <= CELLS or end == begin
        ):  # fmt: skip
            end += 1
        parts.append(rest[begin:end])
        begin = end
    made = side_by_side(lambda i: _saddle([found[row] for row in parts[i]]), len(parts))
    for part, p in zip(parts, made, strict=True):
        out[part] = p
    return np.clip(out, SMALLEST, 1)


# --- exact ------------------------------------------------------------------------------------------------------------


def _enumerated(found: list[Dealt]) -> NDArray[np.float64]:
    """Two-sided tails of neurons that fire on equally many units, binary labels, by counting subsets."""
    size = len(found[0].value)
    subset = (np.arange(2**size)[:, None] >> np.arange(size)) & 1
    taken = subset.sum(1)
    value = np.array([one.value for one in found]).reshape(len(found), size)
    units = np.array([one.units for one in found], float)
    low, high = (np.array([one.level[side] for one in found]) for side in (0, 1))
    positives = np.array([one.count[1] for one in found])
    # With levels a < b the sum is a * total + (b - a) * (sum over the units with b): only the second part varies.
    total, square = value.sum(1), (value**2).sum(1)
    share = positives / units
    spread = np.sqrt(np.maximum(square - total**2 / units, 0) * units * share * (1 - share) / (units - 1))
    distance = np.array([one.distance for one in found])
    far = np.abs(value @ subset.T - (total * share)[:, None]) >= ((distance - TIE) * spread)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        silent, r = units[:, None] - size, np.arange(size + 1)
        left = positives[:, None] - r
        possible = (left >= 0) & (silent - left >= 0)
        log = choose(silent, np.where(possible, left, 0)) - choose(units, positives)[:, None]
    chance = np.where(possible, np.exp(log), 0)
    assert (high > low).all()
    counts = np.stack([far[:, taken == r_].sum(1) for r_ in range(size + 1)], axis=1)
    return (counts * chance).sum(1)


def choose(n: NDArray[np.float64], r: NDArray[np.float64]) -> NDArray[np.float64]:
    return gammaln(n + 1) - gammaln(r + 1) - gammaln(n - r + 1)


# --- saddle-point -----------------------------------------------------------------------------------------------------


def _saddle(found: list[Dealt]) -> NDArray[np.float64]:
    """Two-sided tails by the double saddle-point; labels with equally many levels."""
    width = max(len(one.value) for one in found) + 1
    g = len(found)
    c_gu, weight_gu = np.zeros((g, width)), np.zeros((g, width))
    for row, one in enumerate(found):
        a = len(one.value)
        c_gu[row, 1 : a + 1], weight_gu[row, 1 : a + 1] = one.value, one.weight
        weight_gu[row, 0] = one.units - one.weight.sum()
    units = weight_gu.sum(1)
    level_gl = np.array([one.level for one in found])
    share_gl = np.array([one.count for one in found]) / units[:, None]
    mean = (share_gl * level_gl).sum(1)
    label_square = units * (share_gl * (level_gl - mean[:, None]) ** 2).sum(1)
    c_gu -= ((weight_gu * c_gu).sum(1) / units)[:, None]
    spread = np.sqrt((weight_gu * c_gu**2).sum(1) * label_square / np.maximum(units - 1, 1))
    c_gu /= np.where(spread > 0, spread, 1)[:, None]
    level_gl -= mean[:, None]
    distance = np.array([one.distance for one in found])
    out = np.zeros(g)
    for side in (1.0, -1.0):
        out += _one_side(side * c_gu, weight_gu, level_gl, share_gl, distance, label_square)
    return np.where(spread > 0, np.minimum(out, 1), 1)


def _one_side(
    c_gu: NDArray[np.float64],
    weight_gu: NDArray[np.float64],
    level_gl: NDArray[np.float64],
    share_gl: NDArray[np.float64],
    distance: NDArray[np.float64],
    label_square: NDArray[np.float64],
) -> NDArray[np.float64]:
    """P(sum of c b >= distance | sum of b as it is); c and b centred, so that the other sum is 0."""
    out = np.zeros(len(c_gu))
    # Beyond the largest sum there is (all of the largest label on the units with the largest values) nothing lies.
    alive = np.flatnonzero(largest_sum(c_gu, weight_gu, level_gl, share_gl) > distance * (1 + 1e-9))
    if len(alive):
        c, w, b, share = c_gu[alive], weight_gu[alive], level_gl[alive], share_gl[alive]
        out[alive] = skovgaard(_Units(c, w, b, share), distance[alive], label_square[alive])
    return out


class Sums(Protocol):
    """g pairs of sums with mean 0."""

    def cumulants(self, st: NDArray[np.float64]) -> Cumulants:
        """Their joint K at (s, t) [g, 2]."""
        ...

    def some(self, rows: NDArray[np.intp]) -> Sums:
        """Some of the pairs."""
        ...


def skovgaard(sums: Sums, d: NDArray[np.float64], label_square: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(T >= d | S = 0) of g pairs of sums with mean 0.

    `label_square`: the second derivative of K in s at 0, the spread of S.
    """
    st = np.zeros((len(d), 2))
    k, gradient, hessian = sums.cumulants(st)
    target = np.stack([np.zeros(len(d)), d], axis=1)
    value = k - (st * target).sum(1)
    stuck = np.zeros(len(d), bool)
    rows, some = np.arange(len(d)), sums  # those that are still on their way; nobody waits for the slowest
    for _ in range(STEPS):
        slope = gradient[rows] - target[rows]
        near = (np.abs(slope[:, 1]) < 1e-7 * np.maximum(d[rows], 1)) & (np.abs(slope[:, 0]) < 1e-7)
        on = ~(stuck[rows] | (value[rows] < LEAST) | near)
        if not on.all():
            rows, slope = rows[on], slope[on]
            some = sums.some(rows)
        if not len(rows):
            break
        h = hessian[rows]
        determinant = np.maximum(h[:, 0] * h[:, 2] - h[:, 1] ** 2, 1e-200)
        step = np.stack([h[:, 2] * slope[:, 0] - h[:, 1] * slope[:, 1],
                         h[:, 0] * slope[:, 1] - h[:, 1] * slope[:, 0]], axis=1)  # fmt: skip
        step /= determinant[:, None]
        # Where d is beyond the largest sum the saddle-point lies at infinity, and the curvature vanishes on the way:
        # no step is longer than four times the way that the others came.
        far, long = np.hypot(*st[rows].T), np.hypot(*step.T)
        length = np.where(far > 0, np.minimum(1, 4 * far / np.maximum(long, 1e-300)), 1.0)
        trying = np.arange(len(rows))
        for _ in range(HALVINGS):
            at = rows[trying]
            trial = st[at] - length[trying, None] * step[trying]
            k_new, gradient_new, hessian_new = (some if len(at) == len(rows) else some.some(trying)).cumulants(trial)
            value_new = k_new - (trial * target[at]).sum(1)
            good = value_new <= value[at] + 1e-12 * np.abs(value[at]) + 1e-13
            to = at[good]
            st[to], gradient[to], hessian[to], value[to] = (
                trial[good], gradient_new[good], hessian_new[good], value_new[good],
            )  # fmt: skip
            trying = trying[~good]
            if not len(trying):
                break
            length[trying] /= 2
        stuck[rows[trying]] = True  # no shorter step helps: as near as numbers get
    t = st[:, 1]
    root = np.sqrt(np.maximum(-2 * value, 0))
    determinant = np.maximum(hessian[:, 0] * hessian[:, 2] - hessian[:, 1] ** 2, 1e-300)
    v = t * np.sqrt(determinant / label_square)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        density = np.exp(-(root**2) / 2) / np.sqrt(2 * np.pi)
        tail = np.exp(log_ndtr(-root)) + density * (1 / v - 1 / root)
    # Near the middle the two terms cancel; there the normal tail is right.
    tail = np.where((root > 1e-3) & (v > 0) & np.isfinite(tail), np.clip(tail, 0, 1), np.exp(log_ndtr(-d)))
    # Where no saddle-point was reached d is at or beyond the largest sum: the exponential bound, which goes to 0.
    reached = np.abs(gradient[:, 1] - d) < 1e-3 * d
    return np.where(reached, tail, np.exp(np.minimum(value, 0)))


@dataclass(frozen=True)
class _Units:
    """Sums over units of label b, and of c times label."""

    c_gu: NDArray[np.float64]
    weight_gu: NDArray[np.float64]
    level_gl: NDArray[np.float64]
    share_gl: NDArray[np.float64]

    def some(self, rows: NDArray[np.intp]) -> _Units:
        return _Units(self.c_gu[rows], self.weight_gu[rows], self.level_gl[rows], self.share_gl[rows])

    def cumulants(self, st: NDArray[np.float64]) -> Cumulants:
        """K(s, t) = sum over units of log E exp((s + t c) b), with its derivatives."""
        c, w, b = self.c_gu, self.weight_gu, self.level_gl
        x = st[:, :1] + st[:, 1:] * c
        power = x[:, :, None] * b[:, None, :]
        top = power.max(2)
        e = self.share_gl[:, None, :] * np.exp(power - top[:, :, None])
        total = e.sum(2)
        first = (e * b[:, None, :]).sum(2) / total
        second = (e * b[:, None, :] ** 2).sum(2) / total - first**2
        k = (w * (top + np.log(total))).sum(1)
        gradient = np.stack([(w * first).sum(1), (w * c * first).sum(1)], axis=1)
        ws = w * second
        return k, gradient, np.stack([ws.sum(1), (ws * c).sum(1), (ws * c * c).sum(1)], axis=1)


def largest_sum(
    c: NDArray[np.float64], w: NDArray[np.float64], b: NDArray[np.float64], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The largest sum of c b: both in one order. Both are step functions over the units; sum over their joint steps."""
    order = np.argsort(c, axis=1)
    c, w = np.take_along_axis(c, order, 1), np.take_along_axis(w, order, 1)
    units = w.sum(1, keepdims=True)
    end_c, end_b = np.cumsum(w, 1), np.cumsum(share, 1) * units
    out = np.zeros(len(c))
    for level in range(b.shape[1]):
        high = end_b[:, [level]]
        low = high - share[:, [level]] * units
        overlap = np.clip(np.minimum(end_c, high) - np.maximum(end_c - w, low), 0, None)
        out += b[:, level] * (overlap * c).sum(1)
    return out
