"""The curve of the mean entropy over parts of the patients, computed again image by image."""

import numpy as np
import pytest

from medsae.scoring.activity import ArraySource, Held
from medsae.scoring.curve import ALL, GROUPS, PARTS, entropy_curve
from medsae.scoring.design import Design
from medsae.scoring.draws import Patients
from medsae.scoring.entropy import entropy_bits
from medsae.scoring.offered.entropy import FIRING


def rho(z, y):
    """[m, k]; NaN where a neuron is silent or a label constant."""
    out = np.full((z.shape[1], y.shape[1]), np.nan)
    for i in range(z.shape[1]):
        for j in range(y.shape[1]):
            if np.ptp(z[:, i]) > 0 and np.ptp(y[:, j]) > 0:
                out[i, j] = np.corrcoef(z[:, i], y[:, j])[0, 1]
    return out


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(0)
    code = np.repeat(np.arange(60), rng.integers(1, 4, 60))
    n = len(code)
    y = (rng.random((n, 5)) < 0.35).astype(np.float32)
    z = np.maximum(rng.normal(size=(n, 6)), 0).astype(np.float32)
    z[:, 2] = 0
    z[rng.choice(n, FIRING - 1, replace=False), 2] = 1.0  # on one image too few
    z[:, 3] = 0
    z[rng.choice(n, FIRING, replace=False), 3] = 1.0  # on just enough
    z[:, 4] = np.where(code < 7, z[:, 4] + 1, 0)  # on a few patients: silent in some parts
    held = Held(ArraySource(z, True), n)
    for _ in held.first_pass():
        pass
    design = Design.of(y, np.ones(y.shape, bool), list("abcde"), {})
    return z, y, code, entropy_curve(held, design, Patients.of(code), 7, (z > 0).sum(0)).rows


def test_every_row_of_the_curve(study):
    z, y, code, rows = study
    assert (ALL, GROUPS, PARTS) == (-1, 10, (1, 2, 5))
    group_p = np.random.default_rng([7, 5]).permutation(60) % 10
    expected = []
    for left_out in (-1, *range(10)):
        kept = [g for g in range(10) if g != left_out]
        for parts in (1, 2, 5):
            bits = np.stack([entropy_bits(rho(z[here], y[here])) for start in range(parts)
                             for here in [np.isin(group_p[code], kept[start::parts])]])  # fmt: skip
            often = (z > 0).sum(0) >= FIRING
            with np.errstate(invalid="ignore"):
                each = np.nansum(bits, axis=0) / np.isfinite(bits).sum(0)
            use = np.isfinite(each) & often
            images = len(code) / 60 * np.isin(group_p, kept).sum() / parts
            expected.append((left_out, parts, images, each[use].mean(), use.sum()))
    assert list(rows.columns) == ["left_out", "parts", "images", "mean_entropy", "neurons"]
    np.testing.assert_allclose(rows.to_numpy(float), np.array(expected, float), rtol=1e-4)
    assert set(rows.neurons) == {5}


def test_too_few_patients_have_no_curve():
    rng = np.random.default_rng(1)
    z, y = rng.random((40, 3)).astype(np.float32), (rng.random((40, 2)) < 0.5).astype(np.float32)
    design = Design.of(y, np.ones(y.shape, bool), ["a", "b"], {})

    def curve(patients):
        held = Held(ArraySource(z), 40)
        for _ in held.first_pass():
            pass
        return entropy_curve(held, design, Patients.of(patients), 0, np.full(3, 40)).rows

    assert len(curve(np.arange(40))) == 33
    nothing = curve(np.minimum(np.arange(40), 38))
    assert len(nothing) == 0 and list(nothing.columns)[:3] == ["left_out", "parts", "images"]
    assert [nothing.dtypes[c].kind for c in ("left_out", "parts", "mean_entropy")] == ["i", "i", "f"]
