"""What a neuron does to a read-out: algebra against a whole recomputation with the neuron edited."""

import numpy as np
import pytest
import torch

from medsae import config
from medsae.effects import algebra, falls, probe
from medsae.sae.model import Sae
from medsae.sae.normalise import Normalisation


def sae_of(rng, d=6, m=10):
    weights = {
        "W_enc": rng.normal(size=(m, d)),
        "b_enc": rng.normal(size=m),
        "W_dec": rng.normal(size=(m, d)),
        "b_pre": rng.normal(size=d),
    }
    tensors = {k: torch.tensor(v, dtype=torch.float32) for k, v in weights.items()}
    return Sae(config.Relu(l1=1e-3), tensors, Normalisation(rng.normal(size=d).astype(np.float32), 1.7))


def rebuilt_of(sae):
    zero = sae.decode(np.zeros((1, sae.m), np.float32))[0]
    return algebra.Rebuilt(sae.weights["W_dec"].numpy() / sae.normalisation.scale, zero)


def area(score, y):
    pairs = score[y > 0][:, None] - score[y == 0][None]
    return ((pairs > 0) + 0.5 * (pairs == 0)).mean()


def test_a_score_is_a_sum_that_adds_up_and_setting_a_neuron_is_algebra():
    rng = np.random.default_rng(0)
    sae = sae_of(rng)
    x, readout = (
        rng.normal(size=(40, 6)).astype(np.float32),
        algebra.Readout(rng.normal(size=(3, 6)), rng.normal(size=3)),
    )
    z, rebuilt = sae.encode(x), rebuilt_of(sae)
    error = x - sae.decode(z)
    effect, constant, score = readout.effects(rebuilt), readout.constants(rebuilt), readout.scores(x)
    assert constant + z @ effect + error @ readout.weight_rd.T == pytest.approx(score, abs=1e-4)
    edited = z.copy()
    edited[:, 4] = 0
    edited[:, 7] = 2.5
    whole = readout.scores(sae.decode(edited) + error)
    assert score + (edited - z) @ effect == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_falls_are_those_of_a_recomputation(seed):
    rng = np.random.default_rng(seed)
    n = 80
    score, y, use = np.round(rng.normal(size=n), 1), (rng.random(n) < 0.4).astype(float), rng.random(n) < 0.9
    z = np.round(np.maximum(rng.normal(size=n) - 0.7, 0), 1)
    image = np.flatnonzero(z)
    ranked = falls.Ranked.of(score, y, use)
    assert ranked.area() == pytest.approx(area(score[use], y[use]))
    for effect in (-0.8, 0.5):
        after = score - effect * z
        wanted = area(score[use], y[use]) - area(after[use], y[use])
        assert ranked.fall(image, -effect * z[image]) == pytest.approx(wanted, abs=1e-12)
        alone = (effect * z)[use]
        assert ranked.alone(image, effect * z[image]) == pytest.approx(area(alone, y[use]), abs=1e-12)
        at_most = score + effect * (z.max() - z)
        assert area(at_most.round(9)[use], y[use]) == pytest.approx(area(after.round(9)[use], y[use])), "one number"
    assert ranked.fall(image[:0], image[:0].astype(float)) == 0
    assert np.isnan(falls.Ranked.of(score, np.zeros(n), use).fall(image, z[image]))


