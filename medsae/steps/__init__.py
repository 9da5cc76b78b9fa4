"""The five steps: read, compute, publish. Each takes a config, a store and a progress, and returns the manifest."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from medsae import config as c
from medsae.progress import Progress
from medsae.store.artifacts import Store

# Imported when needed: finding that an artifact is there already loads no torch.
_ROOMS: dict[type, tuple[str, str]] = {
    c.IngestChexpert: ("ingest", "ingest"),
    c.IngestTable: ("ingest", "ingest"),
    c.IngestSimulated: ("simulate", "ingest_simulated"),
    c.Embed: ("embed", "embed"),
    c.Train: ("train", "train"),
    c.Score: ("score", "score"),
    c.Name: ("naming", "name"),
    c.RunDemo: ("presets", "run_preset"),
    c.RunPaper: ("presets", "run_preset"),
}


def run(config: Any, store: Store, progress: Progress) -> dict[str, Any]:
    """Run the step of a config; returns the manifest of what it made (with its `id`)."""
    room = next(_ROOMS[kind] for kind in type(config).__mro__ if kind in _ROOMS)
    module, name = ("sweep", "sweep") if getattr(config, "sweep", None) else room
    return getattr(import_module(f"medsae.steps.{module}"), name)(config, store, progress)


def found(what: str, id: str, progress: Progress) -> None:
    """Say that a step has nothing to do, and why."""
    progress.say(f"{what} {id} is already there: the same question has the same id")
