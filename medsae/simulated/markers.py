"""What is burned into a picture and is no part of the patient: collimated borders, side markers, projection text."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medsae.simulated.patients import Study


def burn_in(picture: np.ndarray, study: Study, without: frozenset[str] = frozenset()) -> None:
    """Changes a picture [size, size] (float32, 0 to 255) in place."""
    size = len(picture)
    shown = {name for name in study.present if name not in without}
    if "Collimation" in shown:
        _collimate(picture, study, size)
    for name, text in (("Marker L", "L"), ("Marker R", "R")):
        if name in shown:
            rng = study.generator(name)
            stamp = _text(text, max(9, round(size * rng.uniform(0.050, 0.075))), boxed=bool(rng.random() < 0.25))
            stamp = stamp.rotate(rng.normal(0, 7), expand=True, resample=Image.Resampling.BILINEAR)
            # The patient's left is on the right of the picture.
            x = rng.uniform(0.88, 0.945) if text == "L" else rng.uniform(0.055, 0.12)
            _blend(picture, stamp, x, rng.uniform(0.06, 0.20), rng.uniform(0.8, 1.0))
    if "Projection text" in shown:
        rng = study.generator("Projection text")
        words = (("AP", "PORTABLE"), ("AP PORTABLE",), ("AP",))[rng.integers(3)] if study.view() == "AP" else ("PA",)
        x, y = rng.uniform(0.10, 0.17) if rng.random() < 0.5 else rng.uniform(0.83, 0.90), rng.uniform(0.26, 0.34)
        for i, word in enumerate(words):
            _blend(picture, _text(word, max(7, round(size * 0.030)), boxed=False), x, y + 0.05 * i, 0.85)
    np.copyto(picture, np.clip(picture, 0, 255))


def _collimate(picture: np.ndarray, study: Study, size: int) -> None:
    """Lead shutters: dark borders with edges of one pixel, slightly askew."""
    left, top, right, bottom = (size * share for share in study.take.collimation)
    skew = float(study.generator("Collimation").normal(0, 0.008))
    x, y = np.arange(size, dtype=np.float32)[None, :], np.arange(size, dtype=np.float32)[:, None]
    inside = np.ones_like(picture)
    far = size - 1
    borders = ((left, x - left - skew * y), (top, y - top - skew * x), (right, far - right - x - skew * y),
               (bottom, far - bottom - y - skew * x))  # fmt: skip
    for share, distance in borders:
        if share > 0:
            inside *= np.clip(distance / 1.5, 0, 1)
    picture *= inside


@lru_cache(maxsize=128)
def _text(text: str, height: int, boxed: bool) -> Image.Image:
    """White text on black, mode L, optionally in a frame as lead markers have."""
    font = ImageFont.load_default(size=height)
    left, top, right, bottom = font.getbbox(text)
    pad = max(2, height // 4)
    image = Image.new("L", (round(right - left) + 2 * pad, round(bottom - top) + 2 * pad))
    pen = ImageDraw.Draw(image)
    pen.text((pad - left, pad - top), text, fill=255, font=font)
    if boxed:
        pen.ellipse((0, 0, image.width - 1, image.height - 1), outline=255)
    return image


def _blend(picture: np.ndarray, stamp: Image.Image, x: float, y: float, strength: float) -> None:
    """Lays a stamp centred at shares (x, y) of the picture over it, moved inside where it would stick out."""
    size = len(picture)
    row = int(np.clip(y * size - stamp.height / 2, 0, max(0, size - stamp.height)))
    column = int(np.clip(x * size - stamp.width / 2, 0, max(0, size - stamp.width)))
    part = picture[row : row + stamp.height, column : column + stamp.width]
    weight = np.asarray(stamp, dtype=np.float32)[: part.shape[0], : part.shape[1]] / 255 * np.float32(strength)
    part += weight * (250 - part)
