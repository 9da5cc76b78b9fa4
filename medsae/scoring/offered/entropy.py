"""Mean entropies by the paper's formula, each with its null."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from medsae.plugins import Measure, measures
from medsae.scoring.design import Profiles
from medsae.scoring.measures import Scored, Value, mean_over

HERE = "medsae.scoring.offered.entropy"
STRONG = 0.2
"""The published class-correlation script averages entropies over neurons with max |rho| above this."""
FIRING = 10
"""Fewer firing images than this make a profile of chance: the pages put such neurons last."""


def mean_entropy(p: Profiles) -> tuple[float, int]:
    """Eq. 5, mean over the neurons where it is defined."""
    return mean_over(p.bits_m)


def mean_entropy_strong(p: Profiles) -> tuple[float, int]:
    """The same over neurons with max |rho| > 0.2."""
    return mean_over(p.bits_m, p.strongest_m > STRONG)


def mean_entropy_firing(p: Profiles) -> tuple[float, int]:
    """The same over neurons that fire on at least `FIRING` of the scored images."""
    return mean_over(p.bits_m, p.active_m >= FIRING)


def median_max_rho(p: Profiles) -> tuple[float, int]:
    """Median over neurons of max |rho|."""
    top = p.strongest_m[np.isfinite(p.strongest_m)]
    return (float(np.median(top)) if len(top) else float("nan")), len(top)


def paper_entropy_best(p: Profiles) -> tuple[float, int]:
    """Of each label the neuron with the largest signed rho; the mean of their entropies in nats."""
    rho = np.where(np.isfinite(p.bits_m)[:, None], p.rho_mk, -np.inf)
    best = np.where(np.isnan(rho), -np.inf, rho).argmax(0)[followed(p)]
    bits, n = mean_over(p.bits_m[best])
    return bits * math.log(2), n


def followed(p: Profiles) -> NDArray[np.bool_]:
    """Labels [k] that some neuron with a defined entropy has a correlation with."""
    return np.asarray(np.isfinite(p.rho_mk[np.isfinite(p.bits_m)]).any(0))


def mean_entropy_normalised(s: Scored) -> Value:
    """H / log2 of the number of labels with a defined rho."""
    defined = np.isfinite(s.profiles.rho_mk).sum(1)
    bits = np.divide(s.profiles.bits_m, np.log2(np.maximum(defined, 2)), where=defined >= 2,
                     out=np.full(len(defined), np.nan))  # fmt: skip
    value, n = mean_over(bits)
    return Value(value, n=n)


measures.register(
    Measure(
        name="mean_entropy", label="mean entropy (Eq. 5)", unit="bits", of="profiles", order=10,
        help="entropy of a neuron's |rho| over the labels, mean over neurons: the paper's number",
        over="neurons with a defined entropy", load=f"{HERE}:mean_entropy", shown=("overview",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="mean_entropy_firing", label=f"Eq. 5, neurons on {FIRING} images or more", unit="bits", of="profiles",
        help=f"mean entropy over neurons that fire on at least {FIRING} scored images", order=60,
        over="neurons that fire so often", load=f"{HERE}:mean_entropy_firing", shown=("overview",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="mean_entropy_strong", label=f"Eq. 5, max |ρ| > {STRONG}", unit="bits", of="profiles", order=65,
        help=f"mean entropy over neurons with max |rho| > {STRONG}; the filter lowers it by itself: compare it with "
        "its own null only",
        over="neurons that pass", load=f"{HERE}:mean_entropy_strong", shown=("overview",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="paper_entropy_best", label="best neuron of each label, as published", unit="nats", of="profiles",
        help="of each label the neuron with the largest signed rho, mean of their entropies in nats: what the "
        "published code writes as external/entropy_mean (over 8 labels). The best of many neurons is chosen, so read "
        "it beside its null", order=70, digits=3,
        over="labels", load=f"{HERE}:paper_entropy_best", shown=("overview",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="median_max_rho", label="median strongest |ρ|", unit="number", of="profiles", order=90, digits=3,
        help="median over neurons of their strongest |rho|", over="neurons with a defined rho",
        load=f"{HERE}:median_max_rho", shown=("overview",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="mean_entropy_normalised", label="mean of H / log2 k", unit="number", order=200,
        help="entropy divided by its largest possible value (log2 of the number of labels with a defined rho)",
        over="neurons with two labels or more", load=f"{HERE}:mean_entropy_normalised",
    )
)  # fmt: skip
