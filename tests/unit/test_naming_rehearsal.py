"""What is told before a run, how long a server is waited for, how a run ends, and several commands at once."""

import email.utils
import itertools
import json
import multiprocessing
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from medsae import config as c
from medsae.naming import diagnosis
from medsae.naming.backends import endpoint as module
from medsae.naming.backends.http import Client, _seconds
from medsae.progress import Silent, UserError
from medsae.steps.naming import name
from medsae.store.artifacts import Store
from medsae.store.claims import Claims
from medsae.store.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
import naming_world as nw  # pyright: ignore[reportMissingImports]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return nw.build(tmp_path_factory.mktemp("world"), images=260, neurons=8, share=0.5)


@pytest.fixture
def world(original, tmp_path):
    for kind in ("cohort", "embeddings", "sae", "scores"):
        (tmp_path / "artifacts" / kind).mkdir(parents=True)
        for path in (original.data / "artifacts" / kind).iterdir():
            (tmp_path / "artifacts" / kind / path.name).symlink_to(path)
    return nw.World(
        tmp_path, *(getattr(original, k) for k in ("scores", "cohort", "truth_nk", "factor_of", "fires_nm"))
    )


class Said(Silent):
    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


def ask(world, address, progress=None, **options):
    options = {
        "audit": False,
        "neurons": "0,1",
        "pictures": 5,
        "controls": False,
        "concurrency": 4,
        "timeout_seconds": 20.0,
    } | options
    config = c.Name(scores=world.scores, backend="endpoint", endpoint=address, **options)
    return name(config, Store(world.data), progress or Silent())


def refuse(code, message, when=lambda text, pictures: True):
    def mangle(text, pictures, count):
        body = json.dumps({"error": {"message": message}}).encode()
        return (lambda handler: handler.reply(code, body)) if when(text, pictures) else None

    return mangle


# --- the rehearsal


@pytest.mark.parametrize(("message", "what", "do"), [
    ("At most 1 image(s) may be provided in one prompt.", "at most 1 picture a prompt", "limit-mm-per-prompt"),
    ("This model's maximum context length is 4096 tokens. However, you requested 4500", "context is too small",
     "max-model-len"),
    ("the request exceeds the available context size (2048 tokens)", "context is too small", "llama.cpp -c"),
    ("image input is not supported - hint: you may need to provide the mmproj", "does not take pictures", "vision"),
])  # fmt: skip
def test_a_refusal_of_the_real_question_is_told_before_the_run(world, message, what, do):
    server = nw.Server(world, mangle=refuse(400, message, lambda text, pictures: pictures > 1))
    with server.serve() as address, pytest.raises(UserError, match=what) as caught:
        ask(world, address)
    assert do in str(caught.value) and message[:40] in str(caught.value)
    assert Ledger(Store(world.data), world.scores).files() == []


@pytest.mark.parametrize("code, message, what, do", [
    (404, '{"error": {"message": "The model `x` does not exist"}}', "has no model", "--model NAME"),
    (413, "<html>413 Request Entity Too Large</html>", "requests of this size", "client_max_body_size"),
    (307, "", "sends requests to another address", "give that address"),
    (400, "maximum context length is 64 tokens", "context is too small for a question with 1 picture ", "max-model-len"),
    (400, "no \x1b[2Jvision: text-only model", r"does not take pictures .*no  \[2Jvision", "vision"),
], ids=("model", "size", "redirect", "context", "escape codes"))  # fmt: skip
def test_a_refusal_of_the_first_small_question_is_told_by_its_cause(world, code, message, what, do):
    """Not every server that refuses a picture is blind; what would steer a terminal is not printed."""
    refused = lambda *_: lambda handler: handler.reply(code, message.encode())  # noqa: E731
    server = nw.Server(world, mangle=refused, mangle_first=True)
    with server.serve() as address, pytest.raises(UserError, match=what) as caught:
        ask(world, address)
    assert do in str(caught.value) and "\x1b" not in str(caught.value)


def test_a_real_question_that_is_too_large_is_told_before_the_run(world):
    def mangle(text, pictures, count):
        page = b"<html>413 Request Entity Too Large</html>"
        return (lambda handler: handler.reply(413, page)) if pictures > 1 else None

    server = nw.Server(world, mangle=mangle)
    with server.serve() as address, pytest.raises(UserError, match="requests of this size") as caught:
        ask(world, address)
    assert "client_max_body_size" in str(caught.value)


