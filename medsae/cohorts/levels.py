"""Arrays of levels to 8-bit grey: what every decoder ends with. Knows no files and no formats."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

MAX_PIXELS = 64_000_000
"""The largest radiographs have about 18 million pixels (35 x 43 cm at 10 px/mm); the bound is on a worker's memory."""
TABLE_LEVELS = 2**17
"""Integers of fewer levels than this are mapped by a table of all their levels."""
_ALONE, _AT_LEAST = 2e-5, 64
"""A level of a smaller share of the pixels is passed over where a burnt-in border or marker is looked for; the picture
itself has at least so many levels."""
_COLOUR_SPREAD, _COLOUR_SHARE = 48, 0.10
_TINT_SPREAD, _TINT_RISE, _TINT_FALL = 24, 0.25, 0.05


class PictureError(Exception):
    """A picture that cannot be used; the message is the reason shown to the user.

    It begins with "damaged" only where the file is; what the program cannot do begins with "not supported".
    """


def check_size(width: int, height: int) -> None:
    """Raise PictureError where a header names no pixels, or more than a radiograph can have."""
    if width < 1 or height < 1:
        raise PictureError(f"damaged (its header names no pixels: {width} x {height})")
    if width * height > MAX_PIXELS:
        raise PictureError(f"too large ({width} x {height} px, more than {MAX_PIXELS / 1e6:.0f} million pixels)")


def grey_of_colour(image: Image.Image) -> Image.Image:
    """Luma (ITU-R 601) of an 8-bit picture that is grey in truth; raises PictureError where it is in colour.

    Radiographs saved as RGB, tinted film scans and small coloured marks pass; photographs, fused scans and colour maps
    do not. A tint is a colour that follows from the brightness alone; two channels rise with it and none falls.
    """
    if image.mode == "L":
        return image
    red, green, blue = image.split()
    spread = ImageChops.subtract(
        ImageChops.lighter(ImageChops.lighter(red, green), blue), ImageChops.darker(ImageChops.darker(red, green), blue)
    )
    share = sum(spread.histogram()[_COLOUR_SPREAD:]) / (image.width * image.height)
    grey = image.convert("L")
    if share > _COLOUR_SHARE and not _tinted(np.asarray(image), np.asarray(grey)):
        raise PictureError(f"a colour picture, not a radiograph ({share:.0%} of the pixels are coloured)")
    return grey


def _tinted(colour: np.ndarray, luma: np.ndarray) -> bool:
    """Whether uint8 [h, w, 3] is grey under a tint: beside its mean colour at the same luma, a pixel shows little."""
    flat = luma.ravel()
    count = np.bincount(flat, minlength=256)
    used = np.flatnonzero(count)
    far, rising = np.zeros(len(flat), dtype=bool), 0
    for channel in range(3):
        values = colour[..., channel].ravel()
        mean = np.bincount(flat, weights=values, minlength=256) / np.maximum(count, 1)
        rise = float(mean[used[-1]] - mean[used[0]]) / max(1, int(used[-1] - used[0]))
        if rise < -_TINT_FALL:
            return False
        rising += rise >= _TINT_RISE
        far |= np.abs(values - mean[flat]) >= _TINT_SPREAD
    return bool(rising >= 2 and far.mean() <= _COLOUR_SHARE)


def grey_of_channels(levels: np.ndarray, ignore: np.ndarray | None = None) -> np.ndarray:
    """Deep levels [h, w, 1 to 4] (grey, grey + alpha, RGB, RGBA) as uint8 [h, w], without a loss of depth before.

    Luma is taken of the levels themselves, transparent parts become black; then as `grey_of_levels`. Raises
    PictureError for pictures in colour and for levels that are not finite.
    """
    channels = levels.shape[2]
    grey = levels[..., 0]
    if channels >= 3 and not (np.array_equal(grey, levels[..., 1]) and np.array_equal(grey, levels[..., 2])):
        kind = np.float64 if levels.dtype.kind == "f" or levels.itemsize > 2 else np.float32
        parts = levels[..., :3].astype(kind)
        top = float(parts.max())
        eight = np.nan_to_num(parts * (255 / top) if top > 0 else parts).clip(0, 255)
        grey_of_colour(Image.fromarray(eight.astype(np.uint8)))
        luma = parts @ np.array([0.299, 0.587, 0.114], dtype=kind)
        grey = luma if levels.dtype.kind == "f" else np.rint(luma).astype(np.int64)
    if channels in (2, 4):
        alpha = levels[..., -1]
        full = 1.0 if levels.dtype.kind == "f" else float(np.iinfo(levels.dtype).max)
        if alpha.any() and alpha.min() < full:  # transparent everywhere: a mistake of the program that wrote it
            over = grey * (alpha / full)
            grey = over if levels.dtype.kind == "f" else np.rint(over).astype(np.int64)
    return grey_of_levels(grey, ignore)


def grey_of_levels(levels: np.ndarray, ignore: np.ndarray | None = None) -> np.ndarray:
    """Integer or float levels [h, w] as uint8 [h, w]: the 0.1 to 99.9 percentile becomes 0..255, the ends are clipped.

    Monotone and a function of this picture alone. A burnt-in border or marker (one level, farther from all others than
    these are from each other) does not count. One level is never stretched beyond one grey level, so that a blank
    exposure with a little noise stays blank. `ignore` [h, w] marks padding that does not count for the percentiles.
    Raises PictureError for values that are not finite.
    """
    kept = levels if ignore is None or ignore.all() else levels[~ignore]
    if levels.dtype.kind == "f":
        if not np.isfinite(kept).all():
            raise PictureError("holds values that are not finite")
        low, high = np.quantile(kept, (0.001, 0.999), method="inverted_cdf")
        least = np.finfo(np.float32).tiny  # fractions have no smallest step to respect
    else:
        low, high = _percentiles(kept)
        least = 255
    step = 255.0 / max(float(high) - float(low), least)
    if levels.dtype.kind != "f" and (table := _table_range(levels)) is not None:
        first, last, index = table
        shown = np.clip((np.arange(first, last + 1) - float(low)) * step, 0, 255).round().astype(np.uint8)
        return shown[index]
    scaled = np.nan_to_num((levels.astype(np.float64) - float(low)) * step, posinf=255, neginf=0)
    return np.clip(scaled, 0, 255).round().astype(np.uint8)


def _table_range(levels: np.ndarray) -> tuple[int, int, np.ndarray] | None:
    """First and last level of a table and, for each pixel, its place in it; None where the table would be long."""
    first, last = int(levels.min()), int(levels.max())
    if first >= 0 and last < 1 << 16:
        return 0, last, levels  # places as they are: no copy
    return (first, last, levels.astype(np.int64) - first) if last - first < TABLE_LEVELS else None


def _percentiles(levels: np.ndarray) -> tuple[int, int]:
    """The 0.1 and 99.9 percentile of integers as levels that occur (inverted distribution function)."""
    if (table := _table_range(levels)) is None:
        low, high = np.quantile(levels, (0.001, 0.999), method="inverted_cdf")
        return int(low), int(high)
    first, _, index = table
    counts = np.bincount(index.ravel())
    used = np.flatnonzero(counts > _ALONE * levels.size)
    if len(used) >= _AT_LEAST:
        inner = int(used[-2]) - int(used[1])
        if used[-1] - used[-2] > inner:
            counts[used[-2] + 1 :] = 0
        if used[1] - used[0] > inner:
            counts[: used[1]] = 0
    below = np.cumsum(counts)
    low, high = np.searchsorted(below, (0.001 * below[-1], 0.999 * below[-1]))
    return first + int(low), first + int(high)
