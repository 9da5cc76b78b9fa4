"""Change, specificity and dose response in pairs, by hand."""

import numpy as np
import pytest
from scipy import stats

from medsae.rates import mean_interval
from medsae.scoring import paired

P, F, S = 12, 3, 3
ONE, TWO, SILENT, FALLS, ONCE = range(5)


@pytest.fixture(scope="module")
def numbers():
    """Of every patient one picture without anything, then three severities of each of three factors; the last factor
    has one severity."""
    k = 1 + F * S
    before = np.repeat(np.arange(P)[:, None] * k, F, 1)
    after = np.arange(P)[:, None, None] * k + 1 + np.arange(F * S).reshape(F, S)
    after[:, 2, 1:] = -1
    return paired.Pairs(before, after)


@pytest.fixture(scope="module")
def z(numbers):
    """Neurons made by hand, on top of what differs between patients."""
    rng = np.random.default_rng(0)
    z_nm = np.zeros((P * (1 + F * S), 5), np.float32)
    z_nm[:, [ONE, TWO, FALLS]] = np.repeat(rng.integers(2, 9, (P, 1)), 1 + F * S, 0)
    for p in range(P):
        for s in range(S):
            z_nm[numbers.after_pfs[p, 0, s], ONE] += s + 1
            z_nm[numbers.after_pfs[p, 0, s], TWO] += (3, 0, 3)[s]
            z_nm[numbers.after_pfs[p, 1, s], TWO] += 6
        z_nm[numbers.after_pfs[p, 2, 0], FALLS] -= 2
    z_nm[numbers.after_pfs[0, 1, 0], ONCE] = 40
    return z_nm


@pytest.fixture(scope="module")
def told(z, numbers):
    return paired.answers(z, numbers)


def test_a_neuron_that_follows_one_factor_has_specificity_one(told):
    found = paired.specificity(told.change_pfm.mean(0))
    assert found[:, ONE].tolist() == [1, 0, 0] and found[:, FALLS].tolist() == [0, 0, 1]
    assert found[:, TWO] == pytest.approx([0.25, 0.75, 0])
    assert np.isnan(found[:, SILENT]).all()


def test_changes_are_means_over_severities_whatever_the_patient(told):
    assert told.change_pfm[:, 0, ONE] == pytest.approx(np.full(P, 2.0))
    assert told.change_pfm[:, 2, FALLS] == pytest.approx(np.full(P, -2.0))


def test_follows_counts_pairs_that_move_and_none_that_stay(told):
    assert told.sign_pfm[:, 0, TWO] == pytest.approx(np.full(P, 2 / 3))
    assert told.sign_pfm[:, 2, FALLS].tolist() == [-1] * P and told.sign_pfm[:, 1, SILENT].tolist() == [0] * P


def test_dose_response_by_hand(told):
    found = paired.monotone(told.curve_fsm)
    assert found[0, ONE] == 1
    assert found[0, TWO] == pytest.approx(3 / 9)  # 0, 3, 0, 3: 3 upwards in the end, 9 on the way
    assert np.isnan(found[2]).all() and np.isnan(found[0, SILENT])
    curve = told.curve_fsm - told.curve_fsm[:, :1]  # without the factor, then by severity
    np.testing.assert_allclose(curve[0][:, [ONE, TWO]].T, [[0, 1, 2, 3], [0, 3, 0, 3]], atol=1e-5)
    np.testing.assert_allclose(curve[2, :, FALLS], [0, -2, np.nan, np.nan], atol=1e-5, err_msg="one severity was drawn")


def test_a_group_is_the_mean_of_its_factors(told):
    whole = told.grouped([0, 0, 1])
    assert whole.change_pfm[:, 0, TWO] == pytest.approx((told.change_pfm[:, 0, TWO] + told.change_pfm[:, 1, TWO]) / 2)
    assert paired.specificity(whole.change_pfm.mean(0))[:, TWO].tolist() == [1, 0]


def test_the_table_leaves_out_what_nothing_moves(told):
    frame = paired.table(told, ["a", "b", "c"])
    assert set(frame["neuron"]) == {ONE, TWO, FALLS, ONCE}
    row = frame[(frame["factor"] == "b") & (frame["neuron"] == ONCE)].iloc[0]
    assert row["specificity"] == 1 and row["low"] < 0 < row["high"]


def test_the_interval_is_students():
    x = np.random.default_rng(1).normal(size=(9, 4))
    low, high = mean_interval(x)
    for j in range(4):
        expected = stats.t.interval(0.95, 8, x[:, j].mean(), stats.sem(x[:, j]))
        assert (low[j], high[j]) == pytest.approx(expected)
    assert np.isnan(mean_interval(x[:1])).all()


def test_what_one_picture_moves_is_never_the_best(told):
    chooses = np.arange(P) < P // 2  # the patient whose one picture moves the neuron is among those who choose
    frame = paired.best(told, ["a", "b", "c"], chooses, 0).frame.set_index("factor")
    assert frame["neuron"].tolist() == [ONE, TWO, FALLS]
    assert frame["specificity"].tolist() == pytest.approx([1, 0.75, 1])
    assert frame["follows"].tolist() == [1, 1, 1], "in the direction in which it was chosen"
    assert frame["recovery"].tolist() == pytest.approx([1, 0.75, 1])
    assert frame["change"].tolist() == pytest.approx([2, 6, -2])


def test_a_neuron_that_follows_every_pair_wins_over_a_rare_one_that_nothing_else_moves():
    rng = np.random.default_rng(0)
    change = np.zeros((20, 2, 2), np.float32)
    change[:, 0, 0], change[:, 1, 0] = 6 + rng.random(20), 2  # 0.76 of what moves it, in every pair
    change[::3, 0, 1] = 1  # nothing else moves it, in a third of the pairs
    a = paired.Answers(change, np.sign(change), np.zeros((2, 2, 2), np.float32))
    frame = paired.best(a, ["a", "b"], np.arange(20) % 2 == 0, 0).frame
    assert frame["neuron"][0] == 0 and frame["recovery"][0] == pytest.approx(0.76, abs=0.02)
    assert frame["low"][0] <= frame["recovery"][0] <= frame["high"][0]


def test_the_judging_half_has_no_say_in_the_choice():
    """A neuron that follows a factor in the patients who choose, and its opposite in the others, recovers nothing; one
    that is nowhere settled is no neuron at all."""
    chooses = paired.halves(P, 5)
    change = np.zeros((P, 2, 1), np.float32)
    change[:, 0, 0] = np.where(chooses, 1.0, -1.0)
    a = paired.Answers(change, np.sign(change), np.zeros((2, 2, 1), np.float32))
    found = paired.best(a, ["a", "b"], chooses, 0)
    assert found.frame["specificity"][0] == found.frame["follows"][0] == -1 and found.frame["neuron"].isna()[1]
    assert found.frame["recovery"][0] == found.recovery == 0 and found.specificity == -0.5 and found.found == 1
    assert "settled" in found.frame["reason"][1]


def test_halves_are_halves_and_of_the_seed():
    assert paired.halves(11, 0).sum() == 6 and (paired.halves(40, 0) != paired.halves(40, 1)).any()
    assert (paired.halves(40, 3) == paired.halves(40, 3)).all()
