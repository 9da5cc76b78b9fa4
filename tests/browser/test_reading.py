"""A reading by two readers in two browsers, interrupted and finished; the map of neurons under the mouse."""

import json
import re
import shutil
from pathlib import Path

import pytest

from medsae.__main__ import main
from medsae.reading import plan, results
from medsae.store.artifacts import Store
from medsae.store.readings import Readings
from tests.browser import conftest as parts
from tests.browser import test_every_control as controls
from tests.fixtures import naming_world as nw

pytestmark = pytest.mark.browser


@pytest.fixture
def world(tmp_path, capsys):
    """(address, data folder, reading): two neurons named by the labels, 4 + 4 images, two readers who read both."""
    made = nw.build(tmp_path / "data", images=260, neurons=4, share=0.5)
    data = ["--data", str(made.data)]
    assert main(["name", "--scores", made.scores, "--neurons", "0,1", "--pictures", "6", *data]) == 0
    words = ["reading", "create", "--scores", made.scores, "--neurons", "0,1", "--images", "4+4"]
    assert main([*words, "--readers", "Ada,Ben", *data]) == 0
    id = capsys.readouterr().out.split()[-1]
    with parts.served(made.data, tmp_path / "log.txt") as address:
        yield address, made, id


class Desk:
    """One reader's tab."""

    def __init__(self, tab, id, who):
        self.tab, self.page = tab, tab.page
        tab.open(f"read?reading={id}&reader={who}")
        self.root = self.page.locator(".root[data-item]")
        self.root.wait_for()

    @property
    def item(self):
        """What is to be answered (waited for: the server may be slower than the reader), None after the last of the 16."""
        self.page.locator('.root[data-item]:not([data-item=""]), .root[data-done="16"]').first.wait_for()
        task, _, image = (self.root.get_attribute("data-item") or "").partition(":")
        return (int(task), int(image)) if image else None

    def kept(self, done):
        """Wait until so many answers are on the disk, as the server told."""
        self.page.locator(f'.root[data-done="{done}"][data-pending="0"]').wait_for()

    def press(self, key):
        self.page.wait_for_timeout(120)  # an image is looked at
        self.page.keyboard.press(key)


NEXT_MS = """(key) => new Promise((done) => {
  const find = (node) => { for (const e of node.querySelectorAll("*")) { if (e.matches(".root[data-item]")) return e; const f = e.shadowRoot && find(e.shadowRoot); if (f) return f; } };
  const root = find(document), was = root.dataset.item, start = performance.now();
  const look = () => root.dataset.item !== was && root.querySelector("img").complete && root.querySelector("img").naturalWidth
    ? requestAnimationFrame(() => done(performance.now() - start)) : requestAnimationFrame(look);
  document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, composed: true })); look(); })"""


