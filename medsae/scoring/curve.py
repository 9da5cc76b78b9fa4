"""How a mean entropy depends on how many pictures were scored, and where it would end.

Few pictures make every |rho| partly noise, and noise is spread evenly over the labels: entropy at n pictures is not
that of the population. Patients are cut into ten groups whose sums add, so that every subset of groups costs no pass
over the activations: all pictures, halves and fifths of the patients, and the same with each group left out (the
jackknife, which gives the error of anything that is computed from the curve). The curve is extended to endless
pictures by H(n) = a + b / sqrt(n) + c / n; of the corrections tried it alone covers known populations
(docs/decisions/100).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsae.scoring.activity import Held
from medsae.scoring.design import Design
from medsae.scoring.draws import Groups, Patients, Sums, sums_of_draws
from medsae.scoring.entropy import entropy_bits
from medsae.scoring.measures import mean_over
from medsae.scoring.offered.entropy import FIRING

GROUPS = 10
PARTS = (1, 2, 5)
"""Into how many parts the patients are cut: all, halves, fifths."""
ALL = -1
"""`left_out` of the rows where no group is left out."""


@dataclass(frozen=True)
class Curve:
    """Mean entropy (bits) of subsets of the patients: one row a number of parts and group left out, their mean."""

    rows: pd.DataFrame
    """left_out (-1: none), parts, images a part, mean_entropy, neurons it is over."""


def entropy_curve(held: Held, design: Design, patients: Patients, seed: int, active_m: NDArray[np.int64]) -> Curve:
    """The curve of the mean entropy of Eq. 5 over the neurons that fire on at least `FIRING` images.

    Nothing can be said about where the others would end. No rows with fewer than 40 patients.
    """
    columns = ["left_out", "parts", "images", "mean_entropy", "neurons"]
    if len(patients.size_p) < 4 * GROUPS:
        return Curve(pd.DataFrame({c: np.zeros(0) for c in columns}).astype({"left_out": int, "parts": int}))
    groups = list(sums_of_draws(held, design.y_nk, design.mask_nk, Groups(patients, GROUPS, seed)))
    _, images = np.unique(np.random.default_rng([seed, 5]).permutation(len(patients.size_p)) % GROUPS,
                          return_counts=True)  # fmt: skip
    per_patient = len(patients.code_n) / len(patients.size_p)
    rows = []
    for left_out in (ALL, *range(GROUPS)):
        kept = [g for g in range(GROUPS) if g != left_out]
        for parts in PARTS:
            # A neuron that fires on few pictures is silent in some parts: its mean is over the others, so that (nearly)
            # the same neurons are in every mean.
            bits_pm = np.stack([_bits(_total([groups[g] for g in part])) for part in _cut(kept, parts)])
            known_m = np.isfinite(bits_pm).sum(0)
            each_m = np.nansum(bits_pm, axis=0) / np.maximum(known_m, 1)
            mean, neurons = mean_over(each_m, (known_m > 0) & (active_m >= FIRING))
            rows.append((left_out, parts, per_patient * sum(images[g] for g in kept) / parts, mean, neurons))
    return Curve(pd.DataFrame(rows, columns=columns))


def _cut(groups: list[int], parts: int) -> list[list[int]]:
    return [groups[start::parts] for start in range(parts)]


def _total(groups: list[Sums]) -> Sums:
    total = groups[0]
    for one in groups[1:]:
        total = total + one
    return total


def _bits(sums: Sums) -> NDArray[np.float64]:
    return entropy_bits(sums.correlations()[0])
