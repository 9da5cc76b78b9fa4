"""Fetch one large file over HTTP: with progress, resumed after a break, whole or not at all."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medsae import files, seals
from medsae.progress import Progress, UserError

BLOCK = 1 << 20
ATTEMPTS_WITHOUT_GAIN = 3


class Broken(Exception):
    """The connection ended early; what arrived is kept."""


def fetch(url: str, to: Path, progress: Progress, do: str, timeout_seconds: float = 30) -> None:
    """Download `url` to `to`; bytes wait in `to`.part, and a later call goes on where this one stopped.

    The part is only continued when the server says it is the same file (ETag or Last-Modified, by If-Range). `do` is
    the advice in the UserError that is raised when the file cannot be had; the part is kept then.
    """
    part, note = to.with_name(to.name + ".part"), to.with_name(to.name + ".part.json")
    files.make_folder(to.parent)
    with _alone(part):
        failures = 0
        while True:
            before = part.stat().st_size
            try:
                _continue(url, part, note, progress, timeout_seconds)
                break
            except (OSError, http.client.HTTPException, Broken) as error:
                if isinstance(error, OSError) and error.filename is not None and not _is_http(error):
                    raise
                failures = 0 if part.stat().st_size > before else failures + 1
                refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
                if refused or failures >= ATTEMPTS_WITHOUT_GAIN:
                    kept = f" ({part.stat().st_size:,} bytes are kept in {part})" if part.stat().st_size else ""
                    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
                    raise UserError(f"the download failed: {reason}{kept}", url, do) from error
        files.publish(part, to)
        note.unlink(missing_ok=True)


def _is_http(error: OSError) -> bool:
    return isinstance(error, urllib.error.URLError)


@contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Hold the part for this process: two downloads into one file would interleave."""
    lock = files.take_lock(part)
    if lock is None:
        raise UserError("another process is downloading this file", part, "wait for it, then try again")
    try:
        yield
    finally:
        os.close(lock)


def _continue(url: str, part: Path, note: Path, progress: Progress, timeout_seconds: float) -> None:
    """One request that appends to `part`; raises Broken when it ends before the announced length."""
    have, known = part.stat().st_size, _read_note(note, url)
    headers = {"User-Agent": "medsae"}
    if have and known.get("validator"):
        headers |= {"Range": f"bytes={have}-", "If-Range": known["validator"]}
        if known.get("total") == have:
            return
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_seconds) as reply:
        resumed = reply.status == 206 and str(reply.headers.get("Content-Range", "")).startswith(f"bytes {have}-")
        start = have if resumed else 0
        length = reply.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        validator = reply.headers.get("ETag") or reply.headers.get("Last-Modified")
        weak = validator is not None and validator.startswith("W/")
        files.write(note, seals.text({"url": url, "total": total, "validator": None if weak else validator}))
        with part.open("r+b") as file, progress.task(f"downloading {url}", total, "bytes") as task:
            file.seek(start)
            file.truncate()
            if start:
                task.advance(start)
            done = start
            while block := reply.read(BLOCK):
                file.write(block)
                done += len(block)
                task.advance(len(block))
            file.flush()
            os.fsync(file.fileno())
        if total is not None and done < total:
            raise Broken(f"the connection ended after {done:,} of {total:,} bytes")


def _read_note(note: Path, url: str) -> dict:
    try:
        known = seals.read(note)
    except (FileNotFoundError, ValueError):
        return {}
    return known if known.get("url") == url else {}
