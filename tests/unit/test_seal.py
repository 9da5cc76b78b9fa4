"""Nothing about an artifact changes unseen: the manifest is sealed, parents are verified when used, troubles told apart."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pytest

from medsae import config as c
from medsae import files
from medsae.progress import UserError
from medsae.store import artifacts, verified
from medsae.store.artifacts import Store
from medsae.store.reader import Reader

CONFIG = c.Embed(cohort="c", encoder="simclip")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "data")


@pytest.fixture
def made(store):
    return make(store)


def make(store, config=CONFIG):
    with store.build("thing", config, {"cohort": "c"}) as build:
        np.save(build.path / "x.npy", np.zeros((4, 2), np.float32))
        with build.database() as connection:
            connection.execute("INSERT INTO embedding_row VALUES (0, 7)")
        return build.publish({"n": 4, "d": 2, "encoder": "simclip"})


def unsealed(artifact, **changes):
    """The manifest as an earlier version of the program wrote it."""
    manifest = {k: v for k, v in artifact.manifest.items() if k != "seal"} | changes
    (artifact.path / "artifact.json").write_text(json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False))


def problem(store):
    found, problems = store.scan()
    assert not found and len(problems) == 1
    return str(problems[0])


def test_no_byte_of_a_sealed_manifest_changes_unseen(store, made):
    path = made.path / "artifact.json"
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        assert problem(store), at
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        assert problem(store), length
    path.write_bytes(whole)
    assert store.get(made.id).sealed


@pytest.mark.parametrize("change", [
    {"facts": {"n": 5, "d": 2, "encoder": "simclip"}}, {"parents": {"cohort": "d"}}, {"created": 1.0}, {"command": []},
])  # fmt: skip
def test_a_hand_edit_is_told(store, made, change):
    (made.path / "artifact.json").write_text(json.dumps(made.manifest | change, indent=1, sort_keys=True))
    assert "not what was sealed" in problem(store)


def test_a_folder_that_was_renamed_copied_or_moved_is_told(store, made):
    os.rename(made.path, other := made.path.with_name("thing-00000000"))
    assert "the folder is called thing-00000000" in problem(store)
    (store.artifacts / "sae").mkdir()
    os.rename(other, store.artifacts / "sae" / made.id)
    assert "is of kind embeddings and lies among sae" in problem(store)
    shutil.copytree(store.artifacts / "sae" / made.id, made.path)
    assert [a.id for a in store.scan("embeddings")[0]] == [made.id]


def test_an_older_artifact_is_read_and_called_not_sealed(store, made, capsys):
    from medsae.cli import main

    unsealed(made)
    assert not store.get(made.id).sealed and store.get(made.id).facts["n"] == 4
    assert main(["show", made.id, "--data", str(store.data)]) == 0
    assert "not sealed" in capsys.readouterr().out
    unsealed(made, parents={"cohort": "another"})
    assert "do not give its id" in problem(store)
    unsealed(made, config=made.config | {"precision": "bf16"})
    assert "do not give its id" in problem(store)


@pytest.mark.parametrize("change", [
    {"facts": None}, {"created": "yesterday"}, {"files": {"x.npy": 3}}, {"files": {"../x": {}}}, {"parents": []},
    {"facts": {"n": "four"}}, {"schema": 99}, {"faucts": {}}, {"created": float("1e400")}, {"command": "python"},
    {"config": [[]]}, {"id": 7}, {"facts": {"seed": []}},
])  # fmt: skip
def test_what_an_old_manifest_may_hold_is_checked(store, made, change):
    manifest = {k: v for k, v in made.manifest.items() if k != "seal"} | change
    (made.path / "artifact.json").write_text(json.dumps(manifest))
    assert "artifact.json cannot be used" in problem(store)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "[" * 100_000, "\0" * 50, '{"id": "\\ud800"}', "9" * 5000])
def test_a_manifest_that_is_none(store, made, text):
    (made.path / "artifact.json").write_text(text)
    assert "artifact.json cannot be used" in problem(store)


def test_a_parent_is_read_once_and_again_when_it_changed(store, made, monkeypatch):
    read = []
    hashed, now = files.sha256_of, time.time_ns
    monkeypatch.setattr(files, "sha256_of", lambda path: (read.append(path.name), hashed(path))[1])
    store.parent(made.id, "embeddings")
    store.parent(made.id, "embeddings")
    assert read.count("x.npy") == 2, "what has just been written is not remembered"
    monkeypatch.setattr(verified.time, "time_ns", lambda: now() + 10**10)
    store.parent(made.id, "embeddings")
    verified._known.clear()  # another process
    store.parent(made.id, "embeddings")
    assert read.count("x.npy") == 3
    assert list((store.data / "cache/verified").iterdir()), "where the cache of this data folder is, and nowhere else"
    assert {p.name for p in store.data.parent.iterdir()} == {"data"}
    path = made.path / "x.npy"
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # who tampers may put the time back
    with pytest.raises(UserError, match=r"x\.npy is not what was written"):
        store.parent(made.id, "embeddings")


def test_a_cache_that_cannot_be_written_costs_a_read(store, made):
    (store.data / "cache").write_text("not a folder")
    assert store.parent(made.id, "embeddings").id == made.id


def test_tables_open_in_another_program_are_not_called_damaged(store, made):
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code, str(made.path / "tables.duckdb")], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)  # fmt: skip
    assert holder.stdout and holder.stdin
    holder.stdout.readline()
    for look in (made.connect, lambda: Reader().query("FROM {e}.embedding_row", e=made)):
        with pytest.raises(UserError, match=rf"open for writing in .* \(PID {holder.pid}\)") as told:
            look()
        assert "delete" not in str(told.value)
    holder.stdin.close()
    holder.stdout.close()
    holder.wait(20)
    made.connect().close()


def test_damage_is_said_only_where_the_bytes_differ(store, made, monkeypatch):
    path = made.path / "tables.duckdb"
    whole = path.read_bytes()
    monkeypatch.setattr(duckdb, "connect", lambda *a, **k: (_ for _ in ()).throw(duckdb.IOException("strange")))
    with pytest.raises(UserError, match="its files are what was written: strange") as told:
        made.connect()
    assert "delete" not in str(told.value)
    monkeypatch.setattr(duckdb, "connect", lambda *a, **k: (_ for _ in ()).throw(
        duckdb.IOException("IO Error: Cannot open file: Too many open files")))  # fmt: skip
    with pytest.raises(UserError, match="too many files are open"):
        made.connect()
    monkeypatch.undo()
    path.write_bytes(whole[:5000] + bytes(len(whole) - 5000))
    with pytest.raises(UserError, match=r"is damaged: tables\.duckdb is not what was written") as told:
        made.connect().execute("FROM embedding_row")
    assert "delete the folder" in str(told.value)


def test_what_can_be_done_is_said(store, made, monkeypatch):
    told = made.trouble(duckdb.InternalException("INTERNAL Error: strange"))
    assert (
        "its files are what was written" in told.what and told.do is not None and told.do.startswith("try again; then")
    )
    with pytest.raises(UserError) as unknown:
        store.get("nothing")
    assert unknown.value.do == "python -m medsae list shows the ids"
    x, stat = made.path / "x.npy", Path.stat

    def no_rights(path, **options):
        if path == x:
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", no_rights)
    with pytest.raises(UserError, match=f"artifact {made.id}: ") as told:
        store.get(made.id)
    assert str(told.value.where) == str(x)


def test_one_damaged_artifact_takes_no_other_along(store, made):
    other = make(store, replace(CONFIG, precision="bf16"))
    reader = Reader()
    data = bytearray((other.path / "tables.duckdb").read_bytes())
    for at in range(0, len(data), 999):
        data[at] ^= 255
    (other.path / "tables.duckdb").write_bytes(data)
    for _ in range(2):
        with pytest.raises(UserError, match="is damaged"):
            reader.query("FROM {e}.embedding_row", e=other)
        assert len(reader.query("FROM {e}.embedding_row", e=made)) == 1
    # Of two artifacts of a question the damaged one is named, whichever stands first.
    with pytest.raises(UserError, match=other.id):
        reader.query("FROM {a}.embedding_row, {b}.embedding_row", a=made, b=other)


def test_what_is_made_is_for_its_owner_alone(store, made):
    for path in [store.data, store.artifacts, made.path.parent, made.path, *made.path.iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path
    assert not (made.path / ".lock").exists()


def test_names_are_listed_and_never_called_damaged(store, capsys):
    from medsae.cli import main
    from medsae.store.ledger import Ledger

    with Ledger(store, "scores-1").writer() as writer:
        writer.append([{"kind": "name", "run": "r", "neuron": n, "status": "ok", "concept": "x"} for n in (3, 4, 4)])
    assert main(["list", "--kind", "names", "--data", str(store.data)]) == 0
    told = capsys.readouterr()
    assert told.out.split() == ["names", "scores-1", "neurons=2"] and not told.err


def test_steps_verify_what_they_compute_from():
    """`Store.get` looks at sizes only; a step asks `Store.parent`, save for what it has just made or only walks through."""
    steps = Path(artifacts.__file__).parents[1] / "steps"
    walked = {"sweep.py": 1, "naming_study.py": 1}
    found = {path.name: path.read_text().count("store.get(") for path in steps.glob("*.py")}
    assert {name: count for name, count in found.items() if count} == walked
