"""Pearson from one pass of sufficient statistics (Eq. 3), and the label policy that decides over which images."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae.progress import UserError
from medsae.scoring import sufficient, threads
from medsae.scoring.activity import ArraySource, Held, gathered, nonzeros
from medsae.scoring.draws import Patients, Resamples, correlations_of_draws
from medsae.scoring.labels import label_matrix, mask_patterns, one_hot
from medsae.scoring.null import largest
from medsae.scoring.sufficient import REASONS, Sufficient


def correlate(z, y, mask=None, blocks=1):
    mask = np.ones(y.shape, bool) if mask is None else mask
    sums = Sufficient(y, mask)
    for rows in np.array_split(np.arange(len(z)), blocks):
        sums.update(z[rows], rows)
    return sums.result()


def example(seed, n=60, m=5, k=3, sparse=False, missing=0.3):
    rng = np.random.default_rng(seed)
    z = rng.normal(3, 1, (n, m)).astype(np.float32)
    if sparse:
        z = np.where(rng.random((n, m)) < 0.3, z, 0).astype(np.float32)
    return z, (rng.random((n, k)) < 0.4).astype(np.float32), rng.random((n, k)) >= missing


@pytest.mark.parametrize("missing", [0, 0.3])
def test_the_bits_do_not_depend_on_the_number_of_cores(monkeypatch, missing):
    """A product of other columns at once has other last bits: a shard on one core would make another piece."""
    monkeypatch.setattr(sufficient, "NEURONS", 64)
    z, y, mask = example(0, n=777, m=330, k=14, missing=missing)
    found = []
    for cores in (1, 2, 3, 8):
        monkeypatch.setattr(threads, "CORES", cores)
        found.append(correlate(z, y, mask).rho_mk.tobytes())
    assert len(set(found)) == 1


def test_what_one_strip_raises_is_raised(monkeypatch):
    def work(part):
        if part == slice(4, 6):
            raise ValueError("the third")

    for cores in (1, 2):
        monkeypatch.setattr(threads, "CORES", cores)
        with pytest.raises(ValueError, match="the third"):
            threads.strips(work, 7, 2)


def test_hand_computed():
    # z - mean = (-1.5, -.5, .5, 1.5), sum of squares 5; y - mean = (-.5, -.5, .5, .5), sum of squares 1; product sum 2.
    z = np.array([[1, 4], [2, 3], [3, 2], [4, 1]], np.float32)
    y = np.array([[0, 1], [0, 0], [1, 0], [1, 1]], np.float32)
    found = correlate(z, y)
    expected = 2 / np.sqrt(5)
    np.testing.assert_allclose(found.rho_mk, [[expected, 0], [-expected, 0]], atol=1e-7)
    np.testing.assert_array_equal(found.n_k, [4, 4])
    np.testing.assert_allclose(found.mean_m, [2.5, 2.5])
    np.testing.assert_allclose(found.std_m, np.sqrt(1.25))


def test_missing_labels_are_pairwise_as_in_pandas():
    z, y, mask = example(1, n=200, m=7, k=4)
    table = pd.DataFrame(np.where(mask, y, np.nan))
    expected = [[table[j].corr(pd.Series(z[:, i].astype(float))) for j in range(4)] for i in range(7)]
    found = correlate(z, y, mask, blocks=3)
    np.testing.assert_allclose(found.rho_mk, expected, atol=1e-6)
    np.testing.assert_array_equal(found.n_k, mask.sum(0))


def test_sparse_blocks_give_the_same_and_meet_dense_ones():
    z, y, mask = example(2, sparse=True)
    dense = correlate(z, y, mask).rho_mk
    whole = Sufficient(y, mask).update(nonzeros(z), slice(0, 60)).result().rho_mk
    mixed = Sufficient(y, mask).update(z[:20], slice(0, 20)).update(nonzeros(z[20:]), slice(20, 60)).result().rho_mk
    np.testing.assert_allclose(whole, dense, atol=1e-6)
    np.testing.assert_allclose(mixed, dense, atol=1e-6)


def test_a_sparse_block_meets_a_dense_one_whose_neurons_rarely_are_silent():
    """Only neurons that fire on most of the first images are shifted: sums of sparse blocks must follow that shift."""
    z, y, mask = example(5, missing=0.3)
    z[:, 3] += 500
    expected = correlate(z, y, mask)
    mixed = Sufficient(y, mask).update(z[:20], slice(0, 20))
    assert mixed.shift_m is not None and (mixed.shift_m != 0).all(), "the case that this test is about"
    found = mixed.update(nonzeros(z[20:]), slice(20, 60)).result()
    np.testing.assert_allclose(found.rho_mk, expected.rho_mk, atol=2e-6)
    np.testing.assert_allclose(found.mean_m, z.mean(0, dtype=float), rtol=1e-6)
    np.testing.assert_allclose(found.std_m, z.std(0, dtype=float), rtol=1e-5)


def test_a_mean_far_above_the_spread_does_not_cancel():
    rng = np.random.default_rng(0)
    z = (1000 + rng.normal(0, 0.1, (3000, 2))).astype(np.float32)
    y = (rng.random((3000, 1)) < 0.3).astype(np.float32)
    wide = z.astype(float)
    expected = [np.corrcoef(wide[:, i], y[:, 0])[0, 1] for i in range(2)]
    np.testing.assert_allclose(correlate(z, y, blocks=4).rho_mk[:, 0], expected, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), blocks=st.integers(1, 9), sparse=st.booleans(), scale=st.floats(1e-3, 1e3))
def test_order_of_images_and_scale_of_activations_do_not_matter(seed, blocks, sparse, scale):
    z, y, mask = example(seed, sparse=sparse)
    order = np.random.default_rng(seed).permutation(60)
    expected = correlate(z, y, mask)
    moved = correlate(z[order], y[order], mask[order], blocks)
    scaled = correlate((z * scale).astype(np.float32), y, mask)
    flipped = correlate(-z, y, mask)
    for other, sign in ((moved, 1), (scaled, 1), (flipped, -1)):
        np.testing.assert_allclose(sign * other.rho_mk, expected.rho_mk, atol=3e-6)
        np.testing.assert_array_equal(other.reason_mk, expected.reason_mk)
    assert np.nanmax(np.abs(expected.rho_mk)) <= 1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), cuts=st.sets(st.integers(1, 59), max_size=6), order=st.randoms())
def test_shards_merge_in_any_order(seed, cuts, order):
    z, y, mask = example(seed)
    shards = [
        Sufficient(y, mask).update(z[rows], rows) for rows in np.split(np.arange(60), sorted(cuts))
    ]  # fmt: skip
    order.shuffle(shards)
    merged = Sufficient(y, mask)
    for shard in shards:
        merged.merge(shard)
    assert merged.rows == 60
    found = merged.result()
    np.testing.assert_allclose(found.mean_m, z.mean(0, dtype=float), rtol=1e-5)
    np.testing.assert_allclose(found.std_m, z.std(0, dtype=float), rtol=1e-4)
    np.testing.assert_allclose(merged.result().rho_mk, correlate(z, y, mask).rho_mk, atol=1e-6)


def test_undefined_has_a_reason():
    z = np.zeros((6, 3), np.float32)
    z[:, 0] = [1, 2, 3, 4, 5, 6]
    z[:, 1] = 0.1  # constant, and 0.1 is not a binary fraction
    y = np.array([[0, 1, 1, 0], [1, 1, 0, 1], [0, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 0], [1, 1, 1, 0]], np.float32)
    mask = np.ones((6, 4), bool)
    mask[2:, 2] = False
    found = correlate(z, y, mask, blocks=2)
    text = np.array(REASONS)[found.reason_mk]
    assert text[0].tolist() == ["", "constant label", "fewer than 3 images", ""]
    assert text[1].tolist() == ["constant neuron", "constant label", "fewer than 3 images", "constant neuron"]
    assert text[2].tolist() == text[1].tolist()
    np.testing.assert_array_equal(np.isnan(found.rho_mk), text != "")


def test_a_neuron_that_fires_only_where_a_label_is_unknown_is_constant_for_that_label():
    z = np.array([[5], [3], [0], [0], [0], [0]], np.float32)
    y = np.array([[0, 1], [0, 0], [1, 1], [0, 0], [1, 1], [0, 0]], np.float32)
    mask = np.ones((6, 2), bool)
    mask[:2, 0] = False
    for block in (z, nonzeros(z)):
        found = Sufficient(y, mask).update(block, slice(0, 6)).result()
        assert [REASONS[r] for r in found.reason_mk[0]] == ["constant neuron", ""]


def test_activations_that_are_not_finite_are_refused():
    z, y, mask = example(3)
    z[4, 2] = np.nan
    with pytest.raises(UserError, match="NaN or infinite"):
        correlate(z, y, mask)
    with pytest.raises(UserError, match="neuron 2"):
        Sufficient(y, mask).update(nonzeros(z), slice(0, 60)).result()


@pytest.mark.parametrize(
    ("uncertain", "unstated", "y", "mask"),
    [
        ("missing", "missing", [1, 0, 0, 0], [1, 1, 0, 0]),
        ("zero", "missing", [1, 0, 0, 0], [1, 1, 1, 0]),
        ("one", "zero", [1, 0, 1, 0], [1, 1, 1, 1]),
        ("keep", "zero", [1, 0, -1, 0], [1, 1, 1, 1]),
        ("keep", "missing", [1, 0, -1, 0], [1, 1, 1, 0]),
    ],
)
def test_label_policy(uncertain, unstated, y, mask):
    whole = np.array([[1], [0], [-1], [-128]], np.int8)
    broken = np.array([[1], [0], [-1], [np.nan]])
    for values in (whole, broken):
        found, known = label_matrix(values, uncertain, unstated)
        assert found[:, 0].tolist() == y
        assert known[:, 0].tolist() == [bool(v) for v in mask]


def test_strange_label_values_are_refused_and_named():
    with pytest.raises(UserError, match=r"the first is 2.*\n.*image 1, label 0"):
        label_matrix(np.array([[1], [2]], np.int8))
    with pytest.raises(UserError, match=r"0\.5"):
        label_matrix(np.array([[0.5], [np.nan]]))


def test_mask_patterns_and_attributes():
    mask = np.array([[1, 1, 0], [0, 0, 1], [1, 1, 1]], bool)
    patterns, index = mask_patterns(mask)
    assert index.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(patterns[:, index], mask)
    y, known, names = one_hot(np.array(["AP", "PA", None, "AP", "PA", "AP", "PA", "LL"], object))
    assert names == ["AP", "PA"]
    assert y[:, 0].tolist() == [1, 0, 0, 1, 0, 1, 0, 0]
    assert known.sum(0).tolist() == [7, 7]
    assert y.dtype == np.float32, "columns beside the labels, in their numbers"
    assert one_hot(np.array([None, None]))[0].shape == (2, 0)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 50), block=st.integers(1, 20), rows=st.integers(1, 20))
def test_blocks_of_any_size_are_gathered_without_loss(n, block, rows):
    z = np.arange(n * 2, dtype=np.float32).reshape(n, 2)
    parts = list(gathered(ArraySource(z, rows=block), n, rows))
    np.testing.assert_array_equal(np.concatenate([z for _, z in parts]), z)
    assert [p.start for p, _ in parts[1:]] == [p.stop for p, _ in parts[:-1]]
    assert all(len(z) >= rows for _, z in parts[:-1]) and all(len(z) < 2 * rows for _, z in parts)


def test_rounding_never_takes_a_correlation_beyond_one():
    y = (np.random.default_rng(0).random(300) < 0.3).astype(np.float32)
    z = (y[:, None] * np.linspace(-3, 5, 400)[None]).astype(np.float32)
    held = Held(ArraySource(z, True), 300)
    for _ in held.first_pass():
        pass
    once = Resamples(Patients.of(np.arange(300)), 3, 0)
    for rho, _ in correlations_of_draws(held, y[:, None], np.ones((300, 1), bool), once):
        size = np.abs(rho[np.isfinite(rho)])
        assert len(size) >= 398 and size.min() > 1 - 1e-6 and size.max() <= 1
        assert set(np.sign(rho[np.isfinite(rho)])) == {-1, 1}


def test_the_largest_of_each_row_and_where_it_stands():
    value, where = largest(np.array([[0.2, np.nan, 0.7], [np.nan] * 3, [0.0, 0.0, np.nan], [3.0, 1.0, 2.0]]))
    np.testing.assert_array_equal(value, [0.7, np.nan, 0.0, 3.0])
    assert where.tolist() == [2, -1, 0, 0]
