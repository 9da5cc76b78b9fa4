"""Shapes in voxel grids: scipy.ndimage with the types said (bool masks in, bool masks or mm out)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

BALL = np.ones((3, 3, 3), bool)
CROSS = ndimage.generate_binary_structure(3, 1)


def dilate(mask: np.ndarray, times: int = 1, by: np.ndarray = CROSS) -> np.ndarray:
    """The mask grown by a structure, `times` times."""
    return np.asarray(ndimage.binary_dilation(mask, by, iterations=times))


def erode(mask: np.ndarray, times: int = 1) -> np.ndarray:
    """The mask shrunk `times` times."""
    return np.asarray(ndimage.binary_erosion(mask, iterations=times))


def close(mask: np.ndarray, times: int = 1, by: np.ndarray = CROSS) -> np.ndarray:
    """The mask with its small gaps filled."""
    return np.asarray(ndimage.binary_closing(mask, by, iterations=times))


def depth(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """mm from every voxel of the mask to the nearest one outside it; 0 outside."""
    return np.asarray(ndimage.distance_transform_edt(mask, spacing))
