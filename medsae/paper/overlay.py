"""A map as a transparent picture that lies over a radiograph: red where a cell raises the neuron, blue where it lowers
it, yellow the outline of what was planted or marked."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

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


def switch(scores: Artifact) -> str:
    """HTML: a box that shows the layers or takes them away, and what they mean."""
    how = "by occlusion, approximate: " if maps.approximate(scores) else ""
    return (
        '<p><label><input type="checkbox" id="maps" accesskey="m" checked> where it looks ('
        f"{how}red raises the neuron, blue lowers it, yellow: what was planted or marked)</label></p>"
    )


STYLE = f""".ms-over {{ opacity: {OPACITY}; }} body:has(#maps:not(:checked)) .ms-over {{ display: none; }}"""
"""Of a page of HTML with that box, which needs nothing else."""


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
    step = np.round(np.nan_to_num(value_hw).clip(-1, 1) * _STEPS).astype(np.int16) + _STEPS
    rgba = _colours()[step]
    if mask is not None:
        if mask.shape != rgba.shape[:2]:
            mask = np.asarray(Image.fromarray(mask).resize(rgba.shape[1::-1], Image.Resampling.NEAREST))
        rgba[edge(mask)] = (*MARKED, 255)
    out = io.BytesIO()
    Image.fromarray(rgba).save(out, "WEBP", quality=70, method=0)  # a page draws 24 of them: the quickest way
    return out.getvalue()


_STEPS = 255


@cache
def _colours() -> np.ndarray:
    """uint8 [2 * _STEPS + 1, 4]: the colour and opacity of -1 .. 1 in steps."""
    value = np.arange(-_STEPS, _STEPS + 1) / _STEPS
    colour = np.where(value[:, None] >= 0, RAISES, LOWERS)
    return np.column_stack([colour, 255 * np.abs(value) ** 0.7]).astype(np.uint8)


def edge(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask that touch what is outside it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
