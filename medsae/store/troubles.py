"""What an error of the system or of DuckDB means for the person who reads it, and what helps.

A full disk, missing rights, a file that another program holds and damage look alike to a traceback and need four
different things to be done; deleting an artifact is advised only where its bytes are not what was written.
"""

from __future__ import annotations

import errno
import re
import resource
from pathlib import Path

from medsae.progress import UserError, first_line

_HELD = re.compile(r"Conflicting lock is held in (.+?) \(PID (\d+)\)")
_UNWRITTEN = re.compile(r"\d+ requested and \d+ written|PytorchStreamWriter failed|could not write all bytes", re.I)
"""How numpy, torch and DuckDB say that a write fell short, without a code."""
_CODES = {
    errno.ENOSPC: "full", errno.EDQUOT: "full", errno.EFBIG: "limit", errno.EMFILE: "files", errno.ENFILE: "files",
    errno.EACCES: "rights", errno.EPERM: "rights", errno.EROFS: "rights", errno.ENOTDIR: "rights",
    errno.EEXIST: "rights",
}  # fmt: skip
_WORDS = {
    "no space left": "full", "disk quota exceeded": "full", "file too large": "limit", "too many open files": "files",
    "permission denied": "rights", "read-only file system": "rights", "operation not permitted": "rights",
}  # fmt: skip


def explained(error: BaseException, where: object, data: Path | None = None) -> UserError | None:
    """The error as something a user can mend, or None where it is none of these.

    data: the data folder, to say what may be deleted in it when the disk is full.
    """
    if isinstance(error, UserError):
        return None
    where = getattr(error, "filename", None) or where
    kept = "then run the same command: what is finished is kept"
    match _kind(error):
        case "full":
            return UserError("the disk is full", where, f"free space{_freeable(data)}; {kept}")
        case "limit":
            what = "a file would become larger than the limit of this shell or container"
            return UserError(what, where, f"raise it (ulimit -f unlimited), {kept}")
        case "files":
            do = "close other programs or raise the limit (ulimit -n 4096); nothing is damaged"
            return UserError("too many files are open", where, do)
        case "rights":
            what = f"not writable, or no permission to read ({_text(error)})"
            do = "mend its rights, or choose another folder with --data DIR; nothing is damaged"
            return UserError(what, where, do)
        case "held":
            found = _HELD.search(str(error))
            who = f"{Path(found[1]).name} (PID {found[2]})" if found else "another program"
            what = f"the file is open for writing in {who}"
            return UserError(what, where, "close it there and try again; nothing is damaged")
    if isinstance(error, OSError):
        return UserError(f"reading or writing failed: {_text(error)}", where, None)
    return None


def _kind(error: BaseException) -> str | None:
    seen: BaseException | None = error
    while seen is not None:
        code = getattr(seen, "errno", None)
        if isinstance(seen, OSError) and code in _CODES:
            return _CODES[code]
        text = str(seen)
        if _HELD.search(text) or "could not set lock on file" in text.lower():
            return "held"
        if _UNWRITTEN.search(text):
            return "full" if resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY else "limit"
        for words, kind in _WORDS.items():
            if words in text.lower():
                return kind
        seen = seen.__cause__
    return None


def _text(error: BaseException) -> str:
    return getattr(error, "strerror", None) or first_line(error)


def _freeable(data: Path | None) -> str:
    """What lies in the data folder and may go, with its size: the cache, and what is left of interrupted steps."""
    if data is None:
        return ""
    found = []
    for what, folders in (
        ("the cache (made again when needed)", [data / "cache"]),
        ("shards of interrupted steps", list((data / "artifacts").glob("*/.building-*"))),
    ):
        size = sum(_size(folder) for folder in folders)
        if size >= 2**20:
            found.append(
                f"{what} in {folders[0] if len(folders) == 1 else data / 'artifacts'}: {size / 2**20:,.0f} MiB"
            )
    return f" ({'; '.join(found)})" if found else ""


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
        except OSError:
            continue
    return total
