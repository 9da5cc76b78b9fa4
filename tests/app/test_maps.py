"""Maps on the Neuron page: over the pictures when asked for, a reason where there are none."""

import re

import numpy as np
import pytest

from medsae.paper import overlay
from medsae.store.artifacts import Store
from medsae.store.reader import Reader


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
    from medsae.store import maps as stored

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


def test_the_page_of_an_own_picture_starts_a_service_and_says_how(mapped, app, html, monkeypatch):
    data, scores, _ = mapped
    monkeypatch.setenv("MEDSAE_DATA", str(data))
    test = app.open("own", scores=scores)
    assert [b.label for b in test.button] == ["Load the models"]
    assert any(f"medsae look --scores {scores} --watch" in c.value for c in test.caption)
    assert "Research use only" in html(test)
