"""pairs: simulated patients with and without one factor."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

from medsae.config.base import Command, check, runtime
from medsae.progress import UserError


@dataclass(frozen=True, kw_only=True)
class Pairs(Command):
    """Draw patients of a simulated cohort with and without one planted factor: what does each neuron make of it?"""

    sae: str | None = None
    """Id of the SAE; its raw embedding, random directions and its untrained control are measured beside it."""
    embeddings: str | None = None
    """Id of the embeddings (without --sae: only raw and random directions)."""
    untrained: str | None = None
    """Id of the untrained control of --sae (default: the newest that there is)."""
    patients: int = 40
    """Patients of the evaluation split that are drawn."""
    severities: str = "0.2,0.5,0.8"
    """Severities of findings, rising, each from 0 to 1; devices, markers and the like have none."""
    seed: int = 0
    """Seed of the choice of patients, of their halves and of the bootstrap."""
    workers: int | None = runtime(None)
    """Processes that draw (default: one a core)."""
    device: Literal["auto", "cuda", "mps", "cpu"] = runtime("auto")
    """Where to embed."""

    step = "pairs"
    makes = "pairs"

    def __post_init__(self) -> None:
        check((self.sae is None) != (self.embeddings is None), "give either --sae or --embeddings")
        check(self.untrained is None or self.sae is not None, "--untrained goes with --sae")
        check(self.patients >= 8, f"--patients {self.patients} must be at least 8: half choose, half judge")
        check(self.workers is None or self.workers >= 1, f"--workers {self.workers} must be at least 1")
        check(len(self.levels) > 0, f"--severities {self.severities} names no severity")

    @property
    def levels(self) -> list[float]:
        """The severities as numbers; UserError unless they rise from 0 to 1."""
        try:
            found = [float(word) for word in self.severities.split(",") if word.strip()]
        except ValueError as error:
            raise UserError(f"--severities {self.severities}: {error}", None, "as in 0.2,0.5,0.8") from error
        rising = all(0 <= v <= 1 for v in found) and all(a < b for a, b in itertools.pairwise(found))
        check(rising, f"--severities {self.severities} must rise, from 0 to 1", do="as in 0.2,0.5,0.8")
        return found
