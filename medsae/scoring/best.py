"""The best neuron of each label, chosen on one half of the patients and judged on the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsae.scoring.activity import Held
from medsae.scoring.auroc import Area, auroc_all, auroc_interval, columns_of
from medsae.scoring.draws import Patients

LEAST = 5
"""Positive and negative images that each half needs."""


@dataclass(frozen=True)
class Best:
    """The best neuron of one label. Areas are of `direction * z`, so that they lie above 0.5 where the choice held.

    `chosen` is the best of m neurons on the images it was chosen on: too good by construction (the winner's curse).
    `other` is the same neuron on patients that had no say in the choice: the number to believe.
    """

    neuron: int | None
    """None where the label has too few images (`reason`)."""
    direction: int
    """1: fires for the label; -1: fires for its absence."""
    chosen: float
    other: Area
    whole_neuron: int | None
    """The best neuron on all images together, ..."""
    whole_direction: int
    whole: Area
    """... whose area and interval are too good in the same way as `chosen`."""
    reason: str = ""


def halves(patients: Patients, seed: int) -> NDArray[np.bool_]:
    """True for the images of one random half of the patients [n] (the half that chooses)."""
    count = len(patients.size_p)
    chooses = np.zeros(count, bool)
    chooses[np.random.default_rng([seed, 3]).permutation(count)[: (count + 1) // 2]] = True
    return chooses[patients.code_n]


def best_neurons(
    held: Held, y_nk: NDArray[np.floating], mask_nk: NDArray[np.bool_], patients: Patients, seed: int,
    signed: bool = True,
) -> list[Best]:  # fmt: skip
    """For each label the neuron with the highest AUROC, on half of the patients, judged on the other half.

    `signed`: a neuron may also tell by its absence (AUROC below 0.5 counts as 1 - AUROC, the sign is kept). The halves
    depend on patients and seed only: every representation of the same images is chosen and judged on the same halves.
    """
    first_n = halves(patients, seed)
    half_mk, whole_mk = auroc_all(held, y_nk, [mask_nk & first_n[:, None], mask_nk])
    picks: list[tuple[str, tuple[int, int, float], tuple[int, int, float]]] = []
    for j in range(y_nk.shape[1]):
        known, positive = mask_nk[:, j], y_nk[:, j] > 0
        counts = [int((known & side & kind).sum()) for side in (first_n, ~first_n) for kind in (positive, ~positive)]
        reason = "" if min(counts) >= LEAST else (
            f"{counts[0]} + {counts[2]} positive and {counts[1]} + {counts[3]} negative images in the two halves of "
            f"the patients; each needs {LEAST}"
        )  # fmt: skip
        picks.append((reason, _pick(half_mk[:, j], signed), _pick(whole_mk[:, j], signed)))
    neurons = np.unique([pick[0] for _, *both in picks for pick in both])
    column = _columns(held, neurons)
    place = {int(neuron): c for c, neuron in enumerate(neurons)}
    out = []
    for j, (reason, (neuron, sign, chosen), (all_neuron, all_sign, all_value)) in enumerate(picks):
        other_n = mask_nk[:, j] & ~first_n

        def judged(which: int, sign: int, use: NDArray[np.bool_], j: int = j) -> Area:
            return auroc_interval(sign * column(place[which])[use], y_nk[use, j], patients.code_n[use])

        nothing = Area(np.nan, np.nan, np.nan, 0, 0, reason)
        whole = judged(all_neuron, all_sign, mask_nk[:, j]) if np.isfinite(all_value) else nothing
        other = nothing if reason else judged(neuron, sign, other_n)
        out.append(Best(
            None if reason else neuron, sign, np.nan if reason else chosen, other,
            all_neuron if np.isfinite(all_value) else None, all_sign, whole, reason,
        ))  # fmt: skip
    return out


def _columns(held: Held, neurons: NDArray[np.integer]) -> Callable[[int], NDArray[np.float32]]:
    """Activations [n] of one of some neurons by its place among them: of non-zeros one column is made at a time."""
    if held.held is None:
        z_nc = columns_of(held, neurons)
        return lambda c: z_nc[:, c]
    some = held.columns(neurons)
    return lambda c: some[:, [c]].toarray().ravel()


def _pick(area_m: NDArray[np.float64], signed: bool) -> tuple[int, int, float]:
    """(neuron, direction, its area in that direction); a label without an area gives (0, 1, NaN)."""
    oriented = np.where(area_m < 0.5, 1 - area_m, area_m) if signed else area_m
    if not np.isfinite(oriented).any():
        return 0, 1, float("nan")
    neuron = int(np.nanargmax(oriented))
    return neuron, -1 if signed and area_m[neuron] < 0.5 else 1, float(oriented[neuron])
