"""The Concepts page and the naming panel: empty, named by labels, hostile text, filters, exports, asking and failing."""

import io
import re
import time
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from medsae import config as c
from medsae.progress import Silent
from medsae.steps.naming import name
from medsae.store import concepts
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger
from medsae.store.notes import Note, Notes
from medsae.store.requests import Requests
from medsae.ui import filters

RUN = {"kind": "run", "run": "abc", "scores": "s", "protocol": "strict", "backend": "endpoint", "model": "oracle",
       "prompts": "1", "pictures": 30, "hard": 0.0, "controls": True, "seed": 0, "overlap": "disjoint"}  # fmt: skip


def row(neuron, concept, accuracy, p=0.001, **values):
    return {"kind": "name", "run": "abc", "neuron": neuron, "take": 0, "status": "ok", "concept": concept,
            "description": f"about {concept}", "group_key": concept.lower(), "accuracy": accuracy, "low": accuracy - 0.1,
            "high": accuracy + 0.1, "p": p, "judged": 60, "asked": 60, "shuffled_accuracy": 0.5, "shuffled_low": 0.4,
            "shuffled_high": 0.6, "shuffled_concept": "Other", "naming": [1, 2]} | values  # fmt: skip


@pytest.fixture
def named(data, ids):
    with Ledger(Store(data), ids.scores).writer() as writer:
        verdicts = [
            {"kind": "verdict", "run": "abc", "neuron": 1, "take": 0, "about": "name", "image": i, "fires": i < 4,
             "value": 1.0, "yes": None if i == 7 else i % 2 == 0, "p": 0.8, "status": "timeout" if i == 7 else "ok"}
            for i in range(8)
        ]  # fmt: skip
        writer.append([
            RUN, *verdicts, row(1, "Right effusion", 0.9), row(2, "right effusion", 0.8), row(3, "Pacemaker", 0.75, 0.9),
            row(4, "<script>alert(1)</script>", 0.72), row(5, "Nothing much", 0.5, 0.6),
            {"kind": "name", "run": "abc", "neuron": 6, "status": "dead", "note": "it never fires"},
            {"kind": "name", "run": "abc", "neuron": 7, "status": "refusal", "note": "it was a refusal", "raw": "I <b>can't</b>"},
            {"kind": "explanation", "run": "abc", "neuron": 7, "status": "refusal", "raw": "I <b>can't</b>"},
        ])  # fmt: skip
    return data


def test_without_names_it_says_what_to_do(app, html, data, ids):
    text = html(app.open("concepts", scores=ids.scores))
    assert "No neuron has a name yet" in text and f"python -m medsae name --scores {ids.scores} --top 50" in text


def test_the_table_counts_and_groups(app, html, named, ids):
    text = html(app.open("concepts", scores=ids.scores))
    assert "4 of 5" in text and "of which 3 survive" in text and "without a test" in text and "1 dead" in text
    assert text.count("<b>Right effusion</b>") == 1 and ">2</a>" in text
    assert "Nothing much" not in text and "Pacemaker" in text
    assert "not named in this way yet" in text
    assert re.search(r"read[^\"]*\"[^>]*>Let people take", text), "people can take the same test"


def test_specific_names_come_first_and_are_counted(app, html, named, ids):
    """Neuron 5 is below the bar, 3 is less accurate than 1 and specific: 3 stands first. Older lines have no such test."""
    with Ledger(Store(named), ids.scores).writer() as writer:
        writer.append([row(1, "Right effusion", 0.9, specific_p=0.6, shuffled_more=5, shuffled_less=6),
                       row(3, "Pacemaker", 0.75, 0.9, specific_p=0.001, shuffled_more=14, shuffled_less=1)])  # fmt: skip
    text = html(app.open("concepts", scores=ids.scores))
    assert "1 of 2" in text and "specific, the name tells this neuron" in text
    assert text.index("Pacemaker") < text.index("Right effusion") and "✓ q 0.002" in text
    text = html(app.open("neuron", scores=ids.scores, neuron=3))
    assert (
        "specific" in text and "right where another neuron&#x27;s name was wrong: 14 pictures, the reverse: 1" in text
    )
    assert "not specific" in html(app.open("neuron", scores=ids.scores, neuron=1))
    frame = concepts.table(Ledger(Store(named), ids.scores).names(), "abc")
    assert frame.set_index("neuron")["specific"].to_dict()[3] is True
    table = concepts.markdown(frame, []).decode()
    assert "| q against chance | q of this name |" in table and "| 0.900 | 0.002 | Pacemaker |" in table


