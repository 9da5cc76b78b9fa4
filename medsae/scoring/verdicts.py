"""What a row of localisation says, by rule. Without scipy: pages word it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Verdict = Literal["follows", "place", "no", "few"]


def verdict(hit: float | None, low: float | None, place: float | None, p: float | None) -> Verdict:
    """What a row says, by rule. follows: hits more often than another firing neuron (the interval lies above it) and
    than its own maps of other pictures (p at most 0.05). place: only the first, so it knows where such findings usually
    are. no: not even that. few: too few pictures."""
    if any(v is None or not math.isfinite(v) for v in (hit, low, place, p)):
        return "few"
    assert hit is not None and low is not None and place is not None and p is not None
    if low <= place:
        return "no"
    return "follows" if p <= 0.05 else "place"


def of_encoder(verdicts: Sequence[Verdict]) -> Verdict:
    """What the best neurons of every representation of one encoder say together: it looks where any of them does."""
    for one in ("follows", "place", "no"):
        if one in verdicts:
            return one
    return "few"
