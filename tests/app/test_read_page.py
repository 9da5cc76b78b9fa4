"""The page Read in its states: nothing to read, blind, finished, and what is told when something is gone."""

import shutil

import pytest

from medsae.reading import plan
from medsae.reading.plan import Reading, Shown, Task
from medsae.store.artifacts import Store
from medsae.store.readings import Readings


def planned(ids, names: plan.About = "own", readers=(), id="r-1"):
    """A reading of two neurons by hand: images 0 to 5 fire, 6 to 11 do not."""
    shown = tuple(Shown(i, i < 6, i, i % 2 == 0) for i in range(12))
    tasks = tuple(Task(n, names, "" if names == "none" else f"Concept {n}", "", shown, (20, 21)) for n in (3, 5))
    made = Reading(id, ids.scores, ids.cohort, names, tasks, tuple(readers), 2, judge="labels")
    assert Readings(Store()).make(made.record())
    return made


def answer_all(made, who, wrong=()):
    rows = [{"kind": "answer", "task": t, "image": i, "said": "yes" if (i < 6) != (i in wrong) else "no",
             "seconds": 2.0, "key": f"{who}{t}-{i}"} for t, i in plan.items_of(made, who)]  # fmt: skip
    Readings(Store()).answers(made.id, who).add(rows)


def test_without_a_reading_the_command_is_shown(app, html, data, ids):
    assert f"medsae reading create --scores {ids.scores}" in html(app.open("read"))


def test_who_reads_is_asked_first_and_the_list_is_kept(app, html, data, ids):
    planned(ids, readers=("Ada", "Ben"))
    assert "Who reads?" in html(app.open("read", reading="r-1")) and "Ada, Ben" in html(app.open("read"))
    assert "Not on the list" in html(app.open("read", reader="Eve"))
    app.open("read", reader="Ada")
    assert not (data / "readings/r-1/answers").exists(), "looking writes nothing"


def test_nothing_on_the_page_tells_what_a_reader_must_not_know(app, html, data, ids):
    made = planned(ids)
    answer_all(made, "Ben")
    text = html(app.open("read", reader="Ada"))
    for word in ("Pleural", "Edema", "ρ", "accuracy"):
        assert word not in text, word
    assert "Not before you have finished" in html(app.open("read", reader="Ada", tab="results"))


def test_results_for_who_has_finished_and_for_who_planned_it(app, html, data, ids):
    made = planned(ids)
    answer_all(made, "Ada")
    answer_all(made, "<b>Ben</b>", wrong=(0, 7))
    for query in ({"reader": "Ada"}, {}):
        text = html(app.open("read", tab="results", **query))
        assert "Krippendorff" in text and "24 of 24" in text and "1.00" in text and "0.83" in text
        assert "<b>Ben</b>" not in text and "&lt;b&gt;Ben" in text
        assert "4 images on which readers differ" in text
    assert "2 neurons were read" in app.test.code[0].value


def test_a_reading_goes_on_without_its_scores_and_tells_when_its_cohort_is_gone(app, html, data, ids):
    made = planned(ids)
    answer_all(made, "Ada")
    shutil.rmtree(data / "artifacts/scores" / ids.scores)
    test = app.open("read", reader="Ben")
    assert any("goes on, and nothing is lost" in c.value for c in test.caption)
    assert "Krippendorff" in html(app.open("read", reader="Ada", tab="results"))
    shutil.rmtree(data / "artifacts/cohort" / ids.cohort)
    test = app.open("read", reader="Ben")
    assert any("images cannot be shown" in w.value for w in test.warning)
    assert "24 of 24" in html(app.open("read", reader="Ada", tab="results"))


def test_a_damaged_reading_is_named_and_the_others_work(app, html, data, ids):
    planned(ids)
    planned(ids, id="r-2")
    (data / "readings/r-2/reading.json").write_text('{"id": "r-2"')
    test = app.open("read", reader="Ada")
    assert any("r-2 is damaged" in w.value for w in test.warning) and not test.exception


def test_a_reader_names_the_neuron_first(app, html, data, ids):
    made = planned(ids, "none")
    test = app.open("read", reader="Ada")
    assert "What do these images share?" in html(test) and "view" not in html(test).split("ms-grid")[1][:3000]
    first = plan.tasks_of(made, "Ada")[0]
    test.text_input[-1].set_value("  left <b>effusion</b>  ")
    test.button[0].click().run()
    assert not test.exception
    (row,) = Readings(Store()).answers("r-1", "Ada").rows()
    assert (row["kind"], row["task"], row["said"]) == ("name", first, "left <b>effusion</b>")


@pytest.mark.parametrize("query", [
    {"reading": "../../x"}, {"reader": "x" * 250}, {"tab": "nothing"}, {"reader": "\u202e\u0000"}, {"page": "7", "tab": "results"},
], ids=["id", "long", "tab", "unprintable", "page"])  # fmt: skip
def test_links_that_ask_for_what_there_is_not(app, html, data, ids, query):
    planned(ids)
    assert "Research use only" in html(app.open("read", **query))


def test_what_the_browser_sends_is_judged(data, ids):
    """Answers to images of others, of no kind, or endless in time, are not kept."""
    from medsae.ui import reading_parts

    made = planned(ids)
    mine = Readings(Store()).answers("r-1", "Ada")
    good = {"kind": "answer", "task": 0, "image": 3, "said": "yes", "seconds": 1.5, "key": "k"}
    sent = [good, {**good, "image": 99, "key": "a"}, {**good, "task": 7, "key": "b"}, {**good, "said": "<b>", "key": "c"},
            {**good, "key": ""}, {"kind": "name", "task": 0, "said": "mine", "key": "d"}, {"kind": "tick", "key": "e"},
            {**good, "image": 4, "seconds": -5.0, "key": "f"}, {**good, "image": 5, "seconds": float("inf"), "key": "g"}]  # fmt: skip
    kept, trouble = reading_parts._keep(made, mine, sent)
    assert kept == ["k", "f", "g"] and trouble == ""
    assert [r["seconds"] for r in mine.rows()] == [1.5, 0.0, 86_400.0]
    shutil.rmtree(mine.path.parent)
    mine.path.parent.write_text("")
    kept, trouble = reading_parts._keep(made, mine, sent)
    assert kept == [] and "not saved" in trouble, "the browser holds it and sends it again"
