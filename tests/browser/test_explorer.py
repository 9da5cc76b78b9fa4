"""What only a browser shows: links without reloading, back, keyboard, brushing, clicks in charts, viewer, themes."""

import hashlib
import importlib.metadata
import itertools
import os
import platform
import re
import shlex
import struct
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from playwright.sync_api import expect

from medsae.jobs import Jobs
from medsae.store.artifacts import Store
from medsae.store.notes import Notes
from tests.browser.conftest import of_address

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.browser
PAGES = ["", "entropy", "correlations", "neurons", "neuron", "image", "concepts", "compare", "runs", "about"]


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.long
def test_every_page_is_drawn_in_both_themes(visit, scheme):
    tab = visit(scheme)
    for path in PAGES:
        page = tab.open(path)
        assert page.locator("h1").first.inner_text()
        assert "not for diagnosis" in page.locator(".ms-foot").last.inner_text()
        assert page.evaluate("getComputedStyle(document.querySelector('.stApp')).colorScheme") == scheme
        # Nothing is wider than the window: no page scrolls sideways.
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 1


def test_card_opens_neuron_without_reloading_and_back_returns(visit):
    page = visit().open("neurons?sort=-rho&show=selective")
    page.evaluate("window.still = 1")
    card = page.locator("a.ms-card").first
    number = card.locator("b").inner_text()
    card.click()
    page.get_by_role("heading", name=f"Neuron {number}", exact=True).wait_for()
    assert "sort=-rho" in page.url and "show=selective" in page.url and f"neuron={number}" in page.url
    page.go_back()
    page.locator("a.ms-card").first.wait_for()
    assert "neurons?sort=-rho&show=selective" in page.url
    page.go_forward()
    page.get_by_role("heading", name=f"Neuron {number}", exact=True).wait_for()
    assert page.evaluate("window.still") == 1, "the page was loaded anew"


def test_the_first_page_can_be_called_by_its_name(visit):
    tab = visit()
    tab.open("")
    page = tab.open("overview?unit=nats")
    expect(page.get_by_role("heading", name="What do these neurons encode?")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert "overview" not in page.url.partition("?")[0] and "unit=nats" in page.url, "one page has one address"


def test_keyboard_walks_neurons(visit):
    page = visit().open("neuron?sort=neuron&neuron=10")
    page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name="Neuron 11", exact=True).wait_for()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("heading", name="Neuron 10", exact=True).wait_for()
    # In a text field the same key moves the cursor and nothing else.
    page.get_by_label("Tags").last.focus()  # the last page may still be leaving
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(400)
    assert "neuron=10" in page.url


def test_brushing_a_range_lists_its_neurons_and_is_in_the_link(visit):
    tab = visit(height=1000)
    page = tab.open("entropy")
    drag = page.locator(".js-plotly-plot .nsewdrag").first
    drag.wait_for()
    box = drag.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.98, box["y"] + 120, steps=8)
    page.mouse.up()
    page.wait_for_url(re.compile(r"lo=[\d.]+.*hi=[\d.]+"))
    heading = page.get_by_text(re.compile(r"\d+ neurons? between (?!0\.00)"))
    heading.wait_for()
    low, high = (float(of_address(page.url, name)) for name in ("lo", "hi"))
    assert 1.5 < low < 2.5 and 3 < high < 4
    said = heading.inner_text()
    again = visit(height=1000).open(page.url.split("/")[-1])
    assert again.get_by_text(re.compile(r"\d+ neurons? between")).inner_text() == said


def test_equations_are_set_and_numbered(visit):
    page = visit().open("about")
    page.locator(".katex-display").nth(4).wait_for()
    expect(page.locator(".katex-error")).to_have_count(0)
    assert page.locator(".katex-display .tag").all_inner_texts() == ["(1)", "(2)", "(3)", "(4)", "(5)"]


