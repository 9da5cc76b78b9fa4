"""`export sae`, `import sae`, `export scores`, `train --untrained` on a small study made elsewhere."""

import json

import numpy as np
import pandas as pd
import pytest

from medsae.sae.model import Sae
from medsae.store.artifacts import Store
from medsae.store.titles import title

D = 12


@pytest.fixture(scope="module")
def study(tmp_path_factory, medsae_at, write_chexpert):
    """(command runner, embeddings id, sae id): random embeddings of a generated cohort whose pictures are not read."""
    folder = tmp_path_factory.mktemp("exchange")
    medsae = medsae_at(folder / "data")
    root = write_chexpert(folder, patients=60)
    cohort = medsae.id("ingest", "chexpert", "--root", root, "--no-pictures")
    with Store(medsae.data).get(cohort).connect() as connection:
        paths = [row[0] for row in connection.execute("SELECT path FROM image ORDER BY image").fetchall()]
    x_nd = np.random.default_rng(0).normal(0.4, 1, (len(paths), D)).astype(np.float32)
    np.save(folder / "x.npy", x_nd)
    pd.DataFrame({"Path": paths}).to_csv(folder / "rows.csv", index=False)
    embeddings = medsae.id("embed", "--cohort", cohort, "--from", folder / "x.npy", "--rows", folder / "rows.csv")
    sae = medsae.id("train", "--embeddings", embeddings, "--kind", "jumprelu", "--expansion", 3, "--epochs", 4)
    return medsae, embeddings, sae, x_nd


def load(medsae, id: str) -> Sae:
    return Sae.load(Store(medsae.data).get(id, "sae").file("sae.safetensors"))


def test_an_sae_goes_out_and_comes_back(study, tmp_path):
    medsae, embeddings, sae, x_nd = study
    medsae.id("export", "sae", sae, "--format", "saelens", "--to", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlicense:") and "Research use only" in card and sae in card
    back = medsae.id("import", "sae", "--format", "saelens", "--from", tmp_path / "out", "--embeddings", embeddings)
    assert np.abs(load(medsae, back).encode(x_nd) - load(medsae, sae).encode(x_nd)).max() < 1e-5
    artifact = Store(medsae.data).get(back, "sae")
    assert artifact.facts["n_train"] is None and artifact.facts["origin"]["format"] == "saelens"
    assert artifact.manifest["command"][3:5] == ["import", "sae"]
    artifacts = Store(medsae.data).list()
    scores = medsae.id("score", "--sae", back, "--draws", 5, "--bootstraps", 5, "--images", "all")
    assert title(artifacts, Store(medsae.data).get(scores)) == "SAE jumprelu × 3 from saelens · all images"
    medsae.id("export", "scores", scores, "--to", tmp_path / "tables")
    tables = {p.stem: pd.read_parquet(p) for p in (tmp_path / "tables").glob("*.parquet")}
    assert {"neuron", "correlation", "activation", "image", "name"} <= set(tables)
    assert len(tables["neuron"]) == 3 * D and set(tables["activation"]["image"]) <= set(tables["image"]["image"])
    status, _, err = medsae("export", "scores", scores, "--to", tmp_path / "tables")
    assert status == 2 and "exists already" in err


def test_another_config_beside_the_same_weights_is_another_sae(study, tmp_path):
    medsae, embeddings, sae, x_nd = study
    folder = tmp_path / "out"
    medsae.id("export", "sae", sae, "--format", "saelens", "--to", folder)
    words = ("import", "sae", "--format", "saelens", "--from", folder, "--embeddings", embeddings)
    first, told = medsae.id(*words), json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(told | {"metadata": {"note": "the same SAE"}}))
    assert medsae.id(*words) == first
    (folder / "cfg.json").write_text(json.dumps(told | {"apply_b_dec_to_input": not told["apply_b_dec_to_input"]}))
    second = medsae.id(*words)
    assert second != first and np.abs(load(medsae, second).encode(x_nd) - load(medsae, first).encode(x_nd)).max() > 0.01


def test_an_sae_of_another_size_is_refused_and_leaves_nothing(study, tmp_path):
    medsae, embeddings, sae, _ = study
    medsae.id("export", "sae", sae, "--format", "saelens", "--to", tmp_path / "out")
    other = tmp_path / "small.npy"
    np.save(other, study[3][:, :5])
    cohort = Store(medsae.data).get(embeddings, "embeddings").parents["cohort"]
    rows = medsae.data.parent / "rows.csv"
    small = medsae.id("embed", "--cohort", cohort, "--from", other, "--rows", rows)
    before = {p.name for p in (medsae.data / "artifacts" / "sae").iterdir()}
    status, _, err = medsae("import", "sae", "--format", "saelens", "--from", tmp_path / "out", "--embeddings", small)
    assert status == 2 and f"takes d = {D}, the embeddings {small} have d = 5" in err
    assert {p.name for p in (medsae.data / "artifacts" / "sae").iterdir()} == before
    status, _, err = medsae("export", "sae", sae, "--format", "sparsify", "--to", tmp_path / "no")
    assert status == 2 and "top-k SAEs alone" in err and not (tmp_path / "no").exists()


def test_the_control_is_an_artifact_beside_the_trained_one(study):
    medsae, embeddings, sae, _ = study
    same = ("train", "--embeddings", embeddings, "--kind", "jumprelu", "--expansion", 3, "--epochs", 4)
    control = medsae.id(*same, "--untrained")
    artifact = Store(medsae.data).get(control, "sae")
    assert control.startswith("untrained-jumprelu-x3-") and artifact.parents["trained"] == sae
    assert artifact.facts["untrained"] is True and artifact.facts["kind"] == "jumprelu"
    scores = medsae.id("score", "--sae", control, "--draws", 5, "--bootstraps", 5, "--images", "all")
    assert title(Store(medsae.data).list(), Store(medsae.data).get(scores)).startswith("untrained SAE jumprelu")
    status, _, err = medsae(*same[:-1], 5, "--untrained")
    assert status == 2 and "is not there" in err and "--epochs 5" in err and "--untrained" not in err
