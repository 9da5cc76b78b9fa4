"""The result of one neuron: how well its name and the controls did on the same pictures, as a row of the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from medsae.naming import prompts
from medsae.naming.detection import Detection, Paired, detect, paired
from medsae.naming.memory import Known
from medsae.naming.replies import Explanation
from medsae.naming.selection import Plan

Control = tuple[str, str, int | None]
"""Concept, description, the neuron whose name it is (None: nobody's)."""


def result(
    plan: Plan, own: Explanation, concepts: Mapping[str, Control], verdicts: Mapping[str, Mapping[int, Known]],
    balanced: bool,
) -> dict[str, Any]:  # fmt: skip
    """Columns of the row `name`. concepts, verdicts: about ("name", "shuffled", "random") -> concept; image -> verdict.

    balanced: see Detection.accuracy. Every picture of the plan has a verdict, if only a failed one.
    """
    found = {about: _detection(plan, verdicts[about], balanced) for about in concepts}
    name = found["name"]
    masses = [v.mass for v in verdicts["name"].values() if v.mass is not None]
    failed = name.asked - name.judged
    row: dict[str, Any] = {
        "status": "ok", "concept": own.concept, "description": own.description,
        "group_key": prompts.group_key(own.concept), "naming": list(plan.naming), "top": plan.top,
        "firing": plan.firing, "mass": float(np.mean(masses)) if masses else None,
        "note": f"{failed} of {name.asked} verdicts failed and are left out" if failed else None,
    } | asdict(name)  # fmt: skip
    for about in ("shuffled", "random"):
        if about in found:
            row |= {f"{about}_{k}": getattr(found[about], k) for k in ("accuracy", "low", "high", "auroc", "judged")}
            row[f"{about}_concept"] = concepts[about][0]
            against = _paired(plan, verdicts["name"], verdicts[about])
            if against is not None:
                row |= {f"{about}_more": against.more, f"{about}_less": against.less, f"{about}_p": against.p}
    row["specific_p"] = specific(row)
    row["shuffled_other"] = concepts["shuffled"][2] if "shuffled" in concepts else None
    return row


def specific(row: Mapping[str, Any]) -> float | None:
    """The p-value of the name being better than every control name: the largest of the paired tests; None without."""
    found = [row[f"{about}_p"] for about in ("shuffled", "random") if row.get(f"{about}_p") is not None]
    return max(found, default=None)


def _paired(plan: Plan, own: Mapping[int, Known], control: Mapping[int, Known]) -> Paired | None:
    fires = [t.fires for t in plan.tested]
    right, theirs = (
        np.array([np.nan if said[t.image].yes is None else float(said[t.image].yes == t.fires) for t in plan.tested])
        for said in (own, control)
    )
    patients = [t.patient for t in plan.tested]
    known = None if None in patients else np.array(patients)
    return paired(right, theirs, np.array(fires), known)


def _detection(plan: Plan, verdicts: Mapping[int, Known], balanced: bool) -> Detection:
    found = [verdicts[t.image] for t in plan.tested]
    yes_n = np.array([np.nan if v.yes is None else float(v.yes) for v in found])
    p_n = np.array([np.nan if v.p is None else v.p for v in found])
    return detect(np.array([t.fires for t in plan.tested]), yes_n, p_n, balanced)
