"""A backend tried out, before a run, with the first questions that the run will ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from medsae.naming.backends import Question
from medsae.naming.run import Namer
from medsae.naming.selection import Plan
from medsae.naming.states import Ask


def rehearse(namer: Namer, neurons: Sequence[int], say: Callable[[str], None]) -> None:
    """Have a backend that wants it tried out with the first questions about `neurons`; see `Backend`."""
    tried = getattr(namer.backend, "rehearse", None)
    if tried is None:
        return
    for neuron in neurons:
        if neuron in namer.memory.done or (plan := namer.plan(neuron)).status != "ok":
            continue
        if not namer.claims.take(namer.neuron_key(neuron)):
            continue
        namer.news()
        if neuron in namer.memory.done:
            namer.claims.release(namer.neuron_key(neuron))
            continue
        _with(namer, plan, tried, say)
        return


def _with(namer: Namer, plan: Plan, tried: Callable[..., None], say: Callable[[str], None]) -> None:
    explain, known = _first_explanation(namer, plan)
    if explain is not None and not namer.claims.take(explain[1]):
        return

    def judge(concept: str, description: str) -> Question | None:
        for shown in namer.test.shown(plan):
            pictures = tuple(namer.picture(image) for image in shown.images)
            text = namer.test.text(concept, description, len(pictures))
            key = namer.key(text, pictures)
            if (key, shown.truths[0]) not in namer.memory.verdicts and namer.claims.take(key):
                return namer.test.question(plan.neuron, pictures, text, concept, False)
        return None

    tried(explain and explain[0], judge, say, known)


def _first_explanation(namer: Namer, plan: Plan) -> tuple[tuple[Question, str] | None, tuple[str, str] | None]:
    """The naming question of a plan with its key, or None and the name that is known."""
    if not namer.test.needs_a_name:
        return None, ("", "")
    text, pictures = namer.explain_text(plan)
    ask = Ask(plan.neuron, "explanation", pictures, namer.key(text, pictures))
    key = namer.explanation_key(ask)
    known = namer.memory.explanations.get(key)
    if known is None:
        return (namer.explain_question(ask, text), key), None
    return None, (known["concept"], known["description"]) if known["status"] == "ok" else None
