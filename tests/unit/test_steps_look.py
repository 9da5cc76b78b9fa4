"""look: a picture of one's own gives what the cohort's own picture gave; far ones are told; nothing is kept."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsae.config import Look
from medsae.progress import Silent, UserError
from medsae.sae.model import Sae
from medsae.steps import look as step
from medsae.steps.look import Looker, look
from medsae.store.artifacts import Store
from medsae.store.looks import Looks


@pytest.fixture(scope="module")
def study(tmp_path_factory, medsae_at, chexpert_root):
    medsae = medsae_at(tmp_path_factory.mktemp("look"))
    cohort = medsae.id("ingest", "chexpert", "--root", chexpert_root)
    embeddings = medsae.id("embed", "--cohort", cohort, "--encoder", "simclip", "--precision", "fp32")
    sae = medsae.id("train", "--embeddings", embeddings, "--k", 4, "--expansion", 1, "--epochs", 3)
    scores = medsae.id("score", "--sae", sae, "--images", "all", "--draws", 20, "--bootstraps", 20)
    store = Store(medsae.data)
    with store.get(cohort).connect() as connection:
        ((path,),) = connection.execute("SELECT path FROM image WHERE image = 3").fetchall()
    root = store.get(cohort).facts["root"]
    return medsae, store, scores, f"{root}/{path}"


def test_a_picture_of_the_cohort_gives_what_the_scores_hold(study):
    medsae, store, scores, path = study
    status, out, err = medsae("look", path, "--scores", scores, "--json", "--most", 50)
    assert status == 0, err
    found = json.loads(out)
    with store.get(scores).connect() as connection:
        rows = connection.execute("SELECT neuron, value FROM activation WHERE image = 3 AND value > 0").fetchall()
    assert {n["neuron"] for n in found["neurons"]} == {r[0] for r in rows} and found["fires"] == len(rows)
    wanted = dict(rows)
    for n in found["neurons"]:
        assert n["activation"] == pytest.approx(wanted[n["neuron"]], abs=1e-4)
        assert 0 < n["share_of_max"] <= 1 + 1e-5
        assert np.sum(n["map"]) + n["map_constant"] == pytest.approx(n["activation"], abs=1e-3)
    assert found["nearest"][0]["image"] == 3 and found["nearest"][0]["cosine"] == pytest.approx(1, abs=1e-5)
    assert found["distance"]["unlike_training"] is False
    assert path not in out, "where the picture lies is nobody's business"


def test_what_is_no_radiograph_is_told_by_its_distance(study, tmp_path):
    medsae, _, scores, _ = study
    stripes = ((np.indices((256, 256)).sum(0) // 8 % 2) * 255).astype(np.uint8)
    Image.fromarray(stripes).save(tmp_path / "chess.png")
    status, out, err = medsae("look", tmp_path / "chess.png", "--scores", scores, "--json")
    assert status == 0 and json.loads(out)["distance"]["unlike_training"] is True
    assert "unlike anything that the SAE was trained on" in err


@pytest.mark.parametrize("content", [b"", b"<html>no picture</html>"])
def test_what_is_no_picture_is_refused(study, tmp_path, content):
    medsae, _, scores, _ = study
    (tmp_path / "x.jpg").write_bytes(content)
    status, _, err = medsae("look", tmp_path / "x.jpg", "--scores", scores)
    assert status == 2 and "this picture cannot be used" in err


def test_raw_scores_and_their_neurons(study):
    medsae, store, scores, path = study
    raw = medsae.id("score", "--embeddings", store.get(scores).parents["embeddings"], "--representation", "raw",
                    "--images", "all", "--draws", 20, "--bootstraps", 20)  # fmt: skip
    found = Looker(store.get(raw), store, Silent()).look(Path(path).read_bytes(), 5)
    assert len(found["neurons"]) == 5 and found["neurons"][0]["activation"] > 0


def test_the_service_answers_and_keeps_nothing(study, clock, monkeypatch):
    monkeypatch.setattr(step, "time", clock)
    _, store, scores, path = study
    looks = Looks(store.data, scores)
    (looks.folder).mkdir(parents=True, exist_ok=True)
    (looks.folder / "0123456789abcdef.picture").write_bytes(b"left by a service that was killed")
    config = Look(scores=scores, watch=True)
    service = threading.Thread(target=look, args=(config, store, Silent()))
    service.start()
    try:
        end = time.monotonic() + 60
        while looks.state().get("phase") != "ready":
            assert time.monotonic() < end
            time.sleep(0.01)
        assert looks.alive()
        with pytest.raises(UserError, match="runs already"), looks.serving():
            pass
        answers = []
        for data in (Path(path).read_bytes(), b"no picture"):
            token = looks.ask(data)
            while (answer := looks.fetch(token)) is None:
                assert time.monotonic() < end
                time.sleep(0.01)
            answers.append(answer)
    finally:
        clock.ahead = 3600.0
        service.join()
    assert answers[0]["nearest"][0]["image"] == 3 and "cannot be used" in answers[1]["error"]
    assert {p.name for p in looks.folder.iterdir()} == {"lock", "state.json"}
    assert looks.fetch("../../artifacts") is None and not looks.alive()


def test_loaded_maps_have_the_reference_of_the_scores(study):
    _, store, scores, path = study
    looker = Looker(store.get(scores), store, Silent())
    found = {n["neuron"]: n for n in looker.look(Path(path).read_bytes(), 50)["neurons"]}
    with store.get(scores).connect() as connection:
        rows = connection.execute("SELECT neuron, map, scale FROM cell WHERE image = 3").fetchall()
    assert rows
    for neuron, packed, scale in rows:
        kept = np.frombuffer(packed, np.int8).astype(float) * scale
        assert np.abs(np.array(found[neuron]["map"]).ravel() - kept).max() <= scale
    assert isinstance(looker.sae, Sae)
