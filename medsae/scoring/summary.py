"""The few numbers that stand for a whole representation, each with what luck or other patients would have given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsae.rates import centred_interval, wilson
from medsae.scoring.bootstrap import Bootstrap
from medsae.scoring.entropy import Entropy
from medsae.scoring.null import STRONG, Null
from medsae.scoring.profile import Profile
from medsae.scoring.sufficient import Correlations


@dataclass(frozen=True)
class Measure:
    """One row of `summary`; `value`, `low`, `high` are NaN where undefined, `n` is over how many it was taken."""

    measure: str
    value: float
    low: float
    high: float
    n: int
    note: str


def summary(
    correlations: Correlations,
    entropies: Entropy,
    max_rho_m: NDArray[np.float64],
    profile: Profile,
    null: Null,
    bootstrap: Bootstrap,
    images: int,
    fdr: float,
) -> list[Measure]:
    """Every summary measure of one representation. Entropies in bits."""
    bits, m = entropies.bits_m, len(entropies.bits_m)
    good = np.isfinite(bits)
    strong = good & (max_rho_m > STRONG)
    draws = len(null.mean_t)
    rows: list[Measure] = []

    def add(measure: str, value: float, low: float, high: float, n: int, note: str) -> None:
        rows.append(Measure(measure, float(value), float(low), float(high), int(n), note))

    patients = "95 % interval by bootstrap over patients"
    luck = f"mean of {draws} draws with label rows shuffled between patients; interval: their 2.5 % and 97.5 %"
    filters = (
        ("", good, bootstrap.mean_t, null.mean_t, "neurons with a defined entropy"),
        ("_strong", strong, bootstrap.strong_mean_t, null.strong_mean_t, f"of these, max |rho| > {STRONG}"),
    )
    for suffix, chosen, resampled_t, null_t, over in filters:
        value = bits[chosen].mean() if chosen.any() else np.nan
        low, high = centred_interval(value, resampled_t)
        add(f"mean_entropy{suffix}", value, low, high, chosen.sum(), f"bits; {over}; {patients}")
        finite = null_t[np.isfinite(null_t)]
        mean = finite.mean() if len(finite) else np.nan
        add(f"null_mean_entropy{suffix}", mean, *_band(finite), len(finite), f"bits; {luck}")
        sd = finite.std(ddof=1) if len(finite) > 1 else np.nan
        add(f"null_mean_entropy_sd{suffix}", sd, np.nan, np.nan, len(finite), "bits; spread of the null draws")
        p = (1 + (finite <= value).sum()) / (1 + len(finite)) if len(finite) and np.isfinite(value) else np.nan
        add(f"mean_entropy_p{suffix}", p, np.nan, np.nan, len(finite), "share of null draws as low or lower")
    normalised = entropies.normalised_m
    finite = normalised[np.isfinite(normalised)]
    add("mean_entropy_normalised", finite.mean() if len(finite) else np.nan, np.nan, np.nan, len(finite),
        "H / log2 of the number of defined labels")  # fmt: skip

    tested = np.isfinite(null.p_m)
    selective = int((null.q_m[tested] <= fdr).sum())
    low, high = wilson(selective, tested.sum())
    share = selective / tested.sum() if tested.any() else np.nan
    add(
        "selective_share",
        share,
        float(low),
        float(high),
        tested.sum(),
        f"neurons that follow a label more closely than shuffled labels allow, false-discovery rate {fdr:g}; Wilson",
    )
    add("selective_count", selective, np.nan, np.nan, tested.sum(), "the same as a count")

    defined = max_rho_m[np.isfinite(max_rho_m)]
    add("median_max_rho", np.median(defined) if len(defined) else np.nan, np.nan, np.nan, len(defined),
        "median over neurons of max |rho|")  # fmt: skip
    finite = null.median_max_rho_t[np.isfinite(null.median_max_rho_t)]
    add("null_median_max_rho", finite.mean() if len(finite) else np.nan, *_band(finite), len(finite), luck)

    dead = int((profile.active_m == 0).sum())
    add("dead_count", dead, np.nan, np.nan, m, "neurons that never fire on the images scored")
    add("dead_share", dead / m, np.nan, np.nan, m, "the same as a share of all neurons")
    add("active_share", profile.active_m.sum() / (images * m), np.nan, np.nan, m, "share of active neurons (L0 / m)")
    add("active_neurons", profile.active_m.sum() / images, np.nan, np.nan, images, "mean active neurons an image (L0)")
    used = int((correlations.reason_mk == 0).any(0).sum())
    add("labels_defined", used, np.nan, np.nan, correlations.rho_mk.shape[1], "labels with any correlation")
    return rows


def _band(draws: NDArray[np.float64]) -> tuple[float, float]:
    """2.5 % and 97.5 % quantile of the draws; NaN without any."""
    if not len(draws):
        return float("nan"), float("nan")
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
