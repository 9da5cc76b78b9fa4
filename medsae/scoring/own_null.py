"""The p-values that decide, each from the neuron's own null: `tail.py` for one image a patient, else `clustered.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsae.scoring.activity import Held
from medsae.scoring.auroc import dense_columns
from medsae.scoring.clustered import clustered_tails
from medsae.scoring.draws import Patients
from medsae.scoring.tail import Dealt, binned, tails

PROMISING = 0.05
"""Pooled p-values above this are kept: they are calibrated there, and no decision hangs on them."""


def tail_p(
    held: Held,
    y_nk: NDArray[np.float32],
    mask_nk: NDArray[np.bool_],
    patients: Patients,
    strength_mk: NDArray[np.floating],
    p_m: NDArray[np.float64],
    label_m: NDArray[np.int64],
    scale_m: NDArray[np.float64],
) -> NDArray[np.float64]:
    """`p_m` with the entries at or below `PROMISING` replaced by k times the tail of the neuron's own null.

    `strength_mk`: |rho| sqrt(n - 1) in units of the neuron's null spread (NaN undefined); `label_m`: the closest label;
    `scale_m`: that spread in units of 1 / sqrt(n - 1).
    """
    chosen = np.flatnonzero(p_m <= PROMISING)
    out = p_m.copy()
    if not len(chosen):
        return out
    distance_m = strength_mk[np.arange(len(p_m)), np.maximum(label_m, 0)].astype(np.float64)
    used = np.unique(label_m[chosen])
    if patients.single:
        single = {int(j): Label.of(y_nk[:, j], mask_nk[:, j]) for j in used}
        found = [single[int(label_m[i])].dealt(int(i), rows, z, float(distance_m[i]))
                 for i, rows, z in _columns(held, chosen)]  # fmt: skip
        neurons, tail = np.array([one.neuron for one in found]), tails(found)
    else:
        neurons, tail = clustered_tails(_columns(held, chosen), y_nk, mask_nk, patients, distance_m, scale_m, label_m)
    out[neurons] = np.minimum(1, np.isfinite(strength_mk[neurons]).sum(1) * tail)
    return out


@dataclass(frozen=True)
class Label:
    """A label over the images where it is known."""

    known_n: NDArray[np.bool_]
    units: int
    level: NDArray[np.float64]
    count: NDArray[np.float64]

    @staticmethod
    def of(y_n: NDArray[np.float32], known_n: NDArray[np.bool_]) -> Label:
        level, count = np.unique(y_n[known_n], return_counts=True)
        return Label(known_n, int(known_n.sum()), level.astype(float), count.astype(float))

    def dealt(self, neuron: int, rows: NDArray[np.integer], z: NDArray[np.floating], distance: float) -> Dealt:
        """The neuron whose non-zeros are `z` at the images `rows`."""
        value = z[self.known_n[rows]].astype(float)
        value, weight = binned(value, np.ones(len(value)))
        return Dealt(neuron, value, weight, self.units, self.level, self.count, distance)


def _columns(
    held: Held, neurons: NDArray[np.integer]
) -> Iterator[tuple[int, NDArray[np.integer], NDArray[np.floating]]]:
    """(neuron, images, activations) of some neurons; of a dense representation all images, centred."""
    if held.held is not None:
        for some in held.groups(neurons):
            columns = held.columns(some)
            for at, i in enumerate(some):
                part = slice(columns.indptr[at], columns.indptr[at + 1])
                yield int(i), columns.indices[part], columns.data[part]
        return
    everything = np.arange(held.n)
    for group, z_nc in dense_columns(held):
        for i in neurons[(neurons >= group.start) & (neurons < group.stop)]:
            yield int(i), everything, z_nc[:, i - group.start]
