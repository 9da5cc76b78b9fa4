"""A map as a transparent picture that lies over a radiograph: red where a cell raises the neuron, blue where it lowers
it, yellow the outline of what was planted or marked."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from medsae.store import maps
from medsae.store.artifacts import Artifact
from medsae.store.reader import Reader

RAISES, LOWERS, MARKED = (255, 86, 60), (70, 140, 255), (255, 224, 70)
OPACITY = 0.8
"""Of the whole layer, where a page lets nobody choose."""
LONGEST = 132
"""Longer side of an overlay in px: that of a thumbnail, so an outline stays sharp."""


SWITCH = (
    '<p><label><input type="checkbox" id="maps" accesskey="m" checked> where it looks (red raises the neuron, '
    "blue lowers it, yellow: what was planted or marked)</label></p>"
)
STYLE = f""".ms-over {{ opacity: {OPACITY}; }} body:has(#maps:not(:checked)) .ms-over {{ display: none; }}"""
"""Of a page of HTML that needs nothing else: a box that shows the layers or takes them away."""


@dataclass(frozen=True)
class Layer:
    """What lies over one radiograph."""

    webp: bytes
    total: float
    """Sum of the map."""
    constant: float
    """The rest of the pre-activation."""


def layers(reader: Reader, scores: Artifact, cohort: Artifact, neuron: int, images: list[int]) -> dict[int, Layer]:
    """Of those images that have a map of the neuron, with the outlines of the findings that it tells best (of all,
    where there is none); one scale for all of them. {} for scores without maps."""
    if maps.missing(scores):
        return {}
    found = maps.of_neuron(reader, scores, neuron)
    size_of = maps.sizes(reader, cohort, [i for i in images if i in found])
    if not size_of:
        return {}
    grid = maps.grid(reader, scores)
    marks = maps.outlines(reader, cohort, size_of, maps.told(reader, scores, neuron), LONGEST)
    most = max(float(np.abs(found[i][0]).max()) for i in size_of) or 1.0
    made = {}
    for image, size in size_of.items():
        map_c, constant = found[image]
        webp = drawn(grid.spread(map_c / most, size, LONGEST), marks.get(image))
        made[image] = Layer(webp, float(map_c.sum()), constant)
    return made


def drawn(value_hw: np.ndarray, mask: np.ndarray | None = None) -> bytes:
    """-1 .. 1 (NaN: nothing known) [h, w] and the outline of a mask of any size as a WebP with transparency."""
    known = np.nan_to_num(value_hw)
    rgba = np.zeros((*known.shape, 4), np.uint8)
    rgba[..., :3] = np.where(known[..., None] >= 0, RAISES, LOWERS)
    rgba[..., 3] = (255 * np.abs(known).clip(0, 1) ** 0.7).astype(np.uint8)
    if mask is not None:
        small = np.asarray(Image.fromarray(mask).resize(known.shape[::-1], Image.Resampling.NEAREST))
        rgba[edge(small)] = (*MARKED, 255)
    out = io.BytesIO()
    Image.fromarray(rgba).save(out, "WEBP", quality=70, method=2)
    return out.getvalue()


def edge(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask that touch what is outside it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
