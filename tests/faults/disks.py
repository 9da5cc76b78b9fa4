"""A full disk and a file-size limit at many points of every step: one message, status 2, and the same command goes on."""

from __future__ import annotations

import math
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from study import KIND, Ended, Row, Study, command, temporary

SHARES = (0.0, 0.1, 0.25, 0.5, 0.8, 1.2)


def can_mount() -> bool:
    """Whether a small file system can be made (root in a container that allows it)."""
    with temporary("mount") as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
        if done.returncode == 0:
            subprocess.run(["umount", str(folder)], check=True)
        return done.returncode == 0


def used(folder: Path) -> int:
    """Bytes on the disk under a folder."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def full_disk(study: Study, shares: tuple[float, ...] = SHARES, steps: tuple[str, ...] = tuple(KIND)) -> list[Row]:
    """A tmpfs that leaves a share of what the step needs."""
    rows = []
    for step in steps:
        row, began = Row(f"full disk in {step}"), time.monotonic()
        need = max(used(study.folder(step)), 20_000)
        expected = study.content(step, study.data)
        for share in shares:
            with temporary("full") as folder:
                subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", str(folder)], check=True)
                try:
                    data = study.copy(folder / "data", upto=step)
                    size = used(folder) + 8192 + int(share * need)
                    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
                    ended = command(study.words[step], data)
                    row.tries += 1
                    _judge(row, ended, f"{step} at {share}", ("the disk is full", "No space left"), share == 0)
                    subprocess.run(["mount", "-o", "remount,size=512m", str(folder)], check=True)
                    _goes_on(row, study, step, data, expected, f"{step} at {share}")
                finally:
                    subprocess.run(["umount", str(folder)], check=True)
        row.seconds = time.monotonic() - began
        rows.append(row)
    return rows


def size_limit(
    study: Study, shares: tuple[float, ...] = SHARES, steps: tuple[str, ...] = tuple(KIND), until: float = math.inf
) -> list[Row]:
    """RLIMIT_FSIZE at a share of the largest file that the step makes."""
    row, began = Row("file-size limit"), time.monotonic()
    for step in steps:
        expected = study.content(step, study.data)
        largest = max(path.stat().st_size for path in study.folder(step).rglob("*") if path.is_file())
        for share in shares:
            if time.monotonic() > until:
                break
            with temporary("limit") as folder:
                data = study.copy(folder / "data", upto=step)
                most = int(share * largest)
                ended = command(study.words[step], data, before=_limited(most))
                row.tries += 1
                _judge(row, ended, f"{step} at {most:,} bytes", ("larger than the limit", "File too large"), False)
                _goes_on(row, study, step, data, expected, f"{step} at {most:,} bytes")
    row.seconds = time.monotonic() - began
    return [row]


def _limited(most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def _judge(row: Row, ended: Ended, where: str, words: tuple[str, ...], must_fail: bool) -> None:
    if ended.status == 0 and not must_fail:
        return  # what it needed fitted
    row.hits += 1
    # Where even stderr cannot be written, the status is all there is.
    told = any(word in ended.err for word in words) or not ended.err
    if ended.status != 2 or "Traceback" in ended.err or "Error:" in ended.err or not told:
        row.bad(f"{where}: status {ended.status}: {ended.err.strip().splitlines()[-1:] or 'said nothing'}")


def _goes_on(row: Row, study: Study, step: str, data: Path, expected: object, where: str) -> None:
    looked = command(["list"], data)
    if looked.status or "damaged" in looked.err:
        row.bad(f"{where}: afterwards list says {looked.err.strip()[-200:]}", lost=True)
    ended = command(study.words[step], data)
    if ended.status:
        row.bad(f"{where}: the same command did not go on: {ended.err.strip()[-200:]}", lost=True)
    elif study.content(step, data) != expected:
        row.bad(f"{where}: the result differs", lost=True)


def rows(study: Study, until: float = math.inf) -> list[Row]:
    """All of it; without the full disks where file systems cannot be mounted."""
    found = full_disk(study) if can_mount() else [Row("full disk: NOT TRIED, it needs root", 1, hits=1)]
    return found + size_limit(study, (0.1, 0.5), until=until)
