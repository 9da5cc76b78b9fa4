"""What a run of naming holds while it works: its neurons, the questions in flight, and what stands around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from medsae.naming.backends import Picture
from medsae.naming.memory import Known, Row
from medsae.naming.replies import Explanation
from medsae.naming.result import Control
from medsae.naming.selection import Plan


@dataclass
class Neuron:
    plan: Plan
    explanation: Explanation
    raw: str = ""
    concepts: dict[str, Control] = field(default_factory=dict)
    """About -> what is judged."""
    verdicts: dict[str, dict[int, Known]] = field(default_factory=dict)
    """about -> image -> verdict."""
    whole: bool = False
    """Every question about the neuron is drawn; the neuron is finished when none of them is open."""
    open: int = 0
    calls: int = 0
    seconds: float = 0.0


@dataclass
class Ask:
    """What a question in flight is about."""

    neuron: int
    about: str
    pictures: tuple[Picture, ...]
    key: str
    truths: tuple[int, ...] = ()
    """Images that a verdict is written down for."""
    repair: bool = False
    first: str = ""
    """The raw first reply, when this is the repair."""
    settled: bool = False
    """The answer came from another command."""


class Claims(Protocol):
    """Keeps several commands from asking the same at once (`store.claims`)."""

    def take(self, key: str) -> bool:
        """True when nobody else holds `key`; it is held from now on."""
        ...

    def release(self, key: str) -> None: ...

    def release_all(self) -> None: ...


class Alone:
    """Claims of a command that is alone."""

    def take(self, key: str) -> bool:
        return True

    def release(self, key: str) -> None: ...

    def release_all(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a namer needs of the study, the ledger and other commands."""

    plan: Callable[[int], Plan]
    """Of a neuron."""
    picture: Callable[[int], Picture]
    """Of an image."""
    write: Callable[[list[Row]], None]
    """Rows to the ledger, durable when it returns."""
    other_name: Callable[[int], tuple[str, str] | None] = lambda neuron: None
    """Concept and description for a neuron's shuffled control when no other neuron of the run is named yet."""
    claims: Claims | None = None
    """What this command asks, others do not; None: it is alone."""
    news: Callable[[], None] = lambda: None
    """Takes what others have written into the memory."""
