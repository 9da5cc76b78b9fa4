"""All correlations again under many draws: labels moved to other images, or patients counted more or less often.

Both are the sums of `sufficient.py` with other columns, so that all draws ride on the same few matrix products:
z^T [W1 Y1 | W2 Y2 | ...]. A draw is the same for every representation of the same images (same seed, same patients), so
draws of an SAE and of raw can be paired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medsae.progress import Progress
from medsae.scoring.activity import Held, shape_of, squared, times
from medsae.scoring.labels import mask_patterns, zero_where_unknown
from medsae.scoring.pieces import NOWHERE, Arrays, Kept
from medsae.scoring.sufficient import correlation

BUDGET_BYTES = 400 * 2**20
"""Memory for the float64 sums of one group of draws."""


@dataclass(frozen=True)
class Patients:
    """Images grouped by patient: `code_n` in 0 .. p, images of patient c at order[start[c] : start[c] + size[c]]."""

    code_n: NDArray[np.int32]
    order_n: NDArray[np.int32]
    start_p: NDArray[np.int32]
    size_p: NDArray[np.int32]

    @staticmethod
    def of(patients: ArrayLike) -> Patients:
        """From one patient id (number or text) an image."""
        _, code = np.unique(np.asarray(patients), return_inverse=True)
        size = np.bincount(code)
        start, order = np.concatenate([[0], np.cumsum(size)[:-1]]), np.argsort(code, kind="stable")
        return Patients(*(column.astype(np.int32) for column in (code, order, start, size)))

    @cached_property
    def place_n(self) -> NDArray[np.int32]:
        """Which image of its patient each image is, 0 .."""
        place = np.empty(len(self.code_n), np.int32)
        place[self.order_n] = np.arange(len(self.code_n)) - self.start_p[self.code_n[self.order_n]]
        return place

    def sorted_within(self, key_n: NDArray[np.floating]) -> NDArray[np.intp]:
        """Images by patient, those of one patient by their key: `np.lexsort((key_n, code_n))`, patients of equally many
        images sorted at once."""
        out = np.empty(len(self.code_n), np.intp)
        for size in np.unique(self.size_p):
            where = self.start_p[self.size_p == size, None] + np.arange(size)
            image = self.order_n[where]
            out[where] = np.take_along_axis(image, np.argsort(key_n[image], axis=1, kind="stable"), axis=1)
        return out

    @property
    def single(self) -> bool:
        """Every patient has one image."""
        return bool((self.size_p == 1).all())


class Draws(Protocol):
    """`rows_gn` says whose labels image i carries in each draw (None: its own), `weights_gn` how often it counts."""

    @property
    def draws(self) -> int: ...
    def group(self, begin: int, end: int) -> tuple[NDArray[np.int32] | None, NDArray[np.float32] | None]: ...


GROUP, GROUP_FAR = 20, 50
"""Draws that are finished together: of activations in memory, and of those that every pass computes again."""


@dataclass(frozen=True)
class Permutations:
    """Label rows shuffled between patients: each patient takes the label rows of another.

    With one image a patient it is a plain permutation of rows. Otherwise patient p takes the rows of pi(p), in a random
    order, again from the start when pi(p) has fewer images, so that labels stay as alike within a patient as they are
    (docs/decisions/041).
    """

    patients: Patients
    draws: int
    seed: int
    strata_n: NDArray[np.integer] | None = None
    """Patients change places only with patients whose images have the same values of this (smallest and largest)."""
    kept: Kept = NOWHERE

    @cached_property
    def strata_p(self) -> NDArray[np.intp] | None:
        """The stratum of each patient; None where all may change places."""
        if self.strata_n is None or len(np.unique(self.strata_n)) < 2:
            return None
        ordered = self.strata_n[self.patients.order_n]
        ends = [f.reduceat(ordered, self.patients.start_p) for f in (np.minimum, np.maximum)]
        return np.unique(np.stack(ends, axis=1), axis=0, return_inverse=True)[1].ravel()

    def rows(self, draw: int) -> NDArray[np.int32]:
        """Of which image each image takes the labels [n]."""
        p = self.patients
        if self.strata_p is None:
            rng = np.random.default_rng([self.seed, 1, draw])
            source_p = rng.permutation(len(p.size_p))
        else:
            rng = np.random.default_rng([self.seed, 8, draw])
            # Sorted by stratum, and by chance within one: the t-th place of both orders lies in the same stratum.
            place_p = np.argsort(self.strata_p, kind="stable")
            source_p = np.empty(len(p.size_p), np.intp)
            source_p[place_p] = np.lexsort((rng.random(len(p.size_p)), self.strata_p))
        if p.single:
            return p.order_n[source_p][p.code_n].astype(np.int32)
        # Order the images of every patient anew, then walk along the images of the source patient.
        shuffled_n = p.sorted_within(rng.random(len(p.code_n)))
        source_n = source_p[p.code_n]
        return shuffled_n[p.start_p[source_n] + p.place_n % p.size_p[source_n]].astype(np.int32)

    def group(self, begin: int, end: int) -> tuple[NDArray[np.int32], None]:
        return np.stack([self.rows(draw) for draw in range(begin, end)]), None


@dataclass(frozen=True)
class Resamples:
    """Patients drawn with replacement: every image of a patient counts as often as the patient was drawn."""

    patients: Patients
    draws: int
    seed: int
    kept: Kept = NOWHERE

    def weights(self, draw: int) -> NDArray[np.float32]:
        """How often each image counts [n]."""
        p = len(self.patients.size_p)
        drawn = np.random.default_rng([self.seed, 2, draw]).integers(0, p, p)
        return np.bincount(drawn, minlength=p).astype(np.float32)[self.patients.code_n]

    def group(self, begin: int, end: int) -> tuple[None, NDArray[np.float32]]:
        return None, np.stack([self.weights(draw) for draw in range(begin, end)])


@dataclass(frozen=True)
class Groups:
    """Patients cut at random into `draws` groups of like size; group t counts in draw t and no other."""

    patients: Patients
    draws: int
    seed: int

    def group(self, begin: int, end: int) -> tuple[None, NDArray[np.float32]]:
        count = len(self.patients.size_p)
        part_p = np.random.default_rng([self.seed, 5]).permutation(count) % self.draws
        return None, (part_p[self.patients.code_n] == np.arange(begin, end)[:, None]).astype(np.float32)


@dataclass(frozen=True)
class Some:
    """The draws begin .. end of others."""

    of: Draws
    begin: int
    end: int

    @property
    def draws(self) -> int:
        return self.end - self.begin

    def group(self, begin: int, end: int) -> tuple[NDArray[np.int32] | None, NDArray[np.float32] | None]:
        return self.of.group(self.begin + begin, self.begin + end)


def in_groups(held: Held, draws: Draws) -> list[range]:
    """The draws that are finished together; the same on every machine."""
    size = GROUP if held.near else GROUP_FAR
    return [range(at, min(at + size, draws.draws)) for at in range(0, draws.draws, size)]


def group_by_group(
    held: Held,
    draws: Permutations | Resamples,
    what: str,
    title: str,
    make: Callable[[range], list[dict[str, Any]]],
    progress: Progress,
) -> Iterator[Arrays | None]:
    """For each group of draws the rows that `make` gives for them, one a draw, as one array a name; kept as `what`.
    None for groups of another command (`draws.kept`)."""

    def stacked(group: range) -> Arrays:
        rows = make(group)
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    with progress.task(title, draws.draws, "draws") as task:
        groups = in_groups(held, draws)
        draws.kept.expect(what, len(groups))
        for k, group in enumerate(groups):
            yield draws.kept.group(what, k, lambda group=group: stacked(group))
            task.advance(len(group))


@dataclass(frozen=True)
class Sums:
    """Sums over (weighted) images, `_q` a pattern of known labels: of disjoint sets of images they add."""

    n_q: NDArray[np.float64]
    y_k: NDArray[np.float64]
    yy_k: NDArray[np.float64]
    z_mq: NDArray[np.float64]
    zz_mq: NDArray[np.float64]
    zy_mk: NDArray[np.float64]
    pattern_k: NDArray[np.intp]

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.n_q + other.n_q, self.y_k + other.y_k, self.yy_k + other.yy_k, self.z_mq + other.z_mq,
                    self.zz_mq + other.zz_mq, self.zy_mk + other.zy_mk, self.pattern_k)  # fmt: skip

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.n_q - other.n_q, self.y_k - other.y_k, self.yy_k - other.yy_k, self.z_mq - other.z_mq,
                    self.zz_mq - other.zz_mq, self.zy_mk - other.zy_mk, self.pattern_k)  # fmt: skip

    def correlations(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Correlations [m, k] (NaN where undefined) and the (weighted) number of images a label [k]."""
        n_k = self.n_q[self.pattern_k]
        if len(self.n_q) == 1:  # every label of every image known: one spread a neuron, one a label
            return correlation(n_k, self.y_k, self.yy_k, self.z_mq, self.zz_mq, self.zy_mk), n_k
        z_mk, zz_mk = self.z_mq[:, self.pattern_k], self.zz_mq[:, self.pattern_k]
        return correlation(n_k, self.y_k, self.yy_k, z_mk, zz_mk, self.zy_mk), n_k


