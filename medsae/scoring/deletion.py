"""Is a map what the neuron rests on? Its region of the picture is replaced, and the neuron's value falls, or not.

The region is contiguous: it grows from the map's strongest place to the strongest neighbour, until it has a fixed share
of the picture (scattered cells leave every structure visible and are no fair test). What is put there is the mean of
pictures on which the neuron does not fire. The same is done with the region of another firing neuron's map, and with
one that grows in noise: any hole makes a value fall. docs/decisions/144.
"""

from __future__ import annotations

import heapq
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from medsae.scoring.draws import Patients, mean_by_patient

BLOCKS = 16
"""The square that a network sees is cut into so many rows and columns of blocks."""
SHARE = 1 / 8
"""Of the picture's blocks that are replaced."""
LEAST = 5
"""Pictures that a mean fall needs."""


def grow(value_bb: NDArray[np.floating], allowed_bb: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """The region of `count` blocks (fewer where no more are connected) that begins at the largest allowed value and
    takes in its strongest neighbour (above, below, left, right), again and again."""
    taken = np.zeros(value_bb.shape, bool)
    if count < 1 or not allowed_bb.any():
        return taken
    first = int(np.where(allowed_bb, value_bb, -np.inf).argmax())
    rows, columns = value_bb.shape
    seen, edge = {first}, [(-float(value_bb.flat[first]), first)]
    for _ in range(count):
        if not edge:
            break
        at = heapq.heappop(edge)[1]
        taken.flat[at] = True
        r, c = divmod(at, columns)
        for y, x in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
            near = y * columns + x
            if 0 <= y < rows and 0 <= x < columns and allowed_bb[y, x] and near not in seen:
                seen.add(near)
                heapq.heappush(edge, (-float(value_bb[y, x]), near))
    return taken


@dataclass(frozen=True)
class Deletion:
    """Mean falls over pictures, as shares of the value before (1: nothing is left, below 0: it rose); NaN with a reason
    where there are too few."""

    n: int
    """Pictures."""
    fall: float
    """With the region of the neuron's own map replaced."""
    low: float
    """95 %, bootstrap by patient."""
    high: float
    other: float
    """With the region of another firing neuron's map on the same picture."""
    random: float
    """With a region that grew in noise."""
    minus_other: float
    """fall - other: what the map knows beyond any other."""
    minus_low: float
    """95 %, bootstrap by patient."""
    minus_high: float
    reason: str = ""


def deletion(fall_n3: NDArray[np.floating], patients: Patients, draws: int = 1000, seed: int = 0) -> Deletion:
    """Falls [n, 3] of own map, other map, noise -> means with intervals."""
    n = len(fall_n3)
    if n < LEAST:
        nan = float("nan")
        return Deletion(n, nan, nan, nan, nan, nan, nan, nan, nan, f"{n} pictures, {LEAST} are needed")
    rng = np.random.default_rng([seed, 17])
    own, other, random = (float(v) for v in fall_n3.mean(0))
    low, high = mean_by_patient(fall_n3[:, 0], patients, draws, rng)
    minus = mean_by_patient(fall_n3[:, 0] - fall_n3[:, 1], patients, draws, rng)
    return Deletion(n, own, low, high, other, random, own - other, *minus)


def table_row(found: Deletion) -> dict[str, object]:
    """The columns of the table `deletion`, NULL (None) for NaN and for no reason."""
    row: dict[str, object] = {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in asdict(found).items()}
    return row | {"reason": found.reason or None}
