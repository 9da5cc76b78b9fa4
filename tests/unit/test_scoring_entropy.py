"""Entropy (Eq. 4-5) and the intervals that stand beside shares, correlations and many tests."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medsae.rates import benjamini_hochberg, centred_interval, rho_interval, wilson
from medsae.scoring.entropy import ALL_ZERO, NO_LABEL, entropy


def test_hand_computed():
    nan = np.nan
    rho = np.array(
        [
            [0.5, 0, 0, 0],  # one label: 0 bits
            [0.3, -0.3, 0, 0],  # two equal: 1 bit, whatever the sign
            [0.1, 0.1, 0.1, 0.1],  # four equal: 2 bits
            [0.4, 0.2, 0.2, 0],  # p = 1/2, 1/4, 1/4: 1.5 bits
            [0.2, nan, -0.2, nan],  # undefined labels are left out
            [nan, 0.4, nan, nan],
            [nan, nan, nan, nan],
            [0, 0, nan, 0],
            [1e-200, 1e-200, 0, 0],  # tiny is not zero
        ]
    )
    found = entropy(rho)
    np.testing.assert_allclose(found.bits_m, [0, 1, 2, 1.5, 1, 0, nan, nan, 1], atol=1e-12)
    assert found.reason_m.tolist() == [""] * 6 + [NO_LABEL, ALL_ZERO, ""]
    assert found.labels_m.tolist() == [4, 4, 4, 4, 2, 1, 0, 3, 4]
    np.testing.assert_allclose(found.normalised_m, [0, 0.5, 1, 0.75, 1, nan, nan, nan, 0.5], atol=1e-12)


def test_pure_noise_over_fourteen_labels_gives_3_419_bits():
    bits = entropy(np.random.default_rng(0).standard_normal((200_000, 14))).bits_m
    assert bits.mean() == pytest.approx(3.419, abs=0.002)
    assert (bits * np.log(2)).mean() == pytest.approx(2.370, abs=0.002)


@settings(max_examples=100, deadline=None)
@given(rho=arrays(float, (4, 6), elements=st.floats(-1, 1)), seed=st.integers(0, 99), scale=st.floats(1e-6, 1))
def test_entropy_is_bounded_and_blind_to_order_sign_and_scale(rho, seed, scale):
    bits = entropy(rho).bits_m
    rng = np.random.default_rng(seed)
    assert np.all((bits[np.isfinite(bits)] >= 0) & (bits[np.isfinite(bits)] <= np.log2(6) + 1e-12))
    np.testing.assert_array_equal(np.isnan(bits), ~rho.any(1))
    np.testing.assert_allclose(entropy(rho[:, rng.permutation(6)]).bits_m, bits, atol=1e-9)
    np.testing.assert_allclose(entropy(rho * rng.choice([-1, 1], rho.shape)).bits_m, bits, atol=1e-9)
    large = np.where(np.abs(rho) > 1e-100, rho, 0)
    np.testing.assert_allclose(entropy(large * scale).bits_m, entropy(large).bits_m, atol=1e-9)


def test_wilson_hand_computed():
    low, high = wilson(42, 60)  # an accuracy of 0.70 in a detection test of 60 images
    assert (float(low), float(high)) == pytest.approx((0.575, 0.801), abs=5e-4)
    low, high = wilson([0, 10, 0], [10, 10, 0])
    np.testing.assert_allclose(low[:2], [0, 0.7225], atol=1e-4)
    np.testing.assert_allclose(high[:2], [0.2775, 1], atol=1e-4)
    assert np.isnan(low[2]) and np.isnan(high[2])


def test_fisher_interval_hand_computed():
    low, high = rho_interval(0.5, 28)  # atanh .5 = .5493, se = 1/5: tanh(.5493 -+ .392)
    assert (float(low), float(high)) == pytest.approx((np.tanh(0.5493 - 0.392), np.tanh(0.5493 + 0.392)), abs=1e-4)
    assert np.isnan(rho_interval(np.nan, 100)).all() and np.isnan(rho_interval(0.5, 3)).all()
    assert rho_interval(1.0, 50) == (1, 1)


def test_benjamini_hochberg_hand_computed():
    p = [0.01, np.nan, 0.04, 0.03, 0.005]  # 4 tests: .005*4, .01*4/2, .03*4/3, .04
    np.testing.assert_allclose(benjamini_hochberg(p), [0.02, np.nan, 0.04, 0.04, 0.02])
    assert len(benjamini_hochberg([])) == 0


@settings(max_examples=50, deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=30), level=st.floats(0.01, 0.5))
def test_benjamini_hochberg_calls_what_its_definition_calls(p, level):
    q = benjamini_hochberg(p)
    assert np.all(q >= np.array(p) - 1e-12)
    ordered = np.sort(p)
    passing = np.flatnonzero(ordered * len(p) / np.arange(1, len(p) + 1) <= level)
    assert (q <= level).sum() == (0 if not len(passing) else (np.array(p) <= ordered[passing[-1]]).sum())


def test_bootstrap_interval_is_centred_on_the_value():
    draws = np.arange(101.0)  # mean 50, 2.5 % and 97.5 % quantile 2.5 and 97.5
    assert centred_interval(10, draws) == pytest.approx((-37.5, 57.5))
    assert np.isnan(centred_interval(10, [1.0, np.nan])).all()
    assert np.isnan(centred_interval(np.nan, draws)).all()
