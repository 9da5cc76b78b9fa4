"""How often findings occur, and how they depend on each other: one table, and the drawing of patients from it.

`chance` is the probability of a finding in a study where none of its conditions hold; every condition that holds
multiplies the **odds**. Rows are drawn from top to bottom, so a row may depend on any row above it. The numbers are
chosen to look like a hospital's mixture (devices with bed-side pictures, edema with a large heart and effusions) while
leaving enough of everything for an autoencoder to learn from; they are not estimates of prevalence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medsae.config import CHEXPERT_LABELS

FEMALE = 0.47
SCREENING = 0.22
"""Share of patients that come without complaints: whatever depends on `ill` is then much rarer."""

STUDIES = (0.55, 0.25, 0.12, 0.08)
"""Probabilities of one, two, three and four studies a patient."""


@dataclass(frozen=True)
class Rule:
    """One row of the table. `lasting` findings stay with the patient; the others are drawn anew in every study."""

    name: str
    chance: float
    odds: dict[str, float]
    where: dict[str, float] | None = None
    """Shares of the places it can be in; places joined by + are planted together."""
    kinds: dict[str, float] | None = None
    """Shares of its kinds."""
    lasting: bool = False
    follows: tuple[str, ...] = ()
    """Where one of these is present, the side is its (first) side."""


ILL = {"ill": 14.0}
SIDE = {"right": 0.5, "left": 0.5}

TABLE: tuple[Rule, ...] = (
    Rule("AP view", 0.22, {"ill": 4.0}),
    Rule("Cardiomegaly", 0.020, {**ILL, "old": 1.6}, lasting=True),
    Rule("Enlarged Cardiomediastinum", 0.010, {**ILL, "AP view": 1.3}, lasting=True),
    Rule("Pacemaker", 0.010, {**ILL, "old": 2.5, "Cardiomegaly": 2.2}, {"left": 0.75, "right": 0.25},
         {"one lead": 0.4, "two leads": 0.6}, lasting=True),
    Rule("Sternal wires", 0.010, {**ILL, "old": 1.8, "Cardiomegaly": 1.6}, lasting=True),
    Rule("Pleural Other", 0.012, {**ILL, "old": 1.8}, SIDE, {"thickening": 0.6, "apical cap": 0.4}, lasting=True),
    Rule("Fracture", 0.014, {**ILL, "old": 1.4}, SIDE, {"ribs": 0.72, "clavicle": 0.28}, lasting=True),
    Rule("Lung Lesion", 0.016, {**ILL, "old": 1.5}, {"RUL": 0.27, "RML": 0.12, "RLL": 0.20, "LUL": 0.23, "LLL": 0.18},
         {"nodule": 0.55, "mass": 0.45}, lasting=True),
    Rule("Edema", 0.007, {**ILL, "Cardiomegaly": 3.2, "AP view": 1.7}),
    Rule("Pleural Effusion", 0.013, {**ILL, "Edema": 4.0, "Cardiomegaly": 1.5, "AP view": 1.3},
         {"right": 0.37, "left": 0.33, "right+left": 0.30}),
    Rule("Consolidation", 0.013, {**ILL, "AP view": 1.3},
         {"RUL": 0.20, "RML": 0.14, "RLL": 0.22, "LUL": 0.18, "LLL": 0.20, "RLL+LLL": 0.06}),
    Rule("Pneumonia", 0.013, {**ILL, "Consolidation": 1.6},
         {"RUL": 0.18, "RML": 0.16, "RLL": 0.24, "LUL": 0.16, "LLL": 0.20, "RLL+LLL": 0.06}),
    Rule("Atelectasis", 0.015, {**ILL, "AP view": 1.4, "Pleural Effusion": 2.0},
         {"RLL": 0.30, "LLL": 0.36, "RML": 0.10, "RUL": 0.14, "LUL": 0.10}, {"plates": 0.55, "collapse": 0.45}),
    Rule("Pneumothorax", 0.014, {**ILL, "Fracture": 2.5, "AP view": 1.2}, {"right": 0.52, "left": 0.48}),
    Rule("Lung Opacity", 0.010, {**ILL}, SIDE),
    Rule("Endotracheal tube", 0.002, {"ill": 6.0, "AP view": 12.0, "Edema": 2.0, "Consolidation": 1.5}),
    Rule("Central line", 0.004, {"ill": 6.0, "AP view": 8.0, "Endotracheal tube": 3.0},
         {"right": 0.70, "left": 0.30}, {"jugular": 0.55, "subclavian": 0.45}),
    Rule("Chest tube", 0.002, {"ill": 3.0, "AP view": 3.0, "Pneumothorax": 16.0, "Pleural Effusion": 3.0}, SIDE,
         follows=("Pneumothorax", "Pleural Effusion")),
    Rule("ECG leads", 0.010, {"AP view": 40.0, "Endotracheal tube": 2.0}),
    Rule("Marker L", 0.55, {}),
    Rule("Marker R", 0.45, {"Marker L": 0.12}),
    Rule("Projection text", 0.08, {"AP view": 9.0}),
    Rule("Collimation", 0.35, {"AP view": 0.6}),
)  # fmt: skip

PATHOLOGIES = ("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
               "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture")  # fmt: skip
DEVICES = ("Pacemaker", "Sternal wires", "Endotracheal tube", "Central line", "Chest tube")
OPACITIES = ("Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis")
"""What CheXpert files under Lung Opacity."""
NUISANCES = ("AP view", "ECG leads", "Marker L", "Marker R", "Projection text", "Collimation")

UNCERTAIN: dict[str, float] = {
    "Enlarged Cardiomediastinum": 0.25, "Cardiomegaly": 0.10, "Lung Opacity": 0.04, "Lung Lesion": 0.10, "Edema": 0.15,
    "Consolidation": 0.30, "Pneumonia": 0.35, "Atelectasis": 0.35, "Pneumothorax": 0.08, "Pleural Effusion": 0.08,
    "Pleural Other": 0.30, "Fracture": 0.06, "Support Devices": 0.01,
}  # fmt: skip
"""Share of a label's mentions that a report leaves uncertain (-1), whether the finding is there or not."""

