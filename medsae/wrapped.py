"""What training programs put around weights, undone: dictionaries beside other things, words before every key."""

from __future__ import annotations

import argparse
import re
from typing import Any

import numpy as np
import torch

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params", "ema",
             "model_ema", "teacher", "student", "sae", "ae", "autoencoder")  # fmt: skip
"""Keys under which training programs put the weights beside what else they save, the surest first."""
_LEADS = re.compile(r"(?:(?:module|_orig_mod|model|net|network|state_dict|sae|ae|autoencoder)\.)+")
"""What DataParallel, torch.compile and training loops put before every key."""


def harmless() -> list[Any]:
    """What training programs save beside weights and what does nothing when it is read: arguments, numpy's numbers."""
    numbers = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    return [argparse.Namespace, np.dtype, np.ndarray, np._core.multiarray.scalar, *numbers]  # pyright: ignore


def unwrapped(state: object) -> tuple[dict[str, torch.Tensor], str]:
    """The dictionary of tensors inside what a training program saved, and the keys that led to it."""
    around: list[str] = []
    while isinstance(state, dict):
        held = {str(k): v for k, v in state.items() if isinstance(v, torch.Tensor)}
        inside = next((k for k in _WRAPPERS if isinstance(state.get(k), dict) and len(state[k]) > len(held)), None)
        if inside is None:
            return held, ".".join(around)
        around.append(inside)
        state = state[inside]
    return {}, ""


def lead(keys: list[str], prefix: str = "") -> str:
    """What stands before `prefix` in the keys that have it; without a prefix, what stands before every key."""
    if not keys or any(prefix and k.startswith(prefix) for k in keys):
        return ""
    if prefix:
        for key in keys:
            found = _LEADS.match(key)
            if found and (at := key.find(prefix)) > 0 and _LEADS.fullmatch(key[:at]):
                return key[:at]
        return ""
    first = _LEADS.match(keys[0])
    words = first[0] if first else ""
    while words and not all(k.startswith(words) for k in keys):
        words = words[:-1].rpartition(".")[0]
        words = f"{words}." if words else ""
    return words
