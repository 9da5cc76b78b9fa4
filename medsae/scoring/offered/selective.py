"""Which share of the neurons follows some label at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsae.plugins import Measure, measures
from medsae.rates import centred_interval, wilson
from medsae.scoring.measures import Scored, Value

HERE = "medsae.scoring.offered.selective"


def selective_share(s: Scored) -> Value:
    """Neurons with q at or below the false-discovery rate, of those tested."""
    tested = np.isfinite(s.null.p_m)
    n = int(tested.sum())
    selective = int((s.null.q_m[tested] <= s.fdr).sum())
    low, high = share_interval(selective, n, s.selective_t)
    share = selective / n if n else float("nan")
    return Value(share, low, high, n, f"false-discovery rate {s.fdr:g}; 95 % interval by bootstrap over patients")


def share_interval(selective: int, tested: int, resampled_t: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of a share of neurons from its resamples by patient; where fewer than five neurons are selective,
    or are not, these hardly move, and the interval is at least Wilson's."""
    if not tested:
        return float("nan"), float("nan")
    low, high = centred_interval(selective / tested, resampled_t)
    if min(selective, tested - selective) < 5:
        ends = wilson(selective, tested)
        low, high = np.fmin(low, ends[0]), np.fmax(high, ends[1])
    return float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))


def selective_count(s: Scored) -> Value:
    """The same as a count."""
    tested = np.isfinite(s.null.p_m)
    return Value(float((s.null.q_m[tested] <= s.fdr).sum()), n=int(tested.sum()))


measures.register(
    Measure(
        name="selective_share", label="selective neurons", unit="share", order=80, null_value=0.0, digits=1,
        help="neurons that follow at least one label more closely than shuffled labels allow. It says that there is a "
        "signal, not that it is one concept: a neuron that follows five labels is selective",
        over="neurons tested", load=f"{HERE}:selective_share", shown=("overview",),
    )
)  # fmt: skip
measures.register(
    Measure(
        name="selective_count", label="selective neurons, number", unit="number", order=201, digits=0,
        help="the same as a count", over="neurons tested", load=f"{HERE}:selective_count",
    )
)  # fmt: skip
