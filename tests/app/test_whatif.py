"""What if, from the command to the pages: sums that add up, switches, sets of neurons, scores without read-outs."""

import re

import numpy as np
import pytest

from medsae import encoders
from medsae.progress import Silent
from medsae.sae.model import Sae
from medsae.store import readouts
from medsae.store.artifacts import Store
from medsae.store.reader import Reader


@pytest.fixture(scope="module")
def study(tmp_path_factory, medsae_at, write_chexpert):
    """(data folder, scores id, image, neuron): a small cohort of generated pictures, scored on its hold-out patients."""
    root = write_chexpert(tmp_path_factory.mktemp("whatif-pictures"), patients=160)
    medsae = medsae_at(tmp_path_factory.mktemp("whatif"))
    cohort = medsae.id("ingest", "chexpert", "--root", root)
    embeddings = medsae.id("embed", "--cohort", cohort, "--encoder", "simclip", "--precision", "fp32")
    sae = medsae.id("train", "--embeddings", embeddings, "--k", 4, "--expansion", 1, "--epochs", 3)
    scores = medsae.id("score", "--sae", sae, "--images", "evaluation", "--draws", 20, "--bootstraps", 20, "--no-maps")
    with Store(medsae.data).get(scores).connect() as connection:
        image, neuron = connection.execute(
            "SELECT image, neuron FROM activation ORDER BY value DESC LIMIT 1"
        ).fetchall()[0]
    return medsae.data, scores, int(image), int(neuron)


@pytest.fixture
def stored(study):
    store = Store(study[0])
    scores = store.get(study[1])
    reader = Reader()
    yield store, reader, scores, store.get(scores.parents["cohort"])
    reader.close()


def test_every_label_has_a_read_out_or_a_reason(stored):
    _, reader, scores, _ = stored
    table = readouts.readouts(reader, scores)
    assert scores.facts["effects"] == "computed" and len(table) == 28
    told = table.set_index(["kind", "label"])
    effusion = told.loc[("probe", "Pleural Effusion")]
    assert effusion["n"] > 60 and effusion["auroc"] > 0.8 and effusion["low"] < effusion["auroc"] <= effusion["high"]
    assert (
        "20 of each" in told.loc[("probe", "Edema"), "reason"]
        or "stated for no" in told.loc[("probe", "Edema"), "reason"]
    )
    assert not (table["auroc"].isna() & table["reason"].isna()).any()
    for kind in ("probe", "text"):
        row = told.loc[(kind, "Pleural Effusion")]
        assert 0.5 < row["null_high"] <= 1, "what directions drawn at random reach: here nearly anything tells it"
    assert told.loc[("probe", "Edema"), "null_high"] is None or np.isnan(told.loc[("probe", "Edema"), "null_high"])


def test_a_switched_neuron_is_what_a_whole_recomputation_gives(stored, study):
    """The zero-shot read-out of edited activations, rebuilt and with the error held, against the sum on the page."""
    store, reader, scores, _ = stored
    _, _, image, neuron = study
    table = readouts.readouts(reader, scores)
    row = table[(table["kind"] == "text") & (table["label"] == "Pleural Effusion")].iloc[0]
    found = readouts.explain(reader, scores, image, int(row["position"]))
    assert found is not None
    sae = Sae.load(store.parent(scores.parents["sae"], "sae").file("sae.safetensors"))
    embeddings = store.parent(scores.parents["embeddings"], "embeddings")
    rows = reader.query('SELECT "row" FROM {e}.embedding_row WHERE image = ?', [image], e=embeddings)["row"]
    x = np.load(embeddings.file("x.npy"))[[int(rows[0])]]
    weight = encoders.load_text("simclip", None, store.cache, Silent()).embed_text(["Pleural Effusion"])[0]
    z = sae.encode(x)
    error = x - sae.decode(z)
    edited = z.copy()
    edited[0, neuron] *= 0.5
    assert found.total == pytest.approx(float((x @ weight)[0]), abs=1e-5)
    assert found.changed([neuron], 0.5) == pytest.approx(float(((sae.decode(edited) + error) @ weight)[0]), abs=1e-5)
    assert found.not_rebuilt == pytest.approx(float((error @ weight)[0]), abs=1e-5)
    assert len(found.neurons) == np.count_nonzero(z)


def test_the_fall_in_the_table_is_that_of_the_set_of_one(stored, study):
    _, reader, scores, cohort = stored
    neuron = study[3]
    table = readouts.of_neuron(reader, scores, neuron, "probe").set_index("label")
    frame = readouts.without(reader, scores, readouts.judged(reader, scores, cohort), [neuron]).set_index("label")
    both = table[["auroc", "fall"]].join(frame[["change", "after"]]).dropna()
    assert len(both) >= 2
    assert both["change"].to_numpy() == pytest.approx(-both["fall"].to_numpy(), abs=1e-6)
    assert both["after"].to_numpy() == pytest.approx((both["auroc"] - both["fall"]).to_numpy(), abs=1e-6)


def test_every_effect_has_an_interval(stored, study):
    _, reader, scores, cohort = stored
    neuron, about = study[3], readouts.judged(reader, scores, cohort)
    for kind in ("probe", "text"):
        frame = readouts.with_intervals(reader, scores, about, neuron, kind)
        assert len(frame) and (frame["typical"].abs().diff().dropna() <= 1e-12).all(), "largest first"
        assert (frame["typical_low"] < frame["typical"]).all() and (frame["typical"] < frame["typical_high"]).all()
        known = frame.dropna(subset=["fall", "change_low"])
        assert len(known) >= 2
        assert (known["change_low"] <= -known["fall"] + 1e-9).all() and (
            -known["fall"] <= known["change_high"] + 1e-9
        ).all()
    # Without the fit (text) the interval is that of the mean activation: by hand, by patient.
    fired = reader.query("SELECT value, patient FROM {s}.activation JOIN {c}.image USING (image) WHERE neuron = ?",
                         [neuron], s=scores, c=cohort)  # fmt: skip
    mean = fired["value"].mean()
    sums = (fired["value"] - mean).groupby(fired["patient"]).sum()
    error = np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)) / len(fired)
    half = (frame["typical_high"] - frame["typical_low"]) / 2
    assert half.to_numpy() == pytest.approx(1.959964 * error * frame["effect"].abs().to_numpy(), rel=1e-6)


