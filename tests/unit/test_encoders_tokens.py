"""Tokens of the built-in encoders and MedCLIP's text tower."""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from medsae.config import Pooling
from medsae.encoders import find_files, load_encoder, load_text, medclip, medclip_text, tokens
from medsae.progress import UserError


@pytest.fixture(scope="module")
def medclip_weights(tmp_path_factory):
    """Full-size image towers of random weights, and one small text tower, in MedCLIP's layout."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("medclip")
    torch.manual_seed(0)
    bert = BertModel(BertConfig(vocab_size=40, hidden_size=64, num_hidden_layers=3, num_attention_heads=1,
                                intermediate_size=32, max_position_embeddings=77))  # fmt: skip
    text = {f"text_model.{k}": v for k, v in medclip_text.TextTower(bert).state_dict().items()}
    paths = {}
    for name, tower in (("medclip-resnet", medclip.ResNetTower()), ("medclip-vit", medclip.ViTTower())):
        state = {f"vision_model.{k}": v for k, v in tower.state_dict().items()} | text
        paths[name] = folder / f"{name}.bin"
        torch.save(state, paths[name])
    return paths


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (150, 120), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "grid", "width"),
    [
        ("simclip", (8, 8), 128),
        ("efficientnet-lite0", (7, 7), 1280),
        ("medclip-resnet", (7, 7), 512),
        ("medclip-vit", (7, 7), 512),
    ],
)
def test_tokens_are_what_the_vector_is_made_of(name, grid, width, medclip_weights, tmp_path):
    encoder = load_encoder(name, medclip_weights.get(name), tmp_path)
    prepared = encoder.prepare(picture())[None]
    found = tokens(encoder, prepared)
    assert encoder.grid == grid and found.shape == (1, grid[0] * grid[1], width) == (
        1,
        grid[0] * grid[1],
        encoder.token_dim,
    )
    with torch.inference_mode():
        vector = encoder.module(torch.from_numpy(prepared))[0].numpy()
        if name == "simclip":
            pooled = torch.from_numpy(np.concatenate([found[0].mean(0), found[0].max(0)]))
            again = encoder.module.project(pooled).numpy()
        else:
            again = found[0].mean(0)
    assert np.allclose(again, vector, atol=1e-5)


@pytest.mark.parametrize("name", ["simclip", "efficientnet-lite0"])
def test_cells_go_row_by_row_from_the_top_left(name, medclip_weights, tmp_path):
    encoder = load_encoder(name, medclip_weights.get(name), tmp_path)
    black = np.zeros((encoder.size, encoder.size), np.uint8)
    spot = black.copy()
    spot[-encoder.size // 7 :, : encoder.size // 7] = 255  # bottom left
    change = np.abs(tokens(encoder, encoder.prepare(spot)[None]) - tokens(encoder, encoder.prepare(black)[None]))
    rows, columns = encoder.grid
    strongest = int(change[0].sum(1).argmax())
    assert strongest // columns >= rows - 2 and strongest % columns <= 1


def test_pool_of_built_in_encoders(tmp_path):
    assert find_files("simclip", None, tmp_path, options=Pooling(pool="tokens")).model == "simclip-tokens"
    with pytest.raises(UserError, match="--pool cls: simclip has one vector, and tokens"):
        load_encoder("simclip", None, tmp_path, options=Pooling(pool="cls"))


def words(folder: Path) -> None:
    folder.mkdir(parents=True)
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "enlarged", "heart", "no", "finding"]
    (folder / "vocab.txt").write_text("\n".join(known))


def test_medclips_text_tower_is_the_packages(medclip_weights, tmp_path, monkeypatch):
    words(tmp_path / "encoders" / "medclip-text")
    ours = load_text("medclip-resnet", medclip_weights["medclip-resnet"], tmp_path)
    captions = ["Enlarged heart", "no finding"]
    given = [ours._words(caption) for caption in captions]
    assert given[0]["input_ids"].tolist() == [[2, 5, 6, 3]], "lower case, [CLS] and [SEP]"
    # the package's own class, with our BERT where it would download one
    stand_in = types.ModuleType("transformers")
    stand_in.AutoModel = types.SimpleNamespace(from_pretrained=lambda *a, **k: _with_states(ours.tower.model))
    stand_in.AutoTokenizer = types.SimpleNamespace(from_pretrained=lambda *a, **k: None)
    modeling = package_file(monkeypatch, stand_in)
    theirs = modeling.MedCLIPTextModel().eval()
    theirs.projection_head = ours.tower.projection_head  # theirs is made for a width of 768
    with torch.inference_mode():
        right = torch.cat([theirs(**g) for g in given])
    right = torch.nn.functional.normalize(right, dim=1).numpy()
    assert np.allclose(ours.embed_text(captions), right, atol=1e-6)


def _with_states(bert):
    return lambda **given: bert(**given, output_hidden_states=True)


def package_file(monkeypatch, transformers):
    """modeling_medclip.py of the installed package without its __init__, which a current transformers breaks."""
    where = importlib.util.find_spec("medclip")
    if where is None or where.submodule_search_locations is None:
        pytest.skip("the package medclip is not installed")
    folder = Path(where.submodule_search_locations[0])
    package = types.ModuleType("_medclip_text")
    package.__path__ = [str(folder)]
    monkeypatch.setitem(sys.modules, "_medclip_text", package)
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    for part in ("constants", "modeling_medclip"):
        spec = importlib.util.spec_from_file_location(f"_medclip_text.{part}", folder / f"{part}.py")
        module = importlib.util.module_from_spec(spec)
        if part == "constants":
            monkeypatch.setitem(sys.modules, "_medclip_text.constants", module)
            package.constants = module
        spec.loader.exec_module(module)
    return module


def test_a_text_tower_that_cannot_be_had_says_why(medclip_weights, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "none"))
    with pytest.raises(UserError, match="hf download emilyalsentzer/Bio_ClinicalBERT"):
        load_text("medclip-resnet", medclip_weights["medclip-resnet"], tmp_path)
    with pytest.raises(UserError, match="EfficientNet-lite0 has no text tower"):
        load_text("efficientnet-lite0", None, tmp_path)
    assert load_text("simclip", None, tmp_path).embed_text(["pleural effusion"]).shape == (1, 128)
