"""score --ms-embeddings: from the command to the tables, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from medsae import config as c
from medsae.store.artifacts import Store


@pytest.fixture(scope="module")
def two(tmp_path_factory, chexpert_root, medsae_at):
    """(commands, embeddings, embeddings of another encoder that are alike where dimension 2 is large, the same for all
    images but three)."""
    medsae = medsae_at(tmp_path_factory.mktemp("likeness") / "data")
    cohort = medsae.id("ingest", "chexpert", "--root", chexpert_root, "--evaluation-share", 0.4)
    with Store(medsae.data).get(cohort).connect() as connection:
        paths = connection.execute("SELECT path FROM image ORDER BY image").df()["path"]
    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=(len(paths), 6))).astype(np.float32)
    other = rng.normal(size=(len(paths), 10)).astype(np.float32)
    other[x[:, 2] > 0.9] += 4
    folder, made = tmp_path_factory.mktemp("elsewhere"), []
    for name, array, rows in (("own", x, paths), ("other", other, paths), ("some", other[3:], paths[3:])):
        np.save(folder / f"{name}.npy", array)
        pd.DataFrame({"Path": rows}).to_csv(folder / f"{name}.csv", index=False)
        made.append(medsae.id("embed", "--cohort", cohort, "--from", folder / f"{name}.npy", "--rows",
                              folder / f"{name}.csv", "--name", name))  # fmt: skip
    return medsae, *made


def score(medsae, embeddings, *more):
    return medsae("score", "--embeddings", embeddings, "--representation", "raw", "--draws", 20, "--bootstraps", 20,
                  "--images", "all", *more)  # fmt: skip


def table(medsae, id, query):
    with Store(medsae.data).get(id).connect() as connection:
        return connection.execute(query).df()


@pytest.fixture(scope="module")
def scored(two):
    medsae, own, other, _ = two
    status, out, err = score(medsae, own, "--ms-embeddings", other)
    assert status == 0, err
    return out.split()[-1]


def test_the_neuron_whose_images_are_alike_is_told(two, scored):
    found = table(two[0], scored, "SELECT * FROM neuron_measure WHERE measure LIKE 'neuron_ms%'")
    wide = found.pivot(index="neuron", columns="measure", values="value")
    assert wide["neuron_ms"].idxmax() == 2 and wide["neuron_ms_p"][2] == pytest.approx(1 / 21)
    assert wide["neuron_ms"][2] > wide["neuron_ms_null"][2] + 0.05
    summary = table(two[0], scored, "SELECT * FROM summary").set_index("measure")
    assert summary["value"]["ms_score"] == pytest.approx(wide["neuron_ms"].mean())
    assert summary["value"]["null_ms_score"] == pytest.approx(wide["neuron_ms_null"].mean())
    assert "images shuffled between patients" in summary["note"]["null_ms_score"]
    assert summary["value"]["ms_alike_share"] == (wide["neuron_ms_p"] <= 0.05).mean()


def test_the_other_embeddings_are_a_parent(two, scored):
    assert Store(two[0].data).get(scored).parents["ms_embeddings"] == two[2]


def test_without_the_flag_nothing_is_said_and_ids_are_what_they_were(two):
    status, out, err = score(two[0], two[1])
    assert status == 0, err
    plain = out.split()[-1]
    assert "ms_embeddings" not in c.record(c.Score(embeddings="x", representation="raw"))
    summary = table(two[0], plain, "SELECT * FROM summary WHERE measure LIKE '%ms_score%'")
    assert summary["value"].isna().all() and "--ms-embeddings" in summary["note"][0]
    assert table(two[0], plain, "SELECT value FROM neuron_measure WHERE measure = 'neuron_ms'")["value"].isna().all()


def test_its_own_embeddings_are_refused(two):
    status, _, err = score(two[0], two[1], "--ms-embeddings", two[1])
    assert status == 2 and "come from the encoder whose neurons are scored" in err


def test_images_without_a_row_are_counted(two):
    status, _, err = score(two[0], two[1], "--ms-embeddings", two[3])
    assert status == 2 and "3 of" in err and "have no row" in err


def test_embeddings_of_another_cohort_are_refused(two, write_chexpert, tmp_path):
    medsae, own, _, _ = two
    cohort = medsae.id("ingest", "chexpert", "--root", write_chexpert(tmp_path, patients=12, seed=4))
    other = medsae.id("embed", "--cohort", cohort, "--encoder", "simclip")
    status, _, err = score(medsae, own, "--ms-embeddings", other)
    assert status == 2 and "of another cohort" in err
