"""What our own side of naming costs: overhead, encodings saved, the Concepts table at full size.

    python tests/bench/bench_naming.py [overhead|cache|concepts|watch]

Figures and the machine they were taken on: docs/naming.md.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
import naming_world as nw
import tiny_gemma3

from medsae import config as c
from medsae.naming.backends import Reply
from medsae.naming.backends.medgemma import MedGemma
from medsae.naming.memory import Memory, Setup
from medsae.naming.run import Namer
from medsae.progress import Silent
from medsae.steps.naming import name
from medsae.steps.naming_study import StudyOfScores
from medsae.store import concepts
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger
from medsae.store.requests import Requests

CALL_SECONDS, CONCURRENCY = 0.05, 8


class Instant:
    """Answers after exactly 50 ms, at no cost of its own."""

    name, model, concurrency, batch = "endpoint", "instant", CONCURRENCY, 1

    def ask(self, questions):
        time.sleep(CALL_SECONDS)
        if questions[0].task == "explain":
            said = {"concept": f"Concept of {questions[0].neuron}", "description": "A description."}
            return [Reply("ok", json.dumps(said))]
        return [Reply("ok", "Yes", 0.7, 0.99)]

    def facts(self):
        return {}

    def close(self): ...


def overhead(neurons: int = 10) -> None:
    """Wall time of naming against calls x 50 ms / 8, pictures, ledger and all; and the same through HTTP."""
    with tempfile.TemporaryDirectory() as folder:
        world = nw.build(Path(folder), images=600, neurons=neurons)
        store = Store(world.data)
        study = StudyOfScores(store, store.get(world.scores), 0)
        with Ledger(store, world.scores).writer() as writer:
            namer = Namer(Setup("bench", "strict", True, 0), Instant(), Memory(), picture=study.picture,
                          plan=lambda n: study.plan(n, "strict", 30, 0.0), write=writer.append)  # fmt: skip
            began, used = time.perf_counter(), time.process_time()
            with Silent().task("x") as task:
                namer.name(range(neurons), task)
            wall, spent = time.perf_counter() - began, time.process_time() - used
        study.close()
        least = namer.asked * CALL_SECONDS / CONCURRENCY
        bare = _bare(namer.asked)
        print(
            f"instant backend: {namer.asked} calls, {wall:.2f} s; {least:.2f} s by arithmetic, {bare:.2f} s for bare "
            f"threads that only sleep: overhead {wall / bare - 1:.1%} of those; our CPU {spent:.2f} s"
        )
        with _elsewhere(world) as address:
            began, used = time.perf_counter(), time.process_time()
            found = name(c.Name(scores=world.scores, all=True, backend="endpoint", endpoint=address), store, Silent())
            wall, spent = time.perf_counter() - began, time.process_time() - used
        bare = _bare(found["asked"])
        print(
            f"HTTP server in another process: {found['asked']} calls, {wall:.2f} s, start and estimate included; "
            f"{found['asked'] * CALL_SECONDS / CONCURRENCY:.2f} s by arithmetic, {bare:.2f} s for bare threads: overhead "
            f"{wall / bare - 1:.1%} of those; our CPU {spent:.2f} s"
        )


@contextlib.contextmanager
def _elsewhere(world: nw.World):
    """The scripted server in a process of its own, so that its work is not counted as ours."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def serve() -> None:
        with nw.Server(world, delay=CALL_SECONDS).serve() as address:
            theirs.send(address)
            theirs.recv()

    process = context.Process(target=serve)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("stop")
        process.join()


def _bare(calls: int) -> float:
    """Seconds that eight threads need to sleep 50 ms `calls` times on this machine now."""
    began = time.perf_counter()
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        list(pool.map(lambda _: time.sleep(CALL_SECONDS), range(calls)))
    return time.perf_counter() - began


