"""look: a picture of one's own gives what the cohort's own picture gave; far ones are told; nothing is kept."""
# pyright: reportOptionalSubscript=false

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
from medsae.steps import occlusion
from medsae.steps.look import Looker, look
from medsae.store.artifacts import Store
from medsae.store.looks import Looks


@pytest.fixture(scope="module")
def study(tmp_path_factory, medsae_at, chexpert_root):
    medsae = medsae_at(tmp_path_factory.mktemp("look"))
    cohort = medsae.id("ingest", "chexpert", "--root", chexpert_root)
    embeddings = medsae.id("embed", "--cohort", cohort, "--encoder", "simclip", "--precision", "fp32")
    sae = medsae.id("train", "--embeddings", embeddings, "--k", 4, "--expansion", 1, "--epochs", 3)
    scores = medsae.id("score", "--sae", sae, "--images", "all", "--draws", 20, "--bootstraps", 20, "--deletions", 0)
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
                    "--images", "all", "--draws", 20, "--bootstraps", 20, "--deletions", 0, "--labels", "Edema")  # fmt: skip
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
        clock.over = True
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


@pytest.fixture(scope="module")
def of_tokens(study):
    medsae, store, scores, path = study
    cohort = store.get(scores).parents["cohort"]
    embeddings = medsae.id(
        "embed", "--cohort", cohort, "--encoder", "simclip", "--precision", "fp32", "--pool", "tokens"
    )
    sae = medsae.id("train", "--embeddings", embeddings, "--k", 4, "--expansion", 1, "--epochs", 1)
    # A label that nothing follows: what is far out under shuffled labels takes dense neurons long.
    scores = medsae.id("score", "--sae", sae, "--images", "all", "--draws", 10, "--bootstraps", 10,
                       "--labels", "Edema")  # fmt: skip
    return store, scores, path


def test_an_sae_of_tokens_looks_by_its_tokens(of_tokens):
    store, scores, path = of_tokens
    looker = Looker(store.get(scores), store, Silent())
    found = looker.look(Path(path).read_bytes(), 200)
    with store.get(scores).connect() as connection:
        wanted = dict(
            connection.execute("SELECT neuron, value FROM activation WHERE image = 3 AND value > 0").fetchall()
        )
        kept = connection.execute("SELECT neuron, map, scale FROM cell WHERE image = 3").fetchall()
        grid = connection.execute("SELECT * FROM cell_grid").df().to_dict("records")[0]
    assert {n["neuron"] for n in found["neurons"]} == set(wanted) and kept
    maps = {n["neuron"]: np.array(n["map"]) for n in found["neurons"]}
    for n in found["neurons"]:
        assert n["activation"] == pytest.approx(wanted[n["neuron"]], abs=5e-3)
        assert maps[n["neuron"]].max() == pytest.approx(n["activation"], abs=1e-4), "the largest of its tokens"
    for neuron, packed, scale in kept:
        assert np.abs(maps[neuron].ravel() - np.frombuffer(packed, np.int8).astype(float) * scale).max() <= scale + 5e-3
    assert found["grid"] == grid and found["no_maps"] == "" and found["nearest"][0]["image"] == 3
    again = looker.maps_of(3, [kept[0][0]])["maps"][kept[0][0]]["map"]
    assert np.abs(np.array(again) - maps[kept[0][0]]).max() < 5e-3


def test_without_an_exact_map_there_is_one_by_occlusion_when_asked(study, monkeypatch):
    from medsae.encoders import cells

    _, store, scores, path = study
    exact = Looker(store.get(scores), store, Silent())
    monkeypatch.setattr(cells, "of", lambda encoder: None)
    looker, data = Looker(store.get(scores), store, Silent()), Path(path).read_bytes()
    plain = looker.look(data, 3)
    assert plain["grid"] is None and plain["neurons"][0]["map"] is None and "no sum over cells" in plain["no_maps"]
    passes: list[int] = []
    looker.passed = passes.append
    found = looker.look(data, 3, occlude=True)
    assert sum(passes) == occlusion.PASSES == 65 and len(passes) > 1
    assert found["grid"]["rows"] == 8 and "approximate" in found["grid"]["how"] and found["no_maps"] == ""
    for n in found["neurons"]:
        assert np.sum(n["map"]) + n["map_constant"] == pytest.approx(n["activation"], abs=1e-2)
    # The app asks of the cohort's own picture, with exact maps where there are such.
    numbers = [n["neuron"] for n in found["neurons"]]
    own, by_cells = (lk.maps_of(3, numbers, occlude=True) for lk in (looker, exact))
    assert np.abs(np.subtract(own["maps"][numbers[0]]["map"], found["neurons"][0]["map"])).max() < 1e-4
    assert "exact" in by_cells["grid"]["how"] and set(by_cells["maps"]) == set(numbers)
    assert looker._losses.keys() == {3}, "held for the next neuron"
    assert looker.maps_of(3, numbers)["grid"] is None, "not without being asked"


def test_how_far_an_occlusion_is_stands_in_the_state(tmp_path):
    looks = Looks(tmp_path, "scores")
    looks.folder.mkdir(parents=True)
    counted = step._Counted(looks)
    counted(16)
    counted(16)
    assert looks.state() == {"phase": "ready", "passes": 32, "of": 65}
    counted(33)
    assert looks.state() == {"phase": "ready"}


def test_questions_about_the_cohort(study):
    _, store, scores, _ = study
    looker = Looker(store.get(scores), store, Silent())
    found = looker.answer({"image": 3, "neurons": [0, 5]}, b"", 20)
    assert set(found["maps"]) == {0, 5} and np.array(found["maps"][5]["map"]).shape == (8, 8)
    with pytest.raises(UserError, match="is not here"):
        looker.answer({"image": 10**6, "neurons": [0]}, b"", 20)
    with pytest.raises(UserError, match="numbered"):
        looker.answer({"image": 3, "neurons": [10**6]}, b"", 20)


def test_a_question_that_is_none_asks_nothing(tmp_path):
    looks = Looks(tmp_path, "scores")
    token = looks.ask(b"bytes\nof a picture", image=3, neurons=[1])
    assert looks.take() == (token, {"image": 3, "neurons": [1]}, b"bytes\nof a picture")
    (looks.folder / "0123456789abcdef.picture").write_bytes(b"no json\nrest")
    assert looks.take() == ("0123456789abcdef", {}, b"rest") and looks.take() is None
