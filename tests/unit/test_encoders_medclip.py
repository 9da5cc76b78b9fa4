"""MedCLIP's towers and preprocessing against the package `medclip` itself, on full-size checkpoints of random weights.

The package cannot be imported with a current transformers, so its files are loaded one by one with stand-ins for what
it imports: torchvision's ResNet-50 is written here from its definition (and compared with transformers' own), the Swin
is transformers', and the base class of its image processor does what transformers 4.23 did.
"""

import importlib.util
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from medsae.encoders import find_files, load_encoder
from medsae.encoders.checkpoint import fit, tensors
from medsae.encoders.grey import square
from medsae.encoders.medclip import MedClip, ResNetTower, ViTTower
from medsae.encoders.sources import given
from medsae.encoders.swin import relative_position_index
from medsae.files import sha256_of
from medsae.progress import UserError

BLOCKS = (3, 4, 6, 3)
TOLERANCE = 1e-5


class TorchvisionResNet50(nn.Module):
    """torchvision.models.resnet50 by its parameter names, computed by functions."""

    def __init__(self, classes=1000):
        super().__init__()
        self.shapes = {"conv1.weight": (64, 3, 7, 7)}
        channels = 64
        for stage, count in enumerate(BLOCKS):
            width = 64 << stage
            for block in range(count):
                at = f"layer{stage + 1}.{block}"
                self.shapes |= {f"{at}.conv1.weight": (width, channels, 1, 1), f"{at}.conv2.weight": (width, width, 3, 3),
                                f"{at}.conv3.weight": (4 * width, width, 1, 1)}  # fmt: skip
                if block == 0:
                    self.shapes[f"{at}.downsample.0.weight"] = (4 * width, channels, 1, 1)
                channels = 4 * width
        for name, shape in list(self.shapes.items()):
            self._put(name, nn.Parameter(torch.zeros(shape)))
            for kind in ("weight", "bias", "running_mean", "running_var"):
                self._put(f"{self._norm(name)}.{kind}", nn.Parameter(torch.ones(shape[0]), requires_grad=False))
        self.fc = nn.Linear(2048, classes)

    @staticmethod
    def _norm(conv):
        name = conv.removesuffix(".weight")
        return name[:-1] + "1" if name.endswith("downsample.0") else name.replace("conv", "bn")

    def _put(self, name, value):
        owner = self
        *path, last = name.split(".")
        for part in path:
            if not hasattr(owner, part):
                owner.add_module(part, nn.Module())
            owner = getattr(owner, part)
        owner.register_parameter(last, value)

    def _conv(self, x, name, stride=1):
        p = self.get_parameter
        norm = self._norm(f"{name}.weight")
        weight = p(f"{name}.weight")
        y = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, var = p(f"{norm}.running_mean"), p(f"{norm}.running_var")
        return F.batch_norm(y, mean, var, p(f"{norm}.weight"), p(f"{norm}.bias"), eps=1e-5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self._conv(x, "conv1", 2)), 3, 2, 1)
        for stage, count in enumerate(BLOCKS):
            for block in range(count):
                at, stride = f"layer{stage + 1}.{block}", 2 if block == 0 and stage > 0 else 1
                y = F.relu(self._conv(x, f"{at}.conv1"))
                y = F.relu(self._conv(y, f"{at}.conv2", stride))
                y = self._conv(y, f"{at}.conv3")
                x = F.relu(y + (self._conv(x, f"{at}.downsample.0", stride) if block == 0 else x))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


# --- the package ------------------------------------------------------------------------------------------------------


def package_file(monkeypatch, name):
    """One file of the installed package `medclip`, without its __init__."""
    spec = importlib.util.find_spec("medclip")
    if spec is None:
        pytest.skip("the package medclip is not installed: pip install --no-deps medclip==0.0.3")
    base = spec.submodule_search_locations[0]
    package = types.ModuleType("_medclip")
    package.__path__ = [base]
    monkeypatch.setitem(sys.modules, "_medclip", package)
    for part in ("constants", name):
        loaded = importlib.util.spec_from_file_location(f"_medclip.{part}", f"{base}/{part}.py")
        module = importlib.util.module_from_spec(loaded)
        monkeypatch.setitem(sys.modules, f"_medclip.{part}", module)
        setattr(package, part, module)
        loaded.loader.exec_module(module)
    return module


