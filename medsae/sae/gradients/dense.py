"""All cells of a batch: five matrix products a step, the right path while many neurons fire."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Dense:
    """`Cells` as a matrix. `spare_nm`, if given, takes the result of `correlate`, so that no step allocates it."""

    values: Tensor
    spare_nm: Tensor | None = None

    @property
    def n(self) -> int:
        return self.values.shape[0]

    @property
    def m(self) -> int:
        return self.values.shape[1]

    def neuron(self, p_m: Tensor) -> Tensor:
        return p_m

    def decode(self, v: Tensor, w_md: Tensor) -> Tensor:
        return v @ w_md

    def correlate(self, e_nd: Tensor, w_md: Tensor) -> Tensor:
        return torch.mm(e_nd, w_md.T, out=self.spare_nm) if self.spare_nm is not None else e_nd @ w_md.T

    def outer(self, v: Tensor, y_nd: Tensor) -> Tensor:
        return v.T @ y_nd

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
        return Dense(self.values.masked_fill_(~on, 0), self.spare_nm)

    def columns(self, first: int, last: int) -> Dense:
        return Dense(self.values[:, first:last])

    def per_image(self, on: Tensor) -> Tensor:
        return on.sum(1)

    def fired(self, on: Tensor) -> Tensor:
        return on.any(0)
