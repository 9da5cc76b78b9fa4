"""Entropy without what goes with a finding: given attributes and No Finding, and each label without the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsae.plugins import Measure, measures
from medsae.scoring.design import Profiles
from medsae.scoring.measures import Scored, mean_over

HERE = "medsae.scoring.offered.confounding"


def partial_mean_entropy(p: Profiles) -> tuple[float, int]:
    """Mean entropy of the partial correlations."""
    return mean_over(p.partial_bits_m)


def unique_mean_entropy(p: Profiles) -> tuple[float, int]:
    """Mean entropy of what each label alone adds."""
    return mean_over(p.unique_bits_m)


def neuron_partial(s: Scored) -> NDArray[np.float64]:
    """Entropy of each neuron's partial correlations, bits."""
    return s.profiles.partial_bits_m


def neuron_unique(s: Scored) -> NDArray[np.float64]:
    """Entropy of each neuron's unique contributions, bits."""
    return s.profiles.unique_bits_m


measures.register(
    Measure(
        name="partial_mean_entropy", label="partial: given attributes and No Finding", unit="bits", of="profiles",
        help="mean entropy of correlations with labels from which the attributes of --given and No Finding are "
        "regressed out; No Finding is not among them", order=40, over="neurons with a defined entropy",
        load=f"{HERE}:partial_mean_entropy", shown=("overview",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="unique_mean_entropy", label="unique: each label without the others", unit="bits", of="profiles",
        help="mean entropy of the sizes of semi-partial correlations in a regression of the neuron on all labels, the "
        "attributes and No Finding; its floor is 0", order=50, over="neurons with a defined entropy",
        load=f"{HERE}:unique_mean_entropy", shown=("overview",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="neuron_partial_entropy", label="partial entropy", unit="bits", of="neurons", order=30,
        help="entropy of this neuron's correlations given attributes and No Finding",
        load=f"{HERE}:neuron_partial", shown=("neuron",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="neuron_unique_entropy", label="unique entropy", unit="bits", of="neurons", order=40,
        help="entropy of what each label alone adds to a regression of this neuron on all labels",
        load=f"{HERE}:neuron_unique", shown=("neuron",),
    )
)  # fmt: skip
