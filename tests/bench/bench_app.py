"""Speed and memory of the app over synthetic artifacts; writes one JSON line a figure.

    python tests/bench/synthetic.py DATA --images 224000 --neurons 8192 --d 512 --names --vectors
    python tests/bench/bench_app.py DATA [--visits 200] [--no-browser] [--no-scripts]

Script time is that of one run of a page in this process (AppTest), warm, another neuron or image each time; memory is
this process's after each round. With a browser: cold start of the server to the first page, and click to painted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from medsae.config import CHEXPERT_LABELS  # noqa: E402

PAGES = ("overview", "entropy", "correlations", "neurons", "map", "neuron", "images", "image", "pair", "compare",
         "concepts", "whatif", "read", "own", "runs", "about")  # fmt: skip


INTERACTIONS = {
    "": ("nats", "bits"),
    "entropy": ("count", "cumulative", "per label", "share"),
    "correlations": ("60", "100", "20", "40"),
    "neurons": ("key ArrowRight", "key ArrowLeft"),
    "neuron?sort=neuron&neuron=20": ("key ArrowRight",),
    "neuron?sort=-density": ("slices", "random", "nearest silent", "top"),
    "image": ("key ArrowRight",),
    "compare": ("nats", "bits"),
    "concepts?above=0": ("2", "3", "1"),
    "runs": ("jobs", "start a step", "artifacts"),
    "neurons?sort=-rho": ("go Overview", "go Entropy", "go Correlations", "go Neurons", "go Neuron", "go Image",
                          "go Concepts", "go Compare", "go Runs", "go About"),
}  # fmt: skip
"""Page -> what is clicked (by its text), pressed, or gone to (a link of the sidebar), in turn."""
WATCH = """() => { if (window.__watched) return; window.__watched = 1;
  const note = () => requestAnimationFrame(() => requestAnimationFrame(() => { window.__last = performance.now(); }));
  new MutationObserver((all) => { if (all.some((m) => (m.target.closest ? m.target : m.target.parentElement)?.closest(".stMain"))) note(); })
    .observe(document.body, { subtree: true, childList: true, characterData: true });
  document.addEventListener("load", note, true);
  for (const k of ["pointerdown", "keydown"])
    document.addEventListener(k, () => { window.__start = performance.now(); window.__last = 0; }, true); }"""
"""Notes the time of the click or key, and two frames after every change of the page."""
IDLE = """() => window.__last > window.__start && performance.now() - window.__last > 400
  && document.querySelector(".stApp").dataset.testScriptState === "notRunning"
  && [...document.querySelectorAll("img")].every((e) => e.complete || !e.checkVisibility()
    || e.getBoundingClientRect().top > innerHeight)"""


def painted(page: Any, press: str) -> float:
    """Milliseconds from the click or key to the last change of the page and of its pictures."""
    page.evaluate(WATCH)
    how, _, what = press.partition(" ")
    if how == "key":
        page.keyboard.press(what)
    elif how == "go":
        page.locator('[data-testid="stSidebar"]').get_by_role("link", name=what, exact=True).click()
    else:
        page.locator(".stApp").get_by_text(press, exact=True).first.click()
    page.wait_for_function(IDLE)
    return float(page.evaluate("window.__last - window.__start"))


def say(**figures: object) -> None:
    print(json.dumps(figures), flush=True)


def resident_mib(pid: int | str = "self") -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def asked(page: str, rng: np.random.Generator) -> dict[str, str]:
    """What an address asks of a page, another thing each time."""
    found = {"neuron": str(rng.integers(0, 8192)), "image": str(rng.integers(0, 100))}
    if page == "images":
        a, b = rng.choice(CHEXPERT_LABELS, 2, replace=False)
        searches = [{"has": a, "lacks": b, "proj": str(rng.choice(["AP", "PA"])), "agelo": str(rng.integers(18, 60))},
                    {"has": a, "fires": str(rng.choice(["left", "faint", "basal"])), "sex": str(rng.choice(["F", "M"]))},
                    {"page": str(rng.integers(1, 4000)), "order": str(rng.choice(["number", "random", "oldest"]))}]  # fmt: skip
        found |= searches[rng.integers(3)]
    if page == "map":
        found |= {"colour": str(rng.choice(["label", "entropy", "density"])), "q": str(rng.choice(["", "left"]))}
    return found


def scripts(visits: int, only: list[str]) -> None:
    """p50 and p95 of script time of each page (`only` these), and memory over the visits."""
    from streamlit.runtime.pages_manager import PagesManager
    from streamlit.testing.v1 import AppTest

    made = PagesManager.__init__

    def warm(self: PagesManager, *a: object, **k: object) -> None:
        made(self, *a, **k)  # type: ignore[arg-type]
        PagesManager.uses_pages_directory = False

    PagesManager.__init__ = warm  # type: ignore[method-assign]
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    app.run()
    memory = []
    rng = np.random.default_rng(0)
    for turn in range(2):
        for page in only or PAGES:
            app.switch_page(f"pages/{page}.py").run()
            walls, cpus = [], []
            for _ in range(max(3, visits // len(PAGES) // 2)):
                for name in list(app.query_params):
                    del app.query_params[name]
                for name, value in asked(page, rng).items():
                    app.query_params[name] = value
                wall, cpu = time.perf_counter(), time.process_time()
                app.run()
                walls.append(1000 * (time.perf_counter() - wall))
                cpus.append(1000 * (time.process_time() - cpu))
                assert not app.exception, (page, app.exception)
            size = sum(len(e.proto.SerializeToString()) for e in app.main if getattr(e, "proto", None) is not None)
            if turn:
                say(page=page, p50_ms=round(np.median(walls)), p95_ms=round(np.quantile(walls, 0.95)),
                    cpu_p50_ms=round(np.median(cpus)), cpu_p95_ms=round(np.quantile(cpus, 0.95)), kib_sent=round(size / 1024))  # fmt: skip
            memory.append(resident_mib())
    say(
        what="memory of this process",
        after_first_round_mib=round(memory[len(memory) // 2 - 1]),
        last_mib=round(memory[-1]),
    )


def browser(data: Path, only: list[str]) -> None:
    """Cold start of the server to its first page (six of them), and click to painted, in a headless chromium; `only`
    these pages."""
    from playwright.sync_api import sync_playwright

    spec = importlib.util.spec_from_file_location("browser_conftest", ROOT / "tests/browser/conftest.py")
    assert spec and spec.loader
    tools = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tools)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        chromium = playwright.chromium.launch(
            executable_path=next(filter(None, map(tools.shutil.which, ("chromium", "chromium-browser"))), None),
            args=tools.FLAGS,
        )
        seconds, server, address, page = [], None, "", None
        for _ in range(6):
            if server and page:
                server.terminate()
                server.wait(20)
                page.close()
            began = time.perf_counter()
            server, address = tools.serve(data, Path(folder) / "log.txt")
            page = chromium.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(120_000)
            page.goto(address)
            page.locator(".ms-foot").first.wait_for()
            seconds.append(time.perf_counter() - began)
        assert server and page
        say(what="cold start of the server to its first page", median_s=round(np.median(seconds), 2),
            worst_s=round(max(seconds), 2))  # fmt: skip
        for path, presses in INTERACTIONS.items():
            if only and path not in only:
                continue
            page.goto(f"{address}/{path}")
            page.locator(".ms-foot").first.wait_for()
            page.locator('.stApp[data-test-script-state="notRunning"]').wait_for()
            page.wait_for_timeout(800)
            times = [painted(page, presses[i % len(presses)]) for i in range(60 if len(presses) > 4 else 24)]
            if len(presses) > 4:
                for i, press in enumerate(presses):
                    mine = times[len(presses) + i :: len(presses)]  # the first round imports and reads
                    say(what="page to page", page=press.removeprefix("go ").lower(), first_ms=round(times[i]),
                        p50_ms=round(np.median(mine)), worst_ms=round(max(mine)))  # fmt: skip
                continue
            say(what="click or key to painted", page=path.replace("?", " ") or "overview", p50_ms=round(np.median(times)),
                p95_ms=round(np.quantile(times, 0.95)))  # fmt: skip
        say(what="memory of the server", mib=round(resident_mib(server.pid)))
        server.terminate()
        server.wait(20)
        chromium.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Speed and memory of the app.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--visits", type=int, default=200)
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("--no-scripts", action="store_true")
    parser.add_argument("--only", nargs="*", help="only these pages (see PAGES and INTERACTIONS)")
    given = parser.parse_args()
    os.environ["MEDSAE_DATA"] = str(given.data)
    if not given.no_scripts:
        scripts(given.visits, [page for page in given.only or [] if page in PAGES])
    if not given.no_browser:
        browser(given.data, given.only or [])
