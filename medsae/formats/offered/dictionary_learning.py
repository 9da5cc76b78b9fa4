"""dictionary_learning 0.1: ae.pt (a state dict) and config.json, whose trainer.dict_class says how to read it.

A linear layer's weight is [out, in] there: encoder.weight [m, d], decoder.weight [d, m]; JumpReLU and Matryoshka keep
W_enc [d, m], W_dec [m, d]. `AutoEncoder.from_pretrained` brings decoder rows to norm 1 unless told not to, which
changes activations; here they stay as they are saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medsae.config import check
from medsae.formats.plain import Plain
from medsae.plugins import Format, formats

if TYPE_CHECKING:
    from torch import Tensor


def read(tensors: dict[str, Tensor], told: dict[str, Any]) -> Plain:
    """UserError for a class that is not known here."""
    t, trainer = tensors, told.get("trainer", told)
    name = trainer.get("dict_class") if isinstance(trainer, dict) else None
    if name in ("JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE"):
        batch = name == "MatryoshkaBatchTopKSAE"
        return Plain("jumprelu", t["W_enc"].T.contiguous(), t["b_enc"], t["W_dec"], t["b_dec"], subtract=batch,
                     k=int(t["k"]) if batch else None, threshold_m=t["threshold"].clamp(min=0))  # fmt: skip
    known = ("AutoEncoder", "AutoEncoderNew", "AutoEncoderTopK", "BatchTopKSAE", "GatedAutoEncoder")
    check(name in known, f"a class of dictionary_learning that is not known here: {name}", None,
          f"known are {', '.join(known)}, JumpReluAutoEncoder, MatryoshkaBatchTopKSAE")  # fmt: skip
    w_enc, w_dec = t["encoder.weight"], t["decoder.weight"].T.contiguous()
    if name == "AutoEncoder":
        return Plain("relu", w_enc, t["encoder.bias"], w_dec, t["bias"])
    if name == "AutoEncoderNew":
        return Plain("relu", w_enc, t["encoder.bias"], w_dec, t["decoder.bias"], subtract=False)
    if name == "GatedAutoEncoder":
        return Plain(
            "gated", w_enc, t["gate_bias"], w_dec, t["decoder_bias"], r_mag_m=t["r_mag"], b_mag_m=t["mag_bias"]
        )
    k = int(t["k"] if "k" in t else trainer["k"])  # before 2025 it stood in the config alone
    if name == "AutoEncoderTopK":
        return Plain("topk", w_enc, t["encoder.bias"], w_dec, t["b_dec"], k=k)
    return Plain("jumprelu", w_enc, t["encoder.bias"], w_dec, t["b_dec"], k=k, threshold_m=t["threshold"].clamp(min=0))


def write(plain: Plain, about: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Every kind can be written; a batch top-k as BatchTopKSAE, thresholds of its own as JumpReluAutoEncoder."""
    one = plain.one_threshold()
    if plain.kind == "jumprelu" and (one is None or plain.k is None):
        p = plain.folded(subtract=False)
        assert p.threshold_m is not None
        tensors = {"W_enc": p.w_enc_md.T, "b_enc": p.b_enc_m, "W_dec": p.w_dec_md, "b_dec": p.b_dec_d,
                   "threshold": p.threshold_m.expand(p.m)}  # fmt: skip
        return tensors, _told(plain, about, "JumpReluAutoEncoder")
    p = plain.folded(subtract=True)
    tensors = {"encoder.weight": p.w_enc_md, "decoder.weight": p.w_dec_md.T}
    if p.kind == "gated":
        assert p.r_mag_m is not None and p.b_mag_m is not None
        tensors |= {"gate_bias": p.b_enc_m, "mag_bias": p.b_mag_m, "r_mag": p.r_mag_m, "decoder_bias": p.b_dec_d}
        return tensors, _told(plain, about, "GatedAutoEncoder")
    tensors["encoder.bias"] = p.b_enc_m
    if p.kind == "relu":
        return tensors | {"bias": p.b_dec_d}, _told(plain, about, "AutoEncoder")
    assert p.k is not None
    number = p.b_dec_d.new_tensor
    tensors |= {"b_dec": p.b_dec_d, "k": number(p.k).int(), "threshold": number(-1.0 if one is None else one)}
    return tensors, _told(plain, about, "AutoEncoderTopK" if p.kind == "topk" else "BatchTopKSAE")


def _told(plain: Plain, about: dict[str, Any], name: str) -> dict[str, Any]:
    trainer = {"dict_class": name, "activation_dim": plain.d, "dict_size": plain.m, "k": plain.k}
    return {"trainer": {k: v for k, v in trainer.items() if v is not None}, "about": about}


formats.register(
    Format(
        name="dictionary_learning", label="dictionary_learning",
        help="dictionary-learning 0.1: AutoEncoder, AutoEncoderNew, TopK, BatchTopK, Matryoshka, JumpRelu, Gated.",
        load="medsae.formats.offered.dictionary_learning:read",
        write="medsae.formats.offered.dictionary_learning:write", files=("ae.pt",), config="config.json",
    )
)  # fmt: skip
