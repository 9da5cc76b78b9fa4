"""The adapters of examples/: they register without the packages they adapt, and are those packages' own where installed."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medsae import encoders, plugins
from medsae.config import Pooling
from medsae.progress import UserError

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch):
    """Imports the module of an example as its entry point would; the registry forgets it after the test."""
    monkeypatch.setattr(plugins.encoders, "_offers", dict(plugins.encoders.all()))

    def load(folder: str, name: str):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / folder / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def test_they_register_without_their_packages(example, tmp_path):
    example("open_clip", "medsae_open_clip")
    example("torchxrayvision", "medsae_torchxrayvision")
    assert plugins.encoders.get("open_clip:x").label == "open_clip"
    assert plugins.encoders.get("xrv:densenet121-res224-chex").label == "torchxrayvision"
    with pytest.raises(UserError, match="there is no such folder"):
        encoders.find_files(f"open_clip:{tmp_path / 'nowhere'}", None, tmp_path)
    (tmp_path / "clip").mkdir()
    with pytest.raises(UserError, match="hf download"):
        encoders.find_files(f"open_clip:{tmp_path / 'clip'}", None, tmp_path)
    (tmp_path / "clip" / "open_clip_config.json").write_text(json.dumps({}))
    (tmp_path / "clip" / "open_clip_model.safetensors").write_bytes(b"abc")
    found = encoders.find_files(f"open_clip:{tmp_path / 'clip'}", None, tmp_path, options=Pooling(pool="tokens"))
    assert found.model == "clip-tokens" and set(found.hashes) == {"weights", "config"}


@pytest.mark.filterwarnings("ignore")
def test_densenet_is_torchxrayvisions_own(example, tmp_path):
    xrv = pytest.importorskip("torchxrayvision.models", exc_type=ImportError)
    example("torchxrayvision", "medsae_torchxrayvision")
    torch.manual_seed(0)
    net = xrv.DenseNet(weights=None).eval()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    ours = encoders.load_encoder("xrv:own", tmp_path / "net.pt", tmp_path)
    x = ours.prepare(np.random.default_rng(0).integers(0, 256, (300, 260), dtype=np.uint8))[None]
    assert x.shape == (1, 1, 224, 224) and -1024 <= x.min() < x.max() <= 1024
    with torch.inference_mode():
        right = net.features2(torch.from_numpy(x))
        assert torch.allclose(ours.module(torch.from_numpy(x)), right, atol=1e-5)
    assert encoders.tokens(ours, x).shape == (1, 49, 1024)
    torch.save(net, tmp_path / "whole.pt")
    with pytest.raises(UserError, match="would run code"):
        encoders.load_encoder("xrv:own", tmp_path / "whole.pt", tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_open_clip_is_open_clips_own(example, tmp_path):
    open_clip = pytest.importorskip("open_clip", exc_type=ImportError)
    example("open_clip", "medsae_open_clip")
    torch.manual_seed(0)
    # BiomedCLIP's image tower is timm's vit_base_patch16_224; here the smallest of that family, and open_clip's own text.
    model = {"embed_dim": 64, "vision_cfg": {"timm_model_name": "vit_tiny_patch16_224", "timm_model_pretrained": False,
             "timm_pool": "", "timm_proj": "linear", "image_size": 224},
             "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}}  # fmt: skip
    net = open_clip.CLIP(**model).eval()
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": model, "preprocess_cfg": {"mean": mean, "std": std, "interpolation": "bicubic"}})
    )
    torch.save(net.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    ours = encoders.load_encoder(f"open_clip:{tmp_path}", None, tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (300, 260), dtype=np.uint8)
    theirs, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    x = preprocess(Image.fromarray(picture).convert("RGB"))[None]
    assert np.array_equal(ours.prepare(picture)[None], x.numpy())
    with torch.inference_mode():
        right = theirs.eval().encode_image(x)
        assert torch.allclose(ours.module(x), right, atol=1e-5) and ours.dim == right.shape[1] == 64
        cells = theirs.visual.trunk.forward_features(x)[:, 1:]
    assert encoders.tokens_of(ours).grid == (14, 14) and np.allclose(
        encoders.tokens(ours, x.numpy()), cells.numpy(), atol=1e-5
    )
    captions = ["a radiograph with a pleural effusion", "no finding"]
    found = encoders.load_text(f"open_clip:{tmp_path}", None, tmp_path).embed_text(captions)
    assert found.shape == (2, 64) and np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
