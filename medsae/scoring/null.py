"""What shuffled labels give: entropies and strongest correlations when the label rows are shuffled between patients.

Two questions are answered by the same draws. Is the distribution of entropies any different from that of labels that
know nothing of the images? And which neurons follow *some* label more closely than shuffled labels
allow (selective neurons)? How the p-values reach below 1 / draws is explained in docs/decisions/040.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsae.progress import Progress, Silent
from medsae.rates import benjamini_hochberg
from medsae.scoring.activity import Held
from medsae.scoring.design import Design, Profiles
from medsae.scoring.draws import Permutations, Some, correlations_of_draws, group_by_group, in_groups
from medsae.scoring.entropy import entropy_bits
from medsae.scoring.measures import Statistic, number
from medsae.scoring.own_null import tail_p
from medsae.scoring.pieces import Arrays
from medsae.scoring.profile import Profile
from medsae.scoring.selective import pooled_p
from medsae.scoring.sufficient import Correlations

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

    values: dict[str, NDArray[np.float64]]
    """Every `profiles` measure in each draw (NaN where it is undefined there)."""
    entropy_mean_m: NDArray[np.float64]
    """Mean null entropy of each neuron (NaN if never defined)."""
    entropy_sd_m: NDArray[np.float64]
    histogram: EntropyHistogram
    p_m: NDArray[np.float64]
    """Chance that shuffled labels come as close to the neuron (`pooled_p`); NaN where no correlation is defined."""
    label_m: NDArray[np.int64]
    """The label whose correlation is hardest to explain by chance (-1 where none is defined)."""
    q_m: NDArray[np.float64]
    """Benjamini-Hochberg over the neurons tested."""
    scale_m: NDArray[np.float64]
    """How much wider each neuron's null is than 1 / sqrt(n - 1); 1 with one image a patient."""


def permutation_null(
    held: Held,
    design: Design,
    observed: Correlations,
    profile: Profile,
    permutations: Permutations,
    fdr: float = 0.05,
    statistics: Mapping[str, Statistic] | None = None,
    progress: Progress | None = None,
) -> Null:
    """Null of the entropies, of every measure in `statistics` and of the strongest correlation.

    `observed`: the correlations of the same activations with the labels as they are. `profile.spread_m` orders neurons
    by the shape of their null (`pooled_p`). `fdr` decides how many neurons are pooled, so that a single selective
    neuron can be found, and nothing else.
    """
    m, k = observed.rho_mk.shape
    draws = permutations.draws
    edges = np.arange(np.ceil((np.log2(max(k, 2)) + 1e-9) / BIN_BITS) + 1) * BIN_BITS
    values = {name: np.full(draws, np.nan) for name in statistics or {}}
    counts_tb = np.zeros((draws, len(edges) - 1), np.int64)
    total_m, square_m, defined_m = np.zeros(m), np.zeros(m), np.zeros(m)
    strength_tmk = np.full((draws, m, k), np.nan, np.float32)
    design_m, design_count_m = np.zeros(m), np.zeros(m)
    drawn = null_draws(held, design, profile.active_m, permutations, statistics or {}, progress or Silent())
    for group, made in zip(in_groups(held, permutations), drawn, strict=True):
        assert made is not None, "whoever puts a null together has all of its draws"
        at = slice(group.start, group.stop)
        strength_tmk[at] = made["strength"]
        for name in values:
            values[name][at] = made[f"value.{name}"]
        for t, bits in zip(group, made["bits"], strict=True):
            good = np.isfinite(bits)
            total_m[good] += bits[good]
            square_m[good] += bits[good] ** 2
            defined_m += good
            counts_tb[t] = np.histogram(bits[good], edges)[0]
        if not permutations.patients.single:
            for squares_m, count_m in zip(made["squares"], made["count"], strict=True):
                design_m += squares_m
                design_count_m += count_m
    seen = defined_m > 0
    entropy_mean = np.divide(total_m, defined_m, out=np.full(m, np.nan), where=seen)
    variance = np.divide(square_m, defined_m, out=np.full(m, np.nan), where=seen) - entropy_mean**2
    bits = entropy_bits(observed.rho_mk)
    counts_b = np.histogram(bits[np.isfinite(bits)], edges)[0]
    shares_tb = counts_tb / np.maximum(counts_tb.sum(1, keepdims=True), 1)
    low, high = np.quantile(shares_tb, [0.025, 0.975], axis=0)
    histogram = EntropyHistogram(edges, counts_b / max(counts_b.sum(), 1), shares_tb.mean(0), low, high)
    strength_mk = np.abs(observed.rho_mk) * np.sqrt(np.maximum(observed.n_k - 1, 0))
    scale_m = np.ones(m)
    if not permutations.patients.single:
        # Images of a patient are alike: correlations of patient-like neurons spread more. Bring all to one scale.
        scale_m = np.sqrt(np.divide(design_m, design_count_m, out=np.ones(m), where=design_count_m > 0))
        scale_m[scale_m == 0] = 1
        strength_mk /= scale_m[:, None]
        strength_tmk /= scale_m[:, None].astype(np.float32)
    p, label = pooled_p(strength_mk, strength_tmk, profile.spread_m, fdr)
    p = tail_p(held, design.y_nk, design.mask_nk, permutations.patients, strength_mk, p, label, scale_m)
    return Null(
        values, entropy_mean, np.sqrt(np.maximum(variance, 0)), histogram, p, label, benjamini_hochberg(p), scale_m
    )


