"""Training on a CUDA device does what the CPU does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medsae import config
from medsae.progress import Silent
from medsae.sae.training import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="NO CUDA DEVICE: training on a GPU is NOT tested here; run `pytest tests/gpu` on a machine that has one",
    ),
]
OPTIONS = {
    "relu": dict(l1=0.5), "topk": dict(k=3), "batchtopk": dict(k=3), "jumprelu": dict(l0=0.5), "gated": dict(l1=0.5),
    "matryoshka": dict(k=3),
}  # fmt: skip


def embeddings() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(512, 16)) @ rng.normal(size=(16, 16)) + 3).astype(np.float32)


@pytest.mark.parametrize("kind", OPTIONS)
def test_one_step_on_the_gpu_is_one_step_on_the_cpu(kind, tmp_path):
    """One batch of all images, in any order: the same gradients within rounding, so the same step of Adam."""
    options = config.Train(embeddings="e", kind=kind, expansion=4, epochs=1, batch=512, lr=1e-3, **OPTIONS[kind])
    cpu, gpu = (
        train(embeddings(), None, options.resolved(512), checkpoint_dir=tmp_path / name, progress=Silent(), device=name)
        for name in ("cpu", "cuda")
    )
    for name, value in cpu.sae.weights.items():
        assert torch.allclose(value.float(), gpu.sae.weights[name].float(), atol=2e-3), name
    assert gpu.history[-1].fve == pytest.approx(cpu.history[-1].fve, abs=1e-2)
