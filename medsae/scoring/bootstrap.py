"""How far mean entropies move when other patients had come: the bootstrap by patient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsae.progress import Progress, Silent
from medsae.scoring.activity import Held
from medsae.scoring.design import Design
from medsae.scoring.draws import Resamples, Some, correlations_of_draws, group_by_group, in_groups
from medsae.scoring.measures import Statistic, number
from medsae.scoring.null import Null
from medsae.scoring.pieces import Arrays


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
    drawn = resampled(held, design, active_m, resamples, statistics, progress or Silent())
    for group, made in zip(in_groups(held, resamples), drawn, strict=True):
        assert made is not None, "whoever puts a bootstrap together has all of its draws"
        for name in values:
            values[name][group.start : group.stop] = made[f"value.{name}"]
        for t, strongest_m in zip(group, made["strongest"], strict=True):
            top_m = strongest_m / null.scale_m
            reaching_t[t] = (top_m[tested] >= reach).mean() if tested.any() else np.nan
    return Bootstrap(values, reaching_t)


def resampled(
    held: Held,
    design: Design,
    active_m: NDArray[np.int64],
    resamples: Resamples,
    statistics: Mapping[str, Statistic],
    progress: Progress,
) -> Iterator[Arrays | None]:
    """For each group of draws (`in_groups`) the `strongest` |rho| sqrt(n - 1) of each neuron [g, m] and `value.NAME`
    [g]; None for groups of another command (`resamples.kept`)."""

    def make(group: range) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        some = Some(resamples, group.start, group.stop)
        for all_mk, n_all in correlations_of_draws(held, design.all_nk, design.all_mask_nk, some):
            profiles = design.profiles(all_mk, n_all, active_m)
            size_mk = np.abs(profiles.rho_mk) * np.sqrt(np.maximum(profiles.n_k - 1, 0))
            rows.append({
                "strongest": np.where(np.isnan(size_mk), 0, size_mk).max(1, initial=0),
                **{f"value.{name}": number(statistic(profiles))[0] for name, statistic in statistics.items()},
            })  # fmt: skip
        return rows

    return group_by_group(held, resamples, "bootstrap", "bootstrap by patient", make, progress)
