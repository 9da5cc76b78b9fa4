"""A list of cells: everything after the encoder touches these alone, and the gradients are still exact."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

with warnings.catch_warnings():  # torch says once a process that compressed rows are in beta
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor(torch.tensor([0, 0]), torch.tensor([], dtype=torch.int64), torch.tensor([]), (1, 1))


@dataclass
class Sparse:
    """`Cells` as a list, ordered by image and then by neuron.

    Sums over neurons (decoding) and over images (gradients of the weights) are bags of weighted rows, added one after
    the other in the order of the list: the same bits on every run and for any number of threads.
    """

    image: Tensor
    """int64 [c], ascending."""
    column: Tensor
    """int64 [c]: the neuron."""
    values: Tensor
    """float32 [c]: pre-activations."""
    n: int
    m: int

    @cached_property
    def image_starts(self) -> Tensor:
        """Where each image's cells begin, and the end -> int64 [n + 1]."""
        return starts(self.image, self.n)

    @cached_property
    def transposed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Order of the cells by neuron, their images in that order, and where each neuron begins."""
        order = torch.argsort(self.column, stable=True)
        return order, self.image[order], starts(self.column, self.m)

    def neuron(self, p_m: Tensor) -> Tensor:
        return p_m[self.column]

    def decode(self, v: Tensor, w_md: Tensor) -> Tensor:
        return bags(v, self.column, self.image_starts, w_md)

    def correlate(self, e_nd: Tensor, w_md: Tensor) -> Tensor:
        pattern = torch.sparse_csr_tensor(
            self.image_starts, self.column, e_nd.new_zeros(len(self.column)), (self.n, self.m), check_invariants=False
        )
        return torch.sparse.sampled_addmm(pattern, e_nd, w_md.T, beta=0.0).values()

    def outer(self, v: Tensor, y_nd: Tensor) -> Tensor:
        order, image, begins = self.transposed
        return bags(v[order], image, begins, y_nd)

    def over_images(self, v: Tensor) -> Tensor:
        return torch.zeros(self.m, dtype=v.dtype, device=v.device).index_add_(0, self.column, v)

    def top_of_each(self, k: int) -> Tensor:
        begin, count = self.image_starts[:-1], self.image_starts.diff()
        widest = int(count.max()) if self.n else 0
        if widest <= k:
            return torch.ones_like(self.image, dtype=torch.bool)
        place = torch.arange(len(self.image), device=self.image.device) - begin[self.image]
        padded = self.values.new_full((self.n, widest), -torch.inf)
        padded[self.image, place] = self.values
        top = padded.topk(k, dim=1, sorted=False).indices
        there = top < count[:, None]
        on = torch.zeros_like(self.image, dtype=torch.bool)
        on[(top + begin[:, None])[there]] = True
        return on

    def top_of_all(self, count: int) -> Tensor:
        """Which cells are among the `count` largest of the list -> bool [c]."""
        top = self.values.topk(min(count, len(self.values)), sorted=False).indices
        return torch.zeros_like(self.image, dtype=torch.bool).scatter_(0, top, True)

    def only(self, on: Tensor) -> Sparse:
        """The cells where `on`."""
        at = on.nonzero().view(-1)
        return Sparse(self.image[at], self.column[at], self.values[at], self.n, self.m)

    def replace_images(self, images: Tensor, other: Sparse) -> Sparse:
        """The cells of `other` (whose image i is images[i] here) in place of this list's cells of those images."""
        replaced = torch.zeros(self.n, dtype=torch.bool, device=images.device).index_fill_(0, images, True)
        rest = self.only(~replaced[self.image])
        image = torch.cat([rest.image, images[other.image]])
        order = torch.argsort(image, stable=True)
        column, values = torch.cat([rest.column, other.column]), torch.cat([rest.values, other.values])
        return Sparse(image[order], column[order], values[order], self.n, self.m)

    def of_columns(self, first: int, last: int) -> Tensor:
        """Which cells belong to neurons first <= j < last -> bool [c]."""
        return (self.column >= first) & (self.column < last)

    def columns(self, first: int, last: int) -> Sparse:
        """Those cells, with their neurons renumbered from 0."""
        part = self.only(self.of_columns(first, last))
        return replace(part, column=part.column - first, m=last - first)

    @staticmethod
    def joined(parts: list[Sparse]) -> Sparse:
        """Lists of some images each, one after the other, as the list of all of them."""
        first, images = 0, []
        for part in parts:
            images.append(part.image + first)
            first += part.n
        return Sparse(torch.cat(images), torch.cat([part.column for part in parts]),
                      torch.cat([part.values for part in parts]), first, parts[0].m)  # fmt: skip


def starts(index: Tensor, size: int) -> Tensor:
    """Where each value 0 <= index < size begins when the list is sorted by it, and the end -> [size + 1]."""
    out = torch.zeros(size + 1, dtype=torch.int64, device=index.device)
    torch.cumsum(torch.bincount(index, minlength=size), 0, out=out[1:])
    return out


def bags(v: Tensor, index: Tensor, begins: Tensor, rows: Tensor) -> Tensor:
    """sum of v_i * rows[index_i] over each bag begins[b] <= i < begins[b + 1] -> [bags, d]; an empty bag gives 0."""
    return embedding_bag(index, rows, begins, mode="sum", per_sample_weights=v, include_last_offset=True)
