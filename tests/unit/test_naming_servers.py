"""The endpoint backend against real servers: llama.cpp and `transformers serve`, both with a tiny random Gemma 3."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from medsae import config as c
from medsae.naming import prompts
from medsae.naming.backends import Picture, Question
from medsae.naming.backends.endpoint import Endpoint, Server
from medsae.progress import Silent, UserError
from medsae.steps.naming import name
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger

FIXTURES = Path(__file__).parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES))
import naming_world as nw  # noqa: E402
import tiny_gemma3  # noqa: E402


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def llama_parameters(xllamacpp, vision=True):
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(FIXTURES / "tiny-gemma3" / "model.gguf")
    if vision:
        parameters.mmproj.path = str(FIXTURES / "tiny-gemma3" / "mmproj.gguf")
    parameters.n_ctx, parameters.n_parallel, parameters.warmup = 8192, 1, False
    parameters.cpuparams.n_threads = 1
    parameters.port = free_port()
    parameters.chat_template = (FIXTURES / "tiny-gemma3" / "chat_template.jinja").read_text()
    parameters.use_jinja = True
    return parameters


@pytest.fixture(scope="module")
def llama():
    xllamacpp = pytest.importorskip("xllamacpp")
    server = xllamacpp.Server(llama_parameters(xllamacpp))
    yield server.listening_address + "/v1"
    del server


@pytest.fixture
def world(tmp_path):
    return nw.build(tmp_path, images=200, neurons=2, share=0.5)


@pytest.mark.long
def test_llama_cpp_the_whole_way(llama, world):
    """A random model, but json_schema is enforced and logprobs are given: names and verdicts arrive in the ledger."""
    config = c.Name(
        audit=False, scores=world.scores, all=True, backend="endpoint", endpoint=llama, pictures=5, concurrency=2
    )
    name(config, Store(world.data), Silent())
    ledger = Ledger(Store(world.data), world.scores)
    names = ledger.names()
    assert len(names) == 2 and names["model"].notna().all() and names["backend"].unique().tolist() == ["endpoint"]
    explanation = ledger.explanation(str(names["run"][0]), 0)
    assert explanation is not None and explanation["raw"]
    for row in names.to_dict("records"):
        if row["status"] == "ok":
            verdicts = ledger.verdicts(row["run"], row["neuron"])
            assert len(verdicts) == 30 and (verdicts["status"] == "ok").any()
        else:
            assert row["concept"] is None or row["concept"] != row["concept"]


def test_llama_cpp_enforces_the_schema_and_gives_probabilities(llama):
    backend = Endpoint(Server(llama, None, 1, 60), lambda image: nw._drawn(image)[1], 0)
    with contextlib.closing(backend):
        backend.prepare()
        ask = Question(
            "judge", (Picture(1, "a"),), prompts.SYSTEM, "Answer:", prompts.ANSWER_SCHEMA, 200, 0, "effusion"
        )
        reply = backend.ask([ask])[0]
        # A random model may fill its tokens with the blanks that the grammar allows, but can write nothing else.
        assert reply.status == "ok" and re.fullmatch(r'\s*\{\s*("answer"\s*(:\s*("(Yes|No)"\s*\}?\s*)?)?)?', reply.text)
        assert reply.tokens_in > 0 and not backend.left_out


def test_llama_cpp_without_its_eyes_is_refused(world):
    xllamacpp = pytest.importorskip("xllamacpp")
    server = xllamacpp.Server(llama_parameters(xllamacpp, vision=False))
    config = c.Name(
        audit=False, scores=world.scores, neurons="0", backend="endpoint", endpoint=server.listening_address + "/v1"
    )
    with pytest.raises(UserError, match="vision"):
        name(config, Store(world.data), Silent())
    del server


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """`transformers serve` on the tiny model."""
    for package in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(package)
    folder = tiny_gemma3.build(tmp_path_factory.mktemp("serve") / "tiny")
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--device", "cpu",
               "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    log = (folder.parent / "log.txt").open("wb")
    with log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as child:
        try:
            deadline = time.monotonic() + 120
            while True:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    break
                assert child.poll() is None, (folder.parent / "log.txt").read_text()[-3000:]
                assert time.monotonic() < deadline, "transformers serve did not start"
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/v1", str(folder)
        finally:
            child.terminate()
            child.wait(20)


@pytest.mark.long
def test_transformers_serve_the_whole_way(serve, world):
    """It ignores the schema and gives no logprobs: a random model's text is no name, and every row says so."""
    address, model = serve
    config = c.Name(audit=False, scores=world.scores, neurons="0", backend="endpoint", endpoint=address, model=model, pictures=5,
                    concurrency=2, timeout_seconds=60)  # fmt: skip
    name(config, Store(world.data), Silent())
    row = Ledger(Store(world.data), world.scores).names().iloc[0]
    explanation = Ledger(Store(world.data), world.scores).explanation(str(row["run"]), 0)
    assert row["status"] in ("unparsable", "empty", "too long", "cut off") and explanation is not None
    assert explanation["status"] == row["status"] and "second try" in explanation["raw"]


@pytest.mark.long
def test_transformers_serve_judges_without_probabilities(serve):
    address, model = serve
    backend = Endpoint(Server(address, model, 1, 60), lambda image: nw._drawn(image)[1], 0)
    with contextlib.closing(backend):
        ask = Question("judge", (Picture(1, "a"),), prompts.SYSTEM, prompts.judge("strict", "x", "y"), None, 8, 0, "x")
        reply = backend.ask([ask])[0]
        assert reply.status == "ok" and reply.p_yes is None
        assert "without logprobs" in backend.facts()["note"]
