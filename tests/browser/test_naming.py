"""Naming on the Neuron page, as a user sees it: press, follow, read, cancel; after a restart it is still there."""

import json
import os
import re
import time
from pathlib import Path

import pytest

from medsae.jobs import Jobs
from tests.browser import conftest as parts
from tests.fixtures import naming_world as nw

pytestmark = pytest.mark.browser
EVIL = "<script>document.title='taken'</script> opacity"


class App:
    """The app over a study whose truth is known, and a server that answers from it."""

    def __init__(self, folder):
        self.folder, self.world = folder, nw.build(folder / "data", images=260, neurons=6, share=0.5)
        self.judge = nw.Server(self.world, error=0.2, mangle=self.mangle)
        self.evil, self.endpoint = False, ""
        self.start()

    def mangle(self, text, pictures, count):
        if '"description"' in text:
            return json.dumps({"concept": EVIL, "description": "<b>bold</b>"}) if self.evil else None
        return "I am sorry, I cannot help with that." if count % 9 == 0 else None

    def start(self):
        self.process, self.address = parts.serve(self.folder / "data", self.folder / "log.txt")

    def stop(self):
        parts.ended(self.process, self.folder / "log.txt")


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    made = App(tmp_path_factory.mktemp("naming"))
    with made.judge.serve() as address:
        made.endpoint = address
        yield made
        made.stop()
        jobs = Jobs(made.folder / "data")
        deadline = time.monotonic() + 30
        while any(job.state == "running" for job in jobs.list()) and time.monotonic() < deadline:
            for job in jobs.list():
                jobs.cancel(job.id)
            time.sleep(0.2)


@pytest.fixture
def tab(chromium, app):
    contexts = []

    def new(path):
        contexts.append(chromium.new_context(viewport={"width": 1280, "height": 1600}, color_scheme="dark"))
        visit = parts.Visit(contexts[-1], app.address)
        page = visit.open(path)
        page.evaluate("window.still = 1")
        return page

    yield new
    for context in contexts:
        context.close()


def shot(page, name):
    """A picture of the page for people, where MEDSAE_SHOTS names a folder."""
    if folder := os.environ.get("MEDSAE_SHOTS"):
        page.screenshot(path=Path(folder) / f"naming-{name}.png", full_page=True)


def test_the_labels_name_without_a_model_and_without_reloading(app, tab):
    page = tab("neuron?neuron=0&backend=labels&pictures=10")
    page.get_by_role("button", name="Name it").click()
    page.get_by_text("labels only, no model", exact=True).wait_for()
    page.locator("a.ms-pic.ms-right").first.wait_for()
    assert page.evaluate("window.still") == 1
    shot(page, "labels")


@pytest.mark.long
def test_a_server_names_with_progress_verdicts_and_after_a_restart(app, tab):
    app.judge.delay = 1.0  # 61 questions, 8 at once: long enough for a slow page to show how far it is
    path = f"neuron?neuron=1&pictures=10&backend=endpoint&endpoint={app.endpoint}&model=oracle"
    page = tab(path)
    page.get_by_role("button", name="Name it").click()
    page.get_by_text(re.compile(r"\d+ of 61 questions answered")).wait_for()
    shot(page, "progress")
    app.judge.delay = 0.0
    page.locator(".ms-name b", has_text="Birch shadow").wait_for()
    assert page.evaluate("window.still") == 1
    for verdict in ("right", "wrong"):  # what lies below the name may be drawn a moment later
        page.locator(f"a.ms-pic.ms-{verdict}").first.wait_for()
    assert "failed: refusal" in page.inner_text(".stMain")
    assert "another neuron's name" in page.inner_text(".stMain")
    shot(page, "server")
    app.stop()
    app.start()
    page = tab(path)
    page.locator(".ms-name b", has_text="Birch shadow").wait_for()


def test_a_name_that_is_script_is_shown_as_text(app, tab):
    app.evil, app.judge.delay = True, 0.0
    page = tab(f"neuron?neuron=2&pictures=10&backend=endpoint&endpoint={app.endpoint}&model=oracle")
    page.get_by_role("button", name="Name it").click()
    page.locator(".ms-name b", has_text=EVIL).wait_for()
    assert page.title() != "taken" and "<b>bold</b>" in page.inner_text(".stMain")
    app.evil = False
    shot(page, "script")


def test_cancel(app, tab):
    app.judge.delay = 1.5  # as long as a slow page needs to be asked to cancel
    page = tab(f"neuron?neuron=3&pictures=10&backend=endpoint&endpoint={app.endpoint}&model=oracle")
    page.get_by_role("button", name="Name it").click()
    page.get_by_text(re.compile(r"\d+ of 61 questions answered")).wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Name it").wait_for()
    app.judge.delay = 0.0
    assert "This neuron has no name yet" in page.inner_text(".stMain")
