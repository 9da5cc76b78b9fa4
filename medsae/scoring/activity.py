"""Activations as the measures need them: read in blocks, repeatable, sparse where that pays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medsae.arrays import Rows, blocks
from medsae.progress import Progress
from medsae.scoring.pieces import NOWHERE, Arrays, Kept
from medsae.scoring.threads import strips

Dense: TypeAlias = NDArray[np.float32]
Block: TypeAlias = "NDArray[np.float32] | sparse.csc_array"

ROWS = 4096
"""Images a block is gathered to."""
DENSE_SHARE = 0.1
"""Above this share of non-zeros a dense product (BLAS) beats a sparse one (measured: equal at 0.12)."""
COLUMNS = 256
"""Columns a sparse product takes at a time: 4 times faster than all at once, because they stay in the cache."""
AT_HAND = 2**25
"""Non-zeros kept in memory, 8 bytes each, where the others can lie elsewhere."""
AT_ONCE = 2**22
"""Non-zeros of neurons that are sorted or joined at a time (about 250 MiB with what is made of them)."""
MOST_HELD = 60_000_000
"""Non-zeros that are all worth a table. Where nothing can be kept, a representation with more of them is computed again
in every pass."""


def spans(begin: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """begin .. end cut into parts of `size` at most, which begin anew at every multiple of `ROWS`."""
    while begin < end:
        stop = min(begin + size, begin // ROWS * ROWS + ROWS, end)
        yield begin, stop
        begin = stop


class Source(Protocol):
    """A representation of n images by m neurons that can be read more than once.

    `blocks(begin, end)` yields (start, z_bm): float32 activations of images start .. start + b, in order and without
    gaps, from `begin` (a multiple of `ROWS`) to before `end` (None: the last); the array may be reused by the source
    after the next step. `sparse`: most activations are exactly 0 (an SAE); the blocks of such a source begin anew at
    every multiple of `ROWS`, so that its bits do not depend on where one began.
    """

    @property
    def m(self) -> int: ...
    @property
    def sparse(self) -> bool: ...
    def blocks(self, begin: int = 0, end: int | None = None) -> Iterator[tuple[int, NDArray[np.float32]]]: ...


@dataclass(frozen=True)
class ArraySource:
    """A source over an array [n, m] in memory or on disk."""

    z_nm: NDArray[np.float32] | Rows
    sparse: bool = False
    rows: int = ROWS

    @property
    def m(self) -> int:
        return self.z_nm.shape[1]

    def blocks(self, begin: int = 0, end: int | None = None) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for start, stop in spans(begin, len(self.z_nm) if end is None else end, self.rows):
            yield start, np.asarray(self.z_nm[start:stop], np.float32)


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

    def blocks(self, begin: int = 0, end: int | None = None) -> Iterator[tuple[int, NDArray[np.float32]]]:
        directions_dm = random_directions(self.x.m, self.m, self.seed)
        for start, x_bd in self.x.blocks(begin, end):
            yield start, x_bd @ directions_dm


def random_directions(d: int, m: int, seed: int) -> NDArray[np.float32]:
    """Columns of unit length [d, m]."""
    directions_dm = np.random.default_rng([seed, 7]).standard_normal((d, m), dtype=np.float32)
    return directions_dm / np.linalg.norm(directions_dm, axis=0)


def gathered(source: Source, n: int, rows: int | None = None) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """The blocks of a source, joined or cut to `rows` images (None: `ROWS`; the last one may be shorter); they must
    cover 0 .. n."""
    rows = rows or ROWS
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


class Blocks:
    """Sparse blocks of `ROWS` images in order. In memory up to `AT_HAND` non-zeros; those beyond lie in `kept` and are
    read each time (where nothing is kept all are in memory)."""

    def __init__(self, kept: Kept):
        self.kept, self.count = kept, 0
        self.inside: list[tuple[slice, sparse.csc_array | None]] = []

    def add(self, rows: slice, block: sparse.csc_array) -> None:
        self.count += block.nnz
        if self.kept.keeps and self.count > AT_HAND:
            if not self.kept.shared:
                self.kept.put(ACTIVATIONS, len(self.inside), _to_keep(block))
            self.inside.append((rows, None))
        else:
            self.inside.append((rows, block))

    def __iter__(self) -> Iterator[tuple[slice, sparse.csc_array]]:
        for k, (rows, block) in enumerate(self.inside):
            yield rows, _as_kept(self.kept.read(ACTIVATIONS, k)) if block is None else block


ACTIVATIONS = "activations"
"""What blocks of non-zeros are kept as."""


def _to_keep(block: sparse.csc_array) -> Arrays:
    small = np.uint16 if shape_of(block)[0] <= 2**16 else np.int32
    return {"value": block.data, "image": block.indices.astype(small), "indptr": block.indptr.astype(np.int32),
            "images": np.array(shape_of(block)[0])}  # fmt: skip


def _as_kept(arrays: Arrays) -> sparse.csc_array:
    shape = (int(arrays["images"]), len(arrays["indptr"]) - 1)
    return sparse.csc_array((arrays["value"], arrays["image"].astype(np.int32), arrays["indptr"]), shape=shape)


class Held:
    """A representation after its first pass: non-zeros if it is sparse, in memory or in `kept`; else the source again
    (also of a sparse one that has more than `most` of them where nothing is kept).

    `parts()` yields (rows, block); dense blocks have `center_m` subtracted, so that fp32 products do not cancel.
    """

    def __init__(self, source: Source, n: int, most: int | None = None, kept: Kept = NOWHERE):
        self.source, self.n, self.m, self.kept = source, n, source.m, kept
        self.most = MOST_HELD if most is None else most
        self.held: Blocks | None = Blocks(kept) if source.sparse else None
        self.center_m = np.zeros(self.m, np.float32)
        self.low_m, self.high_m = np.full(self.m, np.inf), np.full(self.m, -np.inf)
        self.active_m = np.zeros(self.m, np.int64)

    def prepare(self, report: Progress) -> None:
        """Have the non-zeros of all images made, where several commands share that work (4,096 images a piece)."""
        if self.held is None or not self.kept.shared:
            return
        with report.task("activations", self.n, "images") as task:

            def made(k: int) -> Arrays:
                arrays = self._piece(k * ROWS)
                task.advance(int(arrays["images"]))
                return arrays

            self.kept.every(ACTIVATIONS, -(-self.n // ROWS), made)

    def _piece(self, begin: int) -> Arrays:
        end = min(begin + ROWS, self.n)
        z_bm = np.concatenate([np.array(part, np.float32) for _, part in self.source.blocks(begin, end)])
        assert len(z_bm) == end - begin, f"{len(z_bm)} activations of {end - begin} images"
        return _to_keep(nonzeros(z_bm)) | {"low": z_bm.min(0), "high": z_bm.max(0)}

    def _blocks(self) -> Iterator[tuple[slice, Dense | None, sparse.csc_array | None, tuple[Dense, Dense]]]:
        """(images, activations, non-zeros, smallest and largest of each neuron): what there is of each block."""
        if self.held is not None and self.kept.shared:
            for k, begin in enumerate(range(0, self.n, ROWS)):
                arrays = self.kept.read(ACTIVATIONS, k)
                rows = slice(begin, begin + int(arrays["images"]))
                yield rows, None, _as_kept(arrays), (arrays["low"], arrays["high"])
            return
        for rows, z_bm in gathered(self.source, self.n):
            yield rows, z_bm, None if self.held is None else nonzeros(z_bm), (z_bm.min(0), z_bm.max(0))

    def first_pass(self) -> Iterator[tuple[slice, Block]]:
        """The one pass that every score needs: range and number of non-zeros of each neuron; keeps them if they fit."""
        for rows, z_bm, block, (low_m, high_m) in self._blocks():
            np.minimum(self.low_m, low_m, out=self.low_m)
            np.maximum(self.high_m, high_m, out=self.high_m)
            if block is None:
                assert z_bm is not None
                self.active_m += np.count_nonzero(z_bm, axis=0)
                yield rows, z_bm
                continue
            self.active_m += np.diff(block.indptr)
            if self.held is not None:
                self.held.add(rows, block)
                if self.held.count > self.most and not self.kept.keeps:
                    self.held = None
            few = block.nnz < DENSE_SHARE * np.prod(shape_of(block))
            yield rows, block if few else block.toarray() if z_bm is None else z_bm

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

    def strip(columns: slice) -> None:
        out[:, columns] = block.T @ np.ascontiguousarray(columns_bc[:, columns])

    strips(strip, out.shape[1], COLUMNS)
    return out


def squared(block: Block) -> Block:
    """The block with every activation squared."""
    if isinstance(block, np.ndarray):
        return block * block
    return sparse.csc_array((block.data * block.data, block.indices, block.indptr), shape=shape_of(block))
