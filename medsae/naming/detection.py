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
    """One-sided exact test (Fisher) of more agreement than luck, given how often the judge says yes; a judge who always
    says the same has p = 1."""

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
