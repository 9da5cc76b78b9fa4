"""Where the cells of a network lie in a picture, and a map of cells as a picture. Pure numpy, for every room."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def centres(
    grid: tuple[int, int], first_px: float, step_px: float, size: int, picture: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the cells lie in the picture: y [rows], x [columns] in px of the picture (height, width).

    The network sees the picture centred on a square of side max(size, height, width), made smaller to `size` px.
    """
    height, width = picture
    side = max(size, height, width)
    scale = side / size
    rows, columns = ((first_px + step_px * np.arange(count, dtype=np.float64) + 0.5) * scale - 0.5 for count in grid)
    return rows - (side - height) // 2, columns - (side - width) // 2


def spread(
    map_rc: NDArray[np.floating], y: NDArray[np.floating], x: NDArray[np.floating], picture: tuple[int, int],
    longest: int = 96,
) -> NDArray[np.float64]:  # fmt: skip
    """The map over the whole picture, float64 [h, w] with the picture's proportions and `longest` as its longer side:
    bilinear between the centres of cells, NaN beyond the outermost ones (nothing is known there)."""
    height, width = picture
    shrink = longest / max(height, width)
    rows, columns = (max(1, round(side * shrink)) for side in picture)
    at_y, at_x = ((np.arange(n) + 0.5) * side / n - 0.5 for n, side in ((rows, height), (columns, width)))
    down = _weights(at_y, y)
    across = _weights(at_x, x)
    out = down @ np.asarray(map_rc, np.float64) @ across.T
    out[(at_y < y[0] - 0.5) | (at_y > y[-1] + 0.5)] = np.nan
    out[:, (at_x < x[0] - 0.5) | (at_x > x[-1] + 0.5)] = np.nan
    return out


def on_blocks(
    map_rc: NDArray[np.floating], first_px: float, step_px: float, size: int, blocks: int
) -> NDArray[np.float64]:
    """The map at the centres of blocks x blocks equal parts of the square that the network sees: bilinear between the
    centres of cells, clamped beyond the outermost ones."""
    at = (np.arange(blocks) + 0.5) * size / blocks - 0.5
    down, across = (_weights(at, first_px + step_px * np.arange(n, dtype=np.float64)) for n in map_rc.shape)
    return down @ np.asarray(map_rc, np.float64) @ across.T


def box_mask(box: tuple[float, float, float, float], picture: tuple[int, int]) -> NDArray[np.bool_] | None:
    """bool [h, w] of a box (left, top, width, height in px) on a picture of (height, width) px: pixels whose centre
    lies in it. None for a box that leaves the picture by more than 2 px: it was drawn on another size of it."""
    left, top, width, height = box
    rows, columns = picture
    if left < -2 or top < -2 or left + width > columns + 2 or top + height > rows + 2:
        return None
    y, x = np.arange(rows) + 0.5, np.arange(columns) + 0.5
    return ((y >= top) & (y <= top + height))[:, None] & ((x >= left) & (x <= left + width))[None]


def packed(map_kc: np.ndarray) -> tuple[list[bytes], np.ndarray]:
    """int8 bytes of each map, and what one step of them is worth: value = byte * scale."""
    scale = np.abs(map_kc).max(1) / 127
    safe = np.where(scale > 0, scale, 1)
    return [m.tobytes() for m in np.round(map_kc / safe[:, None]).astype(np.int8)], scale.astype(np.float32)


def _weights(at: NDArray[np.floating], centre: NDArray[np.floating]) -> NDArray[np.float64]:
    """Linear interpolation as a matrix [at, centres]; clamped outside."""
    place = np.interp(at, centre, np.arange(len(centre)))
    low = np.minimum(place.astype(int), max(0, len(centre) - 2))
    out = np.zeros((len(at), len(centre)))
    out[np.arange(len(at)), low] = 1 - (place - low)
    out[np.arange(len(at)), np.minimum(low + 1, len(centre) - 1)] += place - low
    return out
