"""Arrays of very many images: rows on disk, read when they are asked for, and texts that are held once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

IN_MEMORY_BYTES = 2**30
"""Rows that are less than this are loaded at once: every pass over them is then a little faster."""
BLOCK = 8192
"""Rows read at a time where the order does not matter."""


def ranks(value_n: np.ndarray) -> np.ndarray:
    """Ranks from 1 of numbers [n], equal ones their mean rank: `scipy.stats.rankdata`, which takes half a second to
    import."""
    order = np.argsort(value_n, kind="stable")
    sorted_n = value_n[order]
    new = np.concatenate([[True], sorted_n[1:] != sorted_n[:-1]]) if len(sorted_n) else np.zeros(0, bool)
    begins = np.append(np.flatnonzero(new), len(value_n))
    out = np.empty(len(value_n))
    out[order] = (0.5 * (begins[:-1] + begins[1:] + 1))[np.cumsum(new) - 1]
    return out


class Rows:
    """The rows `rows_n` of an array [n, d], as an array of two axes of which a part is read at a time."""

    ndim = 2

    def __init__(self, x_nd: np.ndarray, rows_n: np.ndarray):
        self.x_nd, self.rows_n, self.dtype = x_nd, rows_n, x_nd.dtype

    def __len__(self) -> int:
        return len(self.rows_n)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.x_nd.shape[1]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Those of the rows, in the order asked for, copied into memory."""
        return np.asarray(self.x_nd[self.rows_n[rows]])

    def __matmul__(self, d: np.ndarray) -> np.ndarray:
        """The product with a vector [d] or a matrix [d, k]."""
        return np.concatenate([block @ d for block in blocks(self)])


def rows_of(x_nd: np.ndarray, rows_n: np.ndarray) -> np.ndarray | Rows:
    """These rows of a memory map: loaded where they are few (IN_MEMORY_BYTES), else left on disk."""
    few = len(rows_n) * x_nd.shape[1] * x_nd.dtype.itemsize <= IN_MEMORY_BYTES
    return x_nd[rows_n] if few else Rows(x_nd, rows_n)


def blocks(x_nd: np.ndarray | Rows, size: int = BLOCK) -> Iterator[np.ndarray]:
    """All rows in order, so many at a time; of no rows one block of none."""
    return (x_nd[at : at + size] for at in range(0, max(1, len(x_nd)), size))
