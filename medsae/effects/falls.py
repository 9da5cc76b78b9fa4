"""How well a read-out still tells a label when a neuron is set to 0, or when it alone is kept.

Setting a neuron to its maximum on every image adds a constant to setting it to 0 there, and AUROC knows no constants:
the two are one number. Only the images on which the neuron fires move, so only they are ranked anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from medsae.arrays import ranks

LIKE = 20
"""Neurons of like density that a neuron is compared with."""


def _below(value: NDArray[np.floating], sorted_: NDArray[np.floating]) -> NDArray[np.float64]:
    """How many of `sorted_` lie below each value; equal ones count half."""
    return (np.searchsorted(sorted_, value, "left") + np.searchsorted(sorted_, value, "right")) / 2


def areas(score_nr: NDArray[np.floating], y_n: NDArray[np.floating]) -> NDArray[np.float64]:
    """AUROC of each column of scores, ties counted half; NaN without positives or negatives."""
    positive = y_n > 0
    p, n = int(positive.sum()), int((~positive).sum())
    if not p or not n:
        return np.full(score_nr.shape[1], np.nan)
    return (np.stack([ranks(score_n)[positive] for score_n in score_nr.T], axis=1).sum(0) - p * (p + 1) / 2) / (p * n)


@dataclass(frozen=True)
class Ranked:
    """Scores of one read-out over the images where its label is known, ready to be asked many times."""

    score_n: NDArray[np.float64]
    positive_n: NDArray[np.bool_]
    use_n: NDArray[np.bool_]
    high: NDArray[np.float64]
    """Scores of the positives, sorted."""
    low: NDArray[np.float64]
    """Of the negatives."""

    @staticmethod
    def of(score_n: NDArray[np.floating], y_n: NDArray[np.floating], use_n: NDArray[np.bool_]) -> Ranked:
        positive = (y_n > 0) & use_n
        score = np.asarray(score_n, float)
        return Ranked(score, positive, use_n, np.sort(score[positive]), np.sort(score[use_n & ~positive]))

    @property
    def pairs(self) -> float:
        return float(len(self.high)) * len(self.low)

    def area(self) -> float:
        """AUROC; NaN without positives or negatives."""
        return float(_below(self.high, self.low).sum() / self.pairs) if self.pairs else float("nan")

    def fall(self, image: NDArray[np.integer], change: NDArray[np.floating]) -> float:
        """AUROC before minus AUROC after the scores of these images change; 0 where none of them is known."""
        if not self.pairs:
            return float("nan")
        kept = self.use_n[image]
        image, change = image[kept], np.asarray(change, float)[kept]
        positive = self.positive_n[image]
        before = self.score_n[image]
        after = before + change
        p0, p1, n0, n1 = before[positive], after[positive], np.sort(before[~positive]), np.sort(after[~positive])
        # Moved positives against all negatives as they were, against the moved ones, then unmoved against the moved.
        gained = (_below(p1, self.low) - _below(p0, self.low)).sum()
        gained += (_below(p1, n1) - _below(p1, n0)).sum()
        moved = np.sort(p0)
        rest = len(self.high) - len(p0)
        above = [
            rest - (_below(n, self.high) - _below(n, moved)).sum() / max(len(n), 1) if len(n) else 0.0 for n in (n1, n0)
        ]
        gained += (above[0] - above[1]) * len(n1)
        return float(-gained / self.pairs)

    def alone(self, image: NDArray[np.integer], value: NDArray[np.floating]) -> float:
        """AUROC of a neuron's contribution by itself: `value` on these images, 0 on all others."""
        if not self.pairs:
            return float("nan")
        kept = self.use_n[image]
        image, value = image[kept], np.asarray(value, float)[kept]
        positive = self.positive_n[image]
        high, low = np.sort(value[positive]), np.sort(value[~positive])
        silent_high, silent_low = len(self.high) - len(high), len(self.low) - len(low)
        zero = np.zeros(1)
        won = _below(high, low).sum() + silent_low * _below(high, zero).sum()
        won += silent_high * (len(low) - _below(low, zero).sum()) + silent_high * silent_low / 2
        return float(won / self.pairs)


def of_like_density(
    fall_mr: NDArray[np.float64], active_m: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median and largest fall [m, r] among the `LIKE` neurons that fire on the most similar number of images."""
    order = np.argsort(active_m, kind="stable")
    middle, most = np.full(fall_mr.shape, np.nan), np.full(fall_mr.shape, np.nan)
    live = order[active_m[order] > 0]
    for place, neuron in enumerate(live):
        first = max(0, min(place - LIKE // 2, len(live) - LIKE - 1))
        rivals = live[first : first + LIKE + 1]
        rivals = rivals[rivals != neuron]
        if len(rivals):
            middle[neuron], most[neuron] = np.median(fall_mr[rivals], axis=0), fall_mr[rivals].max(0)
    return middle, most


def difference(
    before_n: NDArray[np.floating], after_n: NDArray[np.floating], y_n: NDArray[np.floating],
    patient_n: NDArray[np.integer],
) -> tuple[float, float, float, float, float]:  # fmt: skip
    """(AUROC before, after, after minus before, its 95 % interval) of two scores of the same images.

    The structural components of both areas (DeLong et al. 1988, Biometrics 44:837) are subtracted image by image and
    summed by patient before squaring (Obuchowski 1997, Biometrics 53:567). NaN with fewer than 2 of either kind.
    """
    positive = y_n > 0
    p, n = int(positive.sum()), int((~positive).sum())
    if p < 2 or n < 2:
        nan = float("nan")
        return nan, nan, nan, nan, nan
    _, code = np.unique(patient_n, return_inverse=True)
    parts, areas = [], []
    for score in (before_n, after_n):
        rank = ranks(score)
        own = np.empty(len(score))
        own[positive] = (rank[positive] - ranks(score[positive])) / n
        own[~positive] = 1 - (rank[~positive] - ranks(score[~positive])) / p
        areas.append(float(own[positive].mean()))
        parts.append((own - areas[-1]) / np.where(positive, p, n))
    sums = np.bincount(code, parts[1] - parts[0])
    half = float(ndtri(0.975) * np.sqrt((sums**2).sum() * len(sums) / max(len(sums) - 1, 1)))
    change = areas[1] - areas[0]
    return areas[0], areas[1], change, change - half, change + half
