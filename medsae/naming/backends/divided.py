"""Two backends as one: the first names, the second judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from medsae.naming.backends import Backend, Question, Reply


class Divided(Backend):
    """`namer` answers for names, `judge` for everything else; both are closed with it."""

    by_neuron = True

    def __init__(self, namer: Backend, judge: Backend):
        self.namer, self.judge = namer, judge
        self.name, self.model = judge.name, f"{judge.model}, named by {namer.model}"
        self.concurrency, self.batch, self.is_model = judge.concurrency, judge.batch, judge.is_model

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        names = [q for q in questions if q.task == "explain"]
        rest = [q for q in questions if q.task != "explain"]
        replies = {id(q): r for q, r in zip(names, self.namer.ask(names), strict=True)} if names else {}
        if rest:
            replies |= {id(q): r for q, r in zip(rest, self.judge.ask(rest), strict=True)}
        return [replies[id(q)] for q in questions]

    def rehearse(
        self, explain: Question | None, judge: Callable[[str, str], Question | None], say: Callable[[str], None],
        known: tuple[str, str] | None = None,
    ) -> None:  # fmt: skip
        """The judge's rehearsal, without a name to give."""
        inner = getattr(self.judge, "rehearse", None)
        if inner is not None:
            inner(None, judge, say, known)

    def facts(self) -> dict[str, Any]:
        return self.namer.facts() | self.judge.facts() | {"named_by": self.namer.model}

    def close(self) -> None:
        self.namer.close()
        self.judge.close()