def correlations_of_draws(
    held: Held, y_nk: NDArray[np.float32], mask_nk: NDArray[np.bool_], draws: Draws, share: int = 1
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """For each draw the correlations [m, k] (NaN where undefined) and the (weighted) number of images a label [k].

    `share`: how many such iterators run side by side and share the memory.
    """
    for sums in sums_of_draws(held, y_nk, mask_nk, draws, share):
        yield sums.correlations()


def sums_of_draws(
    held: Held, y_nk: NDArray[np.float32], mask_nk: NDArray[np.bool_], draws: Draws, share: int = 1
) -> Iterator[Sums]:
    """The sums of each draw.

    Draws go in groups whose sums fit in `BUDGET_BYTES`; each group is one pass over the activations.
    """
    mask_nq, pattern_k = mask_patterns(mask_nk)
    y_nk = zero_where_unknown(y_nk, mask_nk)
    k, q = y_nk.shape[1], mask_nq.shape[1]
    each = max(1, min(draws.draws, int(BUDGET_BYTES / share / (held.m * (k + 2 * q) * 8))))
    if held.held is not None:  # sparse sums of one draw do not depend on those beside it
        each = max(1, min(each, BUDGET_BYTES // (8 * held.n)))
    for begin in range(0, draws.draws, each):
        end = min(begin + each, draws.draws)
        rows_gn, weights_gn = draws.group(begin, end)
        g = end - begin
        zy, z, zz = np.zeros((held.m, g * k)), np.zeros((held.m, g * q)), np.zeros((held.m, g * q))
        y, yy, n = np.zeros((g, k)), np.zeros((g, k)), np.zeros((g, q))
        for part, block in held.parts():
            wy, wm, wyy = _design(y_nk, mask_nq, part, rows_gn, weights_gn)
            y, yy, n = y + wy.sum(0, dtype=float), yy + wyy, n + wm.sum(0, dtype=float)
            b = shape_of(block)[0]
            zy += times(block, wy.reshape(b, -1))
            z += times(block, wm.reshape(b, -1))
            zz += times(squared(block), wm.reshape(b, -1))
        zy, z, zz = zy.reshape(-1, g, k), z.reshape(-1, g, q), zz.reshape(-1, g, q)
        for i in range(g):
            yield Sums(n[i], y[i], yy[i], z[:, i], zz[:, i], zy[:, i], pattern_k)


def _design(
    y_nk: NDArray[np.float32],
    mask_nq: NDArray[np.bool_],
    rows: slice,
    rows_gn: NDArray[np.int32] | None,
    weights_gn: NDArray[np.float32] | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """Drawn labels [b, g, k], drawn masks [b, g, q] and the sums of squared labels [g, k] of some images."""
    if rows_gn is not None:
        moved = rows_gn[:, rows].T
        y_bgk = y_nk[moved]
        return y_bgk, mask_nq[moved].astype(np.float32), np.einsum("bgk,bgk->gk", y_bgk, y_bgk).astype(float)
    assert weights_gn is not None
    w_bg = np.ascontiguousarray(weights_gn[:, rows].T)
    y_bk = y_nk[rows]
    wyy = (w_bg.T.astype(float)) @ np.square(y_bk, dtype=float)
    return w_bg[:, :, None] * y_bk[:, None], w_bg[:, :, None] * mask_nq[rows][:, None], wyy


def mean_by_patient(
    value_n: NDArray[np.floating], patients: Patients, draws: int, rng: np.random.Generator
) -> tuple[float, float]:
    """95 % percentile interval of the mean [n] over pictures, patients drawn with their pictures."""
    count = len(patients.size_p)
    sums, sizes = (np.bincount(patients.code_n, weights, count) for weights in (value_n, np.ones(len(value_n))))
    weight_dp = rng.multinomial(count, np.full(count, 1 / count), draws)
    means = (weight_dp @ sums) / np.maximum(weight_dp @ sizes, 1e-12)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
