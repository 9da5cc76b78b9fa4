"""Who asks what just now: claims that several `name` commands hold on one ledger, and that die with their process.

A claim is a lock on one byte of the file `.claims` in the ledger's folder, at a place that follows from the question:
any number of claims need one open file, nothing is left behind by a kill, and no server is needed. Where the file
system knows no such locks, every claim is granted: then two commands may ask the same twice, as without claims.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import struct
from pathlib import Path

from medsae import files

_OPEN_FILE = getattr(fcntl, "F_OFD_SETLK", None)
"""Locks of an open file and not of a process: two runs in one process keep each other out as well. Linux has them."""


class Claims:
    """The claims that one run holds; close it to let go of all."""

    def __init__(self, folder: Path):
        """folder: of the ledger. Raises OSError when it cannot be written."""
        files.make_folder(folder)
        self.handle = os.open(folder / ".claims", os.O_RDWR | os.O_CREAT, files.OWN_FILE)
        self.held: set[str] = set()
        self.works = True
        """False where the file system knows no such locks."""

    def take(self, key: str) -> bool:
        """True when nobody else holds `key`; it is ours then, until `release` or `close`."""
        if key in self.held or not self.works:
            return True
        try:
            self._lock(fcntl.F_WRLCK, key)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            self.works = False
            return True
        self.held.add(key)
        return True

    def release(self, key: str) -> None:
        """Let go of `key`; nothing happens when it is not held."""
        if key in self.held:
            self.held.discard(key)
            with contextlib.suppress(OSError):
                self._lock(fcntl.F_UNLCK, key)

    def release_all(self) -> None:
        """Let go of everything that is held."""
        for key in list(self.held):
            self.release(key)

    def close(self) -> None:
        """Let go of everything."""
        os.close(self.handle)

    def _lock(self, kind: int, key: str) -> None:
        place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big")
        if _OPEN_FILE is not None:
            # struct flock of 64-bit Linux: type, whence, (padding,) start, length, process (0 for open files).
            fcntl.fcntl(self.handle, _OPEN_FILE, struct.pack("hhqqi4x", kind, os.SEEK_SET, place, 1, 0))
        else:
            fcntl.lockf(
                self.handle, fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place
            )
