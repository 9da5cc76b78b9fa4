"""Which library multiplies: measured once, kept in the checkpoint, the artifact and a file."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from medsae import config
from medsae.progress import Silent
from medsae.sae import checkpoint, training
from medsae.sae.gradients import Products, products, restored, times_transposed, using
from medsae.sae.gradients.dense import Dense

pytestmark = pytest.mark.skipif(not products.ONEDNN, reason="one library only")
TORCH = Products("torch", "torch", "torch")


@pytest.mark.parametrize("which", ["correlate", "decode", "outer"])
def test_each_product_goes_to_its_library(which, monkeypatch):
    asked = []
    monkeypatch.setattr(products, "_by", lambda library, a, b: asked.append(library) or a @ b.T)
    cells, w_md, y_nd = Dense(torch.ones(30, 7)), torch.ones(7, 5), torch.ones(30, 5)
    calls = {"correlate": lambda: cells.correlate(y_nd, w_md), "decode": lambda: cells.decode(cells.values, w_md),
             "outer": lambda: cells.outer(cells.values, y_nd)}  # fmt: skip
    with using(replace(Products("onednn", "onednn", "onednn"), **{which: "torch"})):
        for name, call in calls.items():
            call()
            assert asked.pop() == ("torch" if name == which else "onednn")
    times_transposed(y_nd, w_md)
    assert asked == [products.DEFAULT], "outside of the block the default multiplies"


def test_the_faster_library_is_taken_only_where_it_gains(monkeypatch):
    clock = iter([0, 1, 1, 2] + [0, 10, 10, 19] * 3)  # warm once; then 10 against 9: 1.11 times
    monkeypatch.setattr(products.time, "perf_counter", lambda: next(clock))
    assert products._faster(lambda library: None) == "torch"
    clock = iter([0, 1, 1, 2] + [0, 10, 10, 19.5] * 3)
    assert products._faster(lambda library: None) == "onednn"


def test_the_choice_of_a_shape_is_read_again(tmp_path, monkeypatch):
    file = tmp_path / "cache" / "choices.json"
    monkeypatch.setattr(products, "_measured", lambda *shape: TORCH)
    assert products.choose(512, 512, 8192, file) == TORCH
    monkeypatch.setattr(products, "_measured", lambda *shape: pytest.fail("measured twice"))
    assert products.choose(512, 512, 8192, file) == TORCH
    assert products.choose(8, 8, 8, file) == Products(), "too small to matter"
    known = json.loads(file.read_text())
    file.write_text(json.dumps({key: {"correlate": "cuda"} for key in known}))
    monkeypatch.setattr(products, "_measured", lambda *shape: Products())
    assert products.choose(512, 512, 8192, file) == Products(), "what is no choice is measured again"
    file.write_text("[")
    assert products.choose(512, 512, 8192, file) == Products()


def test_a_checkpoint_decides_who_multiplies():
    assert restored(None) == Products(), "one from before there was a choice"
    assert restored({"correlate": "torch", "decode": "onednn", "outer": "torch"}) == Products(
        "torch", "onednn", "torch"
    )
    assert restored({"correlate": "cublas"}) is None


@pytest.fixture
def asked():
    options = config.Train(embeddings="none", kind="relu", l1=1e-3, expansion=4, epochs=2, batch=32, lr=1e-3)
    return np.random.default_rng(0).normal(size=(96, 16)).astype(np.float32), options.resolved(96)


def _train(asked, folder):
    return training.train(asked[0], None, asked[1], checkpoint_dir=folder, progress=Silent(), checkpoint_seconds=0)


def test_a_resumed_training_multiplies_as_it_began(tmp_path, asked, monkeypatch):
    monkeypatch.setattr(training, "choose", lambda *shape: TORCH)
    whole = _train(asked, tmp_path / "whole")
    assert whole.products == TORCH

    class Killed(Exception):
        pass

    real, steps = training.Trainer.step, iter(range(100))

    def dies(self, x_nd, near=None):
        if next(steps) == 4:
            raise Killed
        return real(self, x_nd, near)

    monkeypatch.setattr(training.Trainer, "step", dies)
    with pytest.raises(Killed):
        _train(asked, tmp_path / "killed")
    saved = checkpoint.load(tmp_path / "killed")
    assert saved is not None and saved[1]["products"] == {
        "correlate": "torch",
        "decode": "torch",
        "outer": "torch",
    }
    monkeypatch.setattr(training.Trainer, "step", real)
    monkeypatch.setattr(training, "choose", lambda *shape: Products())
    resumed = _train(asked, tmp_path / "killed")
    assert resumed.products == TORCH
    for name, tensor in whole.sae.weights.items():
        assert torch.equal(tensor, resumed.sae.weights[name]), name


def test_a_library_that_is_not_here_is_said(tmp_path, asked, monkeypatch):
    _train(asked, tmp_path)
    monkeypatch.setattr(Products, "here", False)
    said = []
    progress = Silent()
    monkeypatch.setattr(progress, "say", said.append, raising=False)
    training.train(asked[0], None, asked[1], checkpoint_dir=tmp_path, progress=progress)
    assert any("last bits will differ" in line for line in said)
