"""No model: the labels name and judge.

It is the baseline (does a model add anything to the labels?) and the offline default.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medsae.naming.backends import Backend, Question, Reply, Study

MARK = "labels only, no model was asked"
SECOND = 0.8
"""A second label joins the name when its |rho| is at least this share of the strongest one's."""
_ABSENCE = "Absence of "


class Labels(Backend):
    """Names a neuron by its best-correlated labels and judges a picture by its labels.

    rho_of: neuron -> label -> correlation (labels without one left out); labels_of: image -> label -> 1 present, 0
    absent, anything else unknown. An unknown label is no verdict (status "not stated"), never a no.
    """

    name, model, concurrency, batch = "labels", "labels", 1, 256
    is_model, by_neuron = False, True

    def __init__(
        self, rho_of: Callable[[int], Mapping[str, float]], labels_of: Callable[[int], Mapping[str, int | None]]
    ):
        self.rho_of, self.labels_of = rho_of, labels_of

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        return [self._explain(q) if q.task == "explain" else self._judge(q) for q in questions]

    def facts(self) -> dict[str, Any]:
        return {"note": MARK}

    def close(self) -> None: ...

    def _explain(self, question: Question) -> Reply:
        ranked = sorted(self.rho_of(question.neuron).items(), key=lambda item: (-abs(item[1]), item[0]))
        ranked = [(label, rho) for label, rho in ranked if rho]
        if not ranked:
            return Reply("not stated", "no label has a defined correlation with this neuron")
        concept = concept_of(*ranked[0])
        said = [f"{label} {rho:+.2f}" for label, rho in ranked[:3] if abs(rho) >= SECOND * abs(ranked[0][1])]
        description = f"Best-correlated labels of this neuron ({MARK}): {', '.join(said)}."
        return Reply("ok", json.dumps({"concept": concept, "description": description}))

    def _judge(self, question: Question) -> Reply:
        bits = [self._bit(question.concept, picture.image) for picture in question.pictures]
        if question.task == "judge many":
            return Reply("not stated") if None in bits else Reply("ok", json.dumps(bits))
        bit = bits[0]
        return Reply("not stated") if bit is None else Reply("ok", "Yes" if bit else "No", float(bit), 1.0)

    def _bit(self, concept: str, image: int) -> int | None:
        label = concept.removeprefix(_ABSENCE)
        value = self.labels_of(image).get(label)
        return None if value not in (0, 1) else int(value != (label != concept))


def make(config: Any, study: Study, progress: Any) -> Labels:
    """The labels of a study, ready to answer."""
    return Labels(study.rho, study.labels_of)


def concept_of(label: str, rho: float) -> str:
    """The concept a label stands for; a negative correlation names its absence."""
    return label if rho > 0 else _ABSENCE + label
