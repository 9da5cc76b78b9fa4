"""A reader's own names, many neurons at once, two neurons side by side, two studies in one Compare."""

import math
import re

import duckdb
import numpy as np
import pandas as pd
import pytest

from medsae.config import Name
from medsae.jobs import Job, Jobs
from medsae.paper import colours, plots
from medsae.store import filter as filters
from medsae.store import pairs, queries
from medsae.store.artifacts import Store
from medsae.store.notes import Note, Notes
from medsae.store.reader import Reader
from medsae.ui import picking


@pytest.fixture
def scores(data, ids):
    return Store().get(ids.scores)


def numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r'class="ms-row"><b>(\d+)', text)]


def test_a_person_names_a_neuron_and_both_names_are_shown_sorted_and_filtered(app, html, data, ids, synthetic):
    test = app.open("neuron", neuron=5)
    test.text_input(key=f"_called-{ids.scores}-5").input("  Aorta   unfolded ").run()
    assert Notes(Store(), ids.sae).of(5).called == "Aorta unfolded", "named though no model has named it"
    assert '<span class="ms-name">Aorta unfolded</span>' in html(app.open("neuron", neuron=5))
    synthetic.write_names(data, ids.scores)
    Notes(Store(), ids.sae).change([9], lambda note: Note(9, called="Zygoma"))
    shown = html(app.open("neuron", neuron=5))
    assert re.search(r"Aorta unfolded \(model: [A-Z][^)]+\)</span>", shown)
    assert numbers(html(app.open("neurons", show="called", sort="name"))) == [5, 9]
    assert numbers(html(app.open("neurons", sort="name")))[0] == 5, "before every name of the model: Atelectasis ..."
    assert "<b>Aorta unfolded</b> <span" in html(app.open("neurons", q="aorta")), "the model's name stands beside it"
    test = app.open("neuron", neuron=5)
    test.text_input(key=f"_called-{ids.scores}-5").input("").run()
    assert Notes(Store(), ids.sae).of(5).called == ""


def test_the_order_by_name_puts_the_nameless_last_by_number():
    chosen = filters.Filter(sort="name", by_name=(7, 2))
    sql = f"SELECT neuron FROM (SELECT range::INTEGER AS neuron FROM range(9)) ORDER BY {chosen.order()}"
    assert [n for (n,) in duckdb.connect().execute(sql).fetchall()] == [7, 2, 0, 1, 3, 4, 5, 6, 8]


def test_many_at_once_are_starred_tagged_and_named_by_one_job(app, data, ids, scores, monkeypatch):
    started = []

    def start(self, config):
        started.append(config)
        return Job("j", ["name"], "running", 0.0, None)

    monkeypatch.setattr(Jobs, "start", start)
    Notes(Store(), ids.sae).put(Note(4, tags=("left",), text="kept", star=True))
    test = app.open("neurons")
    assert not any(b.label == "choose none" for b in test.button)
    test.session_state[picking._key(scores)] = [3, 4]
    test = app.run()
    next(b for b in test.button if b.label == "☆ star").click()
    test = app.run()
    test.text_input(key="_tag-new").input("artefact, left").run()
    next(b for b in test.button if b.label == "Add").click()
    test = app.run()
    notes = Notes(Store(), ids.sae).all()
    assert notes[3].star and notes[3].tags == ("artefact", "left")
    assert notes[4].tags == ("left", "artefact") and notes[4].text == "kept"
    next(b for b in test.button if b.label == "take away: left").click()
    test = app.run()
    assert [Notes(Store(), ids.sae).of(n).tags for n in (3, 4)] == [("artefact",), ("artefact",)]
    before = Notes(Store(), ids.sae).stamp()
    next(b for b in test.button if b.label == "★ take the star away").click()
    app.run()
    assert not Notes(Store(), ids.sae).of(4).star and Notes(Store(), ids.sae).stamp() > before
    next(b for b in test.button if b.label == "Name 2 neurons").click()
    app.run()
    (config,) = started
    assert isinstance(config, Name) and config.neurons == "3,4" and not config.watch and config.scores == ids.scores
    next(b for b in test.button if b.label == "choose none").click()
    assert not any(b.label == "choose none" for b in app.run().button)


def test_what_does_not_change_is_not_written(tmp_path):
    notes = Notes(Store(tmp_path), "sae-1")
    notes.put(Note(1, star=True))
    size = notes.stamp()
    notes.change([1], lambda note: note)
    assert notes.stamp() == size
    notes.put()
    assert notes.stamp() == size


