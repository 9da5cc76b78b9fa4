"""Artifacts: published whole or not at all, found again by the same question, named when damaged."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from medsae import config as c
from medsae.progress import UserError
from medsae.store import artifacts
from medsae.store import manifest as manifests
from medsae.store.artifacts import Store

CONFIG = c.Embed(cohort="c", encoder="efficientnet-lite0")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "data")


def make(store, config=CONFIG, content="hello"):
    with store.build("thing", config, {"cohort": "c"}) as build:
        if build.existing:
            return build.existing
        (build.path / "x.txt").write_text(content)
        with build.database() as connection:
            connection.execute("INSERT INTO embedding_row VALUES (0, 7)")
        return build.publish({"n": 1})


def test_published_whole_and_read_back(store):
    made = make(store)
    assert made.id.startswith("thing-") and len(made.id) == len("thing-") + 8
    got = store.get(made.id)
    got.verify()
    with got.connect() as connection:
        assert connection.execute('SELECT "row", image FROM embedding_row').fetchall() == [(0, 7)]
    assert set(got.manifest["files"]) == {"x.txt", "tables.duckdb"}
    assert not list((store.artifacts / "embeddings").glob(".building-*"))


def test_same_question_same_id_and_runtime_options_do_not_count(store):
    first = make(store)
    assert make(store, replace(CONFIG, device="cpu", batch=7, json=True), "other").id == first.id
    assert first.file("x.txt").read_text() == "hello"
    assert make(store, replace(CONFIG, precision="bf16")).id != first.id


def test_identity_depends_on_parents_and_inputs():
    base = c.identity("a", CONFIG, ["p"], {})
    assert base == c.identity("a", replace(CONFIG, workers=3), ["p"], {})
    assert len({base, c.identity("a", CONFIG, ["q"], {}), c.identity("a", CONFIG, ["p"], {"w": "0" * 64})}) == 3


def test_nothing_is_published_when_the_step_fails(store):
    with pytest.raises(ZeroDivisionError), store.build("thing", CONFIG, {}) as build:
        (build.path / "half.txt").write_text("half")
        (build.shards / "one").write_text("kept")
        raise ZeroDivisionError
    assert store.list() == []
    with store.build("thing", CONFIG, {}) as build:
        assert build.existing is None and (build.shards / "one").read_text() == "kept"


def test_a_killed_builder_leaves_shards_and_no_lock(store, tmp_path):
    code = (
        "import sys, os, signal\n"
        "from medsae import config as c\nfrom medsae.store.artifacts import Store\nfrom pathlib import Path\n"
        "with Store(Path(sys.argv[1])).build('thing', c.Embed(cohort='c', encoder='efficientnet-lite0'), {'cohort': 'c'}) as b:\n"
        "    (b.shards / 'one').write_text('kept'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store.data)], cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    assert store.list() == []
    [(id, shards)] = store.unfinished("embeddings")
    assert (shards / "one").read_text() == "kept"
    assert make(store).id == id
    assert store.unfinished("embeddings") == []


def test_two_builders_of_one_artifact_are_told_apart(store):
    with store.build("thing", CONFIG, {}) as build:
        (build.path / "x").write_text("1")
        with pytest.raises(UserError, match="another process is building"), store.build("thing", CONFIG, {}):
            pass
        build.publish({})
    assert len(store.list()) == 1


def test_damage_is_named_and_the_rest_works(store):
    good, bad = make(store), make(store, replace(CONFIG, precision="bf16"))
    path = bad.path / "x.txt"
    path.write_text("HELLO")  # same size: only the hash can tell
    assert {a.id for a in store.list()} == {good.id, bad.id}
    with pytest.raises(UserError, match=r"x\.txt is not what was written"):
        bad.verify()
    path.write_text("longer than before")
    found, problems = store.scan()
    assert [a.id for a in found] == [good.id] and "another size" in str(problems[0])
    (bad.path / "artifact.json").write_text("{torn")
    assert "artifact.json cannot be used" in str(store.scan()[1][0])
    with pytest.raises(UserError, match="cannot be used"):
        store.get(bad.id)


def test_a_newer_schema_says_how_to_go_on(store):
    made = make(store)
    newer = manifests.sealed(made.manifest | {"schema": artifacts.SCHEMA_VERSION + 1})
    (made.path / "artifact.json").write_text(newer)
    with pytest.raises(UserError, match="update the program"):
        store.get(made.id)


def test_get_by_unique_beginning(store):
    made, other = make(store), make(store, replace(CONFIG, precision="bf16"))
    assert store.get(made.id[:9]).id == made.id or made.id[:9] == other.id[:9]
    with pytest.raises(UserError, match="beginning of 2 ids"):
        store.get("thing")
    with pytest.raises(UserError, match="there is: thing-"):
        store.get("nothing")
    with pytest.raises(UserError):
        store.get("../embeddings/" + made.id)


def test_an_unwritable_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="not writable"), Store(tmp_path / "file").build("thing", CONFIG, {}):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said(store):
    def fill():
        with open("/dev/full", "w") as file:
            file.write("x" * 100)
            file.flush()

    with pytest.raises(UserError, match="disk is full"), store.build("thing", CONFIG, {}):
        fill()
    assert store.list() == []


def test_every_table_column_is_described():
    for line in (Path(artifacts.__file__).with_name("schema.sql")).read_text().splitlines():
        if line.startswith("    ") and not line.strip().startswith(("--", ")")):
            assert "--" in line or line.split()[0] in (
                "high",
                "low",
                "entropy_null_sd",
                "negatives",
                "uncertain",
                "unstated",
            ), line


def test_kill_during_publish_never_shows_half_an_artifact(store, tmp_path):
    """Whatever the moment of the kill, an artifact that is listed verifies."""
    code = (
        "import sys\nfrom medsae import config as c\nfrom medsae.store.artifacts import Store\nfrom pathlib import Path\n"
        "s = Store(Path(sys.argv[1]))\n"
        "for i in range(10**6):\n"
        "    with s.build('t', c.Embed(cohort=str(i), encoder='simclip'), {}) as b:\n"
        "        if b.existing: continue\n"
        "        (b.path / 'x').write_bytes(b'x' * 300000); print(b.publish({}).id, flush=True)\n"
    )
    for published in (1, 2, 3):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(store.data)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert child.stdout is not None
        for _ in range(published):
            assert child.stdout.readline(), "it ended before it had published"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        found, problems = store.scan()
        assert len(found) >= published and not problems
        for artifact in found:
            artifact.verify()
