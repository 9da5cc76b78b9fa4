"""One DICOM radiograph as grey levels: modality rescale, window, photometric interpretation (PS3.3 C.7.6.3, C.11).

Not covered: deflated files (their size is unknown before they are unpacked), several frames, pixels deeper than 16
bits, and compressed transfer syntaxes for which no decoder is installed: refused with a reason. Presentation LUTs and
overlays are ignored.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np

from medsae.cohorts.pictures import PictureError, check_size, grey_of_levels

if TYPE_CHECKING:
    from pydicom import Dataset

_DEFLATED = b"1.2.840.10008.1.2.1.99"


def decode(data: bytes) -> np.ndarray:
    """uint8 grey [h, w], black = air, or uint8 colour [h, w, 3], of a DICOM file; raises PictureError(reason)."""
    from pydicom import config

    # What a header spells wrongly in a field that is not used here is no reason for a line on stderr a picture.
    config.settings.reading_validation_mode = config.IGNORE
    warnings.filterwarnings("ignore", module=r"pydicom\b")
    try:
        return _decode(data)
    except PictureError:
        raise
    except Exception as error:  # a damaged file makes pydicom raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PictureError(f"damaged DICOM ({reason})") from error


def _decode(data: bytes) -> np.ndarray:
    from pydicom import dcmread
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import ImplicitVRLittleEndian

    if _DEFLATED in data[:1024]:
        raise PictureError("deflated DICOM is not read")
    dataset = dcmread(io.BytesIO(data), force=data[128:132] != b"DICM")
    if any(name not in dataset for name in ("Rows", "Columns", "PixelData")):
        raise PictureError("DICOM without pixels")
    check_size(int(dataset.Columns), int(dataset.Rows))
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise PictureError(f"holds {frames} frames, not one picture")
    if int(dataset.get("BitsAllocated", 0)) > 16:
        raise PictureError(f"{dataset.BitsAllocated} bits a pixel: not a radiograph")
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian  # the standard's default
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not get_decoder(syntax).is_available:
        raise PictureError(f"compressed as {syntax.name}, which no installed decoder reads")
    photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2")).strip().upper()
    if photometric.startswith("PALETTE"):
        raise PictureError("palette colours: not a radiograph")
    pixels = dataset.pixel_array
    if pixels.ndim == 3:
        if pixels.dtype != np.uint8:
            raise PictureError("a colour picture, not a radiograph (colours deeper than 8 bits)")
        return pixels
    grey = _grey(pixels, dataset)
    return 255 - grey if photometric == "MONOCHROME1" else grey


def _grey(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Stored integers [h, w] as uint8 [h, w] through modality transform and window, MONOCHROME1 not yet inverted.

    The transforms are functions of one stored value: they are worked out once for each value, then looked up.
    """
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    first = int(stored.min())
    index = stored.astype(np.int32) - first
    values = np.arange(first, int(stored.max()) + 1, dtype=stored.dtype)
    modality = np.asarray(apply_modality_lut(values, dataset))
    if "VOILUTSequence" in dataset:
        shown = np.asarray(apply_voi(modality.astype(np.int64), dataset, index=0), dtype=np.float64)
        entries = np.asarray(dataset.VOILUTSequence[0].LUTData)
        share = (shown - entries.min()) / max(1, int(entries.max()) - int(entries.min()))
        return _bytes(share)[index]
    window = _window(dataset)
    if window is not None:
        return _bytes(_windowed(modality.astype(np.float64), *window))[index]
    padding = dataset.get("PixelPaddingValue")
    ignore = None if padding is None else stored == padding
    if "ModalityLUTSequence" in dataset:
        return grey_of_levels(modality[index], ignore)
    grey = grey_of_levels(stored, ignore)
    return 255 - grey if float(dataset.get("RescaleSlope") or 1) < 0 else grey


def _bytes(share: np.ndarray) -> np.ndarray:
    return (share.clip(0, 1) * 255).round().astype(np.uint8)


def _window(dataset: Dataset) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window; None without one, or with one that is not usable."""

    def one(name: str) -> float | None:
        value = dataset.get(name)
        value = value[0] if hasattr(value, "__len__") and not isinstance(value, str) and len(value) else value
        return None if value in (None, "") or hasattr(value, "__len__") else float(value)

    centre, width = one("WindowCenter"), one("WindowWidth")
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    if centre is None or width is None or width < 1 or (function == "LINEAR" and width == 1):
        return None
    return centre, width, function


def _windowed(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """Share of the display's range, 0..1 after clipping (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp((-4 * (values - centre) / width).clip(-500, 500)))
    if function == "LINEAR_EXACT":
        return (values - centre) / width + 0.5
    return (values - (centre - 0.5)) / (width - 1) + 0.5
