"""Sweeps: cut into groups that fit, every member as if alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medsae import config
from medsae.progress import Silent, UserError
from medsae.sae import sweep as sweeping
from medsae.sae import training
from medsae.sae.gradients import shared
from medsae.sae.sweep import bytes_needed, plan, sweep
from medsae.sae.training import Trainer, near_all, train


def option(**fields) -> config.Train:
    plain = dict(embeddings="e", expansion=2, epochs=2, batch=32, lr=1e-2) | fields
    return config.Train(**plain).resolved(96)


def embeddings(n: int = 96, d: int = 8) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, d)).astype(np.float32)


def test_configs_that_see_the_same_batches_go_together():
    options = [option(l1=0.1), option(k=2, seed=1), option(k=3), option(l1=0.2, batch=16), option(k=2, seed=1, lr=1.0)]
    assert [group.places for group in plan(options, (96, 8), 10**9)] == [(0, 2), (1, 4), (3,)]


def test_a_sweep_larger_than_memory_is_cut():
    options = [option(l1=0.1 * i) for i in range(5)]
    two = int(bytes_needed(options[:2], 96, 8) / sweeping.SHARE_OF_MEMORY) + 2
    groups = plan(options, (96, 8), two)
    assert [group.places for group in groups] == [(0, 1), (2, 3), (4,)]
    assert "more do not fit" in groups[0].why
    with pytest.raises(UserError, match="needs about"):
        plan(options, (96, 8), bytes_needed(options[:1], 96, 8))


def test_a_cut_sweep_equals_training_alone(tmp_path, monkeypatch):
    options = [option(l1=0.1), option(k=2), option(l1=3.0), option(k=2, seed=5)]
    free = int(bytes_needed(options[:2], 96, 8) / sweeping.SHARE_OF_MEMORY) + 2
    monkeypatch.setattr(sweeping, "free_bytes", lambda device: free)
    said = []

    class Listening(Silent):
        def say(self, message: str) -> None:
            said.append(message)

    folders = [tmp_path / str(i) for i in range(4)]
    results = sweep(embeddings(), None, options, checkpoint_dirs=folders, progress=Listening())
    assert sum("group" in message for message in said) == 3
    for i, one in enumerate(options):
        alone = train(embeddings(), None, one, checkpoint_dir=tmp_path / f"alone{i}", progress=Silent())
        assert all(torch.equal(v, results[i].sae.weights[k]) for k, v in alone.sae.weights.items())
        assert results[i].sae.kind == one.sae


def test_members_that_are_alike_are_searched_together(tmp_path, monkeypatch):
    """A sweep whose members are sparse and close: the shared search is really used, and changes no bit."""
    options = [option(l1=l1, lr=1e-3, epochs=3) for l1 in (0.1, 0.11, 0.12)]
    start, lists = Trainer.__init__, []

    def sparse(self, *rest):
        start(self, *rest)
        self.weights["b_enc"].fill_(-2.0)
        self.share = 0.0

    def counted(trainers, x_nd):
        lists.append(near_all(trainers, x_nd))
        return lists[-1]

    monkeypatch.setattr(Trainer, "__init__", sparse)
    monkeypatch.setattr(training, "near_all", counted)
    monkeypatch.setattr(training, "SPARSE_BELOW", 0.5)
    monkeypatch.setattr(shared, "CROWDED", 0.5)
    folders = [tmp_path / str(i) for i in range(3)]
    together = sweep(embeddings(), None, options, checkpoint_dirs=folders, progress=Silent())
    assert len(lists) == 9
    assert all(near is not None for near in lists)
    for i, one in enumerate(options):
        alone = train(embeddings(), None, one, checkpoint_dir=tmp_path / f"alone{i}", progress=Silent())
        assert all(torch.equal(v, together[i].sae.weights[k]) for k, v in alone.sae.weights.items())
        assert alone.history == together[i].history


def test_a_bad_member_stops_a_sweep_before_it_begins(tmp_path):
    with pytest.raises(UserError, match="--k 17 does not fit"):
        sweep(embeddings(), None, [option(l1=0.1), option(k=17)], checkpoint_dirs=[tmp_path / "a", tmp_path / "b"],
              progress=Silent())  # fmt: skip
    assert not (tmp_path / "a").exists()
