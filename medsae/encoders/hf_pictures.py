"""What a preprocessor_config.json asks for, on one grey picture: resize, crop; scale and mean are left to the network.

Written anew because transformers' processors work on colour pictures and some need torchvision; equal to them to
rounding (tests/unit/test_encoders_hf.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medsae.encoders.grey import on_black_square
from medsae.encoders.offered.hf import PICTURES, read_json
from medsae.progress import UserError


@dataclass(frozen=True)
class Preparation:
    """uint8 grey [h, w] -> float32 [1, height, width] in [0, 255]."""

    resize: tuple[int, int] | int | None
    """(height, width), or the length of the shortest side; None: as it is."""
    crop: tuple[int, int] | None
    resample: int
    in_float: bool
    """Resized values are not rounded to 8 bits (DINOv3)."""
    factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of three channels: x * factor, minus the mean, by the standard deviation."""
    whole: bool = False
    """Centre the picture on a black square first."""

    @property
    def shape(self) -> tuple[int, int] | None:
        """Height and width of what is prepared, where the picture does not decide it."""
        return self.crop or (self.resize if isinstance(self.resize, tuple) else None)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        if picture.dtype != np.uint8 or picture.ndim != 2 or picture.size == 0:
            raise ValueError(f"a picture must be a uint8 matrix, not {picture.dtype} {list(picture.shape)}")
        if self.whole:
            picture = on_black_square(picture)
        if self.resize is not None:
            height, width = self._size(*picture.shape)
            mode = Image.fromarray(picture.astype(np.float32) if self.in_float else picture)
            picture = np.asarray(mode.resize((width, height), Image.Resampling(self.resample)))
        if self.crop is not None:
            picture = centre(picture, *self.crop)
        return picture.astype(np.float32)[None]

    def _size(self, h: int, w: int) -> tuple[int, int]:
        if isinstance(self.resize, tuple):
            return self.resize
        assert self.resize is not None
        longer = int(self.resize * max(h, w) / min(h, w))
        return (longer, self.resize) if w <= h else (self.resize, longer)


def centre(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of a picture, with black around one that is too small (rounded as transformers does)."""
    h, w = picture.shape
    top, left = (h - height) // 2, (w - width) // 2
    above, before = math.ceil(max(height - h, 0) / 2), math.ceil(max(width - w, 0) / 2)
    if above or before or height > h or width > w:
        larger = np.zeros((max(height, h), max(width, w)), picture.dtype)
        larger[above : above + h, before : before + w] = picture
        picture, top, left = larger, top + above, left + before
    return picture[max(top, 0) : max(top, 0) + height, max(left, 0) : max(left, 0) + width]


def read(folder: Path, crop: bool) -> Preparation:
    """The preparation that the model's folder asks for. UserError for steps that are not known here."""
    path = next(folder / name for name in PICTURES if (folder / name).is_file())
    told = read_json(path)
    told = told.get("image_processor", told)
    name = str(told.get("image_processor_type") or told.get("feature_extractor_type") or "")
    name = name.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")
    if name not in DEFAULTS:
        raise UserError(
            f"a picture processor that is not known here: {name or 'no image_processor_type'}", path,
            f"known are {', '.join(DEFAULTS)}; a plug-in can bring its own (docs/encoders.md)",
        )  # fmt: skip
    asked: dict[str, Any] = DEFAULTS[name] | {k: v for k, v in told.items() if v is not None}
    try:
        made = _preparation(asked, name)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the picture processor cannot be understood ({type(error).__name__}: {error})", path,
                        "get the file again, or write it as transformers saves it") from error  # fmt: skip
    if crop:
        return made
    side = made.crop or made.resize
    if side is None:
        raise UserError("this picture processor resizes nothing: --no-crop has no size to go to", path)
    return replace(made, resize=side if isinstance(side, tuple) else (side, side), crop=None, whole=True)


def _preparation(asked: dict[str, Any], name: str) -> Preparation:
    resize = _side(asked["size"], asked["square"]) if asked["do_resize"] else None
    crop = _side(asked["crop_size"], True) if asked.get("do_center_crop") else None
    if name == "ConvNextImageProcessor" and isinstance(resize, int):
        # below 384 px the middle of a larger picture, from there on the whole picture without its proportions
        small = resize < 384
        crop, resize = ((resize, resize), int(resize / asked["crop_pct"])) if small else (crop, (resize, resize))
    assert crop is None or isinstance(crop, tuple)
    mean, std = (_three(asked[key]) for key in ("image_mean", "image_std"))
    if not asked["do_normalize"]:
        mean, std = (0.0,) * 3, (1.0,) * 3
    factor = float(asked["rescale_factor"]) if asked["do_rescale"] else 1.0
    return Preparation(resize, crop, int(asked["resample"]), name.startswith("DINOv3"), factor, mean, std)


def _side(size: Any, square: bool) -> tuple[int, int] | int:
    if isinstance(size, int):
        return (size, size) if square else size
    if isinstance(size, (list, tuple)):
        return int(size[0]), int(size[1])
    if size.get("shortest_edge") and not size.get("longest_edge"):
        return int(size["shortest_edge"])
    return int(size["height"]), int(size["width"])


def _three(value: Any) -> tuple[float, float, float]:
    values = [float(v) for v in value] if isinstance(value, (list, tuple)) else [float(value)] * 3
    if len(values) != 3:
        raise ValueError(f"{len(values)} channels instead of 3")
    return values[0], values[1], values[2]


_IMAGENET = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
_HALF = dict(image_mean=[0.5] * 3, image_std=[0.5] * 3)
_CLIP = dict(
    image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=[0.26862954, 0.26130258, 0.27577711], do_center_crop=True,
    crop_size={"height": 224, "width": 224}, size={"shortest_edge": 224}, resample=3, square=False,
)  # fmt: skip
_BASE = dict(do_resize=True, do_rescale=True, do_normalize=True, rescale_factor=1 / 255, do_center_crop=False,
             resample=2, crop_size={"height": 224, "width": 224}, size={"height": 224, "width": 224},
             square=True)  # fmt: skip
DEFAULTS: dict[str, dict[str, Any]] = {
    "BitImageProcessor": _BASE | _CLIP,
    "CLIPImageProcessor": _BASE | _CLIP,
    "SiglipImageProcessor": _BASE | _HALF | dict(resample=3, square=False),
    "Gemma3ImageProcessor": _BASE | _HALF | dict(size={"height": 896, "width": 896}),
    "ViTImageProcessor": _BASE | _HALF,
    "DeiTImageProcessor": _BASE | _HALF | dict(resample=3, size={"height": 256, "width": 256}, do_center_crop=True),
    "ConvNextImageProcessor": _BASE | _HALF
    | dict(size={"shortest_edge": 384}, resample=3, crop_pct=224 / 256, square=False),
    "DINOv3ViTImageProcessor": _BASE | _IMAGENET,
}  # fmt: skip
"""What transformers fills in where a file says nothing; `square`: what a size of one number means."""
