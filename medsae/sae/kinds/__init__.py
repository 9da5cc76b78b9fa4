"""The kinds of SAE: one small class of formulas for each entry of `config.KINDS`."""

from __future__ import annotations

from medsae import config, plugins
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
    """The formulas of a kind, as `config.KINDS` names them."""
    return plugins.attribute(options.formulas)(options)
