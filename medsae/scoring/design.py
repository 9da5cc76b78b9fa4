"""The labels as the measures use them: as they are, without what known attributes explain, and each without the others.

Correlations with residual labels are *partial* ones: a neuron that follows "AP view" no longer seems to follow Edema
because of it. Where every label is known the semi-partial correlation (residual label, neuron as it is) differs from
the partial one (both residual) by one factor a neuron, and entropy does not know scale: both have the same entropy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsae.scoring.entropy import entropy_bits
from medsae.scoring.pieces import NOWHERE, Kept

NOTHING = "no finding"
"""The label that says that there is none of the others; compared without regard to case."""
LEAST_EIGENVALUE = 0.02
"""Label correlations are made invertible by lifting smaller eigenvalues to this (labels that nearly repeat another)."""


@dataclass(frozen=True)
class Design:
    """Labels [n, k] and, beside them, residual labels [n, r] of all labels but No Finding."""

    all_nk: NDArray[np.float32]
    """Labels and residual labels side by side [n, k + r], 0 where they are not known."""
    mask_nk: NDArray[np.bool_]
    labels: tuple[str, ...]
    kept_r: NDArray[np.intp]
    """Of which label each residual column is."""
    given: tuple[str, ...]
    """What was taken out: names of attributes, and No Finding where there is such a label."""
    strata_n: NDArray[np.int16]
    """State of No Finding (present, absent, unknown) as a number. Residual labels spread where there are findings and
    hardly where there are none, so their null moves them between images of one state only."""

    @staticmethod
    def of(
        y_nk: NDArray[np.float32],
        mask_nk: NDArray[np.bool_],
        labels: Sequence[str],
        attributes: Mapping[str, NDArray[np.float32]],
        place: Kept = NOWHERE,
    ) -> Design:
        """`attributes`: name -> columns [n, c] that are taken out of every label (one-hot; unknown is all zero);
        `place`: has room for the labels of very many images.

        Each label is regressed, over the images where it is known, on a constant, the attributes and No Finding
        (present, absent and unknown are three states of it). A label without positives, or that they explain wholly,
        keeps a constant residual, and its correlation is undefined.
        """
        n, _ = y_nk.shape
        nothing = [j for j, name in enumerate(labels) if name.strip().lower() == NOTHING]
        kept = np.array([j for j in range(len(labels)) if j not in nothing], np.intp)
        columns = [column for columns_nc in attributes.values() for column in columns_nc.T]
        strata = np.zeros(n, np.int16)
        for j in nothing:
            strata = 3 * strata + np.where(mask_nk[:, j], 1 + (y_nk[:, j] > 0), 0).astype(np.int16)
            columns += [mask_nk[:, j] & (y_nk[:, j] > 0), mask_nk[:, j] & (y_nk[:, j] <= 0)]
        kind_n, known_vc = _kinds(columns, n)
        all_nk = place.room((n, len(labels) + len(kept)), np.float32)
        all_nk[:, : len(labels)], all_nk[:, len(labels) :] = y_nk, 0
        residual = all_nk[:, len(labels) :]
        for r, j in enumerate(kept):
            use = mask_nk[:, j]
            kind, y = kind_n[use], y_nk[use, j].astype(float)
            rest = y - _explained(kind, y, known_vc)[kind]
            # What is left of a label that is explained wholly is rounding.
            residual[use, r] = 0 if np.abs(rest).max(initial=0) < 1e-5 else rest
        taken = (*attributes, *(labels[j] for j in nothing))
        return Design(all_nk, mask_nk, tuple(labels), kept, taken, strata)

    @property
    def y_nk(self) -> NDArray[np.float32]:
        """The labels [n, k]."""
        return self.all_nk[:, : len(self.labels)]

    @property
    def residual_nr(self) -> NDArray[np.float32]:
        """The residual labels [n, r]."""
        return self.all_nk[:, len(self.labels) :]

    @property
    def all_mask_nk(self) -> NDArray[np.bool_]:
        return np.concatenate([self.mask_nk, self.mask_nk[:, self.kept_r]], axis=1)

    @cached_property
    def floor(self) -> Floor:
        """Entropies of detectors that are never wrong: each label taken for a neuron."""
        rho_kk = among(self.y_nk, self.y_nk, self.mask_nk, self.mask_nk)
        partial_kr = among(self.y_nk, self.residual_nr, self.mask_nk, self.mask_nk[:, self.kept_r])
        return Floor(entropy_bits(rho_kk), entropy_bits(partial_kr))

    @cached_property
    def unique_rr(self) -> NDArray[np.float64]:
        """T: unique contributions are rho @ T. Column j is R^-1 e_j / sqrt((R^-1)_jj), R the correlations among the
        residual labels: the semi-partial correlation of label j in a regression of the neuron on all of them."""
        mask = self.mask_nk[:, self.kept_r]
        r = among(self.residual_nr, self.residual_nr, mask, mask)
        good = np.isfinite(np.diag(r))
        transform = np.full(r.shape, np.nan)
        if good.any():
            inner = np.nan_to_num(r[np.ix_(good, good)])
            value, vector = np.linalg.eigh((inner + inner.T) / 2)
            inverse = (vector / np.maximum(value, LEAST_EIGENVALUE)) @ vector.T
            transform[np.ix_(good, good)] = inverse / np.sqrt(np.diag(inverse))
        return transform

    def profiles(self, rho_mk: NDArray[np.float64], n_k: NDArray[np.float64], active_m: NDArray[np.int64]) -> Profiles:
        """Correlations with `all_nk` [m, k + r], cut into their parts."""
        k = len(self.labels)
        return Profiles(rho_mk[:, :k], n_k[:k], rho_mk[:, k:], self, active_m)


def _kinds(columns: Sequence[NDArray[np.generic]], n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of which kind each image is, and what is known of a kind [v, 1 + c]: a constant and columns of 0 and 1.

    Images of which the same is known share a row. There are few kinds, and a regression on them costs and holds nothing
    that grows with the images but sums."""
    kind_n = np.zeros(n, np.int64)
    for column in columns:
        kind_n = pd.factorize(2 * kind_n + column.astype(bool))[0]
    first = np.unique(kind_n, return_index=True)[1]
    return kind_n, np.column_stack([np.ones(len(first)), *(column[first].astype(bool) for column in columns)])


