"""A sweep over tokens: every member gets what it gets alone."""

import numpy as np
import torch

from medsae import config
from medsae.progress import Silent
from medsae.sae.stream import TokenRows
from medsae.sae.sweep import sweep
from medsae.sae.training import train

PICTURES, T, D = 40, 6, 8


def rows() -> TokenRows:
    x_ntd = np.random.default_rng(0).normal(0.5, 1, (PICTURES, T, D)).astype(np.float16)
    return TokenRows(lambda images: x_ntd[images].astype(np.float32), np.arange(PICTURES), T, D)


def test_a_sweep_over_tokens_gives_each_member_what_it_gets_alone(tmp_path):
    options = [
        config.Train(embeddings="e", kind="topk", k=k, seed=seed, expansion=2, epochs=2, batch=32, token_memory_mib=1)
        for k, seed in ((2, 0), (4, 0), (4, 1))
    ]
    options = [option.resolved(PICTURES * T) for option in options]
    folders = [tmp_path / str(i) for i in range(3)]
    together = sweep(rows(), None, options, checkpoint_dirs=folders, progress=Silent())
    for folder, option, found in zip(folders, options, together, strict=True):
        alone = train(rows(), None, option, checkpoint_dir=folder / "alone", progress=Silent())
        assert all(torch.equal(v, found.sae.weights[k]) for k, v in alone.sae.weights.items())
        assert found.history == alone.history
