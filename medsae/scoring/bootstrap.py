"""How far mean entropies move when other patients had come: the bootstrap by patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsae.progress import Progress, Silent
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
