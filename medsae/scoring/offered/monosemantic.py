"""Is what a neuron fires on alike to another encoder?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsae.plugins import Measure, measures
from medsae.scoring.measures import Scored, Value, mean_over

HERE = "medsae.scoring.offered.monosemantic"
NOT_ASKED = "no embeddings of another encoder were given (--ms-embeddings)"
BELIEVED = 0.05
"""p of a neuron's own null at or below which what it fires on is called alike."""


def ms_score(s: Scored) -> Value:
    """Mean over the neurons, with draws of its own."""
    if s.similarity is None:
        return Value(float("nan"), note=NOT_ASKED)
    value, n = mean_over(s.similarity.score_m)
    drawn = np.array([mean_over(row_m)[0] for row_m in s.similarity.drawn_tm])
    return Value(value, n=n, note="no interval", null_t=drawn, shuffled="images")


def ms_alike_share(s: Scored) -> Value:
    """Neurons above their own null."""
    if s.similarity is None:
        return Value(float("nan"), note=NOT_ASKED)
    p_m = s.similarity.p_m
    known = np.isfinite(p_m)
    share = float((p_m[known] <= BELIEVED).mean()) if known.any() else float("nan")
    return Value(share, n=int(known.sum()), note=f"{len(s.similarity.drawn_tm)} draws")


def neuron_ms(s: Scored) -> NDArray[np.float64]:
    """Of each neuron."""
    return _nothing(s) if s.similarity is None else s.similarity.score_m


def neuron_ms_null(s: Scored) -> NDArray[np.float64]:
    """The same under shuffled images."""
    return _nothing(s) if s.similarity is None else s.similarity.null_m


def neuron_ms_p(s: Scored) -> NDArray[np.float64]:
    """How easily shuffled images reach it."""
    return _nothing(s) if s.similarity is None else s.similarity.p_m


def _nothing(s: Scored) -> NDArray[np.float64]:
    return np.full(len(s.profiles.rho_mk), np.nan)


measures.register(
    Measure(
        name="ms_score", label="monosemanticity score", unit="number", order=85, digits=3, over="neurons",
        help="mean similarity, to another encoder, of pairs of images weighted by how strongly both make a neuron "
        "fire; mean over neurons",
        load=f"{HERE}:ms_score", null="null_ms_score", shown=("overview",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="ms_alike_share", label="neurons that fire on images alike", unit="share", order=86, digits=1,
        help="neurons whose monosemanticity score is above 95 % of the draws with images shuffled between patients",
        over="neurons", null_value=BELIEVED, load=f"{HERE}:ms_alike_share", shown=("overview",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="neuron_ms", label="monosemanticity score", unit="number", of="neurons", order=120, digits=3,
        help="mean similarity, to another encoder, of pairs of images weighted by how strongly both make this neuron "
        "fire",
        load=f"{HERE}:neuron_ms", null="neuron_ms_null", shown=("neuron",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="neuron_ms_null", label="the same under shuffled images", unit="number", of="neurons", order=121, digits=3,
        help="mean of the score with images shuffled between patients", load=f"{HERE}:neuron_ms_null",
        shown=("neuron",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="neuron_ms_p", label="p of the monosemanticity score", unit="number", of="neurons", order=122, digits=3,
        help="share of these draws in which the score is as high or higher", load=f"{HERE}:neuron_ms_p",
        shown=("neuron",),
    )
)  # fmt: skip
