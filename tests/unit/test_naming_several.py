"""Several servers of one model: the least busy is asked, one that dies is left out, another model is refused."""

import sys
import threading
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medsae import config as c
from medsae.naming.backends import Picture, Question, Reply
from medsae.naming.backends.several import Several
from medsae.progress import Silent, UserError
from medsae.steps.naming import name
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger
from medsae.store.requests import Requests

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
import naming_world as nw  # pyright: ignore[reportMissingImports]


class Said(Silent):
    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


@pytest.fixture
def world(tmp_path):
    return nw.build(tmp_path, images=260, neurons=4, share=0.5)


def ask(world, *servers, progress=None, **options):
    """What `name` returns when these servers are asked."""
    fields = {"neurons": "0,1,2", "pictures": 5, "controls": False, "concurrency": 2, "audit": False} | options
    with ExitStack() as stack:
        addresses = tuple(stack.enter_context(server.serve()) for server in servers)
        config = c.Name(scores=world.scores, backend="endpoint", endpoint=addresses, timeout_seconds=10.0, **fields)
        return name(config, Store(world.data), progress or Silent())


def names(world):
    frame = Ledger(Store(world.data), world.scores).names().sort_values("neuron").reset_index(drop=True)
    return frame.drop(columns=["time", "counter", "job", "seconds"], errors="ignore")


def test_two_servers_give_what_one_gives_and_both_work(world, tmp_path_factory):
    servers = [nw.Server(world, delay=0.01), nw.Server(world, delay=0.01)]
    found = ask(world, *servers)
    assert found["exit"] == 0 and found["backend"]["answered"].keys() and "gone" not in found["backend"]
    assert all(len(server.requests) >= 5 for server in servers), "both work"
    assert sum(found["backend"]["answered"].values()) + 2 >= found["asked"]
    other = nw.build(tmp_path_factory.mktemp("alone"), images=260, neurons=4, share=0.5)
    alone = ask(other, nw.Server(other))
    assert other.scores == world.scores
    pd.testing.assert_frame_equal(names(world).drop(columns="run"), names(other).drop(columns="run"))
    assert alone["asked"] == found["asked"]


def test_a_server_that_dies_is_left_out_and_no_question_is_lost(world):
    dies, stays, said = nw.Server(world), nw.Server(world, delay=0.005), Said()
    kill = threading.Event()

    def mangle(text, pictures, count):
        if count >= 8:
            dies.dead = True
            kill.set()
            return lambda handler: setattr(handler, "close_connection", True)
        return None

    dies.mangle = mangle
    found = ask(world, dies, stays, progress=said)
    assert kill.is_set(), "it died on the way"
    assert found["exit"] == 0 and len(names(world)) == 3
    (gone,) = [line for line in said.lines if "is gone and left out" in line]
    assert "1 of 2 servers go on" in gone and list(found["backend"]["gone"]) == [gone.split(" ")[0]]
    lost = Ledger(Store(world.data), world.scores).rows("SELECT count(*) FROM {lines} WHERE status = 'broken reply'")
    assert lost == [(0,)]


def test_servers_of_other_models_are_refused(world):
    one, other = nw.Server(world), nw.Server(world, model="another")
    with pytest.raises(UserError, match="different models: oracle and another"):
        ask(world, one, other)
    with pytest.raises(UserError, match="the server has no model 'oracle'"):
        ask(world, one, other, model="oracle")
    assert not one.requests and not other.requests, "no radiograph was shown"


def test_other_weights_behind_the_same_name_are_refused(world):
    wrong = nw.Server(world, error=1.0)
    with pytest.raises(UserError, match=r"(?s)P\(yes\) 0.\d+ and 0.\d+: they hold other weights.*127.0.0.1"):
        ask(world, nw.Server(world), wrong)