def test_the_audit_of_the_judge_stands_beside_the_names(app, html, named, ids):
    with Ledger(Store(named), ids.scores).writer() as writer:
        writer.append([{"kind": "audit", "run": "abc", "label": label, "asked": 40, "judged": 39, "auroc": auroc,
                        "low": auroc - 0.1, "high": auroc + 0.05, "accuracy": auroc} for label, auroc in
                       (("Effusion", 0.91), ("Fracture", 0.55), ("<b>", 0.7))])  # fmt: skip
    test = app.open("concepts", scores=ids.scores)
    said = " ".join(caption.value for caption in test.caption)
    assert "tells Effusion at 0.91" in said and "Fracture at 0.55" in said
    assert "39 of 40" in html(test) and "&lt;b&gt;" in html(test)


def test_sentences_of_reports_are_shown_with_the_patient_switch_alone(app, html, data, ids, monkeypatch):
    with Ledger(Store(data), ids.scores).writer() as writer:
        run = RUN | {"backend": "reports", "model": "reports: report"}
        verdict = {"kind": "verdict", "run": "abc", "neuron": 1, "about": "name", "image": 5, "fires": True, "value": 1.0,
                   "yes": True, "status": "ok"}  # fmt: skip
        writer.append([run, verdict, row(1, "pleural effusion", 0.9)])
    said = {5: "Mr <Smith> has a pleural effusion. The heart is normal.", 2: "No pleural effusion."}
    monkeypatch.setattr("medsae.store.query_images.texts", lambda reader, cohort, column, images: {i: said[i] for i in images
                                                                                                  if i in said})  # fmt: skip
    hidden = app.open("neuron", scores=ids.scores, neuron=1)
    assert "Smith" not in html(hidden) and any("pictures: 1" in e.label for e in hidden.expander)
    shown = html(app.open("neuron", scores=ids.scores, neuron=1, patients="1"))
    assert "Mr &lt;Smith&gt; has a pleural effusion." in shown and "heart is normal" not in shown


def test_text_of_a_model_is_shown_as_text(app, html, named, ids):
    for page, query in (("concepts", {}), ("neuron", {"neuron": 4}), ("neuron", {"neuron": 7}), ("neurons", {})):
        test = app.open(page, scores=ids.scores, **query)
        assert "<script>alert" not in html(test)
        assert not any("<script>" in m.value or "<b>can" in m.value for m in test.markdown)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html(app.open("concepts", scores=ids.scores))


def test_filters_stand_in_the_link(app, html, named, ids):
    assert "Nothing much" in html(app.open("concepts", scores=ids.scores, above="0"))
    text = html(app.open("concepts", scores=ids.scores, q="pace"))
    assert "Pacemaker" in text and "Right effusion" not in text
    assert "No name passes" in html(app.open("concepts", scores=ids.scores, q="zebra"))
    assert "right effusion" in html(app.open("concepts", scores=ids.scores, grouped="0"))


def test_a_result_shows_its_evidence(app, html, named, ids):
    text = html(app.open("neuron", scores=ids.scores, neuron=1))
    assert "about Right effusion" in text and "0.90" in text and "[0.80, 1.00]" in text and "another neuron" in text
    assert text.count("ms-pic ms-right") == 3 and text.count("ms-pic ms-wrong") == 4 and "failed: timeout" in text
    assert "labels only" not in text
    refused = app.open("neuron", scores=ids.scores, neuron=7)
    assert "No name: refusal" in html(refused) and any("can't" in code.value for code in refused.code)


def test_named_by_labels_it_is_always_marked(app, html, data, ids):
    name(c.Name(scores=ids.scores, all=True, pictures=5), Store(data), Silent())
    test = app.open("concepts", scores=ids.scores, above="0")
    assert "labels only (no model)" in test.selectbox(key="_run").options[0]
    tested = Ledger(Store(data), ids.scores).names()
    neuron = int(tested[tested["accuracy"].notna()]["neuron"].iloc[0])
    # The description says it too: the chip is what is looked for.
    assert '">labels only, no model</span>' in html(app.open("neuron", scores=ids.scores, neuron=neuron))


