"""Choices live in the URL: a used widget writes it, a link is shown by the widgets, previous and next stay within."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from medsae import config as c
from medsae.progress import Silent
from medsae.steps.naming import name
from medsae.store import queries
from medsae.store.artifacts import Store
from medsae.store.notes import Note, Notes
from medsae.store.reader import Reader
from medsae.ui import links
from medsae.ui import study as studies


def test_a_used_chooser_writes_the_url_and_the_default_leaves_it(app, data, ids):
    test = app.open("entropy")
    test.selectbox(key="_scores").select(ids.raw).run()
    assert "".join(test.query_params["scores"]) == ids.raw
    test.toggle(key="_patients").set_value(True).run()
    assert "".join(test.query_params["patients"]) == "1"
    test.toggle(key="_patients").set_value(False).run()
    assert "patients" not in test.query_params
    assert not test.exception


def test_a_link_sets_the_widgets(app, data, ids):
    test = app.open("neurons", show="selective", sort="-rho", label="Edema", q="12")
    assert test.selectbox(key="_show").value == "selective"
    assert test.selectbox(key="_sort").value == "-rho"
    assert test.selectbox(key="_label").value == "Edema"
    assert test.text_input(key="_q").value == "12"


def _asks_from(test, address):
    """The next request comes from this address, as the browser's does that has not heard of a newer one."""
    for old in list(test.query_params):
        del test.query_params[old]
    for parameter, value in address.items():
        test.query_params[parameter] = value


def test_a_second_control_that_is_used_before_the_answer_keeps_the_first(app, data, ids):
    test = app.open("correlations", rows="rho")
    before = {"rows": "rho"}
    test.toggle(key="_beside").set_value(True).run()
    _asks_from(test, before)
    test.selectbox(key="_label").select("Edema").run()
    _asks_from(test, before)
    test.toggle(key="_patients").set_value(True).run()
    found = {parameter: "".join(value) for parameter, value in dict(test.query_params).items()}
    assert found == {"rows": "rho", "beside": "1", "label": "Edema", "patients": "1"}
    assert test.toggle(key="_beside").value and test.selectbox(key="_label").value == "Edema"


def test_what_back_took_away_no_later_control_brings_again(app, data, ids):
    test = app.open("correlations", rows="rho")
    test.toggle(key="_beside").set_value(True).run()
    _asks_from(test, {"rows": "rho"})
    test.run()  # Back
    assert not test.toggle(key="_beside").value
    test.selectbox(key="_label").select("Edema").run()
    assert {name: "".join(value) for name, value in dict(test.query_params).items()} == {
        "rows": "rho",
        "label": "Edema",
    }
    assert not test.toggle(key="_beside").value


def test_previous_and_next_stay_within_the_filter(app, html, data, ids):
    reader, scores = Reader(), Store().get(ids.scores)
    chosen = queries.Filter(show="selective", sort="-rho")
    order = [int(n) for n in queries.neurons(reader, scores, chosen, None)["neuron"]]
    assert len(order) >= 3
    text = html(app.open("neuron", neuron=order[1], show="selective", sort="-rho"))
    keys = dict(re.findall(r'data-key="(\w+)" href="([^"]+)"', text))
    assert f"neuron={order[0]}" in keys["ArrowLeft"] and "show=selective" in keys["ArrowLeft"]
    assert f"neuron={order[2]}" in keys["ArrowRight"] and "sort=-rho" in keys["ArrowRight"]
    assert f"2 of {len(order)}" in text


def test_gallery_pages_through_all_neurons_once(app, html, data, ids):
    seen = []
    for page in (1, 2, 3):
        seen += re.findall(
            r'class="ms-card" data-go href="neuron\?[^"]*neuron=(\d+)"', html(app.open("neurons", page=page))
        )
    assert sorted(map(int, seen)) == list(range(72))


def test_entropy_range_lists_its_neurons(app, html, data, ids):
    reader, scores = Reader(), Store().get(ids.scores)
    inside = queries.neurons(reader, scores, queries.Filter(low=2.0, high=3.0), None)["neuron"]
    text = html(app.open("entropy", lo=2.0, hi=3.0))
    assert f"{len(inside)} neurons between 2.00 and 3.00 bits" in text
    assert f"between {2 * 0.6931:.2f}" in html(app.open("entropy", lo=2.0, hi=3.0, unit="nats"))


def press(test, label):
    next(b for b in test.button if b.label == label).click().run()
    assert not test.exception


