"""Every page in its four states: no data, working, partial, ready; dead neurons; damaged artifacts; wrong links."""

import json
import re
import shutil
from html import escape
from types import SimpleNamespace

import pytest

from medsae.store.artifacts import Store
from medsae.store.manifest import sealed
from medsae.ui import study as studies
from medsae.ui import unfinished

PAGES = [
    "overview",
    "entropy",
    "correlations",
    "neurons",
    "map",
    "neuron",
    "images",
    "image",
    "concepts",
    "read",
    "compare",
    "runs",
    "about",
]
ABOUT_SCORES = [p for p in PAGES if p not in ("runs", "about")]
RESEARCH = "Research use only, not for diagnosis"


@pytest.mark.parametrize("page", PAGES)
def test_no_data(page, app, html, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSAE_DATA", str(tmp_path / "nothing"))
    text = html(app.open(page))
    assert RESEARCH in text
    assert page == "about" or "python -m medsae run demo" in text
    assert text.count("<h1") == 1 and (page not in ABOUT_SCORES or 'href="runs?tab=start"' in text)
    assert not (tmp_path / "nothing").exists(), "looking must not write"


@pytest.mark.parametrize("page", ABOUT_SCORES)
def test_working_says_what_is_missing_and_the_next_command(page, app, html, data, ids):
    shutil.rmtree(data / "artifacts/scores")
    shutil.rmtree(data / "artifacts/sae")
    (data / "artifacts/sae/.building-topk-1/.shards").mkdir(parents=True)
    text = html(app.open(page))
    assert f"python -m medsae train --embeddings {ids.embeddings}" in text
    assert (
        "topk-1" in text and "There is a cohort, embeddings; still missing: an SAE, scores" in text and RESEARCH in text
    )
    assert text.count("<h1") == 1 and 'href="runs?tab=start"' in text


@pytest.mark.parametrize(("source", "encoder"), [("simulated", "simclip"), ("table", "medclip-resnet")])
def test_the_next_encoder_is_one_that_knows_the_images(source, encoder):
    cohort = SimpleNamespace(kind="cohort", id="c-1", facts={"source": source})
    command = unfinished.next_command(SimpleNamespace(artifacts=(cohort,)))  # type: ignore[arg-type]
    assert command == f"python -m medsae embed --cohort c-1 --encoder {encoder}"


@pytest.mark.parametrize("page", ABOUT_SCORES)
def test_partial_without_scores_to_compare_with(page, app, html, data, ids):
    shutil.rmtree(data / "artifacts/scores" / ids.raw)
    text = html(app.open(page))
    assert ids.scores in text and RESEARCH in text
    if page in ("overview", "compare"):
        assert "--representation raw" in text


@pytest.mark.parametrize("page", ["overview", "compare"])
def test_the_raw_embedding_alone_asks_for_an_sae(page, app, html, data, ids):
    text = html(app.open(page, scores=ids.raw, versus="none"))
    assert "Nothing is compared" in text and "--representation raw" not in text
    shutil.rmtree(data / "artifacts/scores" / ids.scores)
    studies.forget_scan()
    text = html(app.open(page, scores=ids.raw))
    assert f"python -m medsae score --sae {ids.sae}" in text and "--representation raw" not in text
    shutil.rmtree(data / "artifacts/sae")
    studies.forget_scan()
    assert f"python -m medsae train --embeddings {ids.embeddings}" in html(app.open(page, scores=ids.raw))


@pytest.mark.parametrize("page", PAGES)
def test_ready(page, app, html, data, ids):
    test = app.open(page)
    text = html(test)
    assert RESEARCH in text and ids.scores in text
    assert not test.warning, [w.value for w in test.warning]


def test_matches_without_the_numbers_of_the_embedding_say_so(app, html, data, ids):
    text = html(app.open("compare"))
    assert "Matches are not available" in text and f"{ids.embeddings} is here without them" in text
    assert "damaged" not in text


def test_raw_scores_are_looked_at_by_the_same_pages(app, html, data, ids):
    for page in ABOUT_SCORES:
        assert ids.raw in html(app.open(page, scores=ids.raw))


@pytest.mark.long
def test_every_representation_of_a_cohort_is_compared_with_every_other(app, html, data, ids, synthetic):
    more = [synthetic.write(data, images=160, neurons=neurons, d=24) for neurons in (48, 96)]
    everything = [ids.scores, ids.raw, *(each.scores for each in more)]
    assert len(set(everything)) == 4 and all(each.raw == ids.raw for each in more)
    for page in ABOUT_SCORES:
        test = app.open(page)  # nothing in the link: the newest, compared with the one that fits it best
        assert more[-1].scores in html(test) and not test.warning, (page, test.warning)
    for scores in everything:
        for versus in [*everything, "none"]:
            if versus != scores:
                text = html(app.open("compare", scores=scores, versus=versus))
                assert scores in text and (versus == "none" or versus in text)


@pytest.mark.long
def test_every_dead_neuron_and_a_sample_of_the_others_open(app, html, data, ids):
    with Store().get(ids.scores).connect() as tables:
        dead = [n for (n,) in tables.execute("SELECT neuron FROM neuron WHERE entropy IS NULL").fetchall()]
    assert dead
    for neuron in dead:
        text = html(app.open("neuron", neuron=neuron))
        assert f"Neuron {neuron}<" in text and "No radiograph to show" in text and "dead" in text
    for which in ("slices", "random", "silent"):
        assert "No radiograph to show" in html(app.open("neuron", neuron=dead[0], which=which))
    for neuron in range(0, 72, 7):
        assert f"Neuron {neuron}<" in html(app.open("neuron", neuron=neuron))
    for neuron in range(0, 24, 5):
        assert f"Neuron {neuron}<" in html(app.open("neuron", neuron=neuron, scores=ids.raw))


@pytest.mark.parametrize("which", ["top", "slices", "random", "silent"])
def test_grids_of_a_neuron(which, app, html, data, ids):
    with Store().get(ids.scores).connect() as tables:
        neuron = tables.execute("SELECT neuron FROM neuron ORDER BY density DESC LIMIT 1").fetchall()[0][0]
    text = html(app.open("neuron", neuron=neuron, which=which))
    assert text.count('class="ms-pic"') >= 6
    assert 'alt="Radiograph ' in text
    assert ("silent</em>" in text) == (which == "silent")


def test_wrong_links_say_so(app, html, data, ids):
    warned = lambda test: " ".join(w.value for w in test.warning)  # noqa: E731
    assert "'99999'" in warned(app.open("neuron", neuron=99999))
    assert "'x;y'" in warned(app.open("neuron", neuron="x;y"))
    assert "unit" in warned(app.open("entropy", unit="furlongs"))
    assert "'upwards'" in warned(app.open("neurons", sort="upwards"))
    assert "not a number" in warned(app.open("entropy", lo="low", hi="2"))
    assert "There is no such image" in html(app.open("image", image=10**6))
    assert "There is no such artifact" in html(app.open("runs", id="gone-1"))
    assert "There is no such job" in html(app.open("runs", tab="jobs", job="gone"))


@pytest.mark.parametrize("page", ABOUT_SCORES)
def test_an_address_whose_scores_are_gone_shows_no_other_study(page, app, html, data, ids):
    text = html(app.open(page, scores="scores-none", neuron=3))
    assert "What this address shows is not here" in text and "the scores scores-none" in text
    assert f'href="./?scores={ids.scores}"' in text, "the way to the newest"
    assert 'class="ms-card"' not in text and 'class="ms-pic"' not in text and ids.raw not in text and RESEARCH in text


def test_an_address_whose_cohort_is_gone_names_it(app, html, data, ids):
    shutil.rmtree(data / "artifacts/cohort" / ids.cohort)
    assert f"the cohort {ids.cohort} of {ids.scores}" in html(app.open("overview", scores=ids.scores))


def test_links_say_which_study_even_when_another_becomes_the_newest(app, html, data, ids, synthetic):
    text = html(app.open("neurons"))
    (link, *_) = re.findall(r'class="ms-card" data-go href="(neuron[^"]+)"', text)
    assert f"scores={ids.scores}" in link and f"versus={ids.raw}" in link
    query = dict(re.findall(r"(\w+)=([\w-]+)", link))
    before = html(app.open("neuron", **query))
    other = synthetic.write(data, images=160, neurons=96, d=24)
    assert other.scores in html(app.open("neuron")), "the newest, where nothing is asked for"
    assert html(app.open("neuron", **query)) == before


def test_damaged_artifact_is_named_and_left_out(app, html, data, ids):
    manifest = data / "artifacts/scores" / ids.raw / "artifact.json"
    manifest.unlink()
    manifest.write_text("{")
    test = app.open("overview")
    assert any(ids.raw in w.value and "damaged" in w.value for w in test.warning)
    assert ids.scores in html(test)


def test_tables_damaged_in_place_are_named(app, data, ids):
    tables = data / "artifacts/scores" / ids.scores / "tables.duckdb"
    size = tables.stat().st_size
    tables.unlink()
    tables.write_bytes(b"\0" * size)
    test = app.open("overview")
    assert any(ids.scores in w.value and "damaged" in w.value for w in test.warning)


def test_newer_schema_is_named(app, data, ids):
    path = data / "artifacts/scores" / ids.raw / "artifact.json"
    manifest = json.loads(path.read_text())
    path.unlink()
    path.write_text(sealed(manifest | {"schema": 99}))
    assert any("schema 99" in w.value for w in app.open("overview").warning)


def test_an_artifact_that_appears_is_seen(app, html, data, ids, tmp_path):
    raw = data / "artifacts/scores" / ids.raw
    hidden = tmp_path / ids.raw
    raw.rename(hidden)
    assert ids.raw not in html(app.open("overview"))
    hidden.rename(raw)
    assert ids.raw in html(app.run())


def test_patients_are_hashed_unless_switched_on(app, html, data, ids):
    plain = html(app.open("neuron", neuron=3)) + str(app.test.get("component_instance"))
    assert "patient0" not in plain and "patient " in plain
    assert "patient0" in html(app.open("neuron", neuron=3, patients=1))


def test_a_cohort_says_what_was_refused(app, html, data, ids):
    with Store().get(ids.cohort).connect() as tables:
        reasons = tables.execute("SELECT reason, count(*) FROM refused GROUP BY 1").fetchall()
        notes = [note for (note,) in tables.execute("FROM note").fetchall()]
    test = app.open("runs", id=ids.cohort)
    text = html(test)
    assert ("refused because" in text) == bool(reasons)
    assert all(f">{escape(reason)}</td><td class=n>{n}</td>" in text for reason, n in reasons)
    assert any(all(note in code.value for note in notes) for code in test.code)


def test_units_are_one_switch(app, html, data, ids):
    bits, nats = html(app.open("overview")), html(app.open("overview", unit="nats"))
    assert " bits<" in bits and " nats<" in nats and " bits<" not in nats
    assert "H / log₂ k<" in html(app.open("overview", unit="normalised"))


def test_text_from_artifacts_is_escaped(app, html, data, ids):
    path = data / "artifacts/cohort" / ids.cohort / "artifact.json"
    manifest = json.loads(path.read_text())
    manifest["facts"]["source"] = "<img src=x onerror=alert(1)>"
    path.unlink()
    path.write_text(sealed(manifest))
    for page in PAGES:
        assert "<img src=x" not in html(app.open(page))
    assert "&lt;img src=x" in html(app.open("overview"))


def test_no_page_sends_more_than_a_megabyte_and_a_half(app, data, ids):
    for page in PAGES:
        test = app.open(page)
        size = sum(len(e.proto.SerializeToString()) for e in test.main if getattr(e, "proto", None) is not None)
        assert size > 500
        assert size < 1_500_000, (page, size)