def test_the_probe_is_the_least_loss_and_tells_what_it_was_shown():
    rng = np.random.default_rng(1)
    n = 3000
    x = rng.normal(size=(n, 4)) * [1, 2, 3, 1] + [0, 5, 0, 0]
    x[:, 3] = 4.0  # a coordinate that never varies
    truth = np.array([1.0, -0.6, 0.2, 0.0])
    y = (rng.random(n) < 1 / (1 + np.exp(-(x @ truth + 2.5)))).astype(float)
    found = probe.fit(x, y, np.arange(n))
    assert isinstance(found, probe.Probe)
    assert found.weight_d[:3] == pytest.approx(truth[:3], abs=0.12) and found.weight_d[3] == 0
    assert found.bias == pytest.approx(2.5, abs=0.4) and found.positives == y.sum()
    error = np.sqrt(np.diag(found.covariance_dd))[:3]
    assert error == pytest.approx([0.05, 0.03, 0.016], rel=0.4)
    weight, bias = probe.logistic(x[:, :3], y > 0, 0.0)
    p = 1 / (1 + np.exp(-(x[:, :3] @ weight + bias)))
    assert x[:, :3].T @ (p - y) / n == pytest.approx(np.zeros(3), abs=2e-3), "the gradient is zero at the least loss"


def test_a_probe_of_few_images_is_a_reason():
    y = np.zeros(100)
    y[:7] = 1
    assert probe.fit(np.random.default_rng(0).normal(size=(100, 3)), y, np.arange(100)) == (
        "7 present, 93 absent among the training images; 20 of each are needed"
    )


def test_the_spread_of_an_effect_is_that_of_probes_fitted_again():
    rng = np.random.default_rng(3)
    row = rng.normal(size=(2, 3))
    effects, errors = [], []
    for _ in range(40):
        patient = np.repeat(np.arange(300), 2)
        x = np.repeat(rng.normal(size=(300, 3)), 2, axis=0)
        y = np.repeat(rng.random(300) < 1 / (1 + np.exp(-x[::2, 0])), 2).astype(float)
        found = probe.fit(x, y, patient)
        assert isinstance(found, probe.Probe)
        readout = algebra.Readout(found.weight_d[None], np.zeros(1))
        rebuilt = algebra.Rebuilt(row, np.zeros(3))
        effects.append(readout.effects(rebuilt)[:, 0])
        errors.append(readout.spread(rebuilt, [found.covariance_dd])[:, 0])
    assert np.mean(errors, 0) == pytest.approx(np.std(effects, 0), rel=0.35)
    assert np.isnan(readout.spread(rebuilt, [None])).all()


def test_the_difference_of_two_areas_and_its_interval():
    rng = np.random.default_rng(4)
    hits, y, before, after = 0, np.zeros(0), np.zeros(0), np.zeros(0)
    a = b = change = 0.0
    for _ in range(200):
        y = (rng.random(240) < 0.4).astype(float)
        patient = np.arange(240) // 2
        shared = np.repeat(rng.normal(size=120), 2)
        before, after = y + shared + rng.normal(size=240), y + shared + rng.normal(size=240)
        a, b, change, low, high = falls.difference(before, after, y, patient)
        hits += low <= 0 <= high
    assert 0.89 <= hits / 200 <= 0.99
    assert a == pytest.approx(area(before, y)) and b == pytest.approx(area(after, y)) and change == pytest.approx(b - a)
    assert np.isnan(falls.difference(before, after, np.zeros(240), patient)[0])


def test_like_density():
    fall = np.arange(50.0)[:, None]
    active = np.arange(50)
    active[0] = 0
    middle, most = falls.of_like_density(fall, active)
    assert np.isnan(middle[0, 0]) and most[25, 0] == 35 and middle[25, 0] == pytest.approx(25, abs=1)
    assert most[49, 0] == 48, "never against itself"


def test_areas_of_columns_are_those_of_each():
    from medsae.effects.falls import areas
    from medsae.scoring.auroc import auroc

    rng = np.random.default_rng(5)
    score, y = np.round(rng.normal(size=(60, 4)), 1), (rng.random(60) < 0.3).astype(float)
    assert areas(score, y) == pytest.approx([auroc(column, y) for column in score.T])
    assert areas(np.array([[1.0], [2], [2], [3]]), np.array([0.0, 1, 0, 1])) == pytest.approx([3.5 / 4])
    assert np.isnan(areas(score, np.zeros(60))).all()
