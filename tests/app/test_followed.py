"""What is left given attributes, on the pages: the verdict, any label and attribute, the order, older scores."""

import pytest

from medsae.store import followed
from medsae.store.artifacts import Store
from medsae.store.reader import Reader


@pytest.fixture
def stored(data, ids):
    store = Store(data)
    scores = store.get(ids.scores)
    reader = Reader()
    yield reader, scores, store.get(scores.parents["cohort"])
    reader.close()


def first(stored):
    reader, scores, _ = stored
    return int(
        reader.query("SELECT neuron FROM {s}.confounded WHERE rho IS NOT NULL ORDER BY fall DESC", s=scores)["neuron"][
            0
        ]
    )


def test_the_verdict_stands_on_the_page_of_the_neuron(stored, ids, app, html):
    neuron = first(stored)
    text = html(app.open("neuron", scores=ids.scores, neuron=neuron))
    assert "given devices" in text and "within view AP" in text and "given all of them" in text
    assert "Within the values of" not in text, "nothing is computed that nobody asked for"


def test_any_label_and_attribute_can_be_chosen(stored, ids, app, html):
    test = app.open(
        "neuron", scores=ids.scores, neuron=first(stored), closer=1, follows="Edema", within="sex", held="view,age"
    )
    text = html(test)
    assert ">given view<" in text and ">given age<" in text and ">given all of them<" in text
    assert {s.label for s in test.selectbox} >= {"Label", "Within the values of"}
    odd = app.open("neuron", scores=ids.scores, neuron=first(stored), closer=1, held="nonsense")
    assert any("nonsense" in w.value for w in odd.warning)


def test_neurons_come_by_how_much_they_fall(stored, ids, app, html):
    reader, scores, _ = stored
    text = html(app.open("neurons", scores=ids.scores, sort="-fall"))
    order = reader.query("SELECT neuron FROM {s}.confounded ORDER BY fall DESC NULLS LAST, neuron LIMIT 2", s=scores)[
        "neuron"
    ]
    places = [text.index(f"neuron={n}&") if f"neuron={n}&" in text else text.index(f'neuron={n}"') for n in order]
    assert places == sorted(places)
    assert "What is left given other attributes" in html(app.open("correlations", scores=ids.scores))


def test_older_scores_say_so(data, ids, app, html, monkeypatch):
    monkeypatch.setattr(followed, "has", lambda *_: False)
    assert "not computed then" in html(app.open("neuron", scores=ids.scores, neuron=0))
    test = app.open("neurons", scores=ids.scores, sort="-fall")
    assert any("not computed then" in w.value for w in test.warning)
    assert "not computed then" in html(app.open("correlations", scores=ids.scores))


def test_attributes_come_from_any_column(stored):
    reader, _, cohort = stored
    known = followed.attributes(reader, cohort)
    assert list(known.values)[:3] == ["view", "sex", "age"] and "factor:device" not in known.values
    assert len(known.of(known.image[3:5])["view"]) == 2
