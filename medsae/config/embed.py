"""`embed`: pictures through an encoder, or embeddings made elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import tyro.conf

from medsae import plugins
from medsae.config.base import Command, Sharded, added, check, runtime

Pool: TypeAlias = Literal["pooler", "cls", "mean", "projected", "tokens"]


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """What is taken of an encoder: one vector a picture, or a vector for each of its cells."""

    pool: Pool | None = added(None)
    """One vector a picture: `pooler`, `cls`, `mean` or `projected`, where the encoder has it (default: its own).
    `tokens`: a vector for each cell of the picture's grid."""
    tokens_per_image: int | None = added(None)
    """--pool tokens: keep so many tokens of a picture, drawn at random (default: all)."""
    token_seed: int = added(0)
    """--tokens-per-image: seed of the draw."""


@dataclass(frozen=True, kw_only=True)
class Embed(Pooling, Sharded, Command):
    """Encode every picture of a cohort, or take embeddings made elsewhere."""

    cohort: str
    """Id (or unique beginning of the id) of the cohort."""
    encoder: str | None = None
    """Which encoder: a name from the list above; its own options follow from it."""
    weights: Path | None = runtime(None)
    """Checkpoint of the encoder (its sha256 is part of the identity; default: downloaded once, or shipped)."""
    from_: Annotated[Path | None, tyro.conf.arg(name="from")] = runtime(None)
    """Embeddings made elsewhere, [n, d] of floats: .npy, .npz, .safetensors, .pt, .parquet or .csv."""
    rows: Path | None = runtime(None)
    """The picture of each row of --from: a table with a column `Path`, or one path a line (default: in --from)."""
    name: str | None = None
    """A name for embeddings made elsewhere."""
    unit_norm: bool | None = None
    """Divide each embedding by its L2 norm, as MedCLIP's encode_image does (default: as the encoder's own code)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 where it is faster (the cosine to fp32 is recorded), or forced."""
    device: Literal["auto", "cuda", "mps", "cpu"] = runtime("auto")
    """Where to compute."""
    batch: int = runtime(32)
    """Pictures a forward pass."""
    workers: int | None = runtime(None)
    """Threads that decode (default: one a core)."""

    step = "embed"
    makes = "embeddings"

    def __post_init__(self) -> None:
        Sharded.__post_init__(self)
        check((self.encoder is None) != (self.from_ is None), "give either --encoder or --from")
        check(self.in_parts is None or self.from_ is None,
              f"{self.in_parts} goes with --encoder: --from is read at once")  # fmt: skip
        if self.encoder is not None:
            plugins.encoders.get(self.encoder)
        check(self.rows is None or self.from_ is not None, "--rows goes with --from")
        check(self.name is None or self.from_ is not None, "--name goes with --from")
        check(self.batch >= 1, f"--batch {self.batch} must be at least 1")
        check(self.pool is None or self.from_ is None, "--pool goes with --encoder")
        check(self.tokens_per_image is None or self.pool == "tokens", "--tokens-per-image goes with --pool tokens")
        check(self.tokens_per_image is None or self.tokens_per_image >= 1,
              f"--tokens-per-image {self.tokens_per_image} must be at least 1")  # fmt: skip