@pytest.mark.parametrize(("code", "what", "do"), [
    (200, "this is no API, it answers '<html>Sign in", "/v1"),
    (307, r"sends requests to another address \(HTTP 307\)", "give that address"),
])  # fmt: skip
def test_an_address_that_is_no_api_is_told_as_that(world, monkeypatch, code, what, do):
    original = nw._handler

    def page(given):
        class Page(original(given)):
            def do_GET(self):
                self.reply(code, b"<html>Sign in</html>")

        return Page

    monkeypatch.setattr(nw, "_handler", page)
    with nw.Server(world).serve() as address, pytest.raises(UserError, match=what) as caught:
        ask(world, address, model=None)
    assert do in str(caught.value)


def test_the_right_address_is_found(world, monkeypatch):
    original = nw._handler

    def strict(given):
        class Strict(original(given)):
            def do_GET(self):
                super().do_GET() if self.path == "/v1/models" else self.reply(404, {"detail": "Not Found"})

        return Strict

    monkeypatch.setattr(nw, "_handler", strict)
    with nw.Server(world).serve() as address:
        root = address.removesuffix("/v1")
        for wrong in (root, f"{root}/", f"{root}/v1/chat/completions", f"{root}/api"):
            with pytest.raises(UserError, match=f"did you mean {address}\\?"):
                ask(world, wrong)


def test_a_wrong_key_is_told(world, monkeypatch):
    original = nw._handler

    def locked(given):
        class Locked(original(given)):
            def do_GET(self):
                ok = self.headers["Authorization"] == "Bearer right"
                super().do_GET() if ok else self.reply(401, {"error": "invalid api key"})

        return Locked

    monkeypatch.setattr(nw, "_handler", locked)
    monkeypatch.delenv(module.KEY_VARIABLE, raising=False)
    with nw.Server(world).serve() as address:
        with pytest.raises(UserError, match="wants a key"):
            ask(world, address)
        monkeypatch.setenv(module.KEY_VARIABLE, "wrong")
        with pytest.raises(UserError, match="is refused"):
            ask(world, address)
        monkeypatch.setenv(module.KEY_VARIABLE, "right")
        assert ask(world, address)["exit"] == 0


@pytest.mark.parametrize("stops", [True, False])
def test_a_model_that_thinks_is_asked_not_to_or_gets_room(world, monkeypatch, stops):
    """It thinks for 60 tokens: with room for the answer alone nothing comes."""
    original, bodies = nw._handler, []

    def thinking(given):
        class Thinking(original(given)):
            def reply(self, code, body, **headers):
                if isinstance(body, dict) and "choices" in body and self.thinks:
                    text = "<think>Is it? No. Yes.</think>" + body["choices"][0]["message"]["content"]
                    cut = self.tokens < 60
                    choice = body["choices"][0] | {"finish_reason": "length" if cut else "stop", "logprobs": None,
                                                   "message": {"content": text[:12] if cut else text}}  # fmt: skip
                    body = body | {"choices": [choice]}
                super().reply(code, body, **headers)

            def do_POST(self):
                data = self.rfile.read(int(self.headers["Content-Length"]))
                asked = json.loads(data)
                bodies.append(asked)
                off = (asked.get("chat_template_kwargs") or {}).get("enable_thinking") is False
                self.tokens, self.thinks = (
                    asked["max_tokens"],
                    not (stops and off) and "square" not in str(asked)[-900:],
                )
                self.rfile = __import__("io").BytesIO(data)
                super().do_POST()

        return Thinking

    monkeypatch.setattr(nw, "_handler", thinking)
    said = Said()
    with nw.Server(world).serve() as address:
        found = ask(world, address, said)
    names = Ledger(Store(world.data), world.scores).names()
    assert found["exit"] == 0 and (names["accuracy"] == 1.0).all()
    assert any("thinks before it answers" in line for line in said.lines)
    assert (bodies[-1]["max_tokens"] < 300) == stops == ("chat_template_kwargs" in bodies[-1])


def test_capped_and_missing_logprobs_are_told(world, monkeypatch):
    original, tops = nw._handler, []

    def capped(given):
        class Capped(original(given)):
            def do_POST(self):
                data = self.rfile.read(int(self.headers["Content-Length"]))
                top = json.loads(data).get("top_logprobs")
                self.rfile = __import__("io").BytesIO(data)
                tops.append(top)
                if (top or 0) > 5:
                    message = "Requested sample logprobs of 20, which is greater than max allowed: 5"
                    self.reply(400, {"object": "error", "message": message, "code": 400})
                else:
                    super().do_POST()

        return Capped

    with monkeypatch.context() as patch:
        patch.setattr(nw, "_handler", capped)
        said = Said()
        with nw.Server(world).serve() as address:
            ask(world, address, said)
    assert any("caps logprobs: 5" in line for line in said.lines) and tops.count(20) == 1
    assert Ledger(Store(world.data), world.scores).names()["auroc"].notna().all()
    said = Said()
    with nw.Server(world, logprobs=False).serve() as address:
        ask(world, address, said, again=True)
    assert any("gives no probabilities" in line for line in said.lines)


