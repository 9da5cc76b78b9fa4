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


def test_every_number_of_ten_pictures_by_hand():
    rng = np.random.default_rng(7)
    n, cells = 10, 6
    maps, others = rng.normal(size=(n, cells)), rng.normal(size=(n, cells))
    inside, cover = rng.random((n, cells)) < 0.4, rng.random((n, cells))
    maps[3] = -1.0  # nothing positive: in no mass
    cover[4] = 0.0
    code = np.array([0, 0, 1, 2, 2, 2, 3, 4, 5, 5])
    found = locate(maps, others, inside, cover, Patients.of(code), draws=300, seed=3)
    at = maps.argmax(1)
    hits = np.array([inside[i, at[i]] for i in range(n)])
    assert found.n == n and found.hit == pytest.approx(hits.mean()) and 0 < found.hit < 1
    assert found.place == pytest.approx(np.mean([inside[i, others[i].argmax()] for i in range(n)]))
    pairs = [inside[i, at[j]] for i in range(n) for j in range(n) if i != j]
    assert found.exchanged == pytest.approx(np.mean(pairs))
    assert found.area == pytest.approx(cover.mean())
    good = [i for i in range(n) if i not in (3, 4)]
    parts = [(np.maximum(maps[i], 0) * cover[i]).sum() / np.maximum(maps[i], 0).sum() for i in good]
    assert found.mass == pytest.approx(np.mean(parts) / cover[good].mean())
    guesses = [np.sum([cover[j] for j in range(n) if code[j] != code[i]], axis=0).argmax() for i in range(n)]
    assert found.mean_mask == pytest.approx(np.mean([inside[i, guesses[i]] for i in range(n)]))
    # The same draws by hand: orders of the pictures, then numbers of times that each of the six patients comes.
    again = np.random.default_rng([3, 11])
    orders = np.argsort(again.random((300, n)), axis=1)
    drawn = np.array([np.mean([inside[i, at[order[i]]] for i in range(n)]) for order in orders])
    assert found.p == pytest.approx((1 + (drawn >= hits.mean() - 1e-9).sum()) / 301) and 0.02 < found.p < 0.98
    times = again.multinomial(6, np.full(6, 1 / 6), 300)
    means = (times[:, code] * hits).sum(1) / times[:, code].sum(1)
    assert (found.low, found.high) == tuple(pytest.approx(np.quantile(means, q)) for q in (0.025, 0.975))
    assert locate(maps, others, inside, cover, Patients.of(code), seed=3).p != found.p, "a thousand draws if not told"


def test_eight_pictures_are_enough_and_maps_without_anything_positive_have_no_mass():
    flat = locate(-np.ones((LEAST, 3)), -np.ones((LEAST, 3)), np.ones((LEAST, 3), bool), np.ones((LEAST, 3)),
                  Patients.of(np.arange(LEAST)), draws=20)  # fmt: skip
    assert LEAST == 8 and flat.n == 8 and flat.hit == 1 and flat.reason == "" and np.isnan(flat.mass)
    row = table_row(flat)
    assert row["mass"] is None and row["hit"] == 1.0 and row["n"] == 8 and set(row) >= {"low", "high", "exchanged"}


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
    # Squares of 2 x 4 px with their centres at (1, 3) and (4, 0), the second half beyond the left side.
    inside, cover = at_cells(mask, np.array([1.0, 4.0]), np.array([3.0, 0.0]), (2, 4))
    assert inside.tolist() == [False, True, False, False]
    assert cover.tolist() == [2 / 8, 4 / 8, 1 / 8, 2 / 8]
    inside, cover = at_cells(mask, np.array([7.0, 8.0]), np.array([0.0, 7.0]), (2, 2))
    assert not inside.any() and not cover.any(), "row 8 lies below the picture"
    assert at_cells(np.ones((4, 6), bool), np.array([3.0]), np.array([5.0]), (2, 2))[0].tolist() == [True]
    assert at_cells(np.ones((4, 6), bool), np.array([3.0]), np.array([6.0]), (2, 2))[0].tolist() == [False]
    full = np.ones((4, 6), bool)
    assert at_cells(full, np.array([0.0, 4.0]), np.array([0.0]), (2, 2))[0].tolist() == [True, False]
    # A square of 2.5 px from 0.5 to 3: three rows and columns of pixels lie nearest, and it is covered once, not 1.4 times.
    assert at_cells(full, np.array([1.75]), np.array([1.75]), (2.5, 2.5))[1].tolist() == [1.0]
    inside, cover = at_cells(mask, np.array([1.0, -3.0]), np.array([1.0, 9.0]), (2, 2))
    assert inside.tolist() == [True, False, False, False] and cover[1:].tolist() == [0, 0, 0]


def test_a_map_is_spread_between_the_centres_and_not_beyond():
    out = spread(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([10.0, 30.0]), np.array([10.0, 30.0]), (40, 40), 40)
    assert out[10, 10] == 0 and out[10, 30] == 1 and out[30, 10] == 2 and out[20, 20] == pytest.approx(1.5)
    assert np.isnan(out[9, 20]) and np.isnan(out[20, 31]) and np.isnan(out[0, 0])
