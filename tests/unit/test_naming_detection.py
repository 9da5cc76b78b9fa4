"""The detection score: hand-computed cases, and its behaviour when the judge knows nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, hypergeom

from medsae.naming.detection import Paired, auroc, detect, exchanged, fisher, paired
from medsae.naming.memory import Known
from medsae.naming.replies import Explanation
from medsae.naming.result import result
from medsae.naming.selection import Plan
from medsae.naming.selection import Tested as OnePicture
from medsae.rates import benjamini_hochberg

NAN = float("nan")


def test_by_hand():
    """8 pictures, 4 fire; 3 of 4 found, 1 of 4 false: accuracy 6/8; Fisher: P(3 or 4 of 4 | 4 yes) = 17/70."""
    fires = [True] * 4 + [False] * 4
    yes = [1, 1, 1, 0, 1, 0, 0, 0]
    found = detect(np.array(fires), np.array(yes, float), np.array([0.9, 0.8, 0.7, 0.2, 0.6, 0.3, 0.1, 0.1]), True)
    assert (found.asked, found.judged, found.correct, found.accuracy) == (8, 8, 6, 0.75)
    assert (found.sensitivity, found.specificity) == (0.75, 0.75)
    assert found.p == pytest.approx(17 / 70)
    assert found.auroc == pytest.approx((4 + 4 + 4 + 2) / 16)


def test_verdicts_that_failed_are_left_out_also_as_none():
    found = detect([True, False, True], [1, 0, None], [None, 0.2, 0.4], True)  # pyright: ignore[reportArgumentType]
    assert (found.asked, found.judged, found.correct) == (3, 2, 2)


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_fishers_tail_is_the_hypergeometric_one(n, positives, yes, hits):
    positives, yes = min(positives, n), min(yes, n)
    hits = min(max(hits, positives + yes - n), positives, yes)
    assert fisher(hits, n, positives, yes) == pytest.approx(hypergeom.sf(hits - 1, n, positives, yes), rel=1e-9)


def test_the_papers_interval():
    """n = 60, accuracy 0.70: Wilson [0.575, 0.801]."""
    fires = np.arange(60) < 30
    yes = fires.copy()
    yes[[0, 1, 2, 3, 4, 5, 6, 7, 8, 30, 31, 32, 33, 34, 35, 36, 37, 38]] ^= True
    found = detect(fires, yes.astype(float), np.full(60, NAN), False)
    assert found.accuracy == pytest.approx(0.70)
    assert found.low == pytest.approx(0.575, abs=5e-4) and found.high == pytest.approx(0.801, abs=5e-4)
    assert found.auroc is None


def test_failed_verdicts_are_left_out_not_counted_as_no():
    fires = np.array([True] * 5 + [False] * 5)
    yes = np.array([NAN] * 4 + [1] + [0] * 5)
    found = detect(fires, yes, np.full(10, NAN), True)
    assert (found.judged, found.accuracy, found.coverage) == (6, 1.0, 0.6)


def test_balanced_accuracy_does_not_reward_the_larger_side():
    """Always no, with 1 firing and 9 silent pictures judged: 0.9 are right, balanced it is 0.5."""
    fires = np.array([True] + [False] * 9)
    assert detect(fires, np.zeros(10), np.full(10, NAN), True).accuracy == 0.5
    assert detect(fires, np.zeros(10), np.full(10, NAN), False).accuracy == 0.9


@pytest.mark.parametrize("yes", [[1.0] * 10, [0.0] * 10])
def test_a_judge_who_always_says_the_same_proves_nothing(yes):
    found = detect(np.arange(10) < 5, np.array(yes), np.full(10, NAN), True)
    assert (found.accuracy, found.p) == (0.5, 1.0)


@pytest.mark.parametrize("judged", [[], [0], [1]])
def test_nothing_or_one_side_judged_is_undefined(judged):
    fires = np.array([True, False])
    yes = np.array([1.0 if i in judged else NAN for i in range(2)])
    found = detect(fires, yes, np.full(2, NAN), True)
    assert found.accuracy is None and found.low is None and found.p is None and found.judged == len(judged)
    assert detect(np.zeros(0, bool), np.zeros(0), np.zeros(0), True).coverage == 0.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=40))
def test_auroc_is_the_share_of_ordered_pairs(pairs):
    fires, p = np.array([f for f, _ in pairs]), np.array([x for _, x in pairs])
    a, b = p[fires], p[~fires]
    if len(a) and len(b):
        share = ((a[:, None] > b).sum() + 0.5 * (a[:, None] == b).sum()) / (len(a) * len(b))
        assert auroc(fires, p) == pytest.approx(share)
    else:
        assert auroc(fires, p) is None


def test_the_false_discovery_rate_holds_over_a_thousand_null_neurons():
    """Judges who know nothing of 1,000 neurons, each with a yes-rate of its own: alone they are not found; beside 100
    neurons whose judge is right in 85 % the share of false ones among the found stays below 5 %."""
    rng = np.random.default_rng(0)
    fires, unknown = np.arange(60) < 30, np.full(60, NAN)
    alone, shares, p_values = 0, [], []
    for _ in range(6):
        yes = rng.random((1000, 60)) < rng.uniform(0.1, 0.9, (1000, 1))
        p_null = np.array([detect(fires, row, unknown, True).p for row in yes])
        right = rng.random((100, 60)) < 0.85
        p_true = np.array([detect(fires, row, unknown, True).p for row in np.where(right, fires, ~fires)])
        found = benjamini_hochberg(np.concatenate([p_null, p_true])) <= 0.05
        alone += bool((benjamini_hochberg(p_null) <= 0.05).any())
        shares.append(found[:1000].sum() / found.sum())
        p_values.append(p_null)
        assert found[1000:].mean() > 0.95
    assert np.mean(np.concatenate(p_values) <= 0.05) <= 0.05
    assert alone <= 1 and np.mean(shares) <= 0.05


# --- does this name matter?


def test_mcnemar_by_hand():
    """Ten pictures: 6 right for the own name alone, 1 for the control alone, 3 for both: P(X >= 6 | 7, 1/2) = 8/128."""
    own = np.array([1, 1, 1, 1, 1, 1, 0, 1, 1, 1])
    control = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
    fires = np.array([True, False] * 5)
    found = paired(own, control, fires)
    assert found == Paired(6, 1, 8 / 128)
    assert paired(own, own, fires) == Paired(0, 0, 1.0)
    # A failed verdict takes its picture along, and one of the other side for balance (the last silent one, "both").
    missing = paired(np.where(np.arange(10) == 0, np.nan, own), control, fires)
    assert missing == Paired(5, 1, 7 / 64)
    assert paired(own, control, np.ones(10, bool)) is None and paired(own * np.nan, control, fires) is None


def test_pictures_of_a_patient_are_exchanged_together():
    """Three patients: +2, +1, -1. Of the 8 ways 3 reach 2 or more (++-: 2, +++: 4, ++ with the third +...)."""
    found = exchanged(np.array([1, 1, 1, -1]), np.array([7, 7, 8, 9]))
    sums = [a * 2 + b + c for a in (1, -1) for b in (1, -1) for c in (1, -1)]
    assert found == Paired(3, 1, sum(s >= 2 for s in sums) / 8)
    # A patient's pictures that cancel each other say nothing.
    assert exchanged(np.array([1, -1]), np.array([1, 1])).p == 1.0
    rng = np.random.default_rng(0)
    d = rng.integers(-1, 2, 30)
    assert exchanged(d).p == pytest.approx(
        binomtest(int((d > 0).sum()), int((d != 0).sum()), alternative="greater").pvalue
    )


JUDGES = {
    "always yes": lambda rng, i, about: True,
    "random": lambda rng, i, about: rng.random() < 0.5,
    "by brightness": lambda rng, i, about: (i * 7919 % 101) > 50,
    "by view": lambda rng, i, about: i % 3 == 0,
    "likes some names": lambda rng, i, about: rng.random() < {"name": 0.9, "shuffled": 0.2, "random": 0.4}[about],
}


@pytest.mark.parametrize("judge", JUDGES)
def test_name_blind_judges_pass_at_the_nominal_rate(judge):
    """1,000 neurons that follow brightness or nothing, by the way of a run: at most 5 % + 2 standard errors pass."""
    rng, passed = np.random.default_rng(1), 0
    for neuron in range(1000):
        firing = rng.permutation(400)
        # Half of the neurons fire on bright pictures, which a judge by brightness recognises for any name.
        firing = sorted(firing, key=lambda i: -(i * 7919 % 101)) if neuron % 2 else firing
        tested = [OnePicture(int(i), True, 1.0, 1) for i in firing[:30]]
        tested += [OnePicture(int(i), False, 0.0, None) for i in firing[-30:]]
        said = {about: {t.image: Known("ok", JUDGES[judge](rng, t.image, about), None, None, None) for t in tested}
                for about in ("name", "shuffled", "random")}  # fmt: skip
        names = {about: (about, "", None) for about in said}
        row = result(Plan(neuron, tested=tuple(tested)), Explanation("ok", "x", "y"), names, said, balanced=True)
        assert row["specific_p"] == max(row["shuffled_p"], row["random_p"])
        passed += row["specific_p"] <= 0.05
    assert passed / 1000 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000)


def test_a_judge_who_sees_passes():
    rng = np.random.default_rng(2)
    tested = [OnePicture(i, i < 30, float(i < 30), 1 if i < 30 else None) for i in range(60)]
    own = {t.image: Known("ok", bool(t.fires != (rng.random() < 0.2)), None, None, None) for t in tested}
    coin = {t.image: Known("ok", bool(rng.random() < 0.5), None, None, None) for t in tested}
    names = {"name": ("a", "", None), "shuffled": ("b", "", 3)}
    row = result(
        Plan(0, tested=tuple(tested)), Explanation("ok", "a", ""), names, {"name": own, "shuffled": coin}, True
    )
    assert row["specific_p"] == row["shuffled_p"] < 0.01 and "random_p" not in row
