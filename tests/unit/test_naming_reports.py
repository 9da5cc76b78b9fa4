"""Reports as evidence: enriched phrases by hand and in a world of planted sentences, negation, names by reports."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsae import config as c
from medsae import reports
from medsae.progress import Silent, UserError
from medsae.steps.naming import name
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
import naming_world as nw


@pytest.mark.parametrize(("text", "phrase", "said"), [
    ("There is a small left pleural effusion.", "pleural effusion", True),
    ("No pleural effusion or pneumothorax.", "pleural effusion", False),
    ("No pneumothorax. Pleural effusion on the left.", "pleural effusion", True),
    ("Lungs are clear without focal consolidation, but pleural effusion remains.", "pleural effusion", True),
    ("Lungs are clear without focal consolidation, but pleural effusion remains.", "focal consolidation", False),
    ("Effusion, pleural", "pleural effusion", False), ("PLEURAL EFFUSION", "pleural effusion", True),
    ("sin derrame pleural", "derrame pleural", False), ("derrame pleural derecho", "derrame pleural", True),
    ("Kein Erguss", "erguss", False), ("", "effusion", None), ("12.5 / 3", "effusion", None),
])  # fmt: skip
def test_what_a_report_says(text, phrase, said):
    assert reports.says(text, phrase) is said
    assert reports.bit(None, phrase) is None


def test_enriched_by_hand():
    """ "device" stands in 8 of 10 firing and 1 of 20 other texts, "lungs" in all: only the first is enriched."""
    firing = ["Pacemaker device. Lungs clear."] * 8 + ["Lungs clear."] * 2
    others = ["Lungs clear."] * 19 + ["Pacemaker device. Lungs clear."]
    found = reports.enriched(firing + others, [True] * 10 + [False] * 20)
    assert found[0].text == "pacemaker device" and (found[0].firing, found[0].others) == (8, 1)
    assert found[0].q < 0.05 and found[0].log_odds > 0 and not any("lungs" in p.text for p in found if p.q < 0.05)
    prior = 10 * 9 / 31
    odds = np.log((8 + prior) / (20 - 8 - prior)) - np.log((1 + prior) / (30 - 1 - prior))
    assert found[0].log_odds == pytest.approx(odds)
    assert found[0].z == pytest.approx(odds / np.sqrt(1 / (8 + prior) + 1 / (1 + prior)))
    assert reports.enriched(firing, [True] * 10) == [] and reports.enriched([], []) == []


def test_under_no_connection_hardly_a_phrase_is_called():
    rng, called = np.random.default_rng(0), 0
    words = np.array([f"{a}{b}" for a in "bcdfghklmn" for b in ("ab", "ed", "ig", "og", "um")])
    for _ in range(60):
        texts = [" ".join(rng.choice(words, 12)) for _ in range(80)]
        called += any(p.q <= 0.05 for p in reports.enriched(texts, [i < 25 for i in range(80)]))
    assert called / 60 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 60)


def test_sentences_and_languages():
    text = "No effusion on the right. Small effusion on the left.\nHeart normal."
    assert reports.sentences(text, "effusion") == ["Small effusion on the left."]
    assert reports.language(["The heart is normal and there is no effusion."]) == "english"
    assert reports.language(["derrame pleural derecho con cardiomegalia"]) == "other" and reports.language([]) == "none"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Every factor has its sentence; where it is absent half of the reports deny it. A report in nine is missing."""
    made = nw.build(tmp_path_factory.mktemp("world"), images=400, neurons=4, null=1, share=0.5)
    rng = np.random.default_rng(0)
    texts = []
    for truth in made.truth_nk:
        parts = [f"There is {f.lower()} on the left." if here else f"No {f.lower()} is seen." if rng.random() < 0.5 else ""
                 for f, here in zip(nw.FACTORS, truth, strict=True)]  # fmt: skip
        texts.append(" ".join([*parts, "The heart is of normal size."]) if rng.random() > 1 / 9 else None)
    return made, pd.DataFrame({"image": range(len(texts)), "attribute": "report", "value": texts})