def null_draws(
    held: Held,
    design: Design,
    active_m: NDArray[np.int64],
    permutations: Permutations,
    statistics: Mapping[str, Statistic],
    progress: Progress,
) -> Iterator[Arrays | None]:
    """For each group of draws (`in_groups`) what the null is made of, a row a draw: `bits` [g, m], `strength` |rho|
    sqrt(n - 1) [g, m, k], `squares` and `count` of it over the labels [g, m], and `value.NAME` [g]; None for groups of
    another command (`permutations.kept`)."""
    given = replace(permutations, strata_n=design.strata_n)
    mask_nr = design.mask_nk[:, design.kept_r]

    def make(group: range) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        some, others = (Some(one, group.start, group.stop) for one in (permutations, given))
        drawn = correlations_of_draws(held, design.y_nk, design.mask_nk, some, share=2)
        # Partial correlations are drawn only where a measure may ask for them.
        residual = correlations_of_draws(held, design.residual_nr, mask_nr, others, share=2) if statistics else None
        for rho_mk, n_k in drawn:
            partial_mr = next(residual)[0] if residual else np.full((held.m, len(design.kept_r)), np.nan)
            profiles = Profiles(rho_mk, n_k, partial_mr, design, active_m)
            scaled_mk = rho_mk * np.sqrt(np.maximum(n_k - 1, 0))
            rows.append({
                "bits": profiles.bits_m, "strength": np.abs(scaled_mk).astype(np.float32),
                "squares": np.nansum(scaled_mk**2, axis=1), "count": np.isfinite(scaled_mk).sum(1),
                **{f"value.{name}": number(statistic(profiles))[0] for name, statistic in statistics.items()},
            })  # fmt: skip
        return rows

    return group_by_group(held, permutations, "null", "permutation null", make, progress)


def largest(size_mk: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Largest value of each row and where it stands; NaN and -1 for a row of NaN."""
    filled = np.where(np.isnan(size_mk), -1.0, size_mk)
    where = filled.argmax(1)
    value = filled[np.arange(len(filled)), where]
    return np.where(value < 0, np.nan, value), np.where(value < 0, -1, where)


def reach(null: Null, observed: Correlations, fdr: float) -> float:
    """Strength (|rho| sqrt(n - 1) in units of the null spread) that the selective neurons reach; infinite without any.

    For the bootstrap of their share: as many neurons of the data as are selective lie at or above it.
    """
    size_mk = np.abs(observed.rho_mk) * np.sqrt(np.maximum(observed.n_k - 1, 0)) / null.scale_m[:, None]
    top_m, _ = largest(size_mk)
    selective = int((null.q_m <= fdr).sum())
    return float(np.sort(top_m[np.isfinite(top_m)])[-selective]) if selective else np.inf