def test_words_of_servers_are_understood():
    few = ("You may only provide up to 1 image", "Only one image is supported", "too many images in request")
    assert all(diagnosis.of(text, 16, 256) is not None for text in few)
    assert diagnosis.of("At most 1 image(s) may be provided in one prompt.", 1, 256) is None, "one is what was sent"
    assert diagnosis.of("upstream connect error", 16, 256) is None
    for text in ("Invalid image url: only http and https URLs are supported", "data URLs are not supported"):
        found = diagnosis.of(text, 1, 256)
        assert found is not None and "as addresses" in found[0]
    assert diagnosis.wants_stream("This model only supports streaming: set stream to true")
    assert not diagnosis.wants_stream("Unrecognized request argument supplied: stream_options")
    caps = {"Requested sample logprobs of 20, which is greater than max allowed: 5": 5,
            "top_logprobs must be less than or equal to 8": 8, "logprobs: value must be between 0 and 5": 5,
            "no cap here": None}  # fmt: skip
    assert {text: diagnosis.logprobs_cap(text) for text in caps} == caps
    fields = ["seed", "logprobs", "top_logprobs", "max_tokens", "response_format"]
    assert (
        diagnosis.refused_field("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'", fields)
        == "max_tokens"
    )
    assert diagnosis.refused_field("Unrecognized request argument supplied: seed", fields) == "seed"
    assert diagnosis.refused_field("json_schema is not supported", fields) == "response_format"
    assert diagnosis.refused_field("context length exceeded", fields) is None


# --- waiting


def test_retry_after_is_read_in_all_its_forms():
    assert _seconds("4") == 4 and _seconds(" 0.25 ") == 0.25 and _seconds("1.5s") == 1.5
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert 58 < (_seconds(date) or 0) <= 60
    for none in (None, "", "soon", "0", "-3", "inf", "nan", email.utils.formatdate(0, usegmt=True)):
        assert _seconds(none) is None


def test_all_threads_wait_in_full_and_together(world):
    """The 3rd reply asks for 0.7 s: no request arrives in that time, and the wait costs no try."""
    arrived, said = [], Said()

    def mangle(text, pictures, count):
        arrived.append(time.monotonic())
        if count in (4, 5):
            return lambda handler: handler.reply(429, b"{}", Retry_After="0.7")
        return None

    with nw.Server(world, mangle=mangle).serve() as address:
        assert ask(world, address, said, pictures=20, concurrency=3)["exit"] == 0
    gaps = sorted(b - a for a, b in itertools.pairwise(arrived))
    assert gaps[-1] > 0.65


def test_a_long_wait_is_cut_and_said():
    slept, said = [], []
    client = Client("http://127.0.0.1:9/v1", 1, None, sleep=slept.append, say=said.append)
    client._come_back(4000)
    client._wait()
    assert 299 < slept[0] < 301 and "4,000 s" in said[0] and "at most 300 s" in said[0]


# --- ends


def test_a_run_in_which_nothing_works_stops_early_and_says_why(world):
    def mangle(text, pictures, count):
        return "It depends." if '"description"' not in text and "Yes or No" in text else None

    server, said = nw.Server(world, mangle=lambda t, p, n: "It depends." if '"description"' not in t else None), Said()
    with (
        server.serve() as address,
        pytest.raises(UserError, match=r"the first 3\d verdicts all failed alike: unparsable"),
    ):
        ask(world, address, said, neurons="0,1,2,3,4,5", pictures=20)
    assert len(server.requests) < 120
    assert any("0 of 6 neurons named and tested" in line for line in said.lines)
    assert any("unparsable: It depends." in line for line in said.lines)