def test_note_is_saved_shown_and_filterable(app, html, data, ids):
    test = app.open("neuron", neuron=5)
    press(test, "☆ star")
    test.text_area[0].set_value("pacemaker <b>lead</b>")
    next(t for t in test.text_input if t.label == "Tags").set_value("device, left, device")
    press(test, "Save")
    note = Notes(Store(), ids.sae).of(5)
    assert (note.star, note.tags, note.text) == (True, ("device", "left"), "pacemaker <b>lead</b>")
    assert "neuron=5" in html(app.open("neurons", show="starred"))
    assert re.search(r">1 neuron\b", html(app.open("neurons", q="pacemaker")))
    assert "★" in html(app.open("neurons", show="starred"))
    press(app.open("neuron", neuron=5), "★ starred")
    note = Notes(Store(), ids.sae).of(5)
    assert (note.star, note.tags) == (False, ("device", "left")), "a star taken away leaves the rest"


def test_a_verdict_is_of_one_name_and_filters(app, html, data, ids):
    name(c.Name(scores=ids.scores, all=True, pictures=5), Store(data), Silent())
    named = sorted(int(n) for n in re.findall(r"neuron=(\d+)", html(app.open("neurons", show="named"))))
    assert len(named) >= 3
    test = app.open("neuron", neuron=named[0], show="named", sort="neuron")
    press(test, "disagree")
    said = Notes(Store(), ids.sae).of(named[0])
    assert said.verdict == "disagree" and said.name
    keys = dict(re.findall(r'data-key="(\w+)" href="([^"]+)"', html(test)))
    assert f"neuron={named[1]}" in keys["ArrowRight"], "the next neuron is the next that has a name"
    assert re.search(r">1 neuron\b", html(app.open("neurons", show="disagree")))
    assert f">{len(named) - 1} neurons" in html(app.open("neurons", show="unjudged"))
    press(app.open("neuron", neuron=named[0]), "disagree")
    assert Notes(Store(), ids.sae).of(named[0]).verdict == "", "pressed again it is taken back"
    # A verdict on a name that has gone is no verdict on the present one.
    Notes(Store(), ids.sae).put(Note(named[0], verdict="agree", name="Older name"))
    test = app.open("neuron", neuron=named[0])
    assert any("to another name: Older name" in caption.value for caption in test.caption)
    assert f">{len(named)} neurons" in html(app.open("neurons", show="unjudged"))


def test_note_belongs_to_the_neuron_not_to_a_scoring(data, ids):
    store = Store()
    Notes(store, ids.sae).put(Note(3, star=True))
    assert Notes(store, ids.embeddings).all() == {}


def test_url_keeps_the_study_and_drops_what_is_none(monkeypatch):
    given = {"scores": "a", "lo": "1", "unit": "nats"}
    monkeypatch.setattr(links.st, "query_params", SimpleNamespace(to_dict=lambda: given))
    assert links.url("neurons", page=2, unit=None) == "neurons?scores=a&page=2"
    assert links.neuron_url(7) == "neuron?scores=a&unit=nats&lo=1&neuron=7"


def test_titles_tell_representations_apart():
    def artifact(kind, id, facts=None, config=None, **parents):
        return SimpleNamespace(kind=kind, id=id, facts=facts or {}, config=config or {}, parents=parents,
                               path=Path("/nowhere/artifacts") / kind / id)  # fmt: skip

    facts = {"kind": "topk", "k": 16, "expansion": 4}
    saes = [artifact("sae", f"sae-{i}", facts | {"seed": seed}) for i, seed in enumerate([0, 1, 1])]
    embeddings = artifact("embeddings", "emb-1", {"encoder": "simclip"})
    config = {"images": "evaluation", "protocol": "strict", "representation": "sae"}
    scores = [artifact("scores", f"s-000{i}", config=config, sae=s.id) for i, s in enumerate(saes)]
    raw = artifact("scores", "s-0009", config=config | {"representation": "raw"}, embeddings="emb-1")
    everything = (*saes, embeddings, *scores, raw)
    assert studies.titles(everything, scores[:1]) == {"s-0000": "SAE topk 16 × 4"}
    assert list(studies.titles(everything, [*scores, raw]).values()) == [
        "SAE topk 16 × 4 · seed 0",
        "SAE topk 16 × 4 · seed 1 · 0001",
        "SAE topk 16 × 4 · seed 1 · 0002",
        "raw simclip",
    ]
    lost = [artifact("scores", f"s-001{i}", config=config, sae="gone") for i in range(2)]
    assert not [t for t in studies.titles(everything, lost).values() if "None" in t]


@pytest.mark.parametrize(
    ("source", "config", "title"),
    [
        ("chexpert", {"root": "/x/CheXpert-v1.0-small"}, "chexpert · 9 images"),
        ("folders", {"root": "/x/chest_xray.v2"}, "chest_xray.v2 · 9 images"),
        ("table", {"table": "/x/ward 7.csv", "root": "/x"}, "ward 7.csv · 9 images"),
        ("table", {}, "table · 9 images"),
    ],
)
def test_a_table_or_folder_of_ones_own_is_told_by_its_name(source, config, title):
    cohort = SimpleNamespace(id="c", kind="cohort", facts={"source": source, "n": 9}, config=config,
                             path=Path("/nowhere/artifacts/cohort/c"))  # fmt: skip
    assert studies.cohort_title(cohort) == title


