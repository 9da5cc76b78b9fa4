"""Maps on the Neuron page: over the pictures when asked for, a reason where there are none."""
# pyright: reportOptionalSubscript=false

import io
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from PIL import Image

from medsae.paper import overlay, report
from medsae.sae.model import Sae
from medsae.steps.occlusion import HOW
from medsae.store import maps as stored
from medsae.store.artifacts import Store
from medsae.store.reader import Reader
from medsae.ui import own_parts
from tests.fixtures.spots import rsna


@pytest.fixture(scope="module")
def mapped(tmp_path_factory, medsae_at, chexpert_root):
    """A study of generated pictures whose scores have maps: (data folder, scores id, a neuron that fires)."""
    medsae = medsae_at(tmp_path_factory.mktemp("mapped"))
    cohort = medsae.id("ingest", "chexpert", "--root", chexpert_root)
    embeddings = medsae.id("embed", "--cohort", cohort, "--encoder", "simclip", "--precision", "fp32")
    sae = medsae.id("train", "--embeddings", embeddings, "--k", 4, "--expansion", 1, "--epochs", 3)
    scores = medsae.id("score", "--sae", sae, "--images", "all", "--draws", 20, "--bootstraps", 20)
    with Store(medsae.data).get(scores).connect() as connection:
        neuron = connection.execute("SELECT neuron FROM cell GROUP BY 1 ORDER BY count(*) DESC, 1").fetchone()[0]
    return medsae.data, scores, neuron


def test_maps_lie_over_the_pictures_when_asked_for(mapped, app, html, monkeypatch):
    data, scores, neuron = mapped
    monkeypatch.setenv("MEDSAE_DATA", str(data))
    plain = html(app.open("neuron", scores=scores, neuron=neuron))
    assert 'class="ms-over"' not in plain and 'data-key="m"' in plain
    assert re.search(r'data-key="m" href="[^"]*map=1', plain)
    test = app.open("neuron", scores=scores, neuron=neuron, map=1)
    over = html(test)
    assert over.count('class="ms-over"') > 3 and "before the cut" in over
    assert not re.search(r'data-key="m" href="[^"]*map=', over), "the same key takes them away"
    assert any("Red: cells that raise" in c.value for c in test.caption)


def test_why_there_are_none(app, html, data, ids):
    test = app.open("neuron", scores=ids.scores, neuron=0, map=1)
    assert 'class="ms-over"' not in html(test)
    assert any(c.value.startswith("No maps: maps were not computed then") for c in test.caption)


def test_what_is_written_beside_a_picture_adds_up(mapped):
    data, scores, neuron = mapped
    store, reader = Store(data), Reader()
    artifact = store.get(scores)
    found = stored.of_neuron(reader, artifact, neuron)
    image, (map_c, constant) = next(iter(found.items()))
    value = reader.query("SELECT value FROM {s}.activation WHERE neuron = ? AND image = ?", [neuron, image], s=artifact)
    assert map_c.sum() + constant == pytest.approx(float(value["value"][0]), abs=0.5 * float(np.abs(map_c).max()))
    assert stored.missing(artifact) == "" and not len(stored.localisation(reader, artifact, neuron))


def test_an_outline_is_the_edge_of_its_mask():
    mask = np.zeros((6, 6), bool)
    mask[1:5, 1:5] = True
    assert overlay.edge(mask).sum() == 12


def test_beside_its_maps_stand_their_mean_and_what_is_taken_off(mapped, app, html, monkeypatch):
    data, scores, neuron = mapped
    monkeypatch.setenv("MEDSAE_DATA", str(data))
    text = html(app.open("neuron", scores=scores, neuron=neuron, map=1))
    assert "mean of maps" in text and "cohort average" in text
    assert "Does its value fall" not in text, "among 90 images the strongest are hardly strong"
    store, reader = Store(data), Reader()
    artifact = store.get(scores)
    sae = Sae.load(store.parent(artifact.parents["sae"], "sae").file("sae.safetensors"))
    rows = sae.weights["W_enc"].numpy() * sae.normalisation.scale
    wanted = rows[neuron] @ np.load(artifact.file("reference.npy")).T
    found = stored.average(reader, artifact, neuron)
    assert np.abs(found - wanted).max() <= np.abs(wanted).max() / 127


