"""Pictures as the language part gets them: image tokens, what is true, and what the tower believes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tools.simgemma import words
from tools.simgemma.pictures import Pictures
from tools.simgemma.tower import Tower

EVEN = 0.45
"""Share of pictures with the fact among those that a judge of a name is shown, about."""
VISIBLE = 0.72
"""A fact that the tower tells with a smaller AUROC is never given as a name."""
FEWEST = 30
"""Pictures that have a fact, for it to be spoken of."""


@dataclass(frozen=True)
class World:
    """n pictures and k facts."""

    z: torch.Tensor
    """Image tokens, float32 [n, tokens, width]."""
    facts: list[str]
    f: np.ndarray
    """bool [n, k]: true."""
    belief: np.ndarray
    """float32 [n, k]: how likely the tower holds it, were the fact true of `EVEN` of the pictures."""
    planted: int
    """The first so many facts are planted factors: only of these (and opposites) a belief is the tower's."""
    spoken: np.ndarray
    """Facts that a judge is asked about."""
    named: np.ndarray
    """bool [k]: facts that are given as names."""

    @property
    def mean(self) -> np.ndarray:
        """[n, width]: mean token."""
        return self.z.mean(1).numpy()


def world(tower: Tower, seen: Pictures, areas: dict[str, float], z: torch.Tensor, across: torch.Tensor) -> World:
    """The world of some pictures with the tower's tokens `z`; `areas`: AUROC of each planted factor, which decides what
    is named; `across`: see `build.evidence`."""
    facts, f = words.truths(seen.names, seen.f)
    with torch.inference_mode():
        logits = tower.head(z.mean(1)).numpy()
    belief = _belief(logits, seen.f, tower.settings.positive_weight)
    full = f.astype(np.float32)
    full[:, : len(seen.names)] = belief
    for name, opposite in (("PA view", "AP view"), ("Male", "Female"), ("Young", "Age over 65")):
        full[:, facts.index(name)] = 1 - belief[:, seen.names.index(opposite)]
    visible = {"PA view": "AP view", "Male": "Female", "Young": "Age over 65", "Normal": "AP view"}
    present = f.sum(0)
    many = (present >= min(FEWEST, len(f) // 20)) & (len(f) - present >= min(FEWEST, len(f) // 20))
    named = np.array([areas.get(visible.get(fact, fact), 0) >= VISIBLE for fact in facts]) & many
    if not named.any():  # a tower that sees nothing yet
        named = many
    return World(z @ across, facts, f, full, len(seen.names), np.flatnonzero(many), named)


def _belief(logits: np.ndarray, f: np.ndarray, positive_weight: float) -> np.ndarray:
    """The head's probabilities without the weight of its training, and for `EVEN` in place of the factor's share."""
    share = np.clip(f.mean(0), 1e-3, 1 - 1e-3)
    even = logits - np.log(positive_weight) - np.log(share / (1 - share)) + np.log(EVEN / (1 - EVEN))
    return (1 / (1 + np.exp(-even))).astype(np.float32)


def shared(world: World, rows: np.ndarray, contrast: np.ndarray | None = None) -> int | None:
    """The fact that explains a set best: log-likelihood ratio of "true of 85 %" against its share of all pictures (of
    `contrast`, where such pictures are shown beside); None where none explains it well."""
    share = np.clip(world.f.mean(0), 1e-3, 1 - 1e-3)
    if contrast is not None:
        share = np.maximum(share, (world.f[contrast].sum(0) + 0.5) / (len(contrast) + 1))
    often = np.maximum(0.85, 0.5 + share / 2)
    f = world.f[rows]
    score = (f * np.log(often / share) + (1 - f) * np.log((1 - often) / (1 - share))).sum(0)
    score[~world.named] = -np.inf
    best = int(score.argmax())
    return best if score[best] > 4.0 else None
