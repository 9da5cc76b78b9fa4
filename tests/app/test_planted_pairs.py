"""Pairs that differ in one factor, on Compare and beside the AUROC of planted factors."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import medsae
from medsae import config as c
from medsae.progress import UserError
from medsae.store import planted_pairs
from medsae.store.artifacts import Store
from medsae.store.reader import Reader

WHOLE, APART = ["side", "device", "text"], ["side:right", "side:left", "device", "text"]
NEURONS = {"side": 3, "side:right": 3, "side:left": 8, "device": 11}


def _webp() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(out, "WEBP")
    return out.getvalue()


def _frames() -> dict[str, pd.DataFrame]:
    factor = [(parts, name) for parts, names in ((False, WHOLE), (True, APART)) for name in names]
    moved, best, overall, dose = [], [], [], []
    for which, share in (("sae", 0.8), ("untrained", 0.3), ("raw", 0.2), ("random", 0.1)):
        for parts, names in ((False, WHOLE), (True, APART)):
            key = {"representation": which, "parts": parts}
            for name in names:
                if name not in NEURONS:
                    best.append({**key, "factor": name, "reason": "no neuron's change is settled"})
                    continue
                at = {**key, "factor": name, "neuron": NEURONS[name]}
                best.append({**at, "specificity": share + 0.01 * NEURONS[name], "low": 0.05, "high": 0.95, "change": -1.5,
                             "rises": 0.75, "monotone": 1.0})  # fmt: skip
                dose += [{**at, "step": k, "severity": s, "mean": float(k)} for k, s in enumerate((None, 0.2, 0.8))]
                for neuron in set(NEURONS.values()):
                    moved.append({**at, "neuron": neuron, "change": -0.5, "low": -0.9, "high": -0.1,
                                  "specificity": 0.25, "rises": 0.5, "monotone": None})  # fmt: skip
            overall.append({**key, "specificity": share, "low": share - 0.05, "high": share + 0.05,
                            "found": len(names) - 1, "factors": len(names)})  # fmt: skip
    return {
        "factor": pd.DataFrame([{"position": i, "parts": parts, "factor": name, "finding": name.partition(":")[0],
                                 "severities": 2 if "side" in name else 1} for i, (parts, name) in enumerate(factor)]),
        "moved": pd.DataFrame(moved), "best": pd.DataFrame(best), "overall": pd.DataFrame(overall),
        "dose": pd.DataFrame(dose),
        "example": pd.DataFrame([{"factor": name, "image": 4, "severity": s, "webp": _webp()}
                                 for name in APART for s in (None, 0.2, 0.8)]),
    }  # fmt: skip


def write(ids, patients: int = 40, **changed) -> str:
    """Pairs of the synthetic SAE."""
    store = Store()
    sae = store.get(ids.sae)
    config = replace(c.Pairs(sae=sae.id), patients=patients, **changed)
    parents = {"sae": sae.id, "embeddings": sae.parents["embeddings"], "cohort": ids.cohort}
    with store.build("pairs-sae", config, parents) as build:
        with build.database() as connection:
            for name, frame in _frames().items():
                connection.register("frame", frame)
                connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM frame")
                connection.unregister("frame")
        return build.publish({"m": 72, "n": 900, "patients": patients, "factors": 4}).id


@pytest.fixture
def pairs(data, ids):
    return write(ids)


def test_without_pairs_the_command_is_said(app, html, data, ids):
    text = html(app.open("compare", scores=ids.scores))
    assert "No pairs yet" in text and f"python -m medsae pairs --sae {ids.sae}" in text
    text = html(app.open("compare", scores=ids.raw, versus="none"))
    assert "python -m medsae pairs --embeddings" in text


def test_best_neurons_stand_beside_their_rivals_and_the_auroc(app, html, pairs, ids):
    page = app.open("compare", scores=ids.scores)
    text = html(page)
    assert "0.83" in text and "0.33" in text and "0.23" in text and "0.13" in text, "SAE, control, raw, random"
    assert "0.91" in text, "AUROC of the device"
    assert "neuron=3" in text and "no neuron&#x27;s change is settled" in text
    assert text.count("ms-dose") == 2, "no columns for a factor that no neuron follows"
    assert "2 of 3 factors" in text


def test_sides_apart_have_rows_of_their_own(app, html, pairs, ids):
    assert "side, right" not in html(app.open("compare", scores=ids.scores)).split("One factor at a time")[1]
    text = html(app.open("compare", scores=ids.scores, parts=1)).split("One factor at a time")[1]
    assert "side, right" in text and "side, left" in text and "3 of 4 factors" in text


def test_factors_can_be_ordered(app, html, pairs, ids):
    def order(**query):
        text = html(app.open("compare", scores=ids.scores, **query)).split("pairs that follow")[1]
        return sorted(("side", "device", "text"), key=lambda name: text.index(f"<td>{name}</td>"))

    assert order() == ["side", "device", "text"]
    assert order(factors="specific") == ["device", "side", "text"]
    assert order(factors="auroc")[0] == "device"


def test_pictures_of_a_pair_are_shown(app, html, pairs, ids):
    text = html(app.open("compare", scores=ids.scores, pair="side"))
    assert "image 4 without" in text and "with, severity 0.8" in text and text.count("data:image/webp") >= 3


def test_overview_has_the_specificity_beside_the_auroc(app, html, pairs, data, ids):
    assert "pairs: specificity" in html(app.open("overview", scores=ids.scores))


def test_overview_without_pairs_is_as_before(app, html, data, ids):
    assert "pairs: specificity" not in html(app.open("overview", scores=ids.scores))


def test_most_patients_are_taken_and_other_saes_left_alone(data, ids):
    store = Store()
    few, many = write(ids, patients=10), write(ids, patients=40)
    every = store.list()
    assert planted_pairs.of(every, store.get(ids.scores)).id == many != few
    assert planted_pairs.of(every, store.get(ids.raw)).id == many, "raw neurons of the same embeddings"
    assert planted_pairs.of([a for a in every if a.kind != "pairs"], store.get(ids.scores)) is None


def test_a_neuron_says_what_moves_it(app, html, pairs, ids):
    text = html(app.open("neuron", scores=ids.scores, neuron=3))
    assert "What moves it" in text and "-0.50" in text.replace("\u2212", "-") and "25" in text
    assert "Nothing does" in html(app.open("neuron", scores=ids.scores, neuron=70))


def test_a_neuron_without_pairs_says_nothing_of_them(app, html, data, ids):
    assert "What moves it" not in html(app.open("neuron", scores=ids.scores, neuron=3))


def test_a_notebook_has_the_same_table(data, ids):
    with medsae.open(data) as opened:
        with pytest.raises(UserError, match="no pairs were drawn"):
            opened.scores(ids.scores).pairs()
        write(ids)
        frame = opened.scores(ids.scores).pairs()
        assert list(frame.index) == WHOLE and frame["neuron"]["device"] == 11 and frame["untrained"]["side"] == 0.33
        assert list(opened.scores(ids.scores).pairs(parts=True).index) == APART


def test_what_moves_one_neuron(pairs, data):
    reader = Reader()
    found = planted_pairs.of_neuron(reader, Store().get(pairs), "sae", 3)
    assert list(found["factor"]) == ["device", "side"] and (found["change"] == -0.5).all()
    assert planted_pairs.of_neuron(reader, Store().get(pairs), "sae", 70).empty
    reader.close()
