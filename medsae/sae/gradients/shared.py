"""One search for several SAEs: members of a sweep start alike, and where their lambdas are small they stay so for long.

If every encoder row v_j lies within r_j of a reference w_j, then <x, v_j> <= <x, w_j> + |x| r_j. So one screening
product with r as slack, the largest bias and the lowest floor finds the candidates of all, and each takes its own cells
from them, with the bits that it would have found alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medsae.sae.gradients.screen import Question, Screen, distance
from medsae.sae.gradients.sparse import Sparse

CROWDED = 0.02
"""Share of cells above which a common list costs each member more than a product of its own."""
SAMPLE = 32
"""One image in this many is looked at to guess the length of the common list."""


@dataclass
class SharedSearch:
    """Asks for several members at once as long as that pays; else not again for a while, each time twice as long."""

    screen: Screen
    patience: int = 16
    """Steps for which it is left alone after a first failure."""
    wait: int = 0

    def near(self, x_nd: Tensor, questions: list[Question]) -> Sparse | None:
        """Candidates of all questions; None where the members should search alone."""
        if self.wait:
            self.wait -= 1
            return None
        w_md = questions[len(questions) // 2].w_md
        slack_m = torch.stack([distance(q.w_md, w_md) for q in questions]).amax(0)
        level_m = torch.stack([q.bias_m - q.floor_m for q in questions]).amax(0)
        size_m = torch.stack([q.bias_m.abs() + q.floor_m.abs() for q in questions]).amax(0)
        sample = self.screen.near(x_nd[: -(-len(x_nd) // SAMPLE)], w_md, level_m, size_m, slack_m)
        if len(sample.image) > CROWDED * sample.n * sample.m:
            self.wait, self.patience = self.patience, 2 * self.patience
            return None
        return self.screen.near(x_nd, w_md, level_m, size_m, slack_m)
