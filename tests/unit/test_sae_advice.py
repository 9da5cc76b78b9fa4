"""What train says of a run that went wrong, by hand; what it is silent about; where it stands."""

import json

import numpy as np
import pytest

from medsae import config as c
from medsae.sae.advice import advice

TOPK = c.Train(embeddings="e", expansion=4).resolved(1000)
RELU = c.Train(embeddings="e", preset="paper").resolved(1000)
FLAT = [10.0] * 5 + [5.0] * 20


def problems(losses=FLAT, fve=0.8, dead=0.1, train=TOPK, held_out=True):
    return [one.problem for one in advice(losses, fve, dead, train, held_out)]


def test_a_run_that_went_well_is_told_nothing():
    assert problems() == [] and problems(held_out=False) == [] and problems(losses=[3.0]) == []


def test_a_rising_loss_names_the_epoch_and_the_option():
    losses = [10.0, 6.0, 5.0, *np.linspace(5.0, 5.5, 17)]
    (one,) = advice(losses, 0.8, 0.1, TOPK, True)
    assert one.problem == "overfits" and "after epoch 3 of 20, by 10 %" in one.what
    assert one.do == "stop there (--epochs 3), or fewer neurons (--expansion 2)"
    assert problems(losses=losses, held_out=False) == [], "a loss on training images does not tell"
    assert problems(losses=[10.0, 5.0, *[5.0 * 1.029] * 18]) == [], "within 3 % of its best it has not risen"


@pytest.mark.parametrize(("train", "do"), [
    (TOPK, "--expansion 2"),
    (c.Train(embeddings="e", expansion=1, k=8).resolved(1000), "--k 16"),
    (c.Train(embeddings="e", expansion=1, l1=3e-3).resolved(1000), "--l1 0.001"),
    (c.Train(embeddings="e", expansion=1, kind="relu", l1=0.0, lr=3e-3).resolved(1000), "--lr 0.001"),
], ids=["neurons", "k", "l1", "lr"])  # fmt: skip
def test_dead_neurons_and_what_each_kind_can_do(train, do):
    (one,) = advice(FLAT, 0.8, 0.51, train, True)
    assert one.problem == "dead" and one.what.startswith("51 % of the neurons") and do in one.do
    assert problems(dead=0.3) == []


def test_a_run_that_was_too_short():
    falling = list(np.geomspace(10, 5, 20))
    (one,) = advice(falling, 0.5, 0.0, RELU, True)
    assert one.problem == "too short" and one.do == "train longer (--epochs 40)"
    assert problems(losses=falling[:9]) == [], "fewer than ten epochs show no trend"
    (one,) = advice(falling, -3.2, 0.0, RELU, True)
    assert "worse than the mean image (FVE -3.20)" in one.what and "--epochs 80" in one.do and "--lr 7e-05" in one.do


def test_worst_first_and_losses_that_are_zero():
    assert problems(losses=[5.0, *[9.0] * 19], fve=-1, dead=0.9) == ["too short", "overfits", "dead"]
    assert problems(losses=[0.0] * 20) == []


@pytest.mark.parametrize(("images", "d", "expansion"), [
    (7010, 128, 4), (800, 128, 4), (717, 576, 1), (1200, 512, 2), (50, 512, 1), (0, 512, 1),
])  # fmt: skip
def test_the_default_has_no_more_neurons_than_training_images(images, d, expansion):
    assert c.Train(embeddings="e").resolved(max(1, images), d).expansion == expansion
    assert c.Train(embeddings="e", expansion=8).resolved(max(1, images), d).expansion == 8, "what is asked for is done"
    assert c.Train(embeddings="e", preset="paper").resolved(max(1, images), d).expansion == 16


def test_the_advice_is_in_the_last_lines_and_in_the_artifact(tmp_path, chexpert_root, medsae_at, capsys):
    from medsae.store.artifacts import Store

    medsae = medsae_at(tmp_path / "data")
    cohort = medsae.id("ingest", "chexpert", "--root", chexpert_root, "--evaluation-share", 0.4)
    with Store(medsae.data).get(cohort).connect() as connection:
        paths = connection.execute("SELECT path FROM image ORDER BY image").df()
    x = np.random.default_rng(0).normal(size=(len(paths), 12)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    paths.rename(columns={"path": "Path"}).to_csv(tmp_path / "rows.csv", index=False)
    embeddings = medsae.id("embed", "--cohort", cohort, "--from", tmp_path / "x.npy", "--rows", tmp_path / "rows.csv")
    capsys.readouterr()
    sae = medsae.id("train", "--embeddings", embeddings, "--expansion", 16, "--k", 1, "--epochs", 12, "--lr", 0.02)
    told = Store(medsae.data).get(sae).facts["advice"]
    assert "dead" in [one["problem"] for one in told], told
    said = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert any(told[-1]["do"] in line and "warning" in line for line in said[-3:]) or not said, said[-5:]
    assert json.dumps(told)


def test_a_rate_that_is_far_too_large_is_told_to_be_smaller():
    (one,) = advice([5.0] * 20, -2.5e20, 0.1, c.Train(embeddings="e", expansion=4, lr=1e6).resolved(1000), True)
    assert one.problem == "diverged" and one.do == "give a smaller learning rate (--lr 100000)"
    assert problems(fve=-0.9) == ["too short"]
