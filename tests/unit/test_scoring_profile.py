"""Profiles of neurons: firing, range, histogram, the images kept; neighbours and matches between trainings."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kurtosis

from medsae.scoring.activity import ArraySource, Held
from medsae.scoring.neighbours import coactivation_neighbours, decoder_neighbours
from medsae.scoring.profile import BINS, profile
from medsae.scoring.stability import stability


def profiled(z, sparse, top=3, most=10**6, rows=7):
    held = Held(ArraySource(z, sparse, rows), len(z), most)
    for _ in held.first_pass():
        pass
    return held, profile(held, z.mean(0, dtype=float), top)


def example(seed=0, n=50, m=6):
    rng = np.random.default_rng(seed)
    z = np.where(rng.random((n, m)) < 0.4, rng.integers(1, 9, (n, m)), 0).astype(np.float32)
    z[:, 4] = 0
    return z


@pytest.mark.parametrize("most", [10**6, 20])
def test_moments_and_histogram_of_a_sparse_neuron(most):
    z = example()
    _, found = profiled(z, True, most=most)
    np.testing.assert_array_equal(found.active_m, (z != 0).sum(0))
    np.testing.assert_array_equal(found.low_m, z.min(0))
    np.testing.assert_array_equal(found.high_m, z.max(0))
    live = [0, 1, 2, 3, 5]
    np.testing.assert_allclose(1 / found.spread_m[live], kurtosis(z[:, live].astype(float), fisher=False), rtol=1e-5)
    assert found.spread_m[4] == 0 and not found.counts_mb[4].any()
    for i in live:
        fires = z[z[:, i] != 0, i]
        np.testing.assert_array_equal(found.counts_mb[i], np.histogram(fires, BINS, (0, fires.max()))[0])
        np.testing.assert_allclose(found.edges_mb[i], np.linspace(0, fires.max(), BINS + 1), rtol=1e-6)


def test_every_nonzero_is_kept_sorted():
    z = example()
    kept = profiled(z, True)[1].activations
    table = pd.DataFrame(dict(neuron=kept.neuron, image=kept.image, value=kept.value))
    rows, columns = np.nonzero(z)
    expected = pd.DataFrame(dict(neuron=columns, image=rows, value=z[rows, columns]))
    expected = expected.sort_values(["neuron", "value", "image"], ascending=[True, False, True], ignore_index=True)
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)
    assert kept.complete


def test_a_sparse_representation_too_big_to_hold_keeps_its_largest():
    z = example()
    held, found = profiled(z, True, top=3, most=20)
    kept = found.activations
    assert held.held is None and not kept.complete
    whole = profiled(z, True)[1].activations
    for i in range(6):
        np.testing.assert_array_equal(kept.image[kept.neuron == i], whole.image[whole.neuron == i][:3])


@pytest.mark.parametrize("n", [5, 6, 50])
def test_both_ends_of_a_dense_neuron_without_doubles(n):
    z = np.random.default_rng(1).standard_normal((n, 4)).astype(np.float32)
    kept = profiled(z, False)[1].activations
    assert kept.complete == (n <= 6)
    for i in range(4):
        image = kept.image[kept.neuron == i]
        order = np.argsort(-z[:, i])
        expected = order if n <= 6 else np.concatenate([order[:3], order[-3:]])
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(kept.value[kept.neuron == i], z[image, i])
    counts = profiled(z, False)[1].counts_mb
    assert (counts.sum(1) == n).all()


def test_decoder_neighbours():
    decoder = np.array([[1, 0], [2, 0.2], [0, 3], [0, 0], [-1, 0]], np.float32)
    found = decoder_neighbours(decoder, top=2)
    first = found[found.neuron == 0]
    assert first.other.tolist() == [1, 2] and first["rank"].tolist() == [1, 2]
    assert first.value.iloc[0] == pytest.approx(2 / np.hypot(2, 0.2)) and first.value.iloc[1] == pytest.approx(0)
    assert 3 not in found.neuron.to_numpy() and 3 not in found.other.to_numpy()
    assert decoder_neighbours(decoder[:1]).empty


@pytest.mark.parametrize("measure", ["cosine", "jaccard"])
def test_neurons_that_fire_together(measure):
    z = example()
    z[:, 5] = np.where(z[:, 0] > 0, 1, 0)
    held, _ = profiled(z, True)
    found = coactivation_neighbours(held, 3, measure)
    fires = z if measure == "cosine" else (z > 0)
    for neuron, other, value in found[["neuron", "other", "value"]].itertuples(index=False):
        a, b = fires[:, neuron].astype(float), fires[:, other].astype(float)
        expected = a @ b / np.sqrt(a @ a * (b @ b)) if measure == "cosine" else (a * b).sum() / np.maximum(a, b).sum()
        assert value == pytest.approx(expected, rel=1e-5)
    assert found[found.neuron == 0].other.iloc[0] == 5
    assert 4 not in found.other.to_numpy() and 4 not in found.neuron.to_numpy()


def test_dense_neurons_that_move_together():
    z = np.random.default_rng(2).standard_normal((300, 5)).astype(np.float32)
    z[:, 3] = 4 + z[:, 1] + 0.1 * z[:, 0]
    held = Held(ArraySource(z), 300)
    for _ in held.first_pass():
        pass
    held.center(z.mean(0, dtype=float))
    first = coactivation_neighbours(held, 1).set_index("neuron")
    assert first.other[1] == 3 and first.value[1] == pytest.approx(np.corrcoef(z[:, 1], z[:, 3])[0, 1], abs=1e-4)


def test_shuffled_neurons_of_one_training_are_matched_again():
    rng = np.random.default_rng(3)
    a = rng.standard_normal((40, 16))
    order = rng.permutation(40)
    found = stability(a, 3 * a[order][:30])
    assert len(found.a) == 30 and found.mean == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(order[found.b], found.a)
    assert found.random_mean < 0.8


def test_independent_trainings_are_matched_no_better_than_by_luck():
    rng = np.random.default_rng(4)
    scale = np.geomspace(1, 0.1, 16)  # both crowd into the same few dimensions
    a, b = rng.standard_normal((120, 16)) * scale, rng.standard_normal((120, 16)) * scale
    found = stability(a, b)
    assert found.mean == pytest.approx(found.random_mean, abs=0.03)
    isotropic = stability(rng.standard_normal((120, 16)), rng.standard_normal((120, 16)))
    assert found.mean > isotropic.mean + 0.05, "crowding alone raises cosines"


def test_dead_neurons_are_not_matched():
    a = np.random.default_rng(5).standard_normal((10, 4))
    live = np.arange(10) < 6
    found = stability(a, a, live_a_m=live, live_b_m=live)
    assert set(found.a) == set(range(6))
    nothing = stability(a, a, live_a_m=np.zeros(10, bool))
    assert len(nothing.a) == 0 and np.isnan(nothing.mean)


def test_neighbours_do_not_depend_on_the_unit_of_an_activation():
    z = np.maximum(np.random.default_rng(9).normal(size=(60, 8)), 0).astype(np.float32)
    found = []
    for unit in (1.0, 2.0**-12):
        held = Held(ArraySource(z * np.float32(unit), True), 60)
        for _ in held.first_pass():
            pass
        found.append(coactivation_neighbours(held))
    pd.testing.assert_frame_equal(found[0], found[1])
    assert found[0]["value"].max() > 0.2


def test_stability_says_how_random_directions_spread():
    rows = np.random.default_rng(10).normal(size=(12, 6))
    found = stability(rows, rows + 0.01, 0)
    assert len(found.random_quantiles) == len(found.quantiles) and np.isfinite(found.random_quantiles).all()
    assert found.random_quantiles[0] < found.random_mean < found.random_quantiles[-1] < found.quantiles[0] + 1e-9
