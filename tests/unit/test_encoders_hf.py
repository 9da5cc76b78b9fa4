"""Encoders of the Hugging Face shape: parity with transformers' own processor and model, layers, pools, tokens, and what
is wrong with a folder. Random weights; small configs of the same architecture, and those of the published models with
MEDSAE_FULL_SIZE=1."""
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medsae.config import Embed
from medsae.encoders import find_files, load_encoder, load_text, tokens
from medsae.encoders.offered.hf import HfOptions
from medsae.progress import UserError
from tests.fixtures.hf_towers import FULL, NAMES, configs, full_configs, made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made_before: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made_before:
            made_before[name] = made(name, tmp_path_factory.mktemp("hub") / name)
        return made_before[name]

    return get


def pictures() -> list[np.ndarray]:
    """Grey pictures of four shapes, with edges and gradients."""
    random = np.random.default_rng(0)
    shapes = [(90, 90), (101, 77), (320, 390), (33, 50)]
    return [
        np.asarray(Image.fromarray(random.integers(0, 256, (9, 7), dtype=np.uint8)).resize(s[::-1])) for s in shapes
    ]


def theirs(folder: Path, picture: np.ndarray, name: str):
    """transformers' own way: processor, then the whole output of the model."""
    import transformers as t

    with torch.inference_mode():
        if name == "dinov3":  # its processor needs torchvision: what it does, by torch's own functions
            size = json.loads((folder / "preprocessor_config.json").read_text())["size"]["height"]
            x = torch.tensor(picture).float()[None, None] / 255
            x = torch.nn.functional.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
            mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
            pixels = (x - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
        else:
            processor = t.AutoImageProcessor.from_pretrained(folder)
            pixels = processor(images=Image.fromarray(picture).convert("RGB"), return_tensors="pt")["pixel_values"]
        model = t.AutoModel.from_pretrained(folder).eval()
        if name in ("clip", "siglip"):
            whole = model.vision_model(pixel_values=pixels, output_hidden_states=True)
            return whole, model.get_image_features(pixel_values=pixels).pooler_output
        return model(pixel_values=pixels, output_hidden_states=True), None


def close(ours: torch.Tensor, right: torch.Tensor) -> bool:
    """Within 1e-5, of the largest value where that is above 1 (random weights of a ResNet give 20 and more)."""
    return float((ours - right).abs().max()) <= 1e-5 * max(1.0, float(right.abs().max()))


def embedded(encoder, picture: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return encoder.module(torch.from_numpy(encoder.prepare(picture))[None])[0]


@pytest.fixture(autouse=True)
def quiet():
    """transformers tells about torchvision with every processor; that is no news here."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity(before)


@pytest.mark.parametrize("name", NAMES)
def test_a_tower_is_transformers_own(folder, tmp_path, name):
    _, _, _, special, cells = (full_configs() if FULL else configs())[name]
    for picture in pictures()[: 1 if FULL else None]:
        output, features = theirs(folder(name), picture, name)
        state = output.last_hidden_state
        state = state.flatten(2).transpose(1, 2) if state.ndim == 4 else state[:, special:]
        expected = {"pooler": output.pooler_output.flatten(1), "mean": state.mean(1)}
        expected |= {"cls": output.last_hidden_state[:, 0]} if special else {}
        expected |= {"projected": features} if features is not None else {}
        for pool, right in expected.items():
            ours = load_encoder(f"hf:{folder(name)}", None, tmp_path, options=HfOptions(pool=pool))
            assert ours.dim == right.shape[1]
            assert close(embedded(ours, picture), right[0]), pool
        encoder = load_encoder(f"hf:{folder(name)}", None, tmp_path)
        default = "projected" if name == "clip" else "pooler"
        assert close(embedded(encoder, picture), expected[default][0])
        found = tokens(encoder, encoder.prepare(picture)[None])
        assert found.shape == (1, cells, encoder.token_dim) and np.prod(encoder.grid) == cells
        assert close(torch.from_numpy(found), state)


@pytest.mark.skipif(FULL, reason="small configs say the same")
@pytest.mark.parametrize("name", NAMES)
def test_any_hidden_state(folder, tmp_path, name):
    picture = pictures()[0]
    output, _ = theirs(folder(name), picture, name)
    special = configs()[name][3]
    for layer in range(len(output.hidden_states)):
        state = output.hidden_states[layer]
        state = state.flatten(2).transpose(1, 2) if state.ndim == 4 else state[:, special:]
        options = HfOptions(layer=layer, pool="mean")
        ours = load_encoder(f"hf:{folder(name)}", None, tmp_path, options=options)
        assert close(embedded(ours, picture), state[0].mean(0)), layer
        cells = tokens(ours, ours.prepare(picture)[None])
        assert close(torch.from_numpy(cells), state), layer
        assert cells.shape[1] == np.prod(ours.grid)


def test_a_masked_autoencoder_sees_the_whole_picture(tmp_path, monkeypatch):
    """ViTMAE hides three quarters of a picture at random, in use too, unless it is told where noise is highest."""
    import transformers as t

    from medsae.encoders import hf

    config = t.ViTMAEConfig(image_size=64, patch_size=16, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
                            intermediate_size=64, mask_ratio=0.75)  # fmt: skip
    torch.manual_seed(0)
    net = t.ViTMAEModel(config).eval()
    net.save_pretrained(tmp_path / "mae")
    t.ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(tmp_path / "mae")
    picture = pictures()[2]
    encoder = load_encoder(f"hf:{tmp_path / 'mae'}", None, tmp_path)
    x = torch.from_numpy(encoder.prepare(picture))[None]
    net.config.mask_ratio = 0.0
    with torch.inference_mode():
        pixels = ((x / 255 - 0.5) / 0.5).expand(1, 3, 64, 64)
        right = net(pixel_values=pixels, noise=torch.arange(16.0)[None]).last_hidden_state
    assert close(embedded(encoder, picture), right[0, 0])
    assert close(torch.from_numpy(tokens(encoder, x.numpy())), right[:, 1:])
    monkeypatch.setattr(hf, "_nothing_hidden", net.embeddings.random_masking)
    net.config.mask_ratio = 0.75
    with pytest.raises(UserError, match="another vector each time"):
        load_encoder(f"hf:{tmp_path / 'mae'}", None, tmp_path)


@pytest.mark.parametrize("kind", ["gemma3", "llava"])
def test_the_eyes_of_a_model_that_writes(tmp_path, kind):
    """MedGemma's tower as it lies in MedGemma; simgemma is of its architecture."""
    import transformers as t

    folder = Path(__file__).parents[2] / "medsae/naming/simgemma"
    if kind == "llava":
        folder, size = (
            tmp_path / "llava",
            dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64),
        )
        config = t.LlavaConfig(vision_config=t.CLIPVisionConfig(image_size=64, patch_size=16, **size),
                               text_config=t.LlamaConfig(vocab_size=99, num_key_value_heads=4, **size))  # fmt: skip
        torch.manual_seed(0)
        t.LlavaForConditionalGeneration(config).save_pretrained(folder)
        t.CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}).save_pretrained(
            folder
        )
    encoder = load_encoder(f"hf:{folder}", None, tmp_path)
    picture = pictures()[2]
    x = torch.from_numpy(encoder.prepare(picture))[None] / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (encoder._prepare.mean, encoder._prepare.std))
    whole = t.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        right = whole.model.vision_tower(pixel_values=(x.expand(1, 3, -1, -1) - mean) / std)
    special = kind == "llava"
    assert close(
        torch.from_numpy(tokens(encoder, encoder.prepare(picture)[None])), right.last_hidden_state[:, special:]
    )
    pooled = right.pooler_output[0] if special else right.last_hidden_state[0].mean(0)
    assert close(embedded(encoder, picture), pooled)
    with pytest.raises(UserError, match="this encoder has none"):
        load_encoder(f"hf:{folder}", None, tmp_path, options=HfOptions(pool="projected"))


