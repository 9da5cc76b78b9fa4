"""Everything in one call: the tables agree with each other and with the definitions, for raw and for an SAE."""

import duckdb
import numpy as np
import pytest

from medsae.progress import UserError
from medsae.scoring.activity import ArraySource, RandomDirections
from medsae.scoring.scores import Choices, Known, Scores, Truth, score_arrays

LABELS = ["Edema", "Fracture", "No Finding", "Pneumonia"]


def cohort(n=240, m=24, seed=0):
    rng = np.random.default_rng(seed)
    values = (rng.random((n, 4)) < 0.3).astype(np.int8)
    values[rng.random((n, 4)) < 0.1] = -1
    values[rng.random((n, 4)) < 0.2] = -128
    values[:, 1] = 0
    values[0, 1] = 1  # one positive: defined rho, no AUROC
    x = rng.standard_normal((n, 8)).astype(np.float32)
    x[:, 0] += 2 * (values[:, 0] == 1)
    z = np.where(rng.random((n, m)) < 0.3, rng.random((n, m)), 0).astype(np.float32)
    z[:, 3] = np.maximum(x[:, 0] - 1, 0)
    z[:, 7] = 0
    return values, x, z, np.arange(n) // 2


def scored(source, values, patients, attributes=None, truth=None, decoder_md=None, **choices) -> Scores:
    known = Known(values_nk=values, labels=LABELS, patients=patients, attributes=attributes or {}, truth=truth)
    how = Choices(draws=30, bootstraps=30, top=20, **choices)
    return score_arrays(source, known, how, decoder_md=decoder_md)


def measures(scores):
    return scores.summary.set_index("measure")


def test_tables_of_an_sae_agree():
    values, x, z, patients = cohort()
    truth = Truth(
        ["Edema"], values[:, :1] == 1, rivals={"raw": ArraySource(x), "random": RandomDirections(ArraySource(x), 24, 0)}
    )
    views = np.where(np.arange(240) % 3 == 0, "AP", "PA")
    scores = scored(ArraySource(z, True), values, patients, truth=truth, decoder_md=np.ones((24, 8), np.float32),
                    attributes={"view": views, "blank": [None] * 240})  # fmt: skip
    neuron, pairs, summary = scores.neuron.set_index("neuron"), scores.correlation, measures(scores)

    assert len(neuron) == 24 and len(pairs) == 96
    assert neuron.reason[7] == "never fires on the images scored" and neuron.reason.drop(7).isna().all()
    np.testing.assert_array_equal(neuron.entropy.isna(), neuron.reason.notna())
    assert neuron.selective[3] and neuron.top_label[3] == neuron.selective_label[3] == "Edema"
    assert neuron.selective.isna()[7] and neuron.p.isna()[7]
    np.testing.assert_array_equal(pairs.rho.isna(), pairs.reason.notna())
    defined = pairs[pairs.rho.notna()]
    strongest = defined.loc[defined.rho.abs().groupby(defined.neuron).idxmax()].set_index("neuron")
    np.testing.assert_allclose(strongest.rho, neuron.top_rho.drop(7))
    assert ((pairs.low <= pairs.rho) & (pairs.rho <= pairs.high))[pairs.rho.notna()].all()

    assert summary.value["mean_entropy"] == pytest.approx(neuron.entropy.mean())
    assert summary.n["mean_entropy"] == 23 and summary.value["dead_count"] == 1
    strong = neuron.max_abs_rho > 0.2
    assert summary.n["mean_entropy_strong"] == strong.sum()
    assert summary.value["mean_entropy_strong"] == pytest.approx(neuron.entropy[strong].mean())
    assert summary.value["selective_count"] == neuron.selective.sum()
    assert summary.low["mean_entropy"] < summary.value["mean_entropy"] < summary.high["mean_entropy"]
    drawn = scores.draw[scores.draw.kind == "permutation"]
    assert len(drawn) == 30 and summary.value["null_mean_entropy"] == pytest.approx(drawn.mean_entropy.mean())
    assert summary.value["active_neurons"] == pytest.approx((z > 0).sum() / 240)

    fires = scores.histogram.groupby("neuron")["count"].sum()
    np.testing.assert_array_equal(fires, neuron.active.drop(7))
    assert len(scores.activation.value) == (z != 0).sum()
    assert scores.null_histogram["mean"].sum() == pytest.approx(1)

    label = scores.label_summary.set_index("label")
    known = label[label.rho.notna()]
    assert ((known.rho_low <= known.rho) & (known.rho <= known.rho_high)).all() and len(known)
    assert (neuron.entropy_null_sd.drop(7) > 0).all() and summary.n["dead_share"] == 24
    stated = label[["positives", "negatives", "uncertain", "unstated"]]
    assert (stated.sum(axis=1) == 240).all()
    assert (label.used == label.positives + label.negatives).all()
    assert label.best_neuron_auroc["Edema"] == label.best_neuron_rho["Edema"] == 3 and label.direction["Edema"] == 1
    assert label.low["Edema"] < label.auroc["Edema"] < label.high["Edema"]
    assert label.half_neuron["Edema"] == 3 and label.auroc_other_half["Edema"] > 0.7
    assert "each needs 5" in label.reason["Fracture"] and np.isnan(label.auroc_other_half["Fracture"])
    assert scores.recovery.neuron[0] == 3 and scores.recovery.activation[0] > 0.7
    assert np.isnan(scores.recovery.preactivation[0]) and scores.recovery.raw[0] > 0.7
    near = scores.neighbour
    assert set(near.measure) == {"decoder", "coactivation"} and near["rank"].max() == 10
    drawn = scores.draw_measure.groupby("kind")["draw"].nunique()
    assert drawn.to_dict() == {"permutation": 30, "bootstrap": 30}
    assert summary.n["active_share"] == 24 and summary.n["active_neurons"] == 240
    assert all(n is None or n == int(n) for n in summary.n.dropna()) and summary.note.map(type).eq(str).all()
    assert "false-discovery rate 0.05" in summary.note["selective_share"]
    attribute = scores.attribute_correlation
    assert set(attribute.attribute) == {"view"} and set(attribute.value) == {"AP", "PA"}