def test_on_the_page_of_an_image_each_neuron_has_its_map(mapped, app, html, monkeypatch):
    data, scores, neuron = mapped
    monkeypatch.setenv("MEDSAE_DATA", str(data))
    image = next(iter(stored.of_neuron(Reader(), Store(data).get(scores), neuron)))
    assert 'class="ms-over"' not in html(app.open("image", scores=scores, image=image))
    test = app.open("image", scores=scores, image=image, map=1)
    text = html(test)
    assert 1 <= text.count('class="ms-over"') <= 12 and "where neurons look (m)" in {t.label for t in test.toggle}
    assert re.search(rf'href="image[^"]*seen={neuron}"', text), "a click lays it over the large picture"
    assert not re.search(r'data-key="m" href="[^"]*map=', text)
    app.open("image", scores=scores, image=image, map=1, seen=neuron)


def test_kept_maps_by_occlusion_are_called_approximate_wherever_they_are_drawn(mapped, app, html, monkeypatch):
    data, scores, neuron = mapped
    monkeypatch.setenv("MEDSAE_DATA", str(data))
    real, artifact = stored.grid, Store(data).get(scores)
    monkeypatch.setattr(stored, "grid", lambda r, s: replace(real(r, s), how=HOW))
    monkeypatch.setattr(stored, "approximate", lambda _: True)
    image = next(iter(stored.of_neuron(Reader(), artifact, neuron)))
    page = app.open("neuron", scores=scores, neuron=neuron, map=1)
    assert any(c.value.startswith("Approximate, by occlusion: each of 8 × 8") for c in page.caption)
    assert "by occlusion, approximate" in html(page) and "+ reference" not in html(page)
    page = app.open("image", scores=scores, image=image, map=1)
    assert any(c.value.startswith("Occlusion (approximate)") for c in page.caption)
    study = report.open_study(Store(data), scores, [neuron])
    assert "where it looks (by occlusion, approximate: red" in report.page(study, {})


@pytest.fixture(scope="module")
def unmapped(mapped, medsae_at):
    """The same SAE scored without maps: (data folder, scores id, an image, the neuron that fires most on it)."""
    data, scores, _ = mapped
    store = Store(data)
    sae = store.get(scores).parents["sae"]
    made = medsae_at(data).id("score", "--sae", sae, "--images", "all", "--draws", 20, "--bootstraps", 20, "--no-maps")
    with store.get(made).connect() as connection:
        found = connection.execute("SELECT image, neuron FROM activation ORDER BY value DESC LIMIT 1").fetchone()
    return data, made, int(found[0]), int(found[1])


@pytest.mark.parametrize("page", ["image", "neuron"])
def test_maps_are_made_when_asked(unmapped, page, app, html, monkeypatch):
    data, scores, image, neuron = unmapped
    monkeypatch.setenv("MEDSAE_DATA", str(data))
    asked = []
    grid = {"rows": 8, "columns": 8, "first_px": 0, "step_px": 16, "reach_px": 127, "size_px": 128, "how": "exact"}

    def answer(looks, data=b"", **what):
        asked.append(what)
        made = {"map": np.eye(8).tolist(), "constant": 1.0}
        return {"image": what["image"], "grid": grid, "maps": {str(n): made for n in what["neurons"]}, "no_maps": ""}

    monkeypatch.setattr(own_parts, "service", lambda study, scores: True)
    monkeypatch.setattr(own_parts, "answer", answer)
    test = app.open(page, scores=scores, image=image, neuron=neuron, map=1)
    assert 'class="ms-over"' not in html(test)
    button = next(b for b in test.button if b.label.startswith("Make "))
    assert "occlusion" not in button.label, "this encoder has an exact map: it was only not kept"
    button.click()
    app.run()
    assert 'class="ms-over"' in html(app.test)
    assert not any(what["occlude"] for what in asked)
    if page == "image":
        assert [what["image"] for what in asked] == [image] and neuron in asked[0]["neurons"]
    else:
        assert all(what["neurons"] == [neuron] for what in asked) and 1 < len(asked) <= 12


