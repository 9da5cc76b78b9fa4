"""Pictures and patients as a page may show them: data URIs, the full-size picture, patients as salted hashes."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import secrets
from pathlib import Path

from PIL import Image

from medsae.progress import UserError
from medsae.store import query_images
from medsae.store.artifacts import Artifact, Store
from medsae.store.reader import Reader

MOST_BYTES = 900_000
"""Largest picture sent to a browser; a larger file is scaled down."""
MOST_PIXELS = 60_000_000
"""A picture with more pixels is not decoded for viewing."""


def data_uri(picture: bytes) -> str:
    """A picture as a data URI; the type is told by its first bytes (WebP, PNG, else JPEG)."""
    kind = "webp" if picture[8:12] == b"WEBP" else "png" if picture[:4] == b"\x89PNG" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def full_size(reader: Reader, cohort: Artifact, image: int) -> tuple[bytes | None, str]:
    """The best picture there is of an image, and what it is: from the artifact, from its file, or the thumbnail.

    None where not even a thumbnail was made. Files are looked for at root/path and never written.
    """
    stored = query_images.full_picture(reader, cohort, image)
    if stored is not None:
        return stored, "full size"
    row = query_images.image(reader, cohort, image)
    root = cohort.facts.get("root") or cohort.config.get("root")
    if row and root:
        path = Path(root) / row["path"]
        if not path.is_file() and "/" in row["path"]:
            path = Path(root) / row["path"].split("/", 1)[1]  # the first folder of a CheXpert path varies
        if path.is_file():
            try:
                return _for_browser(path)
            except (OSError, ValueError, Image.DecompressionBombError):
                pass  # DICOM, or damaged since: the thumbnail stands in, and the caption says so
    small = query_images.thumbnails(reader, cohort, [image]).get(image)
    return small, "thumbnail: the full picture is not readable here" if small else "no picture was kept"


def _for_browser(path: Path) -> tuple[bytes, str]:
    """The file itself where a browser shows it right, else an 8-bit JPEG of it."""
    with Image.open(path) as picture:
        width, height = picture.size
        if width * height > MOST_PIXELS:
            raise ValueError("too many pixels to show")
        if picture.format in ("JPEG", "PNG") and picture.mode in ("L", "RGB") and path.stat().st_size <= MOST_BYTES:
            return path.read_bytes(), f"full size, {width} × {height} px"
        if picture.mode in ("I", "I;16", "I;16B", "F"):
            low, high = picture.convert("F").getextrema()
            assert isinstance(low, float) and isinstance(high, float)
            picture = picture.convert("F").point(lambda v: v * (255 / max(high - low, 1e-9)) - low)
        grey = picture.convert("L")
    grey.thumbnail((1600, 1600))
    out = io.BytesIO()
    grey.save(out, "JPEG", quality=88)
    shown = "full size" if grey.size == (width, height) else f"scaled to {grey.width} × {grey.height} px"
    return out.getvalue(), f"{shown} of {width} × {height} px"


def salt(store: Store) -> bytes:
    """The random salt of this data folder, made once; UserError when the folder is not writable."""
    path = store.cache / "patient-salt"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return path.read_bytes()
    except OSError as error:
        raise UserError("the folder is not writable", path, "choose another with MEDSAE_DATA") from error
    value = secrets.token_bytes(16)
    with os.fdopen(handle, "wb") as file:
        file.write(value)
        file.flush()
        os.fsync(file.fileno())
    return value


def hashed(patient: str, salt: bytes) -> str:
    """Six hex digits that stand for a patient; the same in one data folder, meaningless elsewhere."""
    return hashlib.blake2b(patient.encode(), key=salt, digest_size=3).hexdigest()
