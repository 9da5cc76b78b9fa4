"""Image -> embedding or tokens, text -> embedding, by whatever encoder is registered (`plugins.encoders`).

Importing this imports no torch. `pipeline.embed` runs an encoder over many pictures, `elsewhere.from_file` takes
embeddings made elsewhere.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from medsae import plugins
from medsae.config import Pooling
from medsae.encoders.sources import Files, Wanted
from medsae.progress import Progress, Silent, UserError

if TYPE_CHECKING:
    import torch


class Encoder(Protocol):
    """A network together with the preprocessing that its weights were trained for."""

    name: str
    """The model and what is taken of it, for slugs and titles."""
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


class TokenEncoder(Encoder, Protocol):
    """An encoder whose network sees the picture as a grid of cells, and can give the vector of each."""

    grid: tuple[int, int]
    """Rows and columns of cells."""
    token_dim: int
    """d of a token."""
    token_module: torch.nn.Module
    """float32 [b, c, size, size] -> [b, rows * columns, token_dim]: cells row by row from the top left, without the
    tokens that belong to no place (CLS, registers)."""


class TextTower(Protocol):
    """Captions in the space of an encoder's embeddings."""

    def embed_text(self, captions: list[str]) -> np.ndarray:
        """float32 [captions, d] of unit length."""
        ...


def load_encoder(
    name: str,
    weights: Path | None,
    cache: Path,
    progress: Progress | None = None,
    options: Pooling | None = None,
) -> Encoder:
    """The encoder with its weights, ready to compute.

    `weights` is a checkpoint (file or folder); None means the encoder's own, shipped or downloaded once into
    `cache`/encoders. Raises UserError for an unknown name, weights that are missing and cannot be fetched, a
    checkpoint of another architecture, and options that it does not have.
    """
    return _used(name, "load", weights, cache, progress, options)


def find_files(
    name: str,
    weights: Path | None,
    cache: Path,
    progress: Progress | None = None,
    options: Pooling | None = None,
) -> Files:
    """The files that decide an embedding with their hashes, without torch; fetches them where they are missing."""
    return _used(name, "files", weights, cache, progress, options)


def load_text(
    name: str,
    weights: Path | None,
    cache: Path,
    progress: Progress | None = None,
    options: Pooling | None = None,
) -> TextTower:
    """The text tower of an encoder; UserError for one that has none, and for missing weights or word lists."""
    return _used(name, "text", weights, cache, progress, options)


def tokens_of(encoder: Encoder) -> TokenEncoder:
    """The same encoder, known to have tokens; UserError for one that has none."""
    if getattr(encoder, "token_module", None) is None:
        raise UserError(f"{encoder.name} has no grid of tokens", do="choose another --pool, or another encoder")
    return encoder  # pyright: ignore[reportReturnType]


def tokens(encoder: Encoder, pictures: np.ndarray) -> np.ndarray:
    """Prepared pictures float32 [b, c, size, size] -> float32 [b, rows * columns, token_dim], as `TokenEncoder` has
    them; UserError for an encoder without."""
    import torch

    with torch.inference_mode():
        return tokens_of(encoder).token_module(torch.from_numpy(pictures)).numpy()


def _used(
    name: str, what: str, weights: Path | None, cache: Path, progress: Progress | None, options: Pooling | None
) -> Any:
    offer = plugins.encoders.get(name)
    named = getattr(offer, what)
    if named is None:
        raise UserError(f"{offer.label} has no text tower", do="choose an encoder with one, such as simclip")
    own = offer.options or Pooling
    if not isinstance(options, own):  # a config that was made without them has their defaults
        options = own(**({} if options is None else {f.name: getattr(options, f.name) for f in fields(Pooling)}))
    return plugins.attribute(named)(Wanted(name, weights, cache, progress or Silent(), options))
