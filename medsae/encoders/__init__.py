"""Image -> embedding: a Protocol and a plain dict of lazy constructors. Importing this imports no torch.

`pipeline.embed` runs an encoder over many pictures, `elsewhere.from_file` takes embeddings made elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from medsae.encoders import sources
from medsae.progress import Progress, Silent, UserError

if TYPE_CHECKING:
    import torch


class Encoder(Protocol):
    """A network together with the preprocessing that its weights were trained for."""

    name: str
    dim: int
    """d, the length of an embedding."""
    size: int
    """Side of the network's input in px."""
    unit_norm_default: bool
    """Whether the encoder's own code divides an embedding by its L2 norm."""
    weights_sha256: str
    """sha256 of the file the weights came from."""
    module: torch.nn.Module
    """float32 [b, c, size, size] -> [b, dim], in eval mode, on the CPU."""

    def prepare(self, picture: np.ndarray) -> np.ndarray:
        """uint8 grey [h, w] in [0, 255] -> float32 [c, size, size]; pure, and safe to call from several threads."""
        ...


Constructor = Callable[[Path | None, Path, Progress], Encoder]


def _room(module: str, name: str) -> Constructor:
    return lambda weights, cache, progress: import_module(module).load(name, weights, cache, progress)


_ROOMS = {
    "medclip-resnet": "medsae.encoders.medclip",
    "medclip-vit": "medsae.encoders.medclip",
    "efficientnet-lite0": "medsae.encoders.efficientnet",
    "simclip": "medsae.encoders.simclip",
}
"""Each room offers load(name, weights, cache, progress) -> Encoder."""

ENCODERS: dict[str, Constructor] = {name: _room(module, name) for name, module in _ROOMS.items()}


def load_encoder(name: str, weights: Path | None, cache: Path, progress: Progress | None = None) -> Encoder:
    """The encoder with its weights, ready to compute.

    `weights` is a checkpoint (file or folder); None means the encoder's own, shipped or downloaded once into
    `cache`/encoders. Raises UserError for an unknown name, weights that are missing and cannot be fetched, and a
    checkpoint of another architecture.
    """
    return ENCODERS[_known(name)](weights, cache, progress or Silent())


def weights_identity(name: str, weights: Path | None, cache: Path, progress: Progress | None = None) -> str:
    """sha256 of the file the weights come from, without torch; fetches the file where it is missing."""
    return sources.find(_known(name), weights, cache, progress or Silent()).sha256


def _known(name: str) -> str:
    if name not in _ROOMS:
        raise UserError(f"there is no encoder {name!r}", do=f"choose one of {', '.join(_ROOMS)}")
    return name
