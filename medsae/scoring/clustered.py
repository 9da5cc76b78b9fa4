"""Tails of the permutation null where patients have several images (see `tail.py` for one image a patient).

A patient takes the label rows of another patient in a random order (docs/decisions/041). So the labels of one patient's
images are alike, and those of different patients are not: given which share of positives the lending patient has, each
image of the borrower is positive with that chance.

- Fires on at most 12 images: all their label patterns, with the chances that the lending patients give them. Lenders
  are drawn one by one from all patients, so where a large share of the patients fires it is on the safe side (by a
  quarter at 12 of 60 patients).
- On images of at most 64 patients: the double saddle-point with patients as the independent parts.
- On more: patients as units, each with its sum of activations and its mean label; with so many patients what varies
  within a patient only widens the spread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from medsae.scoring.draws import Patients
from medsae.scoring.tail import CELLS, TIE, Cumulants, Dealt, binned, choose, largest_sum, skovgaard, tails
from medsae.scoring.threads import side_by_side

MOST_ENUMERATED = 12
"""Firing images whose label patterns are all counted (4,096 of them)."""
MOST_PATIENTS = 64
LEVELS = 8
"""A patient's shares of label values are rounded to this fraction."""


@dataclass(frozen=True)
class _Lender:
    """A label as patients lend it; only images where it is known."""

    known_n: NDArray[np.bool_]
    code_n: NDArray[np.intp]
    """Patient of each known image, 0 .. patients (-1 elsewhere)."""
    size_p: NDArray[np.intp]
    """Known images of each patient."""
    value: NDArray[np.float64]
    """Values of the label [v]."""
    total_v: NDArray[np.float64]
    """Images with each value."""
    theta_lv: NDArray[np.float64]
    """Kinds of lending patients: their shares of each value; ..."""
    weight_l: NDArray[np.float64]
    """... and the share of patients of that kind."""
    mean_p: NDArray[np.float64]
    """Mean label of each patient."""
    within: float
    """Variance of the label among the images of a patient, mean over patients with several."""
    positive_p: NDArray[np.intp]
    """Images with the largest value of each patient."""

    @staticmethod
    def of(y_n: NDArray[np.float32], known_n: NDArray[np.bool_], patients: Patients) -> _Lender:
        used, code = np.unique(patients.code_n[known_n], return_inverse=True)
        code_n = np.full(len(y_n), -1)
        code_n[known_n] = code
        value, place = np.unique(y_n[known_n].astype(float), return_inverse=True)
        count_pv = np.zeros((len(used), len(value)))
        np.add.at(count_pv, (code, place), 1)
        size_p = count_pv.sum(1)
        share_pv = count_pv / size_p[:, None]
        theta, kind = np.unique(np.round(share_pv * LEVELS), axis=0, return_inverse=True)
        # Rounding only says which patients are taken together; each kind keeps the mean of its patients.
        kind = kind.ravel()
        mean_p = share_pv @ value
        within_p = (share_pv @ value**2 - mean_p**2) * size_p / np.maximum(size_p - 1, 1)
        within = float(within_p[size_p > 1].mean()) if (size_p > 1).any() else 0.0
        share_pv = _as_alike_as_pairs(share_pv, size_p, value)
        weight = np.bincount(kind)
        theta = np.stack([np.bincount(kind, share_pv[:, v], len(theta)) for v in range(len(value))], axis=1)
        return _Lender(
            known_n, code_n, size_p.astype(np.intp), value.astype(float), count_pv.sum(0), theta / weight[:, None],
            weight / len(used), mean_p, within, count_pv[:, -1].astype(np.intp),
        )  # fmt: skip

    def chances(self, images: int) -> NDArray[np.float64]:
        """Chance of each number of positives (0 .. images) among so many images of one borrower, binary labels.

        The rows of the lending patient come in random order and again from the start when they are used up.
        """
        out = np.zeros(images + 1)
        pairs, times = np.unique(np.stack([self.size_p, self.positive_p], axis=1), axis=0, return_counts=True)
        for (size, positive), count in zip(pairs.astype(int), times, strict=True):
            whole, rest = divmod(images, size)
            r = np.arange(max(0, rest - (size - positive)), min(rest, positive) + 1)
            chance = np.exp(_log(positive, r) + _log(size - positive, rest - r) - _log(size, np.array(rest)))
            out[whole * positive + r] += count * chance
        return out / len(self.size_p)


