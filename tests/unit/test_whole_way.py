"""From a folder of radiographs to scores: on generated pictures always, on real ones where they are."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from medsae.store.artifacts import Store


@pytest.fixture(scope="module")
def walked(tmp_path_factory, chexpert_root, medsae_at):
    """Both ways on generated pictures: an encoder, and embeddings made elsewhere."""
    medsae = medsae_at(tmp_path_factory.mktemp("walked") / "data")
    cohort = medsae.id("ingest", "chexpert", "--root", chexpert_root, "--evaluation-share", 0.4)
    store = Store(medsae.data)
    with store.get(cohort).connect() as connection:
        images = connection.execute("SELECT image, path FROM image ORDER BY image").df()
        effusion = connection.execute(
            "SELECT value FROM label WHERE label = 'Pleural Effusion' ORDER BY image"
        ).df()["value"].to_numpy(float)  # fmt: skip
    generator = np.random.default_rng(1)
    x = generator.normal(size=(len(images), 12)).astype(np.float32)
    x[:, 3] += 2 * effusion
    folder = tmp_path_factory.mktemp("elsewhere")
    np.save(folder / "x.npy", x)
    order = generator.permutation(len(images))
    np.save(folder / "x.npy", x[order])
    pd.DataFrame({"Path": images["path"].to_numpy()[order]}).to_csv(folder / "rows.csv", index=False)
    embeddings = medsae.id(
        "embed", "--cohort", cohort, "--from", folder / "x.npy", "--rows", folder / "rows.csv", "--name", "planted"
    )
    sae = medsae.id("train", "--embeddings", embeddings, "--expansion", 2, "--epochs", 5, "--l1", 1e-2, "--lr", 1e-2)
    raw = medsae.id("score", "--embeddings", embeddings, "--representation", "raw")
    scores = medsae.id("score", "--sae", sae)
    return dict(medsae=medsae, store=store, cohort=cohort, embeddings=embeddings, sae=sae, raw=raw, scores=scores,
                x=x, effusion=effusion, images=images)  # fmt: skip


def rows(walked, which, query):
    with walked["store"].get(walked[which]).connect() as connection:
        return connection.execute(query).df()


def test_embeddings_made_elsewhere_are_matched_by_path_not_by_order(walked):
    artifact = walked["store"].get(walked["embeddings"])
    np.testing.assert_array_equal(np.load(artifact.file("x.npy")), walked["x"])


def test_the_planted_direction_is_found_with_its_sign_and_size(walked):
    scored = rows(walked, "raw", "SELECT image FROM scored ORDER BY image")["image"].to_numpy()
    expected = np.corrcoef(walked["x"][scored, 3], walked["effusion"][scored])[0, 1]
    found = rows(walked, "raw", "SELECT rho, n FROM correlation WHERE neuron = 3 AND label = 'Pleural Effusion'")
    assert found["rho"][0] == pytest.approx(expected, abs=1e-5) and found["n"][0] == len(scored)
    best = rows(walked, "raw", "SELECT best_neuron_rho FROM label_summary WHERE label = 'Pleural Effusion'")
    assert best["best_neuron_rho"][0] == 3


def test_only_evaluation_patients_are_scored_and_none_of_them_was_trained_on(walked):
    images = rows(walked, "cohort", "SELECT image, patient, split, evaluation FROM image")
    scored = set(rows(walked, "scores", "SELECT image FROM scored")["image"])
    assert scored == set(images["image"][images["evaluation"]])
    trained = set(images["patient"][images["split"] == "train"])
    assert not trained & set(images["patient"][images["image"].isin(scored)])


def test_unknown_labels_are_null_with_a_reason(walked):
    undefined = rows(walked, "scores", "SELECT rho, reason FROM correlation WHERE label = 'Fracture'")
    assert undefined["rho"].isna().all() and undefined["reason"].notna().all()


def test_activations_of_an_sae_are_all_its_non_zeros_in_order(walked):
    from medsae.sae.model import Sae

    scored = rows(walked, "scores", "SELECT image FROM scored ORDER BY image")["image"].to_numpy()
    sae = Sae.load(walked["store"].get(walked["sae"]).file("sae.safetensors"))
    z = np.asarray(sae.encode(walked["x"][scored]))
    table = rows(walked, "scores", "SELECT neuron, image, value FROM activation")
    assert len(table) == (z != 0).sum()
    position = {image: i for i, image in enumerate(scored)}
    got = np.zeros_like(z)
    got[[position[i] for i in table["image"]], table["neuron"]] = table["value"]
    np.testing.assert_allclose(got, z, atol=1e-6)
    assert table.equals(table.sort_values(["neuron", "value"], ascending=[True, False], kind="stable"))


def test_asking_again_does_nothing_and_list_and_show_tell_all(walked):
    medsae = walked["medsae"]
    status, out, err = medsae("score", "--sae", walked["sae"])
    assert status == 0 and out.strip() == walked["scores"] and "already there" in err
    listed = json.loads(medsae("list", "--json")[1])
    assert {a["id"] for a in listed} == {walked[k] for k in ("cohort", "embeddings", "sae", "raw", "scores")}
    status, out, _ = medsae("show", walked["sae"], "--json")
    shown = json.loads(out)
    assert status == 0 and shown["parents"] == {"embeddings": walked["embeddings"]}
    assert "sae.safetensors" in shown["files"] and shown["command"][:4] == ["python", "-m", "medsae", "train"]


def test_a_damaged_sae_stops_the_next_step_with_its_name(walked, tmp_path, medsae_at):
    copy = medsae_at(tmp_path / "copy")
    shutil.copytree(walked["medsae"].data, copy.data)
    [weights] = copy.data.glob("artifacts/sae/*/sae.safetensors")
    data = bytearray(weights.read_bytes())
    data[-5] ^= 0xFF
    weights.write_bytes(data)
    status, out, err = copy("score", "--sae", walked["sae"], "--images", "all")
    assert status == 2 and out == "" and "damaged" in err
    assert len(list((copy.data / "artifacts" / "scores").iterdir())) == 2


@pytest.mark.parametrize("words, message", [
    (["ingest", "chexpert", "--root", "no-such-folder"], "no-such-folder"),
    (["embed", "--cohort", "nothing", "--encoder", "efficientnet-lite0"], "no cohort"),
    (["train", "--embeddings", "nothing"], "no embeddings"),
    (["score", "--sae", "nothing"], "no sae"),
    (["show", "nothing"], "no artifact"),
])  # fmt: skip
def test_bad_input_says_what_and_exits_with_2(medsae, words, message):
    status, out, err = medsae(*words)
    assert status == 2 and out == "" and message in err and "what to do" in err
    assert not list(medsae.data.glob("artifacts/*/[!.]*"))


def test_all_pictures_missing_fails_with_the_reasons(medsae, chexpert_root, tmp_path):
    root = tmp_path / "tables-only"
    root.mkdir()
    for name in ("train.csv", "valid.csv"):
        shutil.copy(chexpert_root / name, root / name)
    status, _, err = medsae("ingest", "chexpert", "--root", root)
    assert status == 2 and "what to do" in err
    assert not list(medsae.data.glob("artifacts/cohort/[!.]*"))


def test_refused_pictures_are_kept_with_their_reason_and_the_rest_goes_on(medsae, chexpert_root, tmp_path):
    root = tmp_path / chexpert_root.name
    shutil.copytree(chexpert_root, root)
    pictures = sorted(root.glob("train/*/*/*.jpg"))
    pictures[0].write_bytes(b"<html>not found</html>")
    pictures[1].write_bytes(pictures[1].read_bytes()[:300])
    pictures[2].unlink()
    cohort = medsae.id("ingest", "chexpert", "--root", root)
    with Store(medsae.data).get(cohort).connect() as connection:
        refused = connection.execute("SELECT path, reason FROM refused").fetchall()
        images = connection.execute("SELECT image FROM image ORDER BY image").df()["image"]
        thumbnails = connection.execute(
            "SELECT count(DISTINCT image), min(image), max(image) FROM thumbnail"
        ).fetchone()
        labels = connection.execute("SELECT count(*) FROM label").fetchone()
    assert len(refused) == 3 and all(reason for _, reason in refused)
    assert images.tolist() == list(range(87)) and thumbnails == (87, 0, 86) and labels == (87 * 14,)


def test_embeddings_with_nan_or_another_row_count_are_refused(medsae, walked, tmp_path):
    source = walked["medsae"]
    bad = walked["x"].copy()
    bad[5, 2] = np.nan
    np.save(tmp_path / "nan.npy", bad)
    np.save(tmp_path / "short.npy", bad[:-1])
    pd.DataFrame({"Path": walked["images"]["path"]}).to_csv(tmp_path / "rows.csv", index=False)
    for name, message in (("nan.npy", "NaN"), ("short.npy", "rows")):
        status, _, err = source(
            "embed", "--cohort", walked["cohort"], "--from", tmp_path / name, "--rows", tmp_path / "rows.csv"
        )
        assert status == 2 and message in err


def sha256(medsae, id, name):
    return Store(medsae.data).get(id).manifest["files"][name]["sha256"]


@pytest.mark.long
def test_a_killed_embed_ends_as_if_undisturbed(tmp_path, medsae_at, write_chexpert):
    """kill -9, then the same command: the same bytes as an undisturbed run."""
    killed, calm = medsae_at(tmp_path / "killed"), medsae_at(tmp_path / "calm")
    root = write_chexpert(tmp_path, patients=14)
    ingest = ["ingest", "chexpert", "--root", root]
    cohort = killed.id(*ingest)
    assert calm.id(*ingest) == cohort
    embed = ["embed", "--cohort", cohort, "--encoder", "efficientnet-lite0", "--precision", "fp32", "--batch", 4]
    building = killed.data / "artifacts" / "embeddings"
    assert killed.kill_when(embed, lambda: any(building.glob(".building-*/.shards/plan.json"))) == -9
    # The layout is measured once a machine: both are to use what one of them measured.
    shutil.copytree(killed.data / "cache/encoders", calm.data / "cache/encoders")
    ids = [killed.id(*embed), calm.id(*embed)]
    assert ids[0] == ids[1] and sha256(killed, ids[0], "x.npy") == sha256(calm, ids[1], "x.npy")


@pytest.mark.long
def test_a_killed_training_ends_as_if_undisturbed(walked, tmp_path, medsae_at):
    killed, calm = medsae_at(tmp_path / "killed"), medsae_at(tmp_path / "calm")
    for one in (killed, calm):
        shutil.copytree(walked["medsae"].data, one.data)
    train = [
        "train",
        "--embeddings",
        walked["embeddings"],
        "--expansion",
        4,
        "--k",
        4,
        "--epochs",
        400,
        "--device",
        "cpu",
    ]
    saes = killed.data / "artifacts" / "sae"

    def begun():
        return any(len(p.read_text().splitlines()) > 5 for p in saes.glob(".building-*/.shards/history.jsonl"))

    assert killed.kill_when(train, begun) == -9
    ids = [killed.id(*train), calm.id(*train)]
    assert ids[0] == ids[1] and sha256(killed, ids[0], "sae.safetensors") == sha256(calm, ids[1], "sae.safetensors")


@pytest.mark.long
def test_real_radiographs_walk_the_whole_way(real_cxr, medsae, tmp_path):
    """A subset of the real folder, the shipped encoder, an SAE, scores of both."""
    root = tmp_path / "cxr"
    root.mkdir()
    for name in ("train.csv", "valid.csv"):
        table = pd.read_csv(real_cxr / name, dtype=str).head(40)
        table.to_csv(root / name, index=False)
        for path in table["Path"]:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(real_cxr / path, root / path)
    cohort = medsae.id("ingest", "chexpert", "--root", root, "--evaluation-share", 0.4)
    embeddings = medsae.id("embed", "--cohort", cohort, "--encoder", "efficientnet-lite0", "--precision", "fp32")
    sae = medsae.id("train", "--embeddings", embeddings, "--k", 8, "--expansion", 1, "--epochs", 5)
    for words in (["--embeddings", embeddings, "--representation", "raw"], ["--sae", sae]):
        scores = Store(medsae.data).get(medsae.id("score", *words, "--draws", 20, "--bootstraps", 20))
        with scores.connect() as connection:
            defined = connection.execute("SELECT count(*) FROM neuron WHERE entropy IS NOT NULL").fetchone()
            mean = connection.execute(
                "SELECT value, low, high, n FROM summary WHERE measure = 'mean_entropy'"
            ).fetchone()
        assert defined and mean and mean[3] == defined[0] > 50
        assert 0 < mean[1] <= mean[0] <= mean[2] < np.log2(14)


@pytest.mark.long
def test_a_sweep_ends_as_training_alone_and_marks_the_best(walked, tmp_path, medsae_at):
    together, alone = medsae_at(tmp_path / "together"), medsae_at(tmp_path / "alone")
    for one in (together, alone):
        shutil.copytree(walked["medsae"].data, one.data)
    train = [
        "train",
        "--embeddings",
        walked["embeddings"],
        "--expansion",
        2,
        "--epochs",
        3,
        "--lr",
        1e-2,
        "--device",
        "cpu",
    ]
    status, out, err = together(*train, "--sweep", "l1=1e-3,1e-1", "--json")
    result = json.loads(out)
    assert status == 0 and len(result["sweep"]) == 2 and "entropy" in err
    assert [row["swept"] for row in result["sweep"]] == [{"l1": 1e-3}, {"l1": 1e-1}]
    assert "l1 0.001" in err and "l1 0.1 " in err
    assert result["id"] == min(result["sweep"], key=lambda row: row["mean_entropy"])["id"]
    single = alone.id(*train, "--l1", 1e-1)
    assert single in {row["id"] for row in result["sweep"]}
    assert sha256(alone, single, "sae.safetensors") == sha256(together, single, "sae.safetensors")
    status, _, err = together(*train, "--sweep", "l1=a")
    assert status == 2 and "--sweep" in err


def test_a_training_that_was_too_short_says_so(walked):
    status, _, said = walked["medsae"]("train", "--embeddings", walked["embeddings"], "--expansion", 16, "--epochs", 1,
                                       "--l1", 0, "--lr", 1e-7)  # fmt: skip
    assert status == 0 and "the reconstruction is worse than the mean image" in said and "--epochs" in said
    assert "of 192 neurons active an image, FVE -" in said


def test_an_sae_matched_with_itself_is_stable(walked):
    scores = walked["medsae"].id(
        "score", "--sae", walked["sae"], "--versus", walked["sae"], "--draws", 5, "--bootstraps", 5
    )
    with walked["store"].get(scores).connect() as connection:
        assert connection.execute("SELECT count(*) FROM match WHERE neuron <> other").fetchone() == (0,)
        measures = dict(
            connection.execute("SELECT measure, value FROM summary WHERE measure LIKE '%stability'").fetchall()
        )
    assert measures["stability"] == pytest.approx(1, abs=1e-5) and measures["random_stability"] < 0.9