def cache(neurons: int = 6) -> None:
    """Encodings of pictures on the tiny model, in process."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        world = nw.build(Path(folder) / "data", images=600, neurons=neurons)
        model = tiny_gemma3.build(Path(folder) / "tiny")
        original = MedGemma.ask

        def named(self, questions):
            said = '{"concept": "Concept %d", "description": "It is."}'
            replies = original(self, questions)
            return [r if q.task != "explain" else Reply("ok", said % q.neuron)
                    for q, r in zip(questions, replies, strict=True)]  # fmt: skip

        MedGemma.ask = named
        config = c.Name(scores=world.scores, all=True, backend="medgemma", model=str(model), device="cpu", batch=16)
        found = name(config, Store(world.data), Silent())
        print(f"tiny model on CPU: {found['asked']} questions in {found['seconds']} s, {found['backend']}")


def table(neurons: int = 8192, pictures: int = 60) -> None:
    """The Concepts table's server time from a ledger of 8,192 neurons x 60 verdicts."""
    rng = np.random.default_rng(0)
    words = ["effusion", "edema", "cardiomegaly", "nodule", "left", "right", "severe", "mild", "base", "apex", "device"]
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Store(Path(folder)), "scores-bench")
        with ledger.writer() as writer:
            writer.append([{"kind": "run", "run": "r", "scores": "s", "backend": "endpoint", "protocol": "strict",
                            "model": "m", "prompts": "1", "pictures": 30, "hard": 0.0, "controls": False, "seed": 0,
                            "overlap": "disjoint"}])  # fmt: skip
            for neuron in range(neurons):
                rows = [{"kind": "verdict", "run": "r", "neuron": neuron, "take": 0, "about": "name", "image": int(i),
                         "fires": k < pictures // 2, "value": float(rng.random()), "yes": bool(rng.random() < 0.5),
                         "p": float(rng.random()), "mass": 0.99, "status": "ok", "raw": "Yes",
                         "key": f"{neuron:08x}{k:08x}"} for k, i in enumerate(rng.integers(0, 2800, pictures))]  # fmt: skip
                concept = " ".join(rng.choice(words, 4))
                rows.append({"kind": "name", "run": "r", "neuron": neuron, "take": 0, "status": "ok",
                             "concept": concept, "group_key": " ".join(sorted(set(concept.split()))),
                             "description": "Seen in most of them, with the finding at the stated place.",
                             "accuracy": float(rng.random()), "low": 0.1, "high": 0.9, "p": float(rng.random()),
                             "judged": 60, "asked": 60, "naming": list(range(16))})  # fmt: skip
                writer.append(rows)
        size = sum(p.stat().st_size for p in ledger.files()) / 2**20
        seconds = {"names from the ledger": [], "table, filtered and grouped": [], "verdicts of one neuron": []}
        for _ in range(7):
            began = time.perf_counter()
            names = ledger.names()
            seconds["names from the ledger"].append(time.perf_counter() - began)
            began = time.perf_counter()
            concepts.headline(names, "r", 0.7)
            concepts.table(names, "r", text="left", threshold=0.6)
            seconds["table, filtered and grouped"].append(time.perf_counter() - began)
            began = time.perf_counter()
            ledger.verdicts("r", 4000)
            seconds["verdicts of one neuron"].append(time.perf_counter() - began)
        for what, values in seconds.items():
            print(
                f"ledger of {size:.0f} MiB: {what}: median {1e3 * statistics.median(values):.0f} ms, worst {1e3 * max(values):.0f} ms"
            )


def watch() -> None:
    """From the request to the first question, with the model loaded."""
    with tempfile.TemporaryDirectory() as folder:
        world = nw.build(Path(folder), images=600, neurons=8)
        store, server = Store(world.data), nw.Server(world)
        with server.serve() as address:
            config = c.Name(scores=world.scores, backend="endpoint", endpoint=address, watch=True, pictures=10,
                            idle_minutes=0.05)  # fmt: skip
            requests = Requests(store, config)
            thread = threading.Thread(target=name, args=(config, store, Silent()))
            thread.start()
            first = []
            for neuron in range(8):
                before, began = len(server.requests), time.perf_counter()
                requests.ask(neuron)
                while len(server.requests) == before:
                    time.sleep(0.001)
                first.append(time.perf_counter() - began)
                while requests.waiting(neuron):
                    time.sleep(0.01)
            thread.join()
        print(
            f"request to first question, model loaded: median {1e3 * statistics.median(first[1:]):.0f} ms, worst {1e3 * max(first[1:]):.0f} ms"
        )


if __name__ == "__main__":
    which = sys.argv[1:] or ["overhead", "cache", "concepts", "watch"]
    for each in which:
        {"overhead": overhead, "cache": cache, "concepts": table, "watch": watch}[each]()
