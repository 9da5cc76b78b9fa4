"""Many readers at once, without a browser: sessions over the websocket that a browser would open.

    python tests/bench/load_app.py DATA [--sessions 10] [--pause 3] [--visits 1000]

`--sessions` readers step through neurons and images at the same time, each
`--pause` seconds (half to one and a half of it) after its last page came; then one
after the other walks `--visits` pages, and the server's memory is read on the way. Times are from the request to the
last message of the run: what a browser then paints is not in them (see bench_app.py).
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

ROOT = Path(__file__).parents[2]
PAGES = ("overview", "entropy", "correlations", "neurons", "neuron", "image", "compare", "concepts", "runs", "about")


def say(**figures: object) -> None:
    print(json.dumps(figures), flush=True)


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def visit(socket: ClientConnection, page: str, query: str) -> tuple[float, int]:
    """Seconds from the request to the end of the run, and bytes received; an exception on the page fails."""
    ask = BackMsg()
    ask.rerun_script.query_string = query
    ask.rerun_script.page_name = "" if page == "overview" else page
    began, size = time.perf_counter(), 0
    await socket.send(ask.SerializeToString())
    while True:
        raw = await socket.recv()
        size += len(raw)
        answer = ForwardMsg.FromString(bytes(raw))  # type: ignore[arg-type]
        element = answer.delta.new_element
        assert element.WhichOneof("type") != "exception", (page, query, element.exception.message)
        # FINISHED_SUCCESSFULLY, FINISHED_EARLY_FOR_RERUN, FINISHED_WITH_COMPILE_ERROR, FINISHED_FRAGMENT_RUN
        if answer.WhichOneof("type") == "script_finished" and answer.script_finished != 2:
            assert answer.script_finished == 0, (page, query, answer.script_finished)
            return time.perf_counter() - began, size


async def reader(address: str, seed: int, walk: list[str], neurons: int, pause: float) -> list[tuple[str, float, int]]:
    """One reader that visits the pages of `walk`, another neuron and image each time: (page, seconds, bytes)."""
    rng = np.random.default_rng(seed)
    found = []
    async with connect(f"{address.replace('http', 'ws')}/_stcore/stream", max_size=None, compression=None) as socket:
        for page in walk:
            query = f"neuron={rng.integers(neurons)}&image={rng.integers(100)}"
            found.append((page, *await visit(socket, page, query)))
            await asyncio.sleep(pause * rng.uniform(0.5, 1.5))
    return found


async def measure(address: str, pid: int, sessions: int, pause: float, visits: int, neurons: int) -> None:
    await reader(address, 0, [*PAGES], neurons, 0)
    say(what="memory of the server, every page seen once", mib=round(resident_mib(pid)))
    walks = [["neuron", "neuron", "image", "neurons", "entropy", "correlations", "neuron"] * 3 for _ in range(sessions)]
    before = processor_seconds(pid)
    found = await asyncio.gather(*(reader(address, i, walk, neurons, pause) for i, walk in enumerate(walks)))
    say(what=f"the first page of {sessions} sessions that begin in the same instant",
        worst_ms=round(1000 * max(each[0][1] for each in found)))  # fmt: skip
    seconds = [s for each in found for _, s, _ in each[1:]]
    say(what=f"{sessions} sessions at once, {pause:g} s between pages", pages=len(seconds), p50_ms=round(1000 * np.median(seconds)),
        p95_ms=round(1000 * np.quantile(seconds, 0.95)),
        server_cpu_ms_a_page=round(1000 * (processor_seconds(pid) - before) / sum(map(len, found))),
        load=round(os.getloadavg()[0], 1))  # fmt: skip
    most: dict[str, int] = {}
    for hundred in range(visits // 100):
        for page, _, size in await reader(address, 1000 + hundred, [*PAGES] * 10, neurons, 0):
            most[page] = max(most.get(page, 0), size)
        say(what="memory of the server", visits=100 * (hundred + 1), mib=round(resident_mib(pid)))
    say(what="largest page, KiB", **{page: round(size / 1024) for page, size in most.items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Many readers at once, without a browser.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--pause", type=float, default=3.0)
    parser.add_argument("--visits", type=int, default=1000)
    parser.add_argument("--neurons", type=int, default=8192)
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    spec = importlib.util.spec_from_file_location("browser_conftest", ROOT / "tests/browser/conftest.py")
    assert spec and spec.loader
    tools = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tools)
    with tempfile.TemporaryDirectory() as folder:
        server, address = tools.serve(given.data, Path(folder) / "log.txt")
        try:
            asyncio.run(measure(address, server.pid, given.sessions, given.pause, given.visits, given.neurons))
        finally:
            server.terminate()
            server.wait(20)