SAID_WHEN_PRESENT: dict[str, float] = {label: 0.97 for label in CHEXPERT_LABELS} | {"Lung Opacity": 0.80}
SAID_WHEN_ABSENT: dict[str, float] = {
    "Enlarged Cardiomediastinum": 0.45, "Cardiomegaly": 0.75, "Lung Opacity": 0.45, "Lung Lesion": 0.35, "Edema": 0.65,
    "Consolidation": 0.75, "Pneumonia": 0.45, "Atelectasis": 0.45, "Pneumothorax": 0.85, "Pleural Effusion": 0.85,
    "Pleural Other": 0.30, "Fracture": 0.45, "Support Devices": 0.50,
}  # fmt: skip
"""Share of studies whose report speaks of a finding at all; what it does not speak of is blank."""


@dataclass(frozen=True)
class Planted:
    """One finding or device: `places` are sides or lobes (empty where there is no side), `severity` in [0, 1]."""

    name: str
    places: tuple[str, ...]
    kind: str
    severity: float

    def grade(self) -> str:
        return ("mild", "moderate", "severe")[min(2, int(self.severity * 3))]

    def sides(self) -> tuple[str, ...]:
        """right, left or both, whatever the places are."""
        return tuple(side for side in ("right", "left") if any(side_of(p) == side for p in self.places))


def side_of(place: str) -> str:
    """The side that a side or a lobe is on."""
    return {"R": "right", "L": "left"}.get(place[0], place)


def draw_lasting(rng: np.random.Generator, facts: dict[str, bool]) -> dict[str, Planted]:
    """What a patient brings to every study. `facts`: ill, old, and AP view of the first study."""
    return _draw(rng, facts, {}, lasting=True)


def draw_study(rng: np.random.Generator, facts: dict[str, bool], lasting: dict[str, Planted]) -> dict[str, Planted]:
    """Everything in one study, in the order of the table: what lasts and what is new."""
    return _draw(rng, facts, lasting, lasting=False)