def test_a_service_that_cannot_make_maps_is_heard(unmapped, app, monkeypatch):
    data, scores, image, _ = unmapped
    monkeypatch.setenv("MEDSAE_DATA", str(data))
    monkeypatch.setattr(own_parts, "service", lambda study, scores: True)
    monkeypatch.setattr(own_parts, "answer", lambda looks, data=b"", **what: {"error": "the service has ended"})
    test = app.open("image", scores=scores, image=image, map=1)
    next(b for b in test.button if b.label.startswith("Make ")).click()
    app.run()
    assert any("the service has ended" in e.value for e in app.test.error)


def test_only_an_embedding_that_is_no_sum_needs_occlusion(unmapped):
    artifact = Store(unmapped[0]).get(unmapped[1])
    assert not stored.approximate(artifact)
    artifact.manifest["facts"]["maps"] = "an embedding of dinov2 is no sum over cells of the picture"
    assert stored.approximate(artifact)


def test_in_the_reports_maps_lie_over_the_pictures(mapped):
    data, scores, neuron = mapped
    study = report.open_study(Store(data), scores, [neuron])
    page = report.page(study, {})
    assert page.count('class="ms-over"') > 3 and 'id="maps"' in page and "body:has(#maps:not(:checked))" in page


@pytest.fixture(scope="module")
def marked(tmp_path_factory, medsae_at):
    """(data folder, scores of an SAE, of raw) of pictures with a bright spot in the reader's box."""
    folder = tmp_path_factory.mktemp("marked")
    rsna(folder / "rsna", 160)
    medsae = medsae_at(folder / "data")
    cohort = medsae.id("ingest", "rsna", "--root", folder / "rsna")
    embeddings = medsae.id("embed", "--cohort", cohort, "--encoder", "simclip", "--precision", "fp32")
    sae = medsae.id("train", "--embeddings", embeddings, "--k", 4, "--expansion", 1, "--epochs", 3)
    more = ("--images", "all", "--draws", 20, "--bootstraps", 20, "--deletions", 4)
    return medsae.data, medsae.id("score", "--sae", sae, *more), medsae.id(
        "score", "--embeddings", embeddings, "--representation", "raw", *more)  # fmt: skip


@pytest.mark.long
def test_what_readers_marked_is_an_outline(marked):
    data, scores, _ = marked
    store, reader = Store(data), Reader()
    artifact = store.get(scores)
    cohort = store.get(artifact.parents["cohort"])
    assert stored.who_marked(reader, cohort) == "readers"
    box = reader.query("SELECT * FROM {c}.box ORDER BY image LIMIT 1", c=cohort).iloc[0]
    image = int(box["image"])
    found = stored.outlines(reader, cohort, {image: (96, 96), 1: (96, 96)}, None, 48)
    assert set(found) == {image} and found[image].shape == (48, 48)
    y, x = np.argwhere(found[image]).mean(0) * 2 + 0.5
    assert (x, y) == (pytest.approx(box["x"] + 13.5, abs=1.5), pytest.approx(box["y"] + 13.5, abs=1.5))
    assert stored.outlines(reader, cohort, {image: (96, 96)}, {"Edema"}, 48) == {}


def test_a_row_of_deletion_says_what_was_tried(marked, app, html, monkeypatch):
    data, scores, _ = marked
    monkeypatch.setenv("MEDSAE_DATA", str(data))
    reader, artifact = Reader(), Store(data).get(scores)
    rows = reader.query("SELECT * FROM {s}.deletion", s=artifact)
    told = reader.query("SELECT * FROM {s}.summary WHERE measure LIKE 'deletion%'", s=artifact).set_index("measure")
    assert 1 <= rows["drawn"].sum() <= 4 and (rows["n"] <= 8).all()
    tried = rows[rows["fall"].notna()]
    assert len(tried) and (tried["low"] <= tried["fall"]).all() and (tried["fall"] <= tried["high"]).all()
    assert tried["minus_other"].to_numpy() == pytest.approx((tried["fall"] - tried["other"]).to_numpy())
    assert told.loc["deletion_fall", "n"] == rows.loc[rows["drawn"], "n"].sum()
    drawn = rows[rows["drawn"] & rows["fall"].notna()]
    mean = (drawn["fall"] * drawn["n"]).sum() / drawn["n"].sum()
    if len(drawn) == rows["drawn"].sum():
        assert told.loc["deletion_fall", "value"] == pytest.approx(mean)
    assert told.loc["deletion_fall", "value"] > told.loc["deletion_random", "value"], "a map is better than noise"
    one = int(tried["neuron"].iloc[0])
    assert "Does its value fall when that part is replaced?" in html(app.open("neuron", scores=scores, neuron=one))


