"""Which neurons follow some label more closely than shuffled labels do: p-values finer than 1 / draws, by pooling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsae.scoring.threads import side_by_side

LEAST_POOL = 256
"""Neurons whose draws are pooled, at least."""
TIE = np.float32(1 - 1e-5)
"""Values this close are equal: a neuron that fires once has few correlations, and rounding must not rank them."""


def pooled_p(
    strength_mk: NDArray[np.floating], null_tmk: NDArray[np.float32], spread_m: NDArray[np.float64], fdr: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """p-value of each neuron's closest label, and that label; (NaN, -1) where no strength is defined.

    `strength_mk`, `null_tmk`: size of the correlations in units of their null spread, as observed and in each draw (NaN
    = undefined). `spread_m` puts neurons with nulls of like shape beside each other (1 / kurtosis of the activations).

    In each pool of neighbouring neurons: (1) every strength becomes a p-value against all draws of the pool for that
    label, so that a rare label, whose null has long tails, does not drown the others; (2) a neuron's smallest p over
    the labels is compared with the smallest p of all draws of the pool, which pays for having looked at k labels.
    Pools hold at least 256 and at least m / (fdr * draws) neurons: then 1 / (1 + pooled) <= fdr / m, and a single
    selective neuron can pass Benjamini-Hochberg at `fdr` (docs/decisions/040).
    """
    m, k = strength_mk.shape
    p, label = np.full(m, np.nan), np.full(m, -1)
    tested = np.flatnonzero(np.isfinite(strength_mk).any(1))
    if not len(tested):
        return p, label
    order = tested[np.argsort(spread_m[tested], kind="stable")]
    least = max(LEAST_POOL, int(np.ceil(len(order) / (fdr * len(null_tmk)))) + 1)
    for pool in np.array_split(order, max(1, len(order) // least)):
        null_tpk = null_tmk[:, pool]

        def of_label(
            j: int, pool: NDArray[np.integer] = pool, null_tpk: NDArray[np.float32] = null_tpk
        ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
            return _against(strength_mk[pool, j], null_tpk[:, :, j].ravel())

        smallest_w = np.full(len(pool), np.inf)
        smallest_null = np.full(null_tpk.shape[:2], np.inf, np.float32).ravel()
        for j, (observed_p, null_p) in enumerate(side_by_side(of_label, k)):
            closer = observed_p < smallest_w
            label[pool[closer]] = j
            smallest_w[closer] = observed_p[closer]
            np.fmin(smallest_null, null_p, out=smallest_null)
        null = np.sort(smallest_null[np.isfinite(smallest_null)])
        p[pool] = (1 + np.searchsorted(null, smallest_w.astype(np.float32) / TIE, side="right")) / (1 + len(null))
    return p, label


def _against(
    observed: NDArray[np.floating], null: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """p-values of the observed values against `null`, and of the null values among themselves (NaN stays NaN)."""
    defined = np.flatnonzero(~np.isnan(null))
    order = defined[np.argsort(null[defined])]
    values = null[order]
    null_p = np.full(len(null), np.nan, np.float32)
    null_p[order] = (len(values) - np.searchsorted(values, values * TIE, side="left")) / max(len(values), 1)
    exceeding = len(values) - np.searchsorted(values, observed.astype(np.float32) * TIE, side="left")
    return np.where(np.isnan(observed), np.nan, (1 + exceeding) / (1 + len(values))), null_p
