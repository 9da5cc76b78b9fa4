from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medsae import config
from medsae.sae.gradients import Cells, Dense, Sparse
from medsae.sae.kinds.common import (
    Gradients,
    Start,
    Step,
    Weights,
    autoencoder_gradients,
    listed_cells,
    pre_activation_bias,
    pre_activations,
    report,
    residual,
    revive,
    silent_memory,
)

GUESS = 0.98
"""The next batch is searched above this share of what nearly all images of this one needed ..."""
SHORT = 1 / 256
"""... that is all but this share of them."""
BATCH_GUESS = 0.95
"""Batch top-k is searched above this share of the smallest activation that the last batch kept."""
THRESHOLD_MEMORY = 0.9
"""Share of the old threshold that stays in the running mean of batch top-k."""


@dataclass(frozen=True)
class TopK:
    """z = ReLU(TopK_k(W_enc (x - b_pre) + b_enc)),  L = |x - x^|^2 + alpha L_aux  (Gao et al., Scaling and evaluating
    sparse autoencoders, 2024, sections 2.3 and A.2); W_enc starts as W_dec^T, rows of W_dec kept at norm 1, dead
    neurons are revived by AuxK (`revive`).

    `guess` is a floor for the search of the next batch; an image with fewer than k cells above it is searched again
    in full, so that the guess is never seen in the result."""

    options: config.TopK
    unit_decoder = True
    matrices = 1
    encoder_norm = 1.0

    def start(self, start: Start) -> Weights:
        return {}

    def memory(self, start: Start) -> Weights:
        return {"guess": torch.zeros(()), **silent_memory(start)}

    def floor(self, w: Weights) -> Tensor:
        return w["guess"].expand_as(w["b_enc"])

    def activate(self, cells: Cells, w: Weights) -> Tensor:
        return cells.values.masked_fill_(~(cells.top_of_each(self.options.k) & (cells.values > 0)), 0)

    def chosen(self, cells: Dense) -> Tensor:
        return cells.top_of_each(self.options.k).logical_and_(cells.values > 0)

    def gradients(self, cells: Cells, x_nd: Tensor, w: Weights, grads: Gradients) -> Step | None:
        assert isinstance(cells, Sparse)
        whole = self.complete(cells, x_nd, w) if w["guess"] > 0 else cells
        if whole is None:
            return None
        chosen = whole.only(whole.top_of_each(self.options.k))
        least_n = x_nd.new_zeros(len(x_nd)).scatter_reduce_(0, chosen.image, chosen.values, "amin", include_self=False)
        w["guess"].copy_(GUESS * least_n.kthvalue(1 + int(SHORT * len(x_nd))).values)
        return plain_step(chosen, x_nd, w, grads)

    def complete(self, cells: Sparse, x_nd: Tensor, w: Weights) -> Sparse | None:
        """The list with what the guess hid; None where too much is hidden."""
        k, here_n = self.options.k, cells.image_starts.diff()
        short = (here_n < k).nonzero().view(-1)
        if len(short) > len(x_nd) / 8:
            return None
        bias_m, x_short = pre_activation_bias(w), x_nd[short]
        rows = Dense(pre_activations(x_short, w))
        found = listed_cells(rows, self.chosen(rows))
        found.values = found.correlate(x_short, w["W_enc"]).add_(bias_m[found.column])  # the bits of any list
        return cells.replace_images(short, found)


@dataclass(frozen=True)
class OfBatch:
    """z = ReLU(pre) on the k * n largest cells of a batch of n images; at inference the cells above `threshold`, the
    mean over batches of the smallest activation that was kept (Bussmann et al., BatchTopK sparse autoencoders, 2024,
    Eq. 5), here a running mean with a memory of 10 batches. The loss is what BatchTopK and Matryoshka differ in."""

    options: config.BatchTopK | config.Matryoshka
    unit_decoder = True
    matrices = 1
    encoder_norm = 1.0

    def start(self, start: Start) -> Weights:
        return {}

    def memory(self, start: Start) -> Weights:
        return {"guess": torch.zeros(()), "threshold": torch.zeros(()), **silent_memory(start)}

    def floor(self, w: Weights) -> Tensor:
        return w["guess"].expand_as(w["b_enc"])

    def activate(self, cells: Cells, w: Weights) -> Tensor:
        return cells.values.masked_fill_(cells.values <= w["threshold"], 0)

    def chosen(self, cells: Dense) -> Tensor:
        """Which cells of some images of a batch can be among the k * n largest positive ones of it."""
        return cells.top_of_all(self.options.k * cells.n).logical_and_(cells.values > 0)


class BatchTopK(OfBatch):
    """L = |x - x^|^2 + alpha L_aux."""

    def gradients(self, cells: Cells, x_nd: Tensor, w: Weights, grads: Gradients) -> Step | None:
        chosen = batch_top(cells, self.options.k, w)
        return None if chosen is None else plain_step(chosen, x_nd, w, grads)


def batch_top(cells: Cells, k: int, w: Weights) -> Sparse | None:
    """The k * n largest of listed positive cells; None where the list holds fewer than it should."""
    assert isinstance(cells, Sparse)
    if w["guess"] > 0 and len(cells.values) < k * cells.n:
        return None
    chosen = cells.only(cells.top_of_all(k * cells.n))
    if len(chosen.values):
        least, old = chosen.values.min(), w["threshold"]
        w["guess"].copy_(BATCH_GUESS * least)
        w["threshold"].copy_(torch.where(old > 0, old.lerp(least, 1 - THRESHOLD_MEMORY), least))
    return chosen


def plain_step(cells: Sparse, x_nd: Tensor, w: Weights, grads: Gradients) -> Step:
    """Squared error of chosen cells, and AuxK for the dead neurons."""
    z = cells.values
    e_nd = residual(cells, z, x_nd, w)
    scaled = e_nd * (2 / cells.n)
    autoencoder_gradients(grads, cells, z, cells.correlate(scaled, w["W_dec"]), scaled, x_nd, w)
    return revive(report(cells, z, e_nd, x_nd.new_zeros(())), e_nd, x_nd, w, grads)
