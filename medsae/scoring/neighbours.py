"""Which neurons are alike: by what they write (decoder) and by when they fire (activations)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from medsae.scoring.activity import AT_ONCE, DENSE_SHARE, Held, squared

ROWS = 512
"""Neurons compared with all others at a time."""
MOST_IMAGES = 20_000
"""Images that co-activation is taken over where activations are dense: evenly spaced, enough for a cosine."""

GRAM_BYTES = 256 * 2**20
"""Products of neurons that are summed at a time where activations are too many to be joined."""

Measure = Literal["cosine", "jaccard"]


def decoder_neighbours(decoder_md: NDArray[np.floating], top: int = 10) -> pd.DataFrame:
    """The `top` neurons with the highest cosine of decoder rows [m, d] to each: neuron, rank (1 ..), other, value.

    A row of zeros has no direction and no neighbours. Memory: 512 x m at a time.
    """
    unit = unit_rows(decoder_md)
    exists = np.any(unit, axis=1)

    def block(first: int, last: int) -> NDArray[np.float32]:
        value = unit[first:last] @ unit.T
        value[:, ~exists] = -np.inf
        value[~exists[first:last]] = -np.inf
        return value

    return _ranked(block, len(unit), top)


def unit_rows(decoder_md: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows [m, d] at length 1; a row of zeros stays one."""
    norm = np.linalg.norm(decoder_md, axis=1, keepdims=True)
    return np.divide(decoder_md, norm, out=np.zeros_like(decoder_md, np.float32), where=norm > 0)


def coactivation_neighbours(held: Held, top: int = 10, measure: Measure = "cosine") -> pd.DataFrame:
    """The `top` neurons that fire on the same images as each neuron: neuron, rank (1 ..), other, value.

    `cosine` of activations (of dense ones: of centred activations, that is their correlation, which may be negative) or
    `jaccard`: images where both fire / images where either fires. Values of an SAE lie in (0, 1]; neurons that share no
    image are no neighbours.
    """
    if held.held is not None and measure == "cosine" and int(held.active_m.sum()) > AT_ONCE:
        return _of_many(held, top)
    if held.held is not None:
        z = held.columns()
        if measure == "jaccard":
            return _jaccard(z, held.active_m, top)
        norm_m = np.sqrt(np.asarray(z.multiply(z).sum(0), float)).ravel()
        scale_m = np.divide(1, norm_m, out=np.zeros(held.m), where=norm_m > 0).astype(np.float32)
        each = np.repeat(scale_m, np.diff(z.indptr))
        unit = sparse.csc_array((z.data * each, z.indices, z.indptr), shape=z.shape)
        return _ranked(lambda first, last: _positive(_product(unit, first, last)), held.m, top)
    assert measure == "cosine", "dense activations are non-zero everywhere"
    step = -(-held.n // MOST_IMAGES)
    rows = [np.asarray(block[-rows.start % step :: step]) for rows, block in held.parts()]
    z_nm = np.concatenate(rows).astype(np.float32)
    norm_m = np.linalg.norm(z_nm, axis=0)
    z_nm *= np.divide(1, norm_m, out=np.zeros_like(norm_m), where=norm_m > 0)
    varies = norm_m > 0

    def dense(first: int, last: int) -> NDArray[np.float32]:
        value = z_nm[:, first:last].T @ z_nm
        value[:, ~varies] = -np.inf
        value[~varies[first:last]] = -np.inf
        return value

    return _ranked(dense, held.m, top)


def _of_many(held: Held, top: int) -> pd.DataFrame:
    """Cosines of activations that are not joined: sums of z^T z block by block, as many neurons as fit against all."""
    width = max(ROWS, GRAM_BYTES // (4 * held.m) // ROWS * ROWS)
    norm_m = np.zeros(held.m)
    for _, block in held.parts():
        norm_m += np.asarray(squared(block).sum(0), float).ravel()
    scale_m = np.divide(1, np.sqrt(norm_m), out=np.zeros(held.m), where=norm_m > 0).astype(np.float32)
    gram: dict[int, NDArray[np.float32]] = {}

    def cosines(first: int, last: int) -> NDArray[np.float32]:
        begin = first // width * width
        if begin not in gram:
            gram.clear()
            gram[begin] = _gram(held, slice(begin, min(begin + width, held.m)))
        value = gram[begin][first - begin : last - begin] * scale_m[first:last, None] * scale_m
        return _positive(value)

    return _ranked(cosines, held.m, top)


def _gram(held: Held, some: slice) -> NDArray[np.float32]:
    """Rows `some` of z^T z."""
    out = np.zeros((some.stop - some.start, held.m), np.float32)
    for _, block in held.parts():
        assert not isinstance(block, np.ndarray)
        rows = sparse.csr_array(block)
        both = sparse.coo_array(sparse.csr_array(block[:, some].T) @ rows)
        out[both.coords] += both.data  # every pair once
    return out


def _product(z: sparse.csc_array, first: int, last: int) -> NDArray[np.float32]:
    """Rows first .. last of z^T z, dense, by the faster product."""
    n, m = z.shape if z.shape is not None else (0, 0)
    some = z[:, first:last]
    if z.nnz > DENSE_SHARE * n * m:
        return (z.T @ some.toarray()).T
    return (some.T @ z).toarray()


def _jaccard(z: sparse.csc_array, active_m: NDArray[np.int64], top: int) -> pd.DataFrame:
    binary = sparse.csc_array((np.ones(z.nnz, np.float32), z.indices, z.indptr), shape=z.shape)

    def block(first: int, last: int) -> NDArray[np.float32]:
        both = _product(binary, first, last)
        either = active_m[first:last, None] + active_m[None] - both
        return _positive(np.divide(both, either, out=np.zeros_like(both), where=either > 0, dtype=np.float32))

    return _ranked(block, len(active_m), top)


def _positive(value: NDArray[np.float32]) -> NDArray[np.float32]:
    value[value <= 0] = -np.inf
    return value


def _ranked(block: Callable[[int, int], NDArray[np.float32]], m: int, top: int) -> pd.DataFrame:
    """The largest `top` of each row of a matrix that `block(first, last)` gives in strips; never -inf or itself."""
    parts = []
    top = min(top, m - 1)
    for first in range(0, m, ROWS) if top > 0 else ():
        last = min(first + ROWS, m)
        value = block(first, last)
        own = np.arange(first, last)
        value[own - first, own] = -np.inf
        near = np.argpartition(-value, top - 1, axis=1)[:, :top]
        size = np.take_along_axis(value, near, axis=1)
        order = np.lexsort((near, -size), axis=1)
        near, size = np.take_along_axis(near, order, axis=1), np.take_along_axis(size, order, axis=1)
        row, rank = np.nonzero(np.isfinite(size))
        parts.append((row + first, rank + 1, near[row, rank], size[row, rank]))
    columns = [np.concatenate(c) for c in zip(*parts, strict=True)] if parts else [np.zeros(0)] * 4
    return pd.DataFrame(
        dict(
            neuron=columns[0].astype(np.int32),
            rank=columns[1].astype(np.int16),
            other=columns[2].astype(np.int32),
            value=columns[3].astype(np.float32),
        )
    )
