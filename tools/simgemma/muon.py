"""Muon: momentum made orthogonal, for the matrices of transformer layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


class Muon(torch.optim.Optimizer):
    """Momentum whose singular values are brought to about 1 by five Newton-Schulz steps (Jordan et al. 2024, "Muon: an
    optimizer for hidden layers in neural networks"); every parameter is a matrix. Processes that train together share
    the work: each makes a part of the steps."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.02, momentum: float = 0.95):
        super().__init__(list(params), {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for p, step in zip(parameters, self._steps(parameters, group["momentum"]), strict=True):
                scale = max(1.0, p.size(0) / p.size(1)) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(step, alpha=-group["lr"] * scale)

    def _steps(self, parameters: list[nn.Parameter], momentum: float) -> list[torch.Tensor]:
        alone = not dist.is_initialized()
        rank, workers = (0, 1) if alone else (dist.get_rank(), dist.get_world_size())
        steps: list[torch.Tensor] = []
        for i, p in enumerate(parameters):
            assert p.grad is not None
            state = self.state[p]
            if "mean" not in state:
                state["mean"] = torch.zeros_like(p)
            state["mean"].lerp_(p.grad, 1 - momentum)
            mine = i % workers == rank
            steps.append(orthogonal(p.grad.lerp(state["mean"], momentum)) if mine else torch.zeros_like(p))
        if not alone:
            flat = torch.cat([step.flatten() for step in steps])
            dist.all_reduce(flat)
            parts = flat.split([p.numel() for p in parameters])
            steps = [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]
        return steps


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """About U V^T of the singular value decomposition U S V^T."""
    tall = matrix.size(0) > matrix.size(1)
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        b = x @ x.T
        x = 3.4445 * x + (-4.775 * b + 2.0315 * b @ b) @ x
    return x.T if tall else x
