"""What a run of naming asks, and what the ledger knows already when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from medsae.naming.replies import FINAL, Status

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
    test: str = "detection"
    """How names are tested (`naming.testing`)."""
    take: int = 0
    """0; a run that asks anew has the next number, which keeps its answers apart from the earlier ones."""


class Known(NamedTuple):
    """An answer of the ledger: small, since millions of them may be held."""

    status: Status
    yes: bool | None
    p: float | None
    mass: float | None
    raw: str | None


LASTING = frozenset(("dead", "too few", "too few silent", "not stated"))
"""Statuses of neurons that cannot be named on these pictures, whoever is asked."""


class Outcome(NamedTuple):
    """What became of a neuron that was asked for."""

    status: str
    asked: int
    """Verdicts asked for its own name."""
    judged: int
    """Verdicts of those that can be used."""
    usable: bool
    """There is an accuracy, and at least half of the verdicts stand behind it."""

    @classmethod
    def of(cls, row: Row) -> Outcome:
        """From a line `name` of the ledger."""
        asked, judged = int(row.get("asked") or 0), int(row.get("judged") or 0)
        usable = row.get("status") == "ok" and row.get("accuracy") is not None and 2 * judged >= asked
        return cls(str(row.get("status")), asked, judged, usable)


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
    take: int = 0
    """The take that is asked now: an older one's result leaves a neuron to be asked."""
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    """Neuron -> the newest result of this run."""

    def learn(self, row: Row, run: str) -> None:
        """Take in one line of the ledger, of any run; lines are learnt in the order in which they were written."""
        kind, neuron, key, mine = row.get("kind"), row.get("neuron"), row.get("key"), row.get("run") == run
        if kind == "verdict":
            if not key or row.get("image") is None:
                return
            if mine and neuron is not None:
                self.written.add((neuron, row.get("about", ""), row["image"], key))
            if row.get("status") in FINAL:
                self.verdicts[key, row["image"]] = Known(
                    row["status"], row.get("yes"), row.get("p"), row.get("mass"), row.get("raw")
                )
        elif kind == "explanation":
            if row.get("status") in FINAL and key:
                self.explanations[key] = row
            if row.get("status") == "ok" and mine and neuron is not None:
                self.explained[neuron] = (row.get("concept") or "", row.get("description") or "")
        elif mine and neuron is not None and kind == "control":
            self.controls[neuron, row.get("about", "")] = row
        elif mine and neuron is not None and kind == "name" and int(row.get("take") or 0) >= self.take:
            self.outcomes[neuron] = Outcome.of(row)
            (self.done.discard if row.get("retry") else self.done.add)(neuron)
