"""Localisation by hand: hits, what place and exchange give, masks brought to cells."""

import numpy as np
import pytest

from medsae.geometry import centres, spread
from medsae.scoring.draws import Patients
from medsae.scoring.localisation import LEAST, at_cells, locate, table_row


def one_hot(cells, at):
    out = np.zeros((len(at), cells))
    out[np.arange(len(at)), at] = 1.0
    return out


def test_a_map_that_follows_the_finding_beats_both_nulls():
    at = np.arange(16) % 4
    inside = one_hot(4, at).astype(bool)
    found = locate(one_hot(4, at), one_hot(4, (at + 1) % 4), inside, inside.astype(float), Patients.of(np.arange(16)))
    assert found.hit == 1 and found.place == 0 and (found.low, found.high) == (1, 1)
    # 16 * 16 pairs, 4 * 4 * 4 of them hit, 16 of those are the picture's own
    assert found.exchanged == pytest.approx((64 - 16) / (16 * 15))
    assert found.p == pytest.approx(1 / 1001)
    assert found.area == 0.25 and found.mass == pytest.approx(4)
    assert found.mean_mask == 0, "without a patient's own picture the other three places are more frequent"


def test_a_map_that_always_looks_at_the_same_place_follows_nothing():
    """The heart: every map hits, and so does every exchanged one."""
    at = np.zeros(20, int)
    inside = one_hot(5, at).astype(bool)
    found = locate(one_hot(5, at), one_hot(5, at), inside, inside.astype(float), Patients.of(np.arange(20)))
    assert found.hit == found.exchanged == found.place == found.mean_mask == 1 and found.p == 1


def test_maps_that_know_nothing_pass_at_the_nominal_rate():
    rng = np.random.default_rng(0)
    p = []
    for seed in range(200):
        inside = rng.random((30, 9)) < 0.3
        maps = rng.normal(size=(30, 9))
        p.append(locate(maps, maps, inside, inside * 1.0, Patients.of(np.arange(30)), draws=99, seed=seed).p)
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def test_pictures_of_a_patient_are_drawn_together():
    at = np.r_[np.zeros(10, int), np.ones(10, int)]
    inside = one_hot(2, np.zeros(20, int)).astype(bool)
    alone = locate(one_hot(2, at), one_hot(2, at), inside, inside * 1.0, Patients.of(np.arange(20)))
    together = locate(one_hot(2, at), one_hot(2, at), inside, inside * 1.0, Patients.of(np.arange(20) // 5))
    assert alone.hit == together.hit == 0.5
    assert together.high - together.low > alone.high - alone.low


def test_too_few_pictures_are_null_with_a_reason():
    few = LEAST - 1
    row = table_row(locate(np.ones((few, 4)), np.ones((few, 4)), np.ones((few, 4), bool), np.ones((few, 4)),
                           Patients.of(np.arange(few))))  # fmt: skip
    assert row["hit"] is None and row["p"] is None and row["n"] == few and "8 are needed" in str(row["reason"])


def test_centres_go_back_through_square_and_resize():
    # 320 x 160: centred on 320 x 320, made smaller to 128 px; cell 1 of a step of 16 px lies at 16.5 / 128 of the side
    y, x = centres((8, 8), 0.0, 16.0, 128, (320, 160))
    assert y[1] == pytest.approx(16.5 * 2.5 - 0.5)
    assert x[1] == pytest.approx(16.5 * 2.5 - 0.5 - 80)
    y, x = centres((8, 8), 0.0, 16.0, 128, (100, 60))  # small pictures are not made larger, only centred
    assert (y[0], x[0]) == (-14, -34)


def test_a_mask_at_the_cells():
    mask = np.zeros((8, 8), bool)
    mask[0:4, 0:2] = True
    inside, cover = at_cells(mask, np.array([1.5, 5.5]), np.array([1.5, 5.5]), (4, 4))
    assert inside.tolist() == [False, False, False, False], "pixel 2 is the nearest to 1.5, and lies outside"
    assert cover.tolist() == [0.5, 0, 0, 0]
    inside, cover = at_cells(mask, np.array([1.0, -3.0]), np.array([1.0, 9.0]), (2, 2))
    assert inside.tolist() == [True, False, False, False] and cover[1:].tolist() == [0, 0, 0]


def test_a_map_is_spread_between_the_centres_and_not_beyond():
    out = spread(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([10.0, 30.0]), np.array([10.0, 30.0]), (40, 40), 40)
    assert out[10, 10] == 0 and out[10, 30] == 1 and out[30, 10] == 2 and out[20, 20] == pytest.approx(1.5)
    assert np.isnan(out[9, 20]) and np.isnan(out[20, 31]) and np.isnan(out[0, 0])
