"""How far people agree with what a neuron does, with the model, and with each other; intervals over patients.

Answers are 1 (yes), 0 (no) and NaN (cannot tell, or not asked); what is NaN is left out, never counted as no.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsae.rates import centred_interval, wilson

DRAWS = 1000
LEAST_PATIENTS = 10
"""With fewer patients a bootstrap over them says nothing: no interval is given."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Number:
    """A number with its 95 % interval and what it was taken over; None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0


def accuracy(fires_n: NDArray[np.bool_], yes_n: Floats) -> Number:
    """Balanced accuracy: mean of the share of firing images said yes to and of silent images said no to; Wilson's
    interval over the images answered, as in the model's detection. None where a side has no answer."""
    good = np.isfinite(yes_n)
    value = _balanced(fires_n[good], yes_n[good], np.ones((1, int(good.sum()))))[0]
    if not np.isfinite(value):
        return Number(None, n=int(good.sum()))
    low, high = wilson(value * good.sum(), good.sum())
    return Number(float(value), float(low), float(high), int(good.sum()))


def difference(fires_n: NDArray[np.bool_], a_n: Floats, b_n: Floats, patient_n: NDArray[np.integer]) -> Number:
    """Balanced accuracy of `a` minus that of `b` on the images that both answered; bootstrap by patient."""
    both = np.isfinite(a_n) & np.isfinite(b_n)
    fires, a, b, patient = fires_n[both], a_n[both], b_n[both], patient_n[both]
    weights = np.concatenate([np.ones((1, len(fires))), draws_of(patient)])
    found = _balanced(fires, a, weights) - _balanced(fires, b, weights)
    return _numbered(found[0], found[1:], patient)


def _balanced(fires: NDArray[np.bool_], yes: Floats, weights: Floats) -> Floats:
    """Balanced accuracy for every row of weights [draws, n]; NaN where a side has no weight."""
    with np.errstate(invalid="ignore", divide="ignore"):
        hits = weights @ (fires * yes) / (weights @ fires)
        passes = weights @ (~fires * (1 - yes)) / (weights @ ~fires)
    return (hits + passes) / 2


def kappa(a_n: Floats, b_n: Floats, patient_n: NDArray[np.integer]) -> Number:
    """Cohen's kappa (1960) of two readers over the images that both answered; bootstrap by patient. None where both
    said the same of every image: there is no agreement by chance to compare with."""
    both = np.isfinite(a_n) & np.isfinite(b_n)
    a, b = a_n[both], b_n[both]
    found = _kappa(a, b, np.concatenate([np.ones((1, len(a))), draws_of(patient_n[both])]))
    return _numbered(found[0], found[1:], patient_n[both])


def _kappa(a: Floats, b: Floats, weights: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weights.sum(1)
        same = (weights @ (a == b)) / total
        yes_a, yes_b = weights @ a / total, weights @ b / total
        chance = yes_a * yes_b + (1 - yes_a) * (1 - yes_b)
        return np.where(chance < 1, (same - chance) / (1 - chance), np.nan)


def alpha(said_rn: Floats, patient_n: NDArray[np.integer]) -> Number:
    """Krippendorff's alpha (nominal values; Computing Krippendorff's alpha-reliability, 2011) of readers x images, NaN
    where a reader did not answer; bootstrap by patient over the images that two or more answered. None where all
    answers are the same."""
    values = np.unique(said_rn[np.isfinite(said_rn)])
    counts = np.stack([(said_rn == value).sum(0) for value in values], axis=1) if len(values) else np.zeros((0, 0))
    shared = counts.sum(1) >= 2
    counts, patient = counts[shared].astype(float), patient_n[: len(shared)][shared]
    found = _alpha(counts, np.concatenate([np.ones((1, len(counts))), draws_of(patient)]) if len(counts) else None)
    return _numbered(found[0], found[1:], patient)


def _alpha(counts: Floats, weights: Floats | None) -> Floats:
    """Alpha of images x values (how many readers said which) for every row of weights [draws, images]: 1 minus the
    disagreement observed over that of all answers exchanged at random."""
    if weights is None:
        return np.array([np.nan])
    answers = counts.sum(1)
    observed = weights @ ((answers**2 - (counts**2).sum(1)) / (answers - 1))
    total, of_value = weights @ answers, weights @ counts
    with np.errstate(invalid="ignore", divide="ignore"):
        found = 1 - (total - 1) * observed / (total**2 - (of_value**2).sum(1))
    return np.where((of_value > 0).sum(1) > 1, found, np.nan)


def draws_of(patient_n: NDArray[np.integer], draws: int = DRAWS, seed: int = 0) -> Floats:
    """float64 [draws, n]: how often each image counts when patients are drawn with replacement."""
    if not len(patient_n):
        return np.zeros((0, 0))
    _, unit = np.unique(patient_n, return_inverse=True)
    units = int(unit.max()) + 1
    times = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=draws)
    return times[:, unit].astype(float)


def _numbered(value: float, draws: Floats, patient_n: NDArray[np.integer]) -> Number:
    if not np.isfinite(value):
        return Number(None, n=len(patient_n))
    if len(np.unique(patient_n)) < LEAST_PATIENTS:
        return Number(float(value), n=len(patient_n))
    low, high = centred_interval(float(value), draws)
    found = [float(np.clip(v, -1, 1)) if np.isfinite(v) else None for v in (low, high)]
    return Number(float(value), found[0], found[1], len(patient_n))
