"""Maps by occlusion of encoders that pool by a CLS token or by attention: the architectures of RAD-DINO (DINOv2), MedSigLIP
and CLIP with random weights, loaded, embedded and scored as the published ones are; what is kept, and what is said of it."""
# pyright: reportOptionalSubscript=false, reportAttributeAccessIssue=false

import json

import numpy as np
import pytest
from PIL import Image

from medsae.encoders import cells
from medsae.progress import Silent
from medsae.sae.model import Sae
from medsae.steps import deletion, eyes, occlusion, squares
from medsae.steps.look import Looker
from medsae.store import maps
from medsae.store.artifacts import Store
from medsae.store.reader import Reader
from tests.fixtures.hf_towers import FULL, made
from tests.fixtures.spots import rsna

POOLED = {"dinov2": "cls", "siglip": "pooler", "clip": "projected"}
"""Tower -> what is taken of it: the CLS token (RAD-DINO), attention over all tokens (MedSigLIP), a projected CLS token."""
PICTURES = 4 if FULL else 72
FEW = ("--images", "all", "--draws", 10, "--bootstraps", 10, "--labels", "Lung Opacity")


@pytest.fixture(scope="module", autouse=True)
def strong_enough():
    """So few pictures count as many, so that the strongest of a neuron are tried by deletion."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deletion, "ONE_OF", 6)
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory, medsae_at):
    """A publisher's folder with bright spots in boxes."""
    home = tmp_path_factory.mktemp("occlusion")
    rsna(home / "rsna", PICTURES)
    medsae = medsae_at(home)
    return medsae, medsae.id("ingest", "rsna", "--root", home / "rsna"), home


@pytest.fixture(scope="module")
def study(world):
    """Tower -> the command line, and the embeddings of that folder by it."""
    medsae, cohort, home = world

    def of(name):
        folder = home / name
        if not folder.exists():
            made(name, folder)
        words = ("--encoder", f"hf:{folder}", "--precision", "fp32", "--pool", POOLED[name])
        return medsae, medsae.id("embed", "--cohort", cohort, *words)

    return of


@pytest.fixture(scope="module")
def kept(study):
    """Scores of the DINOv2 tower's CLS token with maps by occlusion."""
    medsae, embeddings = study("dinov2")
    return Store(medsae.data).get(
        medsae.id("score", "--embeddings", embeddings, "--representation", "raw", *FEW, "--occlude", "--deletions", 2)
    )


