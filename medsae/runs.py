"""Masks as run lengths: row by row, the lengths of runs of equal pixels, beginning with (possibly no) zeros."""

from __future__ import annotations

import numpy as np


def encode(mask: np.ndarray) -> list[int]:
    """Run lengths of a bool mask of any shape, in row-major order, beginning with zeros; they add up to its size."""
    flat = np.asarray(mask, dtype=bool).ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    runs = np.diff(edges).tolist()
    return [0, *runs] if flat.size and flat[0] else runs


def decode(runs: list[int], shape: tuple[int, ...]) -> np.ndarray:
    """The bool mask of `shape` that `encode` was given. AssertionError when the runs do not fill it."""
    size = int(np.prod(shape))
    assert sum(runs) == size, f"runs cover {sum(runs)} pixels, the shape has {size}"
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape)
