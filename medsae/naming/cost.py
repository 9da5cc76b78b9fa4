"""What naming will cost, before it starts: questions, pictures, tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from medsae.naming.selection import Plan

TOKENS_A_PICTURE = 256
"""Of Gemma 3; other models differ."""
_TEXT_TOKENS, _EXPLAIN_TEXT, _EXPLAIN_OUT, _JUDGE_OUT = 90, 150, 80, 2
SAMPLE = 24
"""Neurons whose pictures are chosen for the estimate; the rest is extrapolated."""


@dataclass(frozen=True)
class Cost:
    """An estimate from `sampled` of `neurons`: questions are exact for those, at most planned for the rest."""

    neurons: int
    done: int
    askable: int
    """Neurons that can be asked about (not done, enough pictures), extrapolated."""
    questions: int
    """Without repairs."""
    planned: int
    """What the progress counts to: every neuron's share, done or not."""
    shown: int
    """Pictures shown, repeats counted."""
    distinct: int
    """At most so many different pictures."""
    tokens_in: int
    tokens_out: int
    sampled: int
    model: bool

    def text(self) -> str:
        """One line for the person who waits."""
        reasons = self.neurons - self.done - self.askable
        left = [f"{self.done:,} done already"] if self.done else []
        left += [f"about {reasons:,} silent or firing on too few pictures"] if reasons else []
        line = f"{self.neurons:,} neurons" + (f" ({', '.join(left)})" if left else "")
        if not self.model:
            return f"{line}: no model is asked"
        return (
            f"{line}: about {self.questions:,} questions, {self.shown:,} pictures shown (at most "
            f"{self.distinct:,} different), {self.tokens_in:,} tokens read and {self.tokens_out:,} written; "
            "repairs come on top, known answers are not asked again"
        )

    def record(self) -> dict[str, Any]:
        return asdict(self)


def estimate(
    neurons: Sequence[int], *, done: Collection[int], plan: Callable[[int], Plan], calls_a_neuron: int, protocol: str,
    is_model: bool, controls: bool, scored: int,
) -> Cost:  # fmt: skip
    """Cost of naming `neurons`; the pictures of a spread sample of those not done are chosen for it."""
    todo = [n for n in neurons if n not in done]
    step = max(1, -(-len(todo) // SAMPLE))
    plans = [plan(n) for n in todo[::step]]
    askable = [p for p in plans if p.status == "ok"]
    share = len(askable) / len(plans) if plans else 0.0
    count = round(share * len(todo))
    naming = sum(len(p.naming) for p in askable) / len(askable) if askable else 0.0
    tested = sum(len(p.tested) for p in askable) / len(askable) if askable else 0.0
    shown = round(count * (naming + tested * (3 if controls else 1)))
    distinct = min(scored, round(count * (naming + tested)))
    questions = count * calls_a_neuron
    judged = questions - count
    return Cost(
        len(neurons), len(neurons) - len(todo), count, questions, len(neurons) * calls_a_neuron, shown, distinct,
        shown * TOKENS_A_PICTURE + count * _EXPLAIN_TEXT + judged * _TEXT_TOKENS,
        count * _EXPLAIN_OUT + judged * (_JUDGE_OUT if protocol == "strict" else 12), len(plans), is_model,
    )  # fmt: skip