@pytest.mark.parametrize("name", list(POOLED))
def test_a_cell_loses_what_the_network_loses_with_its_square(study, name):
    medsae, embeddings = study(name)
    store = Store(medsae.data)
    artifact = store.get(embeddings)
    encoder = eyes.encoder_of(artifact, store, Silent())
    assert cells.of(encoder) is None, "no sum over cells: a CLS token, or attention pooling"
    eye = occlusion.Occluded.of(encoder, artifact, store.get(artifact.parents["cohort"]))
    picture = eyes.pictures_of(store.get(artifact.parents["cohort"]))[0]
    parts, constant = eye.parts([picture])
    x_nd = np.load(artifact.file("x.npy"))
    largest = np.abs(x_nd).max()
    assert np.abs(parts[0].sum(0) + constant[0] - x_nd[0]).max() < 1e-5 * largest * 64
    # Row 2, column 5, by hand: its centre at 2.5 and 5.5 eighths of the picture, half as far again to each side.
    edited, side = picture.copy(), len(picture)
    top, left, wide = side * 1.5 / 8, side * 4.5 / 8, side / 4
    square = np.s_[round(top) : round(top + wide), round(left) : round(left + wide)]
    fill = np.asarray(
        Image.fromarray(eye.occluder.mean.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    )
    edited[square] = np.round(fill[square])
    lost = squares.embedded(encoder, [picture], False)[0] - squares.embedded(encoder, [edited], False)[0]
    assert np.abs(lost).max() > 1e-4 * largest
    assert np.abs(parts[0].reshape(8, 8, -1)[2, 5] - lost).max() < 1e-5 * largest


@pytest.mark.skipif(FULL, reason="four pictures make no statistic")
def test_scores_keep_approximate_maps_and_judge_them(kept):
    scores = kept
    assert scores.facts["maps"] == "occlusion" and maps.missing(scores) == "" and maps.approximate(scores)
    reader = Reader()
    grid = maps.grid(reader, scores)
    assert grid.approximate and (grid.rows, grid.columns) == (8, 8)
    assert "cell_average" not in scores.manifest["files"] and maps.average(reader, scores, 0) is None
    rows = reader.query(
        "SELECT neuron, image, value FROM {s}.cell JOIN {s}.activation USING (neuron, image) WHERE neuron = 3", s=scores
    )
    found = maps.of_neuron(reader, scores, 3)
    assert set(rows["image"]) == set(found) and 0 < len(found) <= 25
    for _, image, value in rows.itertuples(index=False):
        map_c, constant = found[int(image)]
        assert map_c.sum() + constant == pytest.approx(value, abs=float(64 * np.abs(map_c).max() / 127) + 1e-4)
    judged = maps.localisation(reader, scores)
    raw = judged[judged["representation"] == "raw"].iloc[0]
    assert raw["finding"] == "Lung Opacity" and raw["n"] >= 15
    assert raw["hit"] > raw["exchanged"] + 0.2 and raw["p"] < 0.05, "what is replaced where the spot is, is missed"
    told = reader.query("SELECT * FROM {s}.deletion", s=scores)
    assert len(told) and told["n"].max() > 0


@pytest.mark.skipif(FULL, reason="small ones say the same")
def test_without_being_asked_nothing_is_kept_and_what_would_give_it_is_said(study, kept):
    medsae, embeddings = study("dinov2")
    status, out, err = medsae("score", "--embeddings", embeddings, "--representation", "raw", *FEW, "--deletions", 0,
                              "--json")  # fmt: skip
    assert status == 0
    facts = json.loads(out)["facts"]
    assert "no sum over cells" in facts["maps"] and "score --occlude keeps approximate ones" in err
    # The service answers nevertheless, when asked: the same map as the scores with --occlude keep.
    store = Store(medsae.data)
    image, (map_c, constant) = next(iter(maps.of_neuron(Reader(), kept, 3).items()))
    made_now = Looker(store.get(json.loads(out)["id"]), store, Silent()).maps_of(image, [3], occlude=True)
    assert "approximate" in made_now["grid"]["how"]
    assert np.abs(np.array(made_now["maps"][3]["map"]).ravel() - map_c).max() < np.abs(map_c).max() / 100 + 1e-5
    assert made_now["maps"][3]["constant"] == pytest.approx(constant, abs=1e-3)


@pytest.mark.long
@pytest.mark.skipif(FULL, reason="small ones say the same")
def test_of_tokens_of_such_a_tower_nothing_is_replaced_for_a_map_but_maps_are_tested_by_deletion(study):
    medsae, whole = study("dinov2")
    store = Store(medsae.data)
    cohort, encoder = store.get(whole).parents["cohort"], store.get(whole).manifest["command"]
    name = encoder[encoder.index("--encoder") + 1]
    embeddings = medsae.id("embed", "--cohort", cohort, "--encoder", name, "--precision", "fp32", "--pool", "tokens",
                           "--no-crop")  # fmt: skip
    sae = medsae.id("train", "--embeddings", embeddings, "--k", 4, "--expansion", 2, "--epochs", 2)
    scores = store.get(medsae.id("score", "--sae", sae, *FEW, "--deletions", 6))  # fmt: skip
    reader = Reader()
    assert scores.facts["maps"] == "exact" and not maps.grid(reader, scores).approximate
    told = reader.query("SELECT * FROM {s}.deletion", s=scores)
    assert len(told) >= 2 and {int(n) for n in told["neuron"]} <= set(
        range(Sae.load(store.get(sae).file("sae.safetensors")).m)
    )
    summary = reader.query("SELECT * FROM {s}.summary WHERE measure LIKE 'deletion%'", s=scores).set_index("measure")
    assert set(summary.index) == {"deletion_fall", "deletion_other", "deletion_random", "deletion_minus_other"}
