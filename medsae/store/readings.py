"""Readings on disk: a plan that never changes, and a file of answers for each reader that only grows.

`data/readings/<id>/reading.json`, and beside it `answers/<reader>-<hash>.jsonl`: one JSON line an answer, fsynced
before the browser is told that it is kept. A reader's file is written under that reader's name alone, so none can
overwrite another; two tabs of one reader append to the same file. Plan and lines are sealed (`medsae.seals`): a line
that is not what was written is counted and costs that line. Nothing depends on
the scores any more once a plan is made: it holds names, images and the model's verdicts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medsae import files, seals
from medsae.progress import UserError
from medsae.store import records
from medsae.store.artifacts import Store
from medsae.store.remote import Remote
from medsae.store.troubles import explained

PLAN = "reading.json"
LONGEST_READER = 100
"""Characters of a reader's name."""


class Readings:
    """The readings of a data folder."""

    def __init__(self, store: Store):
        self.folder = store.data / "readings"
        self.remote = store.remote

    def ids(self) -> list[str]:
        """Every reading that has a plan, newest first."""
        found = [p.parent for p in self.folder.glob(f"*/{PLAN}")] if self.folder.is_dir() else []
        return [p.name for p in sorted(found, key=lambda p: ((p / PLAN).stat().st_mtime, p.name), reverse=True)]

    def plan(self, id: str) -> dict[str, Any]:
        """The record of a reading; UserError where there is none, or it cannot be used."""
        path = self._folder(id) / PLAN
        try:
            found = seals.read(path)
        except FileNotFoundError as error:
            there = ", ".join(self.ids()[:8]) or "none yet"
            raise UserError(f"no reading with the id {id!r}; there is: {there}", self.folder,
                            "python -m medsae reading create makes one") from error  # fmt: skip
        except (OSError, ValueError) as error:
            better = explained(error, path) if isinstance(error, OSError) else None
            raise better or UserError(f"the reading {id} is damaged: {error}", path, "its answers are kept beside it") \
                from error  # fmt: skip
        if found.get("id") != id:
            raise UserError(f"the reading {id} is damaged: it is of another id", path, "its answers are kept beside it")
        return found

    def make(self, record: dict[str, Any]) -> bool:
        """Write a plan, once; False where it is there already, which is then kept. UserError when it cannot be."""
        path = self._folder(record["id"]) / PLAN
        if path.is_file():
            return False
        try:
            files.make_folder(path.parent)
            files.write(path, seals.text({**record, "created": time.time()}) + "\n")
        except OSError as error:
            raise explained(error, path) or UserError(f"the reading was not saved: {error}", path, "try again") \
                from error  # fmt: skip
        return True

    def _folder(self, id: str) -> Path:
        if not id or "/" in id or "\\" in id or id.startswith(".") or len(id) > 200:
            raise UserError(f"{id[:80]!r} is no id of a reading", self.folder, "python -m medsae reading list")
        return self.folder / id

    def answers(self, id: str, reader: str) -> Answers:
        """The file of one reader of a reading."""
        return Answers(self._folder(id) / "answers", reader, self.remote)

    def readers(self, id: str) -> list[str]:
        """Who has answered anything, by name; as the readers wrote themselves."""
        folder = self._folder(id) / "answers"
        found = set()
        for path in sorted(folder.glob("*.jsonl")) if folder.is_dir() else []:
            for row in _rows(path):
                if row.get("by") and _file(str(row["by"])) == re.sub("@[^.]*", "", path.name):
                    found.add(str(row["by"]))
                    break
        return sorted(found)


class Answers:
    """The lines of one reader."""

    def __init__(self, folder: Path, reader: str, remote: Remote | None = None):
        self.reader = clean(reader)
        self.path = folder / _file(self.reader)
        self.remote = remote

    def _files(self) -> list[Path]:
        """What this reader answered here, and in a bucket on other machines."""
        return [self.path, *(records.beside(self.path) if self.remote else [])]

    def rows(self) -> list[dict[str, Any]]:
        """Every readable line of this reader, oldest first."""
        found = [row for path in self._files() for row in _rows(path) if row.get("by") == self.reader]
        return sorted(found, key=_when) if self.remote else found

    def damaged(self) -> int:
        """Lines that are not what was written: they are left out."""
        return sum(_row(line) is None for path in self._files() for line in _lines(path))

    def add(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        """Append lines with the present time; returns the keys of all that are on the disk now, those that were there
        before among them. UserError when the folder is not writable or the disk is full: what is not told is not lost,
        the browser holds it."""
        try:
            files.make_folder(self.path.parent)
            lock = files.take_lock(self.path.with_suffix(".lock"), wait=True)
            try:
                known = {row["key"] for row in self.rows() if row.get("key")}
                for row in rows:
                    if row.get("key") and row["key"] in known:
                        continue
                    line = {**row, "by": self.reader, "time": round(time.time(), 3)}
                    files.append_line(self.path, seals.text(line))
                    known.add(row.get("key"))
            finally:
                if lock is not None:
                    os.close(lock)
        except OSError as error:
            raise UserError(f"the answer was not saved: {error.strerror}", self.path,
                            "mend it: the browser keeps it and sends it again") from error  # fmt: skip
        if self.remote:
            self.remote.soon()
        return [str(row["key"]) for row in rows if row.get("key")]


def clean(reader: str) -> str:
    """A reader's name as it is kept: printable, single blanks, at most LONGEST_READER characters; UserError where
    nothing is left."""
    name = " ".join("".join(ch for ch in reader if ch.isprintable()).split())[:LONGEST_READER].strip()
    if not name:
        raise UserError("a reader needs a name", None, "give one")
    return name


def _when(row: dict[str, Any]) -> float:
    return row["time"] if isinstance(row.get("time"), int | float) else 0.0


def _file(reader: str) -> str:
    return f"{files.slug(reader)}-{hashlib.sha256(reader.encode()).hexdigest()[:8]}.jsonl"


def _rows(path: Path) -> list[dict[str, Any]]:
    return [row for row in map(_row, _lines(path)) if row is not None]


def _lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().split(b"\n") if line] if path.is_file() else []


def _row(line: bytes) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        return seals.opened(line).values
    return None
