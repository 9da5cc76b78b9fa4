"""Where weights come from: download with resume, zips, converted copies, and files that are something else."""

import argparse
import contextlib
import hashlib
import http.server
import io
import json
import pickle
import subprocess
import sys
import threading
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medsae.encoders import find_files, load_encoder
from medsae.encoders.checkpoint import tensors
from medsae.encoders.download import fetch
from medsae.encoders.offered.medclip import URLS
from medsae.encoders.sources import cached, given
from medsae.files import sha256_of
from medsae.progress import Silent, UserError


class Server:
    """One file over HTTP on the loopback. `cut` bytes are sent of each of the first `breaks` replies, then silence."""

    def __init__(self, data: bytes):
        self.data, self.etag, self.ranges, self.lengths = data, '"v1"', True, True
        self.cut, self.breaks, self.status = None, 0, None
        self.asked: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.reply(self)

            def log_message(self, format, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/medclip-pretrained.zip"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def reply(self, to):
        wanted = to.headers.get("Range")
        self.asked.append(wanted)
        if self.status:
            to.send_error(self.status)
            return
        body, start = self.data, 0
        if wanted and self.ranges and to.headers.get("If-Range") == self.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            body = self.data[start:]
            to.send_response(206)
            to.send_header("Content-Range", f"bytes {start}-{len(self.data) - 1}/{len(self.data)}")
        else:
            to.send_response(200)
        if self.lengths:
            to.send_header("Content-Length", str(len(body)))
        if self.etag:
            to.send_header("ETag", self.etag)
        to.end_headers()
        if self.breaks:
            self.breaks -= 1
            body = body[: self.cut]
        to.wfile.write(body)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """A proxy of the machine must not come between the test and the loopback."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server():
    made = Server(bytes(range(256)) * 1000)
    yield made
    made.http.shutdown()
    made.http.server_close()


class Counting(Silent):
    """Remembers what a person would have seen."""

    def __init__(self):
        self.said, self.counted, self.totals = [], 0, []

    def say(self, message):
        self.said.append(message)

    def task(self, what, total=None, unit=""):
        self.totals.append(total)
        outer = self

        class Task:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

            def advance(self, n=1, **facts):
                outer.counted += n

        return Task()


def test_a_download_arrives_whole_with_progress(server, tmp_path):
    progress = Counting()
    fetch(server.url, tmp_path / "f", progress, "do")
    assert (tmp_path / "f").read_bytes() == server.data
    assert progress.counted == len(server.data) and progress.totals == [len(server.data)]
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_connection_that_breaks_is_continued(server, tmp_path):
    server.cut, server.breaks = 100_000, 2
    fetch(server.url, tmp_path / "f", Silent(), "do")
    assert (tmp_path / "f").read_bytes() == server.data
    assert server.asked == [None, "bytes=100000-", "bytes=200000-"]


def test_a_later_call_goes_on_from_the_part(server, tmp_path):
    server.cut, server.breaks = 100_000, 1
    real = server.reply

    def down_after_the_first(to):
        server.status = 503 if server.asked else None
        real(to)

    server.reply = down_after_the_first
    with pytest.raises(UserError, match=r"(?s)download failed: Service Unavailable \(100,000 bytes are kept.*advice"):
        fetch(server.url, tmp_path / "f", Silent(), "advice")
    assert not (tmp_path / "f").exists() and (tmp_path / "f.part").stat().st_size == 100_000
    server.status, server.reply, server.asked = None, real, []
    fetch(server.url, tmp_path / "f", Silent(), "do")
    assert (tmp_path / "f").read_bytes() == server.data and server.asked == ["bytes=100000-"]


def test_a_file_that_has_changed_is_fetched_from_the_beginning(server, tmp_path):
    server.cut, server.breaks = 100_000, 1

    def changed(to):
        if len(server.asked) == 1:
            server.data, server.etag = server.data[::-1], '"v2"'
        Server.reply(server, to)

    server.reply = changed
    fetch(server.url, tmp_path / "f", Silent(), "do")
    assert (tmp_path / "f").read_bytes() == server.data


@pytest.mark.parametrize("lack", ["ranges", "etag"])
def test_a_server_that_cannot_resume_is_asked_for_the_whole_file(server, tmp_path, lack):
    server.cut, server.breaks = 100_000, 1
    setattr(server, lack, None)
    fetch(server.url, tmp_path / "f", Silent(), "do")
    assert (tmp_path / "f").read_bytes() == server.data and len(server.asked) == 2


def test_a_server_that_always_breaks_at_once_ends_in_an_error(server, tmp_path):
    server.cut, server.breaks = 0, 99
    with pytest.raises(UserError, match="the connection ended after 0 of 256,000 bytes"):
        fetch(server.url, tmp_path / "f", Silent(), "do")


def test_two_downloads_of_one_file_do_not_mix(server, tmp_path):
    import fcntl

    with (tmp_path / "f.part").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is downloading"):
            fetch(server.url, tmp_path / "f", Silent(), "do")


# --- the cache of an encoder ------------------------------------------------------------------------------------------


def model_bin(value=1.0):
    out = io.BytesIO()
    torch.save({"vision_model.w": torch.full((3,), value), "text_model.w": torch.ones(2)}, out)
    return out.getvalue()


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def test_weights_are_fetched_once_with_their_hashes_recorded(server, tmp_path):
    inside = model_bin()
    server.data = zipped({"medclip-resnet/pytorch_model.bin": inside, "medclip-resnet/readme.txt": b"hello"})
    folder, progress = tmp_path / "medclip-resnet", Counting()
    checkpoint = cached(folder, server.url, progress)
    assert checkpoint.sha256 == hashlib.sha256(inside).hexdigest()
    assert tensors(checkpoint, folder, "vision_model.")["w"].tolist() == [1, 1, 1]
    assert any(checkpoint.sha256 in line for line in progress.said)
    source = json.loads((folder / "source.json").read_text())
    assert source["url"] == server.url and source["file_sha256"] == checkpoint.sha256
    assert source["zip_sha256"] == hashlib.sha256(server.data).hexdigest() and source["zip_bytes"] == len(server.data)
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".safetensors"], "no second copy stays"
    again = cached(folder, server.url, Silent())
    assert again.sha256 == checkpoint.sha256 and len(server.asked) == 1
    assert tensors(again, folder, "text_model.")["w"].tolist() == [1, 1], "the text tower is kept"


def test_a_kill_between_download_and_conversion_costs_nothing(server, tmp_path):
    server.data = zipped({"pytorch_model.bin": model_bin()})
    first = cached(tmp_path / "e", server.url, Silent())  # downloaded and unpacked, not yet converted
    second = cached(tmp_path / "e", server.url, Silent())
    assert second == first and len(server.asked) == 1
    assert tensors(second, tmp_path / "e")["vision_model.w"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "medclip-pretrained.zip", "medclip-resnet/pytorch_model.bin"])
def test_what_a_person_put_into_the_cache_is_used(server, tmp_path, name):
    data = model_bin(5.0)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(zipped({"a/pytorch_model.bin": data}) if name.endswith("zip") else data)
    checkpoint = cached(tmp_path, server.url, Silent())
    assert server.asked == [] and checkpoint.sha256 == hashlib.sha256(data).hexdigest()
    assert tensors(checkpoint, tmp_path, "vision_model.")["w"].tolist() == [5, 5, 5]


def test_offline_says_where_to_get_it_and_where_to_put_it(tmp_path, monkeypatch):
    url = "http://127.0.0.1:9/medclip-pretrained.zip"  # nothing listens on the discard port
    monkeypatch.setitem(URLS, "medclip-resnet", url)
    with pytest.raises(UserError) as raised:
        load_encoder("medclip-resnet", None, tmp_path)
    assert raised.value.where == url and "Connection refused" in raised.value.what
    assert str(tmp_path / "encoders" / "medclip-resnet") in raised.value.do and "--weights PATH" in raised.value.do


def test_a_page_instead_of_a_zip_is_not_kept(server, tmp_path):
    server.data = b"<html>please log in</html>"
    with pytest.raises(UserError, match=r"not a zip .*<html>please log in"):
        cached(tmp_path, server.url, Silent())
    server.data = zipped({"pytorch_model.bin": model_bin()})
    cached(tmp_path, server.url, Silent())


@pytest.mark.parametrize("members", [{"readme.txt": b""}, {"a/pytorch_model.bin": b"", "b/pytorch_model.bin": b""}])
def test_a_zip_with_other_contents_is_refused(server, tmp_path, members):
    server.data = zipped(members)
    with pytest.raises(UserError, match=r"files pytorch_model\.bin instead of one"):
        cached(tmp_path, server.url, Silent())


def test_a_zip_cannot_write_outside_its_folder(server, tmp_path):
    server.data = zipped({"../../pytorch_model.bin": model_bin()})
    folder = tmp_path / "a" / "b"
    assert cached(folder, server.url, Silent()).path == folder / "pytorch_model.bin"
    assert not list(tmp_path.glob("*.bin"))


# --- files that are something else ------------------------------------------------------------------------------------


class Bomb:
    """A pickle that would run code when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def write(path, data):
    path.write_bytes(data)
    return path


def test_a_pickle_that_runs_code_is_refused_unrun(tmp_path):
    trace = tmp_path / "trace"
    torch.save({"vision_model.w": torch.ones(1), "x": Bomb(trace)}, tmp_path / "modern.bin")
    plain = write(tmp_path / "plain.bin", pickle.dumps(Bomb(trace), protocol=2))
    for path in (tmp_path / "modern.bin", plain):
        with pytest.raises(UserError, match="cannot be read as PyTorch weights"):
            tensors(given(path), tmp_path / "cache")
    assert not trace.exists() and not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("data", [b"<!DOCTYPE html><p>404", b"", b"hello weights\n" * 50, b"PK\x03\x04 truncated"])
def test_files_that_are_no_weights(tmp_path, data):
    with pytest.raises(UserError, match="cannot be read as PyTorch weights"):
        tensors(given(write(tmp_path / "pytorch_model.bin", data)), tmp_path / "cache")


def test_any_damage_is_a_user_error_or_harmless(tmp_path):
    whole, random = model_bin(), np.random.default_rng(0)
    for trial in range(60):
        data = bytearray(whole)
        for at in random.integers(0, len(data), 20):
            data[at] = random.integers(0, 256)
        with contextlib.suppress(UserError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of odd pickles before it refuses them
            tensors(given(write(tmp_path / "w.bin", bytes(data))), tmp_path / str(trial))


def test_a_truncated_checkpoint(tmp_path):
    with pytest.raises(UserError, match="cannot be read as PyTorch weights"):
        tensors(given(write(tmp_path / "w.bin", model_bin()[:-200])), tmp_path)
    save_file({"w": torch.ones(1000)}, tmp_path / "w.safetensors")
    write(tmp_path / "w.safetensors", (tmp_path / "w.safetensors").read_bytes()[:-8])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        tensors(given(tmp_path / "w.safetensors"), tmp_path)


def test_a_pickle_without_tensors(tmp_path):
    torch.save([1, 2], tmp_path / "list.bin")
    with pytest.raises(UserError, match="no dictionary of tensors"):
        tensors(given(tmp_path / "list.bin"), tmp_path)


def test_paths_without_weights(tmp_path):
    with pytest.raises(UserError, match="no weights at this path"):
        given(tmp_path / "none.bin")
    with pytest.raises(UserError, match="this folder holds no checkpoint"):
        given(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "pytorch_model.bin", b"x")
    with pytest.raises(UserError, match=r"(?s)holds 2 checkpoints.*name one"):
        given(tmp_path)


def test_views_of_one_storage_are_converted(tmp_path):
    base = torch.arange(6.0)
    torch.save({"a": base[:3], "b": base[3:], "c": base.view(2, 3).t()}, tmp_path / "w.bin")
    found = tensors(given(tmp_path / "w.bin"), tmp_path)
    assert found["b"].tolist() == [3, 4, 5] and found["c"].tolist() == [[0, 3], [1, 4], [2, 5]]


TOWER = {"vision.conv.weight": torch.ones(2, 3), "vision.conv.bias": torch.zeros(2), "text.w": torch.ones(1)}


def led(lead):
    return {lead + key: value for key, value in TOWER.items()}


WRAPPED = {
    "plain": (TOWER, ""),
    "module.": (led("module."), "'module.' taken off"),
    "compiled": (led("_orig_mod.module."), "'_orig_mod.module.' taken off"),
    "state_dict": ({"epoch": 3, "state_dict": TOWER, "optimizer": {"lr": 0.1}}, "taken out of 'state_dict'"),
    "model": ({"model": TOWER, "args": argparse.Namespace(lr=1)}, "taken out of 'model'"),
    "all of it": ({"best": np.float64(0.5), "state_dict": {"model": led("module.model.")}},
                  "taken out of 'state_dict.model', 'module.model.' taken off"),
    "Lightning": ({"state_dict": {**led("model."), "criterion.weight": torch.ones(1)}}, "'model.' taken off"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrappers_of_training_programs_are_undone_and_said(tmp_path, kind):
    held, words = WRAPPED[kind]
    torch.save(held, tmp_path / "x.ckpt")
    for _ in range(2):  # the second time from the converted copy
        said = []
        found = tensors(given(tmp_path / "x.ckpt"), tmp_path / "cache", "vision.", said.append)
        assert sorted(found) == ["conv.bias", "conv.weight"] and (found["conv.weight"] == 1).all()
        assert words in " ".join(said) and bool(said) == bool(words)


def test_a_wrapper_is_undone_where_all_keys_are_wanted(tmp_path):
    torch.save({"state_dict": led("module.")}, tmp_path / "x.bin")
    assert sorted(tensors(given(tmp_path / "x.bin"), tmp_path / "cache")) == sorted(TOWER)


def test_the_name_of_a_checkpoint_does_not_decide_what_it_is(tmp_path):
    save_file(led("module."), tmp_path / "pytorch_model.bin")
    torch.save(TOWER, tmp_path / "x.safetensors")
    for name in ("pytorch_model.bin", "x.safetensors"):
        found = tensors(given(tmp_path / name), tmp_path / "cache", "vision.")
        assert sorted(found) == ["conv.bias", "conv.weight"]


def test_unknown_encoders_are_named(tmp_path):
    with pytest.raises(
        UserError, match=r"(?s)no encoder 'medclip'.*efficientnet-lite0, .*medclip-resnet, medclip-vit, simclip"
    ):
        load_encoder("medclip", None, tmp_path)


def test_sha256_by_hand(tmp_path):
    path = write(tmp_path / "abc", b"abc")
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert find_files("medclip-vit", path, tmp_path).weights.sha256 == sha256_of(path), "without reading it as weights"


def test_the_identity_needs_no_torch(tmp_path):
    path = write(tmp_path / "w.bin", b"abc")
    program = (
        "import sys; from pathlib import Path; from medsae.encoders import find_files; "
        f"print(find_files('medclip-resnet', Path({str(path)!r}), Path('.')).weights.sha256); assert 'torch' not in sys.modules"
    )
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert ran.returncode == 0 and ran.stdout.strip() == sha256_of(path), ran.stderr
