"""A step holds 4 x parameters (weights, gradient, two moments of Adam) and one batch of activations, no more."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from medsae import config
from medsae.sae.gradients import dense, screen
from medsae.sae.training import Trainer, Workspace

N, D, M = 512, 64, 1024
"""A real training (4,096 x 512 x 8,192) divided by 8 each way, its slices too."""
KINDS: dict[str, dict[str, Any]] = {
    "relu": dict(l1=1e-3),
    "topk": dict(k=4),
    "batchtopk": dict(k=4),
    "matryoshka": dict(k=4),
    "gated": dict(l1=1e-3),
    "jumprelu": dict(l0=1.0),
}


def live_bytes(kind: str, share: float, steps: int = 4) -> int:
    """Most bytes that tensors of a trainer held at once, from before it was made."""
    x_nd = torch.randn(steps * N, D, generator=torch.Generator().manual_seed(0))
    options = config.Train(embeddings="e", kind=kind, expansion=M // D, epochs=1, lr=1e-4, batch=N, **KINDS[kind])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        trainer = Trainer(options.resolved(N), N, Workspace(N, D, M, torch.device("cpu")), D)
        if share == 0.0:
            trainer.weights["b_enc"].fill_(-2.9)  # of random unit directions one in 500 lies above it
        for x in x_nd.split(N):
            trainer.share = share
            trainer.step(x)
        del trainer
    assert watched.profiler is not None and watched.profiler.kineto_results is not None
    held = peak = 0
    for event in watched.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["list", "matrix"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_holds_no_more_than_it_must(kind, share, monkeypatch):
    for module in (dense, screen):
        monkeypatch.setattr(module, "CELLS_IN_CACHE", N * M // 8)
    parameters = 4 * (2 * M * D + 2 * M + D)
    assert 4 * parameters < live_bytes(kind, share) <= 4 * parameters + 4 * N * M
