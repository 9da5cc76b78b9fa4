from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medsae import config
from medsae.sae.gradients import Cells, Dense
from medsae.sae.kinds.common import (
    Start,
    Step,
    Weights,
    autoencoder_gradients,
    listed_cells,
    report,
    residual,
    revive,
    silent_memory,
)

GUESS = 0.9
"""The next batch is searched above this share of the smallest activation kept in this one."""
THRESHOLD_MEMORY = 0.9
"""Share of the old threshold that stays in the running mean of batch top-k."""


@dataclass(frozen=True)
class TopK:
    """z = ReLU(TopK_k(W_enc (x - b_pre) + b_enc)),  L = |x - x^|^2 + alpha L_aux  (Gao et al., Scaling and evaluating
    sparse autoencoders, 2024, sections 2.3 and A.2); W_enc starts as W_dec^T, rows of W_dec kept at norm 1, dead
    neurons are revived by AuxK (`revive`).

    `guess` is a floor for the search of the next batch: where an image has fewer than k cells above it, the batch is
    searched again in full, so that the guess is never seen in the result."""

    options: config.TopK
    unit_decoder = True

    def start(self, start: Start) -> Weights:
        return {}

    def memory(self, start: Start) -> Weights:
        return {"guess": torch.zeros(()), **silent_memory(start)}

    def floor(self, w: Weights) -> Tensor:
        return w["guess"].expand_as(w["b_enc"])

    def activate(self, cells: Cells, w: Weights) -> Tensor:
        return cells.values.masked_fill_(~(cells.top_of_each(self.options.k) & (cells.values > 0)), 0)

    def gradients(self, cells: Cells, x_nd: Tensor, w: Weights) -> Step | None:
        if not isinstance(cells, Dense) and w["guess"] > 0:
            here = cells.per_image(torch.ones_like(cells.values, dtype=torch.bool))
            if here.min() < self.options.k:
                return None
        cells = kept(cells, cells.top_of_each(self.options.k) & (cells.values > 0), w)
        return plain_step(cells, x_nd, w)


@dataclass(frozen=True)
class BatchTopK:
    """z = ReLU(pre) on the k * n largest cells of a batch of n images, L = |x - x^|^2 + alpha L_aux; at inference the
    cells above `threshold`, the mean over batches of the smallest activation that was kept (Bussmann et al., BatchTopK
    sparse autoencoders, 2024, Eq. 5), here a running mean with a memory of 10 batches."""

    options: config.BatchTopK
    unit_decoder = True

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
        return None if chosen is None else plain_step(chosen, x_nd, w)


def batch_top(cells: Cells, k: int, w: Weights) -> Cells | None:
    """The k * n largest positive cells of a batch; None where the list holds fewer than it should."""
    if not isinstance(cells, Dense) and w["guess"] > 0 and len(cells.values) < k * cells.n:
        return None
    cells = kept(cells, cells.top_of_all(k * cells.n) & (cells.values > 0), w)
    if len(cells.values):
        least, old = cells.values.min(), w["threshold"]
        w["threshold"].copy_(torch.where(old > 0, old.lerp(least, 1 - THRESHOLD_MEMORY), least))
    return cells


def kept(cells: Cells, on: Tensor, w: Weights) -> Cells:
    """The cells that are on, as a list; `guess` follows the smallest of them."""
    cells = listed_cells(cells, on) if isinstance(cells, Dense) else cells.only(on)
    if len(cells.values):
        w["guess"].copy_(GUESS * cells.values.min())
    return cells


def plain_step(cells: Cells, x_nd: Tensor, w: Weights) -> Step:
    """Squared error of chosen cells, and AuxK for the dead neurons."""
    z = cells.values
    e_nd = residual(cells, z, x_nd, w)
    scaled = e_nd * (2 / cells.n)
    grads = autoencoder_gradients(cells, z, cells.correlate(scaled, w["W_dec"]), scaled, x_nd, w)
    return revive(report(cells, z, e_nd, x_nd.new_zeros(()), grads), e_nd, x_nd, w)
