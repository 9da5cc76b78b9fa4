"""The five steps: read, compute, publish. Each takes a config, a store and a progress, and returns the manifest."""

from __future__ import annotations

import hashlib
import json
from importlib import import_module
from typing import Any

from medsae import config as c
from medsae import shards
from medsae.progress import Progress
from medsae.shards import Part
from medsae.store.artifacts import Store, versions

# Imported when needed: finding that an artifact is there already loads no torch.
_ROOMS: dict[str, tuple[str, str]] = {
    "ingest": ("ingest", "ingest"),
    "embed": ("embed", "embed"),
    "train": ("train", "train"),
    "score": ("score", "score"),
    "name": ("naming", "name"),
    "run": ("presets", "run_preset"),
    "pairs": ("pairs", "pairs"),
    "look": ("look", "look"),
    "reading": ("reading", "create"),
    "import": ("exchange", "import_sae"),
    "export": ("exchange", "export"),
}


def run(config: Any, store: Store, progress: Progress) -> dict[str, Any]:
    """Run the step of a config; returns the manifest of what it made (with its `id`)."""
    if store.remote is None:
        return _run(config, store, progress)
    store.remote.say = progress.say
    made = _run(config, store, progress)
    store.remote.share()  # names and plans of readings go to the bucket
    return made


def _run(config: Any, store: Store, progress: Progress) -> dict[str, Any]:
    if getattr(config, "on", None):
        from medsae import cluster

        return cluster.run(config, store, progress)
    # By the step that a config names, so that a source or an encoder of another package needs no line here.
    room = _ROOMS[getattr(config, "step", "run")]
    module, name = ("sweep", "sweep") if getattr(config, "sweep", None) else room
    return getattr(import_module(f"medsae.steps.{module}"), name)(config, store, progress)


def together(store: Store, config: Any, of: list[str], progress: Progress) -> Part | None:
    """The part that `--shard` of a config asks for of a step without a folder of its own: its notes lie in the cache,
    under what they are `of`. None where the whole is asked for."""
    digest = hashlib.sha256(json.dumps([config.step, *of]).encode()).hexdigest()[:12]
    folder = store.cache / "shards" / f"{config.step}-{digest}"
    about = {"config": c.record(config), "inputs": {}, "versions": versions()}
    return shards.join(folder, config.shard, ["python", "-m", "medsae", *c.command_line(config)], about, progress)


def found(what: str, id: str, progress: Progress) -> None:
    """Say that a step has nothing to do, and why."""
    progress.say(f"{what} {id} is already there: the same question has the same id")
