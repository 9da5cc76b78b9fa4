"""The room of gradients: what a kind of SAE needs of linear algebra, on all cells or on the active ones only.

A *cell* is one (image, neuron) pair of a batch. Every kind writes its loss and its gradient once, in the operations of
`Cells`; `Dense` carries them out on all n * m cells by matrix products, `Sparse` on a list of cells. Both are exact:
a cell that is left out of the list has no part in the loss nor in any derivative.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from medsae.sae.gradients.dense import Dense, blocks, in_blocks
from medsae.sae.gradients.products import Products, choose, restored, times_transposed, using
from medsae.sae.gradients.screen import Question, Screen, above
from medsae.sae.gradients.shared import SharedSearch
from medsae.sae.gradients.sparse import Sparse

__all__ = [
    "Cells",
    "Dense",
    "Products",
    "Question",
    "Screen",
    "SharedSearch",
    "Sparse",
    "above",
    "blocks",
    "choose",
    "in_blocks",
    "restored",
    "times_transposed",
    "using",
]


class Cells(Protocol):
    """Cells of a batch of n images and m neurons. `v` stands for one number a cell, shaped like `values`."""

    values: Tensor
    """Pre-activations of the cells, float32: [n, m] (Dense) or one a listed cell (Sparse)."""

    @property
    def n(self) -> int:
        """Images of the batch, by which sums are divided."""
        ...

    @property
    def m(self) -> int: ...

    def neuron(self, p_m: Tensor) -> Tensor:
        """A number a neuron, laid out so that it combines with `v`."""
        ...

    def decode(self, v: Tensor, w_md: Tensor) -> Tensor:
        """sum_j v_nj w_j -> [n, d]."""
        ...

    def correlate(self, e_nd: Tensor, w_md: Tensor) -> Tensor:
        """<e_n, w_j> of every cell -> v."""
        ...

    def outer(self, v: Tensor, y_nd: Tensor) -> Tensor:
        """sum_n v_nj y_n -> [m, d]."""
        ...

    def over_images(self, v: Tensor) -> Tensor:
        """sum_n v_nj -> [m]."""
        ...

    def top_of_each(self, k: int) -> Tensor:
        """Which cells are among the k largest of their image -> bool, shaped like `values`."""
        ...
