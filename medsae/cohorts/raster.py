"""PNG, JPEG, TIFF, JPEG 2000 and what else Pillow reads, as one grey picture of 8 bits.

Pillow decodes what has 8 bits. What has more goes through imagecodecs and tifffile, because Pillow reduces pictures of
several channels to 8 bits before anything can be said of their range (docs/decisions/085).
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from medsae.cohorts.levels import (
    MAX_PIXELS,
    PictureError,
    check_size,
    grey_of_channels,
    grey_of_colour,
    grey_of_levels,
)  # fmt: skip

_ORIENTATION = 0x0112  # EXIF and TIFF tag
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_LOSSLESS, _JPEG_LS = 0xC3, 0xF7
_OF_PILLOW = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000}
"""Compressions of TIFF that Pillow reads."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip

# Pillow only warns between 1 and 2 times its own limit; a header is refused, not reported on stderr.
warnings.simplefilter("error", Image.DecompressionBombWarning)


def decode(data: bytes) -> Image.Image:
    """The grey picture (mode L) in a file's bytes, black = air. Raises PictureError(reason)."""
    try:
        deep = None if data[:3] == _JPEG else _deep(data)
        return _shallow(data) if deep is None else deep
    except PictureError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(f"too large (its header claims more than {MAX_PIXELS / 1e6:.0f} million pixels)") from None
    except ImportError as error:
        raise PictureError(f"not supported: {error}") from error
    except Exception as error:  # a damaged file makes decoders raise nearly anything: OSError, ValueError, struct.error
        # Asked last: most pictures are JPEG of 8 bits, and this costs them nothing.
        if data[:3] == _JPEG and (deep := _deep_jpeg(data)) is not None:
            return deep
        if isinstance(error, Image.UnidentifiedImageError):
            raise PictureError(what_it_is(data)) from None
        raise PictureError(f"damaged ({(str(error).splitlines() or [type(error).__name__])[0]})") from error


# --- more than 8 bits -------------------------------------------------------------------------------------------------


def _deep(data: bytes) -> Image.Image | None:
    """The grey picture of a file with more than 8 bits a channel that Pillow would reduce or not read, else None."""
    if data[:8] == _PNG and data[24:25] == b"\x10" and data[25:26] in (b"\x02", b"\x04", b"\x06"):
        from imagecodecs import png_decode

        check_size(int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))
        return Image.fromarray(grey_of_channels(png_decode(data)))
    if data[:4] in _TIFF:
        return _deep_tiff(data)
    return None


def _deep_jpeg(data: bytes) -> Image.Image | None:
    """JPEG of more than 8 bits, lossless JPEG and JPEG-LS; None for what is none of these."""
    frame = jpeg_frame(data)
    if frame is None or (frame[1] <= 8 and frame[0] not in (_LOSSLESS, _JPEG_LS)):
        return None
    from imagecodecs import jpeg8_decode, jpegls_decode

    process, _, height, width, _ = frame
    check_size(width, height)
    try:
        levels = (jpegls_decode if process == _JPEG_LS else jpeg8_decode)(data)
    except Exception as error:  # each codec has an error of its own
        raise PictureError(f"damaged ({error})") from error
    return Image.fromarray(_of_array(np.asarray(levels)))


def _of_array(levels: np.ndarray) -> np.ndarray:
    """Decoded levels [h, w] or [h, w, channels] of any depth as grey uint8 [h, w]."""
    if levels.dtype == np.uint8:
        return levels if levels.ndim == 2 else np.asarray(_grey_of_mode(Image.fromarray(levels)))
    return grey_of_levels(levels) if levels.ndim == 2 else grey_of_channels(levels)


def _deep_tiff(data: bytes) -> Image.Image | None:
    from tifffile import TiffFile

    with TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        bits = page.tags.valueof("BitsPerSample", 1)
        kinds = page.tags.valueof("SampleFormat", 1)
        plain = (kinds[0] if isinstance(kinds, tuple) else kinds) in (1, 4) and int(page.compression) in _OF_PILLOW
        if max(bits if isinstance(bits, tuple) else (bits,)) <= 8 and plain:
            return None  # Pillow's own, which takes signed levels for unsigned ones
        if len(file.pages) > 1 and not all(getattr(other, "is_reduced", False) for other in list(file.pages)[1:]):
            raise PictureError(f"holds {len(file.pages)} pictures, not one")
        check_size(page.imagewidth, page.imagelength)
        try:
            levels = page.asarray()
        except ValueError as error:
            if "not supported" in str(error) or "cannot decompress" in str(error):
                raise PictureError(f"not supported: {error}") from error
            raise
        if levels.dtype.kind not in "uif":
            raise PictureError(f"not supported: a TIFF of {levels.dtype} numbers")
        if levels.dtype == np.int8:
            levels = (levels.astype(np.int16) + 128).astype(np.uint8)
        if levels.ndim == 3 and int(page.planarconfig) == 2:
            levels = np.moveaxis(levels, 0, -1)
        if levels.ndim > 3 or (levels.ndim == 3 and levels.shape[2] > 4):
            raise PictureError(f"not supported: a TIFF of the shape {list(page.shape)}")
        grey = Image.fromarray(_of_array(levels))
        if int(page.photometric) == 0:  # WhiteIsZero
            grey = Image.fromarray(255 - np.asarray(grey))
        return _turned(grey, page.tags.valueof("Orientation", 1))