class Fake:
    """A server as `Several` sees it: waits for its gate, then says who it is."""

    model, root, concurrency, judged, without_logprobs = "m", None, 2, 0, 0

    def __init__(self, address, status: Any = "ok", there=True, root=None):
        self.address, self.status, self.there, self.root = address, status, there, root
        self.gate, self.asked = threading.Event(), 0
        self.gate.set()
        self.rehearsed, self.say = {}, lambda line: None

    def known(self, question):
        return None

    def ask(self, questions):
        self.asked += 1
        self.gate.wait(10)
        if self.status == "stop":
            raise UserError("the server is gone: 25 questions in a row found none")
        return [Reply(self.status, self.address)]

    def answers(self):
        return self.there

    def facts(self):
        return {"retries": 1}

    def close(self): ...


def of(fakes: Any, say: Any = lambda line: None) -> Several:
    return Several(fakes, say)


QUESTION = Question("judge", (Picture(0, "0"),), "", "Concept: x", None, 8, 0)


def test_the_least_busy_is_asked():
    slow, quick = Fake("slow"), Fake("quick")
    slow.gate.clear()
    several = of([slow, quick])
    first = threading.Thread(target=several.ask, args=([QUESTION],))
    first.start()
    while not slow.asked:
        pass
    told = [several.ask([QUESTION])[0].text for _ in range(6)]
    slow.gate.set()
    first.join()
    assert told == ["quick"] * 6 and slow.asked == 1
    assert Counter(several.ask([QUESTION])[0].text for _ in range(5)) == {"slow": 5}, "who has answered less, of equals"
    assert several.facts()["answered"] == {"slow": 6, "quick": 6} and several.facts()["retries"] == 2


@pytest.mark.parametrize("status", ["unreachable", "timeout", "broken reply", "server error", "stop"])
def test_a_lost_question_goes_to_another_server(status):
    said = []
    several = of([Fake("a", status, there=False), Fake("b"), Fake("c")], said.append)
    assert [several.ask([QUESTION])[0].text for _ in range(4)] == ["b", "c", "b", "c"]
    assert len(said) == 1 and said[0].startswith("a is gone") and list(several.facts()["gone"]) == ["a"]


def test_a_fault_of_a_server_that_is_there_is_its_answer():
    several = of([Fake("a", "server error"), Fake("b")])
    assert {several.ask([QUESTION])[0].status for _ in range(4)} == {"server error", "ok"} and not several.lost


def test_the_last_server_is_never_left_out():
    a, b = Fake("a", "unreachable", there=False), Fake("b", "unreachable", there=False)
    several = of([a, b])
    assert several.ask([QUESTION])[0].status == "unreachable" and len(several.alive) == 1
    b.status = a.status = "stop"
    with pytest.raises(UserError, match="the server is gone"):
        several.ask([QUESTION])


def test_models_that_were_loaded_from_elsewhere_are_refused():
    with pytest.raises(UserError, match="different models: org/one and org/two"):
        of([Fake("a", root="org/one"), Fake("b", root="org/two")])
    of([Fake("a", root="org/one"), Fake("b")])


def test_the_option_is_given_several_times(tmp_path):
    def asked(*addresses):
        return c.Name(scores="s", neurons="1", backend="endpoint", endpoint=addresses)

    two = asked("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1")
    assert c.command_line(two)[-4:] == ["--endpoint", "http://127.0.0.1:1/v1", "--endpoint", "http://127.0.0.1:2/v1"]
    assert c.record(two)["endpoint"] == list(two.endpoint)
    one = asked("http://127.0.0.1:1/v1")
    assert c.record(one)["endpoint"] == "http://127.0.0.1:1/v1", "the record of one is what it was"
    assert c.record(c.Name(scores="s", neurons="1"))["endpoint"] is None
    assert Requests(Store(tmp_path), replace(one, watch=True)).id == "df9c86286ec8", "services are found again"
    with pytest.raises(UserError, match="is given twice"):
        asked("http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1")


def test_the_command_line_takes_several(monkeypatch):
    from medsae import cli

    words = [
        "name",
        "--scores",
        "s",
        "--all",
        "--backend",
        "endpoint",
        "--endpoint",
        "http://a",
        "--endpoint",
        "http://b",
    ]
    assert cli._parse(words).endpoint == ("http://a", "http://b")
    assert cli._parse(words[:-2]).endpoint == ("http://a",)
