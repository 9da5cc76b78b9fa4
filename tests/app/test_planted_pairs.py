"""Pairs that differ in one factor, on Compare and beside the AUROC of planted factors."""

import pandas as pd
import pytest

import medsae
from medsae.progress import UserError
from medsae.store import planted_pairs
from medsae.store.artifacts import Store
from medsae.store.reader import Reader

WHOLE, APART = ["side", "device", "text"], ["side:right", "side:left", "device", "text"]


@pytest.fixture
def write(synthetic, data, ids):
    """Writes pairs of the synthetic SAE; their id."""
    return lambda **options: synthetic.write_pairs(data, ids, **options)


@pytest.fixture
def pairs(write):
    return write()


def test_without_pairs_the_command_is_said(app, html, data, ids):
    text = html(app.open("compare", scores=ids.scores))
    assert "No pairs yet" in text and f"python -m medsae pairs --sae {ids.sae}" in text
    text = html(app.open("compare", scores=ids.raw, versus="none"))
    assert "python -m medsae pairs --embeddings" in text


def test_best_neurons_stand_beside_their_rivals_and_the_auroc(app, html, pairs, ids):
    page = app.open("compare", scores=ids.scores)
    text = html(page)
    assert "0.83" in text and "0.33" in text and "0.23" in text and "0.13" in text, "SAE, control, raw, random"
    assert "0.91" in text, "AUROC of the device"
    assert "neuron=3" in text and "no neuron&#x27;s change is settled" in text
    assert text.count('class="ms-dose"') == 2, "no columns for a factor that no neuron follows"
    assert "2 of 3 factors" in text


def test_sides_apart_have_rows_of_their_own(app, html, pairs, ids):
    assert "side, right" not in html(app.open("compare", scores=ids.scores)).split("One factor at a time")[1]
    text = html(app.open("compare", scores=ids.scores, facts=1)).split("One factor at a time")[1]
    assert "side, right" in text and "side, left" in text and "3 of 4 factors" in text


def test_factors_can_be_ordered(app, html, pairs, ids):
    def order(**query):
        text = html(app.open("compare", scores=ids.scores, **query)).split("over severity")[1]
        return sorted(("side", "device", "text"), key=lambda name: text.index(f"<td>{name}</td>"))

    assert order() == ["side", "device", "text"]
    assert order(factors="recovered") == ["device", "side", "text"]
    assert order(factors="auroc")[0] == "device"


def test_pictures_of_a_pair_are_shown(app, html, pairs, ids):
    text = html(app.open("compare", scores=ids.scores, pair="side"))
    assert "image 4 without" in text and "with, severity 0.8" in text and text.count("data:image/webp") >= 3


def test_overview_has_the_recovery_by_pairs_beside_the_auroc(app, html, pairs, data, ids):
    assert "by pairs" in html(app.open("overview", scores=ids.scores))


def test_overview_without_pairs_is_as_before(app, html, data, ids):
    assert "by pairs" not in html(app.open("overview", scores=ids.scores))


def test_most_patients_are_taken_and_other_saes_left_alone(write, ids):
    store = Store()
    few, many = write(patients=10), write(patients=40)
    every = store.list()
    for scores in (ids.scores, ids.raw):  # raw neurons of the same embeddings have theirs in the pairs of an SAE
        found = planted_pairs.of(every, store.get(scores))
        assert found is not None and found.id == many != few
    assert planted_pairs.of([a for a in every if a.kind != "pairs"], store.get(ids.scores)) is None


def test_a_neuron_says_what_moves_it(app, html, pairs, ids):
    text = html(app.open("neuron", scores=ids.scores, neuron=3))
    assert "What moves it" in text and "-0.50" in text.replace("\u2212", "-") and "25" in text
    assert "Nothing does" in html(app.open("neuron", scores=ids.scores, neuron=70))


def test_a_neuron_without_pairs_says_nothing_of_them(app, html, data, ids):
    assert "What moves it" not in html(app.open("neuron", scores=ids.scores, neuron=3))


def test_a_notebook_has_the_same_table(write, data, ids):
    with medsae.open(data) as opened:
        with pytest.raises(UserError, match="no pairs were drawn"):
            opened.scores(ids.scores).pairs()
        write()
        frame = opened.scores(ids.scores).pairs()
        assert (
            list(frame.index) == WHOLE
            and frame["neuron"]["device"] == 11
            and frame["untrained"]["side"] == pytest.approx(0.33)
        )
        assert list(opened.scores(ids.scores).pairs(parts=True).index) == APART


def test_what_moves_one_neuron(pairs, data):
    reader = Reader()
    found = planted_pairs.of_neuron(reader, Store().get(pairs), "sae", 3)
    assert list(found["factor"]) == ["device", "side"] and (found["change"] == -0.5).all()
    assert planted_pairs.of_neuron(reader, Store().get(pairs), "sae", 70).empty
    reader.close()


def test_compare_shows_pairs_beside_where_neurons_look(app, html, pairs, ids, monkeypatch):
    """Both panels have a switch for sides and lobes; one parameter for the two once took the page down."""
    rows = pd.DataFrame([
        {"representation": "sae", "neuron": 3, "finding": finding, "source": "planted", "n": 30, "hit": 0.8, "low": 0.6,
         "high": 0.9, "exchanged": 0.4, "p": 0.001, "place": 0.3, "mean_mask": 0.5, "area": 0.1, "verdict": "follows"}
        for finding in ("side", "side:right")
    ])  # fmt: skip
    monkeypatch.setattr("medsae.store.maps.localisation", lambda *_: rows)
    text = html(app.open("compare", scores=ids.scores))
    assert "Do neurons look where the finding is?" in text and "over severity" in text


def test_the_report_has_pairs_beside_their_rivals(pairs, ids, data):
    from medsae.paper import report
    from medsae.store.artifacts import Store

    study = report.open_study(Store(), ids.scores, [3])
    frame = report._tables(study)["pairs"][0]
    assert list(frame.columns)[:3] == ["factor", "neuron", "SAE"] and "raw" in frame.columns
    numbers = [float(v) for v in frame["SAE"][1:] if v != "–"]
    assert frame["factor"][0] == "mean" and "[" in frame["SAE"][0] and numbers == sorted(numbers, reverse=True)


def test_a_report_without_pairs_says_nothing_of_them(data, ids):
    from medsae.paper import report
    from medsae.store.artifacts import Store

    assert "pairs" not in report._tables(report.open_study(Store(), ids.scores, [3]))
