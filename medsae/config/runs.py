"""`run`: all steps of a preset; `merge`: the pieces of one step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro.conf

from medsae.config.base import Command, check, runtime


@dataclass(frozen=True, kw_only=True)
class RunDemo(Command):
    """The simulated cohort, its encoder, an SAE, scores of raw and SAE, names of the best neurons."""

    images: int | None = None
    """Number of simulated pictures (default: the preset's)."""
    seed: int = 0
    """Seed of the simulation and of the SAE."""
    names: int = 24
    """Neurons that the labels and simgemma name; 0: none."""

    def __post_init__(self) -> None:
        check(self.names >= 0, f"--names {self.names} must be at least 0")


@dataclass(frozen=True, kw_only=True)
class RunPaper(Command):
    """The published study: CheXpert, MedCLIP-ResNet, ReLU SAE, scores of raw and SAE by the paper's protocol."""

    root: Path
    """CheXpert's folder."""
    encoder: str = "medclip-resnet"
    """Another encoder than the paper's, to try the whole way without MedCLIP's weights."""
    weights: Path | None = runtime(None)
    """Checkpoint of the encoder."""
    seeds: int | None = None
    """Trainings with different seeds (default: 3 where the cohort has at most 30,000 pictures, else 1)."""

    def __post_init__(self) -> None:
        check(self.seeds is None or self.seeds >= 1, f"--seeds {self.seeds} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Merge(Command):
    """Put together what commands with --shard 1/N ... N/N have made: `medsae merge` and the words of the step."""

    words: tyro.conf.Positional[tuple[str, ...]]
    """The step and its options, without --shard."""
