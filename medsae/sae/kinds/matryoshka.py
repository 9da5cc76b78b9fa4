from __future__ import annotations

import torch
from torch import Tensor

from medsae.sae.gradients import Cells
from medsae.sae.kinds.common import Gradients, Step, Weights, encoder_gradients, report, revive
from medsae.sae.kinds.topk import OfBatch, batch_top

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
"""Nested prefixes as shares of the neurons (Bussmann et al. 2025: groups of 1/16, 1/16, 1/8, 1/4, 1/2)."""


class Matryoshka(OfBatch):
    """Batch top-k whose every prefix of neurons must rebuild x alone:
    L = mean_g |x - b_pre - sum_{j < m_g} z_j w_dec,j|^2 + alpha L_aux, m_g = m * SHARES
    (Bussmann et al., Learning multi-level features with Matryoshka SAEs, 2025; they add the prefixes, here their mean,
    so that the loss compares with other kinds)."""

    def gradients(self, cells: Cells, x_nd: Tensor, w: Weights, grads: Gradients) -> Step | None:
        chosen = batch_top(cells, self.options.k, w)
        if chosen is None:
            return None
        z, m, e_nd = chosen.values, chosen.m, w["b_pre"] - x_nd
        ends = sorted({max(1, round(share * m)) for share in SHARES})
        groups = [(slice(a, b), chosen.columns(a, b)) for a, b in zip([0, *ends], ends, strict=False)]
        residuals = []
        for here, cells_g in groups:
            e_nd = e_nd + cells_g.decode(cells_g.values, w["W_dec"][here])
            residuals.append(e_nd)
        mean_error = torch.stack([e.square().sum() for e in residuals]).mean() / chosen.n
        scale = 2 / (chosen.n * len(groups))
        g, behind = torch.zeros_like(z), torch.zeros_like(e_nd)
        grads.add("W_dec", torch.zeros_like(w["W_dec"]))
        for (here, cells_g), e_g in zip(reversed(groups), reversed(residuals), strict=True):
            behind += e_g * scale  # a neuron is part of its own prefix and of all longer ones
            g[chosen.of_columns(here.start, here.stop)] = cells_g.correlate(behind, w["W_dec"][here])
            grads["W_dec"][here] = cells_g.outer(cells_g.values, behind)
        encoder_gradients(grads, chosen, g, x_nd, w)
        grads.add("b_enc", chosen.over_images(g))
        grads.add("b_pre", behind.sum(0))
        step = report(chosen, z, e_nd, mean_error - e_nd.square().sum() / chosen.n)
        return revive(step, e_nd, x_nd, w, grads)