def _draw(
    rng: np.random.Generator, facts: dict[str, bool], known: dict[str, Planted], lasting: bool
) -> dict[str, Planted]:
    present: dict[str, Planted] = {}
    for rule in TABLE:
        # Every rule takes its numbers whether it is used or not: then no finding changes the luck of another.
        luck, where, kind, severity = rng.random(4)
        if rule.name in known:
            present[rule.name] = known[rule.name]
        elif rule.lasting == lasting:
            odds = rule.chance / (1 - rule.chance)
            for condition, factor in rule.odds.items():
                if facts.get(condition, False) or condition in present:
                    odds *= factor
            if luck < odds / (1 + odds):
                places = tuple(p for p in pick(rule.where, where).split("+") if p)
                leader = next((present[name] for name in rule.follows if name in present), None)
                places = leader.sides()[:1] if leader else places
                present[rule.name] = Planted(rule.name, places, pick(rule.kinds, kind), float(severity))
    return present


def pick(shares: dict[str, float] | None, luck: float) -> str:
    """The key whose share of [0, 1) `luck` falls into; the empty string where there is nothing to choose."""
    if shares is None:
        return ""
    edges = np.cumsum(list(shares.values()))
    return list(shares)[min(int(np.searchsorted(edges, luck, side="right")), len(edges) - 1)]


def truth(present: dict[str, Planted]) -> dict[str, bool]:
    """The 14 labels as they are in the picture, before anybody writes a report."""
    out = {name: name in present for name in PATHOLOGIES}
    out["Enlarged Cardiomediastinum"] |= out["Cardiomegaly"]
    out["Lung Opacity"] |= any(name in present for name in OPACITIES)
    out["Support Devices"] = any(name in present for name in DEVICES)
    out["No Finding"] = not any(out[name] for name in PATHOLOGIES)
    return {name: out[name] for name in CHEXPERT_LABELS}


def write_labels(rng: np.random.Generator, present: dict[str, Planted]) -> dict[str, int | None]:
    """The labels as a report gives them: 1 present, 0 absent, -1 uncertain, None not spoken of.

    1 and 0 always agree with the truth. No Finding is known of every study."""
    out: dict[str, int | None] = {}
    for name, there in truth(present).items():
        said, sure = rng.random(2)
        if name == "No Finding":
            out[name] = int(there)
        elif said >= (SAID_WHEN_PRESENT if there else SAID_WHEN_ABSENT)[name]:
            out[name] = None
        else:
            # Doubt about what is not there is rarer than doubt about what is.
            out[name] = -1 if sure < UNCERTAIN[name] * (1.0 if there else 0.15) else int(there)
    return out


def factors(present: dict[str, Planted], sex: str, age: int) -> dict[str, bool]:
    """Every planted fact that a neuron could stand for: finding x side (or lobe), device, view, sex, marker."""
    out: dict[str, bool] = {}
    for rule in TABLE:
        planted = present.get(rule.name)
        out[rule.name] = planted is not None
        if rule.where is None:
            continue
        places = sorted({place for key in rule.where for place in key.split("+")})
        for side in ("right", "left"):
            out[f"{rule.name}:{side}"] = planted is not None and side in planted.sides()
        for place in places:
            if place not in ("right", "left"):
                out[f"{rule.name}:{place}"] = planted is not None and place in planted.places
    out["Female"], out["Age over 65"] = sex == "Female", age > 65
    return out


def describe(present: dict[str, Planted]) -> dict[str, Any]:
    """Attributes in words: `Pleural Effusion` -> `moderate, right`."""
    out: dict[str, Any] = {}
    for rule in TABLE:
        if (planted := present.get(rule.name)) is None:
            out[rule.name] = "no"
            continue
        graded = rule.name in PATHOLOGIES
        words = [planted.grade() if graded else "yes", planted.kind, " and ".join(planted.places)]
        out[rule.name] = ", ".join(w for w in words if w)
    return out
