"""The best picture there is of an image, for the viewer: what the cohort carries, its file, or the thumbnail."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from medsae.cohorts.pictures import PictureError, decode, read
from medsae.store import query_images
from medsae.store.artifacts import Artifact
from medsae.store.reader import Reader

MOST_BYTES = 900_000
"""Largest picture sent to a browser: as text it is a third longer, and a page stays below 1.5 MB."""
_SIDES = (4000, 2800, 2000, 1400, 1000)
"""Longest sides (px) that are tried until a picture is small enough."""


def full_size(reader: Reader, cohort: Artifact, image: int) -> tuple[bytes | None, str]:
    """The picture's bytes for a browser and words about it; None where not even a thumbnail was made.

    A file (DICOM too) is read at root/path by the decoder that made the thumbnail and the embedding, so the viewer
    shows the grey levels that the model saw. Nothing is written.
    """
    stored = query_images.full_picture(reader, cohort, image)
    if stored is not None:
        return stored, "full size"
    row = query_images.image(reader, cohort, image)
    root = cohort.facts.get("root")
    why = "the full picture is not here"
    if row and root:
        try:
            return _for_browser(read(Path(root) / row["path"], row["sha256"]))
        except PictureError as error:
            why = f"the full picture: {error}"
    small = query_images.thumbnails(reader, cohort, [image]).get(image)
    return small, f"thumbnail ({why})" if small else f"no picture was kept ({why})"


def _for_browser(data: bytes) -> tuple[bytes, str]:
    """The file itself where a browser shows it right, else a JPEG of its decoded grey levels."""
    if len(data) <= MOST_BYTES and data[:3] == b"\xff\xd8\xff":  # JPEG
        return data, "full size"
    grey = Image.fromarray(decode(data))
    for side in _SIDES:
        shown = grey.copy()
        shown.thumbnail((side, side), reducing_gap=3.0)
        out = io.BytesIO()
        shown.save(out, "JPEG", quality=90)
        if out.tell() <= MOST_BYTES:
            break
    if shown.size == grey.size:
        return out.getvalue(), "full size"
    return out.getvalue(), f"scaled to {shown.width} × {shown.height} px of {grey.width} × {grey.height}"
