"""Names, archive, trash: on the command line and on the Runs page; nothing is lost that something else stands on."""

import json
import os

import pytest

from medsae import cli, files
from medsae.progress import UserError
from medsae.store import housekeeping, titles
from medsae.store.artifacts import Store
from medsae.store.notes import Note, Notes


def out(capsys, *words):
    status = cli.main(list(words))
    return status, capsys.readouterr()


def test_a_name_is_what_choosers_say_and_the_artifact_does_not_change(app, data, ids, capsys):
    before = (data / "artifacts/cohort" / ids.cohort / "artifact.json").read_bytes()
    assert out(capsys, "rename", ids.cohort, "Hospital A, 2019", "--about", "first export")[1].out.strip() == ids.cohort
    assert out(capsys, "rename", ids.scores, "Main model")[0] == 0
    assert (data / "artifacts/cohort" / ids.cohort / "artifact.json").read_bytes() == before
    test = app.open("overview")
    assert test.selectbox(key="_cohort").options == ["Hospital A, 2019 · 160 images"]
    assert "Main model" in test.selectbox(key="_scores").options
    assert housekeeping.cards(data)[ids.cohort].about == "first export"
    out(capsys, "rename", ids.cohort, "--about", "second")
    assert titles.cohort_title(Store().get(ids.cohort)) == "Hospital A, 2019 · 160 images", "the title stays"
    out(capsys, "rename", ids.scores, "")
    assert "SAE topk" in titles.title(Store().list(), Store().get(ids.scores))
    with pytest.raises(UserError, match="one line"):
        housekeeping.describe(Store(), ids.cohort, title="x" * 121)


def test_what_something_stands_on_is_not_removed_alone(data, ids, capsys):
    status, said = out(capsys, "rm", ids.embeddings)
    assert (
        status == 2 and all(id in said.err for id in (ids.scores, ids.raw, ids.sae)) and "--with-dependents" in said.err
    )
    assert Store().get(ids.embeddings) and not (data / "trash").exists()
    Notes(Store(), ids.sae).put(Note(3, star=True))
    status, said = out(capsys, "rm", ids.embeddings, "--with-dependents")
    assert status == 0 and set(said.out.split()) == {ids.embeddings, ids.scores, ids.raw, ids.sae}
    assert [a.id for a in Store().list()] == [ids.cohort]
    assert Notes(Store(), ids.sae).all()[3].star, "what people said stays"
    for id in (ids.embeddings, ids.sae, ids.scores, ids.raw):
        assert out(capsys, "rm", id, "--restore")[0] == 0
    Store().get(ids.scores).verify()
    assert len(Store().list()) == 5 and housekeeping.trash(Store()) == []


def test_gc_shows_first_and_removes_only_when_told(data, ids, capsys):
    ledger = data / "artifacts/names" / ids.scores
    ledger.mkdir(parents=True)
    (ledger / "one.jsonl").write_text("{}\n")
    shards = data / "artifacts/sae/.building-topk-9/.shards"
    shards.mkdir(parents=True)
    (shards / "a").write_bytes(b"123")
    busy = data / "artifacts/sae/.building-topk-8"
    (busy / ".shards").mkdir(parents=True)
    lock = files.take_lock(busy / ".lock")
    try:
        out(capsys, "rm", ids.scores)
        rows = json.loads(out(capsys, "gc", "--json")[1].out)
        assert {(r["kind"], r["id"]) for r in rows} == {
            ("scores", ids.scores),
            ("names", ids.scores),
            ("unfinished sae", "topk-9"),
        }
        assert (data / "trash/scores" / ids.scores).is_dir() and not ledger.exists()
        assert out(capsys, "gc", "--yes", "--no-unfinished")[0] == 0
        assert housekeeping.trash(Store()) == [] and shards.exists() and busy.exists()
        assert out(capsys, "gc", "--yes")[0] == 0
        assert not shards.exists() and busy.exists(), "what is being built now stays"
    finally:
        os.close(lock)


def test_a_running_job_keeps_its_artifacts(data, ids):
    folder = data / "jobs/20300101-1"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(
        json.dumps({"command": ["name", "--scores", ids.scores, "--watch"], "started": 1.0})
    )
    lock = files.take_lock(folder / "lock")
    try:
        for id in (ids.scores, "20300101-1"):
            with pytest.raises(UserError, match="a job is running: 20300101-1"):
                housekeeping.remove(Store(), [id])
    finally:
        os.close(lock)
    assert housekeeping.remove(Store(), ["20300101-1"]) == ["20300101-1"] and not folder.exists()
    for bad in ("../x", "", ".", "nothing-1"):
        with pytest.raises(UserError):
            housekeeping.remove(Store(), [bad])


def test_restoring_over_one_that_was_made_again_is_refused(data, ids):
    housekeeping.remove(Store(), [ids.raw])
    (data / "artifacts/scores" / ids.raw).mkdir()
    with pytest.raises(UserError, match="there again"):
        housekeeping.restore(Store(), ids.raw)


def test_the_archive_is_left_out_of_choosers_and_found_by_its_address(app, html, data, ids):
    housekeeping.describe(Store(), ids.scores, archived=True)
    assert ids.scores not in html(app.open("overview"))
    assert f"<b>{ids.scores}</b>" in html(app.open("overview", scores=ids.scores))


def press(test, label):
    next(b for b in test.button if b.label == label).click().run()
    assert not test.exception, test.exception


def test_the_page_names_removes_and_takes_back(app, html, data, ids):
    test = app.open("runs", id=ids.sae)
    next(t for t in test.text_input if t.label == "Title").set_value("wide one")
    press(test, "Save")
    assert housekeeping.of(Store().get(ids.sae)).title == "wide one"
    test = app.open("runs", id=ids.sae)
    assert any("made from it would go too" in m.value for m in test.markdown)
    press(test, "Move 2 artifacts")
    assert {r.id for r in housekeeping.trash(Store())} == {ids.sae, ids.scores}
    test = app.open("runs", tab="trash")
    assert next(b for b in test.button if b.label == "Empty the trash").disabled
    press(test, "Take back")
    press(app.open("runs", tab="trash"), "Take back")
    assert housekeeping.trash(Store()) == [] and len(Store().list()) == 5
