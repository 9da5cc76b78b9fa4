"""Is a name right? On simulated radiographs it is known what a neuron follows, and so who names can be checked too.

A name is compared by the words of simgemma's own vocabulary and of the labels; what another model writes freely is not
compared. Not covered: neurons that follow a mixture, whose best single fact is only a part of the truth.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from medsae.config import CHEXPERT_LABELS

RECORD = Path(__file__).parent / "simgemma" / "simgemma.json"
FACTOR = "factor:"
"""What the attributes begin with that hold the planted factors of a simulated cohort."""
LEAST_RHO = 0.3
"""A neuron whose strongest correlation with a fact is smaller follows none."""
LEAST_IMAGES = 8
"""Scored images with a fact, and without it, for it to be compared."""
OPPOSITES = {"PA view": "AP view", "Male": "Female", "Young": "Age over 65"}
FINDINGS = ("Cardiomegaly", "Enlarged Cardiomediastinum", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
            "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture")  # fmt: skip
DEVICES = ("Pacemaker", "Sternal wires", "Endotracheal tube", "Central line", "Chest tube")
Match = Literal["same", "finding", "other", "nothing"]
"""The fact that the neuron follows best; the same finding or device elsewhere; another; no common finding was said."""


@dataclass(frozen=True)
class Followed:
    """The planted fact that a neuron follows best."""

    fact: str
    rho: float
    """Pearson correlation of its activation with the fact over the scored images, at least `LEAST_RHO`."""


def facts(names: Sequence[str], f_nk: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Planted factors with their opposites (PA view, Male, Young) and Normal (no finding, no device); bool [n, k].

    Of a cohort that was drawn without some of the factors, what can be told from the others.
    """
    of = {name: f_nk[:, i] for i, name in enumerate(names)}
    more = {name: ~of[opposite] for name, opposite in OPPOSITES.items() if opposite in of}
    if all(name in of for name in (*FINDINGS, *DEVICES)):
        more["Normal"] = ~np.any([of[name] for name in (*FINDINGS, *DEVICES)], 0)
    return [*names, *more], np.column_stack([f_nk, *more.values()])


def follows(activation_n: np.ndarray, f_nk: np.ndarray, names: Sequence[str]) -> Followed | None:
    """The fact with the strongest positive correlation; None where none reaches `LEAST_RHO` or nothing varies."""
    present = f_nk.sum(0)
    enough = (present >= LEAST_IMAGES) & (len(f_nk) - present >= LEAST_IMAGES)
    if not enough.any() or not activation_n.std():
        return None
    f = f_nk[:, enough].astype(float)
    f -= f.mean(0)
    rho = (activation_n - activation_n.mean()) @ f / (len(f) * activation_n.std() * np.sqrt((f * f).mean(0)))
    best = int(rho.argmax())
    fact = [name for name, there in zip(names, enough, strict=True) if there][best]
    return Followed(fact, float(rho[best])) if rho[best] >= LEAST_RHO else None


@lru_cache(1)
def _spoken() -> dict[str, str]:
    """Concept, in small letters -> fact, of simgemma and of the labels; "" for no common finding."""
    told = json.loads(RECORD.read_text())["names"] if RECORD.exists() else {}
    return {concept.lower(): fact for concept, fact in {**{label: label for label in CHEXPERT_LABELS}, **told}.items()}


def rightly(test: str) -> float | None:
    """Share of such questions about unseen pictures that simgemma answers rightly, by its record; chance is 1 in 5.
    None for a test that its record has no questions of."""
    told = json.loads(RECORD.read_text()).get("choices", {}) if RECORD.exists() else {}
    return told[test]["right"] if test in told else None


def said(concept: str) -> str | None:
    """The fact that a concept says; "" for no common finding, None where it cannot be told; of two labels the first."""
    words = concept.lower()
    return _spoken().get(words, _spoken().get(words.partition(" and ")[0]))


def match(concept: str, followed: Followed) -> Match | None:
    """How a name compares with what its neuron follows; None where the words cannot be compared."""
    fact = said(concept)
    if fact is None:
        return None
    if not fact:
        return "nothing"
    if fact == followed.fact:
        return "same"
    return "finding" if fact.partition(":")[0] == followed.fact.partition(":")[0] else "other"
