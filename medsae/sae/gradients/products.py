"""One product of fp32 matrices, by the fastest library at hand."""

from __future__ import annotations

import platform

import torch
from torch import Tensor

ONEDNN = torch.backends.mkldnn.is_available() and platform.machine().lower() in ("x86_64", "amd64")
"""torch multiplies fp32 matrices by MKL, which runs at half the rate of oneDNN on processors of AMD (205 against 440
GFLOP/s on two cores of Zen 5). Not measured at start but fixed: the last bits of the two differ."""


def times_transposed(a_nk: Tensor, b_mk: Tensor) -> Tensor:
    """a b^T in fp32 -> [n, m]. `b` may have any strides; `a` is copied if its rows are not contiguous."""
    if ONEDNN and a_nk.device.type == "cpu" and a_nk.dtype == torch.float32 and a_nk.numel() and b_mk.numel():
        return torch.ops.mkldnn._linear_pointwise(a_nk, b_mk, None, "none", [], "")
    return a_nk @ b_mk.T
