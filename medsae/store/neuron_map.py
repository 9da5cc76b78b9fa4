"""The map of neurons: where each lies, and which lie within an area that somebody drew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medsae.store.artifacts import Artifact
from medsae.store.entropies import has
from medsae.store.reader import Frame, Reader

CORNERS = 24
"""An area is kept with at most so many corners: it stands in an address."""
_PER_UNIT = 500
"""Corners are kept to 1/500 of a map from -1 to 1."""


def places(reader: Reader, scores: Artifact) -> Frame | None:
    """neuron, x, y, entropy, density, top_label, top_rho, max_abs_rho, selective of every neuron on the map, by number;
    None where no map was computed then, or the representation has none."""
    if not has(reader, scores, "place"):
        return None
    return reader.query(
        """SELECT neuron, x, y, entropy, density, top_label, top_rho, max_abs_rho, selective
           FROM {s}.place JOIN {s}.neuron USING (neuron) ORDER BY neuron""",
        s=scores,
    )


def written(x: Sequence[float], y: Sequence[float]) -> str:
    """An area as an address holds it, `x.y~x.y~...` in whole 500ths; corners that say least are left out."""
    at = np.unique(np.linspace(0, len(x) - 1, min(CORNERS, len(x))).round().astype(int))
    corners = [(round(x[i] * _PER_UNIT), round(y[i] * _PER_UNIT)) for i in at]
    return "~".join(f"{a}.{b}" for a, b in corners)


def box(x: Sequence[float], y: Sequence[float]) -> str:
    """A rectangle between two opposite corners as an area."""
    return written([x[0], x[1], x[1], x[0]], [y[0], y[0], y[1], y[1]])


def corners(area: str) -> np.ndarray | None:
    """float [corners, 2] of an area as an address holds it; None where it is none."""
    found = []
    for corner in area.split("~")[: CORNERS + 1]:
        a, dot, b = corner.partition(".")
        if not (dot and _whole(a) and _whole(b)):
            return None
        found.append((int(a) / _PER_UNIT, int(b) / _PER_UNIT))
    return np.array(found) if 3 <= len(found) <= CORNERS else None


def _whole(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= 4


def inside(places: Frame, area: np.ndarray) -> set[int]:
    """Neurons of `places` within a polygon [corners, 2]: a ray to the right crosses its border an odd number of
    times."""
    x, y = places["x"].to_numpy(), places["y"].to_numpy()
    odd = np.zeros(len(x), bool)
    for (x1, y1), (x2, y2) in zip(area, np.roll(area, -1, axis=0), strict=True):
        if y1 != y2:
            crosses = ((y1 > y) != (y2 > y)) & (x < x1 + (x2 - x1) * (y - y1) / (y2 - y1))
            odd ^= crosses
    return {int(n) for n in places["neuron"].to_numpy()[odd]}
