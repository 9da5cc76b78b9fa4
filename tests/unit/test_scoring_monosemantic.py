"""The monosemanticity score: its linear form against the sum over pairs, and its null."""

import itertools

import numpy as np
import pytest

from medsae.scoring import monosemantic
from medsae.scoring.activity import ArraySource, Held
from medsae.scoring.draws import Patients, Permutations


def pairwise(z_nm, e_nd):
    """The definition, pair by pair."""
    e_nd = e_nd / np.linalg.norm(e_nd, axis=1, keepdims=True)
    out = []
    for z_n in z_nm.T:
        if z_n.max() == z_n.min():
            out.append(np.nan)
            continue
        a = (z_n - z_n.min()) / (z_n.max() - z_n.min())
        above = sum(a[i] * a[j] * (e_nd[i] @ e_nd[j]) for i, j in itertools.combinations(range(len(a)), 2))
        below = sum(a[i] * a[j] for i, j in itertools.combinations(range(len(a)), 2))
        out.append(above / below if below > 0 else np.nan)
    return np.array(out)


def held(z_nm, sparse=False):
    h = Held(ArraySource(z_nm.astype(np.float32), sparse=sparse, rows=7), len(z_nm))
    for _ in h.first_pass():
        pass
    h.center(z_nm.mean(0))
    return h


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    z = np.maximum(rng.normal(size=(40, 6)), 0) * (rng.random((40, 6)) < 0.3)
    z[:, 4], z[:, 5] = 0, 0
    z[3, 5] = 2.0  # one image alone
    return z, rng.normal(size=(40, 9)) + 0.5, Permutations(Patients.of(np.arange(40) // 2), 50, 0)


@pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])
def test_the_linear_form_is_the_sum_over_pairs(data, sparse):
    z, e, permutations = data
    if not sparse:
        z = z - 0.3 + np.random.default_rng(1).normal(size=z.shape) * 0.1
    found = monosemantic.similarity(held(z, sparse), e, permutations)
    np.testing.assert_allclose(found.score_m, pairwise(z, e), atol=2e-5)
    if sparse:
        assert np.isnan(found.score_m[4:]).all() and np.isnan(found.p_m[4:]).all()
    for t in (0, 17):
        np.testing.assert_allclose(found.drawn_tm[t], pairwise(z, e[permutations.rows(t)]), atol=2e-5)


def test_by_hand():
    z = np.array([[1.0], [0.5], [0.0]])
    e = np.array([[1.0, 0], [3.0, 4.0], [0, 1.0]])
    found = monosemantic.similarity(held(z), e, Permutations(Patients.of(np.arange(3)), 20, 0))
    assert found.score_m[0] == pytest.approx(0.6)  # one pair counts: cosine of (1, 0) and (0.6, 0.8)


def test_images_that_are_alike_are_above_the_null_and_others_are_not():
    rng = np.random.default_rng(2)
    e = rng.normal(size=(200, 16))
    e[:20] += 6 * np.eye(16)[3]
    z = np.zeros((200, 2))
    z[:20, 0], z[20 + rng.permutation(180)[:20], 1] = 1 + rng.random(20), 1 + rng.random(20)
    found = monosemantic.similarity(held(z, True), e, Permutations(Patients.of(np.arange(200)), 100, 0))
    assert found.score_m[0] > 0.5 > 5 * abs(found.null_m[0]) and found.p_m[0] == pytest.approx(1 / 101)
    assert abs(found.score_m[1]) < 0.1 and found.p_m[1] > 0.05


def test_the_mean_of_the_null_is_the_mean_likeness_of_all_images():
    rng = np.random.default_rng(3)
    e = rng.normal(size=(60, 5)) + 1
    unit = e / np.linalg.norm(e, axis=1, keepdims=True)
    every = (np.square(unit.sum(0)).sum() - 60) / (60 * 59)
    z = np.maximum(rng.normal(size=(60, 30)), 0)
    found = monosemantic.similarity(held(z, True), e, Permutations(Patients.of(np.arange(60)), 100, 0))
    assert found.null_m.mean() == pytest.approx(every, abs=0.005)


def test_the_scale_of_a_neuron_and_of_the_embeddings_does_not_matter(data):
    z, e, permutations = data
    first = monosemantic.similarity(held(z, True), e, permutations)
    again = monosemantic.similarity(held(z * 1000, True), e * 0.01, permutations)
    np.testing.assert_allclose(first.score_m, again.score_m, atol=1e-5)


def test_memory_is_cut_and_changes_nothing(data, monkeypatch):
    z, e, permutations = data
    whole = monosemantic.similarity(held(z, True), e, permutations)
    monkeypatch.setattr(monosemantic, "BUDGET_BYTES", 3 * 6 * 9 * 8)
    parts = monosemantic.similarity(held(z, True), e, permutations)
    np.testing.assert_allclose(whole.drawn_tm, parts.drawn_tm, atol=1e-6)