def test_heat_map_click_opens_the_neuron_and_back_stays_back(visit):
    page = visit(height=1000).open("correlations?top=20")
    cell = page.locator(".ms-heat > a").nth(5)
    said = cell.get_attribute("aria-label") or ""
    neuron, label = re.findall(r"neuron (\d+) · (.+?) · ρ", said)[0]
    point = cell.bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    expect(page.locator(".ms-tip")).to_have_text(said)  # at once, beside the mouse
    page.mouse.click(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    page.wait_for_url(re.compile(rf"/neuron\?.*neuron={neuron}&.*by={quote_plus(label)}"))
    expect(page.locator(".ms-tip")).to_be_hidden()
    page.locator("h1", has_text="Neuron").wait_for()
    page.go_back()
    page.locator("h1", has_text="Which neuron").wait_for()
    page.wait_for_timeout(1500)
    assert "/correlations" in page.url, "the old click must not send the reader away again"


def test_viewer_opens_inverts_steps_and_closes_by_key(visit):
    tab = visit()
    page = tab.open("neuron?sort=-density")
    page.locator("a.ms-pic").first.click()
    dialog = page.locator("dialog[open]")
    dialog.wait_for()
    image = dialog.locator("img")
    assert image.get_attribute("alt").startswith("Radiograph ")
    assert image.evaluate("e => e.decode().then(() => e.naturalWidth)") >= 320
    page.keyboard.press("i")
    assert dialog.get_by_role("button", name="invert").get_attribute("aria-pressed") == "true"
    title = dialog.locator("h2").inner_text()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("t => [...document.querySelectorAll('*')].some(e => e.shadowRoot?.querySelector('dialog h2') "
                           "&& e.shadowRoot.querySelector('dialog h2').textContent !== t)", arg=title)  # fmt: skip
    assert "view=" in page.url
    page.keyboard.press("Escape")
    page.wait_for_url(lambda url: "view=" not in url)
    dialog.wait_for(state="detached")


def test_the_viewer_zooms_compares_keeps_its_window_and_judges(visit, named):
    address, data, ids = named
    tab = visit(width=1280, height=900, address=address)
    page = tab.open("neuron?sort=-density&show=named")
    page.locator("a.ms-pic").first.click()
    dialog = page.locator("dialog[open]")
    dialog.wait_for()
    view, stage = dialog.locator(".view"), dialog.locator(".stage").first
    box = stage.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.5)
    page.mouse.wheel(0, -300)
    page.wait_for_function(
        "Number([...document.querySelectorAll('*')].map((e) => e.shadowRoot?.querySelector('.view')).find(Boolean).dataset.zoom) > 1.5"
    )
    place = lambda: stage.locator("img").evaluate("e => e.style.transform")  # noqa: E731
    before = place()
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25 + 60, box["y"] + box["height"] * 0.5, steps=3)
    page.mouse.up()
    assert place() != before, "dragging moves a zoomed picture"
    page.keyboard.press("r")
    assert view.get_attribute("data-zoom") == "1.00"
    page.keyboard.press("i")
    page.keyboard.press("c")
    page.wait_for_url(re.compile("beside="))
    dialog.locator(".stage").nth(1).wait_for()
    tab.drawn()
    assert dialog.get_by_role("button", name="invert").get_attribute("aria-pressed") == "true", "the window stays"
    page.keyboard.press("+")
    both = [dialog.locator(".stage img").nth(i).evaluate("e => e.style.transform + e.style.filter") for i in (0, 1)]
    assert both[0] == both[1] and "scale(1.4)" in both[0]
    shown = of_address(page.url, "view")
    page.keyboard.press("3")
    page.wait_for_url(lambda url: f"view={shown}&" not in url and "beside=" in url)
    tab.drawn()
    page.keyboard.press("a")
    dialog.locator("button[aria-pressed=true]", has_text="agree (a)").first.wait_for()
    number = int(of_address(page.url, "neuron"))
    assert Notes(Store(data), ids.sae).all()[number].verdict == "agree"
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert "view=" not in page.url and "beside=" not in page.url


def test_pictures_keep_their_aspect_and_have_words(visit):
    page = visit().open("neuron?sort=-density")
    pictures = page.locator(".ms-pic img")
    expect(pictures.nth(5)).to_be_attached()
    for i in range(pictures.count()):
        assert "Radiograph" in pictures.nth(i).get_attribute("alt")
        assert pictures.nth(i).evaluate("e => getComputedStyle(e).objectFit") == "contain"


