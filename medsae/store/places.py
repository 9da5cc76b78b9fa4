"""Where in a ledger's files the lines about one neuron stand, so that a page reads those and not half a million others.

The files are only appended to. An index is made by one pass over the bytes and afterwards over what was added; lines
that were written together are one range. With 8,192 neurons of 60 verdicts (130 MiB) a neuron's lines are read in a
millisecond; a query over all lines takes half a second.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsae import seals

_RUN = re.compile(rb'"run":"([^"\\]*)"')
_NEURON = re.compile(rb'"neuron":(\d+)')
"""Keys as the writer writes them. Within a text quotes are escaped, so nothing a model wrote looks like a key."""


@dataclass
class _Range:
    """Bytes start .. end of a file: whole lines, one after the other."""

    path: Path
    start: int
    end: int


class Places:
    """The lines of each (run, neuron) in files that grow; safe to ask from several threads."""

    def __init__(self, files: Callable[[], list[Path]]):
        self._files = files
        self._lock = threading.Lock()
        self._ranges: dict[tuple[bytes, int], list[_Range]] = {}
        self._seen: dict[Path, int] = {}

    def lines(self, run: str, neuron: int) -> list[dict[str, Any]]:
        """Every readable line of a run about a neuron, oldest file first; a damaged line is left out."""
        with self._lock:
            self._look()
            ranges = list(self._ranges.get((run.encode(), neuron), ()))
        found = []
        for part in ranges:
            with part.path.open("rb") as file:
                file.seek(part.start)
                for line in file.read(part.end - part.start).splitlines():
                    with contextlib.suppress(ValueError):
                        row = seals.opened(line).values
                        if row.get("run") == run and row.get("neuron") == neuron:
                            found.append(row)
        return found

    def _look(self) -> None:
        """Take in what was added; everything anew when a file is gone or shorter than it was."""
        sizes = {path: path.stat().st_size for path in self._files()}
        if any(sizes.get(path, -1) < seen for path, seen in self._seen.items()):
            self._ranges.clear()
            self._seen.clear()
        for path, size in sizes.items():
            at = self._seen.get(path, 0)
            if size > at:
                self._seen[path] = self._add(path, at)

    def _add(self, path: Path, at: int) -> int:
        """Index a file from byte `at` on; the end of its last whole line (one that is being written waits)."""
        last: _Range | None = None
        last_key = None
        with path.open("rb") as file:
            file.seek(at)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                run, neuron = _RUN.search(line), _NEURON.search(line)
                start, at = at, at + len(line)
                if run is None or neuron is None:
                    last = None
                    continue
                key = (run[1], int(neuron[1]))
                if last is not None and key == last_key:
                    last.end = at
                else:
                    last, last_key = _Range(path, start, at), key
                    self._ranges.setdefault(key, []).append(last)
        return at