def _as_alike_as_pairs(
    share_pv: NDArray[np.float64], size_p: NDArray[np.float64], value: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Shares drawn towards their mean until two images of one borrower are as alike as two rows of one lender.

    Rows are lent without repeating any, but the saddle-point deals the images of a borrower independently by the
    lender's shares, which would make them more alike than they are.
    """
    mean_p, square_p = share_pv @ value, share_pv @ value**2
    several = np.maximum(size_p - 1, 1)
    pair_p = np.where(size_p > 1, (size_p * mean_p**2 - square_p) / several, square_p)
    spread = mean_p.var()
    keep = np.sqrt(np.clip((pair_p.mean() - mean_p.mean() ** 2) / spread, 0, 1)) if spread > 0 else 0.0
    centre = share_pv.mean(0)
    return centre + keep * (share_pv - centre)


def _log(n: int, r: NDArray[np.integer]) -> NDArray[np.float64]:
    return gammaln(n + 1.0) - gammaln(r + 1.0) - gammaln(n - r + 1.0)


@dataclass(frozen=True)
class _Parts:
    """One neuron beside one label: activations of the firing images, sorted by patient."""

    value: NDArray[np.float64]
    start: NDArray[np.intp]
    """Where each firing patient begins in `value`."""
    silent: NDArray[np.float64]
    """Known silent images of each firing patient."""
    sizes: NDArray[np.float64]
    """Distinct numbers of images of the patients without any firing one; ..."""
    count: NDArray[np.float64]
    """... and how many patients have each."""
    lender: _Lender
    distance: float
    """Of the sum from its mean, in its spread if images were independent."""


def clustered_tails(
    columns: Iterable[tuple[int, NDArray[np.integer], NDArray[np.floating]]],
    y_nk: NDArray[np.float32],
    mask_nk: NDArray[np.bool_],
    patients: Patients,
    distance_m: NDArray[np.float64],
    scale_m: NDArray[np.float64],
    label_m: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(neurons, two-sided tails) for the neurons of `columns` (neuron, images, activations) beside their label."""
    lenders: dict[int, _Lender] = {}
    neurons: list[int] = []
    tail: list[float] = []
    waiting: list[tuple[int, _Parts]] = []
    many: list[tuple[int, Dealt]] = []
    for neuron, rows, z in columns:
        j = int(label_m[neuron])
        if j not in lenders:
            lenders[j] = _Lender.of(y_nk[:, j], mask_nk[:, j], patients)
        place, distance = len(neurons), float(distance_m[neuron] * scale_m[neuron])
        neurons.append(neuron)
        tail.append(1.0)
        firing = np.unique(lenders[j].code_n[rows[lenders[j].known_n[rows]]])
        if len(firing) > MOST_PATIENTS:
            many.append((place, _whole_patients(neuron, rows, z, lenders[j], distance)))
            continue
        parts = _parts(rows, z, lenders[j], distance)
        if len(parts.value) <= MOST_ENUMERATED and len(lenders[j].value) == 2:
            tail[place] = _enumerated(parts)
        else:
            waiting.append((place, parts))
    batches = list(_batches(waiting))
    made = side_by_side(lambda i: _saddle([parts for _, parts in batches[i]]), len(batches))
    for batch, found in zip(batches, made, strict=True):
        for (place, _), p in zip(batch, found, strict=True):
            tail[place] = float(p)
    for (place, _), p in zip(many, tails([one for _, one in many]), strict=True):
        tail[place] = float(p)
    return np.array(neurons, np.int64), np.array(tail)


def _parts(rows: NDArray[np.integer], z: NDArray[np.floating], lender: _Lender, distance: float) -> _Parts:
    here = lender.known_n[rows]
    code, value = lender.code_n[rows[here]], z[here].astype(float)
    order = np.argsort(code, kind="stable")
    firing, start, count = np.unique(code[order], return_index=True, return_counts=True)
    without = np.ones(len(lender.size_p), bool)
    without[firing] = False
    sizes, patients = np.unique(lender.size_p[without], return_counts=True)
    return _Parts(value[order], start, (lender.size_p[firing] - count).astype(float), sizes.astype(float),
                  patients.astype(float), lender, distance)  # fmt: skip


def _whole_patients(
    neuron: int, rows: NDArray[np.integer], z: NDArray[np.floating], lender: _Lender, distance: float
) -> Dealt:
    """Patients as units: sums of activations, mean labels. What varies within patients only widens the spread."""
    code = lender.code_n[rows]
    here = code >= 0
    known = z[here].astype(float)
    total_p = np.bincount(code[here], known, len(lender.size_p)).astype(float)
    n, share = lender.total_v.sum(), lender.total_v / lender.total_v.sum()
    label = (share * (lender.value - share @ lender.value) ** 2).sum()
    alone = ((known**2).sum() - known.sum() ** 2 / n) * n * label / max(n - 1, 1)
    within = ((known**2).sum() - (total_p**2 / lender.size_p).sum()) * lender.within
    # A patient's sum beside what a mean neuron would have on as many images.
    total_p -= lender.size_p * (total_p.sum() / lender.size_p.sum())
    value, weight = binned(total_p, np.ones(len(total_p)))
    level, count = np.unique(np.round(lender.mean_p * LEVELS) / LEVELS, return_counts=True)
    units = len(total_p)
    between = (total_p**2).sum() * lender.mean_p.var() * units / max(units - 1, 1)
    distance *= float(np.sqrt(alone / max(between + within, 1e-300)))
    return Dealt(neuron, value, weight, len(total_p), level, count.astype(float), distance)


def _enumerated(parts: _Parts) -> float:
    """Both tails by counting the label patterns of the firing images."""
    size, lender = len(parts.value), parts.lender
    pattern = (np.arange(2**size)[:, None] >> np.arange(size)) & 1
    ends = [*parts.start[1:], size]
    chance = np.ones(len(pattern))
    for begin, end in zip(parts.start, ends, strict=True):
        images = end - begin
        each = lender.chances(images) / np.exp(choose(np.full(images + 1, float(images)), np.arange(images + 1.0)))
        chance *= each[pattern[:, begin:end].sum(1)]
    n, share = lender.total_v.sum(), lender.total_v[1] / lender.total_v.sum()
    total, square = parts.value.sum(), (parts.value**2).sum()
    spread = np.sqrt(max(square - total**2 / n, 0) * n * share * (1 - share) / max(n - 1, 1))
    far = np.abs(pattern @ parts.value - total * share) >= (parts.distance - TIE) * spread
    return float(chance[far].sum())


def _batches(waiting: list[tuple[int, _Parts]]) -> Iterator[list[tuple[int, _Parts]]]:
    """Pairs of labels with equally many values and kinds of patients, as many as fit."""
    waiting = sorted(waiting, key=lambda one: one[1].lender.theta_lv.shape)
    batch: list[tuple[int, _Parts]] = []
    cells = 0
    for one in waiting:
        shape = one[1].lender.theta_lv.shape
        cost = (len(one[1].value) + len(one[1].sizes)) * shape[0] * shape[1]
        if batch and (shape != batch[0][1].lender.theta_lv.shape or cells + cost > CELLS):
            yield batch
            batch, cells = [], 0
        batch.append(one)
        cells += cost
    if batch:
        yield batch


def _saddle(found: list[_Parts]) -> NDArray[np.float64]:
    """Both tails of each by the double saddle-point, patients as the independent parts."""
    value, pair, start, silent, weight, of_unit, distance, still, most = [], [], [], [], [], [], [], [], []
    images = 0
    for g, parts in enumerate(found):
        lender = parts.lender
        n, share = lender.total_v.sum(), lender.total_v / lender.total_v.sum()
        mean = parts.value.sum() / n
        spread = np.sqrt(max(((parts.value - mean) ** 2).sum() + (n - len(parts.value)) * mean**2, 0))
        scale = 1 / spread if spread > 0 else 0.0
        # A patient without firing images stands as one silent image and the others of its size.
        value += [(parts.value - mean) * scale, np.full(len(parts.sizes), -mean * scale)]
        start += [images + parts.start, images + len(parts.value) + np.arange(len(parts.sizes))]
        silent += [parts.silent, parts.sizes - 1]
        weight += [np.ones(len(parts.start)), parts.count]
        units = len(parts.start) + len(parts.sizes)
        of_unit.append(np.full(units, g))
        pair.append(np.full(len(parts.value) + len(parts.sizes), g))
        images += len(parts.value) + len(parts.sizes)
        still.append(-mean * scale)
        label = np.sqrt(n * (share * (lender.value - share @ lender.value) ** 2).sum() / max(n - 1, 1))
        distance.append(parts.distance * label)
        own, firing = np.append(parts.value - mean, -mean) * scale, len(parts.value)
        times = np.append(np.ones(firing), n - firing)
        level = lender.value - share @ lender.value
        most.append([largest_sum(side * own[None], times[None], level[None], share[None])[0] for side in (1, -1)])
    ragged = _Ragged(
        np.concatenate(value), np.concatenate(pair), np.concatenate(start), np.concatenate(silent),
        np.concatenate(weight), np.concatenate(of_unit), np.array(still),
        np.array([p.lender.value - p.lender.weight_l @ (p.lender.theta_lv @ p.lender.value) for p in found]),
        np.log(np.maximum([p.lender.theta_lv for p in found], 1e-300)), np.array([p.lender.weight_l for p in found]),
    )  # fmt: skip
    d = np.array(distance)
    label_square = ragged.cumulants(np.zeros((len(found), 2)))[2][:, 0]
    out = np.zeros(len(found))
    for side in (1.0, -1.0):
        here = np.array(most)[:, int(side < 0)] > d * (1 + 1e-9)
        out += np.where(here, skovgaard(_Side(ragged, side), d, label_square), 0)
    return np.minimum(out, 1)


@dataclass(frozen=True)
class _Ragged:
    """Images (i), patients (u) and pairs of neuron and label (g) of a batch, one after the other."""

    value_i: NDArray[np.float64]
    pair_i: NDArray[np.intp]
    start_u: NDArray[np.intp]
    silent_u: NDArray[np.float64]
    weight_u: NDArray[np.float64]
    pair_u: NDArray[np.intp]
    still_g: NDArray[np.float64]
    """What a silent image has for a value."""
    level_gv: NDArray[np.float64]
    log_theta_glv: NDArray[np.float64]
    weight_gl: NDArray[np.float64]

    def some(self, rows: NDArray[np.intp]) -> _Ragged:
        """Some pairs, in ascending order."""
        new_g = np.full(len(self.still_g), -1)
        new_g[rows] = np.arange(len(rows))
        i, u = new_g[self.pair_i] >= 0, new_g[self.pair_u] >= 0
        return _Ragged(
            self.value_i[i], new_g[self.pair_i[i]], (np.cumsum(i) - i)[self.start_u[u]], self.silent_u[u],
            self.weight_u[u], new_g[self.pair_u[u]], self.still_g[rows], self.level_gv[rows],
            self.log_theta_glv[rows], self.weight_gl[rows],
        )  # fmt: skip

    def _one(
        self, x: NDArray[np.float64], pair: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """log E exp(x y), mean and variance of y under it, for each kind of lender [., l]."""
        level = self.level_gv[pair]
        # A kind of lender without some value has log 0 there, so the largest power is sought for each kind.
        power = (x[:, None] * level)[:, None, :] + self.log_theta_glv[pair]
        top = power.max(2)
        e = np.exp(power - top[:, :, None])
        total = e.sum(2)
        first = (e * level[:, None, :]).sum(2) / total
        second = (e * level[:, None, :] ** 2).sum(2) / total - first**2
        return top + np.log(total), first, second

    def cumulants(self, st: NDArray[np.float64]) -> Cumulants:
        """K(s, t) = sum over patients of log sum_l w_l prod_i E_l exp((s + t c_i) y_i)."""
        g = len(st)
        c = self.value_i[:, None]
        k, first, second = self._one(st[self.pair_i, 0] + st[self.pair_i, 1] * self.value_i, self.pair_i)
        k0, first0, second0 = self._one(st[:, 0] + st[:, 1] * self.still_g, np.arange(g))

        def of(image: NDArray[np.float64], still: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.add.reduceat(image, self.start_u, axis=0) + self.silent_u[:, None] * still[self.pair_u]

        c0 = self.still_g[:, None]
        log = np.log(self.weight_gl)[self.pair_u] + of(k, k0)
        m_s, m_t = of(first, first0), of(c * first, c0 * first0)
        v_ss, v_st, v_tt = of(second, second0), of(c * second, c0 * second0), of(c * c * second, c0 * c0 * second0)
        top = log.max(1)
        share = np.exp(log - top[:, None])
        total = share.sum(1)
        share /= total[:, None]
        a, b = (share * m_s).sum(1), (share * m_t).sum(1)
        parts = (
            top + np.log(total), a, b, (share * (v_ss + m_s * m_s)).sum(1) - a * a,
            (share * (v_st + m_s * m_t)).sum(1) - a * b, (share * (v_tt + m_t * m_t)).sum(1) - b * b,
        )  # fmt: skip
        sums = [np.bincount(self.pair_u, self.weight_u * part, g).astype(float) for part in parts]
        return sums[0], np.stack(sums[1:3], axis=1), np.stack(sums[3:], axis=1)


@dataclass(frozen=True)
class _Side:
    """The sums as they are, or the second one turned round."""

    ragged: _Ragged
    side: float

    def some(self, rows: NDArray[np.intp]) -> _Side:
        return _Side(self.ragged.some(rows), self.side)

    def cumulants(self, st: NDArray[np.float64]) -> Cumulants:
        turned = np.array([1.0, self.side])
        k, gradient, hessian = self.ragged.cumulants(st * turned)
        return k, gradient * turned, hessian * np.array([1.0, self.side, 1.0])
