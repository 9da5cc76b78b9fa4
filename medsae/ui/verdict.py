"""What a study found, in plain sentences that follow from its numbers by rule: nobody words them for one study."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from medsae.store.queries import Difference, Measure
from medsae.ui import format

APART = 0.02
"""AUROCs of two best neurons, and shares of neurons, that differ by less are called alike."""


@dataclass(frozen=True)
class Side:
    """One representation: what a sentence calls it, its measures, and per label the AUROC of its best neuron on other
    patients."""

    name: str
    summary: dict[str, Measure]
    auroc: pd.Series


def sentences(first: Side, second: Side | None, difference: Difference | None) -> list[str]:
    """One sentence a question: how many neurons follow a label, on which side one neuron is about fewer labels, on
    which side the best neuron tells a label better. Nothing is said of what was not computed."""
    if second is None:
        return [s for s in (_alone(first), _best_alone(first)) if s]
    return [s for s in (_selective(first, second), _entropy(first, second, difference), _best(first, second)) if s]


def _share(side: Side) -> float | None:
    m = side.summary.get("selective_share")
    return m.value if m else None


def _alone(side: Side) -> str:
    share = _share(side)
    if share is None:
        return ""
    who = f"{format.percent(share)} of the neurons of {side.name}"
    return f"{who} go with a label more than shuffled labels would let them."


def _best_alone(side: Side) -> str:
    known = side.auroc.dropna().astype(float)
    if known.empty:
        return ""
    return f"One neuron alone tells {known.idxmax()} best (AUROC {known.max():.2f} on other patients)."


def _selective(first: Side, second: Side) -> str:
    a, b = _share(first), _share(second)
    if a is None or b is None:
        return ""
    tail = "go with a label more than shuffled labels would let them"
    if abs(a - b) < APART:
        return f"About as many neurons of both sides ({format.percent(a)} and {format.percent(b)}) {tail}."
    (more, high), (less, low) = sorted([(first.name, a), (second.name, b)], key=lambda side: -side[1])
    return f"{format.percent(high)} of the neurons of {more}, and {format.percent(low)} of those of {less}, {tail}."


def _entropy(first: Side, second: Side, d: Difference | None) -> str:
    if d is None or d.value is None or d.low is None or d.high is None:
        return ""
    if d.low <= 0 <= d.high:
        return "On average a neuron is about as few labels on both sides: their mean entropies cannot be told apart."
    winner, loser = (first.name, second.name) if d.value < 0 else (second.name, first.name)
    by = f"by {abs(d.value):.2f} bits of entropy"
    said = f"On average a neuron of {winner} is about fewer labels than one of {loser} ({by})"
    if d.null_low is not None and d.null_high is not None and d.null_low <= d.value <= d.null_high:
        return f"{said}, but shuffled labels give such a difference too, so it says little."
    return f"{said}, more than shuffled labels explain."


def _best(first: Side, second: Side) -> str:
    both = pd.DataFrame({"a": first.auroc, "b": second.auroc}).dropna().astype(float)
    if both.empty:
        return ""
    gap = both["a"] - both["b"]
    a, b, n = int((gap > APART).sum()), int((gap < -APART).sum()), len(both)
    alike = n - a - b
    if a == b == 0:
        which = f"every one of {n} labels" if n > 1 else str(both.index[0])
        return f"The best single neuron tells {which} about as well on both sides."
    (more, wins), (less, losses) = sorted([(first.name, a), (second.name, b)], key=lambda side: -side[1])
    if n == 1:
        return f"The best single neuron of {more} tells {both.index[0]} better than that of {less}."
    rest = f" and {alike} come out alike" if alike else ""
    if wins == losses:
        return f"The best single neuron tells {wins} labels better on each side{rest}."
    return f"The best single neuron of {more} tells {wins} of {n} labels better, that of {less} {losses}{rest}."
