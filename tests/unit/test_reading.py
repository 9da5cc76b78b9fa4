"""Readings: agreement against published examples, who reads what, what counts, what is kept, what it came to."""

import itertools
import json
import threading

import krippendorff
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st_
from sklearn.metrics import cohen_kappa_score

from medsae.naming.detection import detect
from medsae.progress import UserError
from medsae.reading import agreement, plan, results
from medsae.reading.plan import Reading, Shown, Task
from medsae.store.artifacts import Store
from medsae.store.readings import Readings, clean

NAN = np.nan
MANY = np.arange(10_000)


# --- agreement


def test_alpha_of_krippendorffs_own_examples():
    """Computing Krippendorff's alpha-reliability (2011): A, binary, two observers, no missing data: 0.095; C, nominal,
    four observers and missing data: 0.743."""
    a = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]], float)
    assert agreement.alpha(a, np.arange(10)).value == pytest.approx(0.095, abs=5e-4)
    c = np.array([[1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
                  [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN]])  # fmt: skip
    assert agreement.alpha(c, MANY[:12]).value == pytest.approx(0.743, abs=5e-4)
    with_one_missing = np.vstack([a, [NAN] * 10])
    assert agreement.alpha(with_one_missing, np.arange(10)).value == agreement.alpha(a, np.arange(10)).value


@settings(deadline=None, max_examples=50)
@given(st_.lists(st_.lists(st_.sampled_from([0.0, 1.0, 2.0, NAN]), min_size=3, max_size=3), min_size=1, max_size=20))
def test_alpha_is_that_of_the_package(rows):
    said = np.array(rows).T
    shared = np.isfinite(said).sum(0) >= 2
    known = said[:, shared][np.isfinite(said[:, shared])]
    found = agreement.alpha(said, np.arange(said.shape[1]))
    if len(np.unique(known)) < 2:
        assert found.value is None
    else:
        assert found.value == pytest.approx(krippendorff.alpha(said, level_of_measurement="nominal"), abs=1e-9)
    assert found.n == shared.sum()


def test_the_draws_of_alpha_are_alpha_of_repeated_images():
    rng = np.random.default_rng(1)
    said = rng.integers(0, 2, (3, 12)).astype(float)
    counts = np.stack([(said == v).sum(0) for v in (0, 1)], axis=1).astype(float)
    weights = agreement.draws_of(np.repeat(np.arange(4), 3), draws=20)
    for weight, value in zip(weights, agreement._alpha(counts, weights), strict=True):
        repeated = np.repeat(said, weight.astype(int), axis=1)
        assert value == pytest.approx(krippendorff.alpha(repeated, level_of_measurement="nominal"), abs=1e-9)


def test_kappa_of_a_published_example():
    """Two readers, 50 proposals: 20 both yes, 15 both no, 5 and 10 divided: 0.40 (the usual example)."""
    a = np.repeat([1.0, 1, 0, 0], [20, 5, 10, 15])
    b = np.repeat([1.0, 0, 1, 0], [20, 5, 10, 15])
    found = agreement.kappa(a, b, MANY[:50])
    assert found.value == pytest.approx(0.40) and found.n == 50
    assert found.low is not None and found.high is not None
    assert 0.05 < found.low < 0.20 < 0.55 < found.high < 0.75, "the usual standard error is 0.13"


@settings(deadline=None, max_examples=50)
@given(
    st_.lists(st_.tuples(st_.sampled_from([0.0, 1.0, NAN]), st_.sampled_from([0.0, 1.0, NAN])), min_size=1, max_size=40)
)
def test_kappa_is_scikit_learns(pairs):
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    both = np.isfinite(a) & np.isfinite(b)
    found = agreement.kappa(a, b, np.arange(len(a)))
    if both.any() and len(np.unique(np.concatenate([a[both], b[both]]))) == 2:
        assert found.value == pytest.approx(cohen_kappa_score(a[both], b[both]), abs=1e-12)
    else:
        assert found.value is None and found.n == both.sum()


def test_accuracy_is_that_of_the_models_detection():
    rng = np.random.default_rng(0)
    for _ in range(20):
        fires, yes = rng.random(30) < 0.5, rng.choice([0.0, 1.0, NAN], 30)
        theirs, ours = detect(fires, yes, np.full(30, NAN), balanced=True), agreement.accuracy(fires, yes)
        assert (ours.value, ours.low, ours.high, ours.n) == (theirs.accuracy, theirs.low, theirs.high, theirs.judged)
    assert agreement.accuracy(np.ones(5, bool), np.ones(5)).value is None, "no silent image was answered"


def test_a_difference_is_on_the_images_that_both_answered():
    fires = np.repeat([True, False], 20)
    right = fires.astype(float)
    worse = right.copy()
    worse[[0, 1, 20]] = 1 - worse[[0, 1, 20]]
    found = agreement.difference(fires, worse, right, MANY[:40])
    assert found.value == pytest.approx((18 / 20 + 19 / 20) / 2 - 1)
    assert found.low is not None and found.high is not None and found.low < (found.value or 0) < found.high <= 0.05
    blind = worse.copy()
    blind[:2] = NAN
    assert agreement.difference(fires, blind, right, MANY[:40]).value == pytest.approx(-1 / 40)
    assert agreement.difference(fires, np.full(40, NAN), right, MANY[:40]).value is None


def test_patients_are_drawn_whole_and_few_of_them_make_no_interval():
    weights = agreement.draws_of(np.array([7, 7, 3, 3, 3, 9]), draws=500)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 2] == weights[:, 4]).all()
    assert (weights[:, [0, 2, 5]].sum(1) == 3).all() and weights[:, 0].std() > 0.5
    a, b = np.tile([1.0, 0, 1, 0], 30), np.tile([1.0, 0, 0, 0], 30)
    narrow, wide = (agreement.kappa(a, b, patients) for patients in (MANY[:120], MANY[:120] // 12))
    assert narrow.low is not None and wide.low is not None and narrow.value == wide.value
    nine = agreement.kappa(a, b, MANY[:120] % 9)
    assert nine.value == narrow.value and nine.low is None and nine.high is None


# --- who reads what


@settings(deadline=None, max_examples=50)
@given(st_.integers(1, 40), st_.integers(1, 6), st_.integers(1, 4), st_.integers(0, 5))
def test_every_neuron_has_its_readers_and_the_load_is_even(neurons, readers, each, seed):
    names = [f"r{i}" for i in range(readers)]
    if readers < each:
        with pytest.raises(ValueError, match="cannot read"):
            plan.assignments(range(neurons), names, each, seed)
        return
    found = plan.assignments(range(neurons), names, each, seed)
    counts = np.bincount([n for mine in found.values() for n in mine], minlength=neurons)
    loads = [len(mine) for mine in found.values()]
    assert (counts == each).all() and all(len(set(mine)) == len(mine) for mine in found.values())
    assert max(loads) - min(loads) <= 1


def reading(names: plan.About = "own", readers=(), neurons=3, images=6, each=2):
    tasks = []
    for neuron in range(neurons):
        shown = tuple(Shown(100 * neuron + i, i < images // 2, 10 * neuron + i, i % 3 == 0) for i in range(images))
        abouts: list[plan.About] = ["own", "rival"] if names == "rival" else [names]
        tasks += [
            Task(neuron, about, "" if about == "none" else f"{about} {neuron}", "", shown, (7, 8)) for about in abouts
        ]
    return Reading("r-1", "scores-1", "cohort-1", names, tuple(tasks), readers, each, judge="labels")


def test_orders_are_each_readers_own_and_the_same_again():
    plain = reading(neurons=6, images=20)
    ada, ben = (plan.items_of(plain, who) for who in ("Ada", "Ben"))
    assert sorted(ada) == sorted(ben) and ada != ben and ada == plan.items_of(plain, "Ada")
    assert [task for task, _ in itertools.groupby(ada, key=lambda i: i[0])] == plan.tasks_of(plain, "Ada")
    fires = {(t, s.image): s.fires for t, task in enumerate(plain.tasks) for s in task.images}
    assert [fires[i] for i in ada[:20]] != sorted((fires[i] for i in ada[:20]), reverse=True), "not firing ones first"


def test_those_on_the_list_read_what_they_are_given_and_others_nothing():
    listed = reading("rival", readers=("Ada", "Ben", "Cem"), neurons=6)
    tasks = {who: plan.tasks_of(listed, who) for who in ("Ada", "Ben", "Cem", "Eve")}
    assert tasks["Eve"] == [] and plan.items_of(listed, "Eve") == []
    for who in ("Ada", "Ben", "Cem"):
        neurons = [listed.tasks[t].neuron for t in tasks[who]]
        assert len(set(neurons)) == 4 and len(neurons) == 8, "both names of a neuron go to the same reader"


def test_a_plan_comes_back_from_its_record():
    for names in plan.ABOUTS:
        one = reading(names, readers=("Ada", "Ben"))
        assert plan.parse(json.loads(json.dumps(one.record()))) == one
    record = reading().record()
    for wrong in ({"tasks": []}, {"names": "all"}, {"tasks": [{}]}, {"each": None},
                  {"tasks": [{**record["tasks"][0], "about": "all"}]}):  # fmt: skip
        with pytest.raises((KeyError, TypeError, ValueError)):
            plan.parse({**record, **wrong})


# --- what counts


def row(kind, task, image, said="", key="", seconds=1.0):
    return {"kind": kind, "task": task, "image": image, "said": said, "key": key, "seconds": seconds}


def test_the_first_answer_counts_until_it_is_taken_back():
    rows = [row("answer", 0, 1, "yes", "a"), row("answer", 0, 1, "no", "b"), row("answer", 0, 2, "no", "c"),
            row("back", 0, 2, key="d"), row("answer", 0, 2, "unsure", "e"), row("answer", 0, 2, "unsure", "e")]  # fmt: skip
    stands = plan.standing(rows)
    assert {k: v.said for k, v in stands.answers.items()} == {(0, 1): "yes", (0, 2): "unsure"}
    assert stands.repeated == 1, "a second tab's answer is kept and told; the same one sent twice is neither"


@pytest.mark.parametrize("wrong", [
    {}, {"kind": "answer"}, row("answer", "x", 1, "yes"), row("answer", 0, 1, "perhaps"), row("drop", 0, 1),
    {"kind": "answer", "task": 0, "image": 1, "said": "yes", "seconds": "long"}, {"kind": ["answer"], "task": 0},
], ids=range(7))  # fmt: skip
def test_rows_that_are_none(wrong):
    assert plan.line(wrong) is None and plan.standing([wrong]).answers == {}


def test_what_comes_next():
    one = reading(neurons=2, images=4)
    items = plan.items_of(one, "Ada")
    rows = [row("answer", *items[0], "yes", "a")]
    now = plan.following(one, "Ada", plan.standing(rows), ahead=2)
    assert now.items == tuple(items[1:3]) and (now.done, now.total, now.name) == (1, 8, None)
    rows = [row("answer", *item, "no", str(item)) for item in items]
    assert plan.following(one, "Ada", plan.standing(rows)) == plan.Next((), None, 8, 8)


def test_readers_name_first_and_are_asked_about_that_name():
    one = reading("none", neurons=2, images=4)
    items = plan.items_of(one, "Ada")
    first = items[0][0]
    assert plan.following(one, "Ada", plan.standing([])) == plan.Next((), first, 0, 8)
    named = [{"kind": "name", "task": first, "said": "left effusion"}]
    now = plan.following(one, "Ada", plan.standing(named), ahead=8)
    assert now.items == tuple(i for i in items if i[0] == first), "the next neuron waits for its name"
    rows = named + [row("answer", *item, "no", str(item)) for item in items[:4]]
    assert plan.following(one, "Ada", plan.standing(rows)).name == 1 - first


# --- what is kept


@pytest.fixture
def kept(tmp_path):
    readings = Readings(Store(tmp_path))
    assert readings.make(reading().record()) and not readings.make(reading().record())
    return readings


def test_readers_have_files_of_their_own_and_nothing_is_rewritten(kept):
    kept.answers("r-1", "Ada").add([row("answer", 0, 1, "yes", "a")])
    before = kept.answers("r-1", "Ada").path.read_bytes()
    kept.answers("r-1", "ada").add([row("answer", 0, 1, "no", "b")])
    kept.answers("r-1", " Ada ").add([row("answer", 0, 2, "no", "c")])
    assert kept.readers("r-1") == ["Ada", "ada"]
    assert kept.answers("r-1", "Ada").path.read_bytes().startswith(before)
    _, stands = plan.opened(kept, "r-1")
    assert len(stands["Ada"].answers) == 2 and stands["ada"].answers[0, 1].said == "no"


def test_two_tabs_at_once_lose_nothing_and_what_is_sent_twice_is_kept_once(kept):
    def tab(name):
        mine = kept.answers("r-1", "Ada")
        for i in range(25):
            mine.add([row("answer", 0, i, "yes", f"{name}{i}"), row("answer", 0, i, "yes", f"{name}{i}")])

    tabs = [threading.Thread(target=tab, args=(name,)) for name in "xyz"]
    for one in tabs:
        one.start()
    for one in tabs:
        one.join()
    rows = kept.answers("r-1", "Ada").rows()
    assert len(rows) == 75 and len({r["key"] for r in rows}) == 75
    assert kept.answers("r-1", "Ada").add([row("answer", 0, 3, "no", "x3")]) == ["x3"], "it is told that it is kept"
    assert len(kept.answers("r-1", "Ada").rows()) == 75


def test_a_torn_line_costs_that_line(kept):
    mine = kept.answers("r-1", "Ada")
    mine.add([row("answer", 0, 1, "yes", "a")])
    with mine.path.open("ab") as file:
        file.write(b'{"kind": "answer", "task": 0, "ima')
    mine.add([row("answer", 0, 2, "no", "b"), row("answer", 0, 3, "no", "c")])
    assert set(plan.standing(mine.rows()).answers) == {(0, 1), (0, 2), (0, 3)} and mine.damaged() == 1
    mine.path.write_bytes(mine.path.read_bytes().replace(b'"image":3', b'"image":4'))
    assert set(plan.standing(mine.rows()).answers) == {(0, 1), (0, 2)} and mine.damaged() == 2, "one flipped byte"


def test_a_folder_that_cannot_be_written_tells_and_a_damaged_plan_is_named(kept):
    folder = kept.folder / "r-1" / "answers"
    folder.write_text("")
    with pytest.raises(UserError, match="not saved"):
        kept.answers("r-1", "Ada").add([row("answer", 0, 1, "yes", "a")])
    folder.unlink()
    (kept.folder / "r-1" / "reading.json").write_text('{"id": "r-1", "tasks": [')
    with pytest.raises(UserError, match="is damaged"):
        plan.opened(kept, "r-1")
    (kept.folder / "r-1" / "reading.json").write_text('{"id": "r-1", "names": "own", "tasks": [{"neuron": "x"}]}')
    with pytest.raises(UserError, match="is damaged"):
        plan.opened(kept, "r-1")


@pytest.mark.parametrize("id", ["", "../x", ".hidden", "a/b", "none", "a\\b", "x" * 300])
def test_ids_that_there_are_not(kept, id):
    with pytest.raises(UserError, match=r"no reading|no id"):
        kept.plan(id)


@pytest.mark.parametrize("name", ["", "  ", "\x00\n"])
def test_a_reader_needs_a_name(kept, name):
    with pytest.raises(UserError, match="needs a name"):
        kept.answers("r-1", name)
    assert clean(" Ada \n  Lovelace ") == "Ada Lovelace" and len(clean("x" * 500)) == 100
    assert kept.answers("r-1", "../../etc").path.parent == kept.folder / "r-1" / "answers"


# --- what it came to


def stands_of(one, who, wrong=(), unsure=(), names=None):
    fires = {(t, s.image): s.fires for t, task in enumerate(one.tasks) for s in task.images}
    rows = [{"kind": "name", "task": t, "said": n} for t, n in (names or {}).items()]
    for k, item in enumerate(plan.items_of(one, who)):
        said = "unsure" if item in unsure else "yes" if fires[item] != (item in wrong) else "no"
        rows.append(row("answer", *item, said, f"{who}{k}", seconds=2.0 if k else 4000.0))
    return plan.standing(rows)


def test_results_by_hand():
    one = reading(neurons=4, images=10)
    stands = {"Ada": stands_of(one, "Ada"), "Ben": stands_of(one, "Ben", wrong={(0, 0), (1, 105)}, unsure={(2, 200)})}
    ada, ben = results.readers(one, stands)
    assert (ada.accuracy.value, ada.done, ada.total, ada.unsure, ada.seconds) == (1.0, 40, 40, 0, 2.0)
    assert ben.accuracy.value == pytest.approx((18 / 19 + 19 / 20) / 2) and ben.unsure == 1 and ben.accuracy.n == 39
    # The model said yes to images 0, 3, 6, 9 of each: right for 0, 3 of five firing and 5, 7, 8 of five silent ones.
    assert ada.model.value == pytest.approx((2 / 5 + 3 / 5) / 2) and ada.difference.value == pytest.approx(0.5)
    assert ben.model.value == pytest.approx((7 / 19 + 12 / 20) / 2), "on the images that Ben could tell"
    agreed = results.agree(one, stands)
    assert agreed is not None and set(agreed.kappas) == {("Ada", "Ben"), ("Ada", "model"), ("Ben", "model")}
    pair = agreed.kappas["Ada", "Ben"]
    yes = (19, 19)
    chance = yes[0] * yes[1] / 39**2 + 20 * 20 / 39**2
    assert pair.value == pytest.approx((37 / 39 - chance) / (1 - chance)) and pair.n == agreed.alpha.n == 39
    differ = results.disagreements(one, stands)
    assert {(r.task, r.image, r.yes, r.no) for r in differ.itertuples()} == {
        (0, 0, "Ada", "Ben"),
        (1, 105, "Ben", "Ada"),
    }
    frame = results.answers(one, stands)
    assert list(frame.columns) == list(results.COLUMNS) and len(frame) == 80 and frame["right"].sum() == 77


def test_a_reader_who_stopped_midway_is_told_as_far_as_it_goes():
    one = reading("rival", neurons=2)
    stopped = plan.standing([row("answer", *plan.items_of(one, "Ada")[0], "yes", "a")])
    own, rival = results.readers(one, {"Ada": stopped})
    assert own.done + rival.done == 1 and own.total == rival.total == 12
    assert own.accuracy.value is None and own.difference.value is None and own.seconds in (None, 1.0)
    agreed = results.agree(one, {"Ada": stopped})
    assert agreed is not None and agreed.alpha.value is None
    for nobody in ({}, {"Ada": plan.standing([])}):
        assert results.answers(one, nobody).empty and results.disagreements(one, nobody).empty
        assert results.agree(one, nobody) is not None and "neurons were read" in results.methods(one, nobody)


def test_names_of_readers_are_in_the_answers_and_there_is_no_agreement_to_tell():
    one = reading("none", neurons=2)
    stands = {who: stands_of(one, who, names={0: f"{who} 0", 1: f"{who} 1"}) for who in ("Ada", "Ben")}
    assert results.agree(one, stands) is None
    assert set(results.answers(one, stands)["name"]) == {"Ada 0", "Ada 1", "Ben 0", "Ben 1"}
    assert results.readers(one, stands)[0].names == 2


def test_methods_say_every_number_that_was_chosen():
    text = results.methods(reading("rival", readers=("Ada", "Ben", "Cem"), neurons=3, images=6), {})
    for said in ("3 neurons", "3 images on which it fires and 3", "2 of 3 readers", "labels", "another neuron's name",
                 "Krippendorff's alpha", "1,000 draws", "scores-1", "seed 0"):  # fmt: skip
        assert said in text, said


def test_answers_to_a_task_that_the_plan_lacks_are_left_out():
    one = reading()
    strange = plan.standing([row("answer", 99, 1, "yes", "a"), row("answer", 0, 999_999, "yes", "b")])
    assert results.answers(one, {"Ada": strange}).empty
    assert isinstance(results.answers(one, {"Ada": strange}), pd.DataFrame)
