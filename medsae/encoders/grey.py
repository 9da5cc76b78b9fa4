"""Geometry and intensity that the encoders share: centred on a black square, bicubic, a table of grey values."""

from __future__ import annotations

import numpy as np
from PIL import Image


def square(picture: np.ndarray, size: int) -> np.ndarray:
    """uint8 grey [h, w] -> uint8 [size, size]: centred on a black square (at least `size`), then bicubic.

    Rounding of the offset and the 8-bit result of the resampling are those of Pillow, which MedCLIP's code uses.
    Raises ValueError for anything but a non-empty uint8 matrix.
    """
    if picture.dtype != np.uint8 or picture.ndim != 2 or picture.size == 0:
        raise ValueError(f"a picture must be a uint8 matrix, not {picture.dtype} {list(picture.shape)}")
    picture = on_black_square(picture, size)
    if len(picture) == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))


def on_black_square(picture: np.ndarray, least: int = 0) -> np.ndarray:
    """The picture [h, w] in the middle of a black square, of at least `least` px a side."""
    h, w = picture.shape
    side = max(least, h, w)
    if h == w == side:
        return picture
    canvas = np.zeros((side, side), picture.dtype)
    top, left = (side - h) // 2, (side - w) // 2
    canvas[top : top + h, left : left + w] = picture
    return canvas


def standardised(mean: float, std: float) -> np.ndarray:
    """float32 [256]: (grey / 255 - mean) / std of each 8-bit grey value."""
    return ((np.arange(256) / 255 - mean) / std).astype(np.float32)
