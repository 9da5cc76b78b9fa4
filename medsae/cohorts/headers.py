"""What a radiograph's DICOM header says of it where neither a table nor a folder does: whose it is, view, sex, age."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

DICOM = re.compile(r"(?:\.(?:dcm|dicom|dic)|(?:^|/)(?:[^./]+|[\d.]+))$", re.IGNORECASE)
"""Names that files in DICOM have: IM0001 and 1.2.840.113619.2 too."""
_NOBODY = re.compile(r"|anon(ymi[sz]ed?|ymous)?|none|unknown|n/?a|[0x*\-.]+|removed|deidentified", re.IGNORECASE)
"""What stands in the place of a patient that was taken out."""
_TAGS = ["PatientID", "ViewPosition", "PatientSex", "PatientAge"]
_THREADS = 8


@dataclass(frozen=True)
class Header:
    """Text as it stands there; None where it says nothing."""

    patient: str | None = None
    view: str | None = None
    sex: str | None = None
    age: str | None = None


def is_dicom(path: str) -> bool:
    """A name as files in DICOM have it, and the mark in the bytes of one."""
    if not DICOM.search(path) or os.path.basename(path).upper() == "DICOMDIR":
        return False
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read(root: Path, paths: Sequence[str]) -> list[Header] | None:
    """The header of each picture below `root`; None where no name is one of DICOM. Of patients, where they tell none
    apart (one name in all headers), nothing is known."""
    named = [i for i, path in enumerate(paths) if DICOM.search(path)]
    if not named:
        return None
    found = [Header()] * len(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        for i, header in zip(named, pool.map(_header, [root / paths[i] for i in named]), strict=True):
            found[i] = header
    if len({one.patient for one in found} - {None}) > 1:
        return found
    return [Header(None, one.view, one.sex, one.age) for one in found]


def _header(path: Path) -> Header:
    from pydicom import dcmread

    try:
        held = dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        who, view, sex, age = (str(held.get(tag) or "").strip() for tag in _TAGS)
    except Exception:  # what a damaged header is, is told where the picture is decoded
        return Header()
    return Header(None if _NOBODY.fullmatch(who) else who, view or None, sex or None, age or None)
