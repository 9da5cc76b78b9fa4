"""Tails of the permutation null against counting and drawing, and no false neurons on complete nulls."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, permutations
from math import comb

import numpy as np
import pytest
from scipy.stats import gamma, norm

from medsae.scoring import clustered, tail
from medsae.scoring.activity import ArraySource, Held
from medsae.scoring.clustered import (
    _as_alike_as_pairs,
    _Lender,
    _parts,
    _Ragged,
    _whole_patients,
    clustered_tails,
)
from medsae.scoring.draws import Patients, Permutations
from medsae.scoring.own_null import tail_p
from medsae.scoring.tail import (
    SMALLEST,
    Dealt,
    _enumerated,
    _saddle,
    _Units,
    binned,
    choose,
    largest_sum,
    skovgaard,
    tails,
)


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


# --- by hand, by counting and by differences ---------------------------------------------------------------------------


def counted(value, units, level, positives, distance):
    """Both tails by dealing the labels in every way there is."""
    v = np.zeros(units)
    v[: len(value)] = value
    y = np.array([np.where(np.isin(np.arange(units), chosen), level[1], level[0])
                  for chosen in combinations(range(units), positives)], float)  # fmt: skip
    mean = v.sum() * y[0].mean()
    spread = np.sqrt(((v - v.mean()) ** 2).sum() * ((y[0] - y[0].mean()) ** 2).sum() / (units - 1))
    return np.mean(np.abs(y @ v - mean) >= (distance - 1e-6) * spread)


@pytest.mark.parametrize("level", [(0.0, 1.0), (-1.0, 1.0), (2.0, 5.0)], ids=str)
def test_counting_is_dealing_in_every_way(level):
    value = np.array([1.0, 2.0, 2.0, 3.5, 0.5])
    cases = [(9, 4, 0.7), (9, 4, 1.9), (7, 2, 1.2), (6, 5, 0.4), (8, 1, 1.3)]
    found = [Dealt(0, value, np.ones(5), units, np.array(level), np.array([units - p, p], float), far)
             for units, p, far in cases]  # fmt: skip
    expected = [counted(value, units, level, p, far) for units, p, far in cases]
    np.testing.assert_allclose(_enumerated(found), expected, rtol=1e-9)
    np.testing.assert_allclose(tails(found), expected, rtol=1e-9)


def exact(value, units, positives, distance):
    """Both tails of integer values, by counting how many subsets have each sum."""
    value = np.asarray(value, int)
    ways = np.zeros((positives + 1, value.sum() + 1), object)
    ways[0, 0] = 1
    for v in [*value, *[0] * (units - len(value))]:
        for r in range(positives, 0, -1):
            ways[r, v:] = ways[r, v:] + ways[r - 1, : ways.shape[1] - v]
    chance = np.array(ways[positives] / comb(units, positives), float)
    share = positives / units
    spread = np.sqrt(((value**2).sum() - value.sum() ** 2 / units) * units * share * (1 - share) / (units - 1))
    return chance[np.abs(np.arange(len(chance)) - value.sum() * share) >= (distance - 1e-6) * spread].sum()


CASES = [(40, 120, 30, 2.5), (40, 120, 30, 4.0), (25, 100, 20, 3.0), (60, 90, 45, 3.5), (30, 60, 45, 3.0)]


@pytest.mark.parametrize(("size", "units", "positives", "distance"), CASES)
def test_saddle_point_is_within_some_per_cent_of_counting(size, units, positives, distance):
    value = np.random.default_rng(size).integers(20, 80, size)
    one = dealt(value.astype(float), units, positives, distance)
    assert _saddle([one])[0] == pytest.approx(exact(value, units, positives, distance), rel=0.06)
    merged, times = np.unique(value, return_counts=True)
    again = Dealt(0, merged.astype(float), times.astype(float), units, one.level, one.count, distance)
    assert _saddle([again])[0] == pytest.approx(_saddle([one])[0], rel=1e-6), "equal values are one with its number"


def test_a_batch_is_each_alone_whatever_fits(monkeypatch):
    rng = np.random.default_rng(3)
    two = [
        dealt(rng.exponential(1, size), 100, 30, far) for size, far in ((20, 2.0), (5, 3), (31, 3.5), (5, 1), (14, 2))
    ]
    three = [Dealt(0, rng.exponential(1, size), np.ones(size), 80, np.array([-1.0, 0, 1]), np.array([10.0, 50, 20]), 2.5)
             for size in (4, 18)]  # fmt: skip
    found = [two[0], three[0], *two[1:], three[1]]
    alone = [tails([one])[0] for one in found]
    assert len(set(alone)) == len(alone) and min(alone) > 0 and max(alone) < 1
    np.testing.assert_allclose(tails(found), alone, rtol=1e-5)
    monkeypatch.setattr(tail, "CELLS", 64)
    np.testing.assert_allclose(tails(found), alone, rtol=1e-5)


def test_nothing_lies_beyond_the_largest_sum_and_a_constant_neuron_has_no_tail():
    value = np.arange(1.0, 21)
    top = (value[10:].sum() - value.sum() * 0.1) / np.sqrt(
        ((value**2).sum() - value.sum() ** 2 / 100) * 100 * 0.1 * 0.9 / 99
    )
    beyond = _saddle([dealt(value, 100, 10, top * 1.01)])[0]
    assert beyond == 0 and tails([dealt(value, 100, 10, top * 1.01)])[0] == SMALLEST
    assert 0 < _saddle([dealt(value, 100, 10, top * 0.97)])[0] < 1e-9
    assert _saddle([dealt(np.ones(100), 100, 10, 1.0)])[0] == 1
    assert _saddle([dealt(value, 100, 10, 0.0)])[0] == pytest.approx(1, abs=0.1)


@dataclass(frozen=True)
class Formula:
    """Sums whose cumulants are one formula for all pairs."""

    cumulants: Callable

    def some(self, rows):
        return self


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_the_saddle_point_of_a_normal_sum_is_exact(rho):
    def cumulants(st):
        s, t = st.T
        k = (4 * s * s + 2 * rho * 2 * s * t + t * t) / 2
        gradient = np.stack([4 * s + 2 * rho * t, 2 * rho * s + t], axis=1)
        return k, gradient, np.tile([4.0, 2 * rho, 1.0], (len(st), 1))

    d = np.array([0.5, 1.0, 3.0, 12.0])
    found = skovgaard(Formula(cumulants), d, np.full(4, 4.0))
    # T given S = 0 is normal with variance 1 - rho^2.
    np.testing.assert_allclose(found, norm.sf(d / np.sqrt(1 - rho**2)), rtol=1e-6)
    near = skovgaard(Formula(cumulants), np.array([1e-5]), np.array([4.0]))
    assert near[0] == pytest.approx(0.5, abs=1e-3)


def test_a_neuron_has_the_same_tail_in_any_company():
    rng = np.random.default_rng(8)
    found = [dealt(rng.exponential(1, 40), 300, int(rng.integers(20, 200)), d) for d in rng.uniform(0, 9, 30)]
    np.testing.assert_allclose(_saddle(found), [_saddle([one])[0] for one in found], rtol=1e-9)


def test_cumulants_are_those_of_the_units_and_their_slopes():
    rng = np.random.default_rng(5)
    c, w = rng.normal(size=(2, 4)), np.array([[1.0, 2, 3, 1], [5, 1, 1, 2]])
    b, share = np.array([[-0.3, 0.7], [-1.0, 0.5]]), np.array([[0.7, 0.3], [1 / 3, 2 / 3]])
    st, step = np.array([[0.4, -0.7], [-2.0, 1.1]]), 1e-5
    units = _Units(c, w, b, share)
    k, gradient, hessian = units.cumulants(st)
    for g in range(2):
        by_hand = sum(w[g, u] * np.log(sum(share[g, i] * np.exp((st[g, 0] + st[g, 1] * c[g, u]) * b[g, i])
                                           for i in range(2))) for u in range(4))  # fmt: skip
        assert k[g] == pytest.approx(by_hand)
    for axis in range(2):
        move = np.zeros(2)
        move[axis] = step
        up, down = (units.cumulants(st + side * move) for side in (1, -1))
        np.testing.assert_allclose(gradient[:, axis], (up[0] - down[0]) / (2 * step), rtol=1e-6)
        slopes = (up[1] - down[1]) / (2 * step)
        np.testing.assert_allclose(hessian[:, [0, 1] if axis == 0 else [1, 2]], slopes, rtol=1e-6)


def test_the_largest_sum_puts_the_largest_labels_on_the_largest_values():
    c, b = np.array([[0.5, -2.0, 3.0, 1.0]]), np.array([[-0.5, 0.5, 2.0]])
    # Five units: values 3, 1, 1, 0.5, -2; labels 2, 0.5, 0.5, -0.5, -0.5.
    found = largest_sum(c, np.array([[1.0, 1, 1, 2]]), b, np.array([[0.4, 0.4, 0.2]]))
    assert found[0] == pytest.approx(3 * 2 + 0.5 + 0.5 - 0.25 + 1)
    halves = largest_sum(np.array([[0.0, 1.0]]), np.ones((1, 2)), np.array([[0.0, 1.0]]), np.array([[0.25, 0.75]]))
    assert halves[0] == pytest.approx(1)


def test_many_values_are_gathered_each_at_its_mean(monkeypatch):
    value, weight = np.array([0.0, 1.0, 1.5, 4.0, 8.0]), np.array([1.0, 3, 1, 2, 1])
    same = binned(value, weight)
    assert same[0] is value and same[1] is weight
    monkeypatch.setattr(tail, "BINS", 4)
    # Bins of width 2: 0, 1 and 1.5 in the first, none in the second, 4 in the third, 8 in the last.
    gathered, total = binned(value, weight)
    assert gathered == pytest.approx([(0 + 3 + 1.5) / 5, 4, 8]) and total.tolist() == [5, 2, 1]
    monkeypatch.setattr(tail, "BINS", 5)
    assert binned(value, weight)[0] is value
    monkeypatch.setattr(tail, "BINS", 2)
    assert binned(np.ones(3), np.ones(3))[0].tolist() == [1.0], "equal values have no width"


def test_log_of_how_many_ways():
    n, r = np.array([5.0, 10.0, 7.0]), np.array([2.0, 3.0, 7.0])
    np.testing.assert_allclose(choose(n, r), np.log([10, 120, 1]), atol=1e-9)


def test_the_saddle_point_of_a_gamma_sum_is_the_formula_and_nearly_exact():
    shape, d = 6.0, np.array([2.0, 6.0, 15.0])

    def cumulants(st):
        # S normal, T a gamma variable less its mean, apart from S; beyond t = 1 there is no cumulant.
        s, t = st[:, 0], np.minimum(st[:, 1], 1 - 1e-12)
        k = s * s / 2 - shape * np.log1p(-t) - shape * t + np.where(st[:, 1] < 1, 0, np.inf)
        second = shape / (1 - t) ** 2
        return k, np.stack([s, shape / (1 - t) - shape], axis=1), np.stack([np.ones_like(s), 0 * s, second], axis=1)

    found = skovgaard(Formula(cumulants), d, np.ones(3))
    t = d / (shape + d)
    root, v = np.sqrt(2 * (t * d + shape * np.log1p(-t) + shape * t)), t * np.sqrt(shape) / (1 - t)
    np.testing.assert_allclose(found, norm.sf(root) + norm.pdf(root) * (1 / v - 1 / root), rtol=1e-6)
    np.testing.assert_allclose(found, gamma.sf(d + shape, shape), rtol=0.01)


def test_the_unit_of_a_neuron_does_not_matter():
    value = np.random.default_rng(6).exponential(1, 30)
    here, small, large = (_saddle([dealt(value * unit, 200, 40, 3.0)])[0] for unit in (1.0, 1e-4, 1e4))
    assert here < 0.01 and small == pytest.approx(here) and large == pytest.approx(here)


# --- patients with several images ---------------------------------------------------------------------------------------


def lent(y, code):
    return _Lender.of(np.asarray(y, np.float32), np.ones(len(y), bool), Patients.of(np.asarray(code)))


@pytest.mark.parametrize("seed", range(4))
def test_a_neuron_beyond_what_shuffled_labels_can_reach_has_a_tail_of_0_and_keeps_no_other_waiting(seed, monkeypatch):
    """Six dense neurons, each follows the label more closely; those beyond the largest sum have no saddle-point."""
    rng, asked, cumulants = np.random.default_rng(seed), [], _Ragged.cumulants
    code = np.sort(np.concatenate([np.arange(60), np.arange(0, 60, 2)]))
    n = len(code)
    y = ((rng.random(60) < 0.4)[code] ^ (rng.random(n) < 0.2)).astype(np.float32)
    z_mn = np.stack([rng.normal(size=n) + follows * y for follows in (0.5, 1, 2, 4, 8, 30)])
    strength = np.array([abs(np.corrcoef(z, y)[0, 1]) for z in z_mn]) * np.sqrt(n - 1)
    monkeypatch.setattr(_Ragged, "cumulants", lambda self, st: asked.append(len(st)) or cumulants(self, st))
    columns = [(i, np.arange(n), z) for i, z in enumerate(z_mn)]
    mask, label = np.ones((n, 1), bool), np.zeros(6, np.int64)
    _, tail = clustered_tails(columns, y[:, None], mask, Patients.of(code), strength, np.ones(6), label)
    assert (np.diff(tail[np.argsort(strength)]) <= 0).all() and (tail[3:] < 1e-9).all() and tail[0] > 1e-3
    assert len(asked) < 60, "one of them must not cost the others thirty tries a step"
    assert sum(asked) < 110, "who has arrived is not asked again"
    alone = [clustered_tails([one], y[:, None], mask, Patients.of(code), strength, np.ones(6), label)[1][0]
             for one in columns]  # fmt: skip
    np.testing.assert_allclose(alone, tail, rtol=1e-9, atol=1e-200, err_msg="nobody depends on its neighbours")
    small = [(i, rows, z * 1e-4) for i, rows, z in columns]
    _, again = clustered_tails(small, y[:, None], mask, Patients.of(code), strength, np.ones(6), label)
    np.testing.assert_allclose(again, tail, rtol=1e-6, atol=1e-200, err_msg="the unit of a neuron does not matter")


def test_a_lender_knows_its_patients():
    known = np.array([1, 1, 1, 1, 1, 1, 0], bool)
    found = _Lender.of(np.array([1, 0, 0, 0, 1, 1, 1], np.float32), known, Patients.of(np.array([5, 5, 7, 7, 8, 8, 9])))
    assert found.code_n.tolist() == [0, 0, 1, 1, 2, 2, -1] and found.size_p.tolist() == [2, 2, 2]
    assert found.value.tolist() == [0, 1] and found.total_v.tolist() == [3, 3]
    assert found.mean_p.tolist() == [0.5, 0, 1] and found.positive_p.tolist() == [1, 0, 2]
    # Variance among two images is 0.5 for the first patient and 0 for the others.
    assert found.within == pytest.approx(0.5 / 3)
    assert found.weight_l == pytest.approx([1 / 3] * 3) and found.theta_lv.sum(1) == pytest.approx(1)
    single = lent([1, 0, 0], [0, 1, 2])
    assert single.within == 0 and single.weight_l.sum() == pytest.approx(1)


def test_shares_are_as_alike_as_two_rows_of_one_lender():
    share = np.array([[1.0, 0], [0.5, 0.5], [0, 1.0], [0.25, 0.75]])
    size, value = np.array([2.0, 2, 4, 4]), np.array([0.0, 1])
    found = _as_alike_as_pairs(share, size, value)
    # Two different images of one lender are both positive with chance 0, 0, 1 and 3 * 2 / (4 * 3).
    both = np.mean([0, 0, 1, 0.5])
    mean = np.mean([0, 0.5, 1, 0.75])
    assert found.mean(0) == pytest.approx(share.mean(0))
    assert found[:, 1].var() == pytest.approx(both - mean**2)
    same = _as_alike_as_pairs(np.full((3, 2), 0.5), np.array([2.0, 2, 2]), value)
    np.testing.assert_allclose(same, 0.5)
    alone = _as_alike_as_pairs(np.array([[1.0, 0], [0, 1.0]]), np.ones(2), value)
    np.testing.assert_allclose(alone, [[1, 0], [0, 1]], err_msg="single images stay as they are")


def test_chances_of_one_borrower_are_those_of_all_lenders():
    lender = lent([1, 1, 0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 2, 3, 3])
    for images in (1, 2, 3, 5):
        expected = np.zeros(images + 1)
        for rows in ([1, 1, 0], [1, 0], [0], [0, 0]):
            orders = list(permutations(rows))
            for order in orders:
                expected[sum((list(order) * images)[:images])] += 1 / len(orders) / 4
        np.testing.assert_allclose(lender.chances(images), expected, atol=1e-12)


def test_counting_patterns_is_every_way_of_lending():
    y, code = np.array([1, 1, 0, 1, 0, 0, 0, 0, 0], float), np.array([0, 0, 0, 1, 1, 2, 2, 3, 3])
    lender = lent(y, code)
    rows, z = np.array([3, 4, 7]), np.array([2.0, 1.0, 3.0])  # two images of patient 1, one of patient 3
    # Independent borrowers: every lender for each, in every order.
    ways = []
    lending = [[1, 1, 0], [1, 0], [0, 0], [0, 0]]
    for a in lending:
        for b in lending:
            for first in permutations(a):
                for second in permutations(b):
                    weight = 1 / 16 / len(list(permutations(a))) / len(list(permutations(b)))
                    ways.append((weight, 2 * first[0] + first[1] + 3 * second[0]))
    mean, n, total, square = 6 * 3 / 9, 9, 6.0, 14.0
    spread = np.sqrt((square - total**2 / n) * n * (1 / 3) * (2 / 3) / (n - 1))
    for distance in (0.3, 0.8, 1.4, 2.0):
        parts = _parts(rows, z, lender, distance)
        assert parts.start.tolist() == [0, 2] and parts.silent.tolist() == [0, 1]
        assert (parts.sizes.tolist(), parts.count.tolist()) == ([2, 3], [1, 1])
        expected = sum(weight for weight, found in ways if abs(found - mean) >= (distance - 1e-6) * spread)
        assert clustered._enumerated(parts) == pytest.approx(expected)


def test_cumulants_of_patients_and_their_slopes():
    rng = np.random.default_rng(8)
    code = np.repeat(np.arange(8), [1, 2, 3, 2, 2, 1, 4, 2])
    lender = lent((rng.random(len(code)) < 0.4).astype(float), code)
    value, theta = np.array([0.4, -0.2, 1.1, 0.3]), lender.theta_lv
    level, still = np.array([-0.4, 0.6]), -0.15
    ragged = _Ragged(value, np.zeros(4, int), np.array([0, 2, 3]), np.array([0.0, 2, 1]), np.array([1.0, 1, 3]),
                     np.zeros(3, int), np.array([still]), level[None], np.log(np.maximum(theta, 1e-300))[None],
                     lender.weight_l[None])  # fmt: skip

    def by_hand(s, t):
        def one(c):
            return np.array(
                [sum(p * np.exp((s + t * c) * v) for p, v in zip(row, level, strict=True)) for row in theta]
            )

        units = [one(0.4) * one(-0.2), one(1.1) * one(still) ** 2, one(0.3) * one(still)]
        return sum(w * np.log(lender.weight_l @ unit) for w, unit in zip((1, 1, 3), units, strict=True))

    s, t, h = 0.7, -1.3, 1e-4
    k, gradient, hessian = ragged.cumulants(np.array([[s, t]]))
    assert k[0] == pytest.approx(by_hand(s, t))
    assert gradient[0, 0] == pytest.approx((by_hand(s + h, t) - by_hand(s - h, t)) / (2 * h), rel=1e-5)
    assert gradient[0, 1] == pytest.approx((by_hand(s, t + h) - by_hand(s, t - h)) / (2 * h), rel=1e-5)
    ss = (by_hand(s + h, t) - 2 * by_hand(s, t) + by_hand(s - h, t)) / h**2
    tt = (by_hand(s, t + h) - 2 * by_hand(s, t) + by_hand(s, t - h)) / h**2
    st = (by_hand(s + h, t + h) - by_hand(s + h, t - h) - by_hand(s - h, t + h) + by_hand(s - h, t - h)) / (4 * h * h)
    assert hessian[0] == pytest.approx([ss, st, tt], rel=1e-4)


def test_whole_patients_are_sums_of_activations_beside_mean_labels():
    y, code = [1, 1, 0, 1, 0, 0, 0, 0], np.array([0, 0, 1, 1, 2, 2, 3, 3])
    lender = lent(y, code)
    rows, z = np.array([0, 1, 2, 5]), np.array([1.0, 2.0, 4.0, 1.0])
    found = _whole_patients(9, rows, z, lender, 3.0)
    assert found.neuron == 9 and found.units == 4 and found.level.tolist() == [0, 0.5, 1]
    assert found.count.tolist() == [2, 1, 1]
    assert sorted(found.value) == pytest.approx([-2, -1, 1, 2]), "sums 3, 4, 1, 0 beside two images' share of 8 each"
    label = 3 / 8 * 5 / 8
    alone = (22 - 64 / 8) * 8 * label / 7
    within = (22 - (9 + 16 + 1) / 2) * lender.within
    between = 10 * np.var([1, 0.5, 0, 0]) * 4 / 3
    assert lender.within == pytest.approx(0.5 / 4)
    assert found.distance == pytest.approx(3.0 * np.sqrt(alone / (between + within)))


def test_batches_of_patients_give_what_each_gives_alone(monkeypatch):
    rng = np.random.default_rng(11)
    code = np.repeat(np.arange(50), 3)
    y = (rng.random((150, 3)) < [0.2, 0.4, 0.3]).astype(np.float32)
    y[::7, 2] = -1  # three values
    patients, mask = Patients.of(code), np.ones((150, 3), bool)
    columns, label = [], []
    for i, firing in enumerate((3, 20, 25, 40, 18, 30, 6)):
        rows = np.sort(rng.choice(150, firing, replace=False))
        columns.append((i, rows, rng.exponential(1, firing)))
        label.append(i % 3)
    distance, scale = np.full(7, 2.2), np.linspace(0.8, 1.2, 7)

    def of(some):
        return clustered_tails(some, y, mask, patients, distance, scale, np.array(label))

    alone = [of([one])[1][0] for one in columns]
    neurons, tail_p_ = of(columns)
    assert neurons.tolist() == list(range(7)) and 0 < min(alone) < max(alone) < 0.5
    np.testing.assert_allclose(tail_p_, alone, rtol=1e-4)
    monkeypatch.setattr(clustered, "CELLS", 300)
    np.testing.assert_allclose(of(columns)[1], alone, rtol=1e-4)


@pytest.mark.parametrize("sparse", [True, False])
def test_own_tail_is_over_the_images_where_the_label_is_known_times_the_labels(sparse):
    z = np.zeros((12, 3), np.float32)
    z[[0, 1, 5, 11], 1] = [3.0, 1.0, 2.0, 9.0]  # the label of image 11 is not known
    z[:, 0], z[2, 2] = 1.0, 1.0
    y, mask = np.zeros((12, 2), np.float32), np.ones((12, 2), bool)
    y[[0, 5, 6], 1], mask[11, 1] = 1, False
    held = Held(ArraySource(z, sparse), 12)
    for _ in held.first_pass():
        pass
    strength = np.full((3, 2), 0.1)
    strength[1, 1] = 2.4
    strength[2, 0] = np.nan
    p, label = np.array([0.5, 0.01, 0.04]), np.array([0, 1, 1])
    found = tail_p(held, y, mask, Patients.of(np.arange(12)), strength, p, label, np.ones(3))
    expected = counted(np.array([3.0, 1.0, 2.0]), 11, (0.0, 1.0), 3, 2.4)
    assert 0 < expected < 0.1 and found[1] == pytest.approx(2 * expected)
    assert found[0] == 0.5, "not promising" and found[2] == 1.0
    assert tail_p(held, y, mask, Patients.of(np.arange(12)), strength, p + 0.05, label, np.ones(3))[1] == pytest.approx(
        0.06
    )


def test_saddle_point_of_patients_is_near_the_counted_patterns():
    rng = np.random.default_rng(12)
    code = np.repeat(np.arange(40), 3)
    y = (rng.random(40)[code] * 0.7 + rng.random(120) * 0.3 > 0.72).astype(float)
    lender = lent(y, code)
    rows = np.array([0, 1, 4, 7, 8, 30, 45, 60, 61, 77, 90, 110])
    # Counting lends with replacement and so gives a little more here, where a quarter of the patients fire.
    for distance in (1.5, 2.2):
        parts = _parts(rows, rng.uniform(2, 5, 12), lender, distance)
        counted_p, saddle_p = clustered._enumerated(parts), clustered._saddle([parts])[0]
        assert 0.001 < counted_p < 0.3 and saddle_p == pytest.approx(counted_p, rel=0.35)
