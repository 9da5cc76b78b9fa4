"""What a perfect detector would give, and where the neurons lie between it and shuffled labels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from medsae.plugins import Measure, measures
from medsae.scoring.measures import Scored, Value, mean_over
from medsae.scoring.offered.entropy import followed

HERE = "medsae.scoring.offered.floor"
NARROW = 0.05
"""Bits between floor and null below which a position between them means nothing."""
NO_ROOM = "the perfect detector's entropy is as high as under shuffled labels: there is no scale to place a neuron on"


def entropy_floor(s: Scored) -> Value:
    """Mean over labels of the entropy of their perfect detectors."""
    value, n = mean_over(s.design.floor.bits_k)
    return Value(value, n=n)


def partial_entropy_floor(s: Scored) -> Value:
    """The same for partial correlations."""
    value, n = mean_over(s.design.floor.partial_bits_k[s.design.kept_r])
    return Value(value, n=n)


def paper_entropy_best_floor(s: Scored) -> Value:
    """Mean in nats over the labels that `paper_entropy_best` has a neuron for: the same figure of perfect detectors."""
    value, n = mean_over(s.design.floor.bits_k[followed(s.profiles)])
    return Value(value * math.log(2), n=n)


def entropy_relative(s: Scored) -> Value:
    """(H - floor) / (null - floor) of the mean entropy, with the ends of its interval moved likewise."""
    return relative(s, "mean_entropy", "entropy_floor")


def partial_entropy_relative(s: Scored) -> Value:
    """The same for partial correlations."""
    return relative(s, "partial_mean_entropy", "partial_entropy_floor")


def relative(s: Scored, measure: str, floor: str) -> Value:
    """Where a mean entropy lies between its floor (0) and its null (1)."""
    h, null, low = s.values[measure], s.values[f"null_{measure}"].value, s.values[floor].value
    if not null - low >= NARROW:
        return Value(float("nan"), n=h.n, note=NO_ROOM)
    return Value(*[(end - low) / (null - low) for end in (h.value, h.low, h.high)], n=h.n)


def neuron_floor(s: Scored) -> NDArray[np.float64]:
    """Floor of the label that each neuron follows most."""
    size = np.where(np.isnan(s.profiles.rho_mk), -1, np.abs(s.profiles.rho_mk))
    return np.where(size.max(1) >= 0, s.design.floor.bits_k[size.argmax(1)], np.nan)


def neuron_relative(s: Scored) -> NDArray[np.float64]:
    """(H - floor) / (null - floor) of each neuron, by the floor of the label that it follows most and its own null."""
    floor = neuron_floor(s)
    room = s.null.entropy_mean_m - floor
    return np.divide(s.profiles.bits_m - floor, room, out=np.full(len(room), np.nan), where=room >= NARROW)


measures.register(
    Measure(
        name="entropy_floor", label="its floor: perfect detectors", unit="bits", order=20, over="labels",
        help="entropy of the detector that is never wrong about a label, mean over labels: not 0, because labels occur "
        "together", load=f"{HERE}:entropy_floor", shown=("overview",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="entropy_relative", label="relative: floor 0, null 1", unit="number", order=30,
        help="(H - floor) / (null - floor): 0 as peaked as perfect detectors, 1 as under shuffled labels, above 1 more "
        "spread than chance", over="neurons with a defined entropy", load=f"{HERE}:entropy_relative",
        shown=("overview",), null_value=1.0,
    )
)  # fmt: skip
measures.register(
    Measure(
        name="paper_entropy_best_floor", label="its floor: perfect detectors", unit="nats", order=71, over="labels",
        help="the same figure where the best neuron of each label is never wrong about it", digits=3,
        load=f"{HERE}:paper_entropy_best_floor", shown=("overview",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="partial_entropy_floor", label="its floor: perfect detectors", unit="bits", order=41, over="labels",
        help="the floor of the partial entropy", load=f"{HERE}:partial_entropy_floor", shown=("overview",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="partial_entropy_relative", label="partial, relative", unit="number", order=42,
        help="(H - floor) / (null - floor) of the partial entropy", over="neurons with a defined entropy",
        load=f"{HERE}:partial_entropy_relative", shown=("overview",), null_value=1.0,
    )
)  # fmt: skip
measures.register(
    Measure(
        name="neuron_entropy_floor", label="floor of its label", unit="bits", of="neurons", order=10,
        help="entropy of a detector that is never wrong about the label this neuron follows most",
        load=f"{HERE}:neuron_floor", shown=("neuron",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="neuron_entropy_relative", label="relative: floor 0, null 1", unit="number", of="neurons", order=20,
        help="(H - floor) / (null - floor) with the floor of the label it follows most and the neuron's own null",
        load=f"{HERE}:neuron_relative", shown=("neuron",), null_value=1.0,
    )
)  # fmt: skip
