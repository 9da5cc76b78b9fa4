"""embed(): the right row for each picture, and the same bits after a kill, damage, or with other workers."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medsae import seals
from medsae.encoders.pipeline import How, embed
from medsae.progress import Silent, UserError

SIZE, DIM = 16, 6


class TinyEncoder:
    """A seeded convolution and a linear layer behind the real interface."""

    name, dim, size, unit_norm_default, weights_sha256 = "tiny", DIM, SIZE, True, "0" * 64

    def __init__(self, scale: float = 1.0):
        generator = torch.Generator().manual_seed(0)
        self.module = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 7 * 7, DIM)).eval()
        for parameter in self.module.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2 * scale
            parameter.requires_grad_(False)

    def prepare(self, picture):
        return (picture[:SIZE, :SIZE].astype(np.float32) / 255 - 0.5)[None]


class Noise:
    """Picture i is random with seed i; those in `bad` cannot be decoded."""

    def __init__(self, n, bad=(), seconds=0.0):
        self.n, self.bad, self.seconds = n, set(bad), seconds
        self.asked = []

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.asked.append(i)
        time.sleep(self.seconds)
        if i in self.bad:
            raise OSError(f"picture {i} is truncated")
        return np.random.default_rng(i).integers(0, 256, (20, 20), np.uint8)


def run(shards, n=50, pictures=None, encoder=None, **options):
    options = dict(shard_size=16, batch=4, precision="fp32", device="cpu", workers=3) | options
    return embed(pictures or Noise(n), encoder or TinyEncoder(), How(**options), shards=shards, progress=Silent())


def one_by_one(n, unit_norm=True):
    encoder, pictures = TinyEncoder(), Noise(n)
    x = torch.cat([encoder.module(torch.from_numpy(encoder.prepare(pictures[i]))[None]) for i in range(n)]).numpy()
    return x / np.linalg.norm(x, axis=1, keepdims=True) if unit_norm else x


@pytest.mark.parametrize(("n", "shard_size", "batch"), [(1, 16, 4), (16, 16, 5), (50, 16, 4), (50, 64, 32)])
def test_each_row_is_the_embedding_of_its_picture(tmp_path, n, shard_size, batch):
    x, report = run(tmp_path, n, shard_size=shard_size, batch=batch)
    assert x.dtype == np.float32 and x.shape == (n, DIM)
    np.testing.assert_allclose(x, one_by_one(n), atol=1e-6)
    assert report.failed == [] and report.precision == "fp32" and report.cosine_to_fp32 is None
    assert report.pictures_per_second > 0


def test_the_norm_is_kept_when_asked(tmp_path):
    x, _ = run(tmp_path, unit_norm=False)
    np.testing.assert_allclose(x, one_by_one(50, unit_norm=False), atol=1e-5)
    assert np.ptp(np.linalg.norm(x, axis=1)) > 0.1


def test_each_picture_is_decoded_once_after_the_sample(tmp_path):
    pictures = Noise(50)
    run(tmp_path, pictures=pictures)
    assert sorted(pictures.asked[4:]) == list(range(50)), "4 are the sample of one batch"


def test_workers_do_not_change_a_bit(tmp_path):
    choices = tmp_path / "choices.json"  # without, the layout is measured anew each time
    bits = {run(tmp_path / str(w), workers=w, choices=choices)[0].tobytes() for w in (1, 2, 7)}
    assert len(bits) == 1


@pytest.mark.parametrize("channels_last", [False, True])
def test_threads_of_the_network_do_not_change_a_bit(channels_last):
    """A convolution whose last bits do depend on how many threads share it, under 1, 2 and 5 threads."""
    from medsae.encoders.plan import Plan, Runner

    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Conv2d(256, 64, 1), nn.Flatten())
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    x, before, results = torch.randn((4, 256, 56, 56), generator=generator), torch.get_num_threads(), set()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        with Runner(network, Plan("cpu", "fp32", channels_last, None, 4, torch.__version__)) as runner:
            assert runner.in_flight == threads
            results |= {wait().numpy().tobytes() for wait in [runner.start(x) for _ in range(6)]}
    torch.set_num_threads(before)
    assert len(results) == 1


def test_a_restart_computes_only_what_is_missing(tmp_path):
    before = np.array(run(tmp_path)[0])
    (tmp_path / "00001.npy").unlink()
    pictures = Noise(50)
    after, report = run(tmp_path, pictures=pictures)
    assert sorted(pictures.asked) == list(range(16, 32))
    assert (after == before).all()
    pictures = Noise(50)
    after, report = run(tmp_path, pictures=pictures)
    assert pictures.asked == [] and report.pictures_per_second == 0 and (after == before).all()


@pytest.mark.parametrize("damage", ["flipped byte", "truncated", "empty", "other shape", "no note"])
def test_a_damaged_shard_is_computed_anew(tmp_path, damage):
    before = np.array(run(tmp_path)[0])
    shard, note = tmp_path / "00002.npy", tmp_path / "00002.json"
    data = bytearray(shard.read_bytes())
    if damage == "flipped byte":
        data[-3] ^= 1
        shard.write_bytes(data)
    elif damage == "truncated":
        shard.write_bytes(data[:-8])
    elif damage == "empty":
        shard.write_bytes(b"")
    elif damage == "other shape":
        np.save(shard, np.zeros((3, DIM), np.float32))
        note.write_text(json.dumps({"sha256": hashlib.sha256(shard.read_bytes()).hexdigest(), "failed": []}))
    else:
        note.unlink()
    assert (run(tmp_path)[0] == before).all()


def test_another_question_does_not_take_the_shards(tmp_path):
    run(tmp_path, unit_norm=True)
    x, _ = run(tmp_path, unit_norm=False)
    np.testing.assert_allclose(x, one_by_one(50, unit_norm=False), atol=1e-5)
    x, _ = run(tmp_path, n=20, unit_norm=False)
    assert x.shape == (20, DIM) and not (tmp_path / "00002.npy").exists()


def test_the_batch_of_the_first_start_stays(tmp_path):
    run(tmp_path, batch=4)
    (tmp_path / "00000.json").unlink()
    run(tmp_path, batch=8)
    assert json.loads((tmp_path / "plan.json").read_text())["batch"] == 4


SCRIPT = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("tiny", sys.argv[1])
tiny = importlib.util.module_from_spec(spec); spec.loader.exec_module(tiny)
root = Path(sys.argv[2])
tiny.run(root / "shards", pictures=tiny.Noise(64, bad=[5, 40], seconds=float(sys.argv[3])), precision="auto",
         choices=root / "choices.json", workers=2, shard_size=8)
"""


