"""Every control of every page takes the mouse, nothing is cut off, and nothing stops a reader who sees or hears badly.

A test that follows links by their element finds a control that another lies over; a person with a mouse does not.
"""

import io
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

pytestmark = pytest.mark.browser
PAGES = ["", "entropy", "correlations", "neurons", "neuron?neuron=3", "pair?neuron=3&other=7", "map", "images?fires=3",
         "read", "image", "concepts", "whatif", "own", "compare", "runs", "about"]  # fmt: skip
MORE = ["runs?tab=jobs", "runs?tab=start", "neuron?neuron=3&view=5"]
OFTEN = ("", "neurons", "neuron?neuron=3", "image", "concepts")
"""Pages that `make test` looks at; the others belong to the long tests."""
WIDTHS = (800, 1024, 1280, 1920, 3840)

COVERED = """() => {
  const bad = [], clear = (e) => { const r = e.getBoundingClientRect(), s = getComputedStyle(e);
    return e.checkVisibility({ visibilityProperty: true, opacityProperty: true, contentVisibilityAuto: true }) && r.width > 2 && r.height > 2 && s.pointerEvents !== "none" && !e.disabled; };
  const all = (root) => [...root.querySelectorAll("*")].flatMap((e) => e.shadowRoot ? [e, ...all(e.shadowRoot)] : [e]);
  const dialog = all(document).find((e) => e.tagName === "DIALOG" && e.open);
  const controls = all(dialog || document).filter((e) => e.matches("a[href],button,input,select,textarea,summary,[role=button],[role=radio],[role=slider]"));
  for (const control of controls) {
    if (control.closest(".modebar, [data-testid=stElementToolbar], .katex")) continue;  // appear under the mouse
    const target = control.matches("input") && control.closest("label") || control;
    if (!clear(control) && !(control.matches("input") && clear(target))) continue;
    target.scrollIntoView({ block: "center" });
    const r = target.getClientRects()[0], x = r.x + r.width / 2, y = r.y + r.height / 2;
    const words = (control.getAttribute("aria-label") || control.textContent || control.outerHTML).trim().slice(0, 60);
    if (x < 0 || y < 0 || x > innerWidth || y > innerHeight) { bad.push(["outside", words, x, y]); continue; }
    let hit = document.elementFromPoint(x, y);
    while (hit && hit.shadowRoot && hit.shadowRoot.elementFromPoint(x, y) && hit.shadowRoot.elementFromPoint(x, y) !== hit) hit = hit.shadowRoot.elementFromPoint(x, y);
    if (!(target.contains(hit) || hit && hit.contains(target) && hit.closest("label, a, button, [role=group], .react-aria-ComboBox")))
      bad.push(["covered", words, Math.round(x), Math.round(y), hit && (hit.dataset.testid || hit.className)]);
  }
  return bad; }"""
CUT = """() => {
  const bad = [], main = document.querySelector(".stMain");
  if (document.documentElement.scrollWidth > innerWidth + 1 || main.scrollWidth > main.clientWidth + 1) bad.push("scrolls sideways");
  for (const e of document.querySelectorAll(".stMain .ms-scroll, .stMain .ms-bars, .stMain .ms-bars > span, .ms-grid, .ms-cards, .ms-figures, .ms-legend, .stPlotlyChart, .stButtonGroup")) {
    const panel = e.closest(".stVerticalBlock").getBoundingClientRect(), r = e.getBoundingClientRect();
    if (r.width && r.right > panel.right + 1.5) bad.push([e.className, e.textContent.slice(0, 40), r.right, panel.right]);
  }
  return bad; }"""


def axe() -> str:
    """The script of axe-core, as the package for tests ships it."""
    import axe_playwright_python

    assert axe_playwright_python.__file__ is not None
    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()


# Under an open dialog nothing can be read: axe would take the dialog for the ground of what lies beneath it.
VIOLATIONS = """async () => (await axe.run([...document.querySelectorAll("*")].find((e) => e.shadowRoot?.querySelector("dialog[open]")) || document, { rules: { "target-size": { enabled: true } } }))
  .violations.map((v) => [v.id, v.help, v.nodes.length, v.nodes[0].html.slice(0, 200)])"""


def patient(page, *looks: str) -> list:
    """What `looks` find when the page has come to rest: a layout, or a colour, may still be on its way to its place."""
    found: list = []
    for _ in range(10):
        page.wait_for_timeout(250)
        if not any(found := [page.evaluate(look) for look in looks]):
            return []
    return found


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=() if path in OFTEN else pytest.mark.long) for path in (*PAGES, *MORE)]
)
def test_axe_finds_nothing_controls_take_the_mouse_and_nothing_is_cut_off(visit, path):
    """In both themes; at any width."""
    page = visit("dark").open(path)
    page.evaluate(axe())
    titles = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"getComputedStyle(document.querySelector('.stApp')).colorScheme === '{scheme}'")
        page.wait_for_timeout(150)  # colours change slowly
        assert patient(page, VIOLATIONS) == [], scheme
        titles.add(page.title())
    (title,) = titles
    heading = page.locator("h1").first.inner_text()
    assert title == f"{heading} · MedSAE Explorer"
    expect(page.locator("h1")).to_have_count(1)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert patient(page, COVERED, CUT) == [], width


