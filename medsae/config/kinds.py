"""The kinds of sparse autoencoder: one dataclass of options each, and the table of them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias


@dataclass(frozen=True)
class Relu:
    """z = ReLU(W_enc (x - b_pre) + b_enc), loss + l1 * sum z (paper, Eq. 1-2)."""

    formulas: ClassVar = "medsae.sae.kinds.relu:Relu"
    defaults: ClassVar = dict(l1=3e-4, decoder_norm="unit", encoder_norm=None)
    l1: float
    """Coefficient of the L1 penalty (lambda)."""
    decoder_norm: Literal["unit", "weighted"] = "unit"
    """`unit`: decoder rows kept at norm 1. `weighted`: free decoder, L1 on z_i * ||W_dec,i|| (Conerly et al. 2024)."""
    encoder_norm: float = 1.0
    """Norm of the encoder's rows at the start (docs/decisions/020): 1 is W_dec^T; 0.1 suits an l1 of 1 or more."""


@dataclass(frozen=True)
class TopK:
    """The k largest pre-activations of each image stay (Gao et al. 2024)."""

    formulas: ClassVar = "medsae.sae.kinds.topk:TopK"
    defaults: ClassVar = dict(k=32)
    k: int


@dataclass(frozen=True)
class BatchTopK:
    """The k * batch largest pre-activations of a batch stay; a fixed threshold at inference (Bussmann et al. 2024)."""

    formulas: ClassVar = "medsae.sae.kinds.topk:BatchTopK"
    defaults: ClassVar = dict(k=32)
    k: int


@dataclass(frozen=True)
class JumpRelu:
    """z = pre * H(pre - theta), L0 penalty through a straight-through estimator (Rajamanoharan et al. 2024)."""

    formulas: ClassVar = "medsae.sae.kinds.jumprelu:JumpRelu"
    defaults: ClassVar = dict(l0=1.0)
    l0: float


@dataclass(frozen=True)
class Gated:
    """A gate decides whether, a magnitude says how much (Rajamanoharan et al. 2024)."""

    formulas: ClassVar = "medsae.sae.kinds.gated:Gated"
    defaults: ClassVar = dict(l1=1.0)
    l1: float


@dataclass(frozen=True)
class Matryoshka:
    """Batch top-k over nested prefixes of the neurons (Bussmann et al. 2025)."""

    formulas: ClassVar = "medsae.sae.kinds.matryoshka:Matryoshka"
    defaults: ClassVar = dict(k=32)
    k: int


SaeKind: TypeAlias = Relu | TopK | BatchTopK | JumpRelu | Gated | Matryoshka
KINDS: dict[str, type[SaeKind]] = {
    cls.__name__.lower(): cls for cls in (Relu, TopK, BatchTopK, JumpRelu, Gated, Matryoshka)
}
"""Every kind of SAE by its name. A kind says here what it is asked for (its fields), what these are where nobody says
(`defaults`; None: follows from the others), and where its `formulas` stand; everything else follows from this table."""
if TYPE_CHECKING:
    KindName: TypeAlias = str
else:
    KindName = Literal[tuple(KINDS)]
OPTIONS_OF_KINDS = tuple(dict.fromkeys(name for cls in KINDS.values() for name in cls.defaults))
