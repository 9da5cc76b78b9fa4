"""From a file to a grey picture: the one decoder of the program, the content check and the thumbnail.

Why a content check: every decoder refuses truncated files, but a 1 x 1 picture, an all-black one or a colour photograph
decode normally and would become embeddings that mean nothing.

Not covered: damage that leaves a decodable, textured picture (a few flipped bytes in a JPEG), burned-in text, a
radiograph of another part of the body.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from medsae.cohorts import buckets, raster
from medsae.cohorts.levels import PictureError, grey_of_colour

MAX_BYTES = 512 * 2**20
"""Larger files are refused before they are read."""
MIN_SIDE_PX = 32
THUMBNAIL_PX = 160
_MIN_SPREAD = 8  # grey levels of 256 between the 1st and the 99th percentile
_KINDS = (
    ("a folder", stat.S_ISDIR), ("a FIFO", stat.S_ISFIFO), ("a socket", stat.S_ISSOCK),
    ("a device", stat.S_ISCHR), ("a device", stat.S_ISBLK),
)  # fmt: skip


class PictureMissing(PictureError):
    """There is no file at the picture's path."""


class PictureChanged(PictureError):
    """The file is not the one that the cohort was made of."""


@dataclass(frozen=True)
class Checked:
    """What the check of one picture found; `refused` is None, or the reason (then the rest is empty)."""

    width: int = 0
    """Width in px as decoded (EXIF orientation applied)."""
    height: int = 0
    """Height in px."""
    sha256: str = ""
    """Of the file's bytes, hexadecimal."""
    webp: bytes = b""
    """Grey WebP thumbnail, longest side 160 px (smaller pictures keep their size), true aspect ratio."""
    refused: str | None = None
    said: str | None = None
    """What a reader should know of how it was read, where its header was not followed."""


def decode(source: Path | str | bytes) -> np.ndarray:
    """The picture as grey levels, uint8 [h, w] in 0..255, black = air; raises PictureError(reason).

    The only decoder: thumbnails and embeddings see the same pixels. 8-bit grey stays as it is; colour that is grey in
    truth becomes luma (ITU-R 601); deeper pictures and DICOM are mapped monotonically to 8 bits (docs/decisions/031).
    Nothing is said about content: see `refusal`.
    """
    return np.asarray(_grey(source if isinstance(source, bytes) else read(source))[0])


def check_picture(path: Path | str, data: bytes | PictureError | None = None) -> Checked:
    """Decode one picture, check its content, make its thumbnail; a bad picture is a `refused`, never an exception.

    `data`: its bytes, or why there are none, where they were read ahead."""
    try:
        if isinstance(data, PictureError):
            raise data
        data = read(path) if data is None else data
        picture, said = _grey(data)
    except PictureError as error:
        return Checked(refused=str(error))
    reason = refusal(picture)
    if reason is not None:
        return Checked(refused=reason)
    width, height = picture.size
    return Checked(width, height, hashlib.sha256(data).hexdigest(), thumbnail(picture), said=said)


def refusal(picture: Image.Image) -> str | None:
    """Why the content of a grey picture (mode L) is useless (too small, or nearly one grey level), or None."""
    width, height = picture.size
    if min(width, height) < MIN_SIDE_PX:
        return f"too small ({width} x {height} px, at least {MIN_SIDE_PX} a side)"
    below = np.cumsum(picture.histogram()) / (width * height)
    low, high = np.searchsorted(below, (0.01, 0.99))
    if high - low < _MIN_SPREAD:
        return f"nearly constant (98 % of the pixels lie between grey levels {low} and {high})"
    return None


def thumbnail(picture: Image.Image) -> bytes:
    """WebP bytes of a grey picture (mode L), its longest side at most 160 px."""
    width, height = picture.size
    scale = min(1.0, THUMBNAIL_PX / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # The gap of 2 shrinks large pictures by whole pixels first: the same look at a fraction of the time.
    small = picture.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0) if scale < 1 else picture
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80, method=0)  # method 0: 2.4 x faster than 4 for 0.6 KB more
    return buffer.getvalue()


def read(path: Path | str, sha256: str | None = None) -> bytes:
    """The bytes of a picture's file; with `sha256` (as the cohort recorded it), only if they are still the same.

    Every room reads pictures by this function. Raises PictureChanged for other bytes, PictureMissing where there is no
    file, PictureError for what is not a file (a folder, a FIFO: never opened, so never waited for), for empty and for
    very large files.
    """
    if buckets.url_of(path) is not None:
        return of_this_digest(_of_bucket(path), sha256)
    path = Path(path)
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            kind = next((word for word, known in _KINDS if known(state.st_mode)), "no regular file")
            raise PictureError(f"not a file ({kind})")
        if state.st_size > MAX_BYTES:
            raise PictureError(f"file too large ({state.st_size / 2**20:,.0f} MiB)")
        # Not blocking: what was a file a moment ago may be a FIFO now.
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise PictureMissing("file not found") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        raise PictureError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    return of_this_digest(data, sha256)


def of_this_digest(data: bytes, sha256: str | None) -> bytes:
    """The bytes, if they are those that the cohort recorded (None: it recorded nothing) and there are any; raises as
    `read`."""
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise PictureChanged("changed since the cohort was made (another sha256)")
    if not data:
        raise PictureError("empty file")
    return data


def _of_bucket(path: Path | str) -> bytes:
    """The bytes of an object; raises as `read`."""
    try:
        data = buckets.read(path, MAX_BYTES)
    except (FileNotFoundError, IsADirectoryError):
        raise PictureMissing("no such object in the bucket") from None
    except PermissionError:
        raise PictureError("the bucket does not let it be read with the credentials of the environment") from None
    except OSError as error:
        raise PictureError(str(error)) from error
    if len(data) > MAX_BYTES:
        raise PictureError(f"file too large (more than {MAX_BYTES / 2**20:,.0f} MiB)")
    return data


def _grey(data: bytes) -> tuple[Image.Image, str | None]:
    """The grey picture (mode L) in a file's bytes, and what is to be said of how it was read. What the file is, is
    read from its bytes: names lie."""
    if data[128:132] == b"DICM" or data[:2] in (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08"):
        from medsae.cohorts import dicom  # imported late: most cohorts hold no DICOM

        if data[128:132] == b"DICM" or dicom.headless(data):
            grey, said = dicom.decode(data)
            return grey_of_colour(Image.fromarray(grey)), said
    return raster.decode(data), None
