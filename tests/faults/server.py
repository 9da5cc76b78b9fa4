"""The real app over a data folder: its server, and sessions over the websocket that a browser would open."""

from __future__ import annotations

import asyncio
import importlib.util
import random
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from urllib.parse import urlencode

from damage import PAGES
from study import ROOT, Row, Study, spent, temporary


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found
    spec.loader.exec_module(found)
    return found


@contextmanager
def served(data: Path, folder: Path) -> Iterator[tuple[str, ModuleType]]:
    """The address of a server of its own, and the module that talks to it (tests/bench/load_app.py)."""
    tools = _module("faults_browser", ROOT / "tests/browser/conftest.py")
    process, address = tools.serve(data, folder / "log.txt")
    try:
        yield address, _module("faults_load", ROOT / "tests/bench/load_app.py")
        assert process.poll() is None, "the server ended"
    finally:
        process.terminate()
        process.wait(30)


def _connect(load: ModuleType, address: str):
    return load.connect(f"{address.replace('http', 'ws')}/_stcore/stream", max_size=None, compression=None)


def urls(study: Study, queries: list[tuple[str, dict[str, str]]], until: float, readers: int = 4) -> list[Row]:
    """Every (page, parameters) once, by some sessions at a time; an exception on a page, or no answer, is a failure."""
    row, began, cpu = Row("hostile URLs"), time.monotonic(), spent()
    waiting = iter(queries)

    async def walk(load: ModuleType, address: str) -> None:
        socket = None
        for page, query in waiting:
            if time.monotonic() > until:
                break
            socket = socket or await _connect(load, address)
            row.tries += 1
            row.hits += 1
            try:
                text = urlencode(query, errors="surrogatepass")
                await asyncio.wait_for(load.visit(socket, page, text), 120)
            except Exception as error:
                shown = {name: value[:40] for name, value in query.items()}
                row.bad(f"{page} {shown}: {type(error).__name__} {str(error)[:200]}")
                await socket.close()
                socket = None
        if socket is not None:
            await socket.close()

    async def all_of_them(load: ModuleType, address: str) -> None:
        await asyncio.gather(*(walk(load, address) for _ in range(readers)))

    with temporary("urls") as folder, served(study.data, folder) as (address, load):
        asyncio.run(all_of_them(load, address))
    row.seconds, row.cpu = time.monotonic() - began, spent() - cpu
    return [row]


def sessions(study: Study, n: int = 25, seconds: float = 30.0) -> list[Row]:
    """`n` sessions that walk through the pages while scores are removed, damaged and made again under them."""
    row, began, cpu = Row(f"{n} sessions while artifacts come and go"), time.monotonic(), spent()
    with temporary("sessions") as folder:
        data = study.copy(folder / "data")
        shutil.copytree(study.folder("name"), study.folder("name", data), dirs_exist_ok=True)
        with served(data, folder) as (address, load):

            async def walk(number: int, end: float) -> None:
                chance, socket = random.Random(number), await _connect(load, address)
                while time.monotonic() < end:
                    page = chance.choice(PAGES)
                    query = f"neuron={chance.randrange(20)}&image={chance.randrange(50)}"
                    row.tries += 1
                    try:
                        await asyncio.wait_for(load.visit(socket, page, query), 120)
                        row.hits += 1
                    except Exception as error:
                        row.bad(f"{page} {query}: {type(error).__name__} {str(error)[:300]}")
                        await socket.close()
                        socket = await _connect(load, address)
                await socket.close()

            async def all_of_them() -> None:
                end = time.monotonic() + seconds
                await asyncio.gather(*(walk(number, end) for number in range(n)))

            stop = threading.Event()
            spoiler = threading.Thread(target=_come_and_go, args=(study.folder("score", data), folder, stop))
            spoiler.start()
            try:
                asyncio.run(all_of_them())
            finally:
                stop.set()
                spoiler.join(60)
        if row.failed:
            row.notes.append("the server's log: " + "\n".join(_tracebacks(folder / "log.txt")[:2]))
    row.seconds, row.cpu = time.monotonic() - began, spent() - cpu
    return [row]


def _tracebacks(log: Path) -> list[str]:
    """The last 1,500 characters of each exception in a server's log: a page shows readers none of it."""
    text = log.read_text(errors="replace")
    return [part.split("\n\n")[0][-1500:] for part in text.split("Traceback (most recent call last)")[1:]]


def _come_and_go(path: Path, folder: Path, stop: threading.Event) -> None:
    """Take an artifact away and put it back, every second time with damaged tables, until `stop`."""
    chance, spare = random.Random(0), folder / "spare"
    shutil.copytree(path, spare)
    while not stop.wait(0.3):
        shutil.rmtree(path, ignore_errors=True)
        stop.wait(0.2)
        building = path.with_name(".building-" + path.name)
        shutil.copytree(spare, building)
        if chance.random() < 0.5:
            tables = building / "tables.duckdb"
            whole = bytearray(tables.read_bytes())
            for _ in range(20):
                whole[chance.randrange(len(whole))] ^= 255
            tables.write_bytes(whole)
        building.rename(path)