@pytest.mark.parametrize("word", ["backbone", "module"])
def test_a_word_before_every_key_is_taken_off(folder, tmp_path, word):
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(folder("vit"), tmp_path / "own")
    weights = tmp_path / "own/model.safetensors"
    save_file({f"{word}.{key}": value for key, value in load_file(weights).items()}, weights, {"format": "pt"})
    picture = pictures()[0]
    own, plain = (load_encoder(f"hf:{place}", None, tmp_path) for place in (tmp_path / "own", folder("vit")))
    assert close(embedded(own, picture), embedded(plain, picture))


def test_an_adapter_is_no_encoder(folder, tmp_path):
    import shutil

    shutil.copytree(folder("vit"), tmp_path / "lora")
    (tmp_path / "lora/adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="a LoRA adapter"):
        load_encoder(f"hf:{tmp_path / 'lora'}", None, tmp_path)


def test_without_a_crop_the_whole_picture_is_seen(folder, tmp_path):
    edge = np.zeros((60, 100), np.uint8)
    edge[:, :12] = edge[:, -12:] = 255  # what a centre crop cuts away
    cropped = load_encoder(f"hf:{folder('dinov2')}", None, tmp_path)
    whole = load_encoder(f"hf:{folder('dinov2')}", None, tmp_path, options=HfOptions(crop=False))
    assert cropped.prepare(edge).max() == 0 and whole.prepare(edge).max() == 255
    assert cropped.prepare(edge).shape == whole.prepare(edge).shape == (1, 56, 56)
    assert whole.name == "dinov2-no-crop" and cropped.name == "dinov2"


@pytest.mark.parametrize("side", [70, 320, 1000])
def test_cells_lie_on_the_whole_picture_however_large_the_input_is(folder, tmp_path, side):
    from medsae import geometry

    encoder = load_encoder(f"hf:{folder('dinov2')}", None, tmp_path, options=HfOptions(crop=False))
    first, step, _, size = encoder.cell_px
    y, _ = geometry.centres(encoder.grid, first, step, int(size), (side, side))
    assert y == pytest.approx((np.arange(encoder.grid[0]) + 0.5) * side / encoder.grid[0] - 0.5)


def test_identity_is_weights_config_and_preprocessing(folder, tmp_path):
    import shutil

    copy = tmp_path / "dinov2"
    shutil.copytree(folder("dinov2"), copy)
    first = find_files(f"hf:{folder('dinov2')}", None, tmp_path)
    again = find_files(f"hf:{copy}", None, tmp_path)
    assert first.hashes == again.hashes and first.model == again.model == "dinov2"
    told = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps(told | {"image_mean": [0.4, 0.4, 0.4]}))
    other = find_files(f"hf:{copy}", None, tmp_path)
    assert {k for k in first.hashes if first.hashes[k] != other.hashes[k]} == {"preprocessing"}