def test_two_tabs_do_not_disturb_each_other(visit, study):
    one, two = visit(), visit()
    a, b = one.open("neuron?sort=neuron&neuron=3"), two.open(f"?scores={study[1].raw}&unit=nats")
    a.keyboard.press("ArrowRight")
    a.get_by_role("heading", name="Neuron 4", exact=True).wait_for()
    assert "nats" in b.locator(".ms-figures").first.inner_text()
    assert "nats" not in a.locator(".ms-figures").first.inner_text() and "unit=nats" not in a.url


def test_the_table_of_saes_opens_an_sae_on_overview(visit, study):
    page = visit().open("compare")
    page.locator(".ms-table").get_by_role("link", name="SAE topk 16 × 3 · all images", exact=True).click()
    page.get_by_role("heading", name="What do these neurons encode?").wait_for()
    assert f"scores={study[1].scores}" in page.url
    page.go_back()
    page.get_by_role("heading", name="Compare", exact=True).wait_for()
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize("path", ["", "neuron?neuron=3", "neurons", "concepts"])
def test_pages_of_text_and_pictures_do_not_wait_for_the_library_of_plots(visit, path):
    """It is 4.6 MB of script, most of a second before a first page is drawn (decision 052)."""
    page = visit().open(path)
    page.wait_for_timeout(500)
    loaded = page.evaluate("performance.getEntriesByType('resource').map((e) => e.name)")
    assert any("Html." in name for name in loaded) and not [name for name in loaded if "Plotly" in name]


def test_planted_factors_are_marks_on_a_scale_that_say_their_numbers(visit):
    page = visit().open("?parts=1")
    panel = page.locator(".ms-bars", has=page.locator(".ms-ticks"))
    rows = [("device", 0.91), ("side:right", 0.78), ("side:left", 0.75)]  # as the synthetic study has them
    expect(panel.locator(".ms-dots")).to_have_count(len(rows))
    ticks = {float(t.inner_text()): t.bounding_box() for t in panel.locator(".ms-ticks span").all()}
    middle = lambda box: box["x"] + box["width"] / 2  # noqa: E731
    zero, one = middle(ticks[min(ticks)]), middle(ticks[1.0])
    for factor, auroc in rows:
        row = panel.locator(f'.ms-dots[aria-label^="{factor.replace(":", ", ")}: SAE activation {auroc:.3f}"]')
        at = middle(row.locator(".ms-mark-sae").bounding_box())
        assert at == pytest.approx(zero + (one - zero) * (auroc - min(ticks)) / (1 - min(ticks)), abs=1.5)


def test_text_contrast(visit):
    """Soft and coloured text has 4.5:1 on the page's background in both themes."""
    luminance = """color => { const c = document.createElement('canvas').getContext('2d'); c.fillStyle = color; c.fillRect(0,0,1,1);
      const [r,g,b] = [...c.getImageData(0,0,1,1).data].slice(0,3).map(v => (v/=255) <= .03928 ? v/12.92 : ((v+.055)/1.055)**2.4);
      return .2126*r + .7152*g + .0722*b; }"""
    for scheme in ("dark", "light"):
        page = visit(scheme).open("")
        ground = page.evaluate(f"({luminance})(getComputedStyle(document.querySelector('.stApp')).backgroundColor)")
        for part in (".ms-figures span", ".ms-sae", ".ms-raw", ".ms-foot", ".ms-table th", "h1"):
            text = page.evaluate(f"s => ({luminance})(getComputedStyle(document.querySelector(s)).color)", part)
            high, low = max(text, ground), min(text, ground)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (scheme, part)