def stand_in(monkeypatch, name, **members):
    module = types.ModuleType(name)
    module.__dict__.update(members)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def modeling(monkeypatch):
    models = types.SimpleNamespace(resnet50=lambda pretrained: TorchvisionResNet50())
    stand_in(monkeypatch, "torchvision", models=models)
    stand_in(monkeypatch, "transformers", AutoModel=None, AutoTokenizer=None)
    return package_file(monkeypatch, "modeling_medclip")


# --- checkpoints of random weights ------------------------------------------------------------------------------------


def random_state(shapes, seed):
    """Weights and statistics of a plausible size for each key: outputs stay near 1 through all layers."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
        elif key.endswith("running_var"):
            state[key] = noise.abs() * 0.2 + 0.8
        elif noise.ndim >= 2 and "table" not in key:
            state[key] = noise * (2 / noise[0].numel()) ** 0.5
        elif "norm" in key or ".bn" in key or "downsample.1" in key:
            state[key] = noise * 0.1 + (0.5 if key.endswith("weight") else 0)
        else:
            state[key] = noise * 0.1
    return state


def shapes_of(module):
    return {k: v.shape for k, v in module.state_dict().items()}


def medclip_checkpoint(folder, tower, seed=0):
    """pytorch_model.bin in MedCLIP's layout: this tower, and a little of the text side."""
    state = {f"vision_model.{k}": v for k, v in random_state(shapes_of(tower), seed).items()}
    for key in list(state):
        if key.endswith("relative_position_bias_table"):
            state[key.replace("bias_table", "index")] = (
                tower.model.encoder.layers[0].blocks[0].attention.self.index.clone()
            )
    state |= {"text_model.projection_head.weight": torch.zeros(512, 768), "logit_scale": torch.tensor(2.65)}
    folder.mkdir()
    torch.save(state, folder / "pytorch_model.bin")
    return state


@pytest.fixture(scope="module")
def resnet_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "resnet"
    medclip_checkpoint(folder, ResNetTower())
    return folder


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "vit"
    medclip_checkpoint(folder, ViTTower())
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other are slow on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for all tests here: converting a checkpoint writes 100 MB."""
    return tmp_path_factory.mktemp("cache")


def grey_batch(count=2):
    return torch.randn((count, 1, 224, 224), generator=torch.Generator().manual_seed(3))


# --- parity -----------------------------------------------------------------------------------------------------------


def test_resnet_is_the_packages(monkeypatch, resnet_folder, cache, capsys):
    theirs = modeling(monkeypatch).MedCLIPVisionModel(medclip_checkpoint=str(resnet_folder)).eval()
    assert "missing keys: []" in capsys.readouterr().out, "the package finds all its keys in a checkpoint of our layout"
    ours = load_encoder("medclip-resnet", resnet_folder, cache)
    x = grey_batch()
    with torch.inference_mode():
        expected, got = theirs(x), ours.module(x)
    assert expected.shape == (2, 512) and expected.std() > 0.1
    assert (got - expected).abs().max() <= TOLERANCE * max(1, expected.abs().max())


def test_vit_is_the_packages(monkeypatch, vit_folder, cache):
    from transformers import SwinConfig, SwinModel  # the real one, before its stand-in

    package = modeling(monkeypatch)
    monkeypatch.setattr(
        package, "AutoModel", types.SimpleNamespace(from_pretrained=lambda name: SwinModel(SwinConfig()))
    )
    theirs = package.MedCLIPVisionModelViT().eval()
    state = torch.load(vit_folder / "pytorch_model.bin", weights_only=True)
    theirs.load_state_dict(
        {renamed(k): v for k, v in state.items() if k.startswith("vision_model.") and "_index" not in k}
    )
    ours = load_encoder("medclip-vit", vit_folder, cache)
    x = grey_batch()
    with torch.inference_mode():
        expected, got = theirs(x), ours.module(x)
    assert expected.shape == (2, 512) and expected.std() > 0.1
    assert (got - expected).abs().max() <= TOLERANCE * max(1, expected.abs().max())


def renamed(key):
    """A key of MedCLIP-ViT's checkpoint in the names of the installed transformers (5 has renamed them)."""
    key = key.removeprefix("vision_model.")
    for old, new in (
        ("attention.self.query", "attention.q_proj"), ("attention.self.key", "attention.k_proj"),
        ("attention.self.value", "attention.v_proj"), ("attention.output.dense", "attention.o_proj"),
        ("attention.self.relative", "attention.relative_position_bias.relative"),
        ("intermediate.dense", "mlp.fc1"), ("output.dense", "mlp.fc2"),
    ):  # fmt: skip
        key = key.replace(old, new)
    return key


