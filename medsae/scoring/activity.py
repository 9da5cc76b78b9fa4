"""Activations as the measures need them: read in blocks, repeatable, sparse where that pays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medsae.arrays import Rows, blocks
from medsae.scoring.threads import strips

Block: TypeAlias = "NDArray[np.float32] | sparse.csc_array"

ROWS = 4096
"""Images a block is gathered to."""
DENSE_SHARE = 0.1
"""Above this share of non-zeros a dense product (BLAS) beats a sparse one (measured: equal at 0.12)."""
COLUMNS = 256
"""Columns a sparse product takes at a time: 4 times faster than all at once, because they stay in the cache."""
AT_ONCE = 2**22
"""Non-zeros of neurons that are sorted or joined at a time (about 250 MiB with what is made of them)."""
MOST_HELD = 60_000_000
"""Non-zeros kept in memory, 8 bytes each; a representation with more is computed again in every pass."""


class Source(Protocol):
    """A representation of n images by m neurons that can be read more than once.

    `blocks()` yields (start, z_bm): float32 activations of images start .. start + b, in order and without gaps; the
    array may be reused by the source after the next step. `sparse`: most activations are exactly 0 (an SAE).
    """

    @property
    def m(self) -> int: ...
    @property
    def sparse(self) -> bool: ...
    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]: ...


@dataclass(frozen=True)
class ArraySource:
    """A source over an array [n, m] in memory or on disk."""

    z_nm: NDArray[np.float32] | Rows
    sparse: bool = False
    rows: int = ROWS

    @property
    def m(self) -> int:
        return self.z_nm.shape[1]

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for start in range(0, len(self.z_nm), self.rows):
            yield start, np.asarray(self.z_nm[start : start + self.rows], np.float32)


PLAIN = 40
"""Largest |value| between 2^-40 and 2^40: its square and sums of squares are far from the ends of float32."""


def near_one(x_nd: NDArray[np.float32] | Rows) -> tuple[NDArray[np.float32] | Rows, int]:
    """The array times a power of two (which changes no digit), and that power: 0 and the same array where its largest
    |value| is between 2^-PLAIN and 2^PLAIN. A column that is still outside is scaled by a power of its own.

    Correlations, entropies and ranks do not depend on the scale of a neuron, but squares of 1e30 are infinite in
    float32, and those of 1e-30 are zero. NaN, infinity and an array of zeros are left to whoever judges them. Rows on
    disk stay there unless they must be scaled.
    """
    most_d = np.zeros(x_nd.shape[1])
    for block in blocks(x_nd):
        np.maximum(most_d, np.max(np.abs(block), axis=0, initial=0.0), out=most_d)
    power = _power(float(np.max(most_d, initial=0.0)))
    columns = np.array([_power(float(v)) for v in np.ldexp(most_d, -power)], np.int64)
    if not power and not columns.any():
        return (x_nd, 0) if isinstance(x_nd, Rows) else (np.asarray(x_nd, np.float32), 0)
    scaled = np.ldexp(np.asarray(x_nd[:], np.float64), -power)
    return np.asarray(np.ldexp(scaled, -columns) if columns.any() else scaled, np.float32), power


def _power(largest: float) -> int:
    if not np.isfinite(largest) or largest == 0 or abs(np.frexp(largest)[1]) <= PLAIN:
        return 0
    return int(np.frexp(largest)[1])


@dataclass(frozen=True)
class RandomDirections:
    """As many random directions of the embedding space as asked for: what neurons must beat to mean anything."""

    x: Source
    m: int
    seed: int
    sparse: bool = False

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        directions_dm = random_directions(self.x.m, self.m, self.seed)
        for start, x_bd in self.x.blocks():
            yield start, x_bd @ directions_dm


def random_directions(d: int, m: int, seed: int) -> NDArray[np.float32]:
    """Columns of unit length [d, m]."""
    directions_dm = np.random.default_rng([seed, 7]).standard_normal((d, m), dtype=np.float32)
    return directions_dm / np.linalg.norm(directions_dm, axis=0)


def gathered(source: Source, n: int, rows: int = ROWS) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """The blocks of a source, joined or cut to `rows` images (the last one may be shorter); they must cover 0 .. n."""
    held: list[NDArray[np.float32]] = []
    begin = end = 0
    for start, z_bm in source.blocks():
        assert start == end, f"block starts at image {start}, expected {end}"
        assert z_bm.ndim == 2 and z_bm.shape[1] == source.m, f"block of shape {z_bm.shape}, expected [b, {source.m}]"
        for cut in range(0, len(z_bm), rows):
            piece = z_bm[cut : cut + rows]
            end += len(piece)
            if not held and len(piece) == rows:
                yield slice(begin, end), np.asarray(piece, np.float32)
                begin = end
                continue
            held.append(np.array(piece, np.float32))
            if end - begin >= rows:
                yield slice(begin, end), np.concatenate(held)
                held, begin = [], end
    if held:
        yield slice(begin, end), held[0] if len(held) == 1 else np.concatenate(held)
    assert end == n, f"the activations cover {end} images, the labels {n}"


def nonzeros(z_bm: NDArray[np.float32]) -> sparse.csc_array:
    """The non-zeros of a block [b, m], neuron by neuron (several times faster than scipy's own conversion)."""
    flat = np.flatnonzero((z_bm != 0).ravel())
    columns = (flat % z_bm.shape[1]).astype(np.int32)
    counts = np.bincount(flat // z_bm.shape[1], minlength=len(z_bm))
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return sparse.csr_array((z_bm.ravel()[flat], columns, indptr), shape=z_bm.shape).tocsc()


class Held:
    """A representation after its first pass: non-zeros in memory if it is sparse and they fit, else the source again.

    `parts()` yields (rows, block); dense blocks have `center_m` subtracted, so that fp32 products do not cancel.
    """

    def __init__(self, source: Source, n: int, most: int = MOST_HELD):
        self.source, self.n, self.m, self.most = source, n, source.m, most
        self.held: list[tuple[slice, sparse.csc_array]] | None = [] if source.sparse else None
        self.center_m = np.zeros(self.m, np.float32)
        self.low_m, self.high_m = np.full(self.m, np.inf), np.full(self.m, -np.inf)
        self.active_m = np.zeros(self.m, np.int64)

    def first_pass(self) -> Iterator[tuple[slice, Block]]:
        """The one pass that every score needs: range and number of non-zeros of each neuron; keeps them if they fit."""
        for rows, z_bm in gathered(self.source, self.n):
            np.minimum(self.low_m, z_bm.min(0), out=self.low_m)
            np.maximum(self.high_m, z_bm.max(0), out=self.high_m)
            if self.held is None:
                self.active_m += np.count_nonzero(z_bm, axis=0)
                yield rows, z_bm
                continue
            block = nonzeros(z_bm)
            self.active_m += np.diff(block.indptr)
            self.held.append((rows, block))
            if self.active_m.sum() > self.most:
                self.held = None
            yield rows, block if block.nnz < DENSE_SHARE * z_bm.size else z_bm

    @property
    def near(self) -> bool:
        """Whether another pass costs little: the activations are in memory, or an array on disk."""
        return self.held is not None or isinstance(self.source, ArraySource)

    def center(self, mean_m: NDArray[np.float64]) -> None:
        """What later passes over dense blocks subtract; held non-zeros stay as they are."""
        if self.held is None:
            self.center_m = mean_m.astype(np.float32)

    def groups(self, neurons: NDArray[np.integer] | None = None) -> Iterator[NDArray[np.integer]]:
        """Some neurons (None: all), cut in their order into groups of about `AT_ONCE` non-zeros, at least one each."""
        neurons = np.arange(self.m) if neurons is None else neurons
        reached = np.cumsum(self.active_m[neurons])
        begin = 0
        while begin < len(neurons):
            before = int(reached[begin - 1]) if begin else 0
            end = max(begin + 1, int(np.searchsorted(reached, before + AT_ONCE, "right")))
            yield neurons[begin:end]
            begin = end

    def columns(self, neurons: NDArray[np.integer] | None = None) -> sparse.csc_array:
        """The non-zeros of some neurons (None: all) [n, c], images ascending; only while they are held."""
        assert self.held is not None, "too many non-zeros to hold"
        neurons = np.arange(self.m) if neurons is None else neurons
        parts = [_of_columns(rows.start, block, neurons) for rows, block in self.held]
        place, image, value = (np.concatenate([part[i] for part in parts]) for i in range(3))
        # Blocks come in the order of the images: a stable sort by neuron leaves them so.
        order = np.argsort(place.astype(np.uint16) if len(neurons) <= 2**16 else place, kind="stable")
        indptr = np.concatenate([[0], np.cumsum(np.bincount(place, minlength=len(neurons)))])
        return sparse.csc_array((value[order], image[order], indptr), shape=(self.n, len(neurons)))

    def parts(self) -> Iterator[tuple[slice, Block]]:
        """Another pass: centred dense blocks, or sparse blocks as they are."""
        if self.held is not None:
            yield from self.held
            return
        for rows, z_bm in gathered(self.source, self.n):
            yield rows, z_bm - self.center_m


def _of_columns(
    start: int, block: sparse.csc_array, neurons: NDArray[np.integer]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """(place among `neurons`, image, value) of the non-zeros of a block that begins at image `start`."""
    first, count = block.indptr[neurons], np.diff(block.indptr)[neurons]
    behind = np.cumsum(count)
    where = np.arange(behind[-1] if len(behind) else 0) + np.repeat(first - (behind - count), count)
    place = np.repeat(np.arange(len(neurons), dtype=np.int32), count)
    return place, block.indices[where] + np.int32(start), block.data[where]


def shape_of(block: Block) -> tuple[int, int]:
    """(images, neurons) of a block."""
    assert block.shape is not None  # scipy's types allow it, its arrays do not
    return block.shape[0], block.shape[1]


def times(block: Block, columns_bc: NDArray[np.float32]) -> NDArray[np.float32]:
    """block^T @ columns, [m, c] fp32, by the faster of the sparse and the dense product."""
    if isinstance(block, np.ndarray):
        return block.T @ columns_bc
    b, m = shape_of(block)
    if block.nnz >= DENSE_SHARE * b * m:
        return block.toarray().T @ columns_bc
    out = np.empty((m, columns_bc.shape[1]), np.float32)

    def strip(part: slice) -> None:
        for c in range(part.start, part.stop, COLUMNS):
            columns = slice(c, min(c + COLUMNS, part.stop))
            out[:, columns] = block.T @ np.ascontiguousarray(columns_bc[:, columns])

    strips(strip, out.shape[1])
    return out


def squared(block: Block) -> Block:
    """The block with every activation squared."""
    if isinstance(block, np.ndarray):
        return block * block
    return sparse.csc_array((block.data * block.data, block.indices, block.indptr), shape=shape_of(block))
