"""The small Gemma 3 that comes with the program: its files, its record, what it answers, and whom it is refused."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from medsae import config as c
from medsae.config import Embed, IngestSimulated, Score, Train
from medsae.naming import planted, prompts
from medsae.naming.backends import Picture, Question
from medsae.naming.backends.medgemma import SHIPPED, MedGemma, Weights
from medsae.naming.replies import parse_choice, parse_explanation, parse_verdicts
from medsae.plugins import backends
from medsae.progress import Silent, UserError
from medsae.steps.naming import name
from medsae.store import concepts
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger
from tools.simgemma import build, tower, words

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
import naming_world as nw  # pyright: ignore[reportMissingImports]

FOLDER = SHIPPED["simgemma"]
FIXTURE = Path(__file__).parents[1] / "fixtures" / "simgemma.npz"


@pytest.fixture(scope="module")
def seen():
    """(JPEGs, facts, bool [n, facts]) of unseen patients: 120 pictures of the held-out seed, made 128 px small."""
    with np.load(FIXTURE) as held:
        jpegs = [bytes(j) for j in np.split(held["bytes"], held["ends"][:-1])]
        names, f = words.truths([str(n) for n in held["names"]], held["f"])
    return jpegs, names, f


@pytest.fixture(scope="module")
def backend(seen):
    torch.set_num_threads(1)
    return MedGemma(Weights("simgemma", "cpu"), lambda image: seen[0][image], batch=64)


@pytest.fixture(scope="module")
def record():
    return json.loads((FOLDER / "simgemma.json").read_text())


def judge(images, concept, description="", text=None):
    text = text or prompts.judge("strict", concept, description)
    return [Question("judge", (Picture(i, str(i)),), prompts.SYSTEM, text, None, 8, 0, concept) for i in images]


def explain(images, protocol="strict", top=10):
    pictures = tuple(Picture(int(i), str(i)) for i in images)
    return Question("explain", pictures, prompts.SYSTEM, prompts.explain(protocol, len(images), top), None, 80, 0)


def test_it_is_small_and_says_what_it_is(record):
    weights = sum(path.stat().st_size for path in FOLDER.glob("*.safetensors"))
    assert weights <= 12 << 20
    assert json.loads((FOLDER / "config.json").read_text())["architectures"] == ["Gemma3ForConditionalGeneration"]
    assert "simulated" in record["knows"] and "licence" in record
    assert record["training_seed"] != record["held_out_seed"]
    assert record["naming"]["valid_json"] >= 0.99 and record["naming"]["same"] >= 0.7
    assert not record["judge"]["of_factors_that_simclip_tells"]["missed"]


def test_the_record_is_what_it_does(backend, seen, record):
    """The judge's AUROC over the fixture's pictures lies about where the record has it."""
    _, names, f = seen
    for fact in ("AP view", "Pacemaker", "Pleural Effusion:left", "Sternal wires"):
        y = f[:, names.index(fact)]
        p = [reply.p_yes for reply in backend.ask(judge(range(len(y)), *words.answer_of(fact)))]
        assert abs(roc_auc_score(y, p) - record["judge"]["auroc"][fact]) < 0.2, fact


def test_a_changed_word_of_the_prompt_changes_little(backend, seen):
    text = prompts.judge("strict", *words.answer_of("Pleural Effusion"))
    changed = text.replace("radiograph", "chest image")
    assert changed != text
    p, q = ([reply.p_yes for reply in backend.ask(judge(range(120), "", text=t))] for t in (text, changed))
    assert np.corrcoef(p, q)[0, 1] > 0.8


@pytest.mark.parametrize(("protocol", "many", "top"), [("strict", 16, 10), ("strict", 7, 7), ("paper", 30, 15)])
def test_names_are_valid_json_of_its_own_words(backend, seen, record, protocol, many, top):
    _, names, f = seen
    has = np.flatnonzero(f[:, names.index("AP view")])[:many]
    said = parse_explanation(backend.ask([explain(has, protocol, top)])[0].text)
    assert said.status == "ok" and said.concept in record["names"]


def test_lists_and_choices_can_be_read(backend):
    five = tuple(Picture(i, str(i)) for i in range(5))
    text = prompts.judge("paper", *words.answer_of("AP view"), 5)
    many = Question("judge many", five, prompts.SYSTEM, text, None, 40, 0)
    assert [verdict.status for verdict in parse_verdicts(backend.ask([many])[0].text, 5)] == ["ok"] * 5
    for text in (prompts.INTRUDER.format(pictures=5), prompts.rank(*words.answer_of("AP view"), 5)):
        reply = backend.ask([Question("choose", five, prompts.SYSTEM, text, None, 24, 0)])[0]
        assert parse_choice(reply.text, 5) is not None


def study(folder, seen, monkeypatch, source="simulated", facts=("AP view", "Pleural Effusion")):
    """Scores of one neuron for each of `facts`, which fires where the fact is true."""
    jpegs, names, f = seen
    wanted = [*facts, "Cardiomegaly", "Edema", "Consolidation", "Pneumothorax", "Pacemaker", "Atelectasis", "Female",
              "Fracture"]  # fmt: skip
    truth = f[:, [names.index(fact) for fact in wanted]]
    monkeypatch.setattr(nw, "FACTORS", tuple(wanted))
    monkeypatch.setattr(nw, "_drawn", lambda i: (webp(jpegs[i]), jpegs[i]))
    store, n = Store(folder), len(jpegs)
    with store.build("cohort", IngestSimulated(images=n), {}) as made:
        cohort, publish, insert = made.id, made.publish, nw.insert

        def with_facts(db, table, frame):
            insert(db, table, frame)
            if table == "image":
                insert(db, "attribute", attributes(names, f))

        monkeypatch.setattr(nw, "insert", with_facts)
        monkeypatch.setattr(made, "publish", lambda facts: publish(facts | {"source": source}))
        nw._write_cohort(made, truth, n)
        monkeypatch.setattr(nw, "insert", insert)
    embeddings = empty(store, Embed(cohort=cohort, encoder="simclip"), {"cohort": cohort}, n)
    sae = empty(store, Train(embeddings=embeddings, k=4).resolved(n), {"embeddings": embeddings}, n)
    parents = {"embeddings": embeddings, "cohort": cohort, "sae": sae}
    with store.build("scores", Score(sae=sae, images="all").resolved(), parents) as made:
        value = np.where(truth[:, : len(facts)], np.random.default_rng(0).uniform(1, 2, (n, len(facts))), 0.0)
        nw._write_scores(made, truth, value, list(range(len(facts))))
        return store, made.id


def empty(store, config, parents, n):
    with store.build(config.step, config, parents) as made:
        with made.database():
            pass
        made.publish({"encoder": "simclip", "n": n, "d": 2, "m": 2})
        return made.id


def attributes(names, f):
    rows = [(i, planted.FACTOR + fact, str(int(f[i, k]))) for i in range(len(f)) for k, fact in enumerate(names)
            if fact not in planted.OPPOSITES and fact != "Normal" and not fact.startswith("label:")]  # fmt: skip
    return pd.DataFrame(rows, columns=["image", "attribute", "value"])


def webp(jpeg):
    out = io.BytesIO()
    Image.open(io.BytesIO(jpeg)).save(out, "WEBP")
    return out.getvalue()


def test_neurons_are_named_audited_and_compared_with_the_truth(tmp_path, seen, monkeypatch):
    store, scores = study(tmp_path, seen, monkeypatch)
    config = c.Name(scores=scores, all=True, backend="medgemma", model="simgemma", pictures=8, device="cpu")
    assert name(config, store, Silent())["exit"] == 0
    ledger = Ledger(store, scores)
    assert set(ledger.names()["status"]) == {"ok"} and len(ledger.audits())
    truths = ledger.truths().set_index("neuron")
    assert list(truths["fact"]) == ["AP view", "Pleural Effusion"] and (truths["follows"] > 0.9).all()
    counted = concepts.right(ledger.truths(), ledger.names()["run"].iloc[0])
    assert counted.compared == 2 and counted.same <= counted.finding <= 2


def test_other_cohorts_are_refused_unless_forced(tmp_path, seen, monkeypatch):
    store, scores = study(tmp_path, seen, monkeypatch, source="chexpert")
    config = c.Name(scores=scores, neurons="0", backend="medgemma", model="simgemma", pictures=8, audit=False)
    with pytest.raises(UserError, match="simulated radiographs only"):
        name(config, store, Silent())
    with pytest.raises(UserError, match="learned a few questions"):
        name(replace(config, force=True, namer="labels", in_words=True), store, Silent())
    assert name(replace(config, force=True), store, Silent())["statuses"] == {"ok": 1}
    assert Ledger(store, scores).truths().empty, "the truth is known of simulated pictures only"


def test_a_test_that_it_is_bad_at_says_so(tmp_path, seen, monkeypatch, record):
    store, scores = study(tmp_path, seen, monkeypatch)
    config = c.Name(
        scores=scores, neurons="0", backend="medgemma", model="simgemma", test="rank", pictures=10, audit=False
    )
    said: list[str] = []
    progress = Silent()
    monkeypatch.setattr(progress, "say", said.append)
    name(config, store, progress)
    share = f"simgemma answers {100 * record['choices']['rank']['right']:.0f} % of such questions"
    assert any(line.startswith(share) and "the model's, not the neuron's" in line for line in said)
    said.clear()
    name(replace(config, test="detection"), store, progress)
    assert not any("such questions" in line for line in said)


def test_the_declaration_and_the_folder_agree():
    known = dict(backends.get("medgemma").knows)
    assert known == {"simgemma": "simulated"} and set(known) == set(SHIPPED)


@pytest.mark.parametrize(
    ("concept", "fact", "match"),
    [
        ("Pleural Effusion", "Pleural Effusion", "same"),
        ("Pleural Effusion", "Pleural Effusion:left", "finding"),
        ("Edema and Cardiomegaly", "Edema", "same"),
        ("Edema", "Cardiomegaly", "other"),
        ("Some words of another model", "Edema", None),
    ],
)
def test_a_name_is_compared_by_its_words(concept, fact, match):
    assert planted.match(concept, planted.Followed(fact, 0.5)) == match


def test_what_a_neuron_follows_by_hand():
    f = np.array([[1, 0], [1, 0], [0, 1], [0, 1]] * 5, bool)
    value = np.array([2.0, 2.0, 0.0, 0.0] * 5)
    found = planted.follows(value, f, ["a", "b"])
    assert found is not None and found.fact == "a" and found.rho == pytest.approx(1.0)
    assert planted.follows(np.ones(20), f, ["a", "b"]) is None, "what never varies follows nothing"
    assert planted.follows(value, f[:, 1:], ["b"]) is None, "a negative correlation is not followed"
    assert planted.follows(value[:8], f[:8], ["a", "b"]) is None, "too few images"


def test_fixed_sentences_are_one_token_each_and_changed_ones_are_read_by_words():
    tokens = build.tokenizer(build.TextSettings())
    whole = prompts.judge("strict", "Edema", "x")
    assert len(tokens.tokenize(whole)) < len(tokens.tokenize(whole.replace("radiograph", "picture"))) < 40
    assert tokens.decode(tokens.encode(whole, add_special_tokens=False)) == whole


def test_masks_move_with_their_pictures():
    """A bright square and its mask are moved, turned and made larger or smaller together."""
    x, masks = torch.zeros(20, 128, 128, dtype=torch.uint8), torch.zeros(20, 1, 16, 16, dtype=torch.uint8)
    x[:, 64:96, 16:48], masks[:, :, 8:12, 2:6] = 255, 255
    settings = tower.TowerSettings(shift_px=24, turn_degrees=20, zoom=0.3)
    moved, covered = tower.augment(x, masks, settings, np.random.default_rng(0))
    light = torch.nn.functional.avg_pool2d(moved, 8)
    low, high = light.amin((2, 3), keepdim=True), light.amax((2, 3), keepdim=True)
    apart = ((light - low) / (high - low) - covered).abs().mean((1, 2, 3))
    still = ((light - low) / (high - low) - masks / 255).abs().mean((1, 2, 3))
    assert apart.max() < 0.03 < still.mean()
