"""No model but the encoder's own text: the nearest term of a vocabulary names, as CLIP-Dissect and SpLiCE name.

The judge is the encoder too: an image counts as yes where its cosine with the term is among the largest quarter of the
scored images. That is a circle (docs/words.md); as the namer of another judge (`--namer vocabulary`) the same term is
put to a model that looks at the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from medsae.naming.backends import Study
from medsae.naming.backends.told import Told


class Vocabulary(Told):
    """terms_of: neuron -> (term, cosine), nearest first; near: (image, term) -> whether it is among the nearest, None
    for a term that is not in the vocabulary or an image that was not scored."""

    name, model = "vocabulary", "vocabulary"
    mark = "the encoder's text tower only, no other model was asked"

    def __init__(
        self, terms_of: Callable[[int], list[tuple[str, float]]], near: Callable[[int, str], bool | None]
    ) -> None:
        self.terms_of, self.near = terms_of, near

    def explain(self, neuron: int) -> tuple[str, str] | str:
        found = self.terms_of(neuron)
        if not found:
            return "this neuron's direction has no length"
        said = ", ".join(f"{term} {cosine:.2f}" for term, cosine in found[:3])
        return found[0][0], f"Terms nearest to this neuron's direction ({self.mark}): {said}."

    def bit(self, image: int, concept: str) -> int | None:
        near = self.near(image, concept)
        return None if near is None else int(near)


def make(config: Any, study: Study, progress: Any) -> Vocabulary:
    """The vocabulary of a study; UserError for scores that have none."""
    return Vocabulary(study.terms, study.nearness())
