"""The trash of a data folder: one rename in, one rename back (`store.housekeeping`)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from medsae import files


def put(data: Path, folder: Path, kind: str) -> None:
    """Move a folder to `trash/<kind>/<its name>`; of two with one name the newer is kept. Raises OSError."""
    target = files.make_folder(data / "trash" / kind) / folder.name
    if target.exists():  # removed before, made again, removed again
        shutil.rmtree(target)
    os.rename(folder, target)
    files.fsync(folder.parent)
