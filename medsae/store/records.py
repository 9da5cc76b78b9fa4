"""What people and models write, in a bucket: names, notes, readings, titles (docs/decisions/167).

Files that grow are written by one machine each, so one object is written by one machine, and of two lengths the longer
is the newer: nothing is merged, and nothing is written over. A ledger's files belong to a job and go when the job has
ended them; notes and answers of a machine stand beside those of the others (`<name>@<machine>.jsonl`), and who reads
takes all of them. The plan of a reading never changes. Of a title the last writing counts.

What is not here stays on its machine: jobs and their logs, what is unfinished, the salt of patients' hashes, the trash.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from medsae import files, objects, seals

PLACES = {"names": Path("artifacts/names"), "notes": Path("notes"), "readings": Path("readings"),
          "titles": Path("titles")}  # fmt: skip
"""First folder of a record -> where it lies in a data folder."""
_WORD = r"[^/.@\0][^/@\0]{0,199}"
_MACHINE = "[0-9a-f]{8}"
_GROWING = re.compile(rf"names/({_WORD})/{_WORD}\.jsonl|(?:notes/{_WORD}|readings/{_WORD}/answers/{_WORD})"
                      rf"@({_MACHINE})\.jsonl")  # fmt: skip
_WHOLE = re.compile(rf"readings/{_WORD}/reading\.json|titles/{_WORD}\.json")
_LARGEST = 2**36


@dataclass(frozen=True)
class Copy:
    """The records of one bucket and their local copy."""

    data: Path
    url: str
    machine: str

    def fetch(self, listed: Mapping[str, objects.Entry], scores: set[str]) -> None:
        """Fetch what the bucket has more of. `scores`: ids of the scores in the bucket; names of others are left where
        they are. Raises OSError."""
        wanted = [entry for entry in listed.values() if self._lacks(entry, scores)]
        wanted.sort(key=lambda entry: not entry.path.endswith(".verdicts.jsonl"))  # a job's end counts its verdicts
        with ThreadPoolExecutor(objects.AT_ONCE) as pool:
            list(pool.map(self._fetch, wanted))

    def share(self, listed: Mapping[str, objects.Entry], scores: set[str]) -> None:
        """Upload what this machine has more of. Raises OSError."""
        for path, record in self._own(scores):
            there = listed.get(record)
            size = _whole_lines(path) if path.suffix == ".jsonl" else path.stat().st_size
            if size and (there is None or (path.suffix == ".jsonl" and size > there.bytes)):
                self.put(path, record, size)

    def put(self, path: Path, record: str, size: int | None = None) -> None:
        """Upload a file, or its first `size` bytes, as a record. Raises OSError."""
        url = f"{self.url}/records/{record}"
        if size is None or size == path.stat().st_size:
            objects.put_file(url, path)
        else:  # somebody is writing the next line
            objects.put(url, path.read_bytes()[:size])

    def here(self, record: str) -> Path:
        """Where a record lies on this machine."""
        first, _, rest = record.partition("/")
        return self.data / PLACES[first] / rest

    def _lacks(self, entry: objects.Entry, scores: set[str]) -> bool:
        path = entry.path
        if (found := _GROWING.fullmatch(path)) is not None:
            ours = found[2] == self.machine or (found[1] is not None and found[1] not in scores)
            return not ours and _size(self.here(path)) < entry.bytes <= _LARGEST
        return _WHOLE.fullmatch(path) is not None and _changed(self.here(path)) != entry.stamp

    def _fetch(self, entry: objects.Entry) -> None:
        path = self.here(entry.path)
        files.make_folder(path.parent)
        with contextlib.suppress(FileNotFoundError, ValueError):  # it has changed since the listing: the next one tells
            with files.replacing(path) as new:
                objects.fetch(f"{self.url}/records/{entry.path}", new, entry.bytes)
            os.utime(path, ns=(entry.stamp, entry.stamp))

    def _own(self, scores: set[str]) -> Iterator[tuple[Path, str]]:
        """What this machine writes, with its record; a job's verdicts before its names."""
        for id in sorted(scores):
            for told in sorted((self.data / PLACES["names"] / id).glob("*.jsonl")):
                if not told.name.endswith(".verdicts.jsonl") and _ended(told):
                    verdicts = told.with_name(f"{told.stem}.verdicts.jsonl")
                    yield from ((p, f"names/{id}/{p.name}") for p in (verdicts, told) if p.is_file())
        for pattern in ("notes/[!.@]*.jsonl", "readings/*/answers/*.jsonl"):
            for path in sorted(self.data.glob(pattern)):
                if "@" not in path.name:
                    yield path, f"{path.relative_to(self.data).with_suffix('')}@{self.machine}.jsonl"
        for pattern in ("readings/*/reading.json", "titles/[!.]*.json"):
            for path in sorted(self.data.glob(pattern)):
                yield path, str(path.relative_to(self.data))


def beside(own: Path) -> list[Path]:
    """The files of other machines beside one that this machine writes."""
    return sorted(own.parent.glob(f"{_plain(own.stem)}@*{own.suffix}")) if own.parent.is_dir() else []


def _plain(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else -1


def _whole_lines(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    with path.open("rb") as file:
        at = file.seek(0, os.SEEK_END)
        while at:
            start = max(0, at - 2**16)
            file.seek(start)
            if (found := file.read(at - start).rfind(b"\n")) >= 0:
                return start + found + 1
            at = start
    return 0


def _ended(told: Path) -> bool:
    """Whether a job has ended its file of names: nobody writes to it, or to its verdicts, any more."""
    with told.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 2**12))
        last = file.read().rstrip(b"\n").rpartition(b"\n")[2]
    with contextlib.suppress(ValueError):
        return seals.opened(last).values.get("kind") == "end"
    return False
