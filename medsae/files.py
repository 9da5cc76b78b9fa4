"""The shelf that every room may use: whole files or none, sha256, locks, slugs. Knows nothing of this project."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

OWN_FOLDER, OWN_FILE = 0o700, 0o600
"""Rights of what the program writes: radiographs and labels of patients are for their owner alone."""
REMOTE = re.compile(r"^(s3|gs|az|hf):/{1,2}(?!/)(.+)$")
"""An address in object storage; pathlib makes one slash of two."""


def shown(path: Path | str) -> str:
    """A path as a person writes it: `s3://bucket/prefix` for what pathlib made `s3:/bucket/prefix`."""
    return REMOTE.sub(r"\1://\2", str(path))


def absolute(path: Path) -> Path:
    """The path from the root of the file system on; an address in object storage stays as it is."""
    return Path(path) if REMOTE.match(str(path)) else Path(path).expanduser().resolve()


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes, as `sha256sum` prints it. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(path: Path) -> Path:
    """The folder, made with its parents where it is missing; what is made is readable by its owner alone."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=OWN_FOLDER, exist_ok=True)
    return path


def fsync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """A hidden path beside `path` to write to; at the end of the block it is fsynced and renamed over `path`.

    A reader sees the old file or the new one, whole, also after a power cut. When the block raises, the old file stays
    and nothing else is left behind. Two writers never share a hidden path; the last rename wins. `durable` off: nothing
    waits for the disk, for what may be lost in a power cut (how far a step has come).
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        yield new
        if durable:
            fsync(new)
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    if durable:
        fsync(path.parent)


def write(path: Path, content: str | bytes, durable: bool = True) -> None:
    """Write a whole file or none (see `replacing`); text is UTF-8. Raises OSError."""
    with replacing(path, durable) as new:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWN_FILE)
        with open(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)


def publish(made: Path, path: Path) -> None:
    """Rename a whole file or folder that was built beside `path` (and fsynced) to it; it lasts. Raises OSError."""
    os.replace(made, path)
    fsync(path.parent)


def append_line(path: Path, line: str, durable: bool = True) -> None:
    """Append one line and wait until it is on the disk; a torn line that a killed writer left is closed first.

    `durable` off: nothing waits for the disk."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, OWN_FILE)
    with open(handle, "rb+") as file:
        torn = file.seek(0, os.SEEK_END) > 0 and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
        file.write(b"\n" * torn + line.encode() + b"\n")
        file.flush()
        if durable:
            os.fsync(file.fileno())


def take_lock(path: Path, wait: bool = False, shared: bool = False) -> int | None:
    """A file descriptor that holds an exclusive lock on `path` (made where it is missing) until it is closed; `shared`:
    one that others may hold as well. None when another is in the way and `wait` is off. The kernel lets go when the
    process ends, however it ends."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR, OWN_FILE)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(handle)
        return None
    except BaseException:
        os.close(handle)
        raise
    return handle


def locked(path: Path) -> bool:
    """Another open file of this or another process has an exclusive lock on `path`; False when there is no file."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(handle)


def slug(text: str, longest: int = 40) -> str:
    """Lower-case letters, digits, dots and hyphens, at most `longest`: the readable part of an id. May be empty."""
    return "".join(ch if ch.isalnum() or ch in "-." else "-" for ch in text.lower())[:longest].strip("-.")
