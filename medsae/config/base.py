"""What every config is made of: kinds of fields, checks, and what all commands take."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from medsae import shards
from medsae.progress import UserError

Protocol: TypeAlias = Literal["strict", "paper"]
Scope: TypeAlias = Literal["evaluation", "holdout", "train", "all"]


def runtime(default: Any) -> Any:
    """A field that says how, not what: left out of the identity."""
    return field(default=default, metadata={"runtime": True})


def added(default: Any) -> Any:
    """A field that came after artifacts were made: part of the identity only where it is not at its default."""
    return field(default=default, metadata={"added": True})


def check(condition: bool, what: str, where: object = None, do: str | None = None) -> None:
    """Raise UserError(what, where, do) unless `condition`."""
    if not condition:
        raise UserError(what, where, do)


def numbers(neurons: str | None) -> list[int]:
    """The numbers of --neurons without repeats; UserError when it is not a list of numbers."""
    words = [w.strip() for w in (neurons or "").split(",") if w.strip()]
    bad = [w for w in words if not (w.isascii() and w.isdigit())]
    check(not bad and (neurons is None or bool(words)), f"--neurons {neurons!r} is not a list of neurons",
          do="give numbers separated by commas: --neurons 12,57")  # fmt: skip
    return list(dict.fromkeys(int(w) for w in words))


@dataclass(frozen=True, kw_only=True)
class Command:
    """What every command takes."""

    data: Path | None = runtime(None)
    """Folder of artifacts, jobs and cache (default: the variable MEDSAE_DATA, else ./data)."""
    json: bool = runtime(False)
    """Print the result as JSON on stdout."""


@dataclass(frozen=True, kw_only=True)
class Sharded:
    """What every step takes that several machines can do together (docs/how-to/slurm.md)."""

    shard: str | None = runtime(None)
    """Make only part i of N, given as i/N; when all are done, `medsae merge` and the same words make the whole."""

    def __post_init__(self) -> None:
        if self.shard is not None:
            shards.numbers(self.shard)
