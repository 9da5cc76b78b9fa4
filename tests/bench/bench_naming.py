"""What our own side of naming costs: overhead, encodings saved, the Concepts table at full size.

    python tests/bench/bench_naming.py [overhead|whole[:NEURONS]|cache|throughput|concepts|watch]

Figures and the machine they were taken on: docs/naming.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
import naming_world as nw
import tiny_gemma3

from medsae import config as c
from medsae.naming.backends import Reply, medgemma
from medsae.naming.backends.medgemma import MedGemma
from medsae.naming.memory import Memory, Setup
from medsae.naming.run import Namer
from medsae.naming.states import Surroundings
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
    is_model, by_neuron = True, False

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
    """Wall time of naming against calls x 50 ms / 8, pictures, ledger and all."""
    with tempfile.TemporaryDirectory() as folder:
        world = nw.build(Path(folder), images=600, neurons=neurons)
        store = Store(world.data)
        study = StudyOfScores(store, store.get(world.scores), 0)
        with Ledger(store, world.scores).writer() as writer:
            around = Surroundings(picture=study.picture, plan=lambda n: study.plan(n, "strict", 30, 0.0),
                                  write=writer.append)  # fmt: skip
            namer = Namer(Setup("bench", "strict", True, 0), Instant(), Memory(), around)
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


def whole(neurons: int = 40) -> None:
    """The whole command, from the start of Python to its end, against a server of 50 ms in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        world = nw.build(Path(folder), images=600, neurons=neurons)
        script = Path(__file__).with_name("instant_server.py")
        server = subprocess.Popen([sys.executable, script, str(CALL_SECONDS)], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        address = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        words = ["name", "--scores", world.scores, "--all", "--backend", "endpoint", "--endpoint", address, "--json"]
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "medsae", *words], env=os.environ | {"MEDSAE_DATA": folder}, check=True,
            cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wall, found = time.perf_counter() - began, json.loads(done.stdout)
        with urllib.request.urlopen(f"{address}/stats") as reply:
            count = json.load(reply)
        server.terminate()
        server.wait()
    least = found["asked"] * CALL_SECONDS / CONCURRENCY
    span = count["last"] - count["first"]
    busy = sum(int(k) * seconds for k, seconds in count["seconds_of"].items())
    print(
        f"whole command, {neurons} neurons, {found['asked']} calls over HTTP: {wall:.2f} s, {least:.2f} s by arithmetic "
        f"({wall / least - 1:.1%} over); first request to last reply {span:.2f} s ({span / least - 1:.1%} over, "
        f"{span / (busy / CONCURRENCY) - 1:.1%} over what the server itself took); "
        f"{busy / span:.2f} of {CONCURRENCY} requests in flight on average"
    )


