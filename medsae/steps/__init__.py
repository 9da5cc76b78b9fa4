"""The five steps: read, compute, publish. Each takes a config, a store and a progress, and returns the manifest."""

from __future__ import annotations

from typing import Any

from medsae import config as c
from medsae.progress import Progress
from medsae.store.artifacts import Store


def run(config: Any, store: Store, progress: Progress) -> dict[str, Any]:
    """Run the step of a config; returns the manifest of what it made (with its `id`)."""
    match config:
        case c.IngestChexpert() | c.IngestTable():
            from medsae.steps.ingest import ingest as step
        case c.IngestSimulated():
            from medsae.steps.simulate import ingest_simulated as step
        case c.Embed():
            from medsae.steps.embed import embed as step
        case c.Train():
            from medsae.steps.train import train as step
        case c.Score():
            from medsae.steps.score import score as step
        case c.Name():
            from medsae.steps.naming import name as step
        case c.RunDemo() | c.RunPaper():
            from medsae.steps.presets import run_preset as step
        case _:
            raise AssertionError(f"no step for {type(config).__name__}")
    return step(config, store, progress)


def found(what: str, id: str, progress: Progress) -> None:
    """Say that a step has nothing to do, and why."""
    progress.say(f"{what} {id} is already there: the same question has the same id")
