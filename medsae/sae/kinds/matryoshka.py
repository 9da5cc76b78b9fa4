from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medsae import config
from medsae.sae.gradients import Cells
from medsae.sae.kinds.common import Start, Step, Weights, autoencoder_gradients, report, revive, silent_memory
from medsae.sae.kinds.topk import batch_top

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
"""Nested prefixes as shares of the neurons (Bussmann et al. 2025: groups of 1/16, 1/16, 1/8, 1/4, 1/2)."""


@dataclass(frozen=True)
class Matryoshka:
    """Batch top-k (see BatchTopK) whose every prefix of neurons must rebuild x alone:
    L = mean_g |x - b_pre - sum_{j < m_g} z_j w_dec,j|^2 + alpha L_aux, m_g = m * SHARES
    (Bussmann et al., Learning multi-level features with Matryoshka SAEs, 2025; they add the prefixes, here their mean,
    so that the loss compares with other kinds)."""

    options: config.Matryoshka
    unit_decoder = True
    by_image = False
    encoder_norm = 1.0

    def start(self, start: Start) -> Weights:
        return {}

    def memory(self, start: Start) -> Weights:
        return {"guess": torch.zeros(()), "threshold": torch.zeros(()), **silent_memory(start)}

    def floor(self, w: Weights) -> Tensor:
        return w["guess"].expand_as(w["b_enc"])

    def activate(self, cells: Cells, w: Weights) -> Tensor:
        return cells.values.masked_fill_(cells.values <= w["threshold"], 0)

    def gradients(self, cells: Cells, x_nd: Tensor, w: Weights) -> Step | None:
        chosen = batch_top(cells, self.options.k, w)
        if chosen is None:
            return None
        ends = sorted({max(1, round(share * chosen.m)) for share in SHARES})
        groups = [
            (chosen.columns(a, b), {k: v[a:b] if k in ("W_enc", "b_enc", "W_dec") else v for k, v in w.items()})
            for a, b in zip([0, *ends], ends, strict=False)
        ]
        residuals, e_nd = [], w["b_pre"] - x_nd
        for cells_g, w_g in groups:
            e_nd = e_nd + cells_g.decode(cells_g.values, w_g["W_dec"])
            residuals.append(e_nd)
        scale = 2 / (chosen.n * len(groups))
        parts, behind = [], torch.zeros_like(e_nd)
        for (cells_g, w_g), e_g in zip(reversed(groups), reversed(residuals), strict=True):
            behind = behind + e_g * scale  # a neuron is part of its own prefix and of all longer ones
            g = cells_g.correlate(behind, w_g["W_dec"])
            parts.append(autoencoder_gradients(cells_g, cells_g.values, g, behind, x_nd, w_g))
        parts.reverse()
        grads = {name: torch.cat([part[name] for part in parts]) for name in ("W_enc", "b_enc", "W_dec")}
        # dL/dx^ reaches b_pre once a prefix, not once a group: keep the encoder's share of each, and the sum of all.
        grads["b_pre"] = behind.sum(0) - w["W_enc"].T @ grads["b_enc"]
        mean_error = torch.stack([e.square().sum() for e in residuals]).mean() / chosen.n
        step = report(chosen, chosen.values, e_nd, mean_error - e_nd.square().sum() / chosen.n, grads)
        return revive(step, e_nd, x_nd, w)
