"""No model but the encoder's own text: the nearest term of a vocabulary names, as CLIP-Dissect and SpLiCE name.

The judge is the encoder too: an image counts as yes where its cosine with the term is among the largest quarter of the
scored images. That is a circle (docs/words.md); as the namer of another judge (`--namer vocabulary`) the same term is
put to a model that looks at the picture.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from medsae.naming.backends import Backend, Question, Reply, Study

MARK = "the encoder's text tower only, no other model was asked"


class Vocabulary(Backend):
    """terms_of: neuron -> (term, cosine), nearest first; near: (image, term) -> whether it is among the nearest, None
    for a term that is not in the vocabulary or an image that was not scored (status "not stated", never a no)."""

    name, model, concurrency, batch = "vocabulary", "vocabulary", 1, 256
    is_model, by_neuron = False, True

    def __init__(
        self, terms_of: Callable[[int], list[tuple[str, float]]], near: Callable[[int, str], bool | None]
    ) -> None:
        self.terms_of, self.near = terms_of, near

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        return [self._explain(q) if q.task == "explain" else self._judge(q) for q in questions]

    def facts(self) -> dict[str, Any]:
        return {"note": MARK}

    def close(self) -> None: ...

    def _explain(self, question: Question) -> Reply:
        found = self.terms_of(question.neuron)
        if not found:
            return Reply("not stated", "this neuron's direction has no length")
        said = ", ".join(f"{term} {cosine:.2f}" for term, cosine in found[:3])
        description = f"Terms nearest to this neuron's direction ({MARK}): {said}."
        return Reply("ok", json.dumps({"concept": found[0][0], "description": description}))

    def _judge(self, question: Question) -> Reply:
        bits = [self.near(picture.image, question.concept) for picture in question.pictures]
        if question.task == "judge many":
            return Reply("not stated") if None in bits else Reply("ok", json.dumps([int(bool(b)) for b in bits]))
        bit = bits[0]
        return Reply("not stated") if bit is None else Reply("ok", "Yes" if bit else "No", float(bit), 1.0)


def make(config: Any, study: Study, progress: Any) -> Vocabulary:
    """The vocabulary of a study; UserError for scores that have none."""
    return Vocabulary(study.terms, study.nearness())
