"""AUROC from ranks, its interval, the best neuron of a label chosen and judged apart, and truth recovery."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit
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
    # 1 - A is as far from the estimate as 8 positives and 60 negatives allow: t = 2.262 (95 %, 7 + 2 degrees of freedom)
    # times Hanley and McNeil's sd at 0.77.
    both, one = 0.7703 / 1.2297, 2 * 0.7703**2 / 1.7703
    variance = (0.7703 * 0.2297 + 7 * (both - 0.7703**2) + 59 * (one - 0.7703**2)) / 480
    assert ends[1] == pytest.approx(1) and ends[0] == pytest.approx(0.7703, abs=2e-4)
    assert variance**0.5 * 2.2622 == pytest.approx(1 - 0.7703, abs=2e-4)


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
    one = auroc_interval(np.array([0, 0, 1, 2.0]), np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2]))
    assert np.isnan(one.value) and "of 2 and 1 patients" not in one.reason and "of 1 and 2 patients" in one.reason


def test_images_of_a_patient_are_worth_what_their_ranks_differ():
    y, patients = np.repeat([1, 0], [12, 60]), np.arange(72) // 2
    alike = y + np.repeat(np.linspace(0, 0.5, 36), 2) + np.tile([0, 1e-6], 36)  # two images as good as one
    unlike = y + np.concatenate([np.linspace(0, 0.5, 36), np.linspace(0.5, 0, 36)]).reshape(2, 36).T.ravel()
    single = auroc_interval(alike[::2], y[::2], np.arange(36))
    twice, both = (auroc_interval(z, y, patients) for z in (alike, unlike))
    assert single.low == pytest.approx(twice.low, abs=0.01) and both.low > twice.low + 0.02
    apart = auroc_interval(unlike, y, np.arange(72))
    # Within a patient the ranks are as unlike as can be: each image counts whole, but the patients stay 36.
    assert twice.low + 0.02 < both.low <= apart.low < 1


def test_alike_by_analysis_of_variance():
    value, group = np.array([1.0, 1.0, -1.0, -1.0, 3.0, 1.0, -1.0, -3.0]), np.array([0, 0, 1, 1, 2, 2, 3, 3])
    # Sums 2, -2, 4, -4 over two images each: between 20 / 2 = 10, within 4 / 4 = 1, (10 - 1) / (10 + 1).. with
    # (8 - 16 / 8) / 2 = 3 images a patient less the two means: (10 - 1) / (10 + 2 * 1).
    assert auroc_module._alike(value, group) == pytest.approx(9 / 12)
    assert auroc_module._alike(value, np.arange(8)) == 1.0
    assert auroc_module._alike(np.array([1.0, -1, 1, -1]), np.array([0, 0, 1, 1])) == 0.0
    assert auroc_module._alike(np.zeros(4), np.array([0, 0, 1, 1])) == 1.0
    assert auroc_module._images_of_mine(np.array([0, 0, 0, 2])) == 2.5


def test_components_of_a_small_case_by_hand():
    z, y = np.array([3.0, 1.0, 2.0, 0.0, 1.0]), np.array([1, 1, 0, 0, 0])
    c = auroc_module._components(z, y > 0, np.array([0, 1, 2, 3, 3]))
    # Positive 3 beats all three, positive 1 beats one and ties one: 1 and 0.5. Negatives: 2 is below one of two (0.5),
    # 0 below both (1), 1 below one and ties one (0.75).
    assert c.area == pytest.approx(0.75)
    # Positives: +-0.25 / 2. Negatives: -0.25 / 3 of patient 2, (0.25 + 0) / 3 of patient 3.
    own_p, own_n = 2 * 2 * 0.125**2, 2 * 2 * (0.25 / 3) ** 2
    assert c.own == pytest.approx(own_p + own_n) and c.variance == pytest.approx(own_p + own_n)
    assert c.freedom == pytest.approx((own_p + own_n) ** 2 / (own_p**2 + own_n**2)) and c.effective == pytest.approx(2)
    assert list(c.code_p) == [0, 1] and list(c.code_n) == [2, 3, 3]
    both = 2 * 2 * 2 * 0.125 * 0.25 / 3
    # Patient 0 has the better positive and the worst negative: what one side adds the other takes away, to a tenth.
    shared = auroc_module._components(z, y > 0, np.array([0, 1, 0, 1, 1]))
    assert own_p + own_n - both < 0.1 * c.own == pytest.approx(shared.variance)
    crossed = auroc_module._components(z, y > 0, np.array([1, 0, 0, 1, 1]))
    assert crossed.variance == pytest.approx(own_p + own_n + both) and crossed.own == pytest.approx(c.own)


@pytest.mark.parametrize("flip", [False, True])
def test_ends_of_an_interval_by_hand(flip):
    # Three positives, four negatives, one patient an image, one pair of twelve the wrong way round.
    z, y = np.array([6.0, 5.0, 3.0, 4.0, 2.0, 1.0, 0.0]), np.array([1, 1, 1, 0, 0, 0, 0])
    found = auroc_interval(-z if flip else z, y, np.arange(7))
    low, high = (1 - found.high, 1 - found.low) if flip else (found.low, found.high)
    area = 11 / 12
    # Components of the positives 1, 1, 3/4; of the negatives 2/3, 1, 1, 1.
    own_p = 3 / 2 * ((1 / 12) ** 2 * 2 + (1 / 6) ** 2) / 9
    own_n = 4 / 3 * ((1 / 4) ** 2 + 3 * (1 / 12) ** 2) / 16

    def variance(a):
        a = max(a, 1 - a)
        both, one = a / (2 - a), 2 * a * a / (1 + a)
        return (a * (1 - a) + 2 * (both - a * a) + 3 * (one - a * a)) / 12

    effective = min(36 / 18, 144 / 84)  # squares 1, 1, 4 of the positives and 9, 1, 1, 1 of the negatives
    f = ((own_p + own_n) / variance(area)) ** (effective / (effective + 3))
    freedom = (own_p + own_n) ** 2 / (own_p**2 / 2 + own_n**2 / 3) + 2
    two, one = stdtrit(freedom, 0.975), stdtrit(freedom, 0.95)
    # No estimate lies too far below the low end (it is near 0 for so few images), or too far above the high one: the
    # whole 5 % are then for the other side.
    sd = [(f * variance(a)) ** 0.5 for a in (low, high)]
    assert low < two * sd[0] and area - low == pytest.approx(one * sd[0], abs=3e-4)
    assert 1 - high < two * sd[1] and high - area == pytest.approx(one * sd[1], abs=1e-3)


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


def test_a_label_of_nearly_all_images_has_too_few_without_it():
    y = np.ones((40, 1), np.float32)
    y[:9] = 0
    z = np.random.default_rng(3).random((40, 3), dtype=np.float32)
    (best,) = best_neurons(held_of(z, False), y, np.ones(y.shape, bool), Patients.of(np.arange(40)), 0)
    first = halves(Patients.of(np.arange(40)), 0)
    chosen, other = (int((y[side, 0] == 0).sum()) for side in (first, ~first))
    assert min(chosen, other) < 5 and best.neuron is None
    assert f"{20 - chosen} + {20 - other} positive and {chosen} + {other} negative images" in best.reason


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
