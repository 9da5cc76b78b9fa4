"""Two backends as one: the first names, the second judges, and may put the names into words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from medsae.naming import prompts
from medsae.naming.backends import Backend, Question, Reply
from medsae.naming.replies import parse_explanation


class Divided(Backend):
    """`namer` answers for names, `judge` for everything else; both are closed with it. in_words: the judge writes each
    name anew, from what the namer found and without pictures."""

    by_neuron = True

    def __init__(self, namer: Backend, judge: Backend, in_words: bool = False):
        self.namer, self.judge, self.in_words = namer, judge, in_words
        own = ", in its own words" if in_words else ""
        self.name, self.model = judge.name, f"{judge.model}, named by {namer.model}{own}"
        self.concurrency, self.batch, self.is_model = judge.concurrency, judge.batch, judge.is_model

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        names = [q for q in questions if q.task == "explain"]
        rest = [q for q in questions if q.task != "explain"]
        replies = {id(q): r for q, r in zip(names, self._names(names), strict=True)} if names else {}
        if rest:
            replies |= {id(q): r for q, r in zip(rest, self.judge.ask(rest), strict=True)}
        return [replies[id(q)] for q in questions]

    def _names(self, questions: Sequence[Question]) -> list[Reply]:
        found = self.namer.ask(questions)
        if not self.in_words:
            return found
        known = {i: said for i, reply in enumerate(found) if (said := parse_explanation(reply.text)).status == "ok"}
        asked = [replace(questions[i], pictures=(), text=prompts.in_words(said.concept, said.description))
                 for i, said in known.items()]  # fmt: skip
        worded = dict(zip(known, self.judge.ask(asked), strict=True)) if asked else {}
        return [worded.get(i, reply) for i, reply in enumerate(found)]

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
