"""No model: the labels name and judge.

It is the baseline (does a model add anything to the labels?) and the offline default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from medsae.naming.backends import Study
from medsae.naming.backends.told import Told

SECOND = 0.8
"""A second label joins the name when its |rho| is at least this share of the strongest one's."""
_ABSENCE = "Absence of "


class Labels(Told):
    """Names a neuron by its best-correlated labels and judges a picture by its labels.

    rho_of: neuron -> label -> correlation (labels without one left out); labels_of: image -> label -> 1 present, 0
    absent, anything else unknown.
    """

    name, model = "labels", "labels"
    mark = "labels only, no model was asked"

    def __init__(
        self, rho_of: Callable[[int], Mapping[str, float]], labels_of: Callable[[int], Mapping[str, int | None]]
    ):
        self.rho_of, self.labels_of = rho_of, labels_of

    def explain(self, neuron: int) -> tuple[str, str] | str:
        ranked = sorted(self.rho_of(neuron).items(), key=lambda item: (-abs(item[1]), item[0]))
        ranked = [(label, rho) for label, rho in ranked if rho]
        if not ranked:
            return "no label has a defined correlation with this neuron"
        said = [f"{label} {rho:+.2f}" for label, rho in ranked[:3] if abs(rho) >= SECOND * abs(ranked[0][1])]
        return concept_of(*ranked[0]), f"Best-correlated labels of this neuron ({self.mark}): {', '.join(said)}."

    def bit(self, image: int, concept: str) -> int | None:
        label = concept.removeprefix(_ABSENCE)
        value = self.labels_of(image).get(label)
        return None if value not in (0, 1) else int(value != (label != concept))


def make(config: Any, study: Study, progress: Any) -> Labels:
    """The labels of a study, ready to answer."""
    return Labels(study.rho, study.labels_of)


def concept_of(label: str, rho: float) -> str:
    """The concept a label stands for; a negative correlation names its absence."""
    return label if rho > 0 else _ABSENCE + label
