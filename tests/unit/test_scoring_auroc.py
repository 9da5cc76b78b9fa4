"""AUROC from ranks, its interval, the best neuron of a label chosen and judged apart, and truth recovery."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from medsae.scoring import auroc as auroc_module
from medsae.scoring.activity import ArraySource, Held, RandomDirections
from medsae.scoring.auroc import auroc, auroc_all, auroc_interval
from medsae.scoring.best import best_neurons, halves
from medsae.scoring.draws import Patients
from medsae.scoring.recovery import truth_recovery


def held_of(z, sparse):
    held = Held(ArraySource(z, sparse), len(z))
    for _ in held.first_pass():
        pass
    return held


def test_hand_computed():
    z = np.array([0, 0, 1, 2, 2, 3.0])
    y = np.array([0, 1, 0, 1, 0, 1.0])
    # positives 0, 2, 3 against negatives 0, 1, 2: 0.5 + 0 + 0, 1 + 1 + 0.5, 1 + 1 + 1 = 6 of 9
    assert auroc(z, y) == pytest.approx(6 / 9)
    assert auroc(z, y, np.array([1, 0, 1, 1, 1, 1], bool)) == pytest.approx(5.5 / 6)
    assert np.isnan(auroc(z, np.zeros(6)))
    assert auroc(z, np.array([-1, 1, -1, 1, -1, 1.0])) == auroc(z, y), "uncertain kept as -1 is a negative"


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), sparse=st.booleans(), negative=st.booleans(), decimals=st.sampled_from([0, 1, 6]))
def test_every_neuron_and_label_as_in_sklearn(seed, sparse, negative, decimals):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((50, 4))
    z = np.round(np.where(rng.random(z.shape) < 0.5, z if negative else np.abs(z), 0), decimals).astype(np.float32)
    z[:, 3] = 0
    y, mask = (rng.random((50, 3)) < 0.5).astype(np.float32), rng.random((50, 3)) < 0.8
    whole = np.ones_like(mask)
    for found, known in zip(auroc_all(held_of(z, sparse), y, [mask, whole]), (mask, whole), strict=True):
        expected = [[roc_auc_score(y[known[:, j], j], z[known[:, j], i]) for j in range(3)] for i in range(4)]
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_neurons_in_groups_give_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    z, y = rng.standard_normal((40, 9), dtype=np.float32), (rng.random((40, 2)) < 0.5).astype(np.float32)
    mask = np.ones(y.shape, bool)
    expected = auroc_all(held_of(z, False), y, [mask])[0]
    monkeypatch.setattr(auroc_module, "GROUP_BYTES", 4 * 40 * 4)
    monkeypatch.setattr(auroc_module, "CHUNK_BYTES", 4 * 40 * 3)
    np.testing.assert_array_equal(auroc_all(held_of(z, False), y, [mask])[0], expected)


def test_interval_of_many_images_is_delongs():
    rng = np.random.default_rng(0)
    y = np.repeat([1, 0], [400, 600])
    z = rng.standard_normal(1000) * np.where(y > 0, 2, 1) + y  # unequal spreads: Hanley and McNeil's variance is wrong
    found = auroc_interval(z, y, np.arange(1000))
    above = (z[:400, None] > z[400:]).mean(1)
    below = (z[:400, None] > z[400:]).mean(0)
    se = np.sqrt(above.var(ddof=1) / 400 + below.var(ddof=1) / 600)
    assert found.high - found.low == pytest.approx(2 * 1.96 * se, rel=0.04)
    assert found.value == pytest.approx((found.high + found.low) / 2, abs=0.003)


@pytest.mark.parametrize("flip", [False, True])
def test_interval_at_the_border_holds_its_estimate(flip):
    y = np.repeat([1, 0], [8, 60])
    z = y + np.linspace(0, 0.5, 68)
    found = auroc_interval(-z if flip else z, y, np.arange(68))
    ends = (1 - found.high, 1 - found.low) if flip else (found.low, found.high)
    assert found.value == (0 if flip else 1)
    assert ends[1] == pytest.approx(1) and 0.6 < ends[0] < 0.95


def test_interval_covers_and_clusters_widen_it():
    rng = np.random.default_rng(1)
    covered = {True: 0, False: 0}
    for _ in range(200):
        patients = np.repeat(np.arange(60), 4)
        y = (rng.random(60) < 0.4).astype(int)[patients]
        z = (rng.standard_normal(60) + y[::4])[patients] + 0.3 * rng.standard_normal(240)
        for clustered in covered:
            found = auroc_interval(z, y, patients if clustered else np.arange(240))
            covered[clustered] += found.low <= 0.7486 <= found.high  # Phi(1 / sqrt(2 (1 + .09)))
    assert covered[True] >= 180 and covered[False] < 160


def test_interval_of_a_perfect_neuron_and_of_too_few_images():
    found = auroc_interval(np.array([0, 0, 1, 2.0]), np.array([0, 0, 1, 1]), np.arange(4))
    assert found.value == 1 and 0 < found.low < 1 and found.high <= 1
    few = auroc_interval(np.array([0, 0, 1, 2.0]), np.array([0, 0, 0, 1]), np.arange(4))
    assert np.isnan(few.value) and "1 positive" in few.reason


def test_the_winner_of_noise_is_judged_on_other_patients():
    rng = np.random.default_rng(2)
    z = rng.standard_normal((240, 1500), dtype=np.float32)
    y = (rng.random((240, 4)) < 0.3).astype(np.float32)
    z[:, 11] += 2.5 * y[:, 0]
    z[:, 12] -= 2.5 * y[:, 1]
    patients = Patients.of(np.arange(240) // 2)
    for sparse in (False, True):
        best = best_neurons(held_of(z, sparse), y, np.ones(y.shape, bool), patients, 0)
        assert (best[0].neuron, best[0].direction, best[1].neuron, best[1].direction) == (11, 1, 12, -1)
        assert best[0].other.value > 0.9 and best[1].other.value > 0.9
        for noise in best[2:]:
            assert noise.chosen > 0.65 and noise.whole.value > 0.6, "chosen among 1,500: too good"
            assert abs(noise.other.value - 0.5) < 0.15 and noise.other.low < 0.55
    first = halves(patients, 0)
    assert first.sum() == 120 and (first[::2] == first[1::2]).all()


def test_the_number_to_believe_is_taken_over_the_other_half_alone_and_where_the_label_is_known():
    rng = np.random.default_rng(5)
    z, patients = rng.random((300, 40), dtype=np.float32), Patients.of(np.arange(300) // 2)
    y, mask = (rng.random((300, 1)) < 0.4).astype(np.float32), rng.random((300, 1)) < 0.8
    (best,) = best_neurons(held_of(z, False), y, mask, patients, 0)
    assert best.neuron is not None
    first, known, mine = halves(patients, 0), mask[:, 0], best.direction * z[:, best.neuron]
    for side, area in ((first, best.chosen), (~first, best.other.value)):
        assert area == pytest.approx(roc_auc_score(y[side & known, 0], mine[side & known]), abs=1e-6)
    assert best.chosen > 0.6 > best.other.value, (
        "forty neurons of noise: the best of them looks good where it was chosen"
    )
    assert best.other.positives + best.other.negatives == (~first & known).sum()


def test_a_label_with_too_few_images_has_a_reason():
    rng = np.random.default_rng(3)
    y = np.zeros((40, 2), np.float32)
    y[:3, 0] = 1
    best = best_neurons(held_of(rng.random((40, 3), dtype=np.float32), False), y, np.ones(y.shape, bool),
                        Patients.of(np.arange(40)), 0)  # fmt: skip
    assert best[0].neuron is None and "each needs 5" in best[0].reason and np.isfinite(best[0].whole.value)
    assert best[1].whole_neuron is None and np.isnan(best[1].whole.value)


def test_truth_is_recovered_by_the_neuron_that_holds_it():
    rng = np.random.default_rng(4)
    n, d = 400, 12
    factors = rng.random((n, 3)) < 0.3
    directions = np.linalg.qr(rng.standard_normal((d, d)))[0][:3]
    x = (2.5 * factors @ directions + 0.3 * rng.standard_normal((n, d))).astype(np.float32)
    pre = (x @ directions.T - 1.5).astype(np.float32)
    x_source = ArraySource(x)
    found = truth_recovery(
        {
            "activation": ArraySource(np.maximum(pre, 0), sparse=True),
            "preactivation": ArraySource(pre),
            "raw": x_source,
            "random": RandomDirections(x_source, 3, 0),
        },
        factors,
        np.arange(n),
    )
    assert [b.neuron for b in found.best["activation"]] == [0, 1, 2]
    activation, pre_mean, raw = (found.mean(name)[0] for name in ("activation", "preactivation", "raw"))
    assert 0.95 < activation <= pre_mean and raw < pre_mean and found.mean("random")[0] < pre_mean
    assert found.mean("raw")[1] == 3 and found.judged().all()
