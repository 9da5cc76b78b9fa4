"""overcomplete 0.3: the state dict of an SAE with a linear encoder, and config.json with what it does not hold.

The library saves whole objects and no config; here `class` (SAE, TopKSAE, BatchTopKSAE, JumpSAE), `top_k`,
`running_threshold` and `dictionary_params` stand in config.json. Its dictionary has no bias: what it rebuilds is
x - b_dec, and b_dec stands in config.json too. Thresholds are logarithms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medsae.config import check
from medsae.formats.plain import Plain
from medsae.plugins import Format, formats

if TYPE_CHECKING:
    from torch import Tensor


def read(tensors: dict[str, Tensor], told: dict[str, Any]) -> Plain:
    """UserError for an encoder of more than one layer, with a norm, or an unknown normalisation."""
    t, name = tensors, told.get("class")
    check(not any(k.startswith(("encoder.mlp_blocks", "encoder.final_block.1.")) for k in t),
          "an encoder of several layers, or with a normalisation, is not computed here")  # fmt: skip
    w_dec = t["dictionary._weights"]
    how = told.get("dictionary_params", {}).get("normalization", "l2")
    check(how in ("l2", "identity"), f"a dictionary normalised by {how!r} is not computed here")
    if how == "l2":
        w_dec = w_dec / (w_dec.norm(dim=1, keepdim=True) + 1e-8)
    if "dictionary.multiplier" in t:
        w_dec = w_dec * t["dictionary.multiplier"].exp()
    w_enc, b_enc = t["encoder.final_block.0.weight"], t["encoder.final_block.0.bias"]
    b_dec = b_enc.new_tensor(told["b_dec"]) if "b_dec" in told else b_enc.new_zeros(w_dec.shape[1])
    parts = w_enc, b_enc, w_dec.contiguous(), b_dec, False
    if name == "TopKSAE":
        return Plain("topk", *parts, k=int(told["top_k"]))
    if name == "BatchTopKSAE":
        # codes at the threshold stay there; here they must be above it: the next smaller number
        limit = b_enc.new_tensor(float(told["running_threshold"])).clamp(min=0)
        return Plain("jumprelu", *parts, k=told.get("top_k"), threshold_m=limit.nextafter(limit.new_zeros(())))
    if name == "JumpSAE":
        return Plain("jumprelu", *parts, threshold_m=t["thresholds"].exp())
    check(name == "SAE", f"config.json must say which class of overcomplete it is, not {name!r}", None,
          '{"class": "SAE" | "TopKSAE" | "BatchTopKSAE" | "JumpSAE", "top_k": ...}')  # fmt: skip
    return Plain("relu", *parts)


def write(plain: Plain, about: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """UserError for a gated SAE, which the library lacks. Batch top-k becomes JumpSAE."""
    check(plain.kind != "gated", "overcomplete has no gated SAEs", None, "choose --format saelens")
    p = plain.folded(subtract=False)
    tensors = {"encoder.final_block.0.weight": p.w_enc_md, "encoder.final_block.0.bias": p.b_enc_m,
               "dictionary._weights": p.w_dec_md}  # fmt: skip
    told: dict[str, Any] = {
        "class": {"relu": "SAE", "topk": "TopKSAE", "jumprelu": "JumpSAE"}[p.kind], "input_shape": p.d,
        "nb_concepts": p.m, "dictionary_params": {"normalization": "identity"}, "b_dec": p.b_dec_d.tolist(),
        "about": about,
    }  # fmt: skip
    if p.kind == "topk":
        told["top_k"] = p.k
    if p.kind == "jumprelu":
        assert p.threshold_m is not None
        tensors["thresholds"] = p.threshold_m.expand(p.m).clamp(min=1e-30).log()
    return tensors, told


formats.register(
    Format(
        name="overcomplete", label="overcomplete", help="overcomplete 0.3, linear encoder: SAE, TopK, BatchTopK, Jump.",
        load="medsae.formats.offered.overcomplete:read", write="medsae.formats.offered.overcomplete:write",
        files=("sae.safetensors", "sae.pt"), config="config.json",
    )
)  # fmt: skip
