"""Other tests of the same names: intruder, rank, naming against hard negatives."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from medsae import config as c
from medsae.naming import testing
from medsae.naming.replies import parse_choice
from medsae.naming.selection import Plan
from medsae.naming.selection import Tested as OnePicture
from medsae.progress import Silent, UserError
from medsae.steps.naming import name
from medsae.store import concepts
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
import naming_world as nw


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return nw.build(tmp_path_factory.mktemp("world"), images=400, neurons=3, null=1, share=0.5)


@pytest.fixture
def world(original, tmp_path):
    for kind in ("cohort", "embeddings", "sae", "scores"):
        (tmp_path / "artifacts" / kind).mkdir(parents=True)
        for path in (original.data / "artifacts" / kind).iterdir():
            (tmp_path / "artifacts" / kind / path.name).symlink_to(path)
    return nw.World(
        tmp_path, *(getattr(original, k) for k in ("scores", "cohort", "truth_nk", "factor_of", "fires_nm"))
    )


def values(world):
    with Store(world.data).get(world.scores, "scores").connect() as db:
        return {(n, i): v for n, i, v in db.execute("SELECT neuron, image, value FROM activation").fetchall()}


def ask(world, address, **options):
    options = {"pictures": 20, "audit": False, "backend": "endpoint", "endpoint": address} | options
    return name(c.Name(scores=world.scores, **options), Store(world.data), Silent())


def plan(neuron=0, n=30):
    tested = [OnePicture(i, True, float(100 - i), 1) for i in range(n)] + [
        OnePicture(1000 + i, False, 0.0, None) for i in range(n)
    ]
    return Plan(neuron, tested=tuple(tested))


@pytest.mark.parametrize("kind", [testing.Intruder(0), testing.Rank(0)])
def test_sets_of_five_have_one_right_picture_at_any_place(kind):
    sets = kind.shown(plan())
    assert len(sets) == kind.count(30) == 15 and all(len(set(s.images)) == 5 for s in sets)
    truths = [s.truths[0] for s in sets]
    assert len(set(truths)) == 15 and all(t in s.images for s, t in zip(sets, truths, strict=True))
    places = [s.images.index(t) for n in range(60) for s in kind.shown(plan(n)) for t in s.truths]
    assert all(abs(places.count(k) / len(places) - 0.2) < 0.06 for k in range(5)), (
        "no place is the right one more often"
    )
    for s in sets:
        silent = [i for i in s.images if i >= 1000]
        assert len(silent) == (1 if kind.name == "intruder" else 2)
        assert silent == [*s.truths] if kind.name == "intruder" else s.truths[0] == min(s.images)


def test_intruder_needs_no_name_and_finds_what_looks_alike(world):
    """An oracle who sees which picture is silent is right always; for a neuron of chance it guesses. Chance is 1 in 5."""
    rng = np.random.default_rng(0)

    def mangle(text, pictures, count):
        assert "does not belong" in text and '"description"' not in text and pictures == 5
        numbers, neuron = server.requests[count][1], now[0]
        odd = [i for i, n in enumerate(numbers) if not world.fires_nm[n, neuron]]
        assert len(odd) == 1
        return str({"answer": odd[0] + 1 if neuron < 3 else int(rng.integers(1, 6))})

    server, now = nw.Server(world, mangle=mangle), [0]
    with server.serve() as address:
        for now[0] in (0, 3):
            found = ask(world, address, neurons=str(now[0]), test="intruder")
            assert found["exit"] == 0 and found["asked"] == 10
    names = Ledger(Store(world.data), world.scores).names().set_index("neuron")
    first, chance = names.loc[0], names.loc[3]
    assert (first["accuracy"], first["asked"], first["chance"]) == (1.0, 10, 0.2) and first["p"] == pytest.approx(
        0.2**10
    )
    right = int(chance["correct"])
    assert chance["p"] == pytest.approx(binomtest(right, 10, 0.2, alternative="greater").pvalue, rel=1e-5)
    assert first["low"] > 0.6 and names["specific_q"].isna().all() and not first["concept"]
    run = concepts.runs(Ledger(Store(world.data), world.scores).names())[0]
    assert run.test == "intruder" and "intruder" in run.title


def test_rank_tells_the_strongest_by_name_and_a_wrong_name_does_not(world):
    value = values(world)

    def mangle(text, pictures, count):
        found = re.search(r"Concept: (.*)", text)
        if found is None:
            return None
        numbers = server.requests[count][1]
        if found[1] != nw.FACTORS[0]:
            return str({"answer": int(nw._uniform(f"{found[1]}|{numbers}") * 5) + 1})  # not by order: that varies
        return f"Radiograph {int(np.argmax([value.get((0, n), 0.0) for n in numbers])) + 1}."

    server = nw.Server(world, mangle=mangle)
    with server.serve() as address:
        assert ask(world, address, neurons="0", test="rank")["exit"] == 0
    row = Ledger(Store(world.data), world.scores).names().iloc[0]
    assert (row["concept"], row["accuracy"], row["judged"], row["test"]) == (nw.FACTORS[0], 1.0, 10, "rank")
    assert row["shuffled_accuracy"] < 0.8 and row["specific_p"] == max(row["shuffled_p"], row["random_p"]) < 0.05
    verdicts = Ledger(Store(world.data), world.scores).verdicts(row["run"], 0)
    assert len(verdicts) == 30 and verdicts["yes"].notna().all()


def test_against_hard_shows_silent_pictures_with_the_same_label(world):
    server = nw.Server(world)
    with server.serve() as address:
        ask(world, address, neurons="0", against="hard", controls=False, pictures=5)
    text, numbers = next((t, n) for t, n in server.requests if '"description"' in t)
    named, contrast = numbers[:-6], numbers[-6:]
    assert "do not excite it" in text and "These 16 chest" in text and "The last 6" in text
    assert world.fires_nm[list(named), 0].all() and not world.fires_nm[list(contrast), 0].any()
    judged = {n[0] // 2 for t, n in server.requests if '"description"' not in t}
    assert {n // 2 for n in numbers}.isdisjoint(judged)
    names = Ledger(Store(world.data), world.scores).names()
    assert names["against"].tolist() == ["hard"]


def test_runs_of_other_tests_are_runs_of_their_own(world):
    server = nw.Server(world)
    with server.serve() as address:
        for options in ({}, {"test": "rank"}, {"against": "hard"}, {"test": "intruder"}):
            ask(world, address, neurons="0", pictures=5, **options)
    names = Ledger(Store(world.data), world.scores).names()
    assert names["run"].nunique() == 4
    assert sum('"description"' in t for t, _ in server.requests) == 2, "the same name serves detection and rank"


@pytest.mark.parametrize(("text", "answer"), [
    ('{"answer": 3}', 3), ("3", 3), ("The radiograph 4 does not belong.", 4), ('{"Answer": "2"}', 2), ("No. 5", 5),
    ('{"answer": 0}', None), ('{"answer": 6}', None), ("1 or 2", None), ("", None), ("none", None), ("0.5", None),
    ('{"answer": [1, 2]}', None),
])  # fmt: skip
def test_a_choice_is_one_number(text, answer):
    assert parse_choice(text, 5) == answer


def test_what_cannot_be_is_refused():
    for fields in ({"test": "rank"}, {"against": "hard"}):
        with pytest.raises(UserError, match="labels looks at no picture"):
            c.Name(scores="x", neurons="1", **fields)
    with pytest.raises(UserError, match="protocol strict"):
        c.Name(scores="x", neurons="1", against="hard", protocol="paper", backend="medgemma")
    with pytest.raises(UserError, match="at least 5"):
        c.Name(scores="x", neurons="1", test="rank", pictures=3, backend="medgemma")
    assert "test" not in c.record(c.Name(scores="x", neurons="1")), "what was asked before keeps its record"
