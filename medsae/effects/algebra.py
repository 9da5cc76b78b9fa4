"""Effects of neurons on linear read-outs: decoder rows times weights, and the sum that a score is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rebuilt:
    """How an SAE rebuilds an embedding, in the units of embeddings: x = z @ row_md + zero_d + error."""

    row_md: NDArray[np.floating]
    """What one unit of each neuron adds."""
    zero_d: NDArray[np.floating]
    """What is rebuilt of no neuron."""


@dataclass(frozen=True)
class Readout:
    """Score = weight . x + bias, for r read-outs."""

    weight_rd: NDArray[np.floating]
    bias_r: NDArray[np.floating]

    def scores(self, x_nd: NDArray[np.floating]) -> NDArray[np.float64]:
        """[..., r] of embeddings [..., d]."""
        return np.asarray(np.asarray(x_nd, float) @ self.weight_rd.T + self.bias_r, np.float64)

    def effects(self, rebuilt: Rebuilt) -> NDArray[np.float64]:
        """[m, r]: what one unit of a neuron adds to a score."""
        return np.asarray(np.asarray(rebuilt.row_md, float) @ self.weight_rd.T, np.float64)

    def constants(self, rebuilt: Rebuilt) -> NDArray[np.float64]:
        """[r]: the score of what is rebuilt of no neuron."""
        return self.scores(rebuilt.zero_d)

    def spread(self, rebuilt: Rebuilt, covariances_dd: Sequence[NDArray[np.floating] | None]) -> NDArray[np.float64]:
        """[m, r]: standard error of `effects` that comes from fitting the weights; NaN where no covariance is known."""
        out = np.full((len(rebuilt.row_md), len(covariances_dd)), np.nan)
        row = np.asarray(rebuilt.row_md, float)
        for r, covariance in enumerate(covariances_dd):
            if covariance is not None:
                out[:, r] = np.sqrt(np.maximum(np.einsum("md,md->m", row @ covariance, row), 0))
        return out
