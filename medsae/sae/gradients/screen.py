"""Which cells can lie above their floor: a cheap product with a proven margin, then exact fp32 of the few that may.

Let x^ and w^ be x and w rounded to bf16. By Cauchy-Schwarz
    |<x, w> - <x^, w^>| <= |x| |w - w^| + |x - x^| |w^|,
and all four norms are known. Products of bf16 numbers are exact in fp32 and a sum of D terms in any order is off by at
most g(D) = D u / (1 - D u) times the sum of magnitudes, u = 2^-24 (Higham, Accuracy and Stability, 2002, eq. 3.5).
Bias, floor and margin ride in the same product as extra columns of x^ and w^, rounded up in bf16 (the bias split in
three bf16 numbers, which is exact to 24 bits). So the *sign* of the product decides, and the rounding of its result
to bf16 cannot change a sign. A cell whose product is not positive has an exact (and an fp32) pre-activation at or
below its floor. The cells that remain are computed in fp32, one dot product each. Their bits do not depend on how
the screening was done, so that a machine where bf16 is slow screens in fp32 and gets the same SAE.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medsae.sae.gradients.dense import CELLS_IN_CACHE
from medsae.sae.gradients.sparse import Sparse

_UP = 1 + 2**-7
"""A number times this, rounded to nearest in bf16 (8 bits), is not below the number."""


@dataclass(frozen=True)
class Question:
    """For which cells is <x_n, w_j> + bias_j > floor_j?"""

    w_md: Tensor
    bias_m: Tensor
    floor_m: Tensor


class Screen:
    """Finds candidates in batches of at most n images, d inputs and m neurons, some images at a time, in memory of its
    own: a step allocates nothing large, and signs are read while the product is in the cache."""

    def __init__(self, n: int, d: int, m: int, low_precision: bool):
        self.d, self.m = d, m
        width = -(-(d + 6) // 8) * 8
        self.gamma = 4 * width * 2**-24  # twice for the screen and the fp32 value, twice more to be safe
        kind = torch.bfloat16 if low_precision else torch.float32
        rows = max(1, min(n, CELLS_IN_CACHE // m))
        self.product_nm, self.on_nm = torch.empty(rows, m, dtype=kind), torch.empty(rows, m, dtype=torch.bool)
        self.x, self.w = torch.zeros(n, width, dtype=kind), torch.zeros(m, width, dtype=kind)
        self.x[:, d : d + 4] = 1.0

    def cells(self, x_nd: Tensor, q: Question) -> Sparse:
        """The answer to a question: every cell above its floor, with its value in fp32."""
        return above(self.near(x_nd, q.w_md, q.bias_m - q.floor_m, q.bias_m.abs() + q.floor_m.abs()), x_nd, q)

    def near(
        self, x_nd: Tensor, w_md: Tensor, level_m: Tensor, size_m: Tensor, slack_m: Tensor | None = None
    ) -> Sparse:
        """Candidates, without values: every cell with <x_n, v_j> + level_j > 0 for some v_j within slack_j of w_j
        (0 if not given), computed in fp32 by terms that are no larger than `size_m`; and some more."""
        d, n = self.d, len(x_nd)
        x, w = self.x[:n], self.w
        x[:, :d], w[:, :d] = x_nd, w_md
        x[:, d + 4] = x_nd.norm(dim=1) * _UP
        x[:, d + 5] = (x_nd - x[:, :d]).norm(dim=1) * _UP
        rest_m = level_m.clone()
        for column in range(d, d + 3):
            w[:, column] = rest_m
            rest_m -= w[:, column]
        w[:, d + 3] = size_m * (self.gamma * _UP)
        norm_m = w_md.norm(dim=1)
        margin_m = distance(w_md, w[:, :d]) + self.gamma * norm_m
        if slack_m is not None:
            margin_m += slack_m * (1 + self.gamma)
        w[:, d + 4] = margin_m * _UP
        w[:, d + 5] = norm_m * (_UP * (1 + 2**-8))
        cell = torch.cat([where(self.positive(part, w)) + i * len(self.on_nm) * self.m
                          for i, part in enumerate(x.split(len(self.on_nm)))])  # fmt: skip
        image = torch.div(cell, self.m, rounding_mode="floor")
        return Sparse(image, cell - image * self.m, x_nd.new_zeros(0), n, self.m)

    def positive(self, x: Tensor, w: Tensor) -> Tensor:
        """Where x w^T > 0 -> bool [images, m], in memory that the next call uses again."""
        product_nm, on_nm = self.product_nm[: len(x)], self.on_nm[: len(x)]
        torch.mm(x, w.T, out=product_nm)
        # A number of 2 or 4 bytes is positive when the whole number in the same bits is: compared faster, in bf16.
        return torch.gt(product_nm.view(torch.int16 if product_nm.element_size() == 2 else torch.int32), 0, out=on_nm)


def above(near: Sparse, x_nd: Tensor, q: Question) -> Sparse:
    """Those candidates that lie above their floor, with their values."""
    values = near.correlate(x_nd, q.w_md).add_(q.bias_m[near.column])
    return replace(near, values=values).only(values > q.floor_m[near.column])


def distance(a_md: Tensor, b_md: Tensor) -> Tensor:
    """|a_j - b_j| of every row -> [m]; some rows at a time, so that the difference stays in the cache."""
    parts = zip(a_md.split(1024), b_md.split(1024), strict=True)
    return torch.cat([torch.linalg.vector_norm(a - b, dim=1) for a, b in parts])


def where(on_nm: Tensor) -> Tensor:
    """Flat positions of True, ascending. Eight flags are looked at together: nearly all of them are off."""
    flat = on_nm.view(-1)
    if flat.numel() % 8:
        return flat.nonzero().view(-1)
    word = flat.view(torch.int64).nonzero().view(-1)
    flags = flat.view(-1, 8)[word].nonzero()
    return word[flags[:, 0]] * 8 + flags[:, 1]


def low_precision_is_faster(d: int, m: int) -> bool:
    """Measured here: does a bf16 product of this shape take less than 0.7 of the fp32 one?"""
    seconds = {}
    for kind in (torch.float32, torch.bfloat16):
        x, w = torch.ones(256, d, dtype=kind), torch.ones(m, d, dtype=kind)
        out = torch.empty(256, m, dtype=kind)
        took = []
        for _ in range(5):
            began = time.perf_counter()
            torch.mm(x, w.T, out=out)
            took.append(time.perf_counter() - began)
        seconds[kind] = sorted(took)[2]
    return seconds[torch.bfloat16] < 0.7 * seconds[torch.float32]