def endpoints(neurons: int = 24, seconds: float = 0.2) -> None:
    """Naming over one server and over two of equal speed, in turns: each answers `concurrency` questions at once."""
    script, spans = Path(__file__).with_name("instant_server.py"), {1: [], 2: []}
    for count in (1, 2, 1, 2):
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            world = nw.build(Path(folder), images=600, neurons=neurons)
            servers = [subprocess.Popen([sys.executable, script, str(seconds)], stdout=subprocess.PIPE, text=True)
                       for _ in range(count)]  # fmt: skip
            for server in servers:
                stack.callback(server.wait)
                stack.callback(server.terminate)
            addresses = [f"http://127.0.0.1:{int(s.stdout.readline())}/v1" for s in servers if s.stdout is not None]
            words = ["name", "--scores", world.scores, "--all", "--backend", "endpoint", "--no-audit", "--json"]
            words += [word for address in addresses for word in ("--endpoint", address)]
            done = subprocess.run(
                [sys.executable, "-m", "medsae", *words], env=os.environ | {"MEDSAE_DATA": folder}, check=True,
                cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            counts = [json.load(urllib.request.urlopen(f"{address}/stats")) for address in addresses]
        asked = json.loads(done.stdout)["asked"]
        spans[count].append(max(c["last"] for c in counts) - min(c["first"] for c in counts))
        shares = ", ".join(str(c["requests"]) for c in counts)
        print(f"{count} servers of {seconds:g} s: {asked} questions ({shares}) in {spans[count][-1]:.2f} s")
    print(f"two are {sum(spans[1]) / sum(spans[2]):.2f} times as fast as one")


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
        found, _ = _in_process(Path(folder), neurons, "cpu")
        print(f"tiny model on CPU: {found['asked']} questions in {found['seconds']} s, {found['backend']}")


def throughput(neurons: int = 6) -> None:
    """Neurons named and judged a minute, memory, encodings saved: full size with random weights on a GPU, else tiny."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        original = medgemma._load
        medgemma._load = _full_size if device == "cuda" else original
        try:
            found, seconds = _in_process(Path(folder), neurons, device, side_px=896, tokens=256, batch=32)
        finally:
            medgemma._load = original
        peak = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device == "cuda" else "not measured"
        print(
            f"{'full-size architecture' if device == 'cuda' else 'tiny model'} with random weights on {device}: {neurons} "
            f"neurons ({found['asked']} questions, loading included) in {seconds:.1f} s: {60 * neurons / seconds:.2f} "
            f"neurons a minute; peak {peak}; {found['backend']}"
        )


def _full_size(source: str, device, four_bit: bool):
    """The processor of the tiny model and a Gemma 3 4B of the published sizes, made on the device, nothing on disk."""
    import torch
    from transformers import AutoProcessor, Gemma3Config, Gemma3ForConditionalGeneration

    tiny = Gemma3Config.from_pretrained(source)
    config = Gemma3Config(
        text_config=dict(
            vocab_size=262_208, hidden_size=2560, intermediate_size=10_240, num_hidden_layers=34, num_attention_heads=8,
            num_key_value_heads=4, head_dim=256, sliding_window=1024, pad_token_id=0, eos_token_id=1, bos_token_id=2,
        ),
        vision_config=dict(hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16,
                           image_size=896, patch_size=14, vision_use_head=False),
        mm_tokens_per_image=256, boi_token_index=tiny.boi_token_index, eoi_token_index=tiny.eoi_token_index,
        image_token_index=tiny.image_token_index,
    )  # fmt: skip
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            net = Gemma3ForConditionalGeneration(config).eval()
    finally:
        torch.set_default_dtype(before)
    return AutoProcessor.from_pretrained(source), net


def _in_process(folder: Path, neurons: int, device: Literal["cpu", "cuda"], batch: int = 16, **sizes):
    """Result and seconds of naming `neurons` with a random model, whose explanations are replaced by names."""
    world = nw.build(folder / "data", images=600, neurons=neurons)
    model = tiny_gemma3.build(folder / "tiny", **(sizes if device == "cuda" else {}))
    original = MedGemma.ask

    def named(self, questions):
        said = '{"concept": "Concept %d", "description": "It is."}'
        replies = original(self, questions)
        return [r if q.task != "explain" else Reply("ok", said % q.neuron)
                for q, r in zip(questions, replies, strict=True)]  # fmt: skip

    MedGemma.ask = named
    config = c.Name(
        audit=False, scores=world.scores, all=True, backend="medgemma", model=str(model), device=device, batch=batch
    )
    began = time.perf_counter()
    try:
        return name(config, Store(world.data), Silent()), time.perf_counter() - began
    finally:
        MedGemma.ask = original


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
            config = c.Name(audit=False, scores=world.scores, backend="endpoint", endpoint=(address,), watch=True, pictures=10,
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
    every = {"overhead": overhead, "whole": whole, "cache": cache, "throughput": throughput, "concepts": table,
             "watch": watch, "endpoints": endpoints}  # fmt: skip
    for each in sys.argv[1:] or every:
        what, _, neurons = each.partition(":")
        every[what](*([int(neurons)] if neurons else []))