@pytest.mark.long
def test_a_plot_is_saved_for_print_at_two_widths_and_as_html(visit, tmp_path):
    page = visit("dark").open("entropy")
    page.locator(".js-plotly-plot").first.wait_for()
    page.get_by_role("button", name="save plot").first.click()
    saved = {}
    for kind in ("PNG", "SVG", "PDF"):
        for place in (0, 1):
            with page.expect_download() as caught:
                page.get_by_test_id("stPopoverBody").get_by_role("button", name=kind).nth(place).click()
            saved[kind, place] = Path(caught.value.path()).read_bytes()
            assert caught.value.suggested_filename.endswith(f"{(89, 183)[place]}mm.{kind.lower()}")
    with page.expect_download() as caught:
        page.get_by_test_id("stPopoverBody").get_by_role("button", name="HTML").click()
    html = Path(caught.value.path()).read_bytes()
    wide = [struct.unpack(">I", saved["PNG", place][16:20])[0] for place in (0, 1)]
    assert wide == pytest.approx([89 / 25.4 * 300, 183 / 25.4 * 300], abs=2)
    assert b"<svg" in saved["SVG", 0][:400] and saved["PDF", 1].startswith(b"%PDF")
    assert b"Research use only" in html and b"Plotly.newPlot" in html


@pytest.mark.long
def test_a_training_is_started_cancelled_resumed_and_its_provenance_is_read(workshop):
    """In the browser alone: fill the form, see progress and a loss curve, cancel, resume, read what it came to."""
    tab, data = workshop
    page = tab.open("runs?tab=start&step=train")
    page.get_by_text("More settings").click()
    for name, value in (("k", "4"), ("expansion", "2"), ("epochs", "2000"), ("batch", "32")):
        field = page.get_by_role("textbox", name=name, exact=True)
        field.fill(value)
        field.press("Tab")
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url(re.compile(r"tab=jobs&job="))
    cancel, resume = (page.get_by_role("button", name=n, exact=True) for n in ("Cancel", "Resume"))
    page.get_by_text(re.compile(r"train · [1-9][\d,]* of 8,000 steps")).wait_for()
    page.locator(".js-plotly-plot").first.wait_for()
    cancel.first.click()
    resume.wait_for()
    jobs = page.locator(".ms-table").first
    assert "cancelled" in jobs.inner_text() and "done" not in jobs.inner_text()
    (id,) = [id for id, _ in Store(data).unfinished("sae")]
    page.get_by_text(f"Being built, or interrupted: {id}").wait_for()
    resume.click()
    page.get_by_role("progressbar").first.wait_for()
    # It goes on by itself to the end, and the page says so without being asked again.
    jobs.locator("tr", has_text=id).locator(".ms-good", has_text="done").wait_for(timeout=180_000)
    assert len([p for p in (data / "jobs").iterdir() if p.is_dir()]) == 2
    (job,) = [j for j in Jobs(data).list() if j.state == "done"]
    assert job.result == id and Store(data).unfinished("sae") == []
    jobs.get_by_role("link", name=id).click()
    page.wait_for_url(re.compile(rf"id={id}"))

    artifact = Store(data).get(id, "sae")
    page.get_by_text("The command that makes it again").wait_for()
    command = page.locator(".stCode code").first.inner_text().strip()
    assert command == " ".join(artifact.manifest["command"])
    embeddings = artifact.parents["embeddings"]
    for word in (
        f"--embeddings {embeddings}",
        "--k 4",
        "--expansion 2",
        "--epochs 2000",
        "--batch 32",
        "--kind topk",
        "--lr 0.001",
    ):
        assert word in command
    for name in ("config", "versions", "machine", "files and their sha256"):
        page.locator("details", has=page.get_by_text(name, exact=True)).locator("summary").click()
    page.locator(".ms-hash").last.wait_for(state="visible")
    rows = [row.inner_text().split("\t") for row in page.locator(".stMain .ms-table tr").all()]
    told = {cells[0].strip(): cells[-1].strip() for cells in rows if len(cells) > 1}
    for name, value in (("k", "4"), ("expansion", "2"), ("epochs", "2000"), ("batch", "32"), ("kind", "topk")):
        assert told[name] == value, (name, told)
    assert told["embeddings"] == embeddings, "the parent"
    assert told["torch"] == importlib.metadata.version("torch")
    assert told["python"] == platform.python_version()
    assert told["cores"] == str(os.cpu_count())
    hashes = page.locator(".ms-hash").all_inner_texts()
    files = [p for p in artifact.path.iterdir() if p.name != "artifact.json"]
    assert sorted(hashes) == sorted(hashlib.sha256(p.read_bytes()).hexdigest() for p in files) and len(files) == 2
    page.get_by_role("link", name=embeddings).last.click()
    page.wait_for_url(re.compile(rf"id={embeddings}"))

    # The command is exact: said again, it finds this artifact and makes nothing.
    again = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]], cwd=ROOT, env=os.environ | {"MEDSAE_DATA": str(data)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert again.stdout.split()[-1] == id and Store(data).get(id, "sae").manifest == artifact.manifest


@pytest.mark.long
def test_on_a_4k_screen_text_is_larger_and_charts_grow_with_it(visit):
    page = visit(width=3840, height=2160).open("correlations?top=60")
    names = page.locator(".ms-heat > b")
    names.nth(49).wait_for()
    boxes = [names.nth(i).bounding_box() for i in range(names.count())]
    assert len(boxes) >= 50 and boxes[0]["height"] >= 25
    tops = sorted(b["y"] for b in boxes)
    assert all(b - a > 25 for a, b in itertools.pairwise(tops)), "the rows' names lie over each other"
    assert page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize)") >= 20
    side = page.locator('[data-testid="stSidebar"]').bounding_box()
    assert side["width"] >= 440 and page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 1


