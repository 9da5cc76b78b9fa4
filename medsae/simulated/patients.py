"""Who is in the cohort: patients, their bodies and studies, drawn from a seed without drawing any picture.

Every patient has generators of his own, so a picture depends on the seed and on its patient alone, whatever range of
pictures is made and by however many processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from medsae.simulated import probabilities
from medsae.simulated.probabilities import Planted

COUNT, PATIENT, STUDY, DRAWING = range(4)
"""Streams of random numbers."""


@dataclass(frozen=True)
class Body:
    """What one person looks like; factors are relative to the CT."""

    width: float
    height: float
    shoulders: float
    waist: float
    fat: float
    """Extra soft tissue, as a share."""
    breast_mm: float
    """Depth of the breasts; 0 for none."""
    ratio: float
    """Cardiothoracic ratio on a PA picture."""
    bone: float
    cartilage: float
    aorta_mm: float
    waves: np.ndarray
    """[6, 5]: small smooth deformations: amplitude u and v in mm, wave numbers u and v, phase."""


@dataclass(frozen=True)
class Take:
    """How one picture is taken."""

    luck: float
    """[0, 1): which of the view's poses."""
    roll_degrees: float
    inspiration: float
    """-1 (shallow, high diaphragm) to 1 (deep)."""
    raised: tuple[float, float]
    """mm that the right and the left diaphragm stand higher."""
    arms: float
    """0 arms close to the body to 2 arms away."""
    field_mm: float
    centre_mm: tuple[float, float]
    exposure: float
    """Natural logarithm of the dose relative to the usual one: more dose, less noise, darker."""
    gamma: float
    contrast: float
    """Steepness of the curve relative to the usual one."""
    noise: float
    collimation: tuple[float, float, float, float]
    """Shares of the picture's width that the borders leave dark: left, top, right, bottom."""


@dataclass(frozen=True)
class Study:
    """One picture before it is drawn."""

    index: int
    seed: int
    patient: int
    study: int
    sex: str
    age: int
    present: dict[str, Planted]
    labels: dict[str, int | None]
    body: Body
    take: Take

    def view(self) -> str:
        return "AP" if "AP view" in self.present else "PA"

    def generator(self, name: str) -> np.random.Generator:
        """The random numbers of one part of the drawing: no finding changes the luck of another."""
        return np.random.default_rng([self.seed, DRAWING, self.patient, self.study, *name.encode()])


def plan(images: int, seed: int, start: int = 0) -> Iterator[Study]:
    """Studies `start` to `images` of the cohort of `seed`; patients own one to four of them, in order."""
    # random(n) gives the same first numbers for every n, so patients do not depend on how many pictures are wanted.
    luck = np.random.default_rng([seed, COUNT]).random(images)
    counts = 1 + np.searchsorted(np.cumsum(probabilities.STUDIES)[:-1], luck, side="right")
    ends = np.cumsum(counts)
    first = int(np.searchsorted(ends, start, side="right"))
    for patient in range(first, images):
        begin = int(ends[patient] - counts[patient])
        if begin >= images:
            return
        for study in _patient(seed, patient, begin, int(counts[patient])):
            if start <= study.index < images:
                yield study


def _patient(seed: int, patient: int, begin: int, n: int) -> Iterator[Study]:
    rng, sex, age, facts, lasting = _who(seed, patient)
    body = _body(rng, sex, age, lasting)
    for number in range(n):
        luck = np.random.default_rng([seed, STUDY, patient, number])
        present = probabilities.draw_study(luck, facts, lasting)
        labels = probabilities.write_labels(luck, present)
        yield Study(begin + number, seed, patient + 1, number + 1, sex, min(age + number, 92), present, labels, body,
                    _take(luck, present))  # fmt: skip


_Who = tuple[np.random.Generator, str, int, dict[str, bool], dict[str, Planted]]


def _who(seed: int, patient: int) -> _Who:
    """The patient's generator, as it stands before the body is drawn; sex, age, facts, and what lasts."""
    rng = np.random.default_rng([seed, PATIENT, patient])
    sex = "Female" if rng.random() < probabilities.FEMALE else "Male"
    age = int(np.clip(rng.normal(60, 17), 18, 92))
    facts = {"ill": bool(rng.random() >= probabilities.SCREENING), "old": age > 65}
    return rng, sex, age, facts, probabilities.draw_lasting(rng, facts)