def test_ends_are_honest(world):
    """Neuron 1's verdicts all fail: status 3, the sentence of the server; the same command mends it."""

    def mangle(text, pictures, count):
        wrong = "Birch" in text and '"description"' not in text
        return (lambda handler: handler.reply(503, b'{"error": "the cat sat on the GPU"}')) if wrong else None

    said = Said()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medsae.naming.backends.http.PAUSE_SECONDS", 0.001)
        with nw.Server(world, mangle=mangle).serve() as address:
            found = ask(world, address, said)
    assert found["exit"] == 3
    assert any("1 of 2 neurons named and tested; 1 without enough usable verdicts" in line for line in said.lines)
    assert any("the cat sat on the GPU" in line for line in said.lines)
    assert any("20 verdicts, 10 usable; not: 10 server error" in line for line in said.lines)
    with nw.Server(world).serve() as address:
        assert ask(world, address)["exit"] == 0
        assert ask(world, address)["exit"] == 0, "nothing is asked, and the end is as honest"


def test_the_clock_may_go_back(tmp_path, monkeypatch):
    """A failure of next year, then a success of today: the newer line counts, whatever the clock said."""
    ledger = Ledger(Store(tmp_path), "scores-x")
    row = {"kind": "name", "run": "r", "neuron": 1, "status": "refusal", "retry": 0}
    monkeypatch.setattr("medsae.store.ledger.time.time", lambda: 2e9)
    with ledger.writer() as writer:
        writer.append([{"kind": "run", "run": "r", "backend": "b", "model": "m"}, row])
    monkeypatch.setattr("medsae.store.ledger.time.time", lambda: 1e9)
    with ledger.writer() as writer:
        writer.append([row | {"status": "ok", "concept": "Effusion", "accuracy": 0.9, "p": 0.01}])
    assert ledger.names()["status"].tolist() == ["ok"]
    # Lines without a counter are older, in the order of their times; a lost counter file costs nothing.
    (ledger.folder / "old.jsonl").write_text("\n".join(
        json.dumps(row | {"status": status, "time": at, "neuron": n}) for status, at, n in
        (("dead", 3e9, 1), ("dead", 5.0, 2), ("too few", 6.0, 2))) + "\n")  # fmt: skip
    (ledger.folder / ".counter").unlink()
    with ledger.writer() as writer:
        writer.append([row | {"status": "empty"}])
    assert ledger.names().set_index("neuron")["status"].to_dict() == {1: "empty", 2: "too few"}


# --- several commands at once


def test_claims_keep_others_out_and_end_with_their_holder(tmp_path):
    first, second = Claims(tmp_path), Claims(tmp_path)
    assert first.take("a") and first.take("a") and not second.take("a") and second.take("b") and not first.take("b")
    first.release("a")
    assert second.take("a") and not first.take("a")
    second.close()
    assert first.take("a") and first.take("b")
    first.close()


def _command(data, scores, address, neurons):
    config = c.Name(scores=scores, neurons=neurons, backend="endpoint", endpoint=address, concurrency=3, pictures=10)
    name(config, Store(data), Silent())


@pytest.mark.long
def test_three_commands_at_once_ask_every_question_once(world):
    """Overlapping neurons, shared concepts: what one asks the others wait for; all end with the whole result."""
    server = nw.Server(world, delay=0.01)
    with server.serve() as address:
        spawn = multiprocessing.get_context("fork")
        children = [spawn.Process(target=_command, args=(world.data, world.scores, address, neurons))
                    for neurons in ("0,1,2,3,4", "4,3,2,1,0", "2,3,4,5")]  # fmt: skip
        for child in children:
            child.start()
        for child in children:
            child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    asked = Counter(text + str(numbers) for text, numbers in server.requests)
    assert {n for n in asked.values()} == {1}
    names = Ledger(Store(world.data), world.scores).names()
    assert sorted(names["neuron"]) == [0, 1, 2, 3, 4, 5] and (names["judged"] == 20).all()


def test_a_killed_command_leaves_nothing_claimed(world):
    server = nw.Server(world, delay=0.02)
    with server.serve() as address:
        child = multiprocessing.get_context("fork").Process(
            target=_command, args=(world.data, world.scores, address, "0,1")
        )
        child.start()
        deadline = time.monotonic() + 30
        while len(server.requests) < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        child.kill()
        child.join()
        assert ask(world, address, neurons="0,1", pictures=10, controls=True)["exit"] == 0


def test_the_largest_number_of_pictures_is_chosen_and_said(world):
    """Half of 260 pictures fire, 130 patients: 30 a side is possible for none after the split, 25 for all."""
    said = Said()
    found = name(c.Name(scores=world.scores, top=3), Store(world.data), said)
    names = Ledger(Store(world.data), world.scores).names()
    pictures = int(names["pictures"].iloc[0])
    assert len(names) == 3 and (names["status"] == "ok").all() and found["exit"] == 0
    assert pictures == 30 or any(f"{pictures} firing and {pictures} silent pictures" in line for line in said.lines)
