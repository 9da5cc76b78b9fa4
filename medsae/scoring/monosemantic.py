"""Is what a neuron fires on alike to another encoder? The monosemanticity score, and what shuffled images give.

MS of a neuron is the mean similarity of pairs of images, weighted by how strongly both make it fire (Pach et al. 2025,
arXiv 2504.02821): with activations a scaled to [0, 1] and embeddings e of unit length of an *independent* encoder

    MS = sum_{i<j} a_i a_j <e_i, e_j> / sum_{i<j} a_i a_j
       = (|sum a e|^2 - sum a^2) / ((sum a)^2 - sum a^2)

The second line costs one pass over the images, not one over their pairs. Embeddings that the neuron was made from would
say that neurons are monosemantic because they are directions: `steps.score` refuses them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsae.progress import Progress, Silent
from medsae.scoring.activity import Held, shape_of, squared, times
from medsae.scoring.draws import Permutations

FEWEST, MOST = 20, 100
"""Draws of the null: as many as `WORK` allows, within these."""
WORK = 2e12
"""Multiplications for all draws of dense activations (about a minute of two cores)."""
BUDGET_BYTES = 400 * 2**20


@dataclass(frozen=True)
class Similarity:
    """MS of each neuron; NaN for one that is constant, or that one image alone makes fire."""

    score_m: NDArray[np.float64]
    drawn_tm: NDArray[np.float64]
    """The same with the images' embeddings shuffled between patients, draw by draw."""

    @property
    def null_m(self) -> NDArray[np.float64]:
        """Mean of the draws."""
        return self.drawn_tm.mean(0)

    @property
    def p_m(self) -> NDArray[np.float64]:
        """Share of draws that are as high or higher: (1 + count) / (1 + draws); NaN where MS is."""
        higher_m = (self.drawn_tm >= self.score_m).sum(0)
        return np.where(np.isfinite(self.score_m), (1 + higher_m) / (1 + len(self.drawn_tm)), np.nan)


def similarity(
    held: Held, e_nd: NDArray[np.floating], permutations: Permutations, progress: Progress | None = None
) -> Similarity:
    """MS of all neurons after their first pass. `e_nd`: embeddings of the same images, no row zero; any length.

    Activations are scaled to [0, 1] by each neuron's range over these images. The null is drawn as that of labels is:
    a patient takes the embeddings of another, so images of one patient stay as alike as they are.
    """
    e_nd = (e_nd / np.linalg.norm(e_nd, axis=1, keepdims=True)).astype(np.float32)
    n, d = e_nd.shape
    draws = int(np.clip(WORK / (n * held.m * d), FEWEST, min(MOST, max(FEWEST, permutations.draws))))
    scaled = _Scaled.of(held)
    rows_tn = np.stack([np.arange(n, dtype=np.int32), *(permutations.rows(t) for t in range(draws))])
    size = max(1, int(BUDGET_BYTES / (held.m * d * 8)))
    found_tm = np.empty((len(rows_tn), held.m))
    with (progress or Silent()).task("likeness by another encoder", len(rows_tn), "draws") as task:
        for begin in range(0, len(rows_tn), size):
            rows_gn = rows_tn[begin : begin + size]
            total = np.zeros((held.m, len(rows_gn) * d))
            for part, block in held.parts():
                total += times(block, e_nd[rows_gn[:, part].T].reshape(shape_of(block)[0], -1))
            whole_gd = np.stack([e_nd[rows].sum(0, dtype=np.float64) for rows in rows_gn])
            found_tm[begin : begin + size] = scaled.score(total.reshape(held.m, len(rows_gn), d), whole_gd).T
            task.advance(len(rows_gn))
    return Similarity(found_tm[0], found_tm[1:])


@dataclass(frozen=True)
class _Scaled:
    """Sums of activations scaled to [0, 1]: a = (z - low) / range, z as `Held.parts` gives it."""

    low_m: NDArray[np.float64]
    range_m: NDArray[np.float64]
    """NaN for a constant neuron."""
    sum_m: NDArray[np.float64]
    squares_m: NDArray[np.float64]

    @staticmethod
    def of(held: Held) -> _Scaled:
        low_m = held.low_m.astype(np.float64) - held.center_m
        range_m = (held.high_m - held.low_m).astype(np.float64)
        range_m[range_m == 0] = np.nan
        z_m, zz_m = np.zeros(held.m), np.zeros(held.m)
        for _, block in held.parts():
            one = np.ones((shape_of(block)[0], 1), np.float32)
            z_m += times(block, one)[:, 0]
            zz_m += times(squared(block), one)[:, 0]
        squares_m = (zz_m - 2 * low_m * z_m + held.n * low_m**2) / range_m**2
        return _Scaled(low_m, range_m, (z_m - held.n * low_m) / range_m, squares_m)

    def score(self, ze_mgd: NDArray[np.float64], e_gd: NDArray[np.float64]) -> NDArray[np.float64]:
        """MS [m, g] from the sums of z e and of e."""
        ae_mgd = (ze_mgd - self.low_m[:, None, None] * e_gd) / self.range_m[:, None, None]
        above = np.einsum("mgd,mgd->mg", ae_mgd, ae_mgd) - self.squares_m[:, None]
        below_m = self.sum_m**2 - self.squares_m
        # One image that fires alone leaves nothing but the rounding of the two.
        below_m = np.where(below_m > 1e-5 * self.sum_m**2, below_m, np.nan)
        return np.clip(above / below_m[:, None], -1, 1)
