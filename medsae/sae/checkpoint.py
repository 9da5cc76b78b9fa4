"""Where a training stands, in one safetensors file that is replaced by one rename: a kill leaves the old or the new."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from medsae.files import replacing

NAME = "checkpoint.safetensors"


def save(folder: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Publish tensors and facts (JSON) as the checkpoint of a folder."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(folder / NAME) as new:
        save_file(plain, new, metadata={"facts": json.dumps(facts)})


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The last checkpoint of a folder; None where there is none, or where the disk damaged it."""
    try:
        with safe_open(folder / NAME, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 (not a dict)
    except (FileNotFoundError, SafetensorError):
        return None