@pytest.mark.parametrize(
    ("name", "options", "what"),
    [
        ("dinov2", HfOptions(layer=9), r"--layer 9: this encoder has hidden states 0 to 3"),
        ("dinov2", HfOptions(layer=2, pool="pooler"), "belongs to the output of the network, not to --layer 2"),
        ("dinov2", HfOptions(pool="projected"), r"(?s)this encoder has none.*pooler, cls, mean, tokens"),
        (
            "siglip",
            HfOptions(pool="cls"),
            r"(?s)this encoder has none.*pooler, projected, mean, tokens",
        ),
    ],
)
def test_what_an_encoder_does_not_have_is_said(folder, tmp_path, name, options, what):
    with pytest.raises(UserError, match=what):
        load_encoder(f"hf:{folder(name)}", None, tmp_path, options=options)


def test_missing_weights_name_the_command(tmp_path):
    with pytest.raises(UserError) as raised:
        find_files("hf:someone/no-such-net@v1", None, tmp_path)
    assert "hf download someone/no-such-net --revision v1" in raised.value.do and "licence" in raised.value.do
    with pytest.raises(UserError, match="no such folder"):
        find_files(f"hf:{tmp_path / 'nowhere'}", None, tmp_path)


def test_a_repository_that_was_downloaded_is_found(folder, tmp_path, monkeypatch):
    import shutil

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789" * 4
    snapshot = tmp_path / "models--someone--net" / "snapshots" / commit
    shutil.copytree(folder("vit"), snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(commit)
    for word in ("someone/net", f"someone/net@{commit}", str(snapshot)):
        found = find_files(f"hf:{word}", None, tmp_path, options=HfOptions(pool="cls", layer=2))
        assert found.model == "net-layer2-cls" and found.weights.path == snapshot


def edit(folder: Path, name: str, **values) -> None:
    told = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(told | values))


