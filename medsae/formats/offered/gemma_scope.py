"""Gemma Scope: params.npz (1) or params.safetensors (2), JumpReLU, b_dec not taken from x; read only.

W_enc [d, m], W_dec [m, d], threshold, b_enc, b_dec; in small letters in Gemma Scope 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medsae.formats.plain import Plain
from medsae.plugins import Format, formats

if TYPE_CHECKING:
    from torch import Tensor


def read(tensors: dict[str, Tensor], told: dict[str, Any]) -> Plain:
    """Both layouts have the same five tensors."""
    t = {name.lower(): tensor for name, tensor in tensors.items()}
    return Plain("jumprelu", t["w_enc"].T.contiguous(), t["b_enc"], t["w_dec"], t["b_dec"], subtract=False,
                 threshold_m=t["threshold"].clamp(min=0))  # fmt: skip


formats.register(
    Format(
        name="gemma_scope", label="Gemma Scope", help="Gemma Scope 1 and 2, JumpReLU; read only.",
        load="medsae.formats.offered.gemma_scope:read", files=("params.safetensors", "params.npz"),
    )
)  # fmt: skip
