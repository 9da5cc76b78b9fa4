"""What every config is made of: kinds of fields, checks, and what all commands take."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
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


def repeated() -> Any:
    """A field whose option may be given several times; with one value its record is that value, as it was before."""
    return field(default=(), metadata={"repeated": True})


@dataclass(frozen=True, kw_only=True)
class Command:
    """What every command takes."""

    data: Path | None = runtime(None)
    """Folder of artifacts, jobs and cache (default: the variable MEDSAE_DATA, else ./data); or s3://BUCKET/PREFIX (gs,
    az), which several machines share (docs/how-to/buckets.md)."""
    json: bool = runtime(False)
    """Print the result as JSON on stdout."""


@dataclass(frozen=True, kw_only=True)
class OnCluster:
    """How the shards of a step are made on a cluster (docs/how-to/ray.md)."""

    on: str | None = runtime(None)
    """Make the shards on a Ray cluster and merge them: `ray` (the cluster of this machine, else one of it alone), or
    ray://HOST:PORT."""
    shards: int | None = runtime(None)
    """--on: number of shards (default: as many as the cluster can make at once)."""
    cpus_per_shard: float | None = runtime(None)
    """--on: CPUs of a shard (default: 1; with a GPU, its part of the node's)."""
    gpus_per_shard: float | None = runtime(None)
    """--on: GPUs of a shard, also a part of one (default: 1 where the step uses one and the cluster has some)."""
    shard_retries: int = runtime(3)
    """--on: how often a shard is begun again whose node or process is gone."""

    def _check_cluster(self) -> None:
        check(self.on is None or self.on == "ray" or (self.on.startswith("ray://") and len(self.on) > 6),
              f"--on {self.on} is no cluster", do="--on ray, or --on ray://HOST:PORT")  # fmt: skip
        check(self.shards is None or self.shards >= 1, f"--shards {self.shards} must be at least 1")
        check(self.cpus_per_shard is None or self.cpus_per_shard > 0, "--cpus-per-shard must be positive")
        check(self.gpus_per_shard is None or self.gpus_per_shard >= 0, "--gpus-per-shard must not be negative")
        check(self.shard_retries >= 0, "--shard-retries must not be negative")
        given = [f.name for f in fields(OnCluster) if f.name != "on" and getattr(self, f.name) != f.default]
        check(self.on is not None or not given, f"--{''.join(given[:1]).replace('_', '-')} goes with --on ray")


@dataclass(frozen=True, kw_only=True)
class Sharded(OnCluster):
    """What every step takes that several machines can do together (docs/how-to/slurm.md, docs/how-to/ray.md)."""

    shard: str | None = runtime(None)
    """Make only part i of N, given as i/N; when all are done, `medsae merge` and the same words make the whole."""

    def __post_init__(self) -> None:
        if self.shard is not None:
            shards.numbers(self.shard)
        self._check_cluster()
        check(self.shard is None or self.on is None, "--shard and --on exclude each other",
              do="--on makes all shards and merges them")  # fmt: skip

    @property
    def in_parts(self) -> str | None:
        """The option by which the step is done in parts; None where it is done at once."""
        return "--on" if self.on is not None else "--shard" if self.shard is not None else None
