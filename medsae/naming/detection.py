"""How well verdicts match activations (the detection score of Paulo et al. 2025; paper, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np

from medsae.rates import wilson


@dataclass(frozen=True)
class Detection:
    """The score of one name on one set of pictures. Every number is None when nothing could be judged."""

    asked: int
    """Pictures put to the judge."""
    judged: int
    """Verdicts that could be used; coverage is judged / asked."""
    correct: int
    """Verdicts that match the activations."""
    accuracy: float | None
    """`strict`: balanced accuracy (mean of the shares of firing and of silent pictures that were right); `paper`:
    correct / judged. None when a side has no usable verdict (strict)."""
    low: float | None
    """95 % Wilson interval of the accuracy over the judged pictures."""
    high: float | None
    sensitivity: float | None
    """Share of firing pictures judged yes."""
    specificity: float | None
    """Share of silent pictures judged no."""
    auroc: float | None
    """Chance that a firing picture has a higher probability of yes than a silent one (ties count half); None without
    probabilities."""
    p: float | None
    """One-sided exact test (Fisher) of more agreement than chance, given how often the judge says yes; a judge who
    always says the same has p = 1."""

    @property
    def coverage(self) -> float:
        return self.judged / self.asked if self.asked else 0.0


def detect(fires_n: np.ndarray, yes_n: np.ndarray, p_n: np.ndarray, balanced: bool) -> Detection:
    """The score of verdicts.

    fires_n: bool, the picture excites the neuron; yes_n: 1 yes, 0 no, NaN failed; p_n: probability of yes in 0 .. 1 or
    NaN. Failed verdicts are left out, never counted as no. `balanced`: see Detection.accuracy.
    """
    fires_n, yes_n, p_n = np.asarray(fires_n, bool), np.asarray(yes_n, float), np.asarray(p_n, float)
    assert fires_n.shape == yes_n.shape == p_n.shape
    good = np.isfinite(yes_n)
    fires, yes = fires_n[good], yes_n[good] > 0.5
    positives, negatives = int(fires.sum()), int((~fires).sum())
    n, hits = positives + negatives, int((fires & yes).sum())
    correct = int((fires == yes).sum())
    sensitivity = hits / positives if positives else None
    specificity = float((~fires & ~yes).sum()) / negatives if negatives else None
    accuracy = correct / n if n else None
    if balanced:
        both = sensitivity is not None and specificity is not None
        accuracy = (sensitivity + specificity) / 2 if both else None  # pyright: ignore[reportOperatorIssue]
    low, high = wilson(accuracy * n, n) if accuracy is not None else (None, None)
    p = None
    if positives and negatives:
        p = fisher(hits, n, positives, int(yes.sum()))
    return Detection(
        len(fires_n), n, correct, accuracy, _number(low), _number(high), sensitivity, specificity,
        auroc(fires, p_n[good]), p,
    )  # fmt: skip


@dataclass(frozen=True)
class Paired:
    """Own name against a control name on the same pictures."""

    more: int
    """Pictures judged right for the own name and wrong for the control's."""
    less: int
    """Pictures judged wrong for the own name and right for the control's."""
    p: float
    """One-sided exact p-value of the own name being judged right more often; 1 where no picture tells the two apart."""


def paired(
    right_n: np.ndarray, control_n: np.ndarray, fires_n: np.ndarray, patient_n: np.ndarray | None = None
) -> Paired | None:
    """The paired exact test of "does this name matter?"; None where no side or no pair is left.

    right_n, control_n: 1 the verdict for the own (the control's) name was right, 0 wrong, NaN none; fires_n: bool, the
    picture excites the neuron; patient_n: equal for pictures of one patient (None: every picture has its own).
    Pictures without both verdicts are left out, and as many firing as silent ones are kept, in the given order: a judge
    who does not look, but says yes more often to one name than to another, is then right as often for both.

    With one picture a patient it is McNemar's exact test (binomial over the pictures that tell the names apart). With
    several the own and the control's verdicts are exchanged for a patient's pictures together, in all ways.
    """
    right_n, control_n, fires_n = np.asarray(right_n, float), np.asarray(control_n, float), np.asarray(fires_n, bool)
    both = np.isfinite(right_n) & np.isfinite(control_n)
    sides = [np.flatnonzero(both & (fires_n == side)) for side in (True, False)]
    n = min(len(side) for side in sides)
    if n == 0:
        return None
    kept = np.concatenate([side[:n] for side in sides])
    return exchanged(right_n[kept] - control_n[kept], None if patient_n is None else np.asarray(patient_n)[kept])


def exchanged(difference_n: np.ndarray, patient_n: np.ndarray | None = None) -> Paired:
    """Exact test that differences of -1, 0 and 1 lie above 0, their signs exchanged patient by patient."""
    difference_n = np.asarray(difference_n).astype(int)
    units = difference_n
    if patient_n is not None:
        _, unit_n = np.unique(patient_n, return_inverse=True)
        units = np.bincount(unit_n, difference_n).astype(int)
    sizes = [abs(int(d)) for d in units if d]
    ways = [1]  # ways to reach each sum of those whose sign is plus, in whole numbers
    for size in sizes:
        longer = ways + [0] * size
        for total, count in enumerate(ways):
            longer[total + size] += count
        ways = longer
    reached = (int(units.sum()) + sum(sizes)) // 2
    p = sum(ways[reached:]) / 2 ** len(sizes)
    return Paired(int((difference_n > 0).sum()), int((difference_n < 0).sum()), p)


def fisher(hits: int, n: int, positives: int, yes: int) -> float:
    """Chance of at least `hits` firing pictures among `yes` drawn at random from n, of which `positives` fire.

    Fisher's one-sided exact test, the tail of a hypergeometric distribution, in whole numbers.
    """
    ways = sum(comb(positives, k) * comb(n - positives, yes - k) for k in range(hits, min(positives, yes) + 1))
    return ways / comb(n, yes)


def auroc(fires_n: np.ndarray, p_n: np.ndarray) -> float | None:
    """Area under the ROC curve by ranks (ties half); None without a probability on both sides."""
    known = np.isfinite(p_n)
    fires, p = fires_n[known], p_n[known]
    positives, negatives = int(fires.sum()), int((~fires).sum())
    if not positives or not negatives:
        return None
    _, place, ties = np.unique(p, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]
    return float((ranks[fires].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _number(value: object) -> float | None:
    return None if value is None else float(value)  # pyright: ignore[reportArgumentType]
