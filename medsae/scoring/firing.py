"""Partial correlations of sparse neurons from their non-zeros alone (what `confounded.given` computes from columns).

For a neuron z, a label y and an orthonormal basis B of a constant and the attributes, with c = B'z and y' = y - B B'y:

    rho = z.y' / sqrt(zz yy),   zz = z.z - c.c,   yy = y'.y'
    I_i = s r_i y'_i - rho / 2 (n / zz r_i^2 + n / yy y'_i^2),   r_i = z_i - b_i.c,   s = n / sqrt(zz yy)

I_i is the influence of image i on n rho. On a silent image (z_i = 0) it is a polynomial in c whose coefficients belong
to the image, so the sum over *all* patients of (sum of I over the patient)^2 is theta' G theta: G is summed once a
label, theta belongs to the neuron. What firing images add is computed for the patients that have some. So the work
grows with the non-zeros, not with images x neurons, and no column of a neuron is ever made.

Images with equal attributes have equal rows of B: a basis is a row a *kind* of image, and a kind an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medsae.scoring.draws import Patients

PATIENTS = 4096
"""Patients whose features are made at a time."""
PAIRS = 2**18
"""Pairs of a neuron and an image worked on at a time."""
Numbers = NDArray[np.float64]
Places = NDArray[np.integer]


@dataclass(frozen=True)
class Label:
    """One label over the images where it is known [n], in the order of the images."""

    y_n: Numbers
    patients: Patients
    """Of these images."""


@dataclass(frozen=True)
class Basis:
    """Orthonormal columns over some images: row `table_vc[kind_n[i]]` is that of image i."""

    table_vc: Numbers
    kind_n: Places

    @staticmethod
    def of(columns_vc: Numbers, kind_n: Places) -> Basis:
        """Of a constant and the columns that images of each kind have, over the images of `kind_n`."""
        count_v = np.bincount(kind_n, minlength=len(columns_vc)).astype(float)
        seen, root_v = count_v > 0, np.sqrt(count_v)
        whole = np.column_stack([np.ones(len(columns_vc)), columns_vc])
        left, size, _ = np.linalg.svd(root_v[seen, None] * whole[seen], full_matrices=False)
        kept = left[:, size > 1e-8 * max(size.max(initial=0), 1)]
        table = np.zeros((len(columns_vc), kept.shape[1]))
        table[seen] = kept / root_v[seen, None]
        return Basis(table, kind_n)

    @property
    def width(self) -> int:
        return self.table_vc.shape[1]

    def sums(self, value_n: Numbers) -> Numbers:
        """B'v [c]."""
        return self.table_vc.T @ np.bincount(self.kind_n, value_n, len(self.table_vc))

    def rest(self, value_n: Numbers) -> Numbers:
        """v - B B'v [n]."""
        return value_n - (self.table_vc @ self.sums(value_n))[self.kind_n]


@dataclass(frozen=True)
class Firing:
    """Non-zeros of `count` neurons over the n images of a label, by neuron, then image."""

    neuron: Places
    image: Places
    """Position among the images of the label."""
    value: Numbers
    count: int
    n: int

    @staticmethod
    def of(columns: sparse.csc_array, use_n: NDArray[np.bool_]) -> Firing:
        """From the non-zeros of all images [all, count] and which of them are those of the label."""
        count = 0 if columns.shape is None else columns.shape[1]
        neuron = np.repeat(np.arange(count), np.diff(columns.indptr))
        here = use_n[columns.indices]
        place_n = np.cumsum(use_n) - 1
        value = columns.data[here].astype(float)
        return Firing(neuron[here], place_n[columns.indices[here]], value, count, int(use_n.sum()))

    def inside(self, use_n: NDArray[np.bool_]) -> Firing:
        """The same over some of the images."""
        here, place_n = use_n[self.image], np.cumsum(use_n) - 1
        return Firing(self.neuron[here], place_n[self.image[here]], self.value[here], self.count, int(use_n.sum()))

    @cached_property
    def fires_m(self) -> Places:
        return np.bincount(self.neuron, minlength=self.count)

    @cached_property
    def square_m(self) -> Numbers:
        """z.z"""
        return np.bincount(self.neuron, self.value**2, self.count).astype(float)

    def times(self, value_n: Numbers) -> Numbers:
        """z.v [m]"""
        return np.bincount(self.neuron, self.value * value_n[self.image], self.count).astype(float)

    def through(self, basis: Basis) -> Numbers:
        """B'z [m, c], kind by kind."""
        kinds = len(basis.table_vc)
        kind = basis.kind_n[self.image]
        if self.count * kinds <= 8 * max(len(self.value), 1):
            sums = np.bincount(self.neuron * kinds + kind, self.value, self.count * kinds)
            return sums.reshape(self.count, kinds) @ basis.table_vc
        out = np.empty((self.count, basis.width))
        for c in range(basis.width):
            out[:, c] = np.bincount(self.neuron, self.value * basis.table_vc[kind, c], self.count)
        return out


