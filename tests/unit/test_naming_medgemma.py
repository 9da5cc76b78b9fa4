"""MedGemma in this process, on a tiny random Gemma 3: the kept encodings change nothing but the work."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medsae import config as c
from medsae.naming import prompts
from medsae.naming.backends import Picture, PictureGone, Question, Task, medgemma
from medsae.naming.backends.medgemma import MedGemma, Weights, answer_tokens
from medsae.progress import Silent, UserError
from medsae.steps.naming import name
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
import naming_world as nw
import tiny_gemma3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)  # two spinning threads on a busy machine are ten times slower than one
    return tiny_gemma3.build(tmp_path_factory.mktemp("model") / "tiny")


def load(image):
    if image < 0:
        raise PictureGone("file not found")
    out = io.BytesIO()
    shape = (300, 260) if image % 2 else (180, 320)
    Image.fromarray((np.random.default_rng(image).random(shape) * 255).astype(np.uint8)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def backend(folder):
    return MedGemma(Weights(str(folder), "cpu"), load, batch=4)


def question(*images, task: Task = "judge", concept="effusion", tokens=6):
    pictures = tuple(Picture(i, f"sha{i}") for i in images)
    text = prompts.judge("strict", concept, "x " * len(concept))
    return Question(task, pictures, prompts.SYSTEM, text, None, tokens, 0, concept)


def direct(backend, q):
    """The whole processor and the model's own path over pixels, one prompt."""
    images = [Image.open(io.BytesIO(load(p.image))).convert("RGB") for p in q.pictures]
    messages = [
        {"role": "system", "content": [{"type": "text", "text": q.system}]},
        {"role": "user", "content": [*({"type": "image"} for _ in images), {"type": "text", "text": q.text}]},
    ]
    text = backend.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return backend.processor(images=[images], text=[text], return_tensors="pt", add_special_tokens=False)


def test_kept_encodings_equal_the_models_own_path(backend):
    for q in (question(1), question(2), question(1, concept="a longer concept of several words")):
        with torch.inference_mode():
            logits = backend.net(**direct(backend, q)).logits[0, -1].float().softmax(-1)
        yes, no = logits[backend.yes].sum().item(), logits[backend.no].sum().item()
        reply = backend.ask([q])[0]
        assert reply.p_yes == pytest.approx(yes / (yes + no), abs=1e-6)
        assert reply.mass == pytest.approx(yes + no, rel=1e-5)
        assert reply.text == "" and reply.tokens_in > 20


def test_pictures_matter(backend):
    replies = backend.ask([question(i) for i in range(6)])
    assert len({round(r.p_yes, 7) for r in replies}) == 6


def test_a_batch_equals_one_by_one(backend):
    """Prompts of different lengths, padded on the left."""
    asked = [question(i, concept="word " * (1 + 3 * (i % 3))) for i in range(7)]
    together = [r.p_yes for r in backend.ask(asked)]
    assert together == pytest.approx([backend.ask([q])[0].p_yes for q in asked], abs=1e-6)


def test_several_pictures_a_prompt_are_explained_as_the_model_itself_would(backend):
    asked = [question(1, 2, 3, task="explain"), question(4, 5, task="explain")]
    together = [r.text for r in backend.ask(asked)]
    for q, text in zip(asked, together, strict=True):
        inputs = direct(backend, q)
        with torch.inference_mode():
            written = backend.net.generate(**inputs, do_sample=False, max_new_tokens=6)
        own = backend.processor.batch_decode(written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]
        assert text == own and text


def test_a_picture_is_encoded_once(backend):
    tower = []
    original = backend.net.model.vision_tower.forward
    backend.net.model.vision_tower.forward = lambda *a, **k: tower.append(len(k["pixel_values"])) or original(*a, **k)
    for concept in ("one", "two", "three"):
        backend.ask([question(i, concept=concept) for i in range(5)])
    backend.ask([question(0, 1, 2, 3, task="explain")])
    assert sum(tower) == 5
    facts = backend.facts()
    assert (facts["encodings"], facts["distinct_pictures"], facts["picture_uses"]) == (5, 5, 19)
    assert facts["encodings_saved"] == pytest.approx(1 - 5 / 19, abs=1e-4)