def test_on_the_page_of_an_image_the_bars_add_up_and_switches_work(study, app, html, monkeypatch):
    data, scores, image, neuron = study
    monkeypatch.setenv("MEDSAE_DATA", str(data))
    address = {"scores": scores, "image": image, "of": "Pleural Effusion"}
    plain = html(app.open("image", **address))
    table = plain[plain.index("constant") :]
    values = [float(v.replace("−", "-")) for v in re.findall(r"class=n>(?:<b>)?([+−]?\d+\.\d\d)", table)]
    whole = values.index(next(v for i, v in enumerate(values) if i and abs(sum(values[:i]) - v) < 0.011 * (i + 1)), 1)
    assert whole >= 2
    assert any("of random directions stay below" in c.value for c in app.open("image", **address).caption)
    test = app.open("image", **address, off=str(neuron))
    assert "with 1 neuron switched off" in html(test)
    assert "at 2 times" in html(app.open("image", **address, off=str(neuron), strength="2"))
    odd = app.open("image", **address, off="99999")
    assert any("99999" in w.value for w in odd.warning) and "switched off" not in html(odd)


def test_on_the_page_of_a_neuron_labels_come_by_effect(study, app, html, monkeypatch):
    data, scores, _, neuron = study
    monkeypatch.setenv("MEDSAE_DATA", str(data))
    text = html(app.open("neuron", scores=scores, neuron=neuron))
    assert "What if it were off?" in text and "AUROC → without" in text
    assert "when it fires, cosine" in html(app.open("neuron", scores=scores, neuron=neuron, readout="text"))


def test_sets_removed_together(study, app, html, monkeypatch):
    data, scores, _, neuron = study
    monkeypatch.setenv("MEDSAE_DATA", str(data))
    text = html(app.open("whatif", scores=scores, set="list", q=f"{neuron}, 1"))
    assert "2 neurons set to 0 together" in text and "20 sets of others" in text
    assert "No neuron is in this set" in html(app.open("whatif", scores=scores, set="starred"))
    odd = app.open("whatif", scores=scores, set="list", q="7 nonsense -1 1e9")
    assert any("nonsense" in w.value for w in odd.warning)
    assert "set to 0 together" in html(odd)


def test_scores_without_read_outs_say_so(app, html, data, ids):
    assert "They were not computed then" in html(app.open("whatif", scores=ids.scores))
    test = app.open("image", scores=ids.scores, image=3)
    assert any("not computed then" in c.value for c in test.caption)
    test = app.open("neurons", scores=ids.scores)
    assert any("No search by meaning" in c.value for c in test.caption)


def test_neurons_in_words_and_words_to_neurons(study, stored, app, html, monkeypatch):
    from medsae.store import words

    data, scores, _, neuron = study
    _, reader, artifact, _ = stored
    monkeypatch.setenv("MEDSAE_DATA", str(data))
    frame = words.of_neuron(reader, artifact, neuron)
    assert artifact.facts["words"] == "computed" and len(frame) == 5 and frame["cosine"].is_monotonic_decreasing
    known = words.terms(reader, artifact)
    assert "free air under the diaphragm" not in set(known["term"]), "simclip does not know all of these words"
    position = int(known.set_index("term")["position"]["pleural effusion"])
    near = words.nearest(reader, artifact, position)
    mine = reader.query("SELECT cosine FROM {s}.lens WHERE neuron = ? AND position = ?",
                        [int(near["neuron"][0]), position], s=artifact)  # fmt: skip
    assert not len(mine) or near["cosine"][0] == pytest.approx(float(mine["cosine"][0]), abs=1e-3)
    assert "In words" in html(app.open("neuron", scores=scores, neuron=neuron))
    text = html(app.open("neurons", scores=scores, meaning="fluid on the left"))
    assert "Neurons nearest to “left pleural effusion”" in text
    assert "No term of the vocabulary says this" in html(app.open("neurons", scores=scores, meaning="xyzzy"))


def test_names_from_the_vocabulary_are_tested_like_any_other(study, stored, medsae_at):
    from medsae.steps.naming_study import StudyOfScores
    from medsae.store.ledger import Ledger

    data, scores, _, neuron = study
    store, _, artifact, _ = stored
    medsae = medsae_at(data)
    status, _, err = medsae("name", "--scores", scores, "--neurons", neuron, "--backend", "vocabulary", "--pictures", 5)
    assert status in (0, 3), err
    asked = StudyOfScores(store, artifact, 0)
    term, cosine = asked.terms(neuron)[0]
    names = Ledger(store, scores).names()
    assert len(names) == 1 and (names["concept"].isna()[0] or names["concept"][0] == term) and -1 <= cosine <= 1
    near = asked.nearness()
    share = np.mean([bool(near(int(i), term.upper())) for i in asked.scored])
    assert 0.25 <= share <= 0.35 and near(int(asked.scored[0]), "no such term") is None
    asked.close()


def test_scores_without_words_refuse_the_vocabulary(medsae_at, data, ids):
    status, _, err = medsae_at(data)("name", "--scores", ids.scores, "--neurons", 1, "--backend", "vocabulary")
    assert status not in (0, 3) and "no vocabulary: not computed then" in err
