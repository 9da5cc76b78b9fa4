"""The untrained control: random directions with everything else of a trained SAE (docs/decisions/107).

Several published measures cannot tell trained SAEs from untrained ones (arXiv 2606.24716), so a measure is worth what
it has above this one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medsae import config
from medsae.sae import kinds
from medsae.sae.model import Sae, activations, normalised


def untrained(sae: Sae, x_nd: np.ndarray, seed: int) -> Sae:
    """An SAE of the same kind, size and normalisation whose directions are drawn at random.

    Of the trained one each neuron keeps the norms of both weights, the cosine between them, thresholds, and the share
    of the raw embeddings x [n, d] that it fires on (its encoder bias is set so; top-k kinds choose k anyhow)."""
    random = torch.Generator().manual_seed(seed)
    w = {k: v.clone() for k, v in sae.weights.items()}
    enc, dec = w["W_enc"].norm(dim=1, keepdim=True), w["W_dec"].norm(dim=1, keepdim=True)
    cosine = ((w["W_enc"] * w["W_dec"]).sum(1, keepdim=True) / (enc * dec).clamp(min=1e-30)).clamp(-1, 1)
    there = _unit(torch.randn(sae.m, sae.d, generator=random))
    aside = torch.randn(sae.m, sae.d, generator=random)
    aside = _unit(aside - (aside * there).sum(1, keepdim=True) * there)
    w["W_dec"] = there * dec
    w["W_enc"] = (cosine * there + (1 - cosine.square()).sqrt() * aside) * enc
    if not isinstance(sae.kind, config.TopK):
        x = normalised(sae.normalisation, x_nd)
        share_m = (activations(sae.kind, sae.weights, x) > 0).float().mean(0)
        pre_nm = kinds.pre_activations(x, w) - w["b_enc"]
        shift_m = _limit(sae.kind, w) - _quantiles(pre_nm, 1 - share_m)
        w["b_enc"] = w["b_enc"] + shift_m
        if isinstance(sae.kind, config.Gated):
            w["b_mag"] = w["b_mag"] + w["r_mag"].exp() * shift_m
    return Sae(sae.kind, w, sae.normalisation)


def _limit(kind: config.SaeKind, w: dict[str, Tensor]) -> Tensor:
    """What W_enc (x - b_pre) of a neuron must be above for it to fire -> [m]."""
    if isinstance(kind, config.Gated):
        return torch.maximum(-w["b_enc"], -w["b_mag"] / w["r_mag"].exp())
    if isinstance(kind, config.JumpRelu):
        return w["log_threshold"].exp() - w["b_enc"]
    return (w["threshold"] if isinstance(kind, (config.BatchTopK, config.Matryoshka)) else 0.0) - w["b_enc"]


def _quantiles(pre_nm: Tensor, share_m: Tensor) -> Tensor:
    """The value of each column that this share of its values does not exceed -> [m]; a neuron that never fired keeps
    above all of them."""
    ordered = pre_nm.sort(0).values
    n = len(ordered)
    place = (share_m * n).round().long()
    found = ordered.gather(0, (place - 1).clamp(0, n - 1)[None])[0]
    return torch.where(place >= n, ordered[-1] + 1e-6, torch.where(place <= 0, ordered[0] - 1e-6, found))


def _unit(v: Tensor) -> Tensor:
    return v / v.norm(dim=1, keepdim=True).clamp(min=1e-30)
