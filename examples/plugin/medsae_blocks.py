"""An encoder from a package of one file: mean grey and mean slope of each block of a picture, 16 x 16 blocks.

After `pip install ./examples/plugin` the command line takes it: `medsae embed --cohort ID --encoder blocks --blocks 8`.
It learns nothing, which makes it a baseline: what an SAE finds here is in the grey values already. This module is
imported by the web server as well, so torch is imported where the network is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medsae.config import Pooling, check
from medsae.encoders.sources import Checkpoint, Files, Wanted
from medsae.files import sha256_of
from medsae.plugins import Encoder, encoders


@dataclass(frozen=True, kw_only=True)
class Options(Pooling):
    """Options of its own: on the command line, in the saved record and in the identity of the embeddings."""

    blocks: int = 16
    """Blocks a side; 3 numbers each."""

    def __post_init__(self) -> None:
        check(2 <= self.blocks <= 64, f"--blocks {self.blocks} must lie in 2 .. 64")


def files(wanted: Wanted) -> Files:
    """There are no weights: what decides an embedding is this file."""
    here = Path(__file__)
    return Files.single(wanted, Checkpoint(here, sha256_of(here)))


class Blocks:
    """Grey picture -> 3 numbers for each block."""

    name, unit_norm_default = "blocks", False

    def __init__(self, blocks: int, sha256: str):
        import torch
        from torch import nn

        class Cells(nn.Module):
            """[b, 1, s, s] -> [b, blocks * blocks, 3]: grey, slope to the right, slope down; row by row."""

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                right = nn.functional.pad(x[..., 1:] - x[..., :-1], (0, 1))
                down = nn.functional.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
                maps = torch.cat([x, right, down], 1)
                return nn.functional.avg_pool2d(maps, maps.shape[-1] // blocks).flatten(2).transpose(1, 2)

        self.weights_sha256, self.size = sha256, 8 * blocks
        self.token_module, self.grid, self.token_dim = Cells().eval(), (blocks, blocks), 3
        self.module, self.dim = nn.Sequential(Cells(), nn.Flatten()).eval(), 3 * blocks * blocks

    def prepare(self, picture: np.ndarray) -> np.ndarray:
        """uint8 grey [h, w] -> float32 [1, size, size] in [0, 1]."""
        from medsae.encoders.grey import square

        return square(picture, self.size).astype(np.float32)[None] / 255


def load(wanted: Wanted) -> Blocks:
    return Blocks(wanted.options.blocks, files(wanted).weights.sha256)


encoders.register(
    Encoder(
        name="blocks",
        label="Blocks",
        help="Mean grey and mean slopes of the blocks of a picture; nothing is learned.",
        load="medsae_blocks:load",
        files="medsae_blocks:files",
        options=Options,
    )
)
