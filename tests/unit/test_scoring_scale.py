"""Embeddings scaled by 1e30 or 1e-30 score as they do at scale 1, raw and through an SAE."""

import numpy as np
import pytest

from medsae.sae.normalise import Normalisation
from medsae.scoring.activity import near_one
from medsae.store.artifacts import Store


@pytest.mark.parametrize("power", [-110, -90, 0, 7, 95, 120])
def test_a_power_of_two_changes_no_digit(power):
    x = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    scaled, found = near_one(np.ldexp(x, power).astype(np.float32))
    if abs(power) < 20:
        assert found == 0
    else:
        assert np.array_equal(scaled, np.ldexp(x, power - found).astype(np.float32)) and np.abs(scaled).max() <= 1


def test_columns_of_different_scales_and_what_is_no_number():
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    scaled, _ = near_one(x * np.float32([1, 1e-30, 1e30]))
    assert (np.abs(scaled).max(axis=0) > 0.4).all() and (np.abs(scaled).max(axis=0) < 2**41).all()
    assert not near_one(np.zeros((3, 2), np.float32))[0].any() and near_one(np.zeros((0, 2), np.float32))[1] == 0
    for bad in (np.nan, np.inf):
        x[3, 1] = bad
        assert np.array_equal(near_one(x)[0], x, equal_nan=True)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_an_sae_sees_the_same_rows_at_every_scale(scale):
    x = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32) + 3
    plain, scaled = Normalisation.fit(x), Normalisation.fit(x * np.float32(scale))
    np.testing.assert_allclose(plain.apply(x), scaled.apply(x * np.float32(scale)), atol=1e-5)


def test_raw_scores_do_not_depend_on_the_scale(tmp_path, medsae, chexpert_root):
    store = Store(medsae.data)
    cohort = medsae.id("ingest", "chexpert", "--root", chexpert_root, "--no-pictures", "--per-class", 5)
    with store.get(cohort).connect() as connection:
        paths = [r[0] for r in connection.execute("SELECT path FROM image ORDER BY image").fetchall()]
    x = np.random.default_rng(1).normal(size=(len(paths), 6)).astype(np.float32)
    x[:, 1] += 30
    (tmp_path / "rows.csv").write_text("Path\n" + "\n".join(paths) + "\n")
    frames = []
    for scale in (1.0, 1e30, 1e-30):
        np.save(tmp_path / "x.npy", x * np.float32(scale))
        embeddings = medsae.id("embed", "--cohort", cohort, "--from", tmp_path / "x.npy", "--rows",
                               tmp_path / "rows.csv", "--name", "x")  # fmt: skip
        small = ["--images", "all", "--draws", 5, "--bootstraps", 5]
        scores = store.get(medsae.id("score", "--embeddings", embeddings, "--representation", "raw", *small))
        assert ("activation_unit" in scores.facts) == (scale != 1)
        with scores.connect() as connection:
            frames.append([connection.execute(sql).df().to_numpy(float) for sql in (
                "SELECT rho FROM correlation ORDER BY neuron, label",
                "SELECT entropy, density FROM neuron ORDER BY neuron")])  # fmt: skip
    for rho, neuron in frames[1:]:
        assert np.isfinite(frames[0][0]).any() and np.isfinite(frames[0][1]).all()
        np.testing.assert_allclose(frames[0][0], rho, atol=2e-5)
        np.testing.assert_allclose(frames[0][1], neuron, atol=2e-5)