@pytest.mark.long
def test_cards_and_pictures_are_reached_and_opened_by_keyboard(visit):
    page = visit().open("neurons?sort=neuron")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('ms-card')"):
            break
    assert page.evaluate("getComputedStyle(document.activeElement).borderColor") != page.evaluate(
        "getComputedStyle(document.querySelectorAll('a.ms-card')[1]).borderColor"
    ), "the focused card is not marked"
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Neuron 0", exact=True).wait_for()
    for path in ("neurons?sort=-density", "neuron?sort=-density", "image?image=0"):
        page = visit().open(path)
        pictures = page.locator("img")
        expect(pictures).not_to_have_count(0)
        for words in pictures.evaluate_all("all => all.map((e) => e.alt)"):
            assert words


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_intervals_of_the_concepts_table_stand_on_one_line(visit, named, scheme):
    page = visit(scheme, address=named[0]).open("concepts?above=0")
    table = page.locator(".ms-table").last
    head = table.locator("th").all_inner_texts()
    cells = table.locator(f"tbody td:nth-child({head.index('95 % interval') + 1})")
    expect(cells.nth(19)).to_be_attached()
    for cell in (table.locator("th").nth(head.index("95 % interval")), cells.first, cells.last):
        lines = cell.evaluate(
            "e => { const r = document.createRange(); r.selectNodeContents(e); return r.getClientRects().length }"
        )
        assert lines == 1, cell.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 1


@pytest.mark.long
def test_a_reader_goes_through_names_without_the_mouse(visit, named):
    """a, d and s judge and mark at once, the arrow goes on; in a text field they are letters."""
    address, data, ids = named
    Notes(Store(data), ids.sae).path.unlink(missing_ok=True)  # a key that was pressed before would undo itself here
    tab = visit(address=address)
    page = tab.open("neuron?sort=neuron&show=named")
    numbers, said = [], {}
    for key, label in (("a", "agree"), ("d", "disagree"), ("s", "★ starred")):
        numbers.append(int(page.locator("h1").first.inner_text().removeprefix("Neuron ")))
        page.keyboard.press(key)
        page.locator('button[kind="primary"]', has_text=label).wait_for()
        tab.drawn()
        before = page.url
        page.keyboard.press("ArrowRight")
        page.wait_for_url(lambda url, before=before: url != before)
        page.get_by_role("heading", name=re.compile(rf"Neuron (?!{numbers[-1]}$)\d+")).wait_for()
        tab.drawn()
    said = Notes(Store(data), ids.sae).all()
    assert [said[n].verdict for n in numbers[:2]] == ["agree", "disagree"] and all(said[n].name for n in numbers[:2])
    assert said[numbers[2]].star and len(set(numbers)) == 3
    page.get_by_label("Tags").last.fill("")
    page.get_by_label("Tags").last.press_sequentially("sad")
    page.wait_for_timeout(400)
    assert page.get_by_label("Tags").last.input_value() == "sad"
    assert Notes(Store(data), ids.sae).all() == said, "letters in a field judge nothing"