def test_a_small_cache_still_answers(folder):
    backend = MedGemma(Weights(str(folder), "cpu", cache_mib=0.003), load, batch=2)
    wide = MedGemma(Weights(str(folder), "cpu"), load, batch=4)
    asked = [question(i % 5) for i in range(10)]
    assert [r.p_yes for r in backend.ask(asked)] == pytest.approx([r.p_yes for r in wide.ask(asked)], abs=1e-6)
    backend.ask([question(9)])
    assert backend.kept_bytes <= 0.003 * 2**20 + 2000 and "sha9" in backend.kept


def test_an_unreadable_picture_fails_alone(backend):
    replies = backend.ask([question(1), question(-1), question(2)])
    assert [r.status for r in replies] == ["ok", "unreadable picture", "ok"]
    assert replies[1].text == "file not found" and replies[1].p_yes is None


def test_out_of_memory_halves_the_batch_then_stops(backend, monkeypatch):
    expected = [r.p_yes for r in backend.ask([question(i) for i in range(8)])]
    original = type(backend)._forward
    limit = 2

    def forward(self, questions):
        if len(questions) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, questions)

    monkeypatch.setattr(MedGemma, "_forward", forward)
    assert [r.p_yes for r in backend.ask([question(i) for i in range(8)])] == pytest.approx(expected, abs=1e-6)
    assert backend.batch == 2
    limit = 0
    with pytest.raises(UserError, match="out of memory with a single prompt"):
        backend.ask([question(1)])


def test_out_of_memory_in_the_encoder_halves_the_batch(backend, monkeypatch):
    original = backend.net.get_image_features

    def features(pixels, **options):
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(pixels, **options)

    monkeypatch.setattr(backend.net, "get_image_features", features)
    assert [r.status for r in backend.ask([question(i) for i in range(3)])] == ["ok"] * 3
    assert backend.batch == 1


def test_answer_tokens():
    class Tokenizer:
        def __init__(self, table):
            self.table = table

        def encode(self, text, add_special_tokens):
            return self.table.get(text, [90, 91])

    assert answer_tokens(Tokenizer({"Yes": [1], " Yes": [2], "No": [3]})) == ([1, 2], [3])
    with pytest.raises(UserError, match="cannot tell Yes from No"):
        answer_tokens(Tokenizer({}))


@pytest.mark.parametrize("kind", ["nothing", "empty folder", "no vision", "half"])
def test_without_weights_it_says_what_to_do(tmp_path, folder, kind):
    path = tmp_path / "model"
    if kind != "nothing":
        path.mkdir()
    if kind == "no vision":
        (path / "config.json").write_text('{"model_type": "gemma3_text"}')
    if kind == "half":
        (path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(UserError) as caught:
        MedGemma(Weights(str(path), "cpu"), load, batch=1)
    text = str(caught.value)
    assert "labels" in text and "endpoint" in text
    assert ("vision" in text) if kind == "no vision" else ("accept the terms" in text and "hf download" in text)


def test_a_device_that_is_not_there_and_four_bit_without_one(folder):
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="cuda is not available"):
            MedGemma(Weights(str(folder), "cuda"), load, batch=1)
    with pytest.raises(UserError, match="four-bit"):
        MedGemma(Weights(str(folder), "cpu", four_bit=True), load, batch=1)


@pytest.mark.parametrize("protocol", ["strict", "paper"])
def test_the_whole_way_ends_in_the_ledger(tmp_path, folder, protocol, monkeypatch):
    """The random model writes no JSON, so its explanations are rows with a status; given a name, it judges."""
    world = nw.build(tmp_path, images=240, neurons=2, share=0.5)
    config = c.Name(audit=False, scores=world.scores, all=True, backend="medgemma", model=str(folder), protocol=protocol,
                    pictures=5, device="cpu", batch=16)  # fmt: skip
    monkeypatch.setattr("medsae.naming.run._EXPLAIN_TOKENS", 8)
    found = name(config, Store(tmp_path), Silent())
    names = Ledger(Store(tmp_path), world.scores).names()
    assert set(names["status"]) <= {"cut off", "unparsable", "empty"} and names["concept"].isna().all()
    assert found["asked"] == 4 and names["model"][0].startswith("tiny@")

    original = MedGemma.ask

    def named(self, questions):
        said = '{"concept": "Amber opacity %d", "description": "It is amber."}'
        replies = original(self, questions)
        return [
            r if q.task != "explain" else type(r)("ok", said % q.neuron)
            for q, r in zip(questions, replies, strict=True)
        ]

    monkeypatch.setattr(MedGemma, "ask", named)
    monkeypatch.setattr("medsae.naming.tally.ALIKE", {"explain": 10_000, "judge": 10_000})
    found = name(replace(config, again=True), Store(tmp_path), Silent())
    names = Ledger(Store(tmp_path), world.scores).names()
    verdicts = Ledger(Store(tmp_path), world.scores).verdicts(str(names["run"][0]), 0)
    assert (names["status"] == "ok").all() and len(verdicts) == 30
    facts = found["backend"]
    assert facts["encodings"] <= facts["distinct_pictures"] < facts["picture_uses"]
    if protocol == "strict":
        assert (names["judged"] == 10).all() and names["auroc"].notna().all() and (names["mass"] < 0.5).all()
    else:
        assert (names["judged"] == 0).all() and names["accuracy"].isna().all()


