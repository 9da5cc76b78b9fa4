"""saev: sae.pt, a line of JSON and then a state dict; W_enc [d, m], W_dec [m, d].

The library changed its meaning: until September 2025 `encode` took b_dec from x first, since then it does not. Files
without a `schema` are from before, files of schema 2 and later from after; schema 1 was both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medsae.config import check
from medsae.formats.plain import Plain
from medsae.plugins import Format, formats
from medsae.progress import UserError

if TYPE_CHECKING:
    from torch import Tensor


def read(tensors: dict[str, Tensor], told: dict[str, Any]) -> Plain:
    """A batch top-k without a saved threshold is the top-k of each image that it was in the library then."""
    schema, t = told.get("schema"), tensors
    if schema == 1 and told.get("subtract_bias") is None:
        raise UserError("a saev file of schema 1 does not say whether b_dec is taken from x before encoding", None,
                        "give --subtract-bias (saev before September 2025) or --no-subtract-bias")  # fmt: skip
    config = told.get("cfg", told)
    activation = config.get("activation") or {"cls": told.get("cls", "Relu"), "params": config}
    name, k = activation["cls"], activation["params"].get("top_k")
    subtract = bool(told.get("subtract_bias")) if schema == 1 else schema is None
    parts = t["W_enc"].T.contiguous(), t["b_enc"], t["W_dec"], t["b_dec"], subtract
    if name in ("TopK", "BatchTopK") and "activation.threshold" not in t:
        return Plain("topk", *parts, k=k)
    if name == "BatchTopK":
        return Plain("jumprelu", *parts, k=k, threshold_m=t["activation.threshold"].clamp(min=0))
    check(name in ("Relu", "SparseAutoencoderConfig"), f"an activation of saev that is not known here: {name}")
    return Plain("relu", *parts)


def write(plain: Plain, about: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """As saev 2025.9 and later reads it (schema 5). UserError for gated SAEs and for thresholds that differ."""
    one = plain.one_threshold()
    check(plain.kind != "gated" and not (plain.kind == "jumprelu" and one is None),
          f"saev has no {plain.kind} SAEs", None, "choose --format saelens")  # fmt: skip
    p = plain.folded(subtract=False)
    tensors = {"W_enc": p.w_enc_md.T, "b_enc": p.b_enc_m, "W_dec": p.w_dec_md, "b_dec": p.b_dec_d}
    cls, params = "Relu", {"kind": "relu"}
    if p.kind == "topk":
        cls, params = "TopK", {"kind": "top-k", "top_k": p.k}
    if p.kind == "jumprelu":
        cls, params = "BatchTopK", {"kind": "batch-top-k", "top_k": p.k or 1}
        tensors["activation.threshold"] = p.b_dec_d.new_tensor(one)
    activation = {"cls": cls, "params": params}
    config = {"d_model": p.d, "d_sae": p.m, "activation": activation, "normalize_w_dec": False}
    return tensors, {"schema": 5, "cfg": config, "commit": "unknown", "lib": "medsae", "about": about}


formats.register(
    Format(
        name="saev", label="saev", help="OSU-NLP saev, before and after September 2025: Relu, TopK, BatchTopK.",
        load="medsae.formats.offered.saev:read", write="medsae.formats.offered.saev:write", files=("sae.pt",),
    )
)  # fmt: skip