def only_rho(firing: Firing, y_n: Numbers, basis: Basis) -> Numbers:
    """Partial correlations [m] and nothing else; NaN where nothing varies."""
    rest = basis.rest(y_n)
    zz = firing.square_m - (firing.through(basis) ** 2).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return firing.times(rest) / np.sqrt(np.where(zz > 0, zz, np.nan) * (rest @ rest))


@dataclass(frozen=True)
class Given:
    """Partial correlations of neurons with one label, given what a basis spans; NaN where nothing varies any more."""

    label: Label
    basis: Basis
    firing: Firing
    rest_n: Numbers
    yy: float
    through_mc: Numbers
    zz_m: Numbers
    """NaN where nothing of the neuron, or of the label, is left."""
    rho_m: Numbers

    @staticmethod
    def of(label: Label, basis: Basis, firing: Firing) -> Given:
        n, rest = firing.n, basis.rest(label.y_n)
        through, yy = firing.through(basis), float(rest @ rest)
        zz = firing.square_m - (through**2).sum(1)
        # What is left of a variable that the basis explains wholly is rounding.
        good = (zz > 1e-10 * np.maximum(firing.square_m, 1e-300)) & (yy > 1e-10 * n) & (n > basis.width + 1)
        zz = np.where(good, zz, np.nan)
        rho = firing.times(rest) / np.sqrt(zz * yy) if yy > 0 else np.full(firing.count, np.nan)
        return Given(label, basis, firing, rest, yy, through, zz, rho)

    @property
    def freedom(self) -> int:
        """Images less what was regressed out."""
        return self.firing.n - self.basis.width

    @cached_property
    def _factors(self) -> tuple[Numbers, Numbers, float]:
        """What r y', r^2 and y'^2 are multiplied by: s [m], rho n / (2 zz) [m]; n / (2 yy), which rho multiplies."""
        n, yy = self.firing.n, self.yy if self.yy > 0 else float("nan")
        return n / np.sqrt(self.zz_m * yy), self.rho_m * n / (2 * self.zz_m), n / (2 * yy)

    @property
    def theta_mf(self) -> Numbers:
        """Coefficients of `features` [m, f]."""
        cross, square, own = self._factors
        row, column = np.triu_indices(self.basis.width)
        both = self.through_mc[:, row] * self.through_mc[:, column] * np.where(row == column, 1, 2)
        return np.column_stack([-self.rho_m * own, -cross[:, None] * self.through_mc, -square[:, None] * both])

    def features(self, image: Places) -> Numbers:
        """Of some images [b, f]: y'^2, y' b, b b' (upper half). `features @ theta` is the influence of a silent one."""
        b, y = self.basis.table_vc[self.basis.kind_n[image]], self.rest_n[image]
        row, column = np.triu_indices(self.basis.width)
        return np.column_stack([y**2, y[:, None] * b, b[:, row] * b[:, column]])

    def silent(self, neuron: Places, image: Places) -> Numbers:
        """Influence of images on neurons as if they were silent there."""
        cross, square, own = self._factors
        u = np.einsum("bc,bc->b", self.basis.table_vc[self.basis.kind_n[image]], self.through_mc[neuron])
        y = self.rest_n[image]
        return -cross[neuron] * u * y - square[neuron] * u**2 - self.rho_m[neuron] * own * y**2

    def added(self, part: slice) -> Numbers:
        """What some of the non-zeros add to the influence of their images."""
        neuron, image, z = self.firing.neuron[part], self.firing.image[part], self.firing.value[part]
        cross, square, _ = self._factors
        u = np.einsum("bc,bc->b", self.basis.table_vc[self.basis.kind_n[image]], self.through_mc[neuron])
        return cross[neuron] * z * self.rest_n[image] - square[neuron] * (z**2 - 2 * z * u)


