"""No model: the reports name and judge.

The name is the phrase most enriched in the reports of naming patients on whose pictures the neuron fires; the judge is
the report of the tested picture. As the namer of another judge (`--namer reports`) the same phrase is put to a model
that looks at the picture.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from medsae import reports
from medsae.naming.backends import Backend, Question, Reply, Study

MARK = "reports only, no model was asked"
FDR = 0.05


class Reports(Backend):
    """Names a neuron by a phrase; a picture without a report is no verdict (status "not stated"), never a no."""

    name, concurrency, batch = "reports", 1, 256
    is_model, by_neuron = False, True

    def __init__(self, column: str, texts: dict[int, str], study: Study):
        """column: the cohort's attribute with the reports; texts: image -> report."""
        self.model, self.texts, self.study = f"reports: {column}", texts, study

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        return [self._explain(q) if q.task == "explain" else self._judge(q) for q in questions]

    def facts(self) -> dict[str, Any]:
        note = MARK
        if reports.language(list(self.texts.values())[:500]) == "other":
            note += "; most of these reports are not English: the rule for negations knows few words of theirs"
        return {"note": note, "reports": len(self.texts)}

    def close(self) -> None: ...

    def _explain(self, question: Question) -> Reply:
        firing, silent = self.study.naming_evidence(question.neuron)
        found = [p for p in reports.chosen(self.texts, firing, silent) if p.q <= FDR]
        if not found:
            known = sum(image in self.texts for image in firing)
            return Reply("not stated", f"no phrase is enriched in the {known} reports of its firing naming pictures")
        said = ", ".join(f"{p.text} ({p.firing} firing, {p.others} other reports)" for p in found[:4])
        description = f"Most enriched phrases in this neuron's reports ({MARK}): {said}."
        return Reply("ok", json.dumps({"concept": found[0].text, "description": description}))

    def _judge(self, question: Question) -> Reply:
        bits = [reports.bit(self.texts.get(picture.image), question.concept) for picture in question.pictures]
        if question.task == "judge many":
            return Reply("not stated") if None in bits else Reply("ok", json.dumps(bits))
        bit = bits[0]
        return Reply("not stated") if bit is None else Reply("ok", "Yes" if bit else "No", float(bit), 1.0)


def make(config: Any, study: Study, progress: Any) -> Reports:
    """The reports of a study; UserError when the cohort has none, or when it is not clear which column holds them."""
    column, texts = study.reports(config.reports)
    return Reports(column, texts, study)
