"""Swin-tiny, patch 4, window 7, input 224 (Liu et al., ICCV 2021), parameters named as in MedCLIP-ViT's checkpoint.

The names are those of transformers 4; version 5 has renamed them, so the network is written here and does not follow.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from medsae.encoders.fuse import fold_grey

WINDOW = 7
DEPTHS, HEADS = (2, 2, 6, 2), (3, 6, 12, 24)
GRID, WIDTH = 56, 96
"""Patches a side and channels at the first stage; each stage halves the first and doubles the second."""
FAR = -100.0
"""Added to the attention between patches that the cyclic shift has made neighbours."""


class Dense(nn.Module):
    """A linear layer under the name the checkpoint gives it."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(x)


class WindowAttention(nn.Module):
    """softmax(q k' / sqrt(head width) + bias of the relative position) v inside each window (Eq. 4 of the paper)."""

    index: torch.Tensor

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        self.register_buffer("index", relative_position_index(), persistent=False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """x [b, windows, 49, dim], mask [windows, 49, 49] or None -> like x."""
        b, windows, cells, dim = x.shape

        def split(layer: nn.Linear) -> torch.Tensor:
            return layer(x).view(b, windows, cells, self.heads, -1).transpose(2, 3)

        bias = self.relative_position_bias_table[self.index].permute(2, 0, 1)[None]
        if mask is not None:
            bias = bias + mask[:, None]
        y = F.scaled_dot_product_attention(split(self.query), split(self.key), split(self.value), bias[None])
        return y.transpose(2, 3).reshape(b, windows, cells, dim)


class Attention(nn.Module):
    """Window attention and the linear layer that mixes its heads."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.self = WindowAttention(dim, heads)
        self.output = Dense(dim, dim)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        return self.output(self.self(x, mask))


class Block(nn.Module):
    """Windowed attention and a two-layer network, each on the normalised input and added to it (Eq. 3)."""

    def __init__(self, dim: int, heads: int, grid: int, shifted: bool):
        super().__init__()
        self.grid = grid
        # a grid of one window has nothing to shift into
        self.shift = WINDOW // 2 if shifted and grid > WINDOW else 0
        self.layernorm_before, self.layernorm_after = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.intermediate, self.output = Dense(dim, 4 * dim), Dense(4 * dim, dim)
        self.register_buffer("mask", shift_mask(grid, self.shift) if self.shift else None, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[b, grid * grid, dim] -> the same shape."""
        b, cells, dim = x.shape
        n = self.grid // WINDOW
        y = self.layernorm_before(x).view(b, self.grid, self.grid, dim)
        if self.shift:
            y = y.roll((-self.shift, -self.shift), (1, 2))
        y = y.view(b, n, WINDOW, n, WINDOW, dim).transpose(2, 3).reshape(b, n * n, WINDOW * WINDOW, dim)
        y = self.attention(y, self.mask)
        y = y.view(b, n, n, WINDOW, WINDOW, dim).transpose(2, 3).reshape(b, self.grid, self.grid, dim)
        if self.shift:
            y = y.roll((self.shift, self.shift), (1, 2))
        x = x + y.view(b, cells, dim)
        return x + self.output(F.gelu(self.intermediate(self.layernorm_after(x))))


class Merging(nn.Module):
    """Four neighbouring patches become one: normalised and mapped from 4 * dim to 2 * dim."""

    def __init__(self, dim: int, grid: int):
        super().__init__()
        self.grid = grid
        self.norm, self.reduction = nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, _, dim = x.shape
        half = self.grid // 2
        # column before row: the order in which the checkpoint's weights expect the four
        x = x.view(b, half, 2, half, 2, dim).permute(0, 1, 3, 4, 2, 5).reshape(b, half * half, 4 * dim)
        return self.reduction(self.norm(x))


class Patches(nn.Module):
    """Non-overlapping 4 x 4 patches -> WIDTH channels."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, WIDTH, 4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.projection(x).flatten(2).transpose(1, 2)


class Embeddings(nn.Module):
    """Normalised patches: [b, c, 224, 224] -> [b, 56 * 56, 96]."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embeddings, self.norm = Patches(), nn.LayerNorm(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.patch_embeddings(x))


class Stage(nn.Module):
    """Blocks at one resolution, every second one with shifted windows; then merging, except after the last."""

    def __init__(self, number: int):
        super().__init__()
        dim, grid = WIDTH << number, GRID >> number
        self.blocks = nn.Sequential(*(Block(dim, HEADS[number], grid, bool(i % 2)) for i in range(DEPTHS[number])))
        self.downsample = Merging(dim, grid) if number + 1 < len(DEPTHS) else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(x)
        return x if self.downsample is None else self.downsample(x)


class Encoder(nn.Module):
    """The four stages."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(Stage(number) for number in range(len(DEPTHS))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class SwinTiny(nn.Module):
    """[b, 3, 224, 224] -> [b, 768]: the mean of the last stage's normalised tokens."""

    dim = WIDTH * 8

    def __init__(self) -> None:
        super().__init__()
        self.embeddings, self.encoder, self.layernorm = Embeddings(), Encoder(), nn.LayerNorm(self.dim)

    def tokens(self, x: torch.Tensor) -> torch.Tensor:
        """[b, 49, 768]: the last stage's normalised tokens, row by row."""
        return self.layernorm(self.encoder(self.embeddings(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tokens(x).mean(1)


def relative_position_index() -> torch.Tensor:
    """int64 [49, 49]: row of the bias table for each pair of cells of a window."""
    row, column = torch.arange(WINDOW * WINDOW).div(WINDOW, rounding_mode="floor"), torch.arange(WINDOW**2) % WINDOW
    down, right = row[:, None] - row[None] + WINDOW - 1, column[:, None] - column[None] + WINDOW - 1
    return down * (2 * WINDOW - 1) + right


def shift_mask(grid: int, shift: int) -> torch.Tensor:
    """float32 [windows, 49, 49]: 0 between cells that were neighbours before the cyclic shift, FAR between others."""
    band = torch.zeros(grid, dtype=torch.long)
    band[-WINDOW:] = 1
    band[-shift:] = 2
    region = (band[:, None] * 3 + band[None]).view(grid // WINDOW, WINDOW, grid // WINDOW, WINDOW)
    region = region.transpose(1, 2).reshape(-1, WINDOW * WINDOW)
    return torch.where(region[:, :, None] == region[:, None, :], 0.0, FAR)


def without_computed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors without the index buffers that older versions of transformers saved; they are computed here."""
    return {k: v for k, v in tensors.items() if not k.endswith("relative_position_index")}


def for_inference(net: SwinTiny) -> None:
    """Take one grey channel instead of three equal ones, in place."""
    fold_grey(net.embeddings.patch_embeddings, "projection")
