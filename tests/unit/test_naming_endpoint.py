"""The endpoint backend against a real HTTP server that misbehaves in twenty ways."""

import json
import math
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medsae import config as c
from medsae.naming.backends import Picture, PictureGone, Question, Task
from medsae.naming.backends import endpoint as module
from medsae.naming.backends.endpoint import Endpoint, Server, is_loopback, refuse_remote, yes_no
from medsae.naming.backends.http import Client
from medsae.naming.replies import FINAL
from medsae.progress import Silent, UserError
from medsae.steps.naming import name
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
import naming_world as nw


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return nw.build(tmp_path_factory.mktemp("world"), images=260, neurons=2, share=0.5)


@pytest.fixture
def backend():
    made = []

    def make(address, **options):
        kwargs = {"concurrency": 2, "timeout_seconds": 5.0, "seed": 0, "sleep": lambda seconds: None} | options
        load, seed = kwargs.pop("load", lambda image: nw._drawn(image)[1]), kwargs.pop("seed")
        made.append(Endpoint(Server(address, kwargs.pop("model", "oracle"), **kwargs), load, seed))
        return made[-1]

    yield make
    for each in made:
        each.close()


def question(task: Task = "judge", image=1, text="Concept: Amber opacity\nYes or No?", schema=None):
    return Question(task, (Picture(image, str(image)),), "sys", text, schema, 8, 0, "Amber opacity")


# --- where it may go


@pytest.mark.parametrize(
    "address", ["http://localhost:1/v1", "http://127.0.0.1:1", "http://127.8.8.8:1", "http://[::1]:1"]
)
def test_loopback(address):
    assert is_loopback(address)
    refuse_remote(address, False, pytest.fail)


@pytest.mark.parametrize("address", ["http://10.0.0.1/v1", "https://example.org/v1", "http://0.0.0.0:1", "http://localhost.example.org",
                                     "http://127.0.0.1.example.org/v1", "http://user@example.org"])  # fmt: skip
def test_an_address_elsewhere_is_refused_and_what_would_leave_is_said(address, world):
    assert not is_loopback(address)
    with pytest.raises(UserError, match=r"(?s)radiographs.*--allow-remote"):
        name(
            c.Name(scores=world.scores, neurons="0", backend="endpoint", endpoint=address), Store(world.data), Silent()
        )
    said = []
    refuse_remote(address, True, said.append)
    assert "What leaves it" in said[0] and "without file names" in said[0]


def test_no_proxy_of_the_environment_is_asked(world, monkeypatch, backend):
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with nw.Server(world).serve() as address:
        assert backend(address).ask([question()])[0].status == "ok"


# --- before a run


def test_a_server_that_is_down_a_wrong_name_and_a_blind_model_stop_before_the_run(world, backend):
    with pytest.raises(UserError, match="no server answers"):
        backend("http://127.0.0.1:9/v1").prepare()
    with nw.Server(world).serve() as address:
        with pytest.raises(UserError, match=r"(?s)no model 'other'.*oracle"):
            backend(address, model="other").prepare()
        found = backend(address, model=None)
        found.prepare()
        assert found.model == "oracle"
    for address in ("ftp://x", "127.0.0.1:8000", "http://", "http://127.0.0.1:notaport"):
        with pytest.raises(UserError, match="no address"):
            backend(address)


@pytest.mark.parametrize("kind", ["refuses", "ignores", "fails"])
def test_a_model_without_vision_is_told_apart(world, kind, monkeypatch, backend):
    server = nw.Server(world)
    original = nw._handler

    def handler(given):
        made: Any = original(given)

        class Blind(made):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                pictured = any(p["type"] == "image_url" for m in body["messages"] for p in m["content"])
                if pictured and kind != "ignores":
                    self.reply(
                        400 if kind == "refuses" else 500, {"error": {"message": "image input is not supported"}}
                    )
                else:
                    self.reply(200, nw.completion("Yes", tokens=12))

        return Blind

    monkeypatch.setattr(nw, "_handler", handler)
    with server.serve() as address, pytest.raises(UserError, match=r"(does not take pictures|does not see them)"):
        backend(address).prepare()


