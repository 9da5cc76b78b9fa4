"""The map of neurons: areas as an address holds them, the page and the gallery of an area, scores without a map."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st_

from medsae.scoring.layout import LEAST, places
from medsae.store import neuron_map
from medsae.store.artifacts import Store
from medsae.store.reader import Reader
from medsae.ui import charts


def clusters(m=90, d=24, seed=0):
    rng = np.random.default_rng(seed)
    centre = np.repeat(rng.normal(size=(3, d)), m // 3, axis=0)
    return (centre + 0.1 * rng.normal(size=(m, d))).astype(np.float32)


def test_directions_that_are_alike_lie_together_and_the_bits_are_the_same_again():
    w_md = clusters()
    shown = np.ones(len(w_md), bool)
    shown[[4, 50]] = False
    at = places(w_md, shown, 0)
    assert at.dtype == np.float32 and np.isnan(at[[4, 50]]).all() and np.nanmax(np.abs(at)) == 1
    assert places(w_md * 4, shown, 0).tobytes() == at.tobytes(), "the length of a direction says nothing"
    xy, group = at[shown], (np.arange(90) // 30)[shown]
    near = np.linalg.norm(xy[:, None] - xy[None], axis=2) + np.diag(np.full(len(xy), np.inf))
    assert (group[near.argmin(1)] == group).all()


@pytest.mark.parametrize("m", [0, 1, LEAST - 1, LEAST])
def test_few_neurons_make_no_map(m):
    at = places(clusters()[:m], np.ones(m, bool), 0)
    assert at.shape == (m, 2) and np.isfinite(at).all() == (m >= LEAST or m == 0)


def polygon(text):
    found = neuron_map.corners(text)
    assert found is not None
    return found


def test_what_lies_in_an_area():
    frame = pd.DataFrame({"neuron": range(5), "x": [0, 0.9, -0.5, 0.2, 0], "y": [0, 0.9, 0, 0.1, -0.6]})
    triangle = polygon(neuron_map.written([-0.6, 0.5, 0.0], [-0.2, -0.2, 0.6]))
    assert neuron_map.inside(frame, triangle) == {0, 3}
    assert neuron_map.inside(frame, polygon(neuron_map.box([-0.6, 0.1], [0.1, -0.1]))) == {0, 2}


@settings(deadline=None, max_examples=50)
@given(st_.lists(st_.tuples(st_.floats(-1.04, 1.04), st_.floats(-1.04, 1.04)), min_size=3, max_size=200))
def test_an_area_fits_into_an_address_and_comes_back(points):
    x, y = zip(*points, strict=True)
    text = neuron_map.written(x, y)
    back = neuron_map.corners(text)
    assert len(text) < 290 and back is not None and len(back) <= neuron_map.CORNERS
    if len(points) <= neuron_map.CORNERS:
        np.testing.assert_allclose(back, points, atol=0.5 / 500 + 1e-9)


@pytest.mark.parametrize(
    "area", ["", "1.2", "1.2~3.4", "a.b~1.2~3.4", "1.2~3.4~99999.0", "~~~", "1~2~3", "--1.2~3.4~5.6"]
)
def test_an_area_that_is_none(area):
    assert neuron_map.corners(area) is None


def test_what_was_drawn_in_the_chart():
    lasso = {"selection": {"points": [], "box": [], "lasso": [{"x": [0, 1, 0.5], "y": [0, 0, 1]}]}}
    box = {"selection": {"points": [], "box": [{"x": [0, 0.5], "y": [1, 0]}], "lasso": []}}
    assert charts.lassoed(lasso) == "0.0~500.0~250.500" and charts.lassoed(box) == "0.500~250.500~250.0~0.0"
    assert charts.lassoed(None) is None and charts.lassoed({"selection": {"lasso": [], "box": []}}) is None


def test_the_page_and_the_gallery_of_an_area(app, html, data, ids):
    reader, scores = Reader(), Store().get(ids.scores)
    at = neuron_map.places(reader, scores)
    assert at is not None and set(at["neuron"]) == {
        int(n) for n in reader.query("SELECT neuron FROM {s}.neuron WHERE active > 0", s=scores)["neuron"]
    }
    area = neuron_map.box([0, 1.04], [0, 1.04])
    inside = neuron_map.inside(at, polygon(area))
    assert 0 < len(inside) < len(at)
    for page in ("map", "neurons"):
        text = html(app.open(page, area=area))
        assert f">{len(inside)} neuron" in text and "within an area of the map" in text
    assert "area=" in text, "the links to neurons stay within the area"
    test = app.open("map", area="1.2~x", colour="entropy")
    assert any("cannot be used" in warning.value for warning in test.warning)
    for colour in ("density", "tag", "label"):
        app.open("map", colour=colour, q="3", show="selective")


def test_scores_without_a_map_say_so(app, html, data, ids):
    import duckdb

    path = data / "artifacts/scores" / ids.scores / "tables.duckdb"
    copy = path.read_bytes()
    path.unlink()
    path.write_bytes(copy)  # the fixture's files are shared by hard links
    with duckdb.connect(str(path)) as db:
        db.execute("DROP TABLE place")
    assert "The map was not computed then" in html(app.open("map"))
    assert "Only an SAE has a map" in html(app.open("map", scores=ids.raw))
    assert any("cannot be used" in w.value for w in app.open("neurons", area="0.0~1.1~2.0").warning)


def test_the_legend_leaves_the_width_to_the_map():
    frame = pd.DataFrame({"neuron": range(4), "x": 0.0, "y": 0.0, "text": "", "passes": True,
                          "colour": ["Enlarged Cardiomediastinum", "Edema", "not selective", "Edema"]})  # fmt: skip
    legend = charts.neuron_map(frame, "colour", "label").layout.legend
    assert legend.orientation == "h" and legend.y < 0 and legend.yanchor == "top", "below the plot, not beside it"
