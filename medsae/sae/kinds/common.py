"""What the kinds share: the parts of a gradient that every sparse autoencoder has.

All losses are means over the images of a batch of sums over d (Eq. 2 of the paper), for normalised embeddings x:
    x^ = b_pre + sum_j z_j w_dec,j          pre_j = <x - b_pre, w_enc,j> + b_enc,j
W_enc and W_dec are both stored [m, d]: row j belongs to neuron j.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from medsae.sae.gradients import Cells, Dense, Sparse, times_transposed

Weights: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True)
class Start:
    """What an SAE starts from."""

    d: int
    m: int
    images: int
    """Training images."""


@dataclass
class Step:
    """One batch: gradients by name, and what is reported. Numbers are 0-d tensors, read once an epoch."""

    gradients: Weights
    error: Tensor
    """Squared error, summed over d, mean over images."""
    penalty: Tensor
    """What the loss has beside `error`: loss = error + penalty."""
    l1: Tensor
    """sum_j |z_j|, mean over images."""
    active: Tensor
    """Number of active cells, float64."""
    fired_m: Tensor
    """Which neurons were active."""

    def add_(self, other: Step) -> Step:
        """With the step of other images of the same batch."""
        for name, gradient in self.gradients.items():
            gradient.add_(other.gradients[name])
        for total, part in zip(
            (self.error, self.penalty, self.l1, self.active, self.fired_m),
            (other.error, other.penalty, other.l1, other.active, other.fired_m),
            strict=True,
        ):
            total.add_(part)
        return self


class Kind(Protocol):
    """One kind of SAE: formulas and nothing else. `w` holds the trained weights and `memory` by name."""

    @property
    def unit_decoder(self) -> bool:
        """Keep the rows of W_dec at norm 1."""
        ...

    @property
    def by_image(self) -> bool:
        """No image's loss depends on another image: the steps of parts of a batch add up to that of the batch."""
        ...

    @property
    def encoder_norm(self) -> float:
        """Norm of the rows of W_enc at the start; their directions are those of W_dec."""
        ...

    def start(self, start: Start) -> Weights:
        """Weights beside W_enc, b_enc, W_dec, b_pre that are trained."""
        ...

    def memory(self, start: Start) -> Weights:
        """Tensors that are kept from step to step but not trained; saved with the SAE."""
        ...

    def floor(self, w: Weights) -> Tensor:
        """A cell at or below this pre-activation has no part in loss or gradient -> [m]."""
        ...

    def gradients(self, cells: Cells, x_nd: Tensor, w: Weights) -> Step | None:
        """Loss and gradients of one batch; `cells` may be used up. None: the floor was too high for this batch."""
        ...

    def activate(self, cells: Cells, w: Weights) -> Tensor:
        """Activations at inference, shaped like `cells.values`."""
        ...


def pre_activation_bias(w: Weights) -> Tensor:
    """b_enc - W_enc b_pre, so that pre = x W_enc^T + this: one product less than subtracting b_pre first -> [m]."""
    return w["b_enc"] - w["W_enc"] @ w["b_pre"]


def pre_activations(x_nd: Tensor, w: Weights) -> Tensor:
    """Of all neurons -> [n, m]."""
    return times_transposed(x_nd, w["W_enc"]).add_(pre_activation_bias(w))


def residual(cells: Cells, z: Tensor, x_nd: Tensor, w: Weights) -> Tensor:
    """x^ - x -> [n, d]."""
    return cells.decode(z, w["W_dec"]).add_(w["b_pre"]).sub_(x_nd)


def where_active(g: Tensor, z: Tensor) -> Tensor:
    """g where z > 0, else 0, in place and in one pass."""
    return torch.ops.aten.threshold_backward.grad_input(g, z, 0, grad_input=g)


