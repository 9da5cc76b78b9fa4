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

from medsae.sae.gradients import Cells, Dense, Sparse, in_blocks, times_transposed

Weights: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True)
class Start:
    """What an SAE starts from."""

    d: int
    m: int
    images: int
    """Training images."""


class Gradients(dict[str, Tensor]):
    """Gradients by name. Parts of a batch are added up as they come, so that none of them waits in memory."""

    def add(self, name: str, part: Tensor) -> None:
        """`part` may be used up."""
        if name in self:
            self[name].add_(part)
        else:
            self[name] = part


@dataclass
class Step:
    """What is reported of one batch. Numbers are 0-d tensors, read once an epoch."""

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
    def matrices(self) -> int:
        """About how many arrays [images, m] `gradients` holds at once on all cells."""
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

    def chosen(self, cells: Dense) -> Tensor | None:
        """Those cells, of some images of a batch, that can be among the chosen of the batch -> bool [images, m], for
        kinds that choose: `gradients` gets the list of them. None: all can have a part, and the steps of parts of a
        batch add up to that of the batch."""
        ...

    def gradients(self, cells: Cells, x_nd: Tensor, w: Weights, grads: Gradients) -> Step | None:
        """Loss of one batch, its gradients added to `grads`; `cells` may be used up. None, and nothing added: the floor
        was too high for this batch."""
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


def encoder_gradients(grads: Gradients, cells: Cells, g: Tensor, x_nd: Tensor, w: Weights) -> None:
    """Gradients of W_enc and b_pre through pre = (x - b_pre) W_enc^T + b_enc, given dL/dpre of every cell."""
    grads.add("b_pre", torch.mv(w["W_enc"].T, cells.over_images(g)).neg_())
    grads.add("W_enc", cells.outer(g, x_nd - w["b_pre"]))


def autoencoder_gradients(
    grads: Gradients, cells: Cells, z: Tensor, g: Tensor, e_nd: Tensor, x_nd: Tensor, w: Weights
) -> None:
    """Gradients of all four weights, given z, dL/dpre = g and dL/dx^ = e."""
    encoder_gradients(grads, cells, g, x_nd, w)
    grads.add("b_enc", cells.over_images(g))
    grads.add("W_dec", cells.outer(z, e_nd))
    grads.add("b_pre", e_nd.sum(0))


def report(cells: Cells, z: Tensor, e_nd: Tensor, penalty: Tensor) -> Step:
    """A `Step` of activations z and residual e = x^ - x."""
    error, l1 = e_nd.square().sum() / cells.n, z.sum() / cells.n
    count_m = cells.over_images(z.sign())  # many times faster than sums of bool
    return Step(error, penalty, l1, count_m.sum(dtype=torch.float64), count_m > 0)


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


def revive(step: Step, e_nd: Tensor, x_nd: Tensor, w: Weights, grads: Gradients) -> Step:
    """Add AuxK: the d / 2 largest dead neurons of each image learn to rebuild what the live ones left over.

    loss += alpha | (x - x^) - sum_{dead top-k} z_j w_dec,j |^2 with (x - x^) taken as given (Gao et al. 2024, A.2)."""
    w["silent"] += len(x_nd)
    w["silent"][step.fired_m] = 0
    dead = (w["silent"] > w["silent_limit"]).nonzero().view(-1)
    if not len(dead):
        return step
    n, d = x_nd.shape
    part = {"W_enc": w["W_enc"][dead], "W_dec": w["W_dec"][dead], "b_enc": w["b_enc"][dead], "b_pre": w["b_pre"]}
    own = Gradients()
    for x, e in zip(in_blocks(x_nd, len(dead)), in_blocks(e_nd, len(dead)), strict=True):
        cells = Dense(pre_activations(x, part))
        listed = listed_cells(cells, cells.top_of_each(min(d // 2, len(dead))) & (cells.values > 0))
        e_aux = listed.decode(listed.values, part["W_dec"]).add_(e)
        step.penalty = step.penalty + AUX_COEFFICIENT / n * e_aux.square().sum()
        scaled = e_aux.mul_(2 * AUX_COEFFICIENT / n)
        g = listed.correlate(scaled, part["W_dec"])
        encoder_gradients(own, listed, g, x, part)
        own.add("b_enc", listed.over_images(g))
        own.add("W_dec", listed.outer(listed.values, scaled))
    for name in ("W_enc", "b_enc", "W_dec"):
        grads[name].index_add_(0, dead, own.pop(name))
    grads.add("b_pre", own["b_pre"])
    return step


def listed_cells(cells: Dense, on: Tensor) -> Sparse:
    """The cells of a matrix that are on, as a list."""
    image, column = on.nonzero(as_tuple=True)
    return Sparse(image, column, cells.values[image, column], len(cells.values), cells.m)
