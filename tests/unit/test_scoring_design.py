"""What known attributes explain is taken out of labels; raw neurons cut to fire as often as those of an SAE."""

import numpy as np
import pytest

from medsae.scoring.activity import ArraySource
from medsae.scoring.design import Design, Profiles, among
from medsae.scoring.draws import Patients, Permutations, Resamples
from medsae.scoring.entropy import entropy_bits
from medsae.scoring.matched import DRAWS, MOST, cut_to_fire_like, matched_entropy

LABELS = ["No Finding", "Edema", "Effusion", "Fracture"]


def cohort(n=400, seed=0, missing=0.2):
    """Labels that follow the view; No Finding where there is none of the others."""
    rng = np.random.default_rng(seed)
    ap = (rng.random(n) < 0.5).astype(np.float32)
    y = (rng.random((n, 4)) < np.array([0, 0.15, 0.2, 0.1]) + 0.35 * ap[:, None]).astype(np.float32)
    y[:, 0] = y[:, 1:].max(1) == 0
    mask = rng.random((n, 4)) >= missing
    return np.where(mask, y, 0).astype(np.float32), mask, np.stack([ap, 1 - ap], axis=1)


def test_residual_labels_are_what_a_regression_leaves():
    y, mask, view = cohort()
    design = Design.of(y, mask, LABELS, {"view": view})
    assert design.kept_r.tolist() == [1, 2, 3] and design.given == ("view", "No Finding")
    state = np.where(mask[:, 0], 1 + (y[:, 0] > 0), 0)
    assert design.strata_n.tolist() == state.tolist() and set(state) == {0, 1, 2}
    known = np.column_stack([np.ones(len(y)), view, state == 2, state == 1]).astype(float)
    for r, j in enumerate(design.kept_r):
        use = mask[:, j]
        left = y[use, j] - known[use] @ np.linalg.lstsq(known[use], y[use, j].astype(float), rcond=None)[0]
        np.testing.assert_allclose(design.residual_nr[use, r], left, atol=1e-6)
        assert (design.residual_nr[~use, r] == 0).all()
    assert design.all_nk.shape == design.all_mask_nk.shape == (400, 7)
    np.testing.assert_array_equal(design.all_mask_nk[:, 4:], mask[:, 1:])


def test_no_finding_is_found_in_any_case_and_without_it_nothing_is_taken_out():
    y, mask, _ = cohort()
    assert Design.of(y, mask, [" no FINDING ", *LABELS[1:]], {}).kept_r.tolist() == [1, 2, 3]
    plain = Design.of(y, mask, ["Healthy", *LABELS[1:]], {})
    assert plain.kept_r.tolist() == [0, 1, 2, 3] and plain.given == () and not plain.strata_n.any()


def test_a_label_that_is_explained_wholly_has_no_partial_correlation():
    y, mask, view = cohort(missing=0)
    y[:, 2] = view[:, 0]
    design = Design.of(y, mask, LABELS, {"view": view})
    assert (design.residual_nr[:, 1] == 0).all() and (design.residual_nr[:, 0] != 0).any()
    z = np.random.default_rng(1).normal(size=(400, 1)) + view[:, :1]
    rho = among(z, design.residual_nr, np.ones((400, 1), bool), mask[:, 1:])
    assert np.isnan(rho[0, 1]) and np.isfinite(rho[0, [0, 2]]).all()


def test_a_neuron_that_follows_the_view_no_longer_seems_to_follow_what_the_view_explains():
    y, mask, view = cohort(n=4000, missing=0)
    design = Design.of(y, mask, LABELS, {"view": view})
    z = (view[:, :1] + 0.1 * np.random.default_rng(2).normal(size=(4000, 1))).astype(np.float32)
    rho = among(z, design.all_nk, np.ones((4000, 1), bool), design.all_mask_nk)[0]
    assert rho[1:4].min() > 0.25 and np.abs(rho[4:]).max() < 0.05


