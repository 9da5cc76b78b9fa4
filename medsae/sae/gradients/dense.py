"""All cells of a batch: five matrix products a step, the right path while many neurons fire."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medsae.sae.gradients.products import times_transposed

CELLS_IN_CACHE = 2**22
"""Cells that are worked on at once on a CPU: 16 MiB of each of their numbers. More leave the last level of the cache,
and memory of more than 32 MiB is asked from the system anew each time, page by page."""


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
        return times_transposed(v, w_md.T)

    def correlate(self, e_nd: Tensor, w_md: Tensor) -> Tensor:
        return times_transposed(e_nd, w_md)

    def outer(self, v: Tensor, y_nd: Tensor) -> Tensor:
        return times_transposed(y_nd.T, v.T).T  # [d, m] first: v is the larger one, and is not copied

    def over_images(self, v: Tensor) -> Tensor:
        return v.sum(0)

    def top_of_each(self, k: int) -> Tensor:
        top = self.values.topk(k, dim=1, sorted=False).indices
        return torch.zeros_like(self.values, dtype=torch.bool).scatter_(1, top, True)

    def top_of_all(self, count: int) -> Tensor:
        flat = self.values.reshape(-1)
        top = flat.topk(min(count, flat.numel()), sorted=False).indices
        return torch.zeros_like(flat, dtype=torch.bool).scatter_(0, top, True).view_as(self.values)

    def only(self, on: Tensor) -> Dense:
        return Dense(self.values.masked_fill_(~on, 0), self.batch)

    def columns(self, first: int, last: int) -> Dense:
        return Dense(self.values[:, first:last], self.batch)
