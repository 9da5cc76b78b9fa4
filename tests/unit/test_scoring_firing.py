"""Partial correlations from non-zeros are those from whole columns."""

import numpy as np
import pandas as pd
import pytest

from medsae.progress import Silent
from medsae.scoring import confounded as c
from medsae.scoring import firing
from medsae.scoring.activity import ArraySource, Held
from medsae.scoring.draws import Patients
from medsae.scoring.pieces import Nowhere


def cohort(n, single=False):
    rng = np.random.default_rng(0)
    known = rng.random((n, 3)) < 0.8
    y = (rng.random((n, 3)) < 0.3) & known
    age = np.where(np.arange(n) < 50, np.nan, rng.integers(20, 90, n))
    values = {"view": rng.choice(["AP", "PA", "LL", None], n).astype(object), "age": age, "dose": rng.normal(size=n)}
    attributes = [one for name, value in values.items() if (one := c.Attribute.of(name, value))]
    patient = np.arange(n) if single else rng.integers(0, n // 3, n)
    return c.Cohort(y.astype(np.float32), known, ["a", "b", "c"], attributes, Patients.of(patient), 0)


def activations(about):
    """30 neurons: of every density, and dead (5), constant (6), rare (7), never silent (8), of a label (9), of a view (10)."""
    rng = np.random.default_rng(1)
    n = len(about.y_nk)
    z = np.maximum(rng.normal(size=(n, 30)) - np.linspace(0, 2.5, 30), 0).astype(np.float32)
    z[:, 5], z[:, 6], z[5:, 7] = 0, 3, 0
    z[:, 8] += 2
    z[:, 9] += about.y_nk[:, 0]
    z[:, 10] = np.abs(z[:, 10]) + (about.attributes[0].stratum_n == 1)
    return z


def both(about, z, top, **more):
    held = Held(ArraySource(z, sparse=True), len(z))
    for _ in held.first_pass():
        pass
    found = c.confounded(held, about, top, Silent(), **more)
    columns = c._Dense(held, about, top).of(np.arange(z.shape[1]))
    keys = (["neuron"], ["neuron", "attribute"])
    return found, [frame.sort_values(key, ignore_index=True) for frame, key in zip(columns, keys, strict=True)]


@pytest.mark.parametrize("single", [False, True], ids=["patients of several images", "one image a patient"])
def test_non_zeros_give_what_columns_give(single, monkeypatch):
    monkeypatch.setattr(c, "NEURONS", 7)
    monkeypatch.setattr(firing, "PATIENTS", 100)
    monkeypatch.setattr(firing, "PAIRS", 150)
    about = cohort(1500, single)
    top = np.random.default_rng(2).integers(-1, 3, 30)
    top[[5, 6, 7, 8, 9, 10]] = [-1, 0, 1, 2, 0, 1]
    found, wanted = both(about, activations(about), top)
    for one, other in zip(found, wanted, strict=True):
        # Shuffles of attributes are correlated in float32 where there are columns.
        tolerance = {"null_fall": 2e-6}
        for name in other:
            if other[name].dtype.kind == "f":
                np.testing.assert_allclose(one[name], other[name], rtol=0, atol=tolerance.get(name, 1e-10))
            else:
                assert (one[name].fillna("") == other[name].fillna("")).all(), name
    table = found[0]
    assert table["reason"][7] == "fires on fewer than 10 of them" and table["reason"][6] == "the neuron does not vary"
    assert table["reason"].isna().sum() > 20 and table["given"].notna().sum() > 20


def test_pieces_change_no_bit(monkeypatch):
    about = cohort(600)
    z, top = activations(about), np.random.default_rng(3).integers(0, 3, 30)
    monkeypatch.setattr(c, "NEURONS", 6)
    whole = both(about, z, top)[0]

    class OfOthers(Nowhere):
        """Every second piece is made elsewhere."""

        def __init__(self):
            self.done = {}

        def expect(self, what, groups):
            assert (what, groups) == ("followed", 5)

        def group(self, what, number, make):
            self.done[number] = self.done.get(number) or make()
            return self.done[number]

    kept = OfOthers()
    held = Held(ArraySource(z, sparse=True), len(z))
    for _ in held.first_pass():
        pass
    for number in (3, 1):
        order = np.argsort(top, kind="stable")
        kept.done[number] = c._kept(c._Sparse(held, about, top).of(order[6 * number : 6 * number + 6]))
    for one, other in zip(both(about, z, top, kept=kept)[0], whole, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_a_basis_of_kinds_spans_what_a_basis_of_images_spans():
    about = cohort(400)
    one = about.attributes[0]
    use = about.mask_nk[:, 0]
    kinds = firing.Basis.of(one.table_vc, one.kind_n[use])
    images = c.basis([one], use)
    rows = kinds.table_vc[kinds.kind_n]
    np.testing.assert_allclose(rows @ rows.T, images @ images.T, atol=1e-12)
    np.testing.assert_allclose(rows.T @ rows, np.eye(kinds.width), atol=1e-12)