def test_the_form_of_embed_offers_what_is_registered_with_its_own_options(app, data):
    test = app.open("runs", tab="start", step="embed")
    (encoder,) = [s for s in test.selectbox if s.label == "encoder"]
    assert "MedCLIP, ResNet-50" in encoder.options and "embeddings made elsewhere" in encoder.options
    labels = [w.label for w in test.text_input]
    assert "encoder" not in labels and "weights" in labels, "what is chosen above has no second widget in the form"


def test_the_form_of_ingest_asks_for_the_source_first(app, data):
    test = app.open("runs", tab="start", step="ingest")
    (source,) = [s for s in test.selectbox if s.label == "source"]
    assert {"CheXpert", "A table of your own", "Folders of classes", "Simulated radiographs"} <= set(source.options)
    test = app.open("runs", tab="start", step="ingest", source="table")
    assert {"table", "root"} <= {w.label for w in test.text_input} and "negative" in {w.label for w in test.text_input}
    test = app.open("runs", tab="start", step="ingest", source="simulated")
    fields = {w.label for w in test.text_input}
    assert "root" not in fields and "images" in fields


def two_controls(first: str, second: str) -> None:
    import streamlit as st

    from medsae.ui import links

    links.forget()
    made = {
        "choose": lambda: links.choose(st.selectbox, "One of two", "at", ["a", "b"], "a"),
        "several": lambda: links.several(st.multiselect, "Some of two", "at", ["a", "b"]),
        "switch": lambda: links.switch("On or off", "at", False),
        "text": lambda: links.text("Words", "at", ""),
        "bounds": lambda: links.bounds("From, to", "low", "at", 0.0, 1.0),
        "pages": lambda: links.pager(3),
        "another": lambda: links.switch("Another", "other", False),
        "page": lambda: links.switch("A page", "page", False),
    }
    made[first]()
    made[second]()


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("choose", "switch", "at"),
        ("several", "choose", "at"),
        ("switch", "text", "at"),
        ("bounds", "switch", "at"),
        ("text", "bounds", "at"),
        ("pages", "page", "page"),
        ("choose", "another", None),
        ("bounds", "pages", None),
    ],
)
def test_two_controls_of_a_page_may_not_share_a_parameter(first, second, shared):
    test = AppTest.from_function(two_controls, args=(first, second)).run()
    assert [e.proto.type for e in test.exception] == (["AssertionError"] if shared else [])
    test.run()
    assert len(test.exception) == (1 if shared else 0), "the next run begins anew"


def test_a_part_of_a_page_that_runs_again_takes_nothing_twice(monkeypatch):
    state = {}
    monkeypatch.setattr(links, "st", SimpleNamespace(session_state=state))
    whole, part = SimpleNamespace(fragment_ids_this_run=None), SimpleNamespace(fragment_ids_this_run=["a"])
    for context in (whole, part, part):
        monkeypatch.setattr(links, "get_script_run_ctx", lambda context=context: context)
        links._take("Their strength", "strength")
    assert state == {"_taken": {"strength": "Their strength"}}
    monkeypatch.setattr(links, "get_script_run_ctx", lambda: whole)
    with pytest.raises(AssertionError, match="'Strength' and 'Their strength' of one page"):
        links._take("Strength", "strength")


APART = {"about", "dlo", "from", "label", "page", "parts", "q", "rho", "show", "sort", "tab"}
"""Parameters that controls of several modules have: on pages of their own, or in place of one another."""
CONTROLS = {"choose": (2,), "several": (2,), "switch": (1,), "text": (1,), "bounds": (1, 2)}
"""Functions of `links` that draw a control, and which of their arguments are parameters."""


def test_what_two_modules_share_is_known_to_stand_on_no_page_twice():
    """Panels that come together only with some data meet in no test; so a new parameter has a name of its own."""
    found: dict[str, set[str]] = {}
    root = Path(__file__).parents[2]
    for path in (*root.glob("medsae/ui/*.py"), *root.glob("pages/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if getattr(node.func.value, "id", "") != "links" or node.func.attr not in (*CONTROLS, "pager"):
                continue
            names = [node.args[i] for i in CONTROLS.get(node.func.attr, ()) if i < len(node.args)]
            words = [n.value for n in names if isinstance(n, ast.Constant)] or ["page"] * (node.func.attr == "pager")
            for word in words:
                found.setdefault(word, set()).add(path.name)
    assert len(found) > 50 and found["page"] > {"neurons.py"}
    assert {word for word, files in found.items() if len(files) > 1} <= APART
