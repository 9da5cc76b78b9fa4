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

    def next(self) -> tuple[int, Step] | None:
        if self.unasked:
            neuron = self.unasked.popleft()
            self.unanswered.add(neuron)
            return neuron, "explain"
        if self.explained and self.put_off:
            return self.put_off.popleft(), "judge shuffled"
        if not self.named:
            return None
        neuron = self.named.popleft()
        if self.explained:
            return neuron, "judge"
        self.put_off.append(neuron)
        return neuron, "judge but shuffled"


class Agenda:
    """Neurons in portions of `size`: all of a portion are explained, then judged.

    While the last explanations of a portion are on their way, the names that are there already are judged, and then
    the next portion is begun: the backend never waits for one slow reply.
    """

    def __init__(self, neurons: Sequence[int], size: int, others: Iterable[int]):
        chunks = [neurons[i : i + size] for i in range(0, len(neurons), size)]
        self.portions = deque(_Portion(deque(chunk)) for chunk in chunks)
        self.of = {neuron: portion for portion in self.portions for neuron in portion.unasked}
        self.others = set(others)
        """Neurons whose names may serve as shuffled controls now: no name of an unfinished portion is among them, so
        that the choice does not depend on the order in which replies arrive."""

    def next(self) -> tuple[int, Step] | None:
        """The next step; None when nothing can be asked before a reply comes, or at all."""
        while self.portions:
            for portion in (self.portions[i] for i in range(min(2, len(self.portions)))):
                if (step := portion.next()) is not None:
                    return step
            if not self.portions[0].explained:
                return None
            self.portions.popleft()
        return None

    def explained(self, neuron: int, named: bool) -> None:
        """The explanation of a neuron is settled; `named`: it has a name, which is to be judged."""
        portion = self.of.pop(neuron)
        portion.unanswered.discard(neuron)
        if named:
            portion.named.append(neuron)
            portion.names.append(neuron)
        if portion.explained:
            self.others.update(portion.names)
