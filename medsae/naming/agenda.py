"""What to ask next, so that there is always something to ask while other replies are on their way."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Step = Literal["explain", "judge", "judge but shuffled", "judge shuffled"]


@dataclass
class _Portion:
    unasked: deque[int]
    unanswered: set[int] = field(default_factory=set)
    named: deque[int] = field(default_factory=deque)
    """Explained, and nothing of them judged yet."""
    put_off: deque[int] = field(default_factory=deque)
    """Judged but for the shuffled control, which waits for the portion's other names."""
    names: list[int] = field(default_factory=list)

    @property
    def explained(self) -> bool:
        return not self.unasked and not self.unanswered

    def next(self, first: bool) -> tuple[int, Step] | None:
        if self.unasked:
            neuron = self.unasked.popleft()
            self.unanswered.add(neuron)
            return neuron, "explain"
        if first and self.explained and self.put_off:
            return self.put_off.popleft(), "judge shuffled"
        if not self.named:
            return None
        neuron = self.named.popleft()
        if first and self.explained:
            return neuron, "judge"
        self.put_off.append(neuron)
        return neuron, "judge but shuffled"


class Agenda:
    """Neurons in portions of `size`: all of a portion are explained, then judged.

    The backend never waits for one slow reply: while the last explanations of a portion are on their way, the names
    that are there are judged; and while a portion is judged, the next one is explained, one neuron for each judged.
    """

    def __init__(self, neurons: Sequence[int], size: int, others: Iterable[int]):
        chunks = [neurons[i : i + size] for i in range(0, len(neurons), size)]
        self.portions = deque(_Portion(deque(chunk)) for chunk in chunks)
        self.of = {neuron: portion for portion in self.portions for neuron in portion.unasked}
        self.known = frozenset(others)
        self.others = set(others)
        """Neurons whose names may serve as shuffled controls now: those known before and those of this portion, and no
        other, so that the choice does not depend on the order in which replies arrive, nor on who names the rest."""
        self.ahead = False

    def next(self) -> tuple[int, Step] | None:
        """The next step; None when nothing can be asked before a reply comes, or at all."""
        while self.portions:
            first, second = self.portions[0], self.portions[1] if len(self.portions) > 1 else None
            if first.explained:
                self.others = {*self.known, *first.names}
                self.ahead = not self.ahead
                if self.ahead and second is not None and second.unasked:
                    return second.next(False)
            if (step := first.next(True)) is not None:
                return step
            if not first.explained:
                return second.next(False) if second is not None else None
            self.portions.popleft()
        return None

    def explained(self, neuron: int, named: bool) -> None:
        """The explanation of a neuron is settled; `named`: it has a name, which is to be judged."""
        portion = self.of.pop(neuron)
        portion.unanswered.discard(neuron)
        if named:
            portion.named.append(neuron)
            portion.names.append(neuron)
