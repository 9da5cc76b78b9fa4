"""What is left of a correlation within strata and given attributes: by hand, by least squares, and where it is planted."""

import numpy as np
import pandas as pd
import pytest

from medsae.progress import Silent
from medsae.scoring import confounded as c
from medsae.scoring.activity import ArraySource, Held
from medsae.scoring.draws import Patients


def attribute(name, values):
    found = c.Attribute.of(name, values)
    assert found is not None
    return found


def whole(z_nm):
    held = Held(ArraySource(np.asarray(z_nm, np.float32), sparse=True), len(z_nm))
    for _ in held.first_pass():
        pass
    return held


def test_by_hand():
    """rho_zy.a = (rho_zy - rho_za rho_ya) / sqrt((1 - rho_za^2) (1 - rho_ya^2)) for one binary attribute."""
    z, y, a = (
        np.array(v, float) for v in ([3, 1, 4, 1, 5, 9, 2, 6], [0, 0, 1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 1, 1, 1, 1])
    )
    one = attribute("view", np.where(a > 0, "AP", "PA").astype(object))
    assert one.values == ("AP", "PA")
    found = c.given(z[:, None], y, c.basis([one], np.ones(8, bool))).rho_m[0]
    r = np.corrcoef([z, y, a])
    wanted = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert found == pytest.approx(wanted, abs=1e-12) and wanted == pytest.approx(0.7607, abs=1e-4)


def test_with_nothing_given_it_is_pearson_and_its_error_is_the_textbook_one():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(2, 4000))
    y += 0.5 * z
    found = c.given(z[:, None], y, c.basis([], np.ones(4000, bool)))
    assert found.rho_m[0] == pytest.approx(np.corrcoef(z, y)[0, 1], abs=1e-12)
    textbook = (1 - found.rho_m[0] ** 2) / np.sqrt(4000)
    assert found.error(Patients.of(np.arange(4000)))[0] == pytest.approx(textbook, rel=0.05)


def test_least_squares_gives_the_same():
    rng = np.random.default_rng(1)
    n = 300
    view = rng.choice(["AP", "PA", "LL"], n).astype(object)
    view[:20] = None
    age = rng.normal(60, 15, n)
    age[5:9] = np.nan
    z = rng.normal(size=(n, 3)) + (view == "AP")[:, None] + np.nan_to_num(age)[:, None] / 50
    y = (rng.random(n) < 0.3 + 0.4 * (view == "AP")).astype(float)
    given = [attribute("view", view), attribute("age", age)]
    found = c.given(z, y, c.basis(given, np.ones(n, bool))).rho_m
    know = np.isfinite(age)
    number = np.where(know, age, np.nanmean(age))
    design = np.column_stack(
        [np.ones(n), *(view == v for v in ("AP", "PA", "LL")), number, (number - np.nanmean(age)) ** 2, know]
    )
    rest = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (*z.T, y)]
    assert found == pytest.approx([np.corrcoef(r, rest[-1])[0, 1] for r in rest[:-1]], abs=1e-9)


def test_statsmodels_gives_the_same():
    """The t-value of a coefficient and its degrees of freedom are a partial correlation: t / sqrt(t^2 + df)."""
    from statsmodels.regression.linear_model import OLS

    rng = np.random.default_rng(4)
    n = 250
    view, sex = rng.choice(["AP", "PA", "LL"], n).astype(object), rng.choice(["F", "M"], n).astype(object)
    z = rng.normal(size=(n, 3)) + (view == "AP")[:, None] + 0.5 * (sex == "F")[:, None]
    y = (rng.random(n) < 0.3 + 0.3 * (view == "AP")).astype(float)
    found = c.given(z, y, c.basis([attribute("view", view), attribute("sex", sex)], np.ones(n, bool))).rho_m
    others = np.column_stack([np.ones(n), view == "AP", view == "PA", sex == "F"])
    for neuron, rho in zip(z.T, found, strict=True):
        fit = OLS(y, np.column_stack([neuron, others])).fit()
        assert rho == pytest.approx(fit.tvalues[0] / np.sqrt(fit.tvalues[0] ** 2 + fit.df_resid), abs=1e-9)


