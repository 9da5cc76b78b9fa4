"""How a name is put to the test: what is shown together, what is asked about it, how a reply is read, what is counted.

`detection`: does this picture show the concept? (Paulo et al. 2025; paper, section 3.3.) `intruder`: which of five
pictures does not belong with the others? It needs no name: it asks whether the pictures of a neuron look alike at all.
`rank`: which of five pictures excites the neuron most, to one who knows only its name? The last two ask one to choose
among five, so one answer in five is right by chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.stats import binom

from medsae.naming import prompts
from medsae.naming.backends import Picture, Question, Reply
from medsae.naming.detection import exchanged
from medsae.naming.memory import Known
from medsae.naming.replies import Explanation, Verdict, judged, parse_choice, parse_verdicts
from medsae.naming.result import Control, result, specific
from medsae.naming.selection import Plan
from medsae.naming.selection import Tested as OnePicture
from medsae.rates import wilson

PAPER_PICTURES = 5
"""paper: pictures a prompt."""
SHOWN = 5
"""intruder, rank: pictures a prompt."""
JUDGE_TOKENS = 8
_LIST_TOKENS, _REPAIR_TOKENS = 40, 24
Verdicts = Mapping[str, Mapping[int, Known]]
"""about -> image -> verdict."""


@dataclass(frozen=True)
class Shown:
    """Pictures of one question, and those of them that a verdict is written down for."""

    images: tuple[int, ...]
    truths: tuple[int, ...]


class Way(Protocol):
    """One way to test names."""

    name: str
    needs_a_name: bool
    balanced: bool

    def shown(self, plan: Plan) -> list[Shown]:
        """The questions about a neuron, in the order in which they are asked."""
        ...

    def count(self, pictures: int) -> int:
        """How many questions there are for `pictures` pictures a side."""
        ...

    def text(self, concept: str, description: str, pictures: int) -> str: ...

    def again(self, text: str, pictures: int) -> str:
        """The question for a second try."""
        ...

    def question(
        self, neuron: int, pictures: tuple[Picture, ...], text: str, concept: str, repair: bool
    ) -> Question: ...

    def read(self, reply: Reply, shown: Sequence[int], truths: Sequence[int]) -> list[Verdict]:
        """One verdict a truth of a reply that arrived."""
        ...

    def result(
        self, plan: Plan, own: Explanation, concepts: Mapping[str, Control], verdicts: Verdicts
    ) -> dict[str, Any]:
        """Columns of the line `name`."""
        ...


class Detection:
    """Yes or no for each picture: one a prompt (strict), or five a prompt as a list of 0 and 1 (paper)."""

    name, needs_a_name = "detection", True

    def __init__(self, protocol: str):
        self.protocol, self.balanced = protocol, protocol == "strict"
        self.size = 1 if self.balanced else PAPER_PICTURES

    def shown(self, plan: Plan) -> list[Shown]:
        images = [t.image for t in plan.tested]
        sets = [tuple(images[i : i + self.size]) for i in range(0, len(images), self.size)]
        return [Shown(each, each) for each in sets]

    def count(self, pictures: int) -> int:
        return -(-2 * pictures // self.size)

    def text(self, concept: str, description: str, pictures: int) -> str:
        return prompts.judge(self.protocol, concept, description, pictures)

    def again(self, text: str, pictures: int) -> str:
        form = prompts.REPAIR_JUDGE if self.balanced else prompts.REPAIR_JUDGE_PAPER
        return form.format(prompt=text, pictures=pictures)

    def question(self, neuron: int, pictures: tuple[Picture, ...], text: str, concept: str, repair: bool) -> Question:
        if self.balanced:
            schema, tokens = (prompts.ANSWER_SCHEMA, _REPAIR_TOKENS) if repair else (None, JUDGE_TOKENS)
            return Question("judge", pictures, prompts.SYSTEM, text, schema, tokens, neuron, concept)
        n = len(pictures)
        schema = {"type": "array", "items": {"type": "integer", "enum": [0, 1]}, "minItems": n, "maxItems": n}
        return Question("judge many", pictures, prompts.SYSTEM, text, schema, _LIST_TOKENS, neuron, concept)

    def read(self, reply: Reply, shown: Sequence[int], truths: Sequence[int]) -> list[Verdict]:
        if self.balanced:
            return [judged(reply.text, reply.p_yes, reply.mass)]
        return parse_verdicts(reply.text, len(shown))

    def result(
        self, plan: Plan, own: Explanation, concepts: Mapping[str, Control], verdicts: Verdicts
    ) -> dict[str, Any]:
        return result(plan, own, concepts, verdicts, self.balanced)


class _Choice:
    """One of five pictures is the right one; `yes` of its verdict says whether it was chosen."""

    name, balanced = "", False

    def __init__(self, seed: int):
        self.seed = seed

    def shown(self, plan: Plan) -> list[Shown]:
        rng = np.random.default_rng([self.seed, plan.neuron, len(self.name)])
        sets = self._sets([t for t in plan.tested if t.fires], [t for t in plan.tested if not t.fires], rng)
        return [Shown(tuple(images[i] for i in rng.permutation(len(images))), (images[0],)) for images in sets]

    def _sets(self, firing: list[OnePicture], silent: list[OnePicture], rng: np.random.Generator) -> list[list[int]]:
        """Five images each, the right one first; no image is the right one twice."""
        raise NotImplementedError

    def count(self, pictures: int) -> int:
        return max(1, pictures // 2)

    def again(self, text: str, pictures: int) -> str:
        return prompts.REPAIR_CHOICE.format(prompt=text, pictures=pictures)

    def question(self, neuron: int, pictures: tuple[Picture, ...], text: str, concept: str, repair: bool) -> Question:
        number = {"type": "integer", "minimum": 1, "maximum": len(pictures)}
        schema = {"type": "object", "properties": {"answer": number}, "required": ["answer"],
                  "additionalProperties": False}  # fmt: skip
        return Question("choose", pictures, prompts.SYSTEM, text, schema, _REPAIR_TOKENS, neuron, concept)

    def read(self, reply: Reply, shown: Sequence[int], truths: Sequence[int]) -> list[Verdict]:
        choice = parse_choice(reply.text, len(shown))
        if choice is None:
            return [Verdict("unparsable" if reply.text.strip() else "empty")]
        return [Verdict("ok", shown[choice - 1] == truths[0])]

    def result(
        self, plan: Plan, own: Explanation, concepts: Mapping[str, Control], verdicts: Verdicts
    ) -> dict[str, Any]:
        truths = [each.truths[0] for each in self.shown(plan)]
        right = {about: _right(truths, verdicts[about]) for about in concepts}
        failed = int(np.isnan(right["name"]).sum())
        row: dict[str, Any] = {
            "status": "ok", "concept": own.concept, "description": own.description,
            "group_key": prompts.group_key(own.concept), "naming": list(plan.naming), "top": plan.top,
            "firing": plan.firing, "chance": 1 / SHOWN,
            "note": f"{failed} of {len(truths)} answers failed and are left out" if failed else None,
        } | score(right["name"])  # fmt: skip
        for about in ("shuffled", "random"):
            if about not in right:
                continue
            theirs = score(right[about])
            row |= {f"{about}_{k}": theirs[k] for k in ("accuracy", "low", "high", "judged")}
            row[f"{about}_concept"] = concepts[about][0]
            both = np.isfinite(right["name"]) & np.isfinite(right[about])
            if both.any():
                pair = exchanged(right["name"][both] - right[about][both])
                row |= {f"{about}_more": pair.more, f"{about}_less": pair.less, f"{about}_p": pair.p}
        row["specific_p"] = specific(row)
        row["shuffled_other"] = concepts["shuffled"][2] if "shuffled" in concepts else None
        return row


class Intruder(_Choice):
    """Four pictures on which the neuron fires and a silent one: which does not belong?"""

    name, needs_a_name = "intruder", False

    def _sets(self, firing: list[OnePicture], silent: list[OnePicture], rng: np.random.Generator) -> list[list[int]]:
        images = [t.image for t in firing]
        chosen = silent[: self.count(len(silent))]
        return [[t.image, *rng.choice(images, SHOWN - 1, replace=False).tolist()] for t in chosen]

    def text(self, concept: str, description: str, pictures: int) -> str:
        return prompts.INTRUDER.format(pictures=pictures)


class Rank(_Choice):
    """A picture of the stronger half of the firing ones, two of the weaker half and two silent ones: which excites the
    neuron most?"""

    name, needs_a_name = "rank", True

    def _sets(self, firing: list[OnePicture], silent: list[OnePicture], rng: np.random.Generator) -> list[list[int]]:
        ordered = [t.image for t in sorted(firing, key=lambda t: (-t.value, t.image))]
        n = self.count(len(ordered))
        weak, none = ordered[n:], [t.image for t in silent]
        return [[image, *rng.choice(weak, 2, replace=False).tolist(), *rng.choice(none, 2, replace=False).tolist()]
                for image in ordered[:n]]  # fmt: skip

    def text(self, concept: str, description: str, pictures: int) -> str:
        return prompts.rank(concept, description, pictures)


def way_of(name: str, protocol: str, seed: int) -> Way:
    """The test of a name on the command line."""
    return Detection(protocol) if name == "detection" else Intruder(seed) if name == "intruder" else Rank(seed)


def score(right_n: np.ndarray) -> dict[str, Any]:
    """asked, judged, correct, accuracy with its 95 % Wilson interval (low, high), and p: the chance of as many right
    answers when one of `SHOWN` is chosen without looking. right_n: 1, 0 or NaN (failed)."""
    good = right_n[np.isfinite(right_n)]
    row: dict[str, Any] = {"asked": len(right_n), "judged": len(good), "correct": int(good.sum())}
    if not len(good):
        return row | dict.fromkeys(("accuracy", "low", "high", "p"))
    low, high = wilson(good.sum(), len(good))
    return row | {"accuracy": float(good.mean()), "low": float(low), "high": float(high),
                  "p": float(binom.sf(good.sum() - 1, len(good), 1 / SHOWN))}  # fmt: skip


def _right(truths: Sequence[int], verdicts: Mapping[int, Known]) -> np.ndarray:
    found = [verdicts[image].yes for image in truths]
    return np.array([np.nan if yes is None else float(yes) for yes in found])
