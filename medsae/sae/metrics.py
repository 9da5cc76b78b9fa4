"""How well an SAE does on images it is shown, without training on them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medsae import config
from medsae.sae.gradients import in_blocks, times_transposed
from medsae.sae.model import activations


@dataclass(frozen=True)
class Quality:
    """Means over images, of normalised embeddings."""

    mse: float
    """Squared error |x - x^|^2 summed over the d dimensions: the first term of Eq. 2."""
    l1: float
    """sum_j |z_j|."""
    active_share: float
    """Share of the m neurons that are active, in [0, 1]."""
    fve: float
    """Fraction of variance explained: 1 - sum |x - x^|^2 / sum |x - mean|^2; NaN for images that are all alike."""


def quality(kind: config.SaeKind, weights: dict[str, Tensor], x_nd: Tensor) -> Quality:
    """Quality of an SAE on normalised embeddings [n, d], n >= 1; streams over images."""
    m = len(weights["b_enc"])
    error, l1, active = (torch.zeros((), dtype=torch.float64, device=x_nd.device) for _ in range(3))
    for x in in_blocks(x_nd, m):
        z = activations(kind, weights, x)
        error += times_transposed(z, weights["W_dec"].T, "decode").add_(weights["b_pre"]).sub_(x).square().sum()
        l1 += z.sum()
        active += z.count_nonzero()
    spread = float((x_nd - x_nd.mean(0)).square().sum(dtype=torch.float64))
    n = len(x_nd)
    fve = 1 - float(error) / spread if spread > 0 else float("nan")
    return Quality(float(error) / n, float(l1) / n, float(active) / (n * m), fve)


def dead_neurons(kind: config.SaeKind, weights: dict[str, Tensor], x_nd: Tensor) -> Tensor:
    """Neurons that are active on none of these images -> bool [m]."""
    fired = torch.zeros(len(weights["b_enc"]), dtype=torch.bool, device=x_nd.device)
    for x in in_blocks(x_nd, len(fired)):
        fired |= (activations(kind, weights, x) > 0).any(0)
    return ~fired
