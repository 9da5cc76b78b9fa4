"""Maps by occlusion, for encoders without an exact one: what an embedding loses when a square is filled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from medsae import encoders
from medsae.device import pick
from medsae.steps import located
from medsae.steps.eyes import Direction, unit_norm
from medsae.steps.squares import covered, embedded, mean_of, nobody, off_square
from medsae.store.artifacts import Artifact

HOW = "occlusion (approximate): the fall when a square is filled with the cohort's mean picture"
GRID = 8
"""Rows and columns of squares that are replaced one after the other; each is twice as wide as their distance."""
FRAME = 64
"""Px of a picture's square on which the places of the squares are told; a picture is hardly ever smaller."""
PASSES = GRID * GRID + 1
"""How often the encoder runs for the maps of one picture, whatever the number of neurons."""


@dataclass(frozen=True)
class Occluder:
    """Maps by occlusion: what an embedding loses when a square is filled with the mean picture of the cohort."""

    encoder: encoders.Encoder
    unit_norm: bool
    mean: np.ndarray
    """float [MEAN_SIDE, MEAN_SIDE]."""

    def losses(self, picture: np.ndarray, passed: Callable[[int], None] = nobody) -> np.ndarray:
        """float32 [GRID * GRID, d]: the embedding minus that with the square about each cell filled. A picture much
        larger than the network's input is made smaller first. `passed`: as of `embedded`."""
        picture = _smaller(picture, 2 * self.encoder.size)
        size = (picture.shape[0], picture.shape[1])
        fill, blocks = off_square(self.mean, size), 4 * GRID
        filled = [picture]
        for r in range(GRID):
            for c in range(GRID):
                region = np.zeros((blocks, blocks), bool)
                region[max(0, 4 * r - 2) : 4 * r + 6, max(0, 4 * c - 2) : 4 * c + 6] = True
                filled.append(np.where(covered(region, size, FRAME), fill, picture))
        x = embedded(self.encoder, filled, self.unit_norm, passed)
        return x[0] - x[1:]

    def maps(self, losses_cd: np.ndarray, directions: Direction, neurons: np.ndarray) -> np.ndarray:
        """[k, cells]: the fall of the pre-activation of some neurons, cell by cell."""
        return directions.row_md[neurons] @ losses_cd.T

    @property
    def places(self) -> located.Cells:
        """Where the squares lie: on the picture's own square, whatever the encoder does to a picture smaller or larger
        than its input."""
        step = FRAME / GRID
        return located.Cells((GRID, GRID), (step - 1) / 2, step, FRAME)

    def grid_row(self) -> dict[str, Any]:
        """As a row of the table `cell_grid`."""
        at = self.places
        return {"rows": GRID, "columns": GRID, "first_px": at.first_px, "step_px": at.step_px,
                "reach_px": int(2 * at.step_px), "size_px": at.size, "how": HOW}  # fmt: skip


@dataclass(frozen=True)
class Occluded:
    """An encoder without exact maps as an `eyes.Sees`: the part of a cell is what the embedding loses with its square.

    Squares overlap and the encoder is not linear, so parts say where a value comes from; that they and the constant sum
    to the embedding holds only because the constant is the rest.
    """

    occluder: Occluder

    how = HOW

    @staticmethod
    def of(encoder: encoders.Encoder, embeddings: Artifact, cohort: Artifact, device: str = "cpu") -> Occluded:
        """With the mean picture of the cohort; the encoder runs in float32 on `device` (`device.pick`)."""
        encoder.module.to(pick(device))
        return Occluded(Occluder(encoder, unit_norm(encoder, embeddings), mean_of(cohort)))

    @property
    def encoder(self) -> encoders.Encoder:
        return self.occluder.encoder

    @property
    def unit_norm(self) -> bool:
        return self.occluder.unit_norm

    @property
    def places(self) -> located.Cells:
        return self.occluder.places

    def grid_row(self) -> dict[str, Any]:
        return self.occluder.grid_row()

    def prepared(self, picture: np.ndarray) -> np.ndarray:
        """As it is: parts of it are replaced before the encoder's own preparation."""
        return picture

    def parts(self, prepared: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        x_bd = embedded(self.encoder, prepared, self.unit_norm)
        parts_bcd = np.stack([self.occluder.losses(picture) for picture in prepared])
        return parts_bcd, x_bd - parts_bcd.sum(1)

    def maps(self, parts_cd: np.ndarray, constant_d: np.ndarray, directions: Direction, neurons: np.ndarray) -> tuple[
        np.ndarray, np.ndarray
    ]:  # fmt: skip
        rows = directions.row_md[neurons]
        return self.occluder.maps(parts_cd, directions, neurons), rows @ constant_d + directions.constant_m[neurons]


def _smaller(picture: np.ndarray, longest: int) -> np.ndarray:
    if max(picture.shape) <= longest:
        return picture
    shown = Image.fromarray(picture)
    shown.thumbnail((longest, longest), Image.Resampling.BOX)
    return np.asarray(shown)