def _turned(grey: Image.Image, orientation: int) -> Image.Image:
    return grey.transpose(_TURNS[orientation]) if orientation in _TURNS else grey


def jpeg_frame(data: bytes) -> tuple[int, int, int, int, int] | None:
    """Process (marker of the frame), bits a sample, height, width, channels of a JPEG; None where there is no frame."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xFF:  # filling
            at += 1
        elif marker == _JPEG_LS or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            height, width = int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9])
            return marker, data[at + 4], height, width, data[at + 9]
        else:
            at += 2 + length
    return None


# --- 8 bits -----------------------------------------------------------------------------------------------------------


def _shallow(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        image_format = image.format
        if image_format in ("HDF5", "BUFR", "GRIB"):  # Pillow knows that these are, not what is in them
            raise PictureError(what_it_is(data))
        check_size(*image.size)
        # The second picture of an MPO is a preview of the first; any other sequence is not one radiograph.
        if image_format != "MPO" and getattr(image, "n_frames", 1) > 1:
            raise PictureError(f"holds {getattr(image, 'n_frames', 1)} pictures, not one")
        if image_format == "JPEG2000" and image.mode not in ("L", "I;16"):
            from imagecodecs import jpeg2k_decode

            return Image.fromarray(_of_array(np.asarray(jpeg2k_decode(data))))
        image.load()
        # Orientation sits in EXIF; a look at `info` is cheaper than parsing it for every picture.
        if ("exif" in image.info or image_format == "TIFF") and image.getexif().get(_ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
        grey = _grey_of_mode(image)
        if image_format in ("JPEG", "MPO"):
            _refuse_half_a_jpeg(grey)
        return grey


def _refuse_half_a_jpeg(grey: Image.Image) -> None:
    """Where the data of a JPEG end early, libjpeg fills the rest with grey 128 and Pillow passes on no warning."""
    width, height = grey.size
    if grey.crop((0, height - 1, width, height)).getextrema() != (128, 128):
        return
    levels = np.asarray(grey)
    rows = int(np.argmax((levels != 128).any(axis=1)[::-1])) or len(levels)
    if rows >= 8:  # a block of a JPEG is 8 rows
        raise PictureError(f"damaged (the data end early: the last {rows} of {len(levels)} rows are empty)")


def _grey_of_mode(image: Image.Image) -> Image.Image:
    if image.mode == "L" and "transparency" not in image.info:
        return image
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        return Image.fromarray(grey_of_levels(np.asarray(image)))
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        over = image.convert("RGBA")
        if over.getchannel("A").getextrema() == (0, 0):  # transparent everywhere: a mistake of what wrote it
            over.putalpha(255)
        image = Image.alpha_composite(Image.new("RGBA", over.size, (0, 0, 0, 255)), over)
    return grey_of_colour(image.convert("RGB"))


def what_it_is(data: bytes) -> str:
    """A reason for bytes that no decoder recognises, as exact as their beginning allows."""
    head = data[:512].lstrip().lower()
    if not data.strip(b"\0"):
        return "not a picture (zeros only)"
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "not a picture (a web page: was the download refused?)"
    if head.startswith(b"version https://git-lfs"):
        return "not a picture (a Git LFS pointer: run git lfs pull)"
    if data[4:8] == b"ftyp":
        return "not supported: a video, HEIF or HEIC"
    if data[257:262] == b"ustar":
        return "not supported: a tar: unpack it"
    for mark, what in (
        (b"\x1f\x8b", "gzip: unpack it"), (b"PK\x03\x04", "a zip: unpack it"), (b"7z\xbc\xaf", "a 7z: unpack it"),
        (b"\x93NUMPY", "a NumPy array"), (b"\x89HDF\r\n", "HDF5"), (b"%PDF", "a PDF"),
        *((bytes((0x80, version)), "a pickle") for version in range(2, 6)), (b"MATLAB", "MATLAB"),
        (b"\x28\xb5\x2f\xfd", "zstd: unpack it"), (b"Rar!", "a rar: unpack it"), (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL ", "JPEG XL"), (b"8BPS", "Photoshop"), (b"NRRD", "NRRD"), (b"ObjectType", "MetaImage"),
        (b"\0\x05\x16\x07", "what a Mac keeps beside a file (its name begins with ._)"),
        (b"\x5c\x01\0\0", "NIfTI"), (b"\0\0\x01\x5c", "NIfTI"),
    ):  # fmt: skip
        if data.startswith(mark):
            return f"not supported: {what}"
    text = bool(head) and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    return "not a picture (text: was the download refused?)" if text else "not a picture"
