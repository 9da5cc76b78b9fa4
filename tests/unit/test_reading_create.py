"""reading create: whose names, which images, what the model said of them, what is left out; list and results."""

import csv
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from medsae.__main__ import main
from medsae.reading import plan
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger
from medsae.store.readings import Readings


def module(path):
    spec = importlib.util.spec_from_file_location(f"{path.stem}_for_reading_create", path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


nw = module(Path(__file__).parents[1] / "fixtures" / "naming_world.py")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Six neurons that follow a factor and a dead one, four named and judged by the labels on 8 + 8 images."""
    made = nw.build(tmp_path_factory.mktemp("reading") / "data", images=300, neurons=6, share=0.5, dead=1)
    assert (
        main(["name", "--scores", made.scores, "--neurons", "0,1,2,3", "--pictures", "8", "--data", str(made.data)])
        == 0
    )
    return made


@pytest.fixture
def run(world, capsys):
    """run(words ...) -> (status, stdout, stderr) of `reading` over this world."""

    def call(*words):
        capsys.readouterr()
        status = main(["reading", *words, "--data", str(world.data)])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def created(world, run, *words):
    status, out, _ = run("create", "--scores", world.scores, *words)
    assert status == 0
    return plan.parse(Readings(Store(world.data)).plan(out.split()[-1]))


def test_names_images_and_verdicts_are_those_of_the_run(world, run):
    made = created(world, run, "--neurons", "1,0", "--images", "5+4")
    assert [task.neuron for task in made.tasks] == [1, 0] and made.judge == "labels" and made.names == "own"
    ledger = Ledger(Store(world.data), world.scores)
    names = ledger.names().set_index("neuron")
    for task in made.tasks:
        assert task.concept == names.loc[task.neuron, "concept"] and task.description == "", "no correlation is told"
        said = ledger.verdicts(names.loc[task.neuron, "run"], task.neuron).query("about == 'name'").set_index("image")
        assert [s.fires for s in task.images].count(True) == 5 and len(task.images) == 9
        assert len({s.patient for s in task.images}) == 9
        for shown in task.images:
            assert shown.fires == world.fires_nm[shown.image, task.neuron] == said.loc[shown.image, "fires"]
            assert shown.model == (said.loc[shown.image, "yes"] if said.loc[shown.image, "status"] == "ok" else None)


def test_the_same_question_finds_the_same_reading_and_another_seed_another(world, run):
    ids = [created(world, run, "--top", "2", "--images", "4+4", "--seed", seed).id for seed in ("0", "0", "1")]
    assert ids[0] == ids[1] != ids[2]
    _, out, err = run("create", "--scores", world.scores, "--top", "2", "--images", "4+4")
    assert "is already there" in err and out.split()[-1] == ids[0]


def test_a_rivals_name_is_on_the_same_images_and_has_the_models_verdicts(world, run):
    made = created(world, run, "--neurons", "2", "--images", "6+6", "--names", "rival")
    own, rival = made.tasks
    assert (own.about, rival.about) == ("own", "rival") and own.concept != rival.concept
    assert [s.image for s in own.images] == [
        s.image for s in rival.images
    ] and own.description == rival.description == ""
    row = Ledger(Store(world.data), world.scores).names().set_index("neuron").loc[2]
    assert rival.concept == row["shuffled_concept"]
    assert any(a.model != b.model for a, b in zip(own.images, rival.images, strict=True))


def test_readers_who_name_see_other_patients_than_they_are_tested_on(world, run):
    made = created(world, run, "--neurons", "0,5", "--images", "5+5", "--names", "none")
    assert [task.neuron for task in made.tasks] == [0, 5], "5 has no name, and needs none"
    for task in made.tasks:
        assert task.concept == "" and task.naming and all(world.fires_nm[i, task.neuron] for i in task.naming)
        assert not {i // 2 for i in task.naming} & {s.image // 2 for s in task.images}


def test_names_of_readers_and_of_the_model_are_set_against_each_other_on_the_same_images(world, run):
    none = created(world, run, "--neurons", "0,5", "--images", "5+5", "--names", "none", "--seed", "3")
    kept = Readings(Store(world.data))
    for who, names in (("Ada", ("Left thing", "A line")), ("Ben", ("left thing", "A tube"))):
        kept.answers(none.id, who).add([{"kind": "name", "task": t, "said": n} for t, n in enumerate(names)])
    made = created(world, run, "--images", "5+5", "--names", "readers", "--of", none.id)
    tasks = [(task.neuron, task.about, task.concept) for task in made.tasks]
    own = Ledger(Store(world.data), world.scores).names().set_index("neuron").loc[0, "concept"]
    assert tasks == [(0, "readers", "Left thing"), (0, "own", own), (5, "readers", "A line"), (5, "readers", "A tube")]
    assert [s.image for s in made.tasks[0].images] == [s.image for s in made.tasks[1].images]
    assert all(s.model is None for s in made.tasks[0].images) and any(s.model is not None for s in made.tasks[1].images)
    status, _, err = run("create", "--scores", world.scores, "--names", "readers", "--of", made.id)
    assert status == 2 and "no reader gave a name" in err
    assert run("create", "--scores", world.scores, "--names", "readers")[0] == 2


def test_what_cannot_be_read_is_left_out_with_its_reason(world, run):
    _, _, err = run("create", "--scores", world.scores, "--neurons", "0,5,6", "--images", "4+4")
    assert "neuron 5 is left out: it has no name in this run" in err and "neuron 6 is left out" in err
    status, _, err = run("create", "--scores", world.scores, "--neurons", "6", "--names", "none")
    assert status == 2 and "it has 0 images on a side" in err and "no neuron is left to read" in err


@pytest.mark.parametrize(("words", "said"), [
    (["--images", "20"], "is not FIRING+SILENT"), (["--images", "0+5"], "is not FIRING+SILENT"),
    (["--neurons", "99"], "there is no neuron 99"), (["--neurons", "a"], "not a list of neurons"),
    (["--readers", "Ada"], "each neuron is to be read by --each 2"), (["--top", "0"], "must be at least 1"),
    (["--run", "zzz"], "no run of names 'zzz'"),
], ids=["images", "none", "neuron", "list", "readers", "top", "run"])  # fmt: skip
def test_what_a_user_can_mend(world, run, words, said):
    status, _, err = run("create", "--scores", world.scores, *words)
    assert status == 2 and said in err


def test_list_and_results_in_a_terminal(world, run, tmp_path):
    made = created(world, run, "--neurons", "0,1", "--images", "6+6", "--readers", "Ada, Ben ,Ada", "--seed", "7")
    assert made.readers == ("Ada", "Ben")
    kept = Readings(Store(world.data))
    for who in ("Ada", "Ben"):
        fires = {(t, s.image): s.fires for t, task in enumerate(made.tasks) for s in task.images}
        rows = [{"kind": "answer", "task": t, "image": i, "said": "yes" if fires[t, i] else "no", "seconds": 3.0,
                 "key": f"{t}-{i}"} for t, i in plan.items_of(made, who)]  # fmt: skip
        kept.answers(made.id, who).add(rows if who == "Ada" else rows[:5])
    _, out, _ = run("list")
    assert f"{made.id}  {world.scores}  names=own  neurons=2  Ada 24/24  Ben 5/24" in out
    _, out, _ = run("results", made.id, "--csv", str(tmp_path / "answers.csv"))
    assert "Ada (own names): 24 of 24 images, accuracy 1.00 [0.86, 1.00]" in out and "Krippendorff's alpha" in out
    assert len(list(csv.DictReader((tmp_path / "answers.csv").read_text().splitlines()))) == 29
    _, out, _ = run("results", made.id, "--json")
    assert json.loads(out)["readers"][0]["accuracy"]["value"] == 1.0
    status, _, err = run("results", "nothing")
    assert status == 2 and "no reading with the id" in err
