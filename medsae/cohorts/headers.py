"""Whose radiograph it is, from its own DICOM header, where neither a table nor a folder says it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

DICOM = re.compile(r"(?:\.(?:dcm|dicom|dic)|(?:^|/)(?:[^./]+|[\d.]+))$", re.IGNORECASE)
"""Names that files in DICOM have: IM0001 and 1.2.840.113619.2 too."""
_NOBODY = re.compile(r"|anon(ymi[sz]ed?|ymous)?|none|unknown|n/?a|[0x*\-.]+|removed|deidentified", re.IGNORECASE)
"""What stands in the place of a patient that was taken out."""
_THREADS = 8


def is_dicom(path: str) -> bool:
    """A name as files in DICOM have it, and the mark in the bytes of one."""
    if not DICOM.search(path) or os.path.basename(path).upper() == "DICOMDIR":
        return False
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def patients(root: Path, paths: Sequence[str]) -> list[str | None] | None:
    """PatientID of each picture below `root`, None where a header names nobody; None where they tell no patients apart
    (no DICOM, or one name in all of them)."""
    named = [i for i, path in enumerate(paths) if DICOM.search(path)]
    if not named:
        return None
    found: list[str | None] = [None] * len(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        for i, who in zip(named, pool.map(_patient, [root / paths[i] for i in named]), strict=True):
            found[i] = who
    return found if len({who for who in found if who}) > 1 else None


def _patient(path: Path) -> str | None:
    from pydicom import dcmread

    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
        who = str(header.get("PatientID") or "").strip()
    except Exception:  # what a damaged header is, is told where the picture is decoded
        return None
    return None if _NOBODY.fullmatch(who) else who