def test_scale_and_order_change_nothing():
    rng = np.random.default_rng(2)
    n, order = 200, np.random.default_rng(3).permutation(200)
    z, y, view = (
        rng.normal(size=(n, 2)),
        (rng.random(n) < 0.4).astype(float),
        rng.choice(["AP", "PA"], n).astype(object),
    )
    patient = rng.integers(0, 80, n)
    one = c.given(z, y, c.basis([attribute("view", view)], np.ones(n, bool)))
    two = c.given(7 * z[order] + 3, y[order], c.basis([attribute("view", view[order])], np.ones(n, bool)))
    assert two.rho_m == pytest.approx(one.rho_m, abs=1e-12)
    assert two.error(Patients.of(patient[order])) == pytest.approx(one.error(Patients.of(patient)), abs=1e-12)


def test_nothing_left_is_undefined():
    y = np.tile([0.0, 1.0], 20)
    view = np.where(y > 0, "AP", "PA").astype(object)
    basis = c.basis([attribute("view", view)], np.ones(40, bool))
    z = np.random.default_rng(0).random((40, 1))
    assert np.isnan(c.given(z, y, basis).rho_m[0]), "the view says all of the label"
    assert np.isnan(c.given(y[:, None], z[:, 0], basis).rho_m[0]), "and all of this neuron"
    assert c.Attribute.of("view", np.array(["AP"] * 40, object)) is None
    assert c.Attribute.of("age", np.full(40, np.nan)) is None


def test_intervals_by_patient_cover():
    """Three images a patient that are alike: an interval that takes them as independent is far too narrow."""
    rng = np.random.default_rng(5)
    hits, naive = 0, 0
    for _ in range(300):
        patient = np.repeat(np.arange(100), 3)
        z = np.repeat(rng.normal(size=100), 3) + 0.3 * rng.normal(size=300)
        y = (np.repeat(rng.normal(size=100), 3) + 0.3 * rng.normal(size=300) > 0).astype(float)
        found = c.given(z[:, None], y, c.basis([], np.ones(300, bool)))
        low, high = found.interval(Patients.of(patient))
        hits += low[0] <= 0 <= high[0]
        low, high = found.interval(Patients.of(np.arange(300)))
        naive += low[0] <= 0 <= high[0]
    assert 0.91 <= hits / 300 <= 0.985 and naive / 300 < 0.85


def test_strata_of_few_images_are_null_and_say_how_many():
    rng = np.random.default_rng(6)
    n = 400
    view = np.array(["AP"] * 250 + ["PA"] * 130 + ["LL"] * 20, object)
    y = (rng.random(n) < 0.5).astype(float)
    z = (y + rng.normal(size=n)) * (view != "PA")
    table = c.strata(z, y, np.ones(n, bool), attribute("view", view), np.arange(n)).set_index("value")
    assert table["n"].to_dict() == {"AP": 250, "LL": 20, "PA": 130}
    inside = view == "AP"
    assert table.loc["AP", "rho"] == pytest.approx(np.corrcoef(z[inside], y[inside])[0, 1])
    above = (z[inside & (y > 0)][:, None] > z[inside & (y == 0)]).mean()
    assert table.loc["AP", "auroc"] == pytest.approx(above)
    assert 0.5 < table.loc["AP", "auroc_low"] < above < table.loc["AP", "auroc_high"] < 1
    assert table.loc["AP", "low"] < table.loc["AP", "rho"] < table.loc["AP", "high"]
    assert np.isnan(table.loc["PA", "rho"]) and table.loc["PA", "reason"] == "the neuron does not vary"
    assert np.isnan(table.loc["LL", "auroc"]) and "10 of each are needed" in table.loc["LL", "reason"]


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((0.52, 0.4, 0.6, {"view": 0.48, "devices": 0.11}, 0.10), "follows devices"),
        ((0.52, 0.4, 0.6, {"view": 0.50, "devices": 0.49}, 0.47), "holds"),
        ((-0.52, -0.6, -0.4, {"view": -0.50, "devices": -0.33}, -0.32), "partly devices"),
        ((0.52, 0.4, 0.6, {"view": 0.40, "devices": 0.38}, 0.15), "follows view, devices together"),
        ((0.05, -0.1, 0.2, {"view": 0.05}, 0.04), "no settled correlation"),
        ((0.5, 0.4, 0.6, {"view": np.nan}, np.nan), ""),
        ((0.3, 0.2, 0.4, {"view": 0.45}, 0.45), "holds"),
    ],
)
def test_the_verdict_is_a_rule(numbers, said):
    assert c.verdict(*numbers) == said