@pytest.fixture
def told(world, tmp_path, monkeypatch):
    """The world with an empty ledger, its reports read from memory: artifacts never change."""
    made, frame = world
    for kind in ("cohort", "embeddings", "sae", "scores"):
        (tmp_path / "artifacts" / kind).mkdir(parents=True)
        for path in (made.data / "artifacts" / kind).iterdir():
            (tmp_path / "artifacts" / kind / path.name).symlink_to(path)
    from medsae.steps.naming_study import StudyOfScores

    original = StudyOfScores.__init__

    def with_reports(self, *arguments):
        original(self, *arguments)
        self.pictures.register("told", frame)
        self.pictures.execute("CREATE OR REPLACE TEMP VIEW attribute AS SELECT image, attribute, value FROM told")

    monkeypatch.setattr(StudyOfScores, "__init__", with_reports)
    return replace(made, data=tmp_path)


def test_reports_name_and_other_patients_reports_test(told):
    found = name(c.Name(scores=told.scores, all=True, backend="reports", pictures=20), Store(told.data), Silent())
    names = Ledger(Store(told.data), told.scores).names().set_index("neuron")
    for neuron in range(4):
        assert nw.FACTORS[neuron].lower() in names["concept"][neuron]
        assert names["accuracy"][neuron] == 1.0 and names["judged"][neuron] < names["asked"][neuron]
        assert "firing," in names["description"][neuron]
    assert names["status"][4] == "not stated" and "no phrase is enriched" in names["note"][4]
    assert found["exit"] == 0 and "other patients" in names["run_overlap"][0] and names["model"][0] == "reports: report"


def test_reports_name_and_a_model_judges(told):
    server = nw.Server(told, error=0.1)
    verdict = server.verdict
    server.verdict = lambda concept, number: verdict(
        next((f for f in nw.FACTORS if f.lower() in concept.lower()), concept), number
    )
    with server.serve() as address:
        config = c.Name(scores=told.scores, neurons="0", backend="endpoint", endpoint=address, namer="reports",
                        pictures=10, audit=False)  # fmt: skip
        name(config, Store(told.data), Silent())
    assert not any('"description"' in text for text, _ in server.requests), "the model is asked for no name"
    row = Ledger(Store(told.data), told.scores).names().iloc[0]
    assert nw.FACTORS[0].lower() in row["concept"] and row["accuracy"] > 0.7 and row["judged"] == 20
    assert row["model"] == "oracle, named by reports: report" and row["shuffled_judged"] == 20


@pytest.mark.parametrize("writes", [True, False])
def test_a_model_puts_phrases_into_words_and_judges_them(told, writes):
    """It is shown phrases and no picture; what it writes is the name that is tested, or why there is none."""
    named = json.dumps({"concept": nw.FACTORS[0], "description": "A radiologist's words."})
    said = named if writes else "An opacity, perhaps."
    server = nw.Server(told, error=0.1, mangle=lambda text, n, count: said if "Without a look" in text else None)
    with server.serve() as address:
        config = c.Name(scores=told.scores, neurons="0,4", backend="endpoint", endpoint=address, namer="reports",
                        in_words=True, pictures=10, audit=False)  # fmt: skip
        name(config, Store(told.data), Silent())
    asked = [(text, pictures) for text, pictures in server.requests if '"description"' in text]
    # A reply that cannot be used is asked for once more; neuron 4 has no phrase, and nothing is asked about it.
    assert len(asked) == (1 if writes else 2) and not any(pictures for _, pictures in asked)
    assert f"{nw.FACTORS[0].lower()}" in asked[0][0].lower() and "There is" not in asked[0][0]
    names = Ledger(Store(told.data), told.scores).names().set_index("neuron")
    assert names["model"][0] == "oracle, named by reports: report, in its own words"
    assert names["status"][4] == "not stated"
    if writes:
        assert names["description"][0] == "A radiologist's words." and names["accuracy"][0] > 0.7
    else:
        assert names["status"][0] == "unparsable"


def test_words_need_someone_who_writes_and_something_to_write_of():
    for wrong in ({"backend": "reports"}, {"backend": "medgemma"}, {"backend": "labels", "namer": "reports"}):
        with pytest.raises(UserError, match="--in-words"):
            c.Name(scores="x", neurons="1", in_words=True, **wrong)


def test_a_cohort_without_reports_is_told(world, tmp_path):
    made, _ = world
    with pytest.raises(UserError, match="no report text"):
        name(c.Name(scores=made.scores, neurons="0", backend="reports"), Store(made.data), Silent())
    with pytest.raises(UserError, match="no column 'impression'"):
        name(
            c.Name(scores=made.scores, neurons="0", backend="reports", reports="impression"), Store(made.data), Silent()
        )
    with pytest.raises(UserError, match="looks at no picture"):
        c.Name(scores="x", neurons="1", backend="reports", test="rank")