@dataclass(frozen=True)
class Pairs:
    """Neurons and the patients on whom they fire: where each pair's non-zeros begin, in neuron order."""

    order: Places
    """Of the non-zeros: by neuron, then patient."""
    start: Places
    neuron: Places
    patient: Places

    @staticmethod
    def of(firing: Firing, patients: Patients) -> Pairs:
        patient = patients.code_n[firing.image]
        key = firing.neuron.astype(np.int64) * (len(patients.size_p) + 1) + patient
        order = np.argsort(key, kind="stable")
        start = np.flatnonzero(np.diff(key[order], prepend=-1))
        first = order[start]
        return Pairs(order, start, firing.neuron[first], patient[first])


def silent_squares(label: Label, sides: Sequence[Given]) -> Numbers:
    """G [f, f]: features of the first side (and of the second, negative) summed by patient, F'F over the patients."""
    patients = label.patients
    width = sum(1 + s.basis.width + s.basis.width * (s.basis.width + 1) // 2 for s in sides)
    out = np.zeros((width, width))
    for first in range(0, len(patients.size_p), PATIENTS):
        starts = patients.start_p[first : first + PATIENTS]
        end = starts[-1] + patients.size_p[first : first + PATIENTS][-1]
        image = patients.order_n[starts[0] : end]
        f = np.add.reduceat(np.column_stack([side.features(image) for side in sides]), starts - starts[0], axis=0)
        out += f.T @ f
    return out


def error(sides: Sequence[Given], pairs: Pairs, squares_ff: Numbers) -> Numbers:
    """Standard error [m] of rho, or of the rho of the first side minus that of the second, by patient."""
    label, firing = sides[0].label, sides[0].firing
    signs = (1.0, -1.0)[: len(sides)]
    theta = np.column_stack([sign * side.theta_mf for sign, side in zip(signs, sides, strict=True)])
    total = np.einsum("mf,mf->m", theta @ squares_ff, theta)
    total += np.bincount(pairs.neuron, _firing_part(sides, signs, pairs), firing.count)
    count, n = len(label.patients.size_p), firing.n
    lost = n / max(min(side.freedom for side in sides), 1)
    return np.sqrt(np.maximum(total, 0) * count / max(count - 1, 1) * lost) / n


def _firing_part(sides: Sequence[Given], signs: Sequence[float], pairs: Pairs) -> Numbers:
    """For each pair the square of the patient's sum less the square of what it would be on silent images."""
    patients, firing = sides[0].label.patients, sides[0].firing
    added = np.zeros(len(firing.value))
    for begin in range(0, len(added), PAIRS):
        part = slice(begin, begin + PAIRS)
        for sign, side in zip(signs, sides, strict=True):
            added[part] += sign * side.added(part)
    fired = np.add.reduceat(added[pairs.order], pairs.start) if len(pairs.start) else np.zeros(0)
    silent = np.zeros(len(pairs.start))
    size = patients.size_p[pairs.patient]
    behind = np.cumsum(size)
    begin = 0
    while begin < len(size):
        before = behind[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(behind, before + PAIRS, "right")))
        some = slice(begin, end)
        count = size[some]
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        image = patients.order_n[np.repeat(patients.start_p[pairs.patient[some]], count) + within]
        neuron = np.repeat(pairs.neuron[some], count)
        told = sum(sign * side.silent(neuron, image) for sign, side in zip(signs, sides, strict=True))
        silent[some] = np.add.reduceat(np.asarray(told), np.cumsum(count) - count)
        begin = end
    return fired * (2 * silent + fired)
