"""Training: exact resume after a kill, history, bad input, the checkpoint of an SAE."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from medsae import config
from medsae.progress import Silent, UserError
from medsae.sae import checkpoint
from medsae.sae.model import Sae
from medsae.sae.normalise import Normalisation
from medsae.sae.stream import batch_of
from medsae.sae.training import Trainer, Workspace, train, train_together

ROOT = Path(__file__).parents[2]
KINDS = ["relu", "topk", "batchtopk", "jumprelu", "gated", "matryoshka"]


def embeddings(n: int = 600, d: int = 16) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 3).astype(np.float32)


def options(**fields) -> config.Train:
    own = {"relu": {"l1": 0.5}, "topk": {"k": 3}, "batchtopk": {"k": 3}, "matryoshka": {"k": 3}, "gated": {"l1": 0.5},
           "jumprelu": {"l0": 0.5}}[fields.setdefault("kind", "relu")]  # fmt: skip
    plain = dict(embeddings="e", expansion=4, epochs=3, batch=64, lr=1e-2) | own | fields
    return config.Train(**plain).resolved(600)


def same_weights(a: Sae, b: Sae) -> bool:
    return a.weights.keys() == b.weights.keys() and all(torch.equal(a.weights[k], b.weights[k]) for k in a.weights)


def test_normalisation_as_the_paper_has_it():
    x_nd = np.array([[0.0, 0.0], [6.0, 8.0]], np.float32)  # mean (3, 4), both rows 5 away
    found = Normalisation.fit(x_nd)
    assert found.mean_d.tolist() == [3, 4]
    assert found.scale == pytest.approx(np.sqrt(2) / 5)
    many = Normalisation.fit(embeddings()).apply(embeddings())
    assert np.linalg.norm(many, axis=1).mean() == pytest.approx(4.0, rel=1e-5)
    assert np.abs(many.mean(0)).max() < 1e-4
    assert np.allclose(found.undo(found.apply(x_nd)), x_nd)


@pytest.mark.parametrize("kind", KINDS)
def test_train_learns_and_reports(kind, tmp_path):
    x_nd = embeddings()
    result = train(x_nd[:500], x_nd[500:], options(kind=kind, epochs=6), checkpoint_dir=tmp_path, progress=Silent())
    assert [row.epoch for row in result.history] == [1, 2, 3, 4, 5, 6]
    assert result.history[-1].step == 6 * 8
    assert result.history[-1].mse < result.history[0].mse
    assert result.history_on == "held-out images"
    z_nm, last = result.sae.encode(x_nd[500:]), result.history[-1]
    x = result.sae.normalisation.apply(x_nd[500:])
    back = result.sae.normalisation.apply(result.sae.decode(z_nm))
    assert last.mse == pytest.approx(((x - back) ** 2).sum(1).mean(), rel=1e-4)
    assert last.active_share == pytest.approx((z_nm > 0).mean())
    assert last.l1 == pytest.approx(z_nm.sum(1).mean(), rel=1e-5)
    assert last.fve == pytest.approx(1 - ((x - back) ** 2).sum() / ((x - x.mean(0)) ** 2).sum(), rel=1e-4)
    assert z_nm.min() >= 0
    assert np.array_equal(result.dead_m, ~(result.sae.encode(x_nd[:500]) > 0).any(0))
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [dataclasses.asdict(row) for row in result.history]
    assert np.allclose(result.sae.weights["W_dec"].norm(dim=1), 1, atol=1e-5)


def test_topk_keeps_k_and_pre_activations_agree(tmp_path):
    x_nd = embeddings()
    sae = train(x_nd, None, options(kind="topk"), checkpoint_dir=tmp_path, progress=Silent()).sae
    z_nm, pre_nm = sae.encode(x_nd), sae.pre_activations(x_nd)
    assert (z_nm > 0).sum(1).max() == 3
    assert np.allclose(z_nm[z_nm > 0], pre_nm[z_nm > 0])
    assert np.array_equal(np.argmax(z_nm, 1), np.argmax(pre_nm, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_checkpoint_of_an_sae_is_symmetric(kind, tmp_path):
    x_nd = embeddings()
    sae = train(x_nd, None, options(kind=kind, epochs=1), checkpoint_dir=tmp_path, progress=Silent()).sae
    sae.save(tmp_path / "sae.safetensors")
    again = Sae.load(tmp_path / "sae.safetensors")
    assert again.kind == sae.kind
    assert same_weights(again, sae)
    assert np.array_equal(again.encode(x_nd), sae.encode(x_nd))
    with pytest.raises(UserError, match="16 dimensions"):
        sae.encode(x_nd[:, :5])


def test_foreign_and_broken_checkpoints(tmp_path):
    x_nd = embeddings()
    sae = train(x_nd, None, options(epochs=1), checkpoint_dir=tmp_path, progress=Silent()).sae
    path = tmp_path / "sae.safetensors"
    with pytest.raises(UserError, match="cannot be read"):
        Sae.load(path)
    path.write_bytes(b"not tensors")
    with pytest.raises(UserError, match="cannot be read"):
        Sae.load(path)
    save_file({"conv1.weight": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="not an SAE"):
        Sae.load(path)
    del sae.weights["b_enc"]
    sae.save(path)
    with pytest.raises(UserError, match="b_enc: missing"):
        Sae.load(path)


@pytest.mark.parametrize("kind", ["relu", "topk"])
def test_stop_and_go_on_gives_the_same_bits(kind, tmp_path):
    """Stopped in the middle of an epoch, where steps went through the list of cells."""
    x_nd, plain = embeddings(), options(kind=kind, l1=8.0) if kind == "relu" else options(kind=kind)
    whole = train(x_nd, None, plain, checkpoint_dir=tmp_path / "a", progress=Silent())
    calls = 0

    class Stop(Silent):
        def task(self, what, total=None, unit=""):
            outer = super().task(what, total, unit)

            class Context:
                def __enter__(self):
                    outer.__enter__()
                    return self

                def __exit__(self, *exc):
                    return outer.__exit__(*exc)

                def advance(self, n=1, **facts):
                    nonlocal calls
                    calls += n
                    if calls == 17:
                        raise KeyboardInterrupt

            return Context()

    with pytest.raises(KeyboardInterrupt):
        train(x_nd, None, plain, checkpoint_dir=tmp_path / "b", progress=Stop(), checkpoint_seconds=0)
    assert checkpoint.load(tmp_path / "b")[1]["steps"] >= 15
    again = train(x_nd, None, plain, checkpoint_dir=tmp_path / "b", progress=Silent())
    assert same_weights(again.sae, whole.sae)
    assert again.history == whole.history


KILLED = """
import sys, pathlib, numpy as np, torch
sys.path.insert(0, sys.argv[1])
from tests.unit.test_sae_training import embeddings, options
from medsae.progress import Silent
from medsae.sae.training import train
torch.set_num_threads(1)
train(embeddings(), None, options(kind="topk", epochs=40), checkpoint_dir=pathlib.Path(sys.argv[2]),
      progress=Silent(), checkpoint_seconds=float(sys.argv[3])).sae.save(pathlib.Path(sys.argv[2]) / "sae.safetensors")