# --- replies


def status(code, body=b"{}", **headers):
    return lambda handler: handler.reply(code, body, **headers)


def half_closed(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [{"message": {"content": "Ye')
    handler.close_connection = True


def hang_up(handler):
    handler.close_connection = True


def trickle(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    for _ in range(60):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def odd_logprob(value):
    top = [{"token": "Yes", "logprob": value}, {"token": "No", "logprob": value}]
    return nw.completion("Yes", {"content": [{"token": "Yes", "logprob": value, "top_logprobs": top}]})


BAD = {
    "empty": "",
    "prose": "The radiograph is of good quality and shows the lungs.",
    "truncated JSON": '{"concept": "Amber opa',
    "wrong keys": '{"title": "Amber opacity", "text": "Yes"}',
    "refusal": "I'm sorry, but I can't help with medical pictures.",
    "huge": "Amber " * 40_000,
    "enormous": "x" * (6 * 2**20),
    "wrong language": "Oui, c'est une opacité de la base gauche avec un épanchement.",
    "NaN probabilities": odd_logprob(math.nan),
    "positive logprobs": odd_logprob(3.0),
    "HTML error page": status(200, b"<html><body><h1>Sign in</h1></body></html>"),
    "half-closed stream": half_closed,
    "hung up": hang_up,
    "a hang": trickle,
    "always 500": status(500, b"<html>Internal Server Error</html>"),
    "always 429": status(429, b"{}", Retry_After="0"),
    "400": status(400, b'{"error": {"message": "context length exceeded"}}'),
    "redirect": status(302, b"", Location="http://example.org/"),
    "no choices": {"choices": []},
    "content of another type": nw.completion([1, 2, {"a": None}]),
    "content null": nw.completion(None),
    "not an object": status(200, b"[1, 2, 3]"),
    "not UTF-8": status(200, b"\xff\xfe\x00{"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_reply_is_a_row_and_never_a_name_or_a_no(world, tmp_path, kind, monkeypatch):
    """Every question gets the bad reply; the run ends, and the ledger says for each what happened."""
    monkeypatch.setattr(module, "LOST_IN_A_ROW", 1000)
    monkeypatch.setattr(module.Endpoint, "rehearse", None)  # it stops a run in which nothing works
    monkeypatch.setattr("medsae.naming.backends.http.PAUSE_SECONDS", 0.001)
    store = Store(tmp_path)
    server = nw.Server(world, mangle=lambda text, pictures, count: None if '"description"' in text else BAD[kind])
    study = _copy(world, tmp_path)
    fields: dict[str, Any] = dict(
        audit=False, scores=study, backend="endpoint", pictures=5, concurrency=8, timeout_seconds=0.3, controls=False
    )
    with server.serve() as address:
        name(c.Name(neurons="0", endpoint=address, **fields), store, Silent())
    row = Ledger(store, study).names().iloc[0]
    verdicts = Ledger(store, study).verdicts(str(row["run"]), 0)
    assert (row["status"], row["asked"], row["judged"]) == ("ok", 10, 0)
    assert math.isnan(row["accuracy"]) and math.isnan(row["p"])
    assert len(verdicts) == 10 and verdicts["yes"].isna().all() and (verdicts["status"] != "ok").all()
    assert verdicts["raw"].fillna("").str.len().max() <= 2000

    naming = nw.Server(world, mangle=lambda text, pictures, count: BAD[kind])
    with naming.serve() as address:
        name(c.Name(neurons="1", endpoint=address, **fields), store, Silent())
    found = Ledger(store, study).names()
    unnamed = found[found["neuron"] == 1].iloc[0]
    assert unnamed["status"] not in ("ok", None)
    assert unnamed["concept"] is None or unnamed["concept"] != unnamed["concept"]


def _copy(world, folder):
    """The same study under another data folder; artifacts are linked, the ledger is new."""
    for kind in ("cohort", "embeddings", "sae", "scores"):
        (folder / "artifacts" / kind).mkdir(parents=True)
        for path in (world.data / "artifacts" / kind).iterdir():
            (folder / "artifacts" / kind / path.name).symlink_to(path)
    return world.scores


def test_a_third_of_random_500s_is_retried_and_costs_nothing(world, tmp_path, backend):
    seen = Counter()

    def mangle(text, pictures, count):
        return status(500) if nw._uniform(f"{count}") < 0.3 and not seen.update(["500"]) else None

    study, store = _copy(world, tmp_path), Store(tmp_path)
    pauses = []
    with nw.Server(world, mangle=mangle).serve() as address:
        found = backend(address, attempts=12, sleep=pauses.append)
        replies = [found.ask([question(image=i)])[0] for i in range(60)]
    assert seen["500"] > 10 and all(r.status == "ok" for r in replies)
    assert found.facts()["retries"] == seen["500"] == len(pauses)
    assert all(0 < p <= 30 for p in pauses) and len(set(pauses)) > len(pauses) / 2
    assert store.list("scores")[0].id == study


def test_only_429_5xx_and_timeouts_are_retried(world, backend):
    for kind, tries in (("400", 1), ("redirect", 1), ("HTML error page", 1), ("half-closed stream", 1),
                        ("always 429", 3), ("always 500", 3)):  # fmt: skip
        server = nw.Server(world, mangle=lambda text, pictures, count, kind=kind: BAD[kind])
        with server.serve() as address:
            found = backend(address, attempts=3)
            found.left_out["logprobs"] = "not wanted"
            found.ask([question()])
        assert len(server.requests) == tries, kind


def test_a_server_that_goes_away_stops_the_run_and_keeps_the_answers(world, monkeypatch, backend):
    monkeypatch.setattr(module, "LOST_IN_A_ROW", 3)
    found = backend("http://127.0.0.1:9/v1", attempts=1)
    found.ask([question()])
    found.ask([question()])
    with pytest.raises(UserError, match="the server is gone"):
        found.ask([question()])


def test_a_server_without_logprobs_or_schema_is_noted(world, backend):
    with nw.Server(world, logprobs=False).serve() as address:
        found = backend(address)
        reply = found.ask([question()])[0]
    assert reply.p_yes is None and reply.text in ("Yes", "No")
    assert "1 of 1 verdicts came without logprobs" in found.facts()["note"]


def test_a_server_that_answers_in_pieces_only_is_asked_for_them(world, backend):
    asked = []

    def mangle(text, pictures, count):
        asked.append(1)
        if len(asked) == 1:
            return status(400, b'{"error": {"message": "stream must be true for this model"}}')
        pieces = "".join(f"data: {json.dumps({'choices': [{'delta': {'content': w}}]})}\n\n" for w in ("Ye", "s"))
        return status(200, b": ping\n\n" + pieces.encode() + b"data: [DONE]\n\n")

    with nw.Server(world, mangle=mangle).serve() as address:
        found = backend(address)
        assert found.ask([question()])[0].text == "Yes" and found.extras == {"stream": True}


def test_a_server_that_refuses_extras_is_asked_plainly(world, backend):
    refused = []

    def mangle(text, pictures, count):
        return status(400, b'{"error": "unknown field logprobs"}') if not refused and not refused.append(1) else None

    with nw.Server(world, mangle=mangle).serve() as address:
        found = backend(address)
        assert found.ask([question()])[0].status == "ok" and "logprobs" in found.left_out
        assert found.ask([question()])[0].status == "ok"


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_closing_ends_the_requests_in_flight_quietly():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", 30, None)
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(client.post("/x", b"{}"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        accepted = [silent.accept()[0] for _ in threads]
        assert all(connection.recv(1) for connection in accepted)  # every request is on its way
        client.close()
        for connection in accepted:
            connection.close()
        for thread in threads:
            thread.join(20)
        assert [answer.status for answer in answers] == ["broken reply"] * 8
        assert client.post("/x", b"{}").body is None  # none begins


def test_a_picture_that_is_gone_is_not_sent(world, backend):
    def load(image):
        raise PictureGone("file not found")

    server = nw.Server(world)
    with server.serve() as address:
        found = backend(address, load=load)
        reply = found.ask([question()])[0]
    assert (reply.status, reply.text, server.requests) == ("unreadable picture", "file not found", [])
    assert reply.status not in FINAL


def test_the_key_goes_into_the_header_only(world, monkeypatch, backend):
    seen = []
    server = nw.Server(world, mangle=lambda text, pictures, count: lambda h: (seen.append(h.headers["Authorization"]),
                                                                              h.reply(200, nw.completion("Yes"))))  # fmt: skip
    with server.serve() as address:
        backend(address, key="s3cret").ask([question()])
    assert seen == ["Bearer s3cret"]


@pytest.mark.parametrize(("tokens", "p", "mass"), [
    ([("Yes", [("Yes", 0.6), ("No", 0.2), ("yes", 0.1)])], 0.7 / 0.9, 0.9),
    ([(" no", [(" no", 0.5), ("NO", 0.25), ("▁Yes", 0.25)])], 0.25, 1.0),
    ([('{"', [('{"', 1.0)]), ("answer", []), ('":', []), (' "', []), ("Yes", [("Yes", 0.8), ("No", 0.2)])], 0.8, 1.0),
    ([("Maybe", [("Maybe", 0.9), ("Yes", 0.1)])], None, None),
    ([], None, None),
])  # fmt: skip
def test_yes_and_no_from_logprobs(tokens, p, mass):
    content = [{"token": t, "logprob": 0.0, "top_logprobs": [{"token": a, "logprob": math.log(b)} for a, b in top]}
               for t, top in tokens]  # fmt: skip
    found = yes_no(content)
    assert found == ((None, None) if p is None else (pytest.approx(p), pytest.approx(mass)))


@pytest.mark.parametrize("odd", [None, {}, "x", [None], [{"token": 3}], [{"token": "Yes"}],
                                 [{"token": "Yes", "top_logprobs": [{"token": "No", "logprob": "high"}]}]])  # fmt: skip
def test_odd_logprobs_are_survived(odd):
    p, _ = yes_no(odd)
    assert p is None or math.isnan(p)


@pytest.mark.parametrize("concurrency", [3, 8])
@pytest.mark.long
def test_the_configured_number_of_requests_is_always_in_flight(crowd, tmp_path, concurrency, monkeypatch):
    """By the server's own count: it answers nothing before `concurrency` requests are there, and then one at a time.

    A client that ever waited for a reply before it sent the next request would wait for ever. Portions of nine neurons,
    so that there are also ends of portions; only the last requests of the run are let through without company.
    """
    monkeypatch.setattr("medsae.naming.run.PORTION", 9)
    monkeypatch.setattr(module.Endpoint, "rehearse", None)  # it asks before the run, one question at a time
    fields: dict[str, Any] = dict(
        audit=False, scores=_copy(crowd, tmp_path), all=True, pictures=5, backend="endpoint", concurrency=concurrency
    )
    free = nw.Server(crowd)
    with free.serve() as address:
        asked = name(c.Name(endpoint=address, **fields), Store(tmp_path), Silent())["asked"]
    assert free.most_flying <= concurrency
    server = nw.Server(crowd, gate=concurrency, gated=asked - concurrency)
    before = threading.active_count()
    with server.serve() as address:
        again = name(c.Name(endpoint=address, again=True, **fields), Store(tmp_path), Silent())["asked"]
    assert len(server.requests) == again == asked
    assert (server.starved, server.most_flying) == (0, concurrency)
    end = time.monotonic() + 30
    while threading.active_count() > before + concurrency + 4:  # a thread of the server ends a moment after its answer
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    return nw.build(tmp_path_factory.mktemp("crowd"), images=260, neurons=20, share=0.5)
