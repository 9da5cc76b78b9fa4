"""Tails of the permutation null against counting and drawing, and no false neurons on complete nulls."""

import numpy as np
import pytest

from medsae.scoring.activity import ArraySource, Held
from medsae.scoring.clustered import _Lender
from medsae.scoring.draws import Patients, Permutations
from medsae.scoring.own_null import tail_p
from medsae.scoring.tail import Dealt, _enumerated, _saddle, tails


def drawn(one, draws, rng):
    """Share of draws whose sum lies as far from its mean."""
    label = np.repeat(one.level, one.count.astype(int))
    value = np.zeros(one.units)
    value[: len(one.value)] = one.value
    mean, n = value.sum() * label.mean(), len(label)
    spread = np.sqrt(((value - value.mean()) ** 2).sum() * ((label - label.mean()) ** 2).sum() / (n - 1))
    dealt = np.array([rng.permutation(label)[: len(one.value)] for _ in range(draws)])
    return np.mean(np.abs(dealt @ one.value - mean) >= (one.distance - 1e-6) * spread)


def dealt(value, units, positives, distance):
    return Dealt(0, value, np.ones(len(value)), units, np.array([0.0, 1.0]),
                 np.array([units - positives, positives], float), distance)  # fmt: skip


def test_counting_is_exact_by_hand():
    # Fires on one of ten images, three of ten have the label: the chance of the label there is 3 / 10.
    far = (1 - 0.3) / np.sqrt(0.9 * 10 * 0.3 * 0.7 / 9)
    assert _enumerated([dealt(np.ones(1), 10, 3, far)]) == pytest.approx(0.3)
    # On two images, both with the label: 3 / 10 * 2 / 9.
    spread = np.sqrt((2 - 4 / 10) * 10 * 0.3 * 0.7 / 9)
    assert _enumerated([dealt(np.ones(2), 10, 3, (2 - 0.6) / spread)]) == pytest.approx(3 / 10 * 2 / 9)


@pytest.mark.parametrize(("size", "positives", "distance"), [(14, 40, 3), (40, 30, 3.2), (200, 12, 3)])
def test_saddle_point_is_as_drawn(size, positives, distance):
    rng = np.random.default_rng(size)
    one = dealt(rng.exponential(1, size), 200, positives, distance)
    expected = drawn(one, 15_000, rng)
    assert _saddle([one])[0] == pytest.approx(expected, rel=0.3)
    if size <= 14:
        assert _enumerated([one])[0] == pytest.approx(expected, rel=0.15)


def test_uncertain_labels_kept_as_numbers_have_a_tail_too():
    rng = np.random.default_rng(0)
    one = Dealt(0, rng.exponential(1, 30), np.ones(30), 200, np.array([-1.0, 0, 1]), np.array([20.0, 150, 30]), 3.0)
    assert tails([one])[0] == pytest.approx(drawn(one, 15_000, rng), rel=0.3)


@pytest.mark.parametrize("firing", [9, 40])
def test_tail_of_patients_with_several_images_is_as_drawn(firing):
    rng = np.random.default_rng(firing)
    code = np.repeat(np.arange(70), 3)
    y = (rng.random(70)[code] * 0.6 + rng.random(210) * 0.4 > 0.75).astype(np.float32)[:, None]
    z = np.zeros((210, 1), np.float32)
    z[:firing, 0] = rng.exponential(1, firing)  # images of the same few patients
    held = Held(ArraySource(z, True), 210)
    for _ in held.first_pass():
        pass
    mask, patients = np.ones(y.shape, bool), Patients.of(code)
    moved = np.array([np.corrcoef(z[:, 0], y[Permutations(patients, 1, t).rows(0), 0])[0, 1] for t in range(3000)])
    strength = 3.6
    found = tail_p(held, y, mask, patients, np.array([[strength]]), np.array([1e-4]), np.array([0]), np.ones(1))
    expected = np.mean(np.abs(moved) * np.sqrt(209) >= strength)
    assert 0.005 < expected < 0.3 and found[0] == pytest.approx(expected, rel=0.3)


def test_lent_labels_are_the_draws_of_041():
    patients = Patients.of(np.repeat([0, 1, 2], [1, 2, 4]))
    y = np.array([1, 1, 0, 1, 1, 0, 0], np.float32)
    lender = _Lender.of(y, np.ones(7, bool), patients)
    # Two images of one borrower: from patient 0 twice the same 1; from patient 1 one of each; from patient 2 both kinds.
    expected = np.array([1 / 6, 1 + 4 / 6, 1 + 1 / 6]) / 3
    np.testing.assert_allclose(lender.chances(2), expected)


def test_pooled_p_above_the_tail_stay():
    rng = np.random.default_rng(1)
    z = rng.random((50, 3)).astype(np.float32)
    held = Held(ArraySource(z), 50)
    p = np.array([0.2, np.nan, 0.9])
    y = (rng.random((50, 1)) < 0.4).astype(np.float32)
    found = tail_p(held, y, np.ones(y.shape, bool), Patients.of(np.arange(50)), np.ones((3, 1)), p,
                   np.array([0, -1, 0]), np.ones(3))  # fmt: skip
    np.testing.assert_array_equal(found, p)
