"""Naming as a whole, against a server that knows the truth: accuracy, controls, resuming, costs, the watching service."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from medsae import config as c
from medsae.naming import prompts
from medsae.naming.backends import Reply
from medsae.naming.memory import Known
from medsae.naming.replies import Explanation
from medsae.naming.result import result
from medsae.naming.selection import Plan, firing_least
from medsae.naming.selection import Tested as OnePicture
from medsae.plugins import Backend, backends
from medsae.progress import Silent, UserError
from medsae.steps import naming as naming_step
from medsae.steps.naming import choose, name
from medsae.steps.naming_study import StudyOfScores
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger
from medsae.store.requests import Requests

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "fixtures"))
import naming_world as nw  # noqa: E402


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return nw.build(tmp_path_factory.mktemp("world"), images=600, neurons=10, null=3, dead=1, weak=1)


@pytest.fixture
def world(original, tmp_path):
    """The world with an empty ledger of its own."""
    for kind in ("cohort", "embeddings", "sae", "scores"):
        (tmp_path / "artifacts" / kind).mkdir(parents=True)
        for path in (original.data / "artifacts" / kind).iterdir():
            (tmp_path / "artifacts" / kind / path.name).symlink_to(path)
    return replace(original, data=tmp_path)


class Said(Silent):
    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


def ask(world, address, progress=None, **options: Any):
    options = {"audit": False} | options
    options = {"all": True} | options if "neurons" not in options else options
    config = c.Name(scores=world.scores, backend="endpoint", endpoint=address, **options)
    return name(config, Store(world.data), progress or Silent())


def ledger(world):
    return Ledger(Store(world.data), world.scores)


@pytest.mark.parametrize("protocol", ["strict", "paper"])
@pytest.mark.long
def test_accuracy_is_one_minus_the_error_and_a_wrong_name_is_luck(world, protocol):
    """Error 15 %: over ten neurons the mean accuracy is 0.85 within its interval, shuffled and random are at 0.5."""
    server = nw.Server(world, error=0.15)
    with server.serve() as address:
        found = ask(world, address, protocol=protocol)
    names = ledger(world).names().set_index("neuron")
    assert found["statuses"] == {"ok": 13, "dead": 1, "too few": 1}
    assert [names["concept"][j] for j in range(10)] == list(nw.FACTORS)
    true = names.loc[range(10)]
    assert abs(true["accuracy"].mean() - 0.85) < 3.3 * np.sqrt(0.85 * 0.15 / 600)
    assert ((true["low"] <= 0.85) & (true["high"] >= 0.85)).sum() >= 8
    for control in ("shuffled", "random"):
        values = names[f"{control}_accuracy"].loc[range(10)]
        assert abs(values.mean() - 0.5) < 3.3 * 0.5 / np.sqrt(600)
        assert (true[f"{control}_concept"] != true["concept"]).all()
    assert (true["q"] < 0.01).all() and (names["q"].loc[[10, 11, 12]] > 0.05).all()
    assert names["tests"].unique().tolist() == [13]
    assert "fires on none" in names["note"][13] and "fires on " in names["note"][14]
    verdicts = ledger(world).verdicts(str(names["run"][0]), 0)
    assert Counter(verdicts["about"]) == {"name": 60, "shuffled": 60, "random": 60}
    mine = verdicts[verdicts["about"] == "name"]
    assert mine["fires"].tolist() == [bool(world.fires_nm[i, 0]) for i in mine["image"]]
    assert (mine["yes"].astype(bool) == mine["fires"]).mean() == pytest.approx(names["accuracy"][0])
    assert mine["raw"].notna().all()
    assert mine["p"].notna().all() == (protocol == "strict") == bool(true["auroc"].notna().all())


def test_the_false_discovery_rate_holds_over_a_thousand_null_neurons(original, tmp_path):
    """Names of a judge who is right in 85 %, of 1,000 neurons that fire by chance and 100 that follow their factor, by
    the way of a run: verdicts -> result -> ledger -> q-values of the Concepts table."""
    judge, rng = nw.Server(original, error=0.15), np.random.default_rng(0)
    every = np.arange(len(original.truth_nk))

    def row(run, neuron, null):
        factor = neuron % len(nw.FACTORS)
        fires = rng.random(len(every)) < 0.4 if null else original.truth_nk[:, factor]
        chosen = [(i, True) for i in rng.choice(every[fires], 30, replace=False)]
        chosen += [(i, False) for i in rng.choice(every[~fires], 30, replace=False)]
        plan = Plan(neuron, tested=tuple(OnePicture(int(i), f, float(f), 1 if f else None) for i, f in chosen))
        own = Explanation("ok", nw.FACTORS[factor], "")
        said = {t.image: judge.verdict(own.concept, t.image) for t in plan.tested}
        verdicts = {i: Known("ok", yes, 0.9 if yes else 0.1, 1.0, None) for i, yes in said.items()}
        found = result(plan, own, {"name": (own.concept, "", None)}, {"name": verdicts}, balanced=True)
        return {"kind": "name", "run": run, "neuron": neuron, **found}

    book = Ledger(Store(tmp_path), "scores-null")
    with book.writer() as writer:
        writer.append({"kind": "run", "run": run, "backend": "endpoint", "model": "m"} for run in ("alone", "beside"))
        for run, true in (("alone", 0), ("beside", 100)):
            writer.append(row(run, neuron, neuron >= true) for neuron in range(true + 1000))
    names = book.names()
    alone, beside = (names[names["run"] == run] for run in ("alone", "beside"))
    assert len(alone) == 1000 and not (alone["q"] <= 0.05).any()
    assert abs(alone["accuracy"].mean() - 0.5) < 0.01 and (alone["p"] <= 0.05).mean() <= 0.06
    found = beside[beside["q"] <= 0.05]
    assert (found["neuron"] >= 100).mean() <= 0.05 and (found["neuron"] < 100).sum() >= 95
    assert abs(beside[beside["neuron"] < 100]["accuracy"].mean() - 0.85) < 0.02


def test_strict_shows_one_picture_a_prompt_and_other_patients_than_it_named(world):
    server = nw.Server(world)
    with server.serve() as address:
        ask(world, address, neurons="0")
    named = [numbers for text, numbers in server.requests if '"description"' in text]
    judged = [numbers for text, numbers in server.requests if '"description"' not in text]
    assert len(named) == 1 and {len(n) for n in judged} == {1} and len(judged) == 180
    shown, tested = list(named[0]), [number for numbers in judged for number in numbers]
    assert None not in shown + tested, "every picture was seen for what it is"
    assert {n // 2 for n in shown if n is not None}.isdisjoint(n // 2 for n in tested if n is not None)
    assert "disjoint" in ledger(world).names()["run_overlap"][0]
    nothing_leaks = [text for text, _ in server.requests if "p000" in text or ".jpg" in text]
    assert not nothing_leaks


def test_the_same_question_is_not_asked_twice_and_again_asks_anew(world):
    server = nw.Server(world)
    with server.serve() as address:
        first = ask(world, address, neurons="0,1")
        assert first["asked"] == len(server.requests) == len(set(server.requests))
        assert first["asked"] + first["reused"] == 2 * 181
        assert ask(world, address, neurons="0,1")["asked"] == 0
        wider = ask(world, address, neurons="0,1,2")
        assert wider["asked"] + wider["reused"] == 181
        before = ledger(world).names()
        assert ask(world, address, neurons="0", again=True)["asked"] == 181
    after = ledger(world).names()
    assert len(after) == len(before) == 3
    assert after.set_index("neuron")["take"].to_dict() == {0: 1, 1: 0, 2: 0}
    lines = [json.loads(line) for path in ledger(world).files() for line in path.read_text().splitlines()]
    assert sum(row["kind"] == "name" and row["neuron"] == 0 for row in lines) == 2


def test_answers_lost_on_the_way_are_asked_again_by_the_same_command(world, monkeypatch):
    """A fifth of the replies are 400s: failed rows now; the next run asks for those alone."""
    monkeypatch.setattr("medsae.naming.backends.endpoint.Endpoint.rehearse", None)
    # One thread: with spare ones another question may go between a refusal and its plain try, and be refused as well.
    monkeypatch.setattr("medsae.naming.backends.endpoint._SPARE", 0)

    def mangle(text, pictures, count):
        bad = '"description"' not in text and count % 5 == 0
        return (lambda handler: handler.reply(400, {"error": "busy"})) if bad else None

    with nw.Server(world, mangle=mangle, logprobs=False).serve() as address:
        ask(world, address, neurons="0", controls=False, concurrency=1)
    row = ledger(world).names().iloc[0]
    failed = int(row["asked"] - row["judged"])
    # 12 of 60 got a 400; the first of them was answered when it was asked plainly, without logprobs.
    assert failed == row["retry"] == 11 and "11 of 60" in row["note"]
    with nw.Server(world).serve() as address:
        assert ask(world, address, neurons="0", controls=False)["asked"] == failed
    row = ledger(world).names().iloc[0]
    assert (row["asked"], row["judged"], row["retry"]) == (60, 60, 0)


def test_one_repair_attempt(world):
    """The first reply to every question is prose; the second try is asked with the reason, and once only."""
    seen = Counter()

    def mangle(text, pictures, count):
        return None if "could not be used" in text else "It is hard to say." if seen.update(["bad"]) is None else None

    server = nw.Server(world, mangle=mangle)
    with server.serve() as address:
        ask(world, address, neurons="0", pictures=10, controls=False)
    row = ledger(world).names().iloc[0]
    assert (row["status"], row["judged"], row["accuracy"]) == ("ok", 20, 1.0)
    # Prose gives no name, so the rehearsal judged a concept of its own.
    assert seen["bad"] == 22 and len(server.requests) == 43
    explained = ledger(world).explanation(row["run"], 0)
    assert explained is not None and "second try" in explained["raw"]


@pytest.mark.long
def test_kill_9_in_the_middle_then_the_same_command_loses_nothing(world):
    server = nw.Server(world, error=0.1, delay=0.01)
    with server.serve() as address:
        words = ["name", "--scores", world.scores, "--neurons", "0,1,2,3", "--backend", "endpoint", "--endpoint", address,
                 "--concurrency", "4", "--no-audit"]  # fmt: skip
        env = os.environ | {"MEDSAE_DATA": str(world.data), "PYTHONPATH": str(ROOT)}
        with subprocess.Popen([sys.executable, "-m", "medsae", *words], env=env, cwd=ROOT,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:  # fmt: skip
            deadline = time.monotonic() + 60
            while len(server.requests) < 250 and time.monotonic() < deadline:
                time.sleep(0.01)
            os.kill(child.pid, signal.SIGKILL)
        time.sleep(0.1)
        written = sum(path.read_bytes().count(b"\n") for path in ledger(world).files())
        with ledger(world).files()[0].open("ab") as torn:
            torn.write(b'{"kind":"verdict","run":"x","neur')
        asked_before = len(server.requests)
        assert 250 <= asked_before < 700 and written > 200
        found = ask(world, address, neurons="0,1,2,3", concurrency=4)
    names = ledger(world).names()
    assert sorted(names["neuron"]) == [0, 1, 2, 3] and (names["judged"] == 60).all()
    # What was answered but not yet written when the process died (at most what was in flight) is asked again.
    assert found["asked"] <= 724 - asked_before + 2 * 4 + 4
    asked = Counter(text + str(numbers) for text, numbers in server.requests)
    assert sum(n - 1 for n in asked.values()) <= 2 * 4 + 4


def test_ctrl_c_stops_quietly_and_keeps_what_was_answered(world):
    server = nw.Server(world, delay=0.02)
    with server.serve() as address:
        words = [
            "name",
            "--scores",
            world.scores,
            "--neurons",
            "0,1,2,3",
            "--backend",
            "endpoint",
            "--endpoint",
            address,
            "--no-audit",
        ]
        env = os.environ | {"MEDSAE_DATA": str(world.data), "PYTHONPATH": str(ROOT)}
        with subprocess.Popen([sys.executable, "-m", "medsae", *words], env=env, cwd=ROOT, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:  # fmt: skip
            deadline = time.monotonic() + 60
            while len(server.requests) < 100 and time.monotonic() < deadline:
                time.sleep(0.01)
            child.send_signal(signal.SIGINT)
            _, said = child.communicate(timeout=30)
    assert child.returncode == 130 and "Traceback" not in said and "Exception" not in said
    assert said.rstrip().endswith("the same command goes on from there")
    assert sum(path.read_bytes().count(b"\n") for path in ledger(world).files()) > 80


def test_cost_is_told_before_and_asks_nothing(world):
    server, said = nw.Server(world), Said()
    with server.serve() as address:
        found = ask(world, address, said, cost=True)
    assert server.requests == [] and ledger(world).files() == []
    cost = found["cost"]
    assert (cost["neurons"], cost["askable"], cost["questions"]) == (15, 13, 13 * 181)
    assert cost["shown"] == 13 * (16 + 180) and cost["distinct"] <= 600
    assert "2,353 questions" in said.lines[0] and "tokens read" in said.lines[0]


def test_labels_name_offline_and_say_so(world):
    said = Said()
    name(c.Name(scores=world.scores, all=True), Store(world.data), said)
    names = ledger(world).names().set_index("neuron")
    assert [names["concept"][j] for j in range(10)] == list(nw.FACTORS)
    assert (names["accuracy"].loc[range(10)] == 1.0).all() and names["random_accuracy"].isna().all()
    assert names["backend"].unique().tolist() == ["labels"] and "no model" in names["description"][0]
    assert any("no model" in line for line in said.lines)
    assert abs(names["shuffled_accuracy"].loc[range(10)].mean() - 0.5) < 0.15


def test_results_of_two_ways_never_mix(world):
    name(c.Name(scores=world.scores, neurons="0"), Store(world.data), Silent())
    name(c.Name(scores=world.scores, neurons="0", protocol="paper"), Store(world.data), Silent())
    name(c.Name(scores=world.scores, neurons="0", pictures=20), Store(world.data), Silent())
    found = ledger(world).names()
    assert found["run"].nunique() == 3 and sorted(found["asked"]) == [40, 60, 60]


@pytest.mark.parametrize(("fields", "message"), [
    (dict(neurons="99"), "no neuron 99"), (dict(neurons="a,b"), "not a list"), (dict(), "which neurons"),
    (dict(neurons="1", all=True), "exclude each other"), (dict(neurons="1", endpoint="http://127.0.0.1:1"), "together"),
    (dict(neurons="1", backend="medgemma", model="no-such-folder"), "labels and --backend endpoint work meanwhile"),
])  # fmt: skip
def test_bad_requests_are_refused_with_what_to_do(world, fields, message):
    with pytest.raises(UserError, match=message):
        name(c.Name(scores=world.scores, **fields), Store(world.data), Silent())


def test_top_orders_neurons(world):
    name(c.Name(scores=world.scores, top=2), Store(world.data), Silent())
    assert sorted(ledger(world).names()["neuron"]) == [0, 1]
    name(c.Name(scores=world.scores, top=1, by="density"), Store(world.data), Silent())
    densest = int(world.fires_nm.mean(0).argmax())
    assert densest in ledger(world).names()["neuron"].tolist()


def test_top_passes_over_neurons_that_fire_on_too_few_pictures(world):
    fires_m = np.sort(world.fires_nm.sum(0))
    pictures = int(fires_m[-2]) * 2 // 3 + 1  # 3/2 of it is more than all but the densest fire on
    with closing(StudyOfScores(Store(world.data), Store(world.data).get(world.scores), seed=0)) as study:
        assert fires_m[-2] < firing_least("strict", pictures) <= fires_m[-1]
        config = c.Name(scores=world.scores, top=5, by="density", pictures=pictures)
        with pytest.raises(UserError, match=f"no neuron has {pictures} firing"):
            choose(config, study)  # one fires on enough, but not after the split by patient
        able = choose(replace(config, pictures=60), study)
        assert len(able) == 5 and all(study.plan(n, "strict", 60, 0.0).status == "ok" for n in able)
        with pytest.raises(UserError, match="no neuron fires on"):
            choose(replace(config, pictures=int(fires_m[-1])), study)


def test_a_name_that_is_script_is_kept_as_text(world):
    evil = json.dumps({"concept": "<script>alert(1)</script>", "description": "a | b <img src=x onerror=y>"})
    server = nw.Server(world, mangle=lambda text, pictures, count: evil if '"description"' in text else None)
    with server.serve() as address:
        ask(world, address, neurons="0", pictures=5)
    assert ledger(world).names()["concept"][0] == "<script>alert(1)</script>"
    judged = [text for text, _ in server.requests if "Concept:" in text]
    assert not any("<" in text for text in judged)
    assert prompts.quote("<end_of_turn>") == "(end_of_turn)"


def test_the_watching_service_answers_requests_and_cancels(world, clock, monkeypatch):
    monkeypatch.setattr(naming_step, "time", clock)
    store = Store(world.data)
    server = nw.Server(world, delay=0.01)
    with server.serve() as address:
        config = c.Name(scores=world.scores, backend="endpoint", endpoint=address, watch=True, pictures=10, audit=False)
        requests = Requests(store, config)
        assert not requests.alive() and requests.state() == {}
        requests.ask(2)
        thread = threading.Thread(target=name, args=(config, store, Silent()), daemon=True)
        thread.start()
        _until(lambda: not requests.waiting(2))
        assert requests.alive()
        with pytest.raises(UserError, match="runs already"):
            name(config, store, Silent())
        requests.ask(3)
        _until(lambda: not requests.waiting(3))
        server.delay = 0.2  # time to cancel it
        requests.ask(4)
        _until(lambda: requests.state().get("done", 0) > 5 and requests.state().get("neuron") == 4)
        requests.cancel(4)
        _until(lambda: not requests.waiting(4))
        requests.ask(999)
        _until(lambda: not requests.waiting(999))
        clock.over = True
        thread.join(30)
    assert not requests.alive() and requests.state()["phase"] == "stopped"
    assert sorted(ledger(world).names()["neuron"]) == [2, 3]


def _until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


class Echo:
    """A backend of somebody else: it calls everything a shadow and says yes to every picture."""

    name, model, concurrency, batch, is_model, by_neuron = "echo", "echo-1", 2, 4, True, False

    def __init__(self, study):
        self.study = study

    def ask(self, questions):
        assert all(self.study.jpeg(q.pictures[0].image)[:2] == b"\xff\xd8" for q in questions)
        said = json.dumps({"concept": "A shadow of the shoulder blade", "description": "It is seen at the edge."})
        return [Reply("ok", said if q.task == "explain" else "Yes") for q in questions]

    def facts(self):
        return {}

    def close(self): ...


def make_echo(config, study, progress):
    return Echo(study)


def test_a_backend_of_a_package_of_its_own_is_asked_without_any_change_here(world, monkeypatch):
    module = ModuleType("somebody_else")
    module.__dict__["make"] = make_echo
    monkeypatch.setitem(sys.modules, "somebody_else", module)
    monkeypatch.setattr(backends, "_offers", dict(backends.all()))
    with pytest.raises(UserError, match=r"(?s)no backend 'echo'.*labels"):
        name(c.Name(scores=world.scores, neurons="0", backend="echo"), Store(world.data), Silent())
    backends.register(Backend(name="echo", label="Echo", help="says yes", load="somebody_else:make"))
    found = name(c.Name(scores=world.scores, neurons="0", backend="echo", pictures=10), Store(world.data), Silent())
    row = ledger(world).names().iloc[0]
    assert (row["backend"], row["model"], row["accuracy"], row["p"]) == ("echo", "echo-1", 0.5, 1.0)
    assert row["specific_p"] == 1.0 and found["exit"] == 0 and len(ledger(world).audits()) == len(nw.FACTORS)
