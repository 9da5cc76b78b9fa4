"""Counting the lines of files that are only appended to: how many are what was written, and which are not."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from medsae import files, seals

_END = b'{"kind":"end"'


@dataclass
class Tally:
    """Lines of one file, or of several together."""

    sealed: int = 0
    unsealed: int = 0
    """From before there were seals."""
    damaged: list[int] = field(default_factory=list)
    """Their numbers, as an editor counts (those of the file of each)."""
    end: tuple[int, int] | None = None
    """What the newest line `end` says that this file held before it, and the file of verdicts."""
    read: int = 0
    """Bytes that were looked at."""

    @property
    def lines(self) -> int:
        """All of them, damaged ones too."""
        return self.sealed + self.unsealed + len(self.damaged)

    def add(self, line: bytes) -> None:
        """Count one whole line (without its end); an empty one is none."""
        if not line.strip():
            return
        if seals.is_sealed(line):  # the common case, without decoding
            self.sealed += 1
            if line.startswith(_END):
                values = seals.opened(line).values
                self.end = values["told_lines"], values["verdict_lines"]
            return
        try:
            seals.opened(line)
            self.unsealed += 1
        except ValueError:
            self.damaged.append(self.lines + 1)


class Tallies:
    """The tallies of files that grow; safe to ask from several threads."""

    def __init__(self) -> None:
        self._known: dict[Path, Tally] = {}
        self._lock = threading.Lock()

    def of(self, paths: Iterable[Path]) -> Tally:
        """The tally of all lines of the files; what is left after the last line's end is a damaged line unless somebody
        is writing. Raises OSError."""
        total = Tally()
        for path in paths:
            with self._lock:
                tally, rest = self._look(path)
            torn = [tally.lines + 1] if rest and not files.locked(path) else []
            total.sealed += tally.sealed
            total.unsealed += tally.unsealed
            total.damaged += tally.damaged + torn
            total.end, total.read = tally.end, total.read + tally.read
        return total

    def _look(self, path: Path) -> tuple[Tally, bytes]:
        """The tally with what was added, and what stands after the last line's end."""
        tally = self._known.get(path)
        if tally is None or path.stat().st_size < tally.read:
            tally = self._known[path] = Tally()
        rest = b""
        with path.open("rb") as file:
            file.seek(tally.read)
            for line in file:
                if not line.endswith(b"\n"):
                    rest = line
                    break
                tally.add(line[:-1])
                tally.read += len(line)
        return tally, rest
