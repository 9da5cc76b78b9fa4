"""Maps at score time: exact for every kind of SAE and for raw, kept for the strongest pictures, absent with a reason."""
# pyright: reportOptionalSubscript=false

import json

import numpy as np
import pytest

from medsae.progress import Silent
from medsae.sae.model import Sae
from medsae.steps import eyes
from medsae.steps.embed import Pictures
from medsae.store.artifacts import Store


@pytest.fixture(scope="module")
def study(tmp_path_factory, medsae_at, chexpert_root):
    medsae = medsae_at(tmp_path_factory.mktemp("maps"))
    cohort = medsae.id("ingest", "chexpert", "--root", chexpert_root)
    embeddings = medsae.id("embed", "--cohort", cohort, "--encoder", "simclip", "--precision", "fp32")
    return medsae, embeddings


def train(study, *words):
    medsae, embeddings = study
    return medsae.id("train", "--embeddings", embeddings, "--expansion", 2, "--epochs", 2, *words)


@pytest.mark.parametrize("kind", ["relu", "topk", "jumprelu", "gated", "matryoshka"])
def test_cells_and_constant_add_up_to_the_pre_activation(study, kind):
    medsae, embeddings = study
    store = Store(medsae.data)
    sae = Sae.load(store.get(train(study, "--kind", kind)).file("sae.safetensors"))
    artifact = store.get(embeddings)
    eye = eyes.eye_of(artifact, store, Silent())
    pictures = Pictures(store.get(artifact.parents["cohort"]))
    eye = eye.with_reference([pictures[i] for i in range(5)])
    parts, constants = eye.parts([eye.prepared(pictures[3])])
    found, constant = eye.maps(parts[0], constants[0], eyes.Direction.of_sae(sae), np.arange(sae.m))
    x_nd = np.load(artifact.file("x.npy"))
    wanted = sae.pre_activations(x_nd[3:4])[0]
    assert np.abs(found.sum(1) + constant - wanted).max() < 1e-5 * max(1, np.abs(wanted).max())
    raw, constant = eye.maps(parts[0], constants[0], eyes.Direction.of_raw(x_nd.shape[1]), np.arange(x_nd.shape[1]))
    assert np.abs(raw.sum(1) + constant - x_nd[3]).max() < 1e-5


def test_the_strongest_pictures_of_every_neuron_have_a_map(study):
    medsae, _ = study
    scores = Store(medsae.data).get(medsae.id("score", "--sae", train(study, "--kind", "topk"), "--images", "all"))
    with scores.connect() as connection:
        rows = connection.execute("SELECT neuron, image, map, scale, constant, value FROM cell"
                                  " JOIN activation USING (neuron, image)").fetchall()  # fmt: skip
        wanted = connection.execute("SELECT sum(least(count, 25)) FROM (SELECT count(*) AS count FROM activation"
                                    " WHERE value > 0 GROUP BY neuron)").fetchone()[0]  # fmt: skip
        grid = connection.execute("SELECT rows, columns, size_px FROM cell_grid").fetchall()
    assert grid == [(8, 8, 128)] and len(rows) == wanted > 0
    for _, _, packed, scale, constant, value in rows:
        total = np.frombuffer(packed, np.int8).astype(float).sum() * scale + constant
        assert abs(total - value) <= 64 * scale / 2 + 1e-4, "a firing top-k neuron's value is its pre-activation"
    assert scores.facts["maps"] == "exact"


def test_why_there_are_none_is_said(study, tmp_path):
    medsae, embeddings = study
    sae = train(study, "--kind", "topk")
    status, out, _ = medsae("score", "--sae", sae, "--images", "all", "--no-maps", "--json")
    assert status == 0 and json.loads(out)["facts"]["maps"] == "not asked for (--no-maps)"
    store = Store(medsae.data)
    artifact = store.get(embeddings)
    np.save(tmp_path / "x.npy", np.load(artifact.file("x.npy")))
    with store.get(artifact.parents["cohort"]).connect() as connection:
        connection.execute("SELECT path AS Path FROM image ORDER BY image").df().to_csv(tmp_path / "r.csv", index=False)
    elsewhere = medsae.id("embed", "--cohort", artifact.parents["cohort"], "--from", tmp_path / "x.npy", "--rows",
                          tmp_path / "r.csv")  # fmt: skip
    scores = store.get(medsae.id("score", "--embeddings", elsewhere, "--representation", "raw", "--images", "all"))
    assert "made elsewhere" in scores.facts["maps"]