@pytest.mark.long
def test_two_readers_in_two_browsers_stop_go_on_and_finish(visit, world):
    address, made, id = world
    readings = Readings(Store(made.data))
    reading, _ = plan.opened(readings, id)
    fires = {(t, s.image): s.fires for t, task in enumerate(reading.tasks) for s in task.images}
    ada, ben = (Desk(visit(address=address), id, who) for who in ("Ada", "Ben"))
    assert ada.item == plan.items_of(reading, "Ada")[0] and ben.item == plan.items_of(reading, "Ben")[0]
    body = ada.root.inner_text()
    assert re.search(r"0 of 16 answered", body) and not re.search(r"fires|silent|accuracy|verdict|p000", body, re.I)

    # The desk takes the mouse at every width, and stops nobody who sees or hears badly.
    for width in controls.WIDTHS:
        ben.page.set_viewport_size({"width": width, "height": 900})
        assert controls.patient(ben.page, controls.COVERED, controls.CUT) == [], width
    ben.page.evaluate(controls.axe())
    assert ben.page.evaluate(controls.VIOLATIONS) == []

    # Ada answers three, one of them by the mouse, takes the last back, and sees a pause; then her browser is closed.
    for k in range(3):
        assert ada.item is not None
        if k == 1:
            ada.page.wait_for_timeout(120)
            ada.page.locator("[data-role=no]").click()
        else:
            ada.press("y" if fires[ada.item] else "n")
        ada.kept(k + 1)
    back = ada.item
    ada.press("b")
    ada.kept(2)
    assert ada.item != back and ada.item == plan.items_of(reading, "Ada")[2]
    ada.press("p")
    assert "Paused" in ada.page.inner_text(".veil")
    ada.press("y")
    ada.kept(2)
    ada.press("p")
    ada.page.context.close()

    # Ben reads without waiting: nothing that he answers is lost, though he is faster than the server.
    waits = []
    for _ in range(8):
        item = ben.item
        assert item is not None
        ben.page.wait_for_timeout(120)
        waits.append(ben.page.evaluate(NEXT_MS, "y" if fires[item] else "n"))
    ben.kept(8)
    assert len(waits) == 8

    # The same reader in two tabs: both show the same image; what the second says of it is kept and does not count.
    one, two = (Desk(visit(address=address), id, "Ada") for _ in range(2))
    same = one.item
    assert same is not None and two.item == same
    one.press("y" if fires[same] else "n")
    one.kept(3)
    two.press("c")
    two.kept(3)
    assert plan.standing(readings.answers(id, "Ada").rows()).repeated == 1
    two.page.context.close()

    # Ada's connection is lost, and she closes the tab: the browser sends what was not kept when she comes back.
    item = one.item
    assert item is not None
    one.page.evaluate("() => { WebSocket.prototype.send = () => {}; }")
    one.press("y" if fires[item] else "n")
    one.page.locator('.root[data-done="4"][data-pending="1"]').wait_for()
    again = parts.Visit(one.page.context, address)
    one.page.close()
    one = Desk(again, id, "Ada")
    one.kept(4)

    # The scores are deleted while both read; both finish all the same.
    shutil.rmtree(made.data / "artifacts/scores" / made.scores)
    for desk in (one, ben):
        while (item := desk.item) is not None:
            desk.press("y" if fires[item] else "n")
            desk.page.wait_for_function(f"(was) => {LOOK}.dataset.item !== was", arg=f"{item[0]}:{item[1]}")
        desk.kept(16)
        assert "Finished" in desk.page.inner_text(".veil")
    _, stands = plan.opened(readings, id)
    a, b = results.readers(reading, stands)
    # Ada's second answer was "no" to whatever it was; everything else was right.
    second = plan.items_of(reading, "Ada")[1]
    assert b.accuracy.value == 1 and (a.accuracy.value == 1) == (not fires[second]) and a.done == b.done == 16
    rows = [json.loads(line) for line in readings.answers(id, "Ben").path.read_text().splitlines()]
    assert len(rows) == 16 and all(0.1 <= r["seconds"] < 60 for r in rows)

    tab = visit(address=address)
    tab.open(f"read?reading={id}&tab=results")
    text = tab.page.inner_text(".stMain")
    assert "16 of 16" in text and "Krippendorff" in text and "1 given twice" in text and "are not here any more" in text
    with tab.page.expect_download() as got:
        tab.page.get_by_role("button", name="Every answer (CSV)").click()
    saved = Path(got.value.path()).read_text()
    assert saved.startswith("# Research use only") and len(saved.splitlines()) == 34
    assert not tab.problems, tab.problems


LOOK = """((find) => find(find, document))((find, node) => { for (const e of node.querySelectorAll("*")) {
  if (e.matches(".root[data-item]")) return e; const f = e.shadowRoot && find(find, e.shadowRoot); if (f) return f; } })"""


def test_an_area_drawn_on_the_map_is_a_gallery_and_a_point_a_neuron(visit):
    tab = visit()
    tab.open("map")
    plot = tab.page.locator(".stPlotlyChart .nsewdrag").first
    plot.wait_for()
    at = plot.bounding_box()
    assert at is not None

    def to(x, y):
        return at["x"] + x * at["width"], at["y"] + y * at["height"]

    tab.page.mouse.move(*to(0.02, 0.02))
    tab.page.mouse.down()
    for x, y in ((0.5, 0.02), (0.98, 0.02), (0.98, 0.5), (0.5, 0.5), (0.02, 0.5), (0.02, 0.03)):
        tab.page.mouse.move(*to(x, y), steps=4)
    tab.page.mouse.up()
    tab.page.wait_for_url(re.compile("area="))
    tab.drawn()
    told = tab.page.locator(".ms-section").first.inner_text()
    assert int(told.split()[0]) > 0
    tab.page.get_by_text("open in the gallery").click()
    tab.page.wait_for_url(re.compile("neurons.*area="))
    tab.drawn()
    assert tab.page.locator(".ms-section").first.inner_text().split()[0] == told.split()[0]