def test_the_index_of_relative_positions_is_that_of_the_checkpoint():
    """Older versions saved it; by hand: the middle of the table is the cell itself, one column on is one row less."""
    index = relative_position_index()
    assert index.shape == (49, 49) and (index.diag() == 84).all()
    assert index[0, 1] == 83 and index[1, 0] == 85 and index[0, 7] == 84 - 13 and index[48, 0] == 168


def test_the_oracle_is_a_resnet50():
    """The stand-in for torchvision equals transformers' ResNet-50, another implementation, on the same weights."""
    from transformers import ResNetConfig, ResNetModel

    oracle = TorchvisionResNet50().eval()
    state = random_state(shapes_of(oracle), seed=5)
    oracle.load_state_dict(state)
    other = ResNetModel(ResNetConfig(downsample_in_bottleneck=False)).eval()
    names = {}
    for key in other.state_dict():
        name = key.replace("embedder.embedder.convolution", "conv1").replace("embedder.embedder.normalization", "bn1")
        name = name.replace("encoder.stages.", "layer").replace(".layers.", ".").replace(".shortcut.", ".downsample.")
        for number in (2, 1, 0):
            name = name.replace(f".layer.{number}.convolution", f".conv{number + 1}")
            name = name.replace(f".layer.{number}.normalization", f".bn{number + 1}")
        name = name.replace("downsample.convolution", "downsample.0").replace(
            "downsample.normalization", "downsample.1"
        )
        if name.startswith("layer"):
            name = f"layer{int(name[5]) + 1}{name[6:]}"
        names[key] = name
    other.load_state_dict({key: state.get(name, torch.tensor(0)) for key, name in names.items()})
    x = grey_batch(1).repeat(1, 3, 1, 1)
    with torch.inference_mode():
        expected = oracle.fc(other(x).pooler_output.flatten(1))
        assert (oracle(x) - expected).abs().max() <= TOLERANCE * max(1, expected.abs().max())


