"""What luck gives: entropies and strongest correlations when the label rows are shuffled between patients.

Two questions are answered by the same draws. Is the distribution of entropies any different from that of labels that
know nothing of the images? And which neurons follow *some* label more closely than luck allows (selective neurons)?
How the p-values reach below 1 / draws is explained in docs/decisions/040.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsae.progress import Progress, Silent
from medsae.rates import benjamini_hochberg
from medsae.scoring.activity import Held
from medsae.scoring.draws import Permutations, correlations_of_draws
from medsae.scoring.entropy import entropy_bits
from medsae.scoring.selective import pooled_p
from medsae.scoring.sufficient import Correlations

STRONG = 0.2
"""The published class-correlation script averages entropies over neurons with max |rho| above this."""
BIN_BITS = 0.05
"""Width of a bin of the entropy histogram."""


@dataclass(frozen=True)
class EntropyHistogram:
    """Share of defined neurons a bin: observed; mean, 2.5 % and 97.5 % quantile of draws. Edges in bits [bins + 1]."""

    edges: NDArray[np.float64]
    observed: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Null:
    """The permutation null of one representation. `_t` is a draw, `_m` a neuron."""

    mean_t: NDArray[np.float64]
    """Mean entropy over all neurons where it is defined, bits."""
    strong_mean_t: NDArray[np.float64]
    """Mean entropy over neurons with max |rho| > 0.2 in that draw (NaN if there are none)."""
    strong_count_t: NDArray[np.int64]
    median_max_rho_t: NDArray[np.float64]
    """Median over neurons of max |rho|."""
    entropy_mean_m: NDArray[np.float64]
    """Mean null entropy of each neuron (NaN if never defined)."""
    entropy_sd_m: NDArray[np.float64]
    histogram: EntropyHistogram
    p_m: NDArray[np.float64]
    """Chance that shuffled labels come as close to the neuron (`pooled_p`); NaN where no correlation is defined."""
    label_m: NDArray[np.int64]
    """The label whose correlation is hardest to explain by luck (-1 where none is defined)."""
    q_m: NDArray[np.float64]
    """Benjamini-Hochberg over the neurons tested."""


def permutation_null(
    held: Held,
    y_nk: NDArray[np.float32],
    mask_nk: NDArray[np.bool_],
    observed: Correlations,
    spread_m: NDArray[np.float64],
    permutations: Permutations,
    fdr: float = 0.05,
    progress: Progress | None = None,
) -> Null:
    """Null of the entropies and of the strongest correlation.

    `observed`: the correlations of the same activations with the labels as they are. `spread_m`: 1 / kurtosis of each
    neuron's activations, which orders neurons by the shape of their null (`pooled_p`). `fdr` only decides how many
    neurons are pooled, so that a single selective neuron can be found.
    """
    m, k = observed.rho_mk.shape
    draws = permutations.draws
    edges = np.arange(np.ceil((np.log2(max(k, 2)) + 1e-9) / BIN_BITS) + 1) * BIN_BITS
    mean_t, strong_mean_t, median_t = np.full(draws, np.nan), np.full(draws, np.nan), np.full(draws, np.nan)
    strong_count_t = np.zeros(draws, np.int64)
    counts_tb = np.zeros((draws, len(edges) - 1), np.int64)
    total_m, square_m, defined_m = np.zeros(m), np.zeros(m), np.zeros(m)
    strength_tmk = np.full((draws, m, k), np.nan, np.float32)
    design_m, design_count_m = np.zeros(m), np.zeros(m)
    with (progress or Silent()).task("permutation null", draws, "draws") as task:
        for t, (rho_mk, n_k) in enumerate(correlations_of_draws(held, y_nk, mask_nk, permutations)):
            bits = entropy_bits(rho_mk)
            good = np.isfinite(bits)
            total_m[good] += bits[good]
            square_m[good] += bits[good] ** 2
            defined_m += good
            counts_tb[t] = np.histogram(bits[good], edges)[0]
            top, _ = largest(np.abs(rho_mk))
            strong = good & (top > STRONG)
            strong_count_t[t] = strong.sum()
            mean_t[t] = bits[good].mean() if good.any() else np.nan
            strong_mean_t[t] = bits[strong].mean() if strong.any() else np.nan
            median_t[t] = np.median(top[np.isfinite(top)]) if np.isfinite(top).any() else np.nan
            scaled_mk = rho_mk * np.sqrt(np.maximum(n_k - 1, 0))
            strength_tmk[t] = np.abs(scaled_mk)
            design_m += np.nansum(scaled_mk**2, axis=1)
            design_count_m += np.isfinite(scaled_mk).sum(1)
            task.advance()
    seen = defined_m > 0
    entropy_mean = np.divide(total_m, defined_m, out=np.full(m, np.nan), where=seen)
    variance = np.divide(square_m, defined_m, out=np.full(m, np.nan), where=seen) - entropy_mean**2
    bits = entropy_bits(observed.rho_mk)
    counts_b = np.histogram(bits[np.isfinite(bits)], edges)[0]
    shares_tb = counts_tb / np.maximum(counts_tb.sum(1, keepdims=True), 1)
    low, high = np.quantile(shares_tb, [0.025, 0.975], axis=0)
    histogram = EntropyHistogram(edges, counts_b / max(counts_b.sum(), 1), shares_tb.mean(0), low, high)
    strength_mk = np.abs(observed.rho_mk) * np.sqrt(np.maximum(observed.n_k - 1, 0))
    if not permutations.patients.single:
        # Images of a patient are alike: correlations of patient-like neurons spread more. Bring all to one scale.
        scale_m = np.sqrt(np.divide(design_m, design_count_m, out=np.ones(m), where=design_count_m > 0))
        scale_m[scale_m == 0] = 1
        strength_mk /= scale_m[:, None]
        strength_tmk /= scale_m[:, None].astype(np.float32)
    p, label = pooled_p(strength_mk, strength_tmk, spread_m, fdr)
    return Null(
        mean_t, strong_mean_t, strong_count_t, median_t, entropy_mean, np.sqrt(np.maximum(variance, 0)), histogram,
        p, label, benjamini_hochberg(p),
    )  # fmt: skip


def largest(size_mk: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Largest value of each row and where it stands; NaN and -1 for a row of NaN."""
    filled = np.where(np.isnan(size_mk), -1.0, size_mk)
    where = filled.argmax(1)
    value = filled[np.arange(len(filled)), where]
    return np.where(value < 0, np.nan, value), np.where(value < 0, -1, where)
