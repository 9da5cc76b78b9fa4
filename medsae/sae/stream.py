"""Training rows that do not fit in memory: the tokens of pictures, or the embeddings of very many images. They are read
from disk, a part of an epoch at a time.

The pictures of an epoch are shuffled and cut into parts that fit in the memory that is given; the tokens of a part are
shuffled among each other and dealt out in batches, while the next part is read. Seed, epoch and place decide every
batch, so that a training that was killed goes on with the same ones (docs/decisions/106).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medsae.arrays import Rows
from medsae.sae.normalise import Normalisation

READ_PICTURES = 256
"""Pictures read at a time where the order does not matter."""
BLOCK = 64
"""Consecutive rows of plain embeddings that are read and shuffled as the tokens of a picture: 128 KiB at d = 512."""


class TokenRows:
    """Tokens of pictures as the rows of an array [pictures * tokens, d] that is on disk: slices and lists of rows are
    read when they are asked for, in float32."""

    ndim = 2

    def __init__(self, read: Callable[[np.ndarray], np.ndarray], pictures: np.ndarray, tokens: int, d: int):
        """`read(pictures [b]) -> [b, tokens, d]`, safe to call from two threads; `pictures`: which there are."""
        self.read, self.pictures, self.tokens, self.d = read, pictures, tokens, d
        self.tail_td = np.empty((0, d), np.float32)
        """The last rows, of no whole picture."""

    def __len__(self) -> int:
        return len(self.pictures) * self.tokens + len(self.tail_td)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.d

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        index = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows)
        pictures, place = np.unique(index // self.tokens, return_inverse=True)
        found = np.empty((len(index), self.d), np.float32)
        for at in range(0, len(pictures), READ_PICTURES):
            here = (place >= at) & (place < at + READ_PICTURES)
            x_btd = self.read(self.pictures[pictures[at : at + READ_PICTURES]])
            found[here] = x_btd[place[here] - at, index[here] % self.tokens]
        return found


class BlockRows(TokenRows):
    """Plain embeddings on disk: blocks of consecutive rows take the place of pictures, single rows that of tokens."""

    def __init__(self, rows: Rows):
        self.rows = rows
        whole = len(rows) // BLOCK
        super().__init__(self._blocks, np.arange(whole), BLOCK, rows.shape[1])
        self.tail_td = self[whole * BLOCK :]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        return np.asarray(self.rows[rows], np.float32)

    def _blocks(self, blocks: np.ndarray) -> np.ndarray:
        return self[(blocks[:, None] * BLOCK + np.arange(BLOCK)).ravel()].reshape(len(blocks), BLOCK, self.d)


class InMemory:
    """Normalised rows [n, d] on the device, dealt out in the order of the epoch."""

    def __init__(self, x_nd: Tensor):
        self.x_nd = x_nd

    def batches(self, size: int) -> int:
        """Batches of an epoch."""
        return -(-len(self.x_nd) // size)

    def epoch(self, seed: int, epoch: int, size: int) -> Callable[[int], Tensor]:
        """The function that gives batch 0, 1, ... of an epoch."""
        order_n, batches = order(len(self.x_nd), self.x_nd.device, seed, epoch), self.batches(size)
        return lambda number: self.x_nd[batch_of(order_n, number, batches)]


@dataclass(frozen=True)
class _Part:
    """Pictures that are in memory together, and the batches of the epoch that they give."""

    pictures: slice
    first: int
    batches: int


class Streamed:
    """The rows of `TokenRows`, normalised, on the device, a part at a time."""

    def __init__(self, rows: TokenRows, normalisation: Normalisation, device: torch.device, memory_bytes: int):
        self.rows, self.normalisation, self.device = rows, normalisation, device
        # two parts are held (one is read ahead), each as it was read and shuffled
        self.pictures_a_part = max(1, memory_bytes // (4 * rows.tokens * rows.d * 4))
        self.shape = rows.shape
        self._reader = ThreadPoolExecutor(1, "tokens")
        self._held: dict[tuple[int, int, int], Future[Tensor]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def parts(self, size: int) -> list[_Part]:
        """Parts of an epoch, of equal size to one picture."""
        n = len(self.rows.pictures)
        count, parts, first = max(1, -(-n // self.pictures_a_part)), [], 0
        for j in range(count):
            pictures = slice(j * n // count, (j + 1) * n // count)
            rows = (pictures.stop - pictures.start) * self.rows.tokens
            rows += len(self.rows.tail_td) if j == count - 1 else 0
            batches = -(-rows // size)
            parts.append(_Part(pictures, first, batches))
            first += batches
        return parts

    def batches(self, size: int) -> int:
        """Batches of an epoch."""
        last = self.parts(size)[-1]
        return last.first + last.batches

    def epoch(self, seed: int, epoch: int, size: int) -> Callable[[int], Tensor]:
        """The function that gives batch 0, 1, ... of an epoch, as `InMemory.epoch`."""
        parts = self.parts(size)
        order_n = order(len(self.rows.pictures), torch.device("cpu"), seed, epoch).numpy()

        def batch(number: int) -> Tensor:
            j = next(j for j, part in enumerate(parts) if number < part.first + part.batches)
            self._held = {k: v for k, v in self._held.items() if k[:2] == (seed, epoch) and k[2] >= j}
            for k in (j, j + 1):
                if k < len(parts) and (seed, epoch, k) not in self._held:
                    where = order_n[parts[k].pictures]
                    last = k == len(parts) - 1
                    self._held[seed, epoch, k] = self._reader.submit(self._shuffled, where, (seed, epoch, k), last)
            x_nd = self._held[seed, epoch, j].result()
            return batch_of(x_nd, number - parts[j].first, parts[j].batches).to(self.device)

        return batch

    def _shuffled(self, pictures: np.ndarray, which: tuple[int, int, int], last: bool) -> Tensor:
        seed, epoch, part = which
        ordered = np.sort(pictures)  # read in the order of the disk; the shuffle is after
        x_bd = self.rows.read(self.rows.pictures[ordered]).reshape(-1, self.rows.d)
        x_bd = np.concatenate([x_bd, self.rows.tail_td]) if last and len(self.rows.tail_td) else x_bd
        x_nd = torch.from_numpy(self.normalisation.apply(x_bd))
        random = torch.Generator().manual_seed((seed * 1_000_003 + epoch + 1) * 100_003 + part)
        return x_nd[torch.randperm(len(x_nd), generator=random)]

    def in_order(self) -> Iterator[Tensor]:
        """All rows once, some pictures at a time."""
        for at in range(0, len(self.rows.pictures), READ_PICTURES):
            x_btd = self.rows.read(self.rows.pictures[at : at + READ_PICTURES])
            yield torch.from_numpy(self.normalisation.apply(x_btd.reshape(-1, self.rows.d))).to(self.device)
        if len(self.rows.tail_td):
            yield torch.from_numpy(self.normalisation.apply(self.rows.tail_td)).to(self.device)

    def sample(self, most: int) -> Tensor:
        """At most so many rows, evenly spread."""
        rows = np.arange(0, len(self), max(1, -(-len(self) // most)))
        return torch.from_numpy(self.normalisation.apply(self.rows[rows])).to(self.device)


def order(n: int, device: torch.device, seed: int, epoch: int) -> Tensor:
    """The order of an epoch (from 0) -> int64 [n], drawn on the device."""
    generator = torch.Generator(device).manual_seed(seed * 1_000_003 + epoch + 1)
    return torch.randperm(n, generator=generator, device=device)


def batch_of(rows: Tensor, number: int, batches: int) -> Tensor:
    """One batch of rows that are in order already. All are of one size (to one row): a last one of a few rows would
    take a step as long as the others', in a direction that is mostly noise (docs/decisions/024)."""
    n = len(rows)
    return rows[number * n // batches : (number + 1) * n // batches]