class OldFeatureExtractor:
    """CLIPFeatureExtractor as transformers 4.23 had it, for a PIL image: resize the shorter side, crop the middle,
    scale by 1/255, standardise; channels are the caller's business."""

    def __init__(self, do_resize, size, resample, do_center_crop, crop_size, do_normalize, mean, std, rgb):
        self.do_resize, self.size, self.resample, self.do_center_crop = do_resize, size, resample, do_center_crop
        self.crop_size, self.do_normalize, self.image_mean, self.image_std = crop_size, do_normalize, mean, std
        self.do_convert_rgb = rgb

    def resize(self, image, size, resample):
        w, h = image.size
        return image.resize((size, size * h // w) if w <= h else (size * w // h, size), resample)

    def center_crop(self, image, size):
        assert image.size == (size, size)
        return image

    def normalize(self, image, mean, std):
        return (np.asarray(image).astype(np.float32) / 255.0 - np.float32(mean)) / np.float32(std)


def package_preprocessing(monkeypatch):
    transformers = stand_in(monkeypatch, "transformers", AutoTokenizer=None, CLIPProcessor=object)
    transformers.CLIPFeatureExtractor = OldFeatureExtractor
    stand_in(monkeypatch, "transformers.utils", TensorType=str)
    stand_in(monkeypatch, "transformers.feature_extraction_utils", BatchFeature=lambda data, tensor_type: data)
    stand_in(monkeypatch, "transformers.image_utils", is_torch_tensor=torch.is_tensor)
    stand_in(monkeypatch, "torchvision", transforms=None)
    stand_in(monkeypatch, "nltk")
    package_file(monkeypatch, "prompts")
    package = sys.modules["_medclip"]
    spec = importlib.util.spec_from_file_location("_medclip.dataset", f"{package.__path__[0]}/dataset.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MedCLIPFeatureExtractor()


@pytest.mark.parametrize(
    "shape", [(320, 390), (390, 320), (224, 224), (225, 224), (100, 60), (1, 1), (31, 500), (1024, 1023)]
)
def test_preprocessing_is_the_packages(monkeypatch, shape):
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    (expected,) = package_preprocessing(monkeypatch)(Image.fromarray(picture))["pixel_values"]
    got = MedClip("medclip-resnet", nn.Identity(), "").prepare(picture)
    assert got.dtype == np.float32 and got.shape == expected.shape == (1, 224, 224)
    assert np.abs(got - expected).max() <= 1e-6


def test_preprocessing_by_hand():
    """A white 2 x 2 picture lies in the middle of a black 224 square: rows and columns 111 and 112."""
    x = MedClip("medclip-resnet", nn.Identity(), "").prepare(np.full((2, 2), 255, np.uint8))[0]
    black, white = -0.5862785803043838 / 0.27950088968644304, (1 - 0.5862785803043838) / 0.27950088968644304
    assert x[111:113, 111:113] == pytest.approx(white, abs=1e-6)
    x[111:113, 111:113] = black
    assert x == pytest.approx(black, abs=1e-6)


@pytest.mark.parametrize(
    "picture", [np.zeros((3, 3), np.uint16), np.zeros((3, 3, 3), np.uint8), np.zeros((0, 3), np.uint8)]
)
def test_only_a_grey_8_bit_matrix_is_a_picture(picture):
    with pytest.raises(ValueError, match="must be a uint8 matrix"):
        square(picture, 224)


# --- the right weights ------------------------------------------------------------------------------------------------


def test_identity_is_the_sha256_of_the_file_in_any_spelling(resnet_folder, tmp_path):
    expected = sha256_of(resnet_folder / "pytorch_model.bin")
    assert find_files("medclip-resnet", resnet_folder, tmp_path).weights.sha256 == expected
    assert find_files("medclip-resnet", resnet_folder.parent, tmp_path).weights.sha256 == expected
    assert find_files("medclip-resnet", resnet_folder / "pytorch_model.bin", tmp_path).weights.sha256 == expected


def test_the_converted_copy_is_used_from_then_on(resnet_folder, cache, monkeypatch):
    first = load_encoder("medclip-resnet", resnet_folder, cache)
    assert first.weights_sha256 == sha256_of(resnet_folder / "pytorch_model.bin")
    assert first.unit_norm_default and first.dim == 512
    monkeypatch.setattr(torch, "load", None)
    second = load_encoder("medclip-resnet", resnet_folder, cache)
    assert torch.equal(first.module.model.fc.weight, second.module.model.fc.weight)
    third = load_encoder("medclip-resnet", converted_copy(cache, "medclip-resnet"), cache)
    assert torch.equal(first.module.model.fc.weight, third.module.model.fc.weight)


def converted_copy(cache, name):
    (copy,) = (cache / "encoders" / name).glob("*.safetensors")
    return copy


def test_the_other_tower_is_refused_by_name(resnet_folder, vit_folder, cache):
    for name, folder in (("medclip-resnet", resnet_folder), ("medclip-vit", vit_folder)):
        load_encoder(name, folder, cache)  # converts, unless a test before has
    vit, resnet = converted_copy(cache, "medclip-vit"), converted_copy(cache, "medclip-resnet")
    words = r"not a checkpoint of medclip-vit: \d+ keys are missing: vision_model\.model\.emb"
    with pytest.raises(UserError, match=words):
        load_encoder("medclip-vit", resnet, cache)
    words = r"not a checkpoint of medclip-resnet: .*keys do not belong: vision_model\.model\.emb"
    with pytest.raises(UserError, match=words):
        load_encoder("medclip-resnet", vit, cache)


def test_another_shape_is_refused_and_batchnorm_counters_may_be_absent(tmp_path):
    tower = ResNetTower()
    state = {k: v for k, v in tower.state_dict().items() if not k.endswith("num_batches_tracked")}
    fit(tower, state, "medclip-resnet", tmp_path, "vision_model.")
    assert not tower.training
    words = r"1 tensors have another shape: vision_model\.model\.fc\.weight \[1000, 2048\] instead of \[512, 2048\]"
    with pytest.raises(UserError, match=words):
        fit(tower, state | {"model.fc.weight": torch.zeros(1000, 2048)}, "medclip-resnet", tmp_path, "vision_model.")


def test_half_precision_becomes_float32_and_nan_is_refused(tmp_path):
    torch.save({"vision_model.a": torch.tensor([1.5]).half(), "vision_model.n": torch.tensor(3)}, tmp_path / "half.bin")
    found = tensors(given(tmp_path / "half.bin"), tmp_path, "vision_model.")
    assert found["a"].dtype == torch.float32 and found["a"].item() == 1.5 and found["n"].dtype == torch.int64
    torch.save({"vision_model.a": torch.tensor([float("nan")])}, tmp_path / "nan.bin")
    with pytest.raises(UserError, match=r"1 tensors of the checkpoint hold NaN or infinity, first vision_model\.a"):
        tensors(given(tmp_path / "nan.bin"), tmp_path, "vision_model.")
