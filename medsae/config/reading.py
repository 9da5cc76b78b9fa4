"""`reading`: the detection test of names, done by people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro.conf

from medsae.config.base import Command, check, numbers


@dataclass(frozen=True, kw_only=True)
class ReadingCreate(Command):
    """Plan a reading: people take the detection test of names, on the page Read."""

    scores: str
    """Id (or unique beginning of the id) of the scores."""
    neurons: str | None = None
    """Comma-separated numbers of neurons (default: --top)."""
    top: int = 10
    """Without --neurons: so many of the named neurons, best accuracy first (where none has a name: strongest |rho|)."""
    images: str = "20+20"
    """Firing and silent images of a neuron, each of another patient."""
    names: Literal["own", "rival", "none", "readers"] = "own"
    """`own`: readers are shown the model's name. `rival`: another neuron's name too, in tasks of their own that look
    alike. `none`: readers name the neuron themselves, then are tested on their own name. `readers`: names that readers
    gave in the reading --of, and the model's, on the same images, in tasks that look alike."""
    of: str | None = None
    """With --names readers: the reading in which the names were given."""
    run: str | None = None
    """Run of names whose names and images are read (default: the newest)."""
    readers: str | None = None
    """Comma-separated names of readers, between whom the neurons are divided (default: whoever comes reads all)."""
    each: int = 2
    """With --readers: how many read every neuron."""
    title: str = ""
    """What the page calls it."""
    seed: int = 0
    """Seed of the choice of images and of who reads what."""

    step = "reading"
    makes = "readings"

    def __post_init__(self) -> None:
        check(self.top >= 1, f"--top {self.top} must be at least 1")
        check((self.of is None) == (self.names != "readers"), "--names readers and --of READING go together")
        self.sides()
        readers = self.reader_list()
        check(self.each >= 1, f"--each {self.each} must be at least 1")
        check(not readers or len(readers) >= self.each,
              f"--readers names {len(readers)}, and each neuron is to be read by --each {self.each}",
              do="name more readers, or give a smaller --each")  # fmt: skip
        self.neuron_list()

    def sides(self) -> tuple[int, int]:
        """Firing and silent images of a neuron."""
        words = [w.strip() for w in self.images.split("+")]
        good = len(words) == 2 and all(w.isascii() and w.isdigit() and 1 <= int(w) <= 1000 for w in words)
        check(good, f"--images {self.images!r} is not FIRING+SILENT", do="as in --images 20+20")
        return int(words[0]), int(words[1])

    def reader_list(self) -> list[str]:
        """The readers of --readers, as they are kept, without repeats."""
        return list(dict.fromkeys(" ".join(w.split()) for w in (self.readers or "").split(",") if w.strip()))

    def neuron_list(self) -> list[int]:
        """The neurons of --neurons in the given order without repeats."""
        return numbers(self.neurons)


@dataclass(frozen=True, kw_only=True)
class ReadingList(Command):
    """The readings there are, and how far their readers have come."""


@dataclass(frozen=True, kw_only=True)
class ReadingResults(Command):
    """What a reading came to: accuracies, agreement, times; every answer with --csv."""

    id: tyro.conf.Positional[str]
    """Id of the reading."""
    csv: Path | None = None
    """File to write every answer to."""
