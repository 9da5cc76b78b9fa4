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

import torch
from torch import Tensor

from medsae.sae.gradients.sparse import Sparse

_UP = 1 + 2**-7
"""A number times this, rounded to nearest in bf16 (8 bits), is not below the number."""


class Screen:
    """Finds candidates in batches of at most n images, d inputs and m neurons, in memory of its own, so that a step
    allocates nothing large."""

    def __init__(self, n: int, d: int, m: int, low_precision: bool):
        self.d, self.m, self.low_precision = d, m, low_precision
        self.width = -(-(d + 6) // 8) * 8
        self.gamma = 4 * self.width * 2**-24  # twice for the screen and the fp32 value, twice more to be safe
        kind = torch.bfloat16 if low_precision else torch.float32
        self.product_nm = torch.empty(n, m, dtype=kind)
        self.on_nm = torch.empty(n, m, dtype=torch.bool)
        if low_precision:
            self.x = torch.zeros(n, self.width, dtype=kind)
            self.w = torch.zeros(m, self.width, dtype=kind)

    def cells(self, x_nd: Tensor, w_md: Tensor, bias_m: Tensor, floor_m: Tensor) -> Sparse:
        """Every cell with <x_n, w_j> + bias_j > floor_j, with that value in fp32."""
        n = len(x_nd)
        product_nm, on_nm = self.product_nm[:n], self.on_nm[:n]
        if self.low_precision:
            self._low_precision(x_nd, w_md, bias_m - floor_m, product_nm)
            torch.gt(product_nm.view(torch.int16), 0, out=on_nm)  # the sign bit of bf16 is that of int16
        else:
            margin_m = self.gamma * (
                x_nd.norm(dim=1).max() * w_md.norm(dim=1) + bias_m.abs() + floor_m.abs()
            )  # two fp32 sums in another order differ by less
            torch.mm(x_nd, w_md.T, out=product_nm)
            torch.gt(product_nm, floor_m - bias_m - margin_m, out=on_nm)
        cell = where(on_nm)
        image = torch.div(cell, self.m, rounding_mode="floor")
        column = cell - image * self.m
        candidates = Sparse(image, column, x_nd.new_zeros(0), n, self.m)
        candidates.values = candidates.correlate(x_nd, w_md).add_(bias_m[column])
        return candidates.only(candidates.values > floor_m[column])

    def _low_precision(self, x_nd: Tensor, w_md: Tensor, bias_m: Tensor, out_nm: Tensor) -> None:
        d, x, w = self.d, self.x[: len(x_nd)], self.w
        x[:, :d], w[:, :d] = x_nd, w_md
        x[:, d : d + 4] = 1.0
        x[:, d + 4] = x_nd.norm(dim=1) * _UP
        x[:, d + 5] = (x_nd - x[:, :d]).norm(dim=1) * _UP
        rest_m = bias_m.clone()
        for column in range(d, d + 3):
            w[:, column] = rest_m
            rest_m -= w[:, column]
        w[:, d + 3] = bias_m.abs() * (self.gamma * _UP)
        norm_m = w_md.norm(dim=1)
        w[:, d + 4] = ((w_md - w[:, :d]).norm(dim=1) + self.gamma * norm_m) * _UP
        w[:, d + 5] = norm_m * (_UP * (1 + 2**-8))
        torch.mm(x, w.T, out=out_nm)


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
