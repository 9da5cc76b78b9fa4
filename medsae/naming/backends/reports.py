"""No model: the reports name and judge.

The name is the phrase most enriched in the reports of naming patients on whose pictures the neuron fires; the judge is
the report of the tested picture. As the namer of another judge (`--namer reports`) the same phrase is put to a model
that looks at the picture.
"""

from __future__ import annotations

from typing import Any

from medsae import reports
from medsae.naming.backends import Study
from medsae.naming.backends.told import Told

FDR = 0.05


class Reports(Told):
    """Names a neuron by a phrase; of an image without a report nothing is known."""

    name = "reports"
    mark = "reports only, no model was asked"

    def __init__(self, column: str, texts: dict[int, str], study: Study):
        """column: the cohort's attribute with the reports; texts: image -> report."""
        self.model, self.texts, self.study = f"reports: {column}", texts, study

    def facts(self) -> dict[str, Any]:
        note = self.mark
        if reports.language(list(self.texts.values())[:500]) == "other":
            note += "; most of these reports are not English: the rule for negations knows few words of theirs"
        return {"note": note, "reports": len(self.texts)}

    def explain(self, neuron: int) -> tuple[str, str] | str:
        firing, silent = self.study.naming_evidence(neuron)
        found = [p for p in reports.chosen(self.texts, firing, silent) if p.q <= FDR]
        if not found:
            known = sum(image in self.texts for image in firing)
            return f"no phrase is enriched in the {known} reports of its firing naming pictures"
        said = ", ".join(f"{p.text} ({p.firing} firing, {p.others} other reports)" for p in found[:4])
        return found[0].text, f"Most enriched phrases in this neuron's reports ({self.mark}): {said}."

    def bit(self, image: int, concept: str) -> int | None:
        return reports.bit(self.texts.get(image), concept)


def make(config: Any, study: Study, progress: Any) -> Reports:
    """The reports of a study; UserError when the cohort has none, or when it is not clear which column holds them."""
    column, texts = study.reports(config.reports)
    return Reports(column, texts, study)
