"""SAELens (sae-lens 6): cfg.json, sae_weights.safetensors; W_enc [d, m], W_dec [m, d].

Ours with training mean mu and scale s is W_enc = s W_enc', b_dec = mu + b_pre / s, W_dec / s there. A batch top-k is
saved as jumprelu there as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medsae.config import check
from medsae.formats.plain import Plain
from medsae.plugins import Format, formats

if TYPE_CHECKING:
    from torch import Tensor


def read(tensors: dict[str, Tensor], told: dict[str, Any]) -> Plain:
    """UserError for normalisations and architectures that are not a matrix, a bias and an activation."""
    kind = told.get("architecture", "standard")
    activation = told.get("activation_fn") or told.get("activation_fn_str") or "relu"
    if kind == "standard":
        check(activation in ("relu", "topk"), f"activation {activation!r} of SAELens is not computed here")
        kind = "topk" if activation == "topk" else kind  # as sae-lens before version 6 wrote it
    names = {"standard": "relu", "topk": "topk", "jumprelu": "jumprelu", "gated": "gated"}
    check(kind in names, f"a SAELens SAE of architecture {kind!r} cannot be computed here", None,
          f"{', '.join(names)} can (a batch top-k is saved as jumprelu)")  # fmt: skip
    for name, plain in (("normalize_activations", "none"), ("reshape_activations", "none")):
        check(told.get(name, plain) in (plain, None),
              f"{name} {told.get(name)!r} of SAELens is not computed here", None,
              "fold it into the weights first (sae-lens folds it when it saves for inference)")  # fmt: skip
    check(not told.get("finetuning_scaling_factor"), "a finetuning scaling factor is not computed here")
    w_enc, w_dec = tensors["W_enc"].T, tensors["W_dec"]
    biases = {name: tensors[name] for name in (("b_gate", "b_mag", "r_mag") if kind == "gated" else ("b_enc",))}
    b_enc = biases["b_gate" if kind == "gated" else "b_enc"]
    if told.get("rescale_acts_by_decoder_norm"):
        norm_m = w_dec.norm(dim=-1)
        w_enc, b_enc, w_dec = w_enc * norm_m[:, None], b_enc * norm_m, w_dec / norm_m[:, None]
    return Plain(
        names[kind],  # pyright: ignore[reportArgumentType]
        w_enc.contiguous(), b_enc, w_dec, tensors["b_dec"], bool(told.get("apply_b_dec_to_input", True)),
        k=int(told.get("k") or told.get("activation_fn_kwargs", {})["k"]) if kind == "topk" else None,
        threshold_m=tensors["threshold"].clamp(min=0) if kind == "jumprelu" else None,
        r_mag_m=biases.get("r_mag"), b_mag_m=biases.get("b_mag"),
    )  # fmt: skip


def write(plain: Plain, about: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Every kind can be written."""
    kind = {"relu": "standard"}.get(plain.kind, plain.kind)
    tensors = {"W_enc": plain.w_enc_md.T, "W_dec": plain.w_dec_md, "b_dec": plain.b_dec_d}
    tensors["b_gate" if kind == "gated" else "b_enc"] = plain.b_enc_m
    told = {
        "architecture": kind, "d_in": plain.d, "d_sae": plain.m, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": plain.subtract, "normalize_activations": "none", "reshape_activations": "none",
        "metadata": about,
    }  # fmt: skip
    if kind == "topk":
        told |= {"k": plain.k, "rescale_acts_by_decoder_norm": False}
    if kind == "jumprelu":
        assert plain.threshold_m is not None
        tensors["threshold"] = plain.threshold_m.expand(plain.m)
    if kind == "gated":
        assert plain.r_mag_m is not None and plain.b_mag_m is not None
        tensors |= {"r_mag": plain.r_mag_m, "b_mag": plain.b_mag_m}
    return tensors, told


formats.register(
    Format(
        name="saelens", label="SAELens", help="sae-lens 6: standard, topk, jumprelu (also of a batch top-k), gated.",
        load="medsae.formats.offered.saelens:read", write="medsae.formats.offered.saelens:write",
        files=("sae_weights.safetensors",), config="cfg.json",
    )
)  # fmt: skip
