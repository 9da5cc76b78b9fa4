"""How soon the next image of a reading follows an answer: milliseconds from the key to two frames after it is drawn.

    python tests/bench/bench_read.py ADDRESS READING [--answers 40] [--reader NAME]

ADDRESS is that of a running app (http://127.0.0.1:8501). Every answer is "cannot tell"; use a reading made for this.
"""

from __future__ import annotations

import argparse
import json
import shutil

import numpy as np
from playwright.sync_api import sync_playwright

NEXT = """(key) => new Promise((done) => {
  const find = (node) => { for (const e of node.querySelectorAll("*")) {
    if (e.matches(".root[data-item]")) return e; const f = e.shadowRoot && find(e.shadowRoot); if (f) return f; } };
  const root = find(document), was = root.dataset.item, start = performance.now();
  const look = () => { const img = root.querySelector("img");
    if (root.dataset.item !== was && (!root.dataset.item || (img.complete && img.naturalWidth)))
      requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
    else requestAnimationFrame(look); };
  document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, composed: true })); look(); })"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("reading")
    parser.add_argument("--answers", type=int, default=40)
    parser.add_argument("--reader", default="bench")
    given = parser.parse_args()
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{given.address}/read?reading={given.reading}&reader={given.reader}")
        page.locator(".root[data-item]").wait_for()
        page.wait_for_timeout(1500)
        waits = []
        for _ in range(given.answers):
            page.wait_for_timeout(500)  # a quick reader
            waits.append(page.evaluate(NEXT, "c"))
        browser.close()
    quantiles = np.quantile(waits, [0.5, 0.95, 1.0]).round(1).tolist()
    print(
        json.dumps(dict(zip(("median_ms", "p95_ms", "largest_ms"), quantiles, strict=True)) | {"answers": len(waits)})
    )


if __name__ == "__main__":
    main()
