"""What both trainings share: two optimisers, one schedule by steps, checkpoints that a stopped training goes on from,
and processes of one thread each that average their gradients (a core that others use too delays a step once, not at
every operation)."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from tools.simgemma.muon import Muon


class Optimisers:
    """Muon for the matrices of layers, AdamW for the rest; the rate rises for 5 % of the steps, then falls."""

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], steps: int, rate: float, muon: float, decay: float):
        named = list(named)
        matrices = [p for name, p in named if ".layers." in f".{name}" and p.ndim == 2]
        of_layers = {id(p) for p in matrices}
        self.parameters = [p for _, p in named]
        rest = [p for p in self.parameters if id(p) not in of_layers]
        self.all = (Muon(matrices, muon), torch.optim.AdamW(rest, rate, weight_decay=decay, betas=(0.9, 0.98)))
        self.rates, self.steps = (muon, rate), steps

    def descend(self, loss: torch.Tensor, step: int) -> None:
        """One step down the gradient of `loss`, averaged over the processes."""
        share = step / self.steps
        factor = share / 0.05 if share < 0.05 else 0.5 * (1 + math.cos(math.pi * (share - 0.05) / 0.95)) + 0.003
        for optimiser, rate in zip(self.all, self.rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        average([p.grad for p in self.parameters if p.grad is not None])
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimiser in self.all:
            optimiser.step()


def average(gradients: list[torch.Tensor]) -> None:
    """Mean of each gradient over the processes, in place; alone: nothing to do."""
    if not dist.is_initialized():
        return
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def together(work: Callable[..., None], workers: int, *arguments: Any) -> None:
    """Runs work(rank, workers, *arguments) in `workers` processes that can average; one runs here."""
    if workers == 1:
        work(0, 1, *arguments)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_joined, (port, workers, work, arguments), workers)  # pyright: ignore


def _joined(rank: int, port: int, workers: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)
    try:
        work(rank, workers, *arguments)
    finally:
        dist.destroy_process_group()


def keep(path: Path, parts: dict[str, nn.Module], optimisers: Optimisers, step: int) -> None:
    """Writes a checkpoint in place of the one before: all that is trained, also what only the training needs."""
    states = {name: part.state_dict() for name, part in parts.items()}
    state = {**states, "optimisers": [o.state_dict() for o in optimisers.all], "step": step}
    written = path.with_suffix(".part")
    torch.save(state, written)
    written.rename(path)


def go_on(path: Path, parts: dict[str, nn.Module], optimisers: Optimisers) -> int:
    """Takes up a checkpoint, where there is one; returns the steps that are done."""
    if not path.exists():
        return 0
    state: dict[str, Any] = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    for optimiser, saved in zip(optimisers.all, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return int(state["step"])
