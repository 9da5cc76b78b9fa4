"""Centre and scale embeddings as the paper does (section 3.2, after Bhalla et al. 2024 and Templeton et al. 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medsae.progress import UserError

if TYPE_CHECKING:
    from medsae.sae.stream import TokenRows


@dataclass(frozen=True)
class Normalisation:
    """x' = (x - mean) * scale, so that the training rows have E|x'| = sqrt(d)."""

    mean_d: np.ndarray
    """float32 [d]."""
    scale: float

    @staticmethod
    def fit(x_nd: np.ndarray | TokenRows) -> Normalisation:
        """From the training rows, with float64 sums.

        Raises UserError for NaN or infinity, for fewer than 2 rows and for rows that are all alike."""
        if x_nd.ndim != 2 or len(x_nd) < 2:
            raise UserError(f"embeddings of shape {x_nd.shape}: rows x dimensions, 2 rows at least, are needed")
        total, finite = np.zeros(x_nd.shape[1]), True
        for block in blocks(x_nd):
            finite &= bool(np.isfinite(block).all())
            total += block.sum(0, dtype=np.float64)
        if not finite:
            rows = np.flatnonzero(~np.concatenate([np.isfinite(block).all(1) for block in blocks(x_nd)]))
            raise UserError(f"{len(rows):,} embeddings hold NaN or infinity", f"first at row {rows[0]}",
                            "embed those pictures again, or leave them out")  # fmt: skip
        mean_d = (total / len(x_nd)).astype(np.float32)
        length = sum(float(np.linalg.norm(block.astype(np.float64) - mean_d, axis=1).sum()) for block in blocks(x_nd))
        length /= len(x_nd)
        # Rows that are alike but for rounding have a length near the rounding of the mean, not exactly 0.
        if length <= 1e-6 * float(np.linalg.norm(mean_d.astype(np.float64))) or length == 0.0:
            raise UserError("the embeddings are without variance: all training rows are alike",
                            do="check the encoder and the pictures it was given")  # fmt: skip
        return Normalisation(mean_d, math.sqrt(x_nd.shape[1]) / length)

    def apply(self, x_nd: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Raw embeddings -> normalised, float32; into `out`, if given. Makes no other copy: of all training rows it
        would be gigabytes."""
        x = np.subtract(np.asarray(x_nd, dtype=np.float32), self.mean_d, out=out)
        x *= np.float32(self.scale)
        return x

    def undo(self, x_nd: np.ndarray) -> np.ndarray:
        """Normalised embeddings -> raw units, float32."""
        return np.asarray(x_nd, dtype=np.float32) / np.float32(self.scale) + self.mean_d


def blocks(x_nd: np.ndarray | TokenRows, rows: int = 8192):
    """Consecutive rows of an array (or of a memory map), a block at a time."""
    return (x_nd[first : first + rows] for first in range(0, len(x_nd), rows))
