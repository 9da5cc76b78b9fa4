"""Pearson correlation of every neuron with every label from one pass over the activations (paper, Eq. 3).

    rho_ij = (n Szy - Sz Sy) / sqrt((n Szz - Sz^2) (n Syy - Sy^2))

with every sum taken over the images where label j is known (pairwise-missing). The sums add: blocks in any order,
shards in any order, and memory that does not grow with the number of images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medsae.progress import UserError
from medsae.scoring.activity import Block, shape_of
from medsae.scoring.labels import mask_patterns, zero_where_unknown
from medsae.scoring.threads import strips

ROWS = 128
"""Images a sub-block: 128 x 8192 fp32 stays in the cache between its three uses, and fp32 sums stay short."""
NEURONS = 2048
"""Neurons a product: what cores share, and no more than one has in its cache."""

REASONS = ("", "fewer than 3 images", "constant label", "constant neuron")
"""Why a correlation is undefined, by code; 0 is defined."""


@dataclass(frozen=True)
class Correlations:
    """Correlations [m, k]; `rho_mk` is NaN exactly where `reason_mk` is not 0."""

    rho_mk: NDArray[np.float64]
    n_k: NDArray[np.int64]
    """Images where the label is known."""
    reason_mk: NDArray[np.uint8]
    """Index into `REASONS`."""
    mean_m: NDArray[np.float64]
    """Mean activation over all images."""
    std_m: NDArray[np.float64]
    """Standard deviation over all images (divided by n)."""

    def columns(self, some: slice) -> Correlations:
        """Those with some of the labels."""
        return Correlations(self.rho_mk[:, some], self.n_k[some], self.reason_mk[:, some], self.mean_m, self.std_m)


class Sufficient:
    """One-pass sufficient statistics of activations against labels `y_nk` (float) where `mask_nk` is True.

    Dense blocks: fp32 products over at most 128 images, summed in float64, of activations shifted by the mean of the
    first images seen, so that a mean far above the spread does not cancel. Sparse blocks (scipy CSC [b, m]): float64
    throughout, unshifted. Within 1e-6 of float64 either way (tests/bench/bench_scoring.py).
    """

    def __init__(self, y_nk: NDArray[np.floating], mask_nk: NDArray[np.bool_]):
        assert y_nk.shape == mask_nk.shape and y_nk.ndim == 2, "labels and mask are both [n, k]"
        self.y_nk = zero_where_unknown(y_nk, mask_nk)
        assert np.isfinite(self.y_nk).all(), "known labels are finite"
        mask_nq, self.pattern_k = mask_patterns(mask_nk)
        # One pattern is "all images": mean and standard deviation of the neuron itself.
        whole = np.flatnonzero(mask_nq.all(0))
        self.whole = int(whole[0]) if len(whole) else mask_nq.shape[1]
        if not len(whole):
            mask_nq = np.concatenate([mask_nq, np.ones((len(y_nk), 1), bool)], axis=1)
        self.mask_nq = mask_nq
        k, q = y_nk.shape[1], self.mask_nq.shape[1]
        self.k, self.q, self.rows = k, q, 0
        self.n_q, self.y_k, self.yy_k = np.zeros(q), np.zeros(k), np.zeros(k)
        self.shift_m: NDArray[np.float32] | None = None
        self.z_qm = self.zz_qm = self.zy_km = np.zeros((0, 0))

    def update(self, z_bm: Block, rows: slice | NDArray[np.intp]) -> Sufficient:
        """Add the activations [b, m] of the images `rows` (positions in the label matrix); returns itself."""
        y_bk, mask_bq = self.y_nk[rows], self.mask_nq[rows].astype(np.float32)
        b, m = shape_of(z_bm)
        assert b == len(y_bk), f"{b} rows of activations for {len(y_bk)} images"
        if self.shift_m is None:
            self._start(z_bm)
        assert self.shift_m is not None and m == len(self.shift_m), "every block has m neurons"
        self.rows += len(y_bk)
        self.n_q += mask_bq.sum(0, dtype=float)
        self.y_k += y_bk.sum(0, dtype=float)
        self.yy_k += np.square(y_bk, dtype=float).sum(0)
        if isinstance(z_bm, np.ndarray):
            self._dense(z_bm, y_bk, mask_bq)
        else:
            self._sparse(z_bm, y_bk, mask_bq)
        return self

    def _start(self, z_bm: Block) -> None:
        m = shape_of(z_bm)[1]
        shift = np.zeros(m, np.float32)
        if isinstance(z_bm, np.ndarray) and len(z_bm):
            # In float64 the mean of equal float32 numbers is that number: a constant neuron becomes exact zeros.
            # A neuron that is mostly silent stays unshifted: its zeros then cost nothing in precision.
            first = z_bm[:64]
            shift = np.where((first == 0).mean(0) > 0.5, 0, first.mean(0, dtype=float)).astype(np.float32)
        self.shift_m = shift
        self.z_qm, self.zz_qm, self.zy_km = np.zeros((self.q, m)), np.zeros((self.q, m)), np.zeros((self.k, m))

    def _dense(self, z_bm: NDArray[np.float32], y_bk: NDArray[np.float32], mask_bq: NDArray[np.float32]) -> None:
        columns = np.concatenate([mask_bq, y_bk], axis=1)

        def strip(neurons: slice) -> None:
            assert self.shift_m is not None
            buffer = np.empty((min(ROWS, len(z_bm)), neurons.stop - neurons.start), np.float32)
            # NaN and infinity go through the sums and are refused in `result`, which can name the neuron.
            with np.errstate(invalid="ignore", over="ignore"):
                for start in range(0, len(z_bm), ROWS):
                    block = z_bm[start : start + ROWS, neurons]
                    part = slice(start, start + len(block))
                    shifted = np.subtract(block, self.shift_m[neurons], out=buffer[: len(block)])
                    sums = columns[part].T @ shifted
                    self.z_qm[:, neurons] += sums[: self.q]
                    self.zy_km[:, neurons] += sums[self.q :]
                    if self.q == 1:  # every label of every image is known: no product with a mask of ones
                        self.zz_qm[0, neurons] += np.einsum("bm,bm->m", shifted, shifted)
                    else:
                        self.zz_qm[:, neurons] += mask_bq[part].T @ np.square(shifted, out=shifted)

        strips(strip, z_bm.shape[1], NEURONS)

    def _sparse(self, z_bm: sparse.csc_array, y_bk: NDArray[np.float32], mask_bq: NDArray[np.float32]) -> None:
        assert self.shift_m is not None
        wide = z_bm.astype(np.float64)
        sums = wide.T @ np.concatenate([mask_bq, y_bk], axis=1).astype(float)
        n_q = mask_bq.sum(0, dtype=float)
        y_k = y_bk.sum(0, dtype=float)
        squares = wide.copy()
        squares.data **= 2
        raw_qm, shift = sums[:, : self.q].T, self.shift_m.astype(float)
        # The same sums of z - shift, so that dense and sparse blocks of one neuron can meet.
        self.z_qm += raw_qm - n_q[:, None] * shift
        self.zy_km += sums[:, self.q :].T - y_k[:, None] * shift
        self.zz_qm += (squares.T @ mask_bq.astype(float)).T - 2 * shift * raw_qm + n_q[:, None] * shift**2

    def merge(self, other: Sufficient) -> Sufficient:
        """Add the sums of another shard of the same label matrix (no image in both; any order); returns itself."""
        assert np.array_equal(self.pattern_k, other.pattern_k) and self.k == other.k, "shards of one label matrix"
        if other.shift_m is None:
            return self
        if self.shift_m is None:
            self._start(np.zeros((0, len(other.shift_m)), np.float32))
            self.shift_m = other.shift_m.copy()
        # z - a = (z - b) + (b - a): bring the other's sums to this one's shift.
        step = other.shift_m.astype(float) - self.shift_m
        self.zz_qm += other.zz_qm + 2 * step * other.z_qm + step**2 * other.n_q[:, None]
        self.z_qm += other.z_qm + step * other.n_q[:, None]
        self.zy_km += other.zy_km + step * other.y_k[:, None]
        self.rows += other.rows
        self.n_q, self.y_k, self.yy_k = self.n_q + other.n_q, self.y_k + other.y_k, self.yy_k + other.yy_k
        return self

    def result(self) -> Correlations:
        """The correlations; NaN with a reason for fewer than 3 images, a constant label, a constant (or dead) neuron.

        Raises UserError if the activations held NaN or infinite values.
        """
        assert self.shift_m is not None, "no activations were added"
        broken = ~np.isfinite(self.zz_qm[self.whole])
        if broken.any():
            raise UserError(
                "the activations hold NaN or infinite values",
                f"neuron {int(np.argmax(broken))} and {int(broken.sum()) - 1} others",
                "embed the images again, or check the imported embeddings",
            )
        n_k, z_km, zz_km = self.n_q[self.pattern_k], self.z_qm[self.pattern_k], self.zz_qm[self.pattern_k]
        rho, reason = pearson(n_k[:, None], self.y_k[:, None], self.yy_k[:, None], z_km, zz_km, self.zy_km)
        n = self.n_q[self.whole]
        mean = self.z_qm[self.whole] / n
        variance = np.maximum(self.zz_qm[self.whole] / n - mean**2, 0)
        return Correlations(
            np.ascontiguousarray(rho.T),
            n_k.astype(np.int64),
            np.ascontiguousarray(reason.T),
            mean + self.shift_m,
            np.sqrt(variance),
        )


def pearson(
    n: NDArray[np.float64],
    y: NDArray[np.float64],
    yy: NDArray[np.float64],
    z: NDArray[np.float64],
    zz: NDArray[np.float64],
    zy: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Correlations and reason codes from sums of any shapes that broadcast (`n` may be a sum of weights).

    A spread below 1e-3 of the root mean square of the shifted activations is fp32 rounding, not spread: constant.
    """
    y_var, z_var = _spreads(n, y, yy, z, zz)
    few = n < 3
    reason = np.where(few, 1, np.where(np.isnan(y_var), 2, np.where(np.isnan(z_var), 3, 0))).astype(np.uint8)
    return correlation(n, y, yy, z, zz, zy), reason


def correlation(
    n: NDArray[np.float64],
    y: NDArray[np.float64],
    yy: NDArray[np.float64],
    z: NDArray[np.float64],
    zz: NDArray[np.float64],
    zy: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The same without reasons, NaN where undefined. A root for each label and each neuron, not for each pair."""
    y_var, z_var = _spreads(n, y, yy, z, zz)
    rho = n * zy - z * y
    rho *= 1 / np.sqrt(z_var)
    rho *= 1 / np.sqrt(np.where(n < 3, np.nan, y_var))
    return np.clip(rho, -1, 1, out=rho)


def _spreads(
    n: NDArray[np.float64], y: NDArray[np.float64], yy: NDArray[np.float64], z: NDArray[np.float64],
    zz: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """n^2 times the variance of labels and neurons; NaN where there is none."""
    y_var, z_var = n * yy - y * y, n * zz - z * z
    y_flat = y_var <= 1e-9 * np.maximum(n * yy, 1)
    z_flat = z_var <= 1e-6 * np.maximum(n * zz, np.finfo(float).tiny)
    return np.where(y_flat, np.nan, y_var), np.where(z_flat, np.nan, z_var)
