"""Notes of people: a star, tags, whether they agree with the name, free text; one append-only file a representation.

`data/notes/<id of the SAE, or of the embeddings for raw>.jsonl`: one JSON line a change, fsynced, never rewritten. The
newest line of a neuron is its note; the older ones stay as its history. A note belongs to the neuron, not to a scoring
of it, so a new run of scores or names loses nothing. Every line is sealed (`medsae.seals`): one that is not what was
written is named and costs that line alone. `<id>.size` beside it keeps how long the file was, so that lines which are
gone from its end are missed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, TypeAlias

import pandas as pd

from medsae import files, seals
from medsae.progress import UserError
from medsae.store import records
from medsae.store.artifacts import Artifact, Store
from medsae.store.tally import Tallies

Verdict: TypeAlias = Literal["", "agree", "disagree"]


@dataclass(frozen=True)
class Note:
    """What people said of one neuron; `name` is the name that the verdict was about."""

    neuron: int
    star: bool = False
    tags: tuple[str, ...] = ()
    verdict: Verdict = ""
    text: str = ""
    name: str = ""
    time: float = 0.0
    by: str = ""
    """Who wrote it, where people sign in."""
    called: str = ""
    """What people call the neuron, whether or not a model named it."""


def representation(scores: Artifact) -> str:
    """The id that notes of these scores' neurons are kept under."""
    return scores.parents.get("sae") or scores.parents["embeddings"]


class Notes:
    """The notes on the neurons of one representation."""

    def __init__(self, store: Store, representation: str):
        assert "/" not in representation and not representation.startswith(".")
        self.path = store.data / "notes" / f"{representation}.jsonl"
        self.remote = store.remote

    def stamp(self) -> int:
        """Changes whenever a note was added."""
        return sum(path.stat().st_size for path in self._files())

    def all(self) -> dict[int, Note]:
        """neuron -> its newest note; lines that cannot be read are left out."""
        notes = [note for path in self._files() for line in _lines(path) if (note := _parse(line)) is not None]
        if self.remote:  # of several machines the newer note counts; in one file it is the later line
            notes.sort(key=lambda note: note.time)
        return {note.neuron: note for note in notes}

    def _files(self) -> list[Path]:
        """This machine's notes, and in a bucket those of the others."""
        others = records.beside(self.path) if self.remote else []
        return [path for path in (self.path, *others) if path.is_file()]

    def of(self, neuron: int) -> Note:
        """The note on a neuron; an empty one where there is none."""
        return self.all().get(neuron, Note(neuron))

    def put(self, *notes: Note) -> None:
        """Append notes with the present time; UserError when the folder is not writable or the disk is full."""
        now = time.time()
        self._append([seals.text(asdict(replace(note, time=now))) for note in notes])

    def take_over(self, other: Notes) -> None:
        """Begin with the notes of another folder, older first, where there are none yet. UserError as `put`."""
        if not self.stamp():
            found = [(note.time, line.decode()) for path in other._files() for line in _lines(path)
                     if (note := _parse(line)) is not None]  # fmt: skip
            self._append([line for _, line in sorted(found, key=lambda each: each[0])])

    def _append(self, lines: list[str]) -> None:
        if not lines:
            return
        try:
            files.make_folder(self.path.parent)
            handle = files.take_lock(self.path.with_suffix(".lock"), wait=True)
            try:
                files.append_line(self.path, "\n".join(lines))
                files.write(self.path.with_suffix(".size"), seals.text({"bytes": self.path.stat().st_size}))
            finally:
                if handle is not None:
                    os.close(handle)
        except OSError as error:
            raise UserError(f"the note was not saved: {error.strerror}", self.path, "mend it and save again") from error
        if self.remote:
            self.remote.soon()

    def change(self, neurons: Iterable[int], change: Callable[[Note], Note]) -> None:
        """Change the newest notes of several neurons, as `put` keeps them; what does not change is not written."""
        known = self.all()
        before = [known.get(neuron, Note(neuron)) for neuron in neurons]
        self.put(*(after for note in before if (after := change(note)) != note))

    def table(self) -> pd.DataFrame:
        """neuron, star, tags, verdict, text, name, time, by, called of every neuron with a note."""
        rows = [{**asdict(n), "tags": ", ".join(n.tags)} for n in self.all().values()]
        frame = pd.DataFrame(rows, columns=[field.name for field in fields(Note)])
        return frame.sort_values("neuron").reset_index(drop=True)

    def troubles(self) -> list[UserError]:
        """Lines that are not what was written, and lines that are gone from the end of the file."""
        found, do = [], "take the file from a copy, or write the notes anew"
        for path in self._files():
            tally = Tallies().of([path])
            if n := len(tally.damaged):
                what = f"{n:,} {'note is' if n == 1 else 'notes are'} damaged and left out, "
                found.append(UserError(f"{what}first line {tally.damaged[0]:,}", path, do))
        bytes = self.path.stat().st_size if self.path.is_file() else 0
        if bytes < (was := self._was()):
            what = f"notes are gone: the file has {bytes:,} of {was:,} bytes"
            found.append(UserError(what, self.path, do))
        return found

    def _was(self) -> int:
        """Bytes of the file after the last note; 0 where that is not known."""
        try:
            return int(seals.read(self.path.with_suffix(".size"))["bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")


def _parse(line: bytes) -> Note | None:
    try:
        values = seals.opened(line).values
        return Note(int(values["neuron"]), bool(values["star"]), tuple(str(t) for t in values["tags"]),
                    values["verdict"] if values["verdict"] in ("agree", "disagree") else "", str(values["text"]),
                    str(values["name"]), float(values["time"]), str(values.get("by", "")),
                    str(values.get("called", "")))  # fmt: skip
    except (ValueError, KeyError, TypeError):
        return None


def folder(store: Store) -> Path:
    """Where notes are kept."""
    return store.data / "notes"
