"""What is done with artifacts that are there: `list`, `show`, `report`, `rename`, `copy`, `rm`, `gc`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro.conf

from medsae.config.base import Command, check


@dataclass(frozen=True, kw_only=True)
class List(Command):
    """The artifacts, newest first."""

    kind: Literal["cohort", "embeddings", "sae", "scores", "pairs", "names"] | None = None
    """Only this kind."""


@dataclass(frozen=True, kw_only=True)
class Show(Command):
    """One artifact: config, parents, versions, tables, hashes checked."""

    id: tyro.conf.Positional[str]
    """Id or unique beginning of the id."""


@dataclass(frozen=True, kw_only=True)
class Report(Command):
    """Figures, tables, contact sheets and a methods paragraph of scores as a paper has them, and one page of HTML."""

    id: tyro.conf.Positional[str]
    """Id or unique beginning of the id of the scores."""
    to: Path
    """Folder to make."""
    neurons: tuple[int, ...] = ()
    """Neurons to show with their radiographs; default: the strongest of each label."""
    versus: str | None = None
    """Scores to compare with; default: the other representation of the same embeddings."""


@dataclass(frozen=True, kw_only=True)
class Rename(Command):
    """Give an artifact a title, a description, or both; it stays what it is, and so does its id."""

    id: tyro.conf.Positional[str]
    """Id or unique beginning of the id."""
    title: tyro.conf.Positional[str | None] = None
    """What choosers call it; "" for as before anybody named it."""
    about: str | None = None
    """A description of any length."""
    archived: bool | None = None
    """Keep it, and leave it out of the choosers."""


@dataclass(frozen=True, kw_only=True)
class Copy(Command):
    """Copy artifacts and what they were made from, with names, notes and titles, to another data folder or a bucket."""

    ids: tyro.conf.Positional[tuple[str, ...]] = ()
    """Ids, or unique beginnings of ids; default: all."""
    to: Path
    """The other data folder, or s3://BUCKET/PREFIX (gs, az)."""


@dataclass(frozen=True, kw_only=True)
class Remove(Command):
    """Move artifacts or jobs to the trash; `gc` empties it."""

    ids: tyro.conf.Positional[tuple[str, ...]]
    """Ids, or unique beginnings of ids."""
    with_dependents: bool = False
    """Also what was made from them."""
    restore: bool = False
    """Take them out of the trash instead."""

    def __post_init__(self) -> None:
        check(len(self.ids) > 0, "which artifacts?", do="give their ids; `medsae list` shows them")


@dataclass(frozen=True, kw_only=True)
class Collect(Command):
    """Show what can go for good: the trash, and what was begun and never finished. With --yes it goes."""

    yes: bool = False
    """Remove it; without, only the list."""
    unfinished: bool = True
    """Also interrupted artifacts (their finished shards are lost)."""
