"""An embedding as a sum over the cells of the picture: where a value was collected.

For a network of the form cells -> pooling -> linear, the embedding before the division by its norm is exactly

    embedding = sum over cells of part + constant

A mean gives every cell its share; a maximum belongs to the cell that wins it. With the norm of the picture held, a
neuron's pre-activation is then a sum over the cells too. Exact is where the value was *collected*, not what caused it:
a cell sees much more of the picture than its own square (`reach_px`).

An encoder of a plug-in joins by an attribute `cell_module` (a `Cells`). Not covered: networks that pool by a CLS token
or by attention, where no such sum exists.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F

from medsae.encoders import Encoder
from medsae.encoders.efficientnet import Pooled
from medsae.encoders.medclip import ResNetTower, ViTTower
from medsae.encoders.simclip import ImageTower


class Cells(Protocol):
    """The parts of an embedding."""

    grid: tuple[int, int]
    """Rows and columns of cells."""
    first_px: float
    """Where the first cell lies, from the top (and the left) of the network's input, in px of it."""
    step_px: float
    """From one cell to the next, in px."""
    reach_px: int
    """Side of the square of the input that a cell can see, in px (the whole input for transformers)."""

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 [b, c, s, s] -> parts [b, rows * columns, d] row by row from the top left, constant [d]."""
        ...


def of(encoder: Encoder) -> Cells | None:
    """The parts of this encoder's embeddings in float32; None where the embedding is no sum over cells."""
    given = getattr(encoder, "cell_module", None)
    if given is not None:
        return given
    match encoder.module:
        case ImageTower() as tower:
            return SimclipCells(tower)
        case ResNetTower() as tower:
            return ResNetCells(tower)
        case ViTTower() as tower:
            return SwinCells(tower)
        case Pooled() as tower:
            return EfficientNetCells(tower)
    return None


class SimclipCells:
    """Mean and maximum over 8 x 8 cells, one projection. Strides of 2 with padding 1 put cell r at pixel 16 r."""

    grid, first_px, step_px, reach_px = (8, 8), 0.0, 16.0, 127

    def __init__(self, tower: ImageTower):
        self.tower = tower

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cells = self.tower.stages(self.tower.stem(pixels)).flatten(2)
        _, c, t = cells.shape
        project = self.tower.project
        mean = torch.einsum("bct,dc->btd", cells / t, project.weight[:, :c])
        value, winner = cells.max(2)
        won = value[:, None] * F.one_hot(winner, t).transpose(1, 2).to(value.dtype)
        return mean + won @ project.weight[:, c:].T, project.bias


class ResNetCells:
    """MedCLIP-ResNet: the mean over 7 x 7 cells through a linear map without bias."""

    grid, first_px, step_px, reach_px = (7, 7), 0.0, 32.0, 224

    def __init__(self, tower: ResNetTower):
        self.net = tower.model

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cells = self.net.features(pixels).flatten(2).transpose(1, 2)
        return self.net.fc(cells) / cells.shape[1], torch.zeros(self.net.fc.out_features)


class SwinCells:
    """MedCLIP-ViT: the mean over the 7 x 7 tokens of the last stage through a linear map without bias."""

    grid, first_px, step_px, reach_px = (7, 7), 15.5, 32.0, 224

    def __init__(self, tower: ViTTower):
        self.tower = tower

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        net, project = self.tower.model, self.tower.projection_head
        tokens = net.layernorm(net.encoder(net.embeddings(pixels)))
        return project(tokens) / tokens.shape[1], torch.zeros(project.out_features)


class EfficientNetCells:
    """EfficientNet-lite0: the mean over 7 x 7 cells.

    Its padding lies at the far side, which alone would put cell r at 32 r + 31; the trained kernels lean back: the
    squared gradients of inner cells on radiographs have their centre at 32 r + 22.5 (on noise at 32 r + 19).
    """

    grid, first_px, step_px, reach_px = (7, 7), 22.5, 32.0, 224

    def __init__(self, pooled: Pooled):
        self.net = pooled.net

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cells = self.net.extract_features(pixels).flatten(2).transpose(1, 2)  # pyright: ignore[reportCallIssue]
        return cells / cells.shape[1], torch.zeros(cells.shape[2])
