from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medsae import config
from medsae.sae.gradients import Cells, Dense
from medsae.sae.kinds.common import (
    Gradients,
    Start,
    Step,
    Weights,
    autoencoder_gradients,
    report,
    residual,
    where_active,
)


@dataclass(frozen=True)
class Relu:
    """z = ReLU(W_enc (x - b_pre) + b_enc),  x^ = W_dec z + b_pre  (Eq. 1)
    L = |x - x^|^2 + l1 sum_j z_j  (Eq. 2), rows of W_dec kept at norm 1: else shrinking z and growing W_dec evades l1.

    decoder_norm "weighted": L = |x - x^|^2 + l1 sum_j z_j |w_dec,j| with a free decoder, which cannot be evaded either
    (Conerly et al., Update on how we train SAEs, Transformer Circuits, April 2024).
    Start: W_dec rows random directions of norm 1, W_enc = encoder_norm * W_dec, biases 0 (docs/decisions/020).
    """

    options: config.Relu
    matrices = 1

    @property
    def unit_decoder(self) -> bool:
        return self.options.decoder_norm == "unit"

    @property
    def encoder_norm(self) -> float:
        return self.options.encoder_norm

    def start(self, start: Start) -> Weights:
        return {}

    def memory(self, start: Start) -> Weights:
        return {}

    def floor(self, w: Weights) -> Tensor:
        return torch.zeros_like(w["b_enc"])

    def activate(self, cells: Cells, w: Weights) -> Tensor:
        return cells.values.clamp_(min=0)

    def chosen(self, cells: Dense) -> None:
        return None

    def gradients(self, cells: Cells, x_nd: Tensor, w: Weights, grads: Gradients) -> Step:
        z = self.activate(cells, w)
        e_nd = residual(cells, z, x_nd, w)
        scaled = e_nd * (2 / cells.n)
        price = self.options.l1 / cells.n
        g = cells.correlate(scaled, w["W_dec"])
        if self.unit_decoder:
            where_active(g.add_(price), z)
            penalty = price * z.sum()
            autoencoder_gradients(grads, cells, z, g, scaled, x_nd, w)
        else:
            norm_m = w["W_dec"].norm(dim=1)
            z_m = cells.over_images(z)
            where_active(g.add_(cells.neuron(price * norm_m)), z)
            penalty = price * torch.dot(norm_m, z_m)
            autoencoder_gradients(grads, cells, z, g, scaled, x_nd, w)
            grads["W_dec"].addcmul_(w["W_dec"], (price * z_m / norm_m.clamp(min=1e-30))[:, None])
        return report(cells, z, e_nd, penalty)
