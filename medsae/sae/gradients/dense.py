"""All cells of a batch: five matrix products a step, the right path while many neurons fire."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from medsae.sae.gradients.products import times_transposed

CELLS_IN_CACHE = 2**22
"""Cells that are worked on at once on a CPU: 16 MiB of each of their numbers. More leave the last level of the cache,
and memory of more than 32 MiB is asked from the system anew each time, page by page."""

CELLS_ON_GPU = 2**25
"""The same on a GPU: 128 MiB."""


def in_blocks(x_nd: Tensor, m: int, matrices: int = 1) -> Iterator[Tensor]:
    """Rows of x in equal blocks of so many that so many arrays [images, m] fit: on a CPU its cache, on a GPU 128 MiB.
    At least d / 4: with fewer, reading weights and adding up gradients for every block costs more than it saves."""
    return iter(x_nd.tensor_split(blocks(len(x_nd), x_nd.shape[1], m, x_nd.device.type, matrices)))


def blocks(n: int, d: int, m: int, device: str = "cpu", matrices: int = 1) -> int:
    """In how many parts `in_blocks` cuts n rows."""
    cells = CELLS_IN_CACHE if device == "cpu" else CELLS_ON_GPU
    rows = max(1, cells // (m * matrices), d // 4)
    return max(1, -(-n // rows))


@dataclass
class Dense:
    """`Cells` as a matrix, of a batch or of some of its images."""

    values: Tensor
    batch: int | None = None
    """Images of the whole batch, where these are a part of it."""

    @property
    def n(self) -> int:
        return self.batch or len(self.values)

    @property
    def m(self) -> int:
        return self.values.shape[1]

    def neuron(self, p_m: Tensor) -> Tensor:
        return p_m

    def decode(self, v: Tensor, w_md: Tensor) -> Tensor:
        return times_transposed(v, w_md.T, "decode")

    def correlate(self, e_nd: Tensor, w_md: Tensor) -> Tensor:
        return times_transposed(e_nd, w_md)

    def outer(self, v: Tensor, y_nd: Tensor) -> Tensor:
        if 2 * self.n <= y_nd.shape[1]:  # a small batch: v is smaller than the result
            return times_transposed(v.T, y_nd.T, "outer")
        return times_transposed(y_nd.T, v.T, "outer").T  # [d, m] first: v is not copied, and the sum of all slices once

    def over_images(self, v: Tensor) -> Tensor:
        return v.sum(0)

    def top_of_each(self, k: int) -> Tensor:
        top = self.values.topk(k, dim=1, sorted=False).indices
        return torch.zeros_like(self.values, dtype=torch.bool).scatter_(1, top, True)

    def top_of_all(self, count: int) -> Tensor:
        """Which cells are among the `count` largest of these images -> bool [images, m]."""
        flat = self.values.reshape(-1)
        top = flat.topk(min(count, flat.numel()), sorted=False).indices
        return torch.zeros_like(flat, dtype=torch.bool).scatter_(0, top, True).view_as(self.values)