def _explained(
    kind_u: NDArray[np.int64], y_u: NDArray[np.float64], known_vc: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What the regression of y on what is known says of each kind [v]: least squares over kinds that weigh as much as
    they have images."""
    weight = np.sqrt(np.bincount(kind_u, minlength=len(known_vc)))
    there = weight > 0
    left, size, _ = np.linalg.svd(weight[there, None] * known_vc[there], full_matrices=False)
    basis = left[:, size > 1e-6 * max(size.max(initial=0), 1)]
    sums = np.bincount(kind_u, weights=y_u, minlength=len(known_vc))
    explained = np.zeros(len(known_vc))
    explained[there] = basis @ (basis.T @ (sums[there] / weight[there])) / weight[there]
    return explained


@dataclass(frozen=True)
class Floor:
    """Entropy (bits) of the perfect detector of each label [k]; NaN where the label has no correlation with itself."""

    bits_k: NDArray[np.float64]
    partial_bits_k: NDArray[np.float64]


@dataclass(frozen=True)
class Profiles:
    """Every neuron's correlations: with the labels as they are, in one draw, or of one resample of the patients."""

    rho_mk: NDArray[np.float64]
    """Pearson with the labels [m, k]; NaN where undefined."""
    n_k: NDArray[np.float64]
    """Images that each label is known for."""
    partial_mr: NDArray[np.float64]
    """Pearson with the residual labels [m, r] (`design.kept_r`)."""
    design: Design
    active_m: NDArray[np.int64]
    """Scored images on which each neuron fires."""

    @cached_property
    def bits_m(self) -> NDArray[np.float64]:
        """Eq. 5 of each neuron."""
        return entropy_bits(self.rho_mk)

    @cached_property
    def strongest_m(self) -> NDArray[np.float64]:
        """max |rho| of each neuron; NaN where none is defined."""
        size = np.abs(self.rho_mk)
        size[np.isnan(size)] = -1
        top = size.max(1, initial=-1)
        return np.where(top < 0, np.nan, top)

    @cached_property
    def partial_bits_m(self) -> NDArray[np.float64]:
        """Eq. 5 of the partial correlations."""
        return entropy_bits(self.partial_mr)

    @cached_property
    def unique_bits_m(self) -> NDArray[np.float64]:
        """Eq. 5 of what each label alone adds to a regression on all of them (size of the semi-partial correlation)."""
        known = np.isfinite(self.partial_mr)
        # A label without a spread has no column of its own: its rows and columns of T are left out as zeros.
        unique = np.where(known, self.partial_mr, 0.0) @ np.nan_to_num(self.design.unique_rr)
        return np.where(known.any(1), entropy_bits(unique), np.nan)


def among(
    a_na: NDArray[np.floating], b_nb: NDArray[np.floating], mask_na: NDArray[np.bool_], mask_nb: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Pearson correlations [a, b] of columns over the images where both are known; NaN where one is constant there."""
    sums = [np.zeros((a_na.shape[1], b_nb.shape[1])) for _ in range(6)]
    for first in range(0, len(a_na), ROWS):  # in float64 all of very many images would be gigabytes
        rows = slice(first, first + ROWS)
        for total, part in zip(sums, _sums(a_na[rows], b_nb[rows], mask_na[rows], mask_nb[rows]), strict=True):
            total += part
    n, sa, sb, ab, aa, bb = sums
    va, vb = n * aa - sa * sa, n * bb - sb * sb
    good = (n >= 3) & (va > 1e-9 * np.maximum(n, 1)) & (vb > 1e-9 * np.maximum(n, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(good, np.clip((n * ab - sa * sb) / np.sqrt(np.where(good, va * vb, 1)), -1, 1), np.nan)


ROWS = 2**18
"""Images whose labels are summed at a time."""


def _sums(
    a_na: NDArray[np.floating], b_nb: NDArray[np.floating], mask_na: NDArray[np.bool_], mask_nb: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], ...]:
    """n, sums of a, of b, of a b, of a a, of b b over the images where both are known, each [a, b]."""
    wa, wb = mask_na.astype(float), mask_nb.astype(float)
    a, b = np.where(mask_na, a_na, 0).astype(float), np.where(mask_nb, b_nb, 0).astype(float)
    return wa.T @ wb, a.T @ wb, wa.T @ b, a.T @ b, (a * a).T @ wb, wa.T @ (b * b)