def test_blocks_and_memory_change_nothing(monkeypatch):
    values, _, z, patients = cohort()
    whole = scored(ArraySource(z, True), values, patients)
    pieces = scored(ArraySource(z, True, rows=17), values, patients)
    monkeypatch.setattr("medsae.scoring.activity.MOST_HELD", 100)
    dense = scored(ArraySource(z, False), values, patients)
    for other in (pieces, dense):
        for column in ("entropy", "entropy_null_mean", "max_abs_rho"):
            np.testing.assert_allclose(other.neuron[column], whole.neuron[column], atol=2e-4)
        np.testing.assert_allclose(other.label_summary.auroc, whole.label_summary.auroc)
        np.testing.assert_allclose(other.draw.mean_entropy, whole.draw.mean_entropy, atol=1e-4)


def test_raw_scores_keep_both_ends_of_a_dense_neuron():
    values, x, _, patients = cohort()
    raw = scored(ArraySource(x), values, patients)
    assert raw.neuron.reason.isna().all() and len(raw.activation.value) == 8 * 40


def test_paper_policy_and_constant_labels():
    values, _, z, patients = cohort()
    values[:, 2] = 1
    strict = scored(ArraySource(z, True), values, patients)
    paper = scored(ArraySource(z, True), values, patients, uncertain="keep", unstated="zero")
    assert (paper.label_summary.used == 240).all()
    assert (strict.correlation[strict.correlation.label == "No Finding"].reason == "constant label").all()
    assert measures(strict).value["labels_defined"] == 3 and strict.neuron.labels_defined.max() == 3
    rho = np.corrcoef(z[:, 3], np.where(values[:, 0] == -128, 0, values[:, 0]))[0, 1]
    found = paper.correlation[(paper.correlation.neuron == 3) & (paper.correlation.label == "Edema")]
    assert found.rho.iloc[0] == pytest.approx(rho, abs=1e-6)


def test_nothing_but_dead_neurons_is_scored_without_a_number():
    values, _, z, patients = cohort()
    scores = scored(ArraySource(np.zeros_like(z), True), values, patients)
    assert scores.neuron.entropy.isna().all() and scores.histogram.empty and len(scores.activation.value) == 0
    assert np.isnan(measures(scores).value["mean_entropy"]) and measures(scores).n["mean_entropy"] == 0
    assert np.isnan(measures(scores).value["selective_share"]) and measures(scores).value["dead_share"] == 1


def test_bad_labels_and_activations_are_refused():
    values, _, z, patients = cohort()
    values[5, 2] = 7
    with pytest.raises(UserError, match="image 5, label 2"):
        scored(ArraySource(z, True), values, patients)
    values[5, 2], z[9, 1] = 0, np.inf
    with pytest.raises(UserError, match="NaN or infinite"):
        scored(ArraySource(z), values, patients)


def test_tables_go_into_duckdb_with_null_for_undefined():
    values, _, z, patients = cohort()
    scores = scored(ArraySource(z, True), values, patients)
    neuron, label_summary, correlation = scores.neuron, scores.label_summary, scores.correlation
    with duckdb.connect() as base:
        assert base.execute("SELECT selective, reason FROM neuron WHERE neuron = 3").fetchone() == (True, None)
        dead = base.execute("SELECT selective, top_label, reason FROM neuron WHERE neuron = 7").fetchone()
        assert dead == (None, None, "never fires on the images scored")
        assert base.execute("SELECT half_neuron FROM label_summary WHERE label = 'Fracture'").fetchone() == (None,)
        assert base.execute("SELECT label FROM correlation LIMIT 1").fetchone() == ("Edema",)
    assert len(neuron) and len(label_summary) and len(correlation)
