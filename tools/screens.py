"""The pictures of docs/screens: every page over a data folder, in both themes, 1280 px wide.

    make demo test && .venv/bin/python tools/screens.py data [PAGE ...]

Only over simulated cohorts: radiographs of people are not for docs. Needs the packages of `make test` and a chromium.
"""

from __future__ import annotations

import importlib
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/browser")]

from medsae.store.artifacts import Store  # noqa: E402

tools = importlib.import_module("conftest")  # of tests/browser
OUT = ROOT / "docs/screens"
WIDTH, HEIGHT, TALLEST = 1280, 800, 1800
PAGES = ("overview", "entropy", "correlations", "neurons", "map", "neuron", "images", "image", "compare", "pair",
         "concepts", "whatif", "read", "own", "runs", "about", "viewer")  # fmt: skip


def main() -> None:
    """Write one picture a page and theme."""
    data, asked = Path(sys.argv[1]).resolve(), sys.argv[2:] or PAGES
    sources = {a.facts.get("source") for a in Store(data).list() if a.kind == "cohort"}
    if sources != {"simulated"}:
        sys.exit(f"{data}: only simulated cohorts are shown in docs, not {sorted(map(str, sources))}")
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server, address = tools.serve(data, Path(folder) / "log.txt")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=tools.FLAGS)
        try:
            for theme in ("dark", "light"):
                for name in asked:
                    _shot(browser, address, name, theme)
        finally:
            browser.close()
            server.terminate()
            server.wait(20)


def _shot(browser: Browser, address: str, name: str, theme: Literal["dark", "light"]) -> None:
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=theme)
    visit = tools.Visit(context, address)
    page = visit.open({"overview": "", "viewer": "neuron"}.get(name, name))
    if name == "viewer":
        page.locator("a.ms-pic").first.click()
        page.locator("dialog[open]").wait_for()
        page.wait_for_timeout(1000)
        page.keyboard.press("c")
    elif name != "image":  # its viewer is as tall as the window
        tall = page.evaluate("document.querySelector('.stMain').scrollHeight")
        page.set_viewport_size({"width": WIDTH, "height": max(HEIGHT, min(int(tall), TALLEST))})
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1500)  # charts settle
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(OUT / f"{name}-{theme}.webp", quality=82, method=6)
    context.close()


if __name__ == "__main__":
    main()