def planted():
    """Neurons: 0 follows the label, 1 follows devices (which go with the label), 2 follows the view, 3 is rare, 4 dead."""
    rng = np.random.default_rng(8)
    n = 1200
    patient = np.repeat(np.arange(n // 2), 2)
    tube = rng.random(n) < 0.4
    view = np.where(rng.random(n) < 0.3 + 0.4 * tube, "AP", "PA").astype(object)
    y = rng.random(n) < np.where(tube, 0.7, 0.1)
    z = np.abs(rng.normal(size=(n, 5))) * np.stack([y, tube, view == "AP", np.arange(n) < 5, np.zeros(n)], 1)
    held = {
        "view": view,
        "devices": np.where(tube, "with", "without").astype(object),
        "sex": rng.choice(["F", "M"], n).astype(object),
    }
    attributes = [attribute(name, value) for name, value in held.items()]
    labels = ["Pneumothorax", "Support Devices"]
    cohort = c.Cohort(
        np.stack([y, tube], 1).astype(np.float32), np.ones((n, 2), bool), labels, attributes, Patients.of(patient), 0
    )
    return z, cohort


def test_planted_neurons_are_told():
    z, cohort = planted()
    table, given = c.confounded(whole(z), cohort, np.array([0, 0, 0, 0, -1]), Silent())
    assert list(table["verdict"].fillna("")) == ["holds", "follows devices", "follows view", "", ""]
    assert (
        table["reason"].iloc[3] == "fires on fewer than 10 of them"
        and table["reason"].iloc[4] == "no defined correlation"
    )
    first, second = table.iloc[0], table.iloc[1]
    assert second["fall_low"] > second["null_fall"] > 0 and second["given_low"] < 0 < second["given_high"]
    assert first["given_low"] > 0.3 and first["attributes"] == "view, devices, sex"
    assert set(given["neuron"]) == {0, 1, 2} and len(given) == 9
    assert given.set_index(["neuron", "attribute"]).loc[(1, "devices"), "rho"] == pytest.approx(
        second["given"], abs=0.05
    )
    inside = cohort.attributes[0].stratum_n == 1
    y = cohort.y_nk[inside, 0]
    assert first["within"] == "view PA" and first["within_rho"] == pytest.approx(
        np.corrcoef(z[inside, 0], y)[0, 1], abs=1e-6
    )


def test_a_label_of_devices_is_not_held_against_devices():
    z, cohort = planted()
    table, given = c.confounded(whole(z), cohort, np.array([0, 1, 0, 0, -1]), Silent())
    assert table["verdict"].iloc[1] == "holds" and table["attributes"].iloc[1] == "view, sex"
    assert "devices" not in set(given[given["neuron"] == 1]["attribute"])


def test_a_label_of_few_images_is_null():
    z, cohort = planted()
    few = np.zeros_like(cohort.y_nk)
    few[:9, 0] = 1
    scarce = c.Cohort(few, cohort.mask_nk, cohort.labels, cohort.attributes, cohort.patients, 0)
    table, given = c.confounded(whole(z), scarce, np.zeros(5, int), Silent())
    assert not len(given) and set(table["reason"]) == {"9 present, 1191 absent; 10 of each are needed"}
    assert "rho" not in table or table["rho"].isna().all()
    assert isinstance(table, pd.DataFrame)


def test_dense_neurons_too():
    rng = np.random.default_rng(4)
    z, cohort = planted()
    dense = z + 0.01 * rng.normal(size=z.shape)
    held = Held(ArraySource(dense.astype(np.float32)), len(dense))
    for _ in held.first_pass():
        pass
    held.center(dense.mean(0))
    table, _ = c.confounded(held, cohort, np.zeros(5, int), Silent())
    assert table["verdict"].iloc[1] == "follows devices" and table["reason"].isna().all()
