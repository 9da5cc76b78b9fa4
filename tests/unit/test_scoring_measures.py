"""Declared measures: nulls on both sides, floors, what goes with a finding, size, and what older scores lack."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import stdtrit

from medsae import plugins
from medsae.rates import centred_interval, endless, jackknife, trainings_interval
from medsae.scoring.activity import ArraySource, Held
from medsae.scoring.curve import entropy_curve
from medsae.scoring.design import Design, Profiles
from medsae.scoring.draws import Patients, Permutations
from medsae.scoring.entropy import entropy_bits
from medsae.scoring.matched import cut_to_fire_like
from medsae.scoring.measures import Value, declared, table
from medsae.scoring.offered import matched
from medsae.scoring.offered.activity import active_neurons, active_share, dead_count, dead_share
from medsae.scoring.offered.entropy import followed, paper_entropy_best
from medsae.scoring.offered.floor import (
    entropy_floor,
    neuron_floor,
    neuron_relative,
    paper_entropy_best_floor,
    relative,
)
from medsae.scoring.offered.monosemantic import ms_alike_share, ms_score
from medsae.scoring.offered.selective import selective_count, selective_share, share_interval
from medsae.scoring.scores import Choices, Known, score_arrays
from medsae.scoring.summary import _against_shuffled, two_sided
from medsae.store import entropies
from medsae.store.queries import Measure

corrcoef: Any = np.corrcoef
Something: Any = SimpleNamespace


def labels(n=400, seed=0):
    rng = np.random.default_rng(seed)
    y = (rng.random((n, 4)) < [0.1, 0.2, 0.3, 0.2]).astype(np.float32)
    y[:, 1] = np.where(rng.random(n) < 0.7, y[:, 0], y[:, 1])  # two that occur together
    healthy = (y.sum(1) == 0).astype(np.float32)
    return np.concatenate([y, healthy[:, None]], axis=1), ["a", "b", "c", "d", "No Finding"]


def design_of(y, names, **attributes):
    return Design.of(y, np.ones(y.shape, bool), names, attributes)


def test_p_is_two_sided_and_the_sentence_follows_it():
    null = np.linspace(3.3, 3.4, 199)
    assert two_sided(3.9, null) == two_sided(3.0, null) == pytest.approx(2 / 200)
    assert two_sided(3.35, null) == 1.0 and np.isnan(two_sided(np.nan, null))

    def side(value, p):
        rows = {"mean_entropy": Measure(value), "null_mean_entropy": Measure(3.35)}
        return entropies.side(rows | ({} if p is None else {"mean_entropy_p_two_sided": Measure(p)}))

    assert [side(3.9, 0.01), side(3.0, 0.01), side(3.36, 0.7)] == ["above", "below", "within"]
    assert side(3.9, None) == "unknown", "scores made before the measure existed"


def test_the_floor_counts_the_labels_that_have_a_perfect_detector():
    floor = Something(bits_k=np.array([1.0, np.nan, 2.0]))
    assert entropy_floor(Something(design=Something(floor=floor))) == Value(1.5, n=2)


def test_the_monosemanticity_score_counts_neurons_and_draws():
    similarity = Something(score_m=np.array([0.2, np.nan, 0.4]), p_m=np.array([0.05, np.nan, 0.051]),
                           drawn_tm=np.array([[0.1, np.nan, 0.3], [0.2, np.nan, np.nan]]))  # fmt: skip
    alike, score = (measure(Something(similarity=similarity)) for measure in (ms_alike_share, ms_score))
    assert alike == Value(0.5, n=2, note="2 draws")
    assert (score.value, score.n, score.shuffled) == (pytest.approx(0.3), 2, "images")
    assert score.null_t is not None and score.null_t.tolist() == pytest.approx([0.2, 0.2])
    asked = [measure(Something(similarity=None)) for measure in (ms_alike_share, ms_score)]
    assert all(np.isnan(value.value) and "--ms-embeddings" in value.note for value in asked)


def test_a_band_of_few_draws_is_not_printed():
    draws = np.full(200, np.nan)
    draws[:38] = np.linspace(3, 4, 38)
    values = {"m": Value(3.5)}
    _against_shuffled(values, "m", "bits", draws)
    assert np.isnan(values["null_m"].low) and "too few draws" in values["null_m"].note and values["null_m"].n == 38
    _against_shuffled(values, "m", "bits", np.linspace(3, 4, 200))
    assert values["null_m"].low < 3.1 and "too few" not in values["null_m"].note
    null, n = values["null_m"], np.linspace(3, 4, 200)
    assert (null.value, null.low, null.high, null.n) == (pytest.approx(3.5), *np.quantile(n, [0.025, 0.975]), 200)
    assert values["null_m_sd"].value == pytest.approx(n.std(ddof=1)) and values["null_m_sd"].n == 200
    assert null.note.startswith("bits; mean of the draws") and values["null_m_sd"].note.startswith("bits; spread")
    assert values["m_p_two_sided"].value == 1 and values["m_p_two_sided"].n == 200
    # Where fewer were asked for than a band of many needs, all of them are enough; of a single draw there is no spread.
    _against_shuffled(values, "m", "bits", np.linspace(3, 4, 20))
    assert np.isfinite(values["null_m"].low) and np.isfinite(values["null_m_sd"].value)
    _against_shuffled(values, "m", "bits", np.array([3.2, np.nan]))
    assert values["null_m"].value == 3.2 and np.isnan([values["null_m"].low, values["null_m_sd"].value]).all()
    _against_shuffled(values, "m", "bits", np.full(3, np.nan))
    assert np.isnan(values["null_m"].value) and values["null_m"].n == 0 and "defined in 0 of 3" in values["null_m"].note


def test_floor_is_the_entropy_of_perfect_detectors_and_unique_floor_is_zero():
    y, names = labels()
    design = design_of(y, names)
    np.testing.assert_allclose(design.floor.bits_k, entropy_bits(corrcoef(y.T)))
    perfect = corrcoef(y[:, :1].T, design.residual_nr.T)[:1, 1:]
    profiles = Profiles(np.full((1, 5), 0.1), np.ones(5), perfect, design, np.ones(1, int))
    assert profiles.unique_bits_m[0] < 0.1 < design.floor.bits_k[0]


def test_relative_is_one_at_the_null_and_null_where_there_is_no_room():
    def of(value, null, floor):
        rows = {"h": Value(value, value, value), "null_h": Value(null), "f": Value(floor)}
        return relative(Something(values=rows), "h", "f")

    assert of(3.4, 3.4, 3.0).value == pytest.approx(1) and of(3.0, 3.4, 3.0).value == pytest.approx(0)
    assert of(3.6, 3.4, 3.0).value > 1
    assert np.isnan(of(3.4, 3.3, 3.6).value) and "no scale" in of(3.4, 3.3, 3.6).note


def test_residual_labels_know_nothing_of_what_was_taken_out():
    y, names = labels()
    view = (np.random.default_rng(1).random((400, 1)) < 0.5).astype(np.float32)
    design = design_of(y, names, view=view)
    assert list(design.kept_r) == [0, 1, 2, 3] and design.given == ("view", "No Finding")
    assert np.abs(design.residual_nr.T @ np.concatenate([view, y[:, 4:], np.ones((400, 1))], axis=1)).max() < 1e-3
    moved = Permutations(Patients.of(np.arange(400)), 1, 0, design.strata_n).rows(0)
    assert (y[moved, 4] == y[:, 4]).all() and (moved != np.arange(400)).mean() > 0.9


def test_the_published_figure_is_of_the_largest_signed_rho_in_nats():
    rho = np.array([[0.5, 0.1, -0.9], [0.1, 0.3, 0.1], [0.2, 0.2, 0.2]])
    value, n = paper_entropy_best(Profiles(rho, np.ones(3), rho, design_of(*labels()), np.ones(3, int)))
    # The neurons of the labels are 0, 1 and 2: -0.9 is the largest in size, not in value.
    assert n == 3 and value == pytest.approx(entropy_bits(rho).mean() * np.log(2))


def test_the_published_figure_has_the_floor_of_its_labels_in_nats():
    y, names = labels()
    design = design_of(y, names)
    rho = np.array([[0.5, 0.1, np.nan, 0.1, 0.1], [0.1, 0.3, np.nan, 0.2, 0.1], [np.nan] * 5])
    profiles = Profiles(rho, np.ones(5), rho, design, np.ones(3, int))
    assert followed(profiles).tolist() == [True, True, False, True, True]
    found = paper_entropy_best_floor(Something(design=design, profiles=profiles))
    assert found.n == 4
    assert found.value == pytest.approx(entropy_bits(corrcoef(y.T))[[0, 1, 3, 4]].mean() * np.log(2))
    nobody = Profiles(rho[2:], np.ones(5), rho[2:], design, np.ones(1, int))
    assert not followed(nobody).any() and np.isnan(paper_entropy_best(nobody)[0])


def test_a_scored_measure_with_draws_of_its_own_has_null_and_p():
    y, names = labels()
    x = np.random.default_rng(8).standard_normal((400, 5)).astype(np.float32)
    z = np.maximum(x - 1, 0)
    known = Known(values_nk=y, labels=names, patients=np.arange(400))
    found = score_arrays(ArraySource(z, True), known, Choices(draws=20, bootstraps=20), raw=ArraySource(x))
    rows = found.summary.set_index("measure")
    # Raw neurons cut at 1 to fire as often are (nearly) these neurons or their mirror images.
    assert rows.n["matched_entropy"] == rows.n["matched_raw_entropy"] == 5
    assert rows.value["matched_entropy"] == pytest.approx(rows.value["mean_entropy"])
    assert rows.n["null_matched_raw_entropy"] == rows.n["matched_raw_entropy_p_two_sided"] == 20
    assert rows.low["null_matched_raw_entropy"] < rows.value["null_matched_raw_entropy"]
    assert rows.low["matched_raw_entropy"] < rows.value["matched_raw_entropy"] < rows.high["matched_raw_entropy"]
    alone = score_arrays(ArraySource(z, True), known, Choices(draws=20, bootstraps=20)).summary.set_index("measure")
    assert np.isnan(alone.value["matched_raw_entropy"]) and "partner" in alone.note["matched_raw_entropy"]
    assert "null_matched_raw_entropy" not in alone.index and "fve" not in alone.index
    assert declared().set_index("measure").of["fve"] == "sae"


def test_curve_takes_known_parts_and_ends_where_it_is_told():
    size = np.array([1000.0, 500, 200])
    assert endless(size, 3 + 2 / np.sqrt(size) - 5 / size) == pytest.approx(3)
    low, high = jackknife(3.0, [2.9, 3.0, 3.1, 3.0])
    assert low < 2.9 and high > 3.1 and np.isnan(jackknife(3.0, [1.0, 2.0])[0])
    y, names = labels()
    z = np.random.default_rng(2).random((400, 6)).astype(np.float32)
    held = Held(ArraySource(z), 400)
    rows = entropy_curve(held, design_of(y, names), Patients.of(np.arange(400)), 0, np.full(6, 400)).rows
    whole = rows[(rows.left_out == -1) & (rows.parts == 1)].iloc[0]
    expected = entropy_bits(corrcoef(np.concatenate([z, y], axis=1).T)[:6, 6:]).mean()
    assert whole.images == 400 and whole.mean_entropy == pytest.approx(expected, abs=1e-3) and len(rows) == 33


def test_partners_fire_as_often():
    x = np.random.default_rng(3).standard_normal((300, 5)).astype(np.float32)
    active = np.array([3, 0, 40, 150, 300, 7])
    cut, neurons = cut_to_fire_like(ArraySource(x), active, 300, 0)
    assert list(neurons) == [0, 2, 3, 5], "silent ones and those that always fire have no partner"
    fires = np.concatenate([(z > 0) for _, z in cut.blocks()]).sum(0)
    np.testing.assert_array_equal(fires, active[neurons])


def test_share_of_selective_neurons_near_its_ends():
    assert share_interval(0, 100, np.zeros(50))[1] > 0.02
    assert share_interval(100, 100, np.ones(50))[0] < 0.99
    low, high = share_interval(50, 100, np.linspace(0.4, 0.6, 200))
    assert (low, high) == (pytest.approx(0.405, abs=0.01), pytest.approx(0.595, abs=0.01))


def test_a_measure_is_one_declaration(monkeypatch):
    import sys

    module = type(sys)("extra_measures")
    module.largest = lambda profiles: float(np.nanmax(np.abs(profiles.rho_mk)))
    module.half = lambda scored: scored.profiles.strongest_m / 2
    monkeypatch.setitem(sys.modules, "extra_measures", module)
    known = dict(plugins.measures.all())
    monkeypatch.setattr(plugins.measures, "_offers", known)
    plugins.measures.register(plugins.Measure(
        name="largest_rho", label="largest", help="the largest |rho|", unit="number", of="profiles",
        load="extra_measures:largest", shown=("overview",)))  # fmt: skip
    plugins.measures.register(plugins.Measure(
        name="half_rho", label="half", help="half of the largest", unit="number", of="neurons",
        load="extra_measures:half"))  # fmt: skip
    y, names = labels()
    z = np.random.default_rng(4).random((400, 6)).astype(np.float32)
    found = score_arrays(ArraySource(z), Known(values_nk=y, labels=names, patients=np.arange(400)),
                         Choices(draws=20, bootstraps=20))  # fmt: skip
    summary = found.summary.set_index("measure")
    assert summary.value["largest_rho"] == pytest.approx(found.neuron.max_abs_rho.max())
    assert {"null_largest_rho", "largest_rho_p_two_sided"} <= set(summary.index)
    assert summary.low["largest_rho"] < summary.high["largest_rho"]
    per = found.neuron_measure[found.neuron_measure.measure == "half_rho"]
    np.testing.assert_allclose(per.value, found.neuron.max_abs_rho / 2)
    assert set(found.draw_measure.kind) == {"permutation", "bootstrap"}
    assert "largest_rho" in set(declared().measure)


def test_an_interval_over_patients_and_trainings_by_hand():
    draws = np.array([-0.1, 0.1, -0.1, 0.1, np.nan])  # variance 0.04 / 3
    values = [3.0, 3.2, 3.4]  # variance 0.04, of the mean a third of it
    low, high = trainings_interval(0.5, draws, values, [2.7])
    total = 2 * 0.04 / 3
    # Satterthwaite: total^2 / ((0.04 / 3)^2 / 2) = 8 degrees of freedom, t = 2.306.
    assert (low, high) == tuple(pytest.approx(0.5 + side * 2.306 * total**0.5, rel=1e-4) for side in (-1, 1))
    low, high = trainings_interval(0.5, draws, values, [2.5, 2.7])
    total = 0.04 / 3 + 0.04 / 3 + 0.02 / 2
    freedom = total**2 / ((0.04 / 3) ** 2 / 2 + 0.01**2 / 1)
    assert high - 0.5 == pytest.approx(stdtrit(freedom, 0.975) * total**0.5)
    assert trainings_interval(0.5, draws, [3.2], [2.7]) == centred_interval(0.5, draws)
    same = trainings_interval(0.5, draws, [3.2, 3.2], [2.7])
    assert same[1] - 0.5 == pytest.approx(1.96 * (0.04 / 3) ** 0.5, rel=1e-3), "trainings that agree add nothing"
    for nothing in (trainings_interval(np.nan, draws, values), trainings_interval(0.5, [0.1], values)):
        assert np.isnan(nothing).all()


def test_several_trainings_widen_the_interval():
    class Read:
        def alias(self, one):
            return one.id

        def query(self, text, values=(), s: Any = None):
            if "summary" in text:
                return pd.DataFrame({"value": [s.value]})
            return pd.DataFrame({"value": s.value + np.sin(np.arange(50)) * 0.01})

        def rows(self, text, values=()):
            return [{"one": 1}] if "duckdb_tables" in text else []

    def one(value) -> Any:
        return Something(id=str(value), value=value, config={"images": "all", "seed": 0})

    raw = one(3.4)
    reader: Any = Read()
    alone: Any = entropies.shift(reader, [one(3.2)], [raw])
    three: Any = entropies.shift(reader, [one(3.1), one(3.2), one(3.3)], [raw])
    assert alone.value == pytest.approx(-0.2) and three.value == pytest.approx(-0.2)
    assert three.seeds == 3 and three.high - three.low > 0.3 > 0.05 > alone.high - alone.low


def test_a_neuron_lies_between_the_floor_of_its_label_and_its_own_null():
    y, names = labels()
    design = design_of(y, names)
    floor = design.floor.bits_k
    rho = np.array([[0.1, 0.2, -0.9, 0.3, np.nan], [0.5, 0.4, 0.4, 0.4, 0.4], [np.nan] * 5, [0.1, 0.1, 0.1, 0.6, 0.1]])
    null = np.array([floor[2] + 0.4, floor[0] + 0.01, 3.0, floor[3] + 1.0])
    profiles = Profiles(rho, np.ones(5), rho, design, np.ones(4, int))
    scored = Something(design=design, profiles=profiles, null=Something(entropy_mean_m=null))
    np.testing.assert_array_equal(neuron_floor(scored), [floor[2], floor[0], np.nan, floor[3]])
    bits = entropy_bits(rho)
    # The second has no room between the two, the third no correlation.
    expected = [(bits[0] - floor[2]) / 0.4, np.nan, np.nan, bits[3] - floor[3]]
    np.testing.assert_allclose(neuron_relative(scored), expected)


def test_counts_of_silent_and_of_selective_neurons_and_of_what():
    q = np.array([0.05, 0.01, 0.2, np.nan, 0.051])
    scored = Something(profile=Something(active_m=np.array([0, 3, 5, 0, 1])), images=10, fdr=0.05, matched=None,
                       null=Something(q_m=q, p_m=q), selective_t=np.full(20, 0.5))  # fmt: skip
    assert dead_count(scored).n == 5
    assert (dead_count(scored).value, dead_share(scored).value, dead_share(scored).n) == (2, 0.4, 5)
    assert (active_neurons(scored).value, active_neurons(scored).n) == (0.9, 10)
    assert (active_share(scored).value, active_share(scored).n) == (pytest.approx(0.18), 5)
    assert (selective_count(scored).value, selective_count(scored).n) == (2, 4), "at the rate itself it is selective"
    share = selective_share(scored)
    assert (share.value, share.n) == (0.5, 4) and "rate 0.05" in share.note
    for alone in (matched.matched_entropy(scored), matched.matched_raw_entropy(scored)):
        assert np.isnan(alone.value) and alone.note == matched.NO_PARTNER
    # Wilson widens where fewer than five are, or are not.
    still = np.full(50, 0.05)
    assert share_interval(5, 100, still) == (pytest.approx(0.05), pytest.approx(0.05))
    assert share_interval(4, 100, np.full(50, 0.04))[1] > 0.09 and share_interval(96, 100, np.full(50, 0.96))[0] < 0.91


def test_every_declared_measure_is_a_row_with_all_that_is_said_of_it():
    rows = declared().set_index("measure")
    assert set(rows.index) == set(plugins.measures.all())
    assert list(rows.of.unique()) == ["profiles", "scored", "neurons", "sae"]
    for name, one in plugins.measures.all().items():
        row = rows.loc[name]
        assert (row.label, row.unit, row.meaning, row.of) == (one.label, one.unit, one.help, one.of)
        assert (row.over if isinstance(row.over, str) else "") == one.over
        assert (row.null_measure if isinstance(row.null_measure, str) else None) == one.null_measure
        assert np.isnan(row.null_value) if one.null_value is None else row.null_value == one.null_value
    assert rows.null_measure["matched_raw_entropy"] == "null_matched_raw_entropy"
    assert rows.null_measure["mean_entropy"] == "null_mean_entropy" and rows.null_value["entropy_relative"] == 1


def test_the_table_in_the_docs_is_the_declarations():
    text = (Path(__file__).parents[2] / "docs/statistics.md").read_text()
    written = text.split("<!-- measures -->")[1].split("<!-- /measures -->")[0].strip()
    assert written == table(), 'write it again: python -c "from medsae.scoring.measures import table; print(table())"'
