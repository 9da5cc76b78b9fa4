"""Where, why, what if under the reader's hands: switches that draw one panel, search by meaning, pictures of one's own."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from medsae.ui.effect_parts import STRENGTHS
from tests.browser.conftest import served
from tests.fixtures import downloads

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def real(tmp_path_factory, medsae_at, write_chexpert):
    """(address, an image, a neuron of its sum): a small cohort through simclip and an SAE, with words and read-outs."""
    folder = tmp_path_factory.mktemp("where")
    root = write_chexpert(folder / "pictures", patients=160)
    medsae = medsae_at(folder / "data")
    cohort = medsae.id("ingest", "chexpert", "--root", root)
    embeddings = medsae.id("embed", "--cohort", cohort, "--encoder", "simclip", "--precision", "fp32")
    sae = medsae.id("train", "--embeddings", embeddings, "--k", 4, "--expansion", 1, "--epochs", 3)
    scores = medsae.id("score", "--sae", sae, "--draws", 20, "--bootstraps", 20, "--deletions", 0)
    from medsae.store.artifacts import Store

    with Store(medsae.data).get(scores).connect() as connection:
        image, neuron = connection.execute(
            "SELECT image, neuron FROM cell JOIN activation USING (neuron, image) ORDER BY value DESC LIMIT 1"
        ).fetchall()[0]
    with served(medsae.data, folder / "log.txt") as address:
        yield address, image, neuron


def test_a_switch_draws_its_panel_alone_and_stands_in_the_address(visit, real):
    address, image, neuron = real
    tab = visit(address=address)
    page = tab.open(f"image?image={image}&of=Pleural+Effusion")
    page.get_by_text("Why this score?").wait_for()
    page.evaluate("document.querySelector('.ms-foot').dataset.mine = '1'")
    page.locator("button", has_text=re.compile(rf"^{neuron}\b")).first.click()
    page.get_by_text("with 1 neuron switched off").wait_for()
    assert f"off={neuron}" in tab.drawn().url and f"image={image}" in page.url and "of=Pleural+Effusion" in page.url
    slider = page.get_by_role("slider").first
    slider.focus()
    for pause in [0, 150, 300] * (STRENGTHS.index("1.5") // 3):  # answers come between the presses: no step is lost
        slider.press("ArrowRight")
        page.wait_for_timeout(pause)
    page.get_by_text("at 1.5 times").wait_for()
    tab.drawn()
    page.wait_for_function("location.search.includes('strength=1.5')")
    expect(page.locator(".ms-foot[data-mine]"), "the rest of the page was not drawn anew").to_have_count(1)
    copied = page.url
    again = visit(address=address)
    again.page.goto(copied)
    again.drawn().get_by_text("at 1.5 times").wait_for()
    # A link from the sum lays the map over the picture and keeps the switches.
    again.page.locator(f'a[href*="seen={neuron}"]').last.click()
    again.page.locator("img.map").wait_for(state="attached")
    assert f"off={neuron}" in again.drawn().url and "strength=1.5" in again.page.url
    assert not tab.problems and not again.problems


def test_going_back_undoes_a_switch(visit, real):
    address, image, neuron = real
    tab = visit(address=address)
    page = tab.open(f"image?image={image}")
    page.locator("button", has_text=re.compile(rf"^{neuron}\b")).first.click()
    page.get_by_text("with 1 neuron switched off").wait_for()
    tab.drawn()
    page.go_back()
    page.wait_for_function("!location.search.includes('off=')")
    page.get_by_text("with 1 neuron switched off").wait_for(state="detached")
    assert f"image={image}" in tab.drawn().url


def test_neurons_are_found_by_what_they_mean(visit, real):
    address, *_ = real
    tab = visit(address=address)
    page = tab.open("neurons")
    field = page.get_by_label("Meaning")
    field.fill("fluid on the left")
    field.press("Enter")
    page.get_by_text("Neurons nearest to").wait_for()
    assert "meaning=fluid" in tab.drawn().url
    field.fill("zebra crossing")
    field.press("Enter")
    page.get_by_text("No term of the vocabulary says this").wait_for()
    assert not tab.problems


def pictures() -> dict[str, bytes]:
    """One picture as each kind of file that a reader drops."""
    rng = np.random.default_rng(3)
    grey = np.asarray(Image.fromarray(rng.integers(0, 256, (12, 10), dtype=np.uint8)).resize((200, 240)))
    made = {}
    for name, kind in (("a.jpg", "JPEG"), ("b.png", "PNG")):
        out = io.BytesIO()
        Image.fromarray(grey).save(out, kind)
        made[name] = out.getvalue()
    return made | {"c.dcm": downloads.dicom(np.ascontiguousarray(grey))}


@pytest.mark.long
def test_a_picture_of_every_kind_of_file_is_looked_at(visit, real):
    address, *_ = real
    tab = visit(address=address)
    page = tab.open("own")
    page.get_by_role("button", name="Load the models").click()
    page.locator('input[type="file"]').wait_for(state="attached")
    for name, data in pictures().items():
        page.locator('input[type="file"]').set_input_files({"name": name, "mimeType": "", "buffer": data})
        page.get_by_text(name).wait_for()
        page.get_by_text("neurons fire").first.wait_for()
        expect(page.locator('.ms-pic img[alt^="Your picture"]'), name).not_to_have_count(0)
        expect(page.locator(".ms-over"), "maps from the first").not_to_have_count(0)
        page.get_by_text("Unlike anything the SAE was trained on").wait_for()
        assert "anonymous" not in tab.drawn().content(), "nothing of a DICOM header"
        page.get_by_role("button", name=re.compile(f"^Remove .*{name}")).click()
        page.get_by_text("neurons fire").first.wait_for(state="detached")
    page.locator('input[type="file"]').set_input_files(
        {"name": "d.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"}
    )
    page.get_by_text("this picture cannot be used").wait_for()
    page.get_by_role("button", name="Stop the service").click()
    page.get_by_role("button", name="Load the models").wait_for()
    assert not tab.problems
