"""The adapters of examples/: they register without the packages they adapt, and are those packages' own where installed."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

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
