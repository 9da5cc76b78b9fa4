"""What neurons make of one planted factor, all else being equal (docs/decisions/140).

A pair is the same patient, pose and noise, drawn with and without one factor. The change of a neuron's activation
within a pair has one cause, so it needs no labels, no correlations and no other patients to be held against.
*Specificity* is the share of one factor among all that move a neuron: 1 is a neuron that one factor moves alone,
1 over the number of factors is a neuron that all of them move alike. *Follows* is the share of pairs in which it moves
one way minus that in which it moves the other way. *Recovery* is their product: 1 is a neuron that moves in every
pair of a factor and in no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsae.rates import centred_interval, mean_interval

Floats = NDArray[np.floating]

BOOTSTRAPS = 1000
LEAST_PATIENTS = 8
"""Patients that are needed at least: half of them choose, half of them judge."""


@dataclass(frozen=True)
class Pairs:
    """Which pictures make pairs: numbers of pictures, of p patients, f factors and s severities."""

    before_pf: NDArray[np.intp]
    """Without the factor."""
    after_pfs: NDArray[np.intp]
    """With it, in the order of severities; -1 where a factor has fewer of them."""


@dataclass(frozen=True)
class Answers:
    """What m neurons did in the pairs."""

    change_pfm: Floats
    """Activation with the factor minus without it, mean over the severities."""
    sign_pfm: Floats
    """Mean over the severities of the sign of that change, -1 .. 1; 0 where the activation stays."""
    curve_fsm: Floats
    """Mean activation over the patients: without the factor, then at each severity; NaN where a factor has fewer."""

    def grouped(self, group_f: Sequence[int]) -> Answers:
        """The same for groups of factors, each the mean over its factors; group_f: 0 .. of every factor."""
        group = np.asarray(group_f)
        parts = [np.flatnonzero(group == g) for g in range(group.max() + 1)]
        change, sign = (np.stack([a[:, part].mean(1) for part in parts], 1) for a in (self.change_pfm, self.sign_pfm))
        return Answers(change, sign, np.stack([self.curve_fsm[part].mean(0) for part in parts]))


def answers(z_nm: Floats, pairs: Pairs) -> Answers:
    """Activations [n, m] of the pictures that were drawn -> what the neurons did in the pairs (float32)."""
    p, f, s = pairs.after_pfs.shape
    m = z_nm.shape[1]
    change, sign = np.zeros((p, f, m), np.float32), np.zeros((p, f, m), np.float32)
    curve = np.full((f, s + 1, m), np.nan, np.float32)
    for j in range(f):
        base_pm = z_nm[pairs.before_pf[:, j]]
        curve[j, 0] = base_pm.mean(0)
        there = [k for k in range(s) if (pairs.after_pfs[:, j, k] >= 0).all()]
        for k in there:
            moved_pm = z_nm[pairs.after_pfs[:, j, k]]
            curve[j, k + 1] = moved_pm.mean(0)
            change[:, j] += (moved_pm - base_pm) / len(there)
            sign[:, j] += np.sign(moved_pm - base_pm) / len(there)
    return Answers(change, sign, curve)


def specificity(change_fm: Floats) -> Floats:
    """Mean changes [f, m] -> |change| as a share of the sum over the factors; NaN for a neuron that nothing moves."""
    size_fm = np.abs(change_fm)
    total_m = size_fm.sum(0)
    return np.divide(size_fm, total_m, out=np.full_like(size_fm, np.nan), where=total_m > 0)


def monotone(curve_fsm: Floats) -> Floats:
    """Mean curves [f, s + 1, m] -> |last - first| over the way the curve goes: 1 only rises or only falls, 0 ends where
    it began. NaN for factors of one severity and for curves that stay where they are."""
    step = np.diff(curve_fsm, axis=1)
    net, way = np.abs(step.sum(1)), np.abs(step).sum(1)
    return np.divide(net, way, out=np.full_like(net, np.nan), where=way > 0)


def table(a: Answers, names: Sequence[str]) -> pd.DataFrame:
    """factor, neuron, change, low, high (95 %, by patient), specificity, follows, monotone; a row for every factor and
    every neuron that some factor moves."""
    mean_fm = a.change_pfm.mean(0, dtype=np.float64)
    low, high = mean_interval(a.change_pfm)
    columns = {"change": mean_fm, "low": low, "high": high, "specificity": specificity(mean_fm),
               "follows": a.sign_pfm.mean(0), "monotone": monotone(a.curve_fsm)}  # fmt: skip
    live = np.flatnonzero(np.abs(a.change_pfm).max((0, 1)) > 0)
    frame = pd.DataFrame({"factor": np.repeat(np.asarray(names, object), len(live)),
                          "neuron": np.tile(live.astype(np.int32), len(names))})  # fmt: skip
    return frame.assign(**{name: value[:, live].ravel().astype(np.float64) for name, value in columns.items()})


def halves(patients: int, seed: int) -> NDArray[np.bool_]:
    """True for the patients of the half that chooses."""
    chooses = np.zeros(patients, bool)
    chooses[np.random.default_rng([seed, 8]).permutation(patients)[: (patients + 1) // 2]] = True
    return chooses


@dataclass(frozen=True)
class Best:
    """The best neuron of each factor (table), and means over the factors."""

    frame: pd.DataFrame
    """factor, neuron, recovery, low, high, specificity, follows, change, monotone, reason; judged on the other
    patients."""
    recovery: float
    low: float
    high: float
    specificity: float
    found: int
    """Factors that some neuron was chosen for; the others count as 0 in the means."""


def best(a: Answers, names: Sequence[str], chooses_p: NDArray[np.bool_], seed: int) -> Best:
    """Choose on one half of the patients, judge on the other.

    Chosen is the neuron with the largest specificity times |follows| of those whose change is settled (its 95 %
    interval on the choosing patients leaves out 0): by specificity alone, neurons that one picture moves would win. On
    the other patients everything counts in the direction in which it was chosen, so that what was chance comes out
    near 0. Intervals: bootstrap by patient.
    """
    low, high = mean_interval(a.change_pfm[chooses_p])
    mean_fm = a.change_pfm[chooses_p].mean(0, dtype=np.float64)
    score_fm = specificity(mean_fm) * np.abs(a.sign_pfm[chooses_p].mean(0))
    score_fm = np.where((low > 0) | (high < 0), score_fm, -1.0)
    monotone_fm = monotone(a.curve_fsm)
    count = int((~chooses_p).sum())
    weight_bq = np.random.default_rng([seed, 9]).multinomial(count, np.full(count, 1 / count), BOOTSTRAPS) / count
    rows, drawn = [], np.zeros((BOOTSTRAPS, len(names)))
    for j, (name, neuron) in enumerate(zip(names, score_fm.argmax(1), strict=True)):
        if score_fm[j, neuron] < 0:
            rows.append({"factor": name, "reason": "no neuron's change is settled"})
            continue
        direction = np.sign(mean_fm[j, neuron])
        profile_qf = a.change_pfm[~chooses_p, :, neuron].astype(np.float64) * direction
        sign_q = a.sign_pfm[~chooses_p, j, neuron].astype(np.float64) * direction
        share, follows = float(_share(profile_qf.mean(0), j)), float(sign_q.mean())
        value = share * max(follows, 0)
        drawn[:, j] = _share(weight_bq @ profile_qf, j) * np.maximum(weight_bq @ sign_q, 0)
        ends = np.clip(centred_interval(value, drawn[:, j]), -1, 1)
        rows.append({
            "factor": name, "neuron": int(neuron), "recovery": value, "low": ends[0], "high": ends[1],
            "specificity": share, "follows": follows,
            "change": direction * profile_qf[:, j].mean(), "monotone": monotone_fm[j, neuron],
        })  # fmt: skip
    columns = ["factor", "neuron", "recovery", "low", "high", "specificity", "follows", "change", "monotone", "reason"]
    frame = pd.DataFrame(rows).reindex(columns=columns).astype({"neuron": "Int32", "reason": object})
    value, share = (float(frame[name].fillna(0.0).mean()) for name in ("recovery", "specificity"))
    return Best(frame, value, *centred_interval(value, drawn.mean(1)), share, int(frame["neuron"].notna().sum()))


def _share(change: Floats, j: int) -> Floats:
    """Signed share of factor j among the changes [..., f]; 0 where nothing changes."""
    total = np.abs(change).sum(-1)
    return np.divide(change[..., j], total, out=np.zeros_like(total), where=total > 0)
