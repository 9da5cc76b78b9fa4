"""`medsae.open`: what the pages show, as pandas and numpy, without torch until an SAE is used."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import medsae
from medsae.api import Data
from medsae.progress import UserError
from medsae.store import queries
from medsae.store.ledger import Ledger
from medsae.store.titles import title

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def walked(tmp_path_factory, chexpert_root, medsae_at):
    """The data folder of a small study that went all the way: embeddings made elsewhere, an SAE, both scores."""
    folder = tmp_path_factory.mktemp("walked")
    medsae = medsae_at(folder / "data")
    cohort = medsae.id("ingest", "chexpert", "--root", chexpert_root, "--evaluation-share", 0.4, "--no-pictures")
    images = Data(medsae.data).study().images()
    x = np.random.default_rng(1).normal(size=(len(images), 12)).astype(np.float32)
    x[:, 3] += 2 * (images["sex"] == "M")
    np.save(folder / "x.npy", x)
    pd.DataFrame({"Path": images["path"]}).to_csv(folder / "rows.csv", index=False)
    elsewhere = ["--from", folder / "x.npy", "--rows", folder / "rows.csv", "--name", "planted"]
    embeddings = medsae.id("embed", "--cohort", cohort, *elsewhere)
    sae = medsae.id("train", "--embeddings", embeddings, "--k", 4, "--expansion", 2, "--epochs", 5)
    quick = ["--draws", 20, "--bootstraps", 20]
    medsae.id("score", "--embeddings", embeddings, "--representation", "raw", *quick)
    medsae.id("score", "--sae", sae, *quick)
    return medsae.data


@pytest.fixture
def opened(data):
    with medsae.open(data) as found:
        yield found


def test_studies_scores_and_their_parents(opened, ids):
    assert "2 scores" in repr(opened) and opened.scores().id == ids.scores
    assert list(opened.artifacts("sae")["id"]) == [ids.sae] and opened.artifacts()["created"].dt.tz is not None
    study = opened.study()
    assert [s.id for s in opened.studies()] == [study.id] == [ids.cohort]
    assert {s.id for s in study.scores()} == {ids.scores, ids.raw}
    raw = opened.scores(ids.raw)
    assert raw.is_raw and raw.title.startswith("raw ") and raw.study.id == study.id
    with pytest.raises(UserError, match="there is no SAE"):
        _ = raw.sae
    assert opened.scores(ids.scores).sae.embeddings.id == raw.embeddings.id == ids.embeddings
    with pytest.raises(UserError, match="no scores with the id 'nothing'"):
        opened.scores("nothing")


def test_tables_are_those_of_the_pages(opened, ids):
    scores = opened.scores()
    neurons = scores.neurons()
    assert len(neurons) == 72 and neurons.index.name == "neuron" and neurons.index.is_monotonic_increasing
    selective = scores.neurons(show="selective", sort="-rho")
    assert 0 < len(selective) < 72 and selective["selective"].all()
    with pytest.raises(UserError, match="cannot be filtered"):
        scores.neurons(show="starred")
    one, every = scores.correlations(3), scores.correlations()
    assert len(every) == 72 * len(one)
    mine = every[every["neuron"] == 3].set_index("label")["rho"]
    pd.testing.assert_series_equal(one.set_index("label")["rho"].sort_index(), mine.sort_index())
    fired = scores.activations(3)
    assert fired.is_monotonic_decreasing and fired.iloc[0] == pytest.approx(neurons["max"][3])
    assert scores.top_images(3, n=5, one_a_patient=False)["image"].tolist() == fired.index[:5].tolist()
    reader, artifact = opened.reader, scores.artifact
    assert scores.summary()["value"]["mean_entropy"] == queries.summary(reader, artifact)["mean_entropy"].value
    assert scores.difference(opened.scores(ids.raw)).value is not None
    assert len(scores.labels()) and scores.names().empty
    assert isinstance(scores.recovery(), pd.DataFrame) and scores.localisation().empty


def test_names_are_those_of_the_ledger(opened, data, ids):
    run = {"kind": "run", "run": "r", "scores": ids.scores, "protocol": "strict", "backend": "labels", "model": "",
           "prompts": "1", "pictures": 5, "hard": 0.0, "controls": True, "seed": 0, "overlap": ""}  # fmt: skip
    name = {"kind": "name", "run": "r", "neuron": 3, "take": 0, "status": "ok", "concept": "Edema", "accuracy": 0.8}
    with Ledger(opened.store, ids.scores).writer() as writer:
        writer.append([run, name])
    assert opened.scores().names()["concept"].tolist() == ["Edema"]
    assert opened.scores().verdicts("r", 3).empty


def test_images_labels_and_pictures(opened):
    study = opened.study()
    images, labels = study.images(), study.labels()
    assert len(images) == len(labels) == 160 and images.index.equals(labels.index.astype(images.index.dtype))
    assert set(labels.stack().dropna().unique()) <= {-1, 0, 1}
    assert study.thumbnail(0)[8:12] == b"WEBP" and study.thumbnail(10**6) is None


def test_an_sae_encodes_embeddings_as_it_was_trained(walked):
    opened = medsae.open(walked)
    sae, x = opened.sae(), opened.embeddings().x
    assert isinstance(x, np.memmap) and len(opened.embeddings().rows()) == len(x)
    z = sae.encode(x[:7])
    assert z.shape == (7, sae.model.m) and z.dtype == np.float32 and (z >= 0).all()
    one = np.zeros((2, sae.model.m), np.float32)
    one[1, 4] = 2
    step = np.diff(sae.decode(one), axis=0)[0] / 2
    np.testing.assert_allclose(step, sae.directions()[4], atol=1e-5)
    with pytest.raises(UserError, match="dimensions"):
        sae.encode(x[:7, :-1])
    assert len(sae.history())


def test_opening_and_reading_load_no_torch_and_importing_loads_nothing(without_torch, data):
    code = """
        import medsae
        assert not {"pandas", "duckdb"} & set(sys.modules)
        data = medsae.open(sys.argv[1])
        scores = data.scores()
        print(len(scores.neurons()), len(scores.top_images(3)), scores.title)
    """
    assert without_torch(code, str(data)).startswith("72 ")


def test_the_title_tells_the_size_of_every_kind(opened, ids):
    scores, sae = opened.scores().artifact, opened.sae().artifact
    for facts, size in (({"k": 16}, "16"), ({"k": None, "l1": 3e-4}, "0.0003"),
                        ({"k": None, "l1": None, "l0_coefficient": 0.5}, "0.5")):  # fmt: skip
        other = type(sae)(sae.path, sae.manifest | {"facts": {"kind": "any", "expansion": 4, **facts}})
        assert title([other], scores).startswith(f"SAE any {size} × 4")


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/notebooks/*.ipynb")), ids=lambda path: path.stem)
@pytest.mark.long
def test_notebooks_run(path, walked):
    """Every code cell in order, in a fresh process; a notebook is kept without outputs."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells), "clear the outputs"
    code = "\n\n".join("".join(cell["source"]) for cell in cells)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          env={"MEDSAE_DATA": str(walked), "PATH": "/usr/bin", "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
