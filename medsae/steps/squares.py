"""Parts of a picture replaced by what is usually there (docs/decisions/144, 145).

It is done on the picture, before the encoder's own preparation, so it holds for every encoder. A picture is seen
centred on a square (as long as its longer side, at least as the network's input); blocks and cells lie on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from medsae import encoders
from medsae.steps.eyes import pictures_of, sampled
from medsae.store.artifacts import Artifact

MEAN_SIDE = 256
"""Side of the mean picture in px."""
BATCH = 16
"""Pictures that go through the encoder at a time."""


def nobody(_: int) -> None:
    pass


def on_square(picture: np.ndarray, side: int = MEAN_SIDE) -> np.ndarray:
    """float32 [side, side]: a picture uint8 [h, w] centred on a black square."""
    shown = Image.fromarray(picture)
    shown.thumbnail((side, side), Image.Resampling.BOX)
    if max(shown.size) < side:
        scale = side / max(shown.size)
        shown = shown.resize((max(1, round(shown.width * scale)), max(1, round(shown.height * scale))))
    out = np.zeros((side, side), np.float32)
    y, x = (side - shown.height) // 2, (side - shown.width) // 2
    out[y : y + shown.height, x : x + shown.width] = np.asarray(shown)
    return out


def off_square(square: np.ndarray, picture: tuple[int, int]) -> np.ndarray:
    """The part of a square that a picture of (height, width) px covers, made as large as it: uint8 [h, w]."""
    height, width = picture
    side = max(picture)
    full = np.asarray(Image.fromarray(square.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR))
    y, x = (side - height) // 2, (side - width) // 2
    return np.round(full[y : y + height, x : x + width]).clip(0, 255).astype(np.uint8)


def covered(region_bb: np.ndarray, picture: tuple[int, int], least: int) -> np.ndarray:
    """bool [h, w]: the pixels of a picture of (height, width) px that lie in blocks of its square, which is at least
    `least` px wide."""
    side = max(least, *picture)
    block = [np.minimum((np.arange(side) + 0.5) * n / side, n - 1).astype(int) for n in region_bb.shape]
    y, x = (side - picture[0]) // 2, (side - picture[1]) // 2
    return region_bb[np.ix_(block[0][y : y + picture[0]], block[1][x : x + picture[1]])]


def inside(picture: tuple[int, int], blocks: int, least: int) -> np.ndarray:
    """bool [blocks, blocks]: those of the square (at least `least` px wide) whose centre lies in the picture."""
    side = max(least, *picture)
    at = (np.arange(blocks) + 0.5) * side / blocks
    here = [np.abs(at - side / 2) < length / 2 for length in picture]
    return here[0][:, None] & here[1][None]


def embedded(
    encoder: encoders.Encoder, pictures: Sequence[np.ndarray], unit_norm: bool, passed: Callable[[int], None] = nobody
) -> np.ndarray:
    """float32 [n, d] of pictures, some at a time; `passed` is told how many more have gone through the encoder."""
    import torch

    out, device = [], _device(encoder)
    with torch.inference_mode():
        for start in range(0, len(pictures), BATCH):
            pixels = torch.from_numpy(np.stack([encoder.prepare(p) for p in pictures[start : start + BATCH]]))
            out.append(encoder.module(pixels.to(device)).float().cpu().numpy())
            passed(len(pixels))
    x_nd = np.concatenate(out)
    return x_nd / np.maximum(np.linalg.norm(x_nd, axis=1, keepdims=True), 1e-12) if unit_norm else x_nd


def _device(encoder: encoders.Encoder) -> Any:
    parameters = getattr(encoder.module, "parameters", None)
    return next((p.device for p in parameters()), "cpu") if parameters else "cpu"


def mean_square(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of pictures on their squares; mid-grey where there is none."""
    if not pictures:
        return np.full((MEAN_SIDE, MEAN_SIDE), 127.0)
    return np.mean([on_square(p) for p in pictures], axis=0)


def mean_of(cohort: Artifact) -> np.ndarray:
    """The mean square of a sample of a cohort."""
    return mean_square(sampled(pictures_of(cohort), 64))
