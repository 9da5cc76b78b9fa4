"""What the backends have in common that ask no model: they answer from what is known of a study."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from medsae.naming.backends import Backend, Question, Reply


class Told(Backend):
    """Names a neuron, and says of an image whether a concept is there: 1, 0, or None where it is not known, which is no
    verdict (status "not stated"), never a no."""

    name, model, concurrency, batch = "", "", 1, 256
    is_model, by_neuron = False, True
    mark: ClassVar[str]
    """What answered, for a reader of the names."""

    @abstractmethod
    def explain(self, neuron: int) -> tuple[str, str] | str:
        """(concept, description) of a neuron, or why it has none."""

    @abstractmethod
    def bit(self, image: int, concept: str) -> int | None:
        """Whether the image shows the concept."""

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        return [self._name(q) if q.task == "explain" else self._judge(q) for q in questions]

    def facts(self) -> dict[str, Any]:
        return {"note": self.mark}

    def close(self) -> None: ...

    def _name(self, question: Question) -> Reply:
        found = self.explain(question.neuron)
        if isinstance(found, str):
            return Reply("not stated", found)
        return Reply("ok", json.dumps({"concept": found[0], "description": found[1]}))

    def _judge(self, question: Question) -> Reply:
        bits = [self.bit(picture.image, question.concept) for picture in question.pictures]
        if question.task == "judge many":
            return Reply("not stated") if None in bits else Reply("ok", json.dumps(bits))
        bit = bits[0]
        return Reply("not stated") if bit is None else Reply("ok", "Yes" if bit else "No", float(bit), 1.0)