def test_name_it_from_the_button_to_the_result(app, html, data, ids):
    """A real job is started; the result appears; the service stays for the next neuron and is cancelled at the end."""
    from medsae.jobs import Jobs

    test = app.open("neuron", scores=ids.scores, neuron=3, backend="labels", pictures=10)
    test.button(key="_name-it").click()
    app.run()
    config = c.Name(scores=ids.scores, watch=True, pictures=10)
    requests = Requests(Store(data), config)
    assert requests.job() is not None
    deadline = time.monotonic() + 90
    while requests.waiting(3) and time.monotonic() < deadline:
        time.sleep(0.1)
    found = Ledger(Store(data), ids.scores).names()
    assert found["neuron"].tolist() == [3]
    assert "This neuron has no name yet" not in html(app.open("neuron", scores=ids.scores, neuron=3, pictures=10))
    jobs = Jobs(data)
    jobs.cancel(str(requests.job()))
    while requests.alive() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not requests.alive()


def test_a_folder_that_takes_no_request_is_told_on_the_page(app, data, ids):
    (data / "jobs").mkdir()
    (data / "jobs" / "watch").write_text("in the way")
    test = app.open("neuron", scores=ids.scores, neuron=3, backend="labels", pictures=10)
    test.button(key="_name-it").click()
    app.run()
    assert [e.value for e in test.exception] == []
    assert "not writable" in " ".join(w.value for w in test.warning)
    config = c.Name(scores=ids.scores, watch=True, pictures=10)
    assert not Requests(Store(data), config).waiting(3)


def test_a_service_that_failed_says_why(app, html, data, ids):
    config = c.Name(scores=ids.scores, watch=True, backend="endpoint", endpoint="http://127.0.0.1:9/v1")
    requests = Requests(Store(data), config)
    requests.ask(3)
    requests.tell(phase="stopped", error="no server answers")
    test = app.open("neuron", scores=ids.scores, neuron=3, backend="endpoint", endpoint="http://127.0.0.1:9/v1")
    assert "no server answers" in test.error[0].value
    test.button(key="_name-cancel").click()
    app.run()
    assert not requests.waiting(3)


def test_exports_carry_provenance_and_no_formula(named, ids):
    store = Store(named)
    names = Ledger(store, ids.scores).names()
    run = concepts.runs(names)[0]
    frame = concepts.table(names, "abc")
    frame.loc[0, "concept"] = "=HYPERLINK(1)|<img>"
    lines = concepts.provenance(store.get(ids.scores), run)
    text = concepts.markdown(frame, lines).decode()
    assert "Research use only" in text and "oracle" in text and "\\|&lt;img&gt;" in text
    raw = concepts.csv(frame, lines).decode()
    assert raw.startswith("# Research use only") and ids.scores in raw
    read = pd.read_csv(io.StringIO(raw), comment="#")
    assert read["concept"][0].startswith("'=") and len(read) == len(frame)


def test_exports_carry_peoples_notes(named, ids):
    """Star, verdict, tags and text of a neuron stand in its row of the Concepts table, with no formula and no markup."""
    store = Store(named)
    Notes(store, ids.sae).put(
        Note(1, star=True, tags=("device", "left"), verdict="disagree", text="=1+1 <b>|", name="x")
    )
    scores = store.get(ids.scores)
    names = Ledger(store, ids.scores).names()
    study: Any = SimpleNamespace(notes=Notes(store, ids.sae).all())
    frame = filters.with_people(study, concepts.table(names, "abc"))
    lines = concepts.provenance(scores, concepts.runs(names)[0])
    read = pd.read_csv(io.BytesIO(concepts.csv(frame, lines)), comment="#").set_index("neuron")
    assert read.loc[1, ["star", "tags", "verdict", "note"]].tolist() == [True, "device, left", "disagree", "'=1+1 <b>|"]
    assert read.loc[3, "star"] == False and pd.isna(read.loc[3, "note"])  # noqa: E712
    rows = concepts.markdown(frame, lines).decode().splitlines()
    assert rows[0].endswith("| Star | Verdict | Tags | Note |") and rows[0].count("|") == rows[1].count("|")
    assert next(r for r in rows if r.startswith("| 1 ")).endswith("| ★ | disagree | device, left | =1+1 &lt;b&gt;\\| |")


@pytest.mark.parametrize(
    "shared", ["naming and detection patients are disjoint", "naming and detection use the same pictures"]
)
def test_overview_says_what_naming_and_testing_share(app, html, data, ids, shared):
    with Ledger(Store(data), ids.scores).writer() as writer:
        writer.append([RUN | {"overlap": f"{shared}; 3 of 160 scored images"}, row(2, "Effusion", 0.8)])
    text = html(app.open("overview", scores=ids.scores))
    assert shared in text and "3 of 160 scored" not in text and "not made from" not in text
