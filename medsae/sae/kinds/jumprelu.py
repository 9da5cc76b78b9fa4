from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from medsae import config
from medsae.sae.gradients import Cells, Dense
from medsae.sae.kinds.common import Gradients, Start, Step, Weights, autoencoder_gradients, report, residual

FIRST_THRESHOLD = 0.1
"""For embeddings of norm sqrt(d) (Anthropic, Circuits updates, January 2025: JumpReLU)."""
BANDWIDTH = 0.2
"""epsilon. The 0.001 of the first paper, 0.001 sqrt(d) in our units, holds so few cells of a small data set that the
thresholds hardly move; 2 (Anthropic) holds nearly all cells, and nothing is sparse (docs/decisions/023)."""


@dataclass(frozen=True)
class JumpRelu:
    """z = pre H(pre - theta),  L = |x - x^|^2 + l0 sum_j H(pre_j - theta_j), theta = exp(log_threshold) > 0.

    The steps get the pseudo-derivatives of Rajamanoharan et al., Jumping ahead, 2024 (Eq. 11-12), with the rectangle
    K(u) = [|u| < 1/2] and bandwidth epsilon:
        dz/dtheta = -(theta / epsilon) K((pre - theta) / epsilon)
        dH/dtheta = -(1 / epsilon) K((pre - theta) / epsilon)
    so cells within epsilon / 2 below a threshold count too. Rows of W_dec kept at norm 1."""

    options: config.JumpRelu
    unit_decoder = True
    matrices = 2
    encoder_norm = 1.0

    def start(self, start: Start) -> Weights:
        return {"log_threshold": torch.full((start.m,), math.log(FIRST_THRESHOLD))}

    def memory(self, start: Start) -> Weights:
        return {"bandwidth": torch.tensor(BANDWIDTH)}

    def floor(self, w: Weights) -> Tensor:
        return w["log_threshold"].exp() - w["bandwidth"] / 2

    def activate(self, cells: Cells, w: Weights) -> Tensor:
        return cells.values.masked_fill(cells.values <= cells.neuron(w["log_threshold"].exp()), 0)

    def chosen(self, cells: Dense) -> None:
        return None

    def gradients(self, cells: Cells, x_nd: Tensor, w: Weights, grads: Gradients) -> Step:
        theta = cells.neuron(w["log_threshold"].exp())
        on = cells.values > theta
        near = (cells.values - theta).abs() < w["bandwidth"] / 2
        z = self.activate(cells, w)
        e_nd = residual(cells, z, x_nd, w)
        scaled = e_nd * (2 / cells.n)
        price = self.options.l0 / cells.n
        g_z = cells.correlate(scaled, w["W_dec"])
        # d/d log theta = theta d/d theta
        g_log = (g_z * theta).add_(price).mul_(near).mul_(theta / -w["bandwidth"])
        grads.add("log_threshold", cells.over_images(g_log))
        del g_log
        autoencoder_gradients(grads, cells, z, g_z.mul_(on), scaled, x_nd, w)
        return report(cells, z, e_nd, price * on.sum())