def encoder_gradients(cells: Cells, g: Tensor, x_nd: Tensor, w: Weights) -> Weights:
    """Gradients through pre = (x - b_pre) W_enc^T + b_enc, given dL/dpre of every cell."""
    g_m = cells.over_images(g)
    return {
        "W_enc": cells.outer(g, x_nd - w["b_pre"]),
        "b_enc": g_m,
        "b_pre": torch.mv(w["W_enc"].T, g_m).neg_(),
    }


def autoencoder_gradients(cells: Cells, z: Tensor, g: Tensor, e_nd: Tensor, x_nd: Tensor, w: Weights) -> Weights:
    """Gradients of all four weights, given z, dL/dpre = g and dL/dx^ = e."""
    grads = encoder_gradients(cells, g, x_nd, w)
    grads["W_dec"] = cells.outer(z, e_nd)
    grads["b_pre"] += e_nd.sum(0)
    return grads


def report(cells: Cells, z: Tensor, e_nd: Tensor, penalty: Tensor, gradients: Weights) -> Step:
    """A `Step` of activations z and residual e = x^ - x."""
    error, l1 = e_nd.square().sum() / cells.n, z.sum() / cells.n
    count_m = cells.over_images(z.sign())  # many times faster than sums of bool
    return Step(gradients, error, penalty, l1, count_m.sum(dtype=torch.float64), count_m > 0)


# --- dead neurons -----------------------------------------------------------------------------------------------------

AUX_COEFFICIENT = 1 / 32
"""alpha of AuxK (Gao et al. 2024, appendix A.2)."""
DEAD_AFTER_IMAGES = 10_000_000
"""A neuron counts as dead in training when it did not fire for this many images (Gao et al. 2024) ..."""
DEAD_AFTER_EPOCHS = 3
"""... or, on smaller data sets, for this many passes."""


def silent_memory(start: Start) -> Weights:
    """How many images each neuron has not fired for, and from how many on it counts as dead."""
    limit = min(DEAD_AFTER_IMAGES, DEAD_AFTER_EPOCHS * start.images)
    return {"silent": torch.zeros(start.m, dtype=torch.int64), "silent_limit": torch.tensor(limit)}


def revive(step: Step, e_nd: Tensor, x_nd: Tensor, w: Weights) -> Step:
    """Add AuxK: the d / 2 largest dead neurons of each image learn to rebuild what the live ones left over.

    loss += alpha | (x - x^) - sum_{dead top-k} z_j w_dec,j |^2 with (x - x^) taken as given (Gao et al. 2024, A.2)."""
    w["silent"] += len(x_nd)
    w["silent"][step.fired_m] = 0
    dead = (w["silent"] > w["silent_limit"]).nonzero().view(-1)
    if not len(dead):
        return step
    n, d = x_nd.shape
    part = {"W_enc": w["W_enc"][dead], "W_dec": w["W_dec"][dead], "b_enc": w["b_enc"][dead], "b_pre": w["b_pre"]}
    cells = Dense(pre_activations(x_nd, part))
    listed = listed_cells(cells, cells.top_of_each(min(d // 2, len(dead))) & (cells.values > 0))
    z = listed.values
    e_aux = listed.decode(z, part["W_dec"]).add_(e_nd)
    scaled = e_aux * (2 * AUX_COEFFICIENT / n)
    grads = encoder_gradients(listed, listed.correlate(scaled, part["W_dec"]), x_nd, part)
    step.gradients["W_enc"].index_add_(0, dead, grads["W_enc"])
    step.gradients["b_enc"].index_add_(0, dead, grads["b_enc"])
    step.gradients["W_dec"].index_add_(0, dead, listed.outer(z, scaled))
    step.gradients["b_pre"] += grads["b_pre"]
    step.penalty = step.penalty + AUX_COEFFICIENT / n * e_aux.square().sum()
    return step


def listed_cells(cells: Dense, on: Tensor) -> Sparse:
    """The cells of a matrix that are on, as a list."""
    image, column = on.nonzero(as_tuple=True)
    return Sparse(image, column, cells.values[image, column], cells.n, cells.m)
