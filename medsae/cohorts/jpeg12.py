"""JPEG of 12 bits inside DICOM (JPEG Extended, process 4), as a plug-in of pydicom: its recommended decoders either
cannot read it (gdcm, Pillow) or are under the GPL (pylibjpeg-libjpeg)."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom.uid import JPEGExtended12Bit

DECODER_DEPENDENCIES = {JPEGExtended12Bit: ("imagecodecs",)}


def is_available(uid: str) -> bool:
    """Asked by pydicom: whether frames of this transfer syntax can be decoded."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: Any) -> bytes:
    """The frame's samples, little endian, as wide as the header's Bits Allocated. Raises imagecodecs' own errors, and
    ValueError where the end of the image is missing (the library fills up without a word)."""
    import imagecodecs

    if b"\xff\xd9" not in src[-16:]:
        raise ValueError("the data end early")
    frame = np.asarray(imagecodecs.jpeg8_decode(src))
    return frame.astype(f"<u{runner.bits_allocated // 8}").tobytes()