"""


@pytest.mark.long
def test_sigkill_then_the_same_command_gives_the_same_weights(tmp_path):
    def start(folder: Path, checkpoint_seconds: float = 60) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", KILLED, str(ROOT), str(folder), str(checkpoint_seconds)], cwd=ROOT
        )

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    child = start(killed, checkpoint_seconds=0)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and child.poll() is None:
        # The file is replaced while it is looked at from here: a look between its size and its content fails.
        found = None
        with contextlib.suppress(RuntimeError):
            found = checkpoint.load(killed)
        if found and found[1]["steps"] >= 25:
            break
        time.sleep(0.01)
    assert child.poll() is None, "ended before it was killed: train longer"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (killed / "sae.safetensors").exists()
    for folder in (killed, whole):
        assert start(folder).wait() == 0
    a, b = (load_file(folder / "sae.safetensors") for folder in (killed, whole))
    assert all(torch.equal(a[name], b[name]) for name in b)
    assert (killed / "history.jsonl").read_bytes() == (whole / "history.jsonl").read_bytes()


@pytest.mark.parametrize(("n", "batches"), [(600, 10), (10_000, 40), (65, 2), (64, 1)])
def test_batches_of_an_epoch_are_equal_and_leave_nothing_out(n, batches):
    parts = [batch_of(torch.arange(n), i, batches) for i in range(batches)]
    assert torch.equal(torch.cat(parts), torch.arange(n))
    assert {len(part) for part in parts} <= {n // batches, -(-n // batches)}


def test_a_checkpoint_of_another_training_is_not_used(tmp_path):
    x_nd = embeddings()
    train(x_nd, None, options(lr=1e-3), checkpoint_dir=tmp_path, progress=Silent())
    second = train(x_nd, None, options(), checkpoint_dir=tmp_path, progress=Silent())
    fresh = train(x_nd, None, options(), checkpoint_dir=tmp_path / "fresh", progress=Silent())
    assert same_weights(second.sae, fresh.sae)


def test_matrix_and_list_train_alike():
    """The same batches by both paths end within rounding of each other."""
    x_nd = torch.from_numpy(Normalisation.fit(embeddings()).apply(embeddings()))
    plain, ends = options(l1=8.0), []
    for share in (0.0, 1.0):
        trainer = Trainer(plain, 600, Workspace(64, 16, 64, torch.device("cpu")), 16)
        trainer.weights["b_enc"].fill_(-3.0)
        for first in range(0, 512, 64):
            trainer.share = share
            trainer.step(x_nd[first : first + 64])
        ends.append(trainer.weights)
    for name, value in ends[0].items():
        assert torch.allclose(value, ends[1][name], atol=2e-5), name


def test_trained_together_is_trained_alone(tmp_path):
    x_nd = embeddings()
    many = [options(l1=0.5), options(l1=8.0), options(kind="topk", lr=1e-3), options(expansion=2)]
    folders = [tmp_path / str(i) for i in range(len(many))]
    together = train_together(x_nd, None, many, checkpoint_dirs=folders, progress=Silent())
    for i, option in enumerate(many):
        alone = train(x_nd, None, option, checkpoint_dir=tmp_path / "alone" / str(i), progress=Silent())
        assert same_weights(alone.sae, together[i].sae)
        assert alone.history == together[i].history


def test_a_loss_that_is_no_number_stops_with_the_step(tmp_path):
    """Embeddings of finite numbers whose squares overflow fp32 once the weights have grown."""
    x_nd = embeddings()
    with pytest.raises(UserError, match=r"no longer a number at step \d+ .*'lr': 1e\+30"):
        train(x_nd, None, options(lr=1e30, decoder_norm="weighted"), checkpoint_dir=tmp_path, progress=Silent())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(kind="topk", k=65), "--k 65 does not fit m = 64"),
        (dict(batch=601), "600 training images are fewer than one batch of 601"),
        (dict(l1=-1.0), "--l1 -1.0 must not be negative"),
        (dict(expansion=0), "--expansion 0 must be at least 1"),
    ],
)
def test_bad_options_are_refused_before_training(fields, message, tmp_path):
    with pytest.raises(UserError, match=message):
        train(embeddings(), None, options(**fields), checkpoint_dir=tmp_path / "new", progress=Silent())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x.__setitem__((7, 3), np.nan), "1 embeddings hold NaN"),
        (lambda x: x.__setitem__(slice(None), 0.1), "without variance"),
    ],
)
def test_bad_embeddings_are_refused_before_training(spoil, message, tmp_path):
    x_nd = embeddings()
    spoil(x_nd)
    with pytest.raises(UserError, match=message):
        train(x_nd, None, options(), checkpoint_dir=tmp_path / "new", progress=Silent())
    assert not (tmp_path / "new").exists()