@pytest.mark.parametrize("width", [1280, 1440, 1920, 3840])
def test_the_mouse_walks_neurons_and_copies_the_address(visit, width):
    page = visit(width=width, height=1000).open("neuron?sort=neuron&neuron=10")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])

    def press(text: str) -> None:
        box = page.locator(".ms-tools .ms-chip", has_text=text).bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    press("11 →")
    page.get_by_role("heading", name="Neuron 11", exact=True).wait_for()
    press("← 10")
    page.get_by_role("heading", name="Neuron 10", exact=True).wait_for()
    press("copy link")
    page.get_by_text("copied", exact=True).wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == page.url


def test_the_sidebar_closes_and_opens_by_touch(chromium, study):
    context = chromium.new_context(viewport={"width": 800, "height": 1000}, has_touch=True)
    page = context.new_page()
    page.goto(study[0])
    page.locator(".ms-foot").wait_for()
    page.get_by_role("button", name="Collapse sidebar").tap()
    page.locator('[data-testid="stSidebar"][data-collapsed="true"]').wait_for(state="attached")
    page.get_by_role("button", name="Expand sidebar").tap()
    page.locator('[data-testid="stSidebar"][data-collapsed="false"]').wait_for(state="attached")
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_table_that_goes_on_behind_its_edge_shows_it_there(visit, scheme):
    """The ground is shaded at the edge behind which it goes on, and at no other."""
    page = visit(scheme, width=800, height=900).open()
    table = page.locator(".ms-scroll", has_text="AUROC, other patients").first
    table.scroll_into_view_if_needed()
    assert table.evaluate("e => e.scrollWidth > e.clientWidth + 20"), "at 800 px this table has no room"

    def shaded(left: int) -> list[bool]:
        table.evaluate("(e, x) => { e.scrollLeft = x; }", left)
        page.wait_for_timeout(100)
        drawn = Image.open(io.BytesIO(table.screenshot())).convert("L")
        width, y = drawn.width, drawn.height - 4  # below the text of the last row
        ground = int(drawn.getpixel((width // 2, y)))
        return [abs(int(drawn.getpixel((x, y))) - ground) > 25 for x in (1, width - 2)]

    assert shaded(0) == [False, True]
    assert shaded(60) == [True, True]
    assert shaded(10_000) == [True, False]


@pytest.mark.parametrize("path", ["", "neurons"])
def test_a_long_name_stays_in_its_card(visit, path):
    page = visit(width=800, height=900).open(path)
    page.locator(".ms-card .ms-text").first.wait_for()
    out = page.evaluate("""() => { const panel = document.querySelector(".ms-cards").getBoundingClientRect();
      const cards = [...document.querySelectorAll(".ms-card")], widths = cards.map((e) => e.offsetWidth);
      document.querySelectorAll(".ms-card .ms-text").forEach((e, i) => { if (i % 2) e.textContent = "Pneumothoraxverdacht".repeat(6); });
      return cards.flatMap((e, i) => e.offsetWidth === widths[i] && e.getBoundingClientRect().right <= panel.right + 1 ? [] : [[widths[i], e.offsetWidth]]); }""")
    assert out == []


def test_every_address_becomes_whole_and_adds_no_step_of_history(visit, study):
    _, ids = study
    tab = visit()
    page = tab.open("neuron")
    page.wait_for_url(re.compile(rf"scores={ids.scores}"))
    number = page.locator("h1").inner_text().removeprefix("Neuron ")
    assert f"neuron={number}" in page.url and f"versus={ids.raw}" in page.url
    steps = page.evaluate("history.length")
    page.locator('[data-testid="stSidebar"]').get_by_role("link", name="Entropy", exact=True).click()
    page.get_by_role("heading", name="Is a neuron about one thing?").wait_for()
    page.wait_for_url(re.compile(rf"entropy\?.*scores={ids.scores}"))
    page.wait_for_timeout(300)
    assert page.evaluate("history.length") == steps + 1 and page.url.count("scores=") == 1


def test_the_viewer_is_one_step_of_the_history(visit):
    tab = visit()
    page = tab.open("neurons?sort=-density")
    page.locator("a.ms-card").first.click()
    page.locator("a.ms-pic").first.wait_for()
    tab.drawn()
    page.wait_for_url(re.compile("scores="))
    steps = page.evaluate("history.length")
    page.locator("a.ms-pic").first.click()
    page.locator("dialog[open]").wait_for()
    for _ in range(3):
        before, title = page.url, page.locator("dialog[open] h2").inner_text()
        page.keyboard.press("ArrowRight")
        page.wait_for_url(lambda url, before=before: url != before)
        page.locator("dialog[open] h2").filter(has_not_text=re.compile(f"^{title}$")).wait_for()
        tab.drawn()
    assert page.evaluate("history.length") == steps + 1
    page.keyboard.press("Escape")
    page.wait_for_url(lambda url: "view=" not in url)
    page.go_back()
    page.locator("a.ms-card").first.wait_for()
