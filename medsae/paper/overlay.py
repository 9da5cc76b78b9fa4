"""A map as a transparent picture that lies over a radiograph: red where a cell raises the neuron, blue where it lowers
it, yellow the outline of what was planted or marked."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

RAISES, LOWERS, MARKED = (255, 86, 60), (70, 140, 255), (255, 224, 70)
OPACITY = 0.8
"""Of the whole layer, where a page lets nobody choose."""


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
