"""The shelf: whole files or none, locks of the living, torn lines closed."""

import os
import stat
import subprocess
import sys

import pytest

from medsae import files


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    files.write(path, "old")
    with pytest.raises(ValueError, match="midway"), files.replacing(path) as new:
        new.write_text("half")
        raise ValueError("midway")
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json"], "nothing else is left behind"
    files.write(path, b"\x00new")
    assert path.read_bytes() == b"\x00new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_made_is_for_its_owner_alone(tmp_path):
    before = stat.S_IMODE(tmp_path.stat().st_mode)
    folder = files.make_folder(tmp_path / "a" / "b")
    assert [stat.S_IMODE(p.stat().st_mode) for p in (folder, folder.parent)] == [0o700, 0o700]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == before, "a folder that was there is left as it is"
    files.append_line(folder / "lines", "x")
    assert stat.S_IMODE((folder / "lines").stat().st_mode) == 0o600


def test_a_torn_line_is_closed_before_the_next(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b'{"a": 1}\n{"b": ')
    files.append_line(path, '{"c": 3}')
    assert path.read_bytes() == b'{"a": 1}\n{"b": \n{"c": 3}\n'


def test_a_lock_is_held_until_its_process_ends(tmp_path):
    path = tmp_path / "lock"
    code = f"""
import sys; from pathlib import Path; from medsae import files
handle = files.take_lock(Path({str(path)!r})); print("ready", flush=True); sys.stdin.read()
"""
    assert not files.locked(path), "no file, no lock"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        assert files.locked(path) and files.take_lock(path) is None
        child.kill()
    handle = files.take_lock(path)
    assert handle is not None and files.locked(path)
    os.close(handle)
    assert not files.locked(path)


def test_slug():
    assert files.slug(" CheXpert v1.0 (small)/") == "chexpert-v1.0--small"
    assert files.slug("x" * 50) == "x" * 40
    assert files.slug("///") == ""


def test_sha256_of(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256_of(tmp_path / "abc") == want