def test_pages_say_whether_neurons_look_where_readers_marked(marked, app, html, monkeypatch):
    data, scores, raw = marked
    monkeypatch.setenv("MEDSAE_DATA", str(data))
    rows = stored.localisation(Reader(), Store(data).get(scores))
    assert set(rows["source"]) == {"readers"} and set(rows["representation"]) == {"sae", "raw", "random"}
    neuron = int(rows.set_index("representation")["neuron"]["sae"])
    text = unescape(html(app.open("neuron", scores=scores, neuron=neuron)))
    assert "strongest cell inside the readers' boxes or masks" in text and "Lung Opacity" in text
    overview = html(app.open("overview", scores=scores))
    assert "Do neurons look where the finding is?" in overview and "looks there" in overview
    compared = html(app.open("compare", scores=scores, versus=raw))
    assert "Do neurons look where the finding is?" in compared and "what readers marked" in compared
    assert "random direction" in compared and "its own map" in compared and compared.count("<th>raw") <= 2


def test_an_encoder_that_looks_nowhere_is_said_to(marked):
    rows = stored.localisation(Reader(), Store(marked[0]).get(marked[1]))
    assert stored.encoder_verdicts(rows) == {"Lung Opacity": "follows"}
    nowhere = rows.assign(verdict="no")
    assert stored.encoder_verdicts(nowhere) == {"Lung Opacity": "no"}
    assert stored.encoder_verdicts(rows.assign(verdict=["few", "no", "place"])) == {"Lung Opacity": "place"}


def test_the_page_of_an_own_picture_starts_a_service_and_says_how(mapped, app, html, monkeypatch):
    data, scores, _ = mapped
    monkeypatch.setenv("MEDSAE_DATA", str(data))
    test = app.open("own", scores=scores)
    assert [b.label for b in test.button] == ["Load the models"]
    assert any(f"medsae look --scores {scores} --watch" in c.value for c in test.caption)
    assert "Research use only" in html(test)


def test_a_reader_is_told_how_far_an_occlusion_is(monkeypatch):
    class Service:
        """Answers at the third asking."""

        left = 2

        def ask(self, data=b"", **what):
            return "token"

        def alive(self):
            return True

        def state(self):
            return {"phase": "ready", "passes": 48 - 16 * self.left, "of": 65}

        def fetch(self, token):
            self.left -= 1
            return {"answer": 1} if self.left < 0 else None

    said = []
    assert own_parts.answer(Service(), say=said.append, occlude=True) == {"answer": 1}
    assert said == [f"occlusion: the encoder has run {n} of 65 times" for n in (32, 48)]
    said.clear()
    assert own_parts.answer(Service(), say=said.append) == {"answer": 1} and not said
    assert own_parts.OCCLUSION_SECONDS > 10 * own_parts.WAIT_SECONDS, "a large encoder on a CPU takes minutes"


def test_the_colours_of_a_map():
    value = np.array([[1.0, -1.0, 0.0, np.nan], [0.5, -0.5, 2.0, -3.0]]).repeat(16, 0).repeat(16, 1)
    rgba = np.asarray(Image.open(io.BytesIO(overlay.drawn(value))).convert("RGBA")).astype(int)
    cells = rgba[8::16, 8::16]
    assert cells[..., 3].tolist() == [[255, 255, 0, 0], [157, 157, 255, 255]], "opacity 255 |v|^0.7"
    red, blue = cells[0, 0, :3], cells[0, 1, :3]
    assert red[0] > red[2] + 100 and blue[2] > blue[0] + 100 and cells[1, 2, 0] > 200 and cells[1, 3, 2] > 200
    mask = np.zeros((32, 64), bool)
    mask[8:24, 8:24] = True
    outlined = np.asarray(Image.open(io.BytesIO(overlay.drawn(np.full((32, 64), np.nan), mask))).convert("RGBA"))
    assert (outlined[..., 3] > 0).sum() == overlay.edge(mask).sum()
