"""Hashes of files that were read before, so that checking a parent costs one read and not one a step.

A file counts as the one that was hashed when its path, size, time of change, inode and time of inode change are the
same. The last one is set by the kernel: a program that writes other bytes and puts the old time of change back is
noticed. A file that changed less than two seconds before it was hashed is not remembered, because a second change
within one tick of the clock would not show. What this does not see: a disk that loses bits without a write. `show`
reads every byte, always.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from pathlib import Path
from typing import TypeAlias

from medsae import files, seals

Stamp: TypeAlias = tuple[int, int, int, int]
FRESH_NS = 2 * 10**9
_known: dict[Path, tuple[Stamp, str]] = {}


def sha256_once(path: Path, notes: Path) -> str:
    """Hex sha256 of a file, read only if it is not known; `notes` is the folder that remembers between processes (where
    it cannot be written, this process remembers). Raises OSError."""
    stamp = _stamp(path)
    known = _known.get(path)
    if known is not None and known[0] == stamp:
        return known[1]
    note = notes / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
    digest = _noted(note, path, stamp)
    if digest is None:
        began = time.time_ns()
        digest = files.sha256_of(path)
        if _stamp(path) != stamp or not stamp[3] < began - FRESH_NS:
            return digest
        with contextlib.suppress(OSError):
            files.make_folder(notes)
            files.write(note, seals.text({"file": [str(path), *stamp, digest]}))
    _known[path] = (stamp, digest)
    return digest


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns


def _noted(note: Path, path: Path, stamp: Stamp) -> str | None:
    try:
        *about, digest = seals.read(note)["file"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return digest if about == [str(path), *stamp] and isinstance(digest, str) else None
