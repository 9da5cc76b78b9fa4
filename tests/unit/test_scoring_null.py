"""The permutation null, selective neurons and the bootstrap: what luck gives, and that the measures know it."""

import numpy as np
import pytest

from medsae.scoring import draws as draws_module
from medsae.scoring.activity import ArraySource, Held
from medsae.scoring.bootstrap import bootstrap
from medsae.scoring.design import Design
from medsae.scoring.draws import Patients, Permutations, Resamples, correlations_of_draws
from medsae.scoring.entropy import entropy_bits
from medsae.scoring.null import permutation_null
from medsae.scoring.offered.entropy import mean_entropy, mean_entropy_strong
from medsae.scoring.profile import profile
from medsae.scoring.selective import pooled_p
from medsae.scoring.sufficient import Sufficient

STATISTICS = {"mean_entropy": mean_entropy, "mean_entropy_strong": mean_entropy_strong}


def prepared(z, y, mask, sparse):
    held = Held(ArraySource(z, sparse), len(z))
    sums = Sufficient(y, mask)
    for rows, block in held.first_pass():
        sums.update(block, rows)
    found = sums.result()
    held.center(found.mean_m)
    return held, found, profile(held, found.mean_m, 10)


def null_of(z, y, mask=None, patients=None, sparse=True, draws=100, seed=0, fdr=0.05):
    mask = np.ones(y.shape, bool) if mask is None else mask
    held, found, profiles = prepared(z, y, mask, sparse)
    grouped = Patients.of(np.arange(len(z)) if patients is None else patients)
    design = design_of(y, mask)
    return permutation_null(held, design, found, profiles, Permutations(grouped, draws, seed), fdr, STATISTICS)


def design_of(y, mask=None, names=None):
    mask = np.ones(y.shape, bool) if mask is None else mask
    return Design.of(y, mask, names or [f"label {j}" for j in range(y.shape[1])], {})


def firing(rng, density, shape):
    """Sparse activations with exponential sizes."""
    return np.where(rng.random(shape) < density, rng.exponential(1, shape), 0).astype(np.float32)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_every_draw_is_the_pearson_of_moved_labels(sparse, missing, monkeypatch):
    rng = np.random.default_rng(0)
    z = firing(rng, 0.2, (90, 6)) + (0 if sparse else 5)
    z = z.astype(np.float32)
    y, mask = (rng.random((90, 3)) < 0.4).astype(np.float32), rng.random((90, 3)) >= missing
    patients = Patients.of(rng.integers(0, 40, 90))
    held, _, _ = prepared(z, y, mask, sparse)
    monkeypatch.setattr(draws_module, "BUDGET_BYTES", 6 * 9 * 8 * 2)  # groups of two draws: several passes
    moved = Permutations(patients, 5, 3)
    weighted = Resamples(patients, 5, 3)
    seen = 0
    for t, (rho, n_k) in enumerate(correlations_of_draws(held, y, mask, moved)):
        rows = moved.rows(t)
        expected = Sufficient(y[rows], mask[rows]).update(z, slice(0, 90)).result()
        np.testing.assert_allclose(rho, expected.rho_mk, atol=2e-5)
        np.testing.assert_array_equal(n_k, expected.n_k)
        seen += 1
    for t, (rho, n_k) in enumerate(correlations_of_draws(held, y, mask, weighted)):
        rows = np.repeat(np.arange(90), weighted.weights(t).astype(int))
        expected = Sufficient(y[rows], mask[rows]).update(z[rows], slice(0, len(rows))).result()
        np.testing.assert_allclose(rho, expected.rho_mk, atol=2e-5)
        np.testing.assert_array_equal(n_k, expected.n_k)
        seen += 1
    assert seen == 10


