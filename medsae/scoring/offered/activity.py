"""How often neurons fire, and how many labels there are to follow."""

from __future__ import annotations

import numpy as np

from medsae.plugins import Measure, measures
from medsae.scoring.measures import Scored, Value

HERE = "medsae.scoring.offered.activity"


def dead_count(s: Scored) -> Value:
    """Neurons that never fire on the images scored."""
    return Value(float((s.profile.active_m == 0).sum()), n=len(s.profile.active_m))


def dead_share(s: Scored) -> Value:
    """The same as a share of all neurons."""
    return Value(float((s.profile.active_m == 0).mean()), n=len(s.profile.active_m))


def active_share(s: Scored) -> Value:
    """Active neurons an image, as a share of all."""
    m = len(s.profile.active_m)
    return Value(float(s.profile.active_m.sum() / (s.images * m)), n=m)


def active_neurons(s: Scored) -> Value:
    """Active neurons an image (L0)."""
    return Value(float(s.profile.active_m.sum() / s.images), n=s.images)


def labels_defined(s: Scored) -> Value:
    """Labels with any correlation."""
    defined = np.isfinite(s.profiles.rho_mk).any(0)
    return Value(float(defined.sum()), n=s.profiles.rho_mk.shape[1])


measures.register(
    Measure(
        name="dead_share", label="silent on the scored images", unit="share", order=110, digits=1,
        help="neurons that fire on none of the scored images; training counts neurons that are dead on its own",
        over="neurons", load=f"{HERE}:dead_share", shown=("overview",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="dead_count", label="silent neurons, number", unit="number", order=202, digits=0,
        help="the same as a count", over="neurons", load=f"{HERE}:dead_count",
    )
)  # fmt: skip
measures.register(
    Measure(
        name="active_neurons", label="active neurons an image", unit="number", order=120, digits=1,
        help="mean number of neurons that fire on an image", over="pictures", load=f"{HERE}:active_neurons",
        shown=("overview",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="active_share", label="active share", unit="share", order=203, digits=2,
        help="the same as a share of all neurons", over="neurons", load=f"{HERE}:active_share",
    )
)  # fmt: skip
measures.register(
    Measure(
        name="labels_defined", label="labels with a correlation", unit="number", order=204, digits=0,
        help="labels that have a defined correlation with any neuron", over="labels", load=f"{HERE}:labels_defined",
    )
)  # fmt: skip
measures.register(
    Measure(
        name="fve", label="variance explained (FVE), held-out images", unit="number", of="sae", order=100, digits=3,
        help="1 - squared error of the reconstruction / variance of the embeddings, on images that training did not "
        "see", load="", shown=("overview",),
    )
)  # fmt: skip
