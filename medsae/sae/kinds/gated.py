from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medsae import config
from medsae.sae.gradients import Cells, Dense
from medsae.sae.kinds.common import Gradients, Start, Step, Weights, encoder_gradients, report, residual


@dataclass(frozen=True)
class Gated:
    """gate = W_enc (x - b_pre) + b_enc,  magnitude = exp(r_mag) (W_enc (x - b_pre)) + b_mag,
    z = H(gate) ReLU(magnitude),
    L = |x - x^(z)|^2 + l1 sum_j ReLU(gate_j) + |x - x^_frozen(ReLU(gate))|^2, where the frozen decoder (W_dec, b_pre as
    decoder bias) gets no gradient (Rajamanoharan et al., Improving dictionary learning with gated SAEs, 2024, Eq. 6-8).
    r_mag and b_mag start at 0; rows of W_dec kept at norm 1."""

    options: config.Gated
    unit_decoder = True
    matrices = 2
    encoder_norm = 1.0

    def start(self, start: Start) -> Weights:
        return {"r_mag": torch.zeros(start.m), "b_mag": torch.zeros(start.m)}

    def memory(self, start: Start) -> Weights:
        return {}

    def floor(self, w: Weights) -> Tensor:
        return torch.zeros_like(w["b_enc"])

    def activate(self, cells: Cells, w: Weights) -> Tensor:
        linear = cells.values - cells.neuron(w["b_enc"])
        return (linear * cells.neuron(w["r_mag"].exp()) + cells.neuron(w["b_mag"])).clamp_(min=0) * (cells.values > 0)

    def chosen(self, cells: Dense) -> None:
        return None

    def gradients(self, cells: Cells, x_nd: Tensor, w: Weights, grads: Gradients) -> Step:
        on = cells.values > 0
        linear = cells.values - cells.neuron(w["b_enc"])
        z = self.activate(cells, w)
        gate = cells.values.clamp_(min=0)
        e_nd = residual(cells, z, x_nd, w)
        e_gate_nd = residual(cells, gate, x_nd, w)
        price = self.options.l1 / cells.n
        scaled = e_nd * (2 / cells.n)

        growth = cells.neuron(w["r_mag"].exp())
        g_mag = cells.correlate(scaled, w["W_dec"]).mul_(z > 0)
        g_gate = cells.correlate(e_gate_nd * (2 / cells.n), w["W_dec"]).add_(price).mul_(on)
        grads.add("b_enc", cells.over_images(g_gate))
        grads.add("b_mag", cells.over_images(g_mag))
        grads.add("r_mag", cells.over_images(linear.mul_(g_mag).mul_(growth)))
        encoder_gradients(grads, cells, g_gate.add_(g_mag.mul_(growth)), x_nd, w)
        grads.add("W_dec", cells.outer(z, scaled))
        grads.add("b_pre", scaled.sum(0))
        penalty = price * gate.sum() + e_gate_nd.square().sum() / cells.n
        return report(cells, z, e_nd, penalty)
