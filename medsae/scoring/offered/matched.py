"""Neurons of one size: SAE neurons beside raw coordinates that are cut to fire as often."""

from __future__ import annotations

from medsae.plugins import Measure, measures
from medsae.scoring.measures import Scored, Value

HERE = "medsae.scoring.offered.matched"
NO_PARTNER = "only neurons of an SAE that fire on some of the images have such a partner"


def matched_entropy(s: Scored) -> Value:
    """Mean entropy of the SAE neurons that have a partner."""
    return s.matched.own if s.matched else Value(float("nan"), note=NO_PARTNER)


def matched_raw_entropy(s: Scored) -> Value:
    """Mean entropy of their partners."""
    return s.matched.cut if s.matched else Value(float("nan"), note=NO_PARTNER)


measures.register(
    Measure(
        name="matched_entropy", label="matched n: neurons with a raw partner", unit="bits", order=61,
        help="mean entropy of the SAE neurons that have a partner among raw coordinates (512 at most)",
        over="neurons", load=f"{HERE}:matched_entropy", shown=("overview",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="matched_raw_entropy", label="matched n: raw, cut to fire as often", unit="bits", order=62,
        help="mean entropy of raw neurons, each cut by a threshold to fire on as many images as one SAE neuron",
        over="neurons", load=f"{HERE}:matched_raw_entropy", null="null_matched_raw_entropy", shown=("overview",),
    )
)  # fmt: skip
