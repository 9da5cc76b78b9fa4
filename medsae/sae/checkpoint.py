"""Where a training stands, in one safetensors file that is replaced by one rename: a kill leaves the old or the new."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from medsae.files import replacing

NAME = "checkpoint.safetensors"


def save(folder: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Publish tensors and facts (JSON) as the checkpoint of a folder."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(folder / NAME) as new:
        said = json.dumps(facts)
        save_file(plain, new, metadata={"facts": said, "sha256": _digest(plain, said)})


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The last checkpoint of a folder; None where there is none, or where the disk damaged it."""
    try:
        with safe_open(folder / NAME, framework="pt") as file:
            about = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if about.get("sha256") != _digest(tensors, about["facts"]):
            return None
        return tensors, json.loads(about["facts"])
    except (FileNotFoundError, SafetensorError, KeyError, TypeError, AttributeError):
        return None


def _digest(tensors: dict[str, Tensor], facts: str) -> str:
    """Of every byte that a training goes on from: one flipped bit would give other weights under the same id."""
    digest = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
