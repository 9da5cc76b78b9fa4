"""sparsify (eai-sparsify 1.3): cfg.json, sae.safetensors; encoder.weight [m, d], W_dec [m, d]; top-k alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medsae.config import check
from medsae.formats.plain import Plain
from medsae.plugins import Format, formats

if TYPE_CHECKING:
    from torch import Tensor


def read(tensors: dict[str, Tensor], told: dict[str, Any]) -> Plain:
    """UserError for transcoders, skip connections, signed top-k and group maxima."""
    check(
        told.get("activation", "topk") == "topk", f"activation {told.get('activation')!r} of sparsify is not computed"
    )
    for name in ("transcode", "skip_connection"):
        check(not told.get(name), f"a sparsify coder with {name} is no autoencoder of one embedding")
    check(not told.get("signed"), "a signed top-k of sparsify (the largest by amount, without ReLU) is not computed")
    t = tensors
    return Plain("topk", t["encoder.weight"], t["encoder.bias"], t["W_dec"], t["b_dec"], k=int(told["k"]))


def write(plain: Plain, about: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """UserError for anything but a top-k."""
    check(plain.kind == "topk", f"sparsify holds top-k SAEs alone, this is {plain.kind}", None,
          "choose --format saelens")  # fmt: skip
    p = plain.folded(subtract=True)
    tensors = {"encoder.weight": p.w_enc_md, "encoder.bias": p.b_enc_m, "W_dec": p.w_dec_md, "b_dec": p.b_dec_d}
    told = {"activation": "topk", "expansion_factor": max(1, p.m // p.d), "normalize_decoder": False,
            "num_latents": p.m, "k": p.k, "multi_topk": False, "skip_connection": False, "transcode": False,
            "d_in": p.d}  # fmt: skip
    return tensors, told | {"about": about}


formats.register(
    Format(
        name="sparsify", label="sparsify", help="EleutherAI's eai-sparsify 1.3: top-k.",
        load="medsae.formats.offered.sparsify:read", write="medsae.formats.offered.sparsify:write",
        files=("sae.safetensors",), config="cfg.json",
    )
)  # fmt: skip
