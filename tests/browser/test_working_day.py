"""A day with the explorer, with a mouse and quick fingers: nothing is lost between two presses, many go at once."""

import io
import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from medsae.store.artifacts import Store
from medsae.store.notes import Notes
from tests.browser.conftest import of_address
from tests.browser.test_every_control import VIOLATIONS, axe, patient

pytestmark = pytest.mark.browser


def click(page, locator, *held: str) -> None:
    """Click in the middle of an element with keys held down, by coordinates as a hand does."""
    locator.scroll_into_view_if_needed()
    box = locator.bounding_box()
    for key in held:
        page.keyboard.down(key)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for key in held:
        page.keyboard.up(key)


@pytest.mark.parametrize(("scheme", "ground"), [("dark", (13, 17, 23)), ("light", (255, 255, 255))])
def test_the_window_has_the_ground_of_the_theme_before_any_script_has_come(chromium, study, scheme, ground):
    context = chromium.new_context(color_scheme=scheme, viewport={"width": 600, "height": 400})
    page = context.new_page()
    page.route("**/static/js/**", lambda route: None)  # a line so slow that nothing arrives
    page.goto(f"{study[0]}/neuron?neuron=3", wait_until="commit")
    page.wait_for_function("getComputedStyle(document.documentElement).backgroundColor !== 'rgba(0, 0, 0, 0)'")
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    assert shot.getcolors(4) == [(600 * 400, ground)]
    other = {"dark": "Light", "light": "Dark"}[scheme]
    page.evaluate(f"localStorage.setItem('stActiveTheme-/neuron-v2', '\"{other}\"')")
    page.goto(f"{study[0]}/neuron?neuron=3", wait_until="commit")
    page.wait_for_function(f"document.documentElement.classList.contains('ms-{other.lower()}')")
    chosen = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert chosen == {"Light": "rgb(255, 255, 255)", "Dark": "rgb(13, 17, 23)"}[other], "what the reader chose wins"
    context.close()


@pytest.mark.long
def test_quick_presses_are_one_step_each_and_a_name_is_given_inside_the_viewer(visit, named):
    address, data, ids = named
    Notes(Store(data), ids.sae).path.unlink(missing_ok=True)  # what other tests said
    tab = visit(address=address)
    page = tab.open("neuron?sort=neuron&neuron=10&which=random")
    for keys, number in ((["ArrowRight"] * 3, 13), (["ArrowLeft"] * 2, 11), (["ArrowRight", "ArrowLeft"], 11)):
        for key in keys:
            page.keyboard.press(key)
        page.get_by_role("heading", name=f"Neuron {number}", exact=True).wait_for()
        page.wait_for_timeout(500)
        tab.drawn()
        assert page.locator("h1").inner_text() == f"Neuron {number}"
    page.goto(f"{address}/neuron?sort=-density")
    tab.drawn()
    links = page.locator("a.ms-pic[href*='view=']")
    order = [of_address(links.nth(i).get_attribute("href"), "view") for i in range(links.count())]
    assert len(order) >= 6
    click(page, links.first)
    dialog = page.locator("dialog[open]")
    dialog.wait_for()
    tab.drawn()
    at = 0
    for keys in (["ArrowRight"] * 3, ["ArrowLeft"], ["ArrowRight"] * 2 + ["ArrowLeft"]):
        for key in keys:
            page.keyboard.press(key)
        at += sum({"ArrowRight": 1, "ArrowLeft": -1}[key] for key in keys)
        dialog.get_by_role("heading", name=f"Image {order[at]}", exact=True).wait_for()
        page.wait_for_timeout(500)
        tab.drawn()
        assert dialog.locator("h2").inner_text() == f"Image {order[at]}" and f"view={order[at]}" in page.url
    neuron = int(of_address(page.url, "neuron"))
    page.keyboard.press("n")
    page.keyboard.type("sad heart, 3rd kind")  # letters and numbers in the field are no keys of the viewer
    page.keyboard.press("Enter")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.ms-name')].some((e) => e.textContent.startsWith('sad heart'))"
    )
    said = Notes(Store(data), ids.sae).all()[neuron]
    assert said.called == "sad heart, 3rd kind" and not said.star and not said.verdict
    assert f"view={order[at]}" in page.url
    page.keyboard.press("ArrowRight")
    dialog.get_by_role("heading", name=f"Image {order[at + 1]}", exact=True).wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    tab.drawn()
    assert re.fullmatch(r"sad heart, 3rd kind \(model: .+\)", page.locator(".ms-name").first.inner_text())


def test_neurons_are_chosen_with_shift_and_a_click_and_no_menu_violates_a_rule(visit, named):
    address, data, ids = named
    tab = visit("dark", address=address)
    page = tab.open("neurons?sort=neuron")
    boxes, cards = page.locator("input.ms-pick"), page.locator("a.ms-card")
    click(page, boxes.nth(1))
    page.get_by_text("1 neuron chosen").wait_for()
    click(page, cards.nth(4), "Shift")
    page.get_by_text("4 neurons chosen").wait_for()
    tab.drawn()
    chosen = [int(boxes.nth(i).get_attribute("data-neuron")) for i in range(1, 5)]
    expect(page.locator("input.ms-pick:checked")).to_have_count(4)
    assert len(page.context.pages) == 1
    assert "/neurons" in page.url and page.url.count("neuron=") == 0
    click(page, boxes.nth(3))
    page.get_by_text("3 neurons chosen").wait_for()
    click(page, page.get_by_role("button", name="☆ star"))
    page.get_by_role("button", name="★ take the star away").wait_for()
    tab.drawn()
    notes = Notes(Store(data), ids.sae).all()
    assert [n for n in chosen if n in notes and notes[n].star] == [*chosen[:2], chosen[3]]
    expect(page.locator("input.ms-pick:checked"), "cards that are drawn anew keep what is chosen").to_have_count(3)
    page.evaluate(axe())
    rules = VIOLATIONS.replace("axe.run(", "axe.run(document.querySelector('[data-testid=stPopoverBody]') || ")
    for menu in ("What do the words mean?", "tag", "name"):
        page.get_by_role("button", name=menu, exact=True).click()
        page.get_by_test_id("stPopoverBody").wait_for()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert patient(page, rules) == [], (menu, scheme)
        page.keyboard.press("Escape")
        page.get_by_test_id("stPopoverBody").wait_for(state="detached")


def test_in_a_narrow_window_the_viewer_begins_with_what_the_image_is(visit):
    """What has the focus lies below: the panel was scrolled to it, past the labels. A step leaves the panel where it is."""
    page = visit(width=800, height=900).open("neuron?neuron=3")
    page.locator(".ms-pic").first.click()
    dialog = page.locator("[data-medsae-viewer]")
    title, side = dialog.locator("h2"), dialog.locator(".side")
    title.wait_for()
    first = title.inner_text()
    assert side.evaluate("e => [e.scrollTop, e.scrollHeight > e.clientHeight + 80]") == [0, True]
    side.evaluate("e => new Promise((done) => { e.onscroll = done; e.scrollTop = 60; })")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("(first) => [...document.querySelectorAll('*')].some((e) => "
                           "(e.shadowRoot?.querySelector('dialog h2')?.textContent ?? first) !== first)", arg=first)  # fmt: skip
    assert side.evaluate("e => e.scrollTop") == 60
