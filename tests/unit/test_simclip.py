"""The small encoder: its interface, its two towers, its training, and the weights and record that are shipped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medsae.encoders import load_encoder
from medsae.encoders.offered.simclip import SHIPPED
from medsae.encoders.simclip import DIM, SIZE, WORDS, ImageTower, SimClip, tokens
from medsae.progress import UserError
from medsae.simulated import probabilities
from tools import train_simclip
from tools.train_simclip import LOBE_WORDS, WORDING, Settings, augment, captions, embed, folded, probes, train


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> SimClip:
    encoder = load_encoder("simclip", None, tmp_path_factory.mktemp("cache"))
    assert isinstance(encoder, SimClip)
    return encoder


def test_the_shipped_weights_are_small_and_have_a_record():
    assert SHIPPED.stat().st_size <= 8 << 20
    record = json.loads(SHIPPED.with_suffix(".json").read_text())
    assert record["training_seed"] != record["probe_seed"] and "licence" in record
    assert record["loss"][-1] < record["loss"][0]
    assert record["probe_auroc"]["Pleural Effusion:right"]["auroc"] > 0.8


def test_a_picture_becomes_a_square_of_known_range(encoder: SimClip):
    x = encoder.prepare(np.full((200, 320), 255, np.uint8))
    assert x.shape == (1, SIZE, SIZE) and x.dtype == np.float32
    assert (x.min(), x.max()) == (-2, 2), "black bars above and below a white picture"
    with pytest.raises(ValueError, match="uint8"):
        encoder.prepare(np.zeros((4, 4), np.float32))


@torch.inference_mode()
def test_an_embedding_does_not_depend_on_its_batch(encoder: SimClip):
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 1, SIZE, SIZE)).astype(np.float32))
    together, alone = encoder.module(x), torch.cat([encoder.module(p[None]) for p in x])
    assert together.shape == (5, DIM) == (5, encoder.dim)
    assert torch.allclose(together, alone, atol=1e-4)


def test_words_in_any_case_and_order_of_the_table():
    t = tokens(["Right pleural EFFUSION.", "effusion zebra", ""])
    assert t.tolist() == [
        [WORDS.index("right"), WORDS.index("pleural"), WORDS.index("effusion")],
        [WORDS.index("effusion"), -1, -1],
        [-1, -1, -1],
    ]


def test_captions_have_unit_length_and_know_sides(encoder: SimClip):
    t = encoder.embed_text(["right pleural effusion", "left pleural effusion", "Right Pleural Effusion", "zebra"])
    assert t.shape == (4, DIM) and np.linalg.norm(t, axis=1) == pytest.approx(1, abs=1e-5)
    assert t[0] == pytest.approx(t[2]) and t[0] @ t[1] < 0.98
    assert np.isfinite(t).all()


def test_every_finding_has_captions_and_every_word_is_known():
    assert {*probabilities.PATHOLOGIES, *probabilities.DEVICES} <= set(WORDING)
    assert {"Female", "Marker L", "Marker R", "Collimation", "Age over 65"}.isdisjoint(WORDING)
    said = {word for wordings in WORDING.values() for w in wordings for word in w.split()} | {
        w for v in LOBE_WORDS.values() for w in v.split()
    }
    assert said - set(WORDS) <= {"or", "of", "the"}
    spoken = dict(captions(["Edema", "Female", "Consolidation:RUL", "Chest tube:left"]))
    assert list(spoken) == ["Edema", "Consolidation:RUL", "Chest tube:left"]
    assert spoken["Consolidation:RUL"][0] == "consolidation right upper lobe"


def test_augmentation_moves_and_never_mirrors():
    x = torch.zeros(8, SIZE, SIZE, dtype=torch.uint8)
    x[:, 60:68, 100:108] = 255
    out = augment(x, 6, np.random.default_rng(0))
    bright = out[:, 0].flatten(1).argmax(1)
    rows, columns = bright // SIZE, bright % SIZE
    assert (
        out.shape == (8, 1, SIZE, SIZE)
        and ((columns > 90) & (columns < 115)).all()
        and ((rows > 50) & (rows < 78)).all()
    )
    assert len(set(bright.tolist())) > 1


@pytest.mark.long
def test_training_learns_a_side_and_folding_changes_nothing():
    rng = np.random.default_rng(0)
    f = rng.random((192, 2)) < 0.5
    x = rng.integers(0, 60, (192, SIZE, SIZE)).astype(np.uint8)
    x[f[:, 0], 40:80, 10:50] += 120
    x[f[:, 1], 40:80, 80:120] += 120
    names = ["Consolidation:right", "Consolidation:left"]
    settings = Settings(images=192, epochs=4, batch=32, learning_rate=3e-3)
    image, _text, history = train(x, f, names, settings)
    assert history[-1] < 0.7 * history[0]
    again, _, _ = train(x[:64], f[:64], names, Settings(images=64, epochs=1, batch=32))
    other, _, _ = train(x[:64], f[:64], names, Settings(images=64, epochs=1, batch=32))
    assert np.array_equal(embed(again, x[:4]), embed(other, x[:4])), "same seed, same weights"
    found = probes(embed(image, x), f, names)
    assert found["Consolidation:right"]["auroc"] > 0.95 and found["Consolidation:left"]["auroc"] > 0.95


@torch.inference_mode()
def test_folded_batchnorm_is_the_same_function():
    image = ImageTower(norm=True)
    for unit in image.modules():
        if isinstance(unit, torch.nn.BatchNorm2d):
            unit.running_mean.normal_(0, 0.2)  # pyright: ignore
            unit.running_var.uniform_(0.5, 2)  # pyright: ignore
    x = torch.randn(2, 1, SIZE, SIZE)
    assert torch.allclose(image.eval()(x), folded(image)(x), atol=1e-4)


def test_weights_of_something_else_are_refused(tmp_path: Path):
    from safetensors.torch import save_file

    save_file({"image.other": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="missing"):
        load_encoder("simclip", tmp_path / "model.safetensors", tmp_path)


def test_the_demo_seed_is_not_the_training_seed():
    from medsae.config import IngestSimulated

    assert IngestSimulated().seed not in (train_simclip.SEED, train_simclip.SEED + 1)