def test_a_model_that_would_think_answers_at_once(folder, monkeypatch):
    """What the model would say first begins its thinking: it is never said, and leaves no trace in probabilities."""
    plain = MedGemma(Weights(str(folder), "cpu"), load, batch=4)
    asked = [question(1), question(2)]
    with torch.inference_mode():
        logits = plain.net(**direct(plain, asked[0])).logits[0, -1]
    first = plain.processor.tokenizer.convert_ids_to_tokens(int(logits.argmax()))
    monkeypatch.setattr(medgemma, "THINKING", first)
    backend = MedGemma(Weights(str(folder), "cpu"), load, batch=4)
    assert plain.thinking == [] and backend.thinking == [int(logits.argmax())]
    logits = logits.clone()
    logits[backend.thinking] = -torch.inf
    p = logits.softmax(-1)
    reply = backend.ask(asked)[0]
    assert reply.mass == pytest.approx((p[backend.yes].sum() + p[backend.no].sum()).item(), rel=1e-4)
    said = []
    for each in (plain, backend):
        generate = each.net.generate
        each.net.generate = lambda generate=generate, **options: said.append(generate(**options)) or said[-1]
        each.ask([question(1, task="explain", tokens=4)])
    assert said[0][0, -4] == backend.thinking[0] and backend.thinking[0] not in said[1][0, -4:]


def test_questions_without_pictures_are_answered(backend):
    """Words alone: what a model makes of phrases of reports."""
    replies = backend.ask([question(task="explain"), question(1, task="explain"), question(task="explain")])
    assert [reply.status for reply in replies] == ["ok"] * 3 and replies[0].text == replies[2].text
    assert backend.ask([question(task="explain")])[0].text == replies[0].text


@pytest.mark.parametrize("gpus", [1, 3])
def test_a_model_is_spread_over_several_gpus_only(gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: (1000 * (i + 1), 9000))
    spread = medgemma._spread(torch.device("cuda"))
    assert spread == ({} if gpus == 1 else {"device_map": "sequential", "max_memory": {0: 750, 1: 1500, 2: 2250}})
    assert medgemma._spread(torch.device("cpu")) == {}


def test_a_model_in_parts_answers_as_the_whole_does(folder, backend, tmp_path):
    """Parts that lie in different places, moved by accelerate's hooks as between GPUs (here: from the disk)."""
    accelerate = pytest.importorskip("accelerate")
    asked = [question(1), question(2, 3, task="explain")]
    whole = [(r.p_yes, r.text) for r in backend.ask(asked)]
    parts = MedGemma(Weights(str(folder), "cpu"), load, batch=4)
    places = {"model.vision_tower": "cpu", "model.multi_modal_projector": "disk", "model.language_model": "disk",
              "lm_head": "cpu"}  # fmt: skip
    accelerate.dispatch_model(parts.net, places, main_device="cpu", offload_dir=tmp_path, force_hooks=True)
    assert [(r.p_yes, r.text) for r in parts.ask(asked)] == whole


def test_a_model_without_room_is_told(folder, tmp_path, monkeypatch):
    places = {"model": "cpu", "lm_head": "disk"}
    monkeypatch.setattr(medgemma, "_spread", lambda device: {"device_map": places, "offload_folder": tmp_path})
    with pytest.raises(UserError, match="does not fit"):
        MedGemma(Weights(str(folder), "cpu"), load, batch=4)

    def full(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", full)
    with pytest.raises(UserError, match="does not fit"):
        MedGemma(Weights(str(folder), "cpu"), load, batch=4)
