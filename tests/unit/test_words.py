"""The text lens: cosines, random directions, terms that an encoder cannot tell apart, vocabularies, search."""

import json

import numpy as np
import pandas as pd
import pytest

from medsae.naming import vocabulary
from medsae.naming.backends import Picture, Question
from medsae.naming.backends.vocabulary import Vocabulary
from medsae.progress import UserError
from medsae.scoring import words
from medsae.store import words as stored


def test_by_hand():
    term = np.array([[1.0, 0, 0], [0, 2.0, 0]])
    row = np.array([[3.0, 4.0, 0], [0, 0, 1.0], [0, 0, 0]])
    x = np.random.default_rng(0).normal(size=(500, 3))
    found = words.lens(row, term, x, 0)
    assert found.cosine_mt == pytest.approx(np.array([[0.6, 0.8], [0, 0], [0, 0]]))
    assert np.isnan(found.p_m[2]) and found.p_m[1] > 0.7, "a direction across all terms is near none"
    # On a sphere in three dimensions a coordinate is uniform: 95 % lie below 0.9.
    assert found.null_high_t == pytest.approx([0.9, 0.9], abs=0.03)


def test_the_null_has_the_embeddings_spread():
    """Embeddings that spread along one term: random directions are near it, so a neuron there is nothing special."""
    rng = np.random.default_rng(1)
    term, row = np.eye(6)[:2], np.eye(6)[:1]
    round_, long = rng.normal(size=(800, 6)), rng.normal(size=(800, 6)) * [8, 1, 1, 1, 1, 1]
    assert words.lens(row, term, round_, 0).p_m[0] < 0.01 < 0.005 + words.lens(row, term, long, 0).null_high_t[0] - 0.9
    p = [words.lens(rng.normal(size=(1, 6)), term, round_, seed).p_m[0] for seed in range(60)]
    assert 0.3 < np.mean(p) < 0.7, "a random direction has a p that is uniform"


def test_terms_that_are_one_to_the_encoder():
    term = np.array([[1.0, 0], [1.0, 1e-4], [0, 1.0], [2.0, 0]])
    assert words.told_apart(term).tolist() == [0, 2]


def test_the_shipped_vocabulary():
    terms = vocabulary.read(None)
    assert len(terms) > 180 and {t.kind for t in terms} == {"finding", "device", "position", "artefact"}
    assert len({t.text.lower() for t in terms}) == len(terms)
    assert "CC0" in vocabulary.SHIPPED.read_text()


def test_a_vocabulary_of_ones_own(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("# mine\nspot\ndevice\ttube\n\n  Spot \n")
    assert vocabulary.read(path) == [vocabulary.Term("own", "spot"), vocabulary.Term("device", "tube")]
    before = vocabulary.stamp(path)
    path.write_text("spot\n")
    assert before.startswith("own.txt ") and vocabulary.stamp(path) != before
    path.write_text("# nothing\n\n")
    with pytest.raises(UserError, match="no term"):
        vocabulary.read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        vocabulary.read(path)
    with pytest.raises(UserError, match="cannot be read"):
        vocabulary.stamp(tmp_path / "missing.txt")


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("fluid on the left", "left pleural effusion"),
        ("Effusion", "pleural effusion"),
        ("air, right", "right pneumothorax"),
        ("big heart", "enlarged heart"),
        ("broken rib", "rib fracture"),
        ("xyzzy", None),
        ("", None),
    ],
)
def test_everyday_words_find_terms(text, first):
    known = pd.DataFrame({"term": [t.text for t in vocabulary.read(None)]})
    known["position"] = range(len(known))
    found = stored.meant(known, text)
    assert (known["term"][found[0]] if found else None) == first


def question(task, concept="", images=(1,)):
    pictures = tuple(Picture(i, f"{i}") for i in images)
    return Question(task, pictures, "", "", None, 10, 7, concept)


def test_the_vocabulary_names_and_judges():
    terms = {7: [("left pneumothorax", 0.9), ("pneumothorax", 0.6)], 8: []}
    backend = Vocabulary(terms.__getitem__, lambda image, term: None if term == "odd" else image % 2 == 1)
    named = json.loads(backend.ask([question("explain")])[0].text)
    assert named["concept"] == "left pneumothorax" and "pneumothorax 0.60" in named["description"]
    replies = backend.ask([question("judge", "x", (1,)), question("judge", "x", (2,)), question("judge", "odd")])
    assert [(r.status, r.text) for r in replies] == [("ok", "Yes"), ("ok", "No"), ("not stated", "")]
    assert backend.ask([question("judge many", "x", (1, 2, 3))])[0].text == "[1, 0, 1]"
    assert not backend.is_model and backend.by_neuron


def test_an_encoder_without_text_is_a_reason_that_says_which_have_one(monkeypatch):
    from medsae.progress import Silent, UserError
    from medsae.steps import words as step

    def none(*_):
        raise UserError("efficientnet-lite0 has no text tower", do="CLIP has one")

    monkeypatch.setattr(step, "text_tower", none)
    made = step.at_score(None, np.zeros((2, 3)), np.zeros((4, 3)), (None, 0), None, Silent())  # pyright: ignore
    assert made.why == "efficientnet-lite0 has no text tower (CLIP has one)" and not made.tables
