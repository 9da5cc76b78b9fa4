"""How far mean entropies move when other patients had come: the bootstrap by patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsae.progress import Progress, Silent
from medsae.rates import centred_interval
from medsae.scoring.activity import Held
from medsae.scoring.design import Design
from medsae.scoring.draws import Resamples, correlations_of_draws
from medsae.scoring.measures import Statistic, number
from medsae.scoring.null import Null


@dataclass(frozen=True)
class Bootstrap:
    """One value a draw; draw t resamples the same patients for every representation of the same images and seed."""

    values: dict[str, NDArray[np.float64]]
    """Every measure of `statistics` in each resample."""
    reaching_t: NDArray[np.float64]
    """Share of neurons whose strongest |rho| sqrt(n - 1), in units of its null spread, reaches `reach`."""


def bootstrap(
    held: Held,
    design: Design,
    active_m: NDArray[np.int64],
    resamples: Resamples,
    statistics: Mapping[str, Statistic],
    null: Null,
    reach: float = np.inf,
    progress: Progress | None = None,
) -> Bootstrap:
    """Measures of resampled patients (images of one patient stay together, counted as often as it is drawn)."""
    values = {name: np.full(resamples.draws, np.nan) for name in statistics}
    reaching_t = np.full(resamples.draws, np.nan)
    tested = np.isfinite(null.p_m)
    with (progress or Silent()).task("bootstrap by patient", resamples.draws, "draws") as task:
        drawn = correlations_of_draws(held, design.all_nk, design.all_mask_nk, resamples)
        for t, (all_mk, n_all) in enumerate(drawn):
            profiles = design.profiles(all_mk, n_all, active_m)
            for name, statistic in statistics.items():
                values[name][t] = number(statistic(profiles))[0]
            size_mk = np.abs(profiles.rho_mk) * np.sqrt(np.maximum(profiles.n_k - 1, 0))
            top_m = np.where(np.isnan(size_mk), 0, size_mk).max(1, initial=0) / null.scale_m
            reaching_t[t] = (top_m[tested] >= reach).mean() if tested.any() else np.nan
            task.advance()
    return Bootstrap(values, reaching_t)


@dataclass(frozen=True)
class Difference:
    """One representation minus another, with a 95 % interval over patients and the chance of it under the null."""

    value: float
    low: float
    high: float
    null_low: float
    null_high: float
    """2.5 % and 97.5 % of the same difference under shuffled labels."""
    p: float
    """Two-sided: share of null differences at least as far from their mean."""


def paired_difference(
    value_a: float, draws_a: NDArray[np.float64], null_a: NDArray[np.float64],
    value_b: float, draws_b: NDArray[np.float64], null_b: NDArray[np.float64],
) -> Difference:  # fmt: skip
    """a - b, for two representations scored on the same images with the same seed: draw t of both is the same draw.

    `draws_*` are bootstrap draws, `null_*` permutation draws of the same mean. Pairing takes out what both share, so
    the interval is narrower than two intervals side by side suggest.
    """
    assert len(draws_a) == len(draws_b) and len(null_a) == len(null_b), "paired draws have one length"
    value, null = value_a - value_b, null_a - null_b
    low, high = centred_interval(value, draws_a - draws_b)
    null = null[np.isfinite(null)]
    if not len(null) or not np.isfinite(value):
        return Difference(value, low, high, np.nan, np.nan, np.nan)
    null_low, null_high = np.quantile(null, [0.025, 0.975])
    far = np.abs(null - null.mean()) >= abs(value - null.mean())
    return Difference(value, low, high, float(null_low), float(null_high), float((1 + far.sum()) / (1 + len(null))))