def test_label_rows_move_between_patients():
    one_each = Permutations(Patients.of(["c", "a", "b", "d"] * 5 + list("efgh")), 3, 0)
    single = Permutations(Patients.of(np.arange(50)[::-1]), 2, 0)
    assert sorted(single.rows(0)) == list(range(50)) and (single.rows(0) != single.rows(1)).any()
    codes = one_each.patients.code_n
    for t in range(3):
        rows = one_each.rows(t)
        for patient in np.unique(codes):
            taken = rows[codes == patient]
            assert len(np.unique(codes[taken])) == 1, "all labels of a patient come from one patient"
            source = (codes == codes[taken[0]]).sum()
            counts = np.bincount(taken, minlength=len(codes))
            assert counts.max() <= -(-len(taken) // source), "no row comes again before all have come"


def test_draws_depend_on_seed_and_patients_only():
    patients = Patients.of(np.arange(30) // 2)
    np.testing.assert_array_equal(Permutations(patients, 9, 1).rows(4), Permutations(patients, 5, 1).rows(4))
    assert (Permutations(patients, 9, 1).rows(4) != Permutations(patients, 9, 2).rows(4)).any()
    weights = Resamples(patients, 2, 1).weights(0)
    assert weights.sum() == 30 and (weights[::2] == weights[1::2]).all()


def test_null_of_normal_profiles_over_fourteen_labels_is_3_419_bits():
    rng = np.random.default_rng(1)
    y = (rng.random((600, 14)) < 0.5).astype(np.float32)
    z = rng.standard_normal((600, 300), dtype=np.float32)
    null = null_of(z, y, sparse=False, draws=40)
    assert null.values["mean_entropy"].mean() == pytest.approx(3.419, abs=0.01)
    assert np.nanmean(null.entropy_mean_m) == pytest.approx(3.419, abs=0.01)
    histogram = null.histogram
    assert histogram.mean.sum() == pytest.approx(1) and histogram.observed.sum() == pytest.approx(1)
    assert np.all(histogram.low <= histogram.high)
    assert histogram.edges[0] == 0 and histogram.edges[-2] < np.log2(14) < histogram.edges[-1]


def test_pure_noise_has_no_selective_neurons_and_uniform_p():
    rng = np.random.default_rng(2)
    y = (rng.random((800, 6)) < np.geomspace(0.02, 0.4, 6)).astype(np.float32)
    mask = rng.random(y.shape) < np.geomspace(0.2, 1, 6)
    z = firing(rng, np.geomspace(0.004, 0.3, 600), (800, 600))
    null = null_of(z, y, mask)
    assert (null.q_m <= 0.05).sum() <= 1
    assert np.nanmean(null.p_m <= 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.nanmean(null.p_m <= 0.5) == pytest.approx(0.5, abs=0.08)


def test_planted_neurons_are_found_with_few_false_ones_and_less_entropy_than_mixtures():
    rng = np.random.default_rng(3)
    n, m, k = 1000, 500, 6
    y = (rng.random((n, k)) < 0.15).astype(np.float32)
    density = np.full((n, m), 0.05)
    label = np.arange(40) % k
    density[:, :40] = np.where(y[:, label] > 0, 0.4, 0.02)  # one concept each
    for i in range(40, 60):  # mixtures of three concepts
        density[:, i] = np.where(y[:, [i % k, (i + 1) % k, (i + 2) % k]].any(1), 0.4, 0.02)
    z = firing(rng, density, (n, m))
    held, found, profiles = prepared(z, y, np.ones(y.shape, bool), True)
    null = permutation_null(held, design_of(y), found, profiles, Permutations(Patients.of(np.arange(n)), 100, 0),
                            statistics=STATISTICS)  # fmt: skip
    selective = null.q_m <= 0.05
    assert selective[:60].mean() >= 0.95
    assert selective[60:].sum() <= 8  # 5 % of about 63 called is 3; 8 is far in the tail
    np.testing.assert_array_equal(null.label_m[:40], label)
    assert np.all(found.rho_mk[np.arange(40), label] > 0.2)
    bits = entropy_bits(found.rho_mk)
    assert np.quantile(bits[:40], 0.95) < np.quantile(bits[40:60], 0.05)
    assert bits[:60].mean() < null.values["mean_entropy"].min(), "signal lies below what luck gives"


def test_p_reaches_below_one_over_draws_so_that_one_neuron_can_be_found():
    rng = np.random.default_rng(4)
    m, draws = 2000, 50
    null = np.abs(rng.standard_normal((draws, m, 3))).astype(np.float32)
    strength = np.abs(rng.standard_normal((m, 3)))
    strength[7, 1] = 9
    p, label = pooled_p(strength, null, rng.random(m), fdr=0.05)
    assert p[7] <= 0.05 / m and label[7] == 1
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.015)


def test_a_rare_label_does_not_drown_the_others():
    rng = np.random.default_rng(5)
    null = np.abs(rng.standard_normal((100, 300, 2))).astype(np.float32)
    null[:, :, 1] *= 10  # a label whose null has a long tail
    strength = np.abs(rng.standard_normal((300, 2))) * [1, 10]
    strength[0, 0] = 7  # strong for its label, ordinary for the other
    p, label = pooled_p(strength, null, np.zeros(300), fdr=0.05)
    assert p[0] < 1e-3 and label[0] == 0


def test_ties_count_as_exceeding():
    null = np.ones((20, 300, 1), np.float32)
    p, _ = pooled_p(np.full((300, 1), 1 + 1e-7), null, np.zeros(300), fdr=0.05)
    np.testing.assert_array_equal(p, 1)
    p, label = pooled_p(np.full((2, 1), np.nan), null[:, :2], np.zeros(2), fdr=0.05)
    assert np.isnan(p).all() and label.tolist() == [-1, -1]


def test_alike_images_of_a_patient_are_not_mistaken_for_evidence():
    rng = np.random.default_rng(6)
    patients = np.repeat(np.arange(60), 8)
    y = (rng.random((60, 5)) < 0.3).astype(np.float32)[patients]
    z = rng.standard_normal((60, 300))[patients].astype(np.float32)
    honest = null_of(z, y, patients=patients, sparse=False, draws=60)
    fooled = null_of(z, y, sparse=False, draws=60)
    assert np.mean(honest.p_m <= 0.05) <= 0.1
    assert np.mean(fooled.p_m <= 0.05) >= 0.5, "shuffling images one by one would call most neurons"


def test_dead_and_constant_neurons_and_labels_stay_undefined():
    rng = np.random.default_rng(7)
    z = firing(rng, 0.3, (60, 4))
    z[:, 2] = 0
    y = (rng.random((60, 3)) < 0.5).astype(np.float32)
    y[:, 1] = 1
    null = null_of(z, y, draws=5)
    assert np.isnan([null.p_m[2], null.q_m[2], null.entropy_mean_m[2]]).all() and null.label_m[2] == -1
    assert np.isfinite(null.p_m[[0, 1, 3]]).all() and 1 not in null.label_m
    nothing = null_of(np.zeros((20, 3), np.float32), y[:20], draws=3)
    assert (
        np.isnan(nothing.values["mean_entropy"]).all()
        and np.isnan(nothing.p_m).all()
        and np.isnan(nothing.values["mean_entropy_strong"]).all()
    )


def test_bootstrap_pairs_representations_of_the_same_patients():
    rng = np.random.default_rng(8)
    y = (rng.random((300, 6)) < 0.4).astype(np.float32)
    x = (rng.standard_normal((300, 40)) + y[:, rng.integers(0, 6, 40)]).astype(np.float32)
    mask, patients = np.ones(y.shape, bool), Patients.of(np.arange(300) // 2)
    results = []
    for z in (x, (x * 3 + 1).astype(np.float32), np.maximum(x, 0.5)):
        held, _, _ = prepared(z, y, mask, False)
        null = null_of(z, y, sparse=False, draws=2)
        active = np.full(z.shape[1], len(z))
        drawn = bootstrap(held, design_of(y), active, Resamples(patients, 60, 0), STATISTICS, null)
        results.append((held, drawn.values["mean_entropy"]))
    np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-4)  # the same numbers up to scale: the same draws
    a, b = results[0][1], results[2][1]
    assert np.std(a - b) < 0.7 * np.hypot(np.std(a), np.std(b))
