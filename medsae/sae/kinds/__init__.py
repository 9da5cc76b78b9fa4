"""The kinds of SAE, a closed union: one small class of formulas for each dataclass of `config.SaeKind`."""

from __future__ import annotations

from typing import assert_never

from medsae import config
from medsae.sae.kinds.common import (
    Gradients,
    Kind,
    Start,
    Step,
    Weights,
    listed_cells,
    pre_activation_bias,
    pre_activations,
)
from medsae.sae.kinds.gated import Gated
from medsae.sae.kinds.jumprelu import JumpRelu
from medsae.sae.kinds.matryoshka import Matryoshka
from medsae.sae.kinds.relu import Relu
from medsae.sae.kinds.topk import BatchTopK, TopK

__all__ = [
    "Gradients",
    "Kind",
    "Start",
    "Step",
    "Weights",
    "listed_cells",
    "of",
    "pre_activation_bias",
    "pre_activations",
]


def of(options: config.SaeKind) -> Kind:
    """The formulas of a kind."""
    match options:
        case config.Relu():
            return Relu(options)
        case config.TopK():
            return TopK(options)
        case config.BatchTopK():
            return BatchTopK(options)
        case config.JumpRelu():
            return JumpRelu(options)
        case config.Gated():
            return Gated(options)
        case config.Matryoshka():
            return Matryoshka(options)
        case _:
            assert_never(options)