def start(root: Path, seconds: float) -> subprocess.Popen:
    repository = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, __file__, str(root), str(seconds)],
        cwd=repository, env=os.environ | {"PYTHONPATH": str(repository)},
    )  # fmt: skip


@pytest.mark.long
def test_kill_9_and_the_same_command_give_the_bits_of_an_undisturbed_run(tmp_path):
    shards = tmp_path / "shards"
    job = start(tmp_path, seconds=0.05)
    deadline = time.monotonic() + 120
    while len(list(shards.glob("0*.json"))) < 2 and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    job.send_signal(signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL, "it must have been killed while it worked"
    finished = len(list(shards.glob("0*.json")))
    assert 2 <= finished < 8 and not (shards / "x.npy").exists()
    assert start(tmp_path, seconds=0).wait() == 0
    pictures = Noise(64, bad=[5, 40])
    options = dict(precision="auto", choices=tmp_path / "choices.json", shard_size=8, pictures=pictures)
    x, report = run(tmp_path / "undisturbed", **options)
    assert (tmp_path / "undisturbed" / "x.npy").read_bytes() == (shards / "x.npy").read_bytes()
    assert [i for i, _ in report.failed] == [5, 40] and np.isnan(x[[5, 40]]).all()


def test_failed_pictures_are_reported_and_change_no_other_row(tmp_path):
    choices = tmp_path / "choices.json"
    whole = np.array(run(tmp_path / "whole", choices=choices)[0])
    x, report = run(tmp_path / "bad", pictures=Noise(50, bad=[0, 17]), choices=choices)
    assert report.failed == [(0, "picture 0 is truncated"), (17, "picture 17 is truncated")]
    good = np.setdiff1d(np.arange(50), [0, 17])
    assert (x[good] == whole[good]).all() and np.isnan(x[[0, 17]]).all()
    _, report = run(tmp_path / "bad", pictures=Noise(50, bad=[0, 17]), choices=choices)
    assert len(report.failed) == 2, "a restart still knows them"


def test_nothing_decodable_and_nothing_at_all(tmp_path):
    with pytest.raises(UserError, match=r"none of the 5 pictures could be decoded \(picture 0: picture 0 is truncated"):
        run(tmp_path / "a", pictures=Noise(5, bad=range(5)))
    with pytest.raises(UserError, match="no pictures"):
        run(tmp_path / "b", n=0)


def test_our_own_mistakes_in_decoding_are_not_swallowed(tmp_path):
    class Wrong(Noise):
        def __getitem__(self, i):
            raise KeyError("a bug")

    with pytest.raises(KeyError):
        run(tmp_path, pictures=Wrong(5))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_that_gives_nan_is_refused(tmp_path, value):
    encoder = TinyEncoder()
    encoder.module[3].bias[1] = value
    with pytest.raises(UserError, match=r"NaN, infinity or zero for 16 of 16 pictures \(cpu, fp32\)"):
        run(tmp_path, encoder=encoder)
    assert not list(tmp_path.glob("0*.npy"))


def test_a_zero_vector_cannot_be_normalised(tmp_path):
    with pytest.raises(UserError, match="zero for 16 of 16"):
        run(tmp_path / "a", encoder=TinyEncoder(scale=0))
    assert (run(tmp_path / "b", encoder=TinyEncoder(scale=0), unit_norm=False)[0] == 0).all()


def test_forced_bf16_records_its_cosine(tmp_path):
    x, report = run(tmp_path, precision="bf16")
    assert report.precision == "bf16" and 0.99 < report.cosine_to_fp32 < 1
    exact = one_by_one(50)
    assert 1e-5 < np.abs(x - exact).max() < 0.05, "bf16 was used, and is near"
    assert (x * exact).sum(1)[:4].min() == pytest.approx(report.cosine_to_fp32, abs=1e-4), "sample: the first batch"


def test_the_choice_is_remembered(tmp_path):
    choices = tmp_path / "choices.json"
    run(tmp_path / "a", precision="auto", choices=choices)
    (key,) = known = seals.read(choices)
    known[key] = {"precision": "bf16", "channels_last": True, "cosine_to_fp32": 0.5}
    choices.write_text(seals.text(known))
    _, report = run(tmp_path / "b", precision="auto", choices=choices)
    assert (report.precision, report.channels_last, report.cosine_to_fp32) == ("bf16", True, 0.5)


def test_a_precision_far_from_fp32_is_not_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr("medsae.encoders.plan.GAIN", 1e-9)  # any way counts as faster than the one before
    monkeypatch.setattr("medsae.encoders.plan.LEAST_COSINE", 1.1)
    _, report = run(tmp_path / "a", precision="auto")
    assert report.precision == "fp32" and report.channels_last
    monkeypatch.setattr("medsae.encoders.plan.LEAST_COSINE", 0.9)
    _, report = run(tmp_path / "b", precision="auto")
    assert report.precision == "bf16" and report.cosine_to_fp32 > 0.9


def test_one_channel_is_really_computed_channels_last():
    from medsae.encoders.plan import Plan, Runner

    plan = Plan("cpu", "fp32", True, None, 2, torch.__version__)
    with Runner(nn.Conv2d(1, 8, 3), plan) as runner:
        assert runner.start(torch.rand(2, 1, 9, 9))().is_contiguous(memory_format=torch.channels_last)


def test_a_forced_device_must_be_there(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(UserError, match="cuda is not available"):
        run(tmp_path, device="cuda")


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medsae.encoders.pipeline.os.fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        run(tmp_path)


def test_threads_of_torch_are_left_as_they_were(tmp_path):
    before = torch.get_num_threads()
    run(tmp_path)
    assert torch.get_num_threads() == before


@pytest.mark.gpu
def test_cuda_is_near_the_cpu(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    exact = np.array(run(tmp_path / "cpu")[0])
    x, report = run(tmp_path / "cuda", device="cuda")
    assert report.device == "cuda"
    np.testing.assert_allclose(x, exact, atol=1e-3)