def test_unique_contributions_are_semi_partial_correlations():
    y, mask, view = cohort(n=800, missing=0)
    design = Design.of(y, mask, LABELS, {"view": view})
    z = y @ np.array([0, 1, 0.5, 0], np.float32) + np.random.default_rng(3).normal(size=800)
    residual = design.residual_nr.astype(float)
    partial = among(z[:, None], residual, np.ones((800, 1), bool), mask[:, 1:])
    expected = []
    for j in range(3):
        others = np.column_stack([np.ones(800), np.delete(residual, j, axis=1)])
        own = residual[:, j] - others @ np.linalg.lstsq(others, residual[:, j], rcond=None)[0]
        expected.append(np.corrcoef(z, own)[0, 1])
    np.testing.assert_allclose(partial[0] @ design.unique_rr, expected, atol=1e-6)
    profiles = Profiles(np.zeros((1, 4)), np.full(4, 800.0), partial, design, np.array([800]))
    assert profiles.unique_bits_m[0] == pytest.approx(entropy_bits(np.array([expected]))[0])


def test_the_floor_is_a_detector_that_is_never_wrong():
    y, mask, _ = cohort(missing=0)
    floor = Design.of(y, mask, LABELS, {}).floor
    np.testing.assert_allclose(floor.bits_k, entropy_bits(np.asarray(np.corrcoef(y.T), float)), atol=1e-9)
    assert floor.partial_bits_k.shape == (4,) and (floor.partial_bits_k < np.log2(3) + 1e-9).all()


def test_partners_fire_as_often_as_their_neurons():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, 5)).astype(np.float32)
    active = np.array([0, 1, 17, 120, 299, 300, 40])
    cut, neurons = cut_to_fire_like(ArraySource(x, rows=64), active, 300, 0)
    assert neurons.tolist() == [1, 2, 3, 4, 6], "neither a silent neuron nor one that always fires has a partner"
    z = np.concatenate([block for _, block in cut.blocks()])
    assert (z >= 0).all() and (z > 0).sum(0).tolist() == active[neurons].tolist()
    assert cut.of_p.tolist() == [0, 1, 2, 3, 4] and set(cut.sign_p) <= {-1.0, 1.0}
    again, _ = cut_to_fire_like(ArraySource(x), active, 300, 0)
    np.testing.assert_array_equal(cut.threshold_p, again.threshold_p)
    assert len(cut_to_fire_like(ArraySource(x), np.full(3 * MOST, 7), 300, 0)[1]) == MOST


def test_matched_entropy_is_that_of_the_partners_beside_its_null():
    y, mask, _ = cohort(n=300)
    rng = np.random.default_rng(5)
    x, active = rng.normal(size=(300, 6)).astype(np.float32), np.array([30, 0, 60, 90])
    x[:, 0] += 2 * y[:, 1]
    design, patients = Design.of(y, mask, LABELS, {}), Patients.of(np.arange(300) // 2)
    bits = np.array([1.0, np.nan, 1.5, 2.0])
    draws = Permutations(patients, 25, 0), Resamples(patients, DRAWS + 50, 0)
    found = matched_entropy(ArraySource(x), bits, active, design, *draws, seed=0)
    assert found is not None and found.cut.null_t is not None
    cut, _ = cut_to_fire_like(ArraySource(x), active, 300, 0)
    z = np.concatenate([block for _, block in cut.blocks()])
    own = entropy_bits(among(z, y, np.ones(z.shape, bool), mask))
    assert found.cut.value == pytest.approx(own.mean(), abs=1e-5) and found.cut.n == 3
    assert found.cut.low < found.cut.value < found.cut.high and "over patients" in found.cut.note
    assert found.own.value == pytest.approx(1.5) and found.own.n == 3
    assert len(found.cut.null_t) == 25 and 1 < found.cut.null_t.mean() < 2
    assert matched_entropy(ArraySource(x), bits, np.zeros(4, int), design, *draws, seed=0) is None
