"""A server of the app over synthetic artifacts, and a headless chromium to look at it."""

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="session")
def chromium():
    """A chromium of this machine, else Playwright's own, else a loud skip that names the command."""
    from playwright.sync_api import Error, expect, sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        except Error as error:
            text = "NO BROWSER TEST WAS RUN: there is no chromium. Mend it with `apt-get install chromium` or " \
                   f"`.venv/bin/playwright install chromium`. ({str(error).splitlines()[0]})"  # fmt: skip
            warnings.warn(pytest.PytestWarning(text), stacklevel=1)
            pytest.skip(text)
        expect.set_options(timeout=60_000)
        yield browser
        browser.close()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def serve(data: Path, log: Path) -> tuple[subprocess.Popen, str]:
    """Start the app over a data folder; (process, address) once it answers."""
    for _ in range(3):  # another program may take a port that was free a moment ago
        port = free_port()
        with log.open("wb") as out:
            server = subprocess.Popen(
                [sys.executable, "-m", "streamlit", "run", "web.py", "--server.port", str(port),
                 "--server.headless=true"],
                cwd=ROOT, env=os.environ | {"MEDSAE_DATA": str(data)}, stdout=out, stderr=out,
            )  # fmt: skip
        end = time.monotonic() + 120
        while server.poll() is None and time.monotonic() < end:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1)
                return server, f"http://127.0.0.1:{port}"
            except OSError:
                time.sleep(0.1)
        server.kill()
        server.wait()
        if "already in use" not in log.read_text():
            break
    raise AssertionError(f"the server never answered: {log.read_text()}")


def ended(server: subprocess.Popen, log: Path) -> None:
    """Stop a server; what it wrote must tell of no error."""
    server.terminate()
    server.wait(20)
    assert "Traceback" not in log.read_text(), log.read_text()


@contextmanager
def served(data: Path, log: Path) -> Iterator[str]:
    """The address of the app over a data folder."""
    server, address = serve(data, log)
    yield address
    ended(server, log)


@pytest.fixture(scope="session")
def synthetic():
    """The module tests/bench/synthetic.py."""
    spec = importlib.util.spec_from_file_location("synthetic_for_browser", ROOT / "tests/bench/synthetic.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def study(tmp_path_factory, synthetic):
    """(address, ids) of a server over a synthetic study."""
    folder = tmp_path_factory.mktemp("browser")
    ids = synthetic.write(folder / "data", images=160, neurons=72, d=24)
    synthetic.write_pairs(folder / "data", ids)
    with served(folder / "data", folder / "log.txt") as address:
        yield address, ids


@pytest.fixture(scope="session")
def named(tmp_path_factory, synthetic):
    """(address, data folder, ids) of a server over a study whose neurons all have names."""
    folder = tmp_path_factory.mktemp("named")
    ids = synthetic.write(folder / "data", images=160, neurons=72, d=24)
    synthetic.write_names(folder / "data", ids.scores)
    with served(folder / "data", folder / "log.txt") as address:
        yield address, folder / "data", ids


def of_address(address: str, name: str) -> str:
    """The number that a parameter of an address has."""
    (found,) = re.findall(rf"[?&]{name}=([\d.]+)", address)
    return found


class Visit:
    """One tab; fails on script errors, on warnings in the console and on requests that leave the machine."""

    def __init__(self, context, address: str):
        self.address, self.problems = address, []
        self.page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("pageerror", lambda error: self.problems.append(f"script error: {error}"))
        self.page.on("request", self._request)
        self.page.on("console", self._console)

    def _console(self, message) -> None:
        # On a link to a page Streamlit asks below the page's own path first, before it asks the server's.
        asks = message.location.get("url", "").endswith(("/_stcore/health", "/_stcore/host-config"))
        if message.type in ("warning", "error") and not asks:
            self.problems.append(f"console {message.type}: {message.text}")

    def _request(self, request) -> None:
        if not request.url.startswith((self.address, self.address.replace("http", "ws"), "data:", "blob:")):
            self.problems.append(f"request left the machine: {request.url}")

    def open(self, path: str = ""):
        """Go to a page and wait until it is drawn whole."""
        self.page.goto(f"{self.address}/{path}")
        return self.drawn()

    def drawn(self):
        """Wait for the footer and the end of the run; an exception on the page fails."""
        self.page.locator(".ms-foot").first.wait_for()
        self.page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
        self.page.locator("html[data-medsae-links=ready]").wait_for(state="attached")
        failed = self.page.locator('[data-testid="stException"]').all_inner_texts()
        assert not failed, failed
        assert not self.problems, self.problems
        return self.page


@pytest.fixture
def visit(chromium, study):
    """Opens tabs of the app: visit(color scheme, size), of another server with its address."""
    contexts = []

    def new(scheme: str = "dark", width: int = 1280, height: int = 800, address: str = study[0]) -> Visit:
        contexts.append(chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": height}))
        return Visit(contexts[-1], address)

    yield new
    for context in contexts:
        context.close()


@pytest.fixture
def workshop(chromium, tmp_path, synthetic):
    """(tab, data folder) of a server of this test's own over a study whose embeddings can be trained on."""
    data = tmp_path / "data"
    ids = synthetic.write(data, images=160, neurons=72, d=24)
    x_nd = np.random.default_rng(0).normal(size=(160, 24)).astype(np.float32)
    np.save(data / "artifacts/embeddings" / ids.embeddings / "x.npy", x_nd)
    with served(data, tmp_path / "log.txt") as address:
        context = chromium.new_context(viewport={"width": 1280, "height": 1000})
        yield Visit(context, address), data
        context.close()
