"""Pairs of studies that differ in one thing: the same patient, pose and noise, with and without one planted factor.

A study holds everything that a picture is drawn from, and every part of the drawing has random numbers of its own, so
an edited study is that picture with one thing changed. What a factor brings with it in the simulator it brings here
too: an AP picture is taken as portable pictures are, a large heart is another heart, a woman has another build.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from medsae.simulated import probabilities
from medsae.simulated.patients import Study, body_as, large_heart, take_as
from medsae.simulated.probabilities import PATHOLOGIES, TABLE, Planted, Rule

SEX, AGE = "Female", "Age over 65"
YOUNG, OLD, OLDEST = 50, 66, 92
"""Years: without the factor of age; with it, at severity 0 and 1."""
RULES = {rule.name: rule for rule in TABLE}
RATIO_WITHOUT = 0.46
"""Cardiothoracic ratio of a patient whose large heart is taken away, as in `compose`."""
MASS_ABOVE = 0.6
"""A lesion grows: up to this severity it is a nodule, beyond it a mass at the same place."""


@dataclass(frozen=True)
class Factor:
    """One thing that is planted or taken away: a finding or device at one place, or a fact of person or exposure."""

    finding: str
    """Name of the factor whatever its place: a row of the table, `Female` or `Age over 65`."""
    place: str = ""
    """Side or lobe; empty where there is none."""

    @property
    def name(self) -> str:
        """As `probabilities.factors` calls it."""
        return f"{self.finding}:{self.place}" if self.place else self.finding

    @property
    def graded(self) -> bool:
        """Whether it has severities; the others are there or not."""
        return self.finding in PATHOLOGIES or self.finding == AGE


def factors() -> list[Factor]:
    """Every factor, a finding with places once for each: the finest partition of what is planted."""
    found = []
    for rule in TABLE:
        keys = (place for key in rule.where or {"": 1.0} for place in key.split("+"))
        found += [Factor(rule.name, place) for place in dict.fromkeys(keys)]
    return [*found, Factor(SEX), Factor(AGE)]


def without(study: Study, finding: str) -> Study:
    """The study without a finding at any place; the same study where it has none."""
    if finding == SEX:
        return study if study.sex == "Male" else replace(study, sex="Male", body=body_as(study, "Male", _first(study)))
    if finding == AGE:
        return study if study.age < OLD else _aged(study, YOUNG)
    if finding not in study.present:
        return study
    return _with_present(study, {k: v for k, v in study.present.items() if k != finding})


def plant(study: Study, factor: Factor, severity: float = 0.5) -> Study:
    """The study with a factor at its one place and of this severity, whatever of the same finding it had before.

    severity: in [0, 1]; of no account for what has none. The kind (plates or collapse, jugular or subclavian) is the
    patient's: the same for every severity and place.
    """
    if factor.finding == SEX:
        return replace(study, sex="Female", body=body_as(study, "Female", _first(study)))
    if factor.finding == AGE:
        return _aged(study, round(OLD + severity * (OLDEST - OLD)))
    rule = RULES[factor.finding]
    planted = Planted(rule.name, (factor.place,) if factor.place else (), _kind(study, rule, severity), severity)
    present = {**study.present, rule.name: planted}
    # In the order of the table, as every study is: sums of maps are then the same to the last bit.
    return _with_present(study, {name: present[name] for name in RULES if name in present})


def _kind(study: Study, rule: Rule, severity: float) -> str:
    if rule.name == "Lung Lesion":
        return "nodule" if severity <= MASS_ABOVE else "mass"
    own = study.present.get(rule.name)
    return own.kind if own else probabilities.pick(rule.kinds, float(study.generator(f"kind of {rule.name}").random()))


def _with_present(study: Study, present: dict[str, Planted]) -> Study:
    body, take, heart = study.body, study.take, present.get("Cardiomegaly")
    if heart != study.present.get("Cardiomegaly"):
        body = replace(body, ratio=large_heart(heart.severity) if heart else RATIO_WITHOUT)
    if any((name in present) != (name in study.present) for name in ("AP view", "Collimation")):
        take = take_as(study, present)
    return replace(study, present=present, body=body, take=take)


def _first(study: Study) -> int:
    """Age at the first study of the patient, by which the body was drawn."""
    return study.age - (study.study - 1)


def _aged(study: Study, age: int) -> Study:
    body = body_as(study, study.sex, age)
    own = study.body
    return replace(study, age=age, body=replace(own, bone=body.bone, cartilage=body.cartilage, aorta_mm=body.aorta_mm))


@dataclass(frozen=True)
class Shot:
    """One picture that is drawn of a patient."""

    study: Study
    factor: str
    """Name of the planted factor; of what is left out: the name of the finding; "" for the study as it is."""
    severity: float | None
    """None: without the factor."""


@dataclass(frozen=True)
class Session:
    """The pictures of one patient and which of them make pairs."""

    shots: tuple[Shot, ...]
    before: tuple[int, ...]
    """For each factor the picture without it."""
    after: tuple[tuple[int, ...], ...]
    """For each factor the pictures with it, one a severity (one in all for what has none)."""


def session(study: Study, planted: Sequence[Factor], severities: Sequence[float]) -> Session:
    """What is drawn of one patient: the study as it is, without each finding that it has, and with each factor."""
    shots, place = [Shot(study, "", None)], {}
    before, after = [], []
    for factor in planted:
        if factor.finding not in place:
            place[factor.finding] = 0
            bare = without(study, factor.finding)
            if bare is not study:
                place[factor.finding] = len(shots)
                shots.append(Shot(bare, factor.finding, None))
        before.append(place[factor.finding])
        graded = severities if factor.graded else severities[len(severities) // 2 :][:1]
        after.append(tuple(range(len(shots), len(shots) + len(graded))))
        shots += [Shot(plant(study, factor, severity), factor.name, severity) for severity in graded]
    return Session(tuple(shots), tuple(before), tuple(after))