def test_two_neurons_together_by_hand(data, ids, scores):
    reader = Reader()
    table = reader.query("SELECT neuron, image, value FROM {s}.activation", s=scores)
    first, second = [int(n) for n in table["neuron"].value_counts().index[:2]]
    n = int(reader.query("SELECT count(*) AS n FROM {s}.scored", s=scores)["n"][0])
    z = np.zeros((2, n))
    for row, neuron in enumerate((first, second)):
        mine = table[table["neuron"] == neuron]
        z[row, mine["image"]] = mine["value"]
    found = pairs.together(reader, scores, first, second)
    assert found.n == n and found.both == int(((z[0] > 0) & (z[1] > 0)).sum())
    assert found.only_first == int(((z[0] > 0) & (z[1] == 0)).sum())
    assert found.only_second == int(((z[0] == 0) & (z[1] > 0)).sum())
    assert found.rho == pytest.approx(np.asarray(np.corrcoef(z))[0, 1], abs=1e-6)
    assert pairs.together(reader, scores, first, first).rho == pytest.approx(1.0)
    alone = pairs.images(reader, scores, (first, second), "first", 5)
    expected = np.where((z[0] > 0) & (z[1] == 0), z[0], 0)
    assert list(alone["image"]) == list(np.lexsort((np.arange(n), -expected))[: min(5, found.only_first)])
    weaker = np.minimum(z[0] / z[0].max(), z[1] / z[1].max())
    both = pairs.images(reader, scores, (first, second), "both", 1)
    assert len(both) == 0 or both["value"][0] == pytest.approx(weaker.max(), abs=1e-6)


def test_a_neuron_that_never_fires_has_no_rho(data, ids, scores):
    silent = queries.neurons(Reader(), scores, queries.Filter(show="dead"), 1)["neuron"]
    found = pairs.together(Reader(), scores, int(silent.iloc[0]), 3)
    assert found.rho is None and found.both == 0


@pytest.mark.parametrize(
    "query", [{}, {"neuron": 3, "other": 7}, {"neuron": 3, "other": 3}, {"neuron": 0, "other": 999}]
)
def test_the_page_of_two_neurons(app, html, data, ids, query):
    for scores in (ids.scores, ids.raw):
        text = html(app.open("pair", scores=scores, **query))
        assert re.search(r"<h1>Neurons \d+ and \d+</h1>", text) and "Correlation with labels" in text


@pytest.mark.long
def test_two_studies_in_one_compare(app, html, data, ids, synthetic):
    other = synthetic.write(data, images=120, neurons=48, d=24, seed=7)
    test = app.open("compare", scores=ids.scores, against=other.scores)
    text = html(test)
    assert "two studies: no image is in both" in text and "Not between two studies" in text
    assert "160 images · SAE" in text and "120 images · SAE" in text
    assert len(test.get("plotly_chart")) >= 2, "the best neuron of each label, and the SAEs"
    options = test.selectbox(key="_against").options
    assert len(options) == 3 and "this study" in options[0] and all("120 images" in o for o in options[1:])
    assert queries.difference(Reader(), Store().get(ids.scores), Store().get(other.scores)).low is None


def test_intervals_of_dumbbells_lie_apart_and_within_the_axis():
    frame = pd.DataFrame({
        "label": ["Edema", "Fracture"], "auroc_other_half": [0.9, 0.7], "auroc_other_half_other": [0.8, 0.75],
        "other_half_low": [0.85, 0.2], "other_half_high": [0.95, 0.8],
        "other_half_low_other": [0.7, 0.6], "other_half_high_other": [0.88, 0.9],
    })  # fmt: skip
    columns = ("auroc_other_half", "auroc_other_half_other")
    figure = plots.pairs(frame, columns, ("a", "b"), (colours.SAE, colours.RAW))
    one, two = figure.data[1:]
    assert list(figure.layout.yaxis.ticktext) == ["Fracture", "Edema"], "the largest difference on top"
    assert list(one.error_x.array) == pytest.approx([0.1, 0.05]) and list(two.error_x.arrayminus) == pytest.approx(
        [0.15, 0.1]
    )
    assert all(abs(a - b) > 0.2 for a, b in zip(one.y, two.y, strict=True)) and figure.layout.xaxis.range[0] < 0.2


def test_labels_of_points_lie_over_no_other_and_none_is_forced():
    x, y = [30.0, 40.0, 50.0, 45.0], [100.0, 102.0, 100.0, 101.0]
    places = plots.labels_beside(x, y, ["topk 16 × 4"] * 4)
    boxes = [plots._boxes_around(a, b, 6.2 * 11)[p] for a, b, p in zip(x, y, places, strict=True) if p]
    assert boxes and all(
        a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        for i, a in enumerate(boxes)
        for b in boxes[i + 1 :]
    )
    assert None in places, "four points in 20 px have no room for four labels of 68 px beside them"
    assert plots.labels_beside([200.0], [100.0], ["one"]) == ["top center"]
    saes = pd.DataFrame({"active": [8.0], "fve": [0.8], "scores": ["a"], "text": ["long"], "here": [True],
                         "label": ["topk 8 × 4"]})  # fmt: skip
    (points,) = plots.pareto(saes).data
    assert list(points.text) == ["topk 8 × 4"] and points.customdata[0][1] == "long" and math.isfinite(points.x[0])