def body_as(study: Study, sex: str, age: int) -> Body:
    """The body of this patient, were the sex and the age at the first study these: the same random numbers.

    What the other sex has no number for (`_body` draws the breasts of women only) moves nothing that comes after it.
    """
    rng, own_sex, *_, lasting = _who(study.seed, study.patient - 1)
    body = _body(rng, own_sex, age, lasting)
    if sex == own_sex:
        return body
    other = _body(_who(study.seed, study.patient - 1)[0], sex, age, lasting)
    return replace(body, width=other.width, height=other.height, shoulders=other.shoulders,
                   breast_mm=other.breast_mm)  # fmt: skip


def take_as(study: Study, present: dict[str, Planted]) -> Take:
    """How this picture would be taken of a patient with `present`: the same random numbers."""
    luck = np.random.default_rng([study.seed, STUDY, study.patient - 1, study.study - 1])
    # What is drawn before it takes as many numbers whoever the patient is.
    probabilities.draw_study(luck, {}, {})
    probabilities.write_labels(luck, {})
    return _take(luck, present)


def large_heart(severity: float) -> float:
    """Cardiothoracic ratio on a PA picture of a heart that is enlarged, 0.535 (mild) to 0.66 (severe)."""
    return 0.535 + 0.125 * severity


def _body(rng: np.random.Generator, sex: str, age: int, lasting: dict[str, Planted]) -> Body:
    female = sex == "Female"
    old = float(np.clip((age - 35) / 50, 0, 1))
    heart = lasting.get("Cardiomegaly")
    ratio = large_heart(heart.severity) if heart else float(rng.uniform(0.40, 0.475))
    fat = float(np.clip(rng.normal(0.05, 0.10), -0.08, 0.32))
    waves = np.stack([rng.normal(0, 1.3, 6), rng.normal(0, 1.3, 6), rng.uniform(-0.022, 0.022, 6),
                      rng.uniform(-0.022, 0.022, 6), rng.uniform(0, 6.3, 6)], 1)  # fmt: skip
    return Body(
        width=float(rng.normal(0.97 if female else 1.02, 0.045)) + 0.15 * fat,
        height=float(rng.normal(0.96 if female else 1.01, 0.04)),
        shoulders=float(rng.normal(-0.02 if female else 0.02, 0.03)),
        waist=float(rng.normal(0.0, 0.05)) + 0.2 * fat,
        fat=fat,
        breast_mm=float(np.clip(rng.normal(27 + 40 * fat, 7), 14, 44)) if female else 0.0,
        ratio=float(ratio),
        bone=float(rng.normal(1.85 - 0.35 * old, 0.12)),
        cartilage=float(np.clip(rng.normal(1.1 * old - 0.2, 0.2), 0, 1.1)),
        aorta_mm=float(np.clip(rng.normal(8 * old, 2), 0, 10)),
        waves=waves,
    )


def _take(rng: np.random.Generator, present: dict[str, Planted]) -> Take:
    portable = "AP view" in present
    borders = rng.uniform(0.0, 0.09, 4) * (rng.random(4) < 0.7)
    wave = rng.uniform(0, 1, 2)
    return Take(
        luck=float(rng.random()),
        roll_degrees=float(np.clip(rng.normal(0, 3.0 if portable else 1.2), -7, 7)),
        inspiration=float(np.clip(rng.normal(-0.35 if portable else 0.25, 0.5), -1, 1)),
        raised=(float(14 * wave[0] ** 4), float(14 * wave[1] ** 4)),
        arms=float(rng.uniform(0, 1.2) if portable else rng.uniform(0.9, 2)),
        field_mm=float(rng.uniform(283, 352)),
        centre_mm=(float(rng.normal(0, 7)), float(rng.normal(4, 10 if portable else 7))),
        exposure=float(rng.normal(-0.15 if portable else 0.1, 0.45)),
        gamma=float(np.exp(rng.normal(0, 0.16))),
        contrast=float(rng.normal(0.86 if portable else 1.0, 0.09)),
        noise=float(np.exp(rng.normal(-4.5 if portable else -4.9, 0.35))),
        collimation=tuple(borders) if "Collimation" in present else (0.0, 0.0, 0.0, 0.0),  # pyright: ignore
    )
