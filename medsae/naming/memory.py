"""What a run of naming asks, and what the ledger knows already when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from medsae.naming.replies import Status

Row = dict[str, Any]
"""A line of the ledger."""


@dataclass(frozen=True)
class Setup:
    """What is asked: together with the scores and the backend this is the `run` that results are grouped by."""

    run: str
    protocol: str
    controls: bool
    seed: int
    pictures: int = 30
    """Firing and silent pictures each."""
    take: int = 0
    """0; a run that asks anew has the next number, which keeps its answers apart from the earlier ones."""


class Known(NamedTuple):
    """An answer of the ledger: small, since millions of them may be held."""

    status: Status
    yes: bool | None
    p: float | None
    mass: float | None
    raw: str | None


@dataclass
class Memory:
    """What the ledger knows already."""

    verdicts: dict[tuple[str, int], Known] = field(default_factory=dict)
    """(key of the question, image) -> the answer."""
    explanations: dict[str, Row] = field(default_factory=dict)
    """Key of the question -> concept, description, status, note, raw."""
    written: set[tuple[int, str, int, str]] = field(default_factory=set)
    """(neuron, about, image, key) of the verdicts that this run has in the ledger."""
    explained: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Neuron -> concept and description of this run, for shuffled controls."""
    controls: dict[tuple[int, str], Row] = field(default_factory=dict)
    """(neuron, about) -> concept, description, other."""
    done: set[int] = field(default_factory=set)
    """Neurons with a result in this run that asking again would not change."""