def broken(folder: Path, how: str) -> None:
    if how == "half":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    elif how == "other-size":
        edit(folder, "config.json", hidden_size=48, num_attention_heads=4)
    elif how == "unknown":
        edit(folder, "config.json", model_type="no-such-model")
    elif how == "processor":
        edit(folder, "preprocessor_config.json", image_processor_type="OddImageProcessor")
    elif how == "picture":
        edit(folder, "preprocessor_config.json", size={"height": 32, "width": 32})
    elif how == "ragged":
        edit(folder, "preprocessor_config.json", size={"shortest_edge": 64}, do_center_crop=False)
    elif how == "json":
        (folder / "config.json").write_text("[1")
    elif how == "gone":
        (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("half", "transformers cannot load this encoder"),
        ("other-size", "transformers cannot load this encoder|do not fit the config"),
        ("unknown", "transformers does not know this model"),
        ("processor", "not known here: OddImageProcessor"),
        ("picture", r"does not take the pictures that its preprocessing makes \(32 x 32 px\)"),
        ("ragged", "they make no batch"),
        ("json", "cannot be read"),
        ("gone", "holds no weights"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(folder, tmp_path, how, what):
    import shutil

    copy = tmp_path / "net"
    shutil.copytree(folder("vit"), copy)
    broken(copy, how)
    with pytest.raises(UserError, match=what):
        load_encoder(f"hf:{copy}", None, tmp_path)


def test_a_text_model_is_no_encoder(tmp_path, folder):
    import shutil

    import transformers as t

    model = t.BertModel(t.BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                     intermediate_size=16))  # fmt: skip
    model.save_pretrained(tmp_path / "bert")
    shutil.copy(folder("vit") / "preprocessor_config.json", tmp_path / "bert")
    with pytest.raises(UserError, match="reads text, not pictures"):
        load_encoder(f"hf:{tmp_path / 'bert'}", None, tmp_path)


def test_weights_without_a_trained_pooler_give_the_cls_token(tmp_path, folder):
    import shutil

    import transformers as t

    copy = tmp_path / "vit"
    shutil.copytree(folder("vit"), copy)
    t.ViTModel(t.AutoConfig.from_pretrained(copy), add_pooling_layer=False).save_pretrained(copy)
    cls = load_encoder(f"hf:{copy}", None, tmp_path, options=HfOptions(pool="cls"))
    picture = pictures()[0]
    assert torch.equal(embedded(load_encoder(f"hf:{copy}", None, tmp_path), picture), embedded(cls, picture))
    with pytest.raises(UserError, match="--pool pooler: this encoder has none"):
        load_encoder(f"hf:{copy}", None, tmp_path, options=HfOptions(pool="pooler"))


def tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<unk>", "heart", "enlarged", "no", "finding"]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>").save_pretrained(folder)


@pytest.mark.skipif(FULL, reason="small configs say the same")
@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_text_towers_are_transformers_own(folder, tmp_path, name):
    import shutil

    import transformers as t

    copy = tmp_path / name
    shutil.copytree(folder(name), copy)
    tokenizer(copy)
    captions = ["enlarged heart", "no finding no finding no"]
    ours = load_text(f"hf:{copy}", None, tmp_path).embed_text(captions)
    words = t.AutoTokenizer.from_pretrained(copy)
    padding = dict(padding="max_length", max_length=16) if name == "siglip" else dict(padding=True)
    given = words(captions, return_tensors="pt", **padding)
    given = {k: v for k, v in given.items() if k == "input_ids" or (k == "attention_mask" and name == "clip")}
    with torch.inference_mode():
        right = t.AutoModel.from_pretrained(copy).eval().get_text_features(**given).pooler_output
    assert np.allclose(ours, torch.nn.functional.normalize(right, dim=1).numpy(), atol=1e-5)
    with pytest.raises(UserError, match="no text tower"):
        load_text(f"hf:{folder('vit')}", None, tmp_path)
    with pytest.raises(UserError, match="word list"):
        load_text(f"hf:{folder(name)}", None, tmp_path)


def test_options_are_part_of_the_question():
    from medsae.config import record

    assert "pool" not in record(Embed(cohort="c", encoder="simclip")), "ids made before the option existed stay"
    assert record(Embed(cohort="c", encoder="simclip", pool="tokens"))["pool"] == "tokens"
    with pytest.raises(UserError, match="goes with --pool tokens"):
        Embed(cohort="c", encoder="simclip", tokens_per_image=3)


def test_an_encoder_of_a_family_is_found_again_from_its_embeddings():
    """The record names the model, the command the place of its files; both are needed later (maps, own pictures)."""
    from types import SimpleNamespace

    from medsae.steps.eyes import embedded_with

    config = {"step": "embed", "cohort": "c", "encoder": "hf:net-layer2", "layer": 2, "crop": True, "pool": "cls"}
    made = SimpleNamespace(config=config, manifest={"command": ["embed", "--encoder", "hf:/a/net", "--layer", "2"]})
    found = embedded_with(made)
    assert (found.encoder, found.layer, found.pool) == ("hf:/a/net", 2, "cls")
