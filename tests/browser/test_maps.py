"""Maps under the reader's hands: the key m on Neuron, Image and in the viewer, opacity, a map laid over the large picture."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import serve

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def mapped(tmp_path_factory, synthetic):
    """(address, an image, a neuron whose map lies over it)."""
    folder = tmp_path_factory.mktemp("maps")
    ids = synthetic.write(folder / "data", images=160, neurons=72, d=24, maps=True)
    from medsae.store.artifacts import Store

    with Store(folder / "data").get(ids.scores).connect() as connection:
        image, neuron = connection.execute(
            "SELECT image, neuron FROM cell JOIN activation USING (neuron, image) ORDER BY value DESC LIMIT 1"
        ).fetchall()[0]
    server, address = serve(folder / "data", folder / "log.txt")
    yield address, image, neuron
    server.terminate()
    server.wait(20)
    assert "Traceback" not in (folder / "log.txt").read_text(), (folder / "log.txt").read_text()


@pytest.mark.long
def test_the_key_m_shows_maps_and_takes_them_away(visit, mapped):
    address, image, neuron = mapped
    tab = visit(address=address)
    page = tab.open(f"neuron?neuron={neuron}")
    expect(page.locator(".ms-over")).to_have_count(0)
    page.keyboard.press("m")
    page.locator(".ms-over").first.wait_for()
    page.get_by_text("cohort average").wait_for()
    assert "map=1" in tab.drawn().url
    page.keyboard.press("m")
    page.wait_for_function("!document.querySelector('.ms-over')")
    page = tab.open(f"neuron?neuron={neuron}&map=1&view={image}")
    over = page.locator("img.map")
    over.wait_for(state="attached")
    assert float(over.evaluate("e => e.style.opacity")) == 0.7
    page.locator("dialog input[type=range]").nth(2).fill("0.3")
    assert float(over.evaluate("e => e.style.opacity")) == 0.3
    page.keyboard.press("m")
    assert float(over.evaluate("e => e.style.opacity")) == 0
    expect(page.get_by_text("opacity of the map")).to_be_hidden()  # there is no map whose it could be
    page.keyboard.press("m")
    assert float(over.evaluate("e => e.style.opacity")) == 0.3, "as the reader had it"
    assert not tab.problems


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_click_lays_a_neurons_map_over_the_image(visit, mapped, scheme):
    address, image, neuron = mapped
    tab = visit(scheme, address=address)
    page = tab.open(f"image?image={image}&map=1")
    expect(page.locator("img.map")).to_have_count(0)
    page.locator(f'.ms-pic[href*="seen={neuron}"]').click()
    page.locator("img.map").wait_for(state="attached")
    tab.drawn()
    assert f"seen={neuron}" in page.url
    expect(page.get_by_text("opacity of the map")).to_be_visible()
    assert float(page.locator("img.map").evaluate("e => e.style.opacity")) > 0, "the map that was clicked is seen"
