# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false
"""A data folder in a bucket: several machines against moto's S3 server, of whose answers a tenth are failures."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medsae import config as c
from medsae import objects, seals
from medsae.progress import Silent, UserError
from medsae.store import health, housekeeping, leases
from medsae.store import remote as remotes
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger
from medsae.store.notes import Note, Notes
from medsae.store.readings import Readings
from tests.fixtures.bucket_server import SECRET, command

ROOT = Path(__file__).parents[2]
URL = "s3://hospital/lab/sae"
CONFIG = c.Embed(cohort="c", encoder="efficientnet-lite0")


@pytest.fixture
def bucket(server, monkeypatch):
    """An empty bucket."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    objects.filesystem.cache_clear()
    client = server.client()
    client.create_bucket(Bucket="hospital")
    yield client
    server.open()
    for remote in remotes._known.values():
        remote.settled()
    remotes._known.clear()
    for one in keys(client, ""):
        client.delete_object(Bucket="hospital", Key=one)
    client.delete_bucket(Bucket="hospital")
    objects.filesystem.cache_clear()


@pytest.fixture
def failing(server):
    """A tenth of the answers are failures, the same ones in every run."""
    server.failing = True
    server.seen.clear()
    server.failed = 0


def keys(client, below="lab/sae/") -> list[str]:
    found = client.list_objects_v2(Bucket="hospital", Prefix=below).get("Contents", [])
    return [one["Key"].removeprefix(below) for one in found]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """name -> the data folder in the bucket as a machine of that name opens it now."""

    def opened(name: str, url: str = URL) -> Store:
        monkeypatch.setenv(remotes.CACHE, str(tmp_path / name))
        store = Store(Path(url))
        store.remote.refresh()
        return store

    return opened


def make(store: Store, config=CONFIG, content="hello"):
    with store.build("thing", config, {"cohort": "c"}) as build:
        if build.existing:
            return build.existing
        (build.path / "x.txt").write_text(content)
        (build.path / "tokens").mkdir()
        (build.path / "tokens" / "0.txt").write_text("same everywhere")
        with build.database() as connection:
            connection.execute("INSERT INTO embedding_row VALUES (0, 7)")
        return build.publish({"n": 1})


def test_a_shard_says_at_once_that_its_pieces_stay_here(machine, bucket, monkeypatch):
    said, progress = [], Silent()
    monkeypatch.setattr(progress, "say", said.append)
    with machine("ada").build("thing", replace(CONFIG, shard="1/2"), {"cohort": "c"}) as build:
        build.part(replace(CONFIG, shard="1/2"), progress)
    assert len(said) == 1 and "not put into the bucket" in said[0] and remotes.CACHE in said[0]


# --- one publishes, another reads -------------------------------------------------------------------------------------


def test_what_one_machine_publishes_another_lists_and_fetches_when_it_opens_it(bucket, machine, server, failing):
    made = make(machine("ada"))
    assert f"records/artifacts/embeddings/{made.id}/artifact.json" in keys(bucket)
    assert not [key for key in keys(bucket) if key.startswith("claims/")]
    bob = machine("bob")
    (found,) = bob.list()
    assert found.manifest == made.manifest
    assert sorted(p.name for p in found.path.iterdir()) == ["artifact.json"]
    assert found.file("x.txt").read_text() == "hello" and not (found.path / "tables.duckdb").exists()
    with found.connect() as connection:
        assert connection.execute('SELECT "row", image FROM embedding_row').fetchall() == [(0, 7)]
    found.verify()
    assert (found.path / "x.txt").stat().st_mode & 0o777 == 0o600
    seen = Counter(server.seen)
    bob.get(found.id).check()
    assert make(bob, content="never written").file("x.txt").read_text() == "hello"
    assert not [p for p in server.seen - seen if "/objects/" in p], "fetched once"


def test_equal_files_are_fetched_once(bucket, machine, server):
    ada = machine("ada")
    first, second = make(ada), make(ada, replace(CONFIG, precision="bf16"), "other")
    bob = machine("bob")
    assert bob.get(first.id).file("tokens/0.txt").read_text() == "same everywhere"
    before = Counter(server.seen)
    assert bob.get(second.id).file("tokens/0.txt").read_text() == "same everywhere"
    assert not [p for p in server.seen - before if "/objects/" in p]


def test_the_local_copy_knows_its_bucket_and_another_address_is_another_copy(bucket, machine):
    ada = machine("ada")
    assert Store(ada.data).remote is ada.remote and ada.remote.url == URL
    assert machine("ada", URL + "/2").data != ada.data
    assert Store(Path(str(ada.data) + "x")).remote is None


def test_the_step_again_uploads_what_was_interrupted(bucket, machine, server):
    server.closed = ("/hospital/lab/sae/objects",)
    ada = machine("ada")
    with pytest.raises(UserError, match=r"complete on this machine.*may not be written"):
        make(ada)
    assert not [key for key in keys(bucket) if key.startswith("records/")]
    assert machine("bob").list() == []
    (mine,), (told,) = ada.scan()
    assert "not in the bucket yet" in told.what and mine.file("x.txt").read_text() == "hello"
    server.closed = ()
    ada.remote.refresh()
    assert ada.list(), "what waits is not taken for removed"
    make(ada, content="never written")
    assert ada.scan()[1] == [] and machine("bob").list()[0].manifest == mine.manifest


def test_parents_are_uploaded_before_what_was_made_from_them(bucket, machine, server):
    ada, child = machine("ada"), None
    server.closed = ("/hospital/lab/sae/objects",)
    with pytest.raises(UserError):
        make(ada)
    (parent,), server.closed = ada.list(), ()
    with ada.build("sae", c.Train(embeddings=parent.id), {"embeddings": parent.id}) as build:
        (build.path / "y.txt").write_text("y")
        child = build.publish({})
    assert {a.id for a in machine("bob").list()} == {parent.id, child.id}


# --- two at once ------------------------------------------------------------------------------------------------------


def test_two_machines_do_not_build_one_artifact(bucket, machine):
    ada, bob = machine("ada"), machine("bob")
    with ada.build("thing", CONFIG, {"cohort": "c"}) as build:
        with (
            pytest.raises(UserError, match=r"is being built on .*process") as told,
            bob.build("thing", CONFIG, {"cohort": "c"}),
        ):
            raise AssertionError
        assert "its claim ends in" in str(told.value)
        (build.path / "x.txt").write_text("ada")
        build.publish({})
    assert make(bob).file("x.txt").read_text() == "ada", "what was published meanwhile is found"


def test_of_two_that_publish_one_is_kept_by_both(bucket, machine, monkeypatch):
    """Claims save work and protect nothing: without them the exclusive writing of artifact.json decides."""
    monkeypatch.setattr(remotes.Remote, "claimed", lambda self, key: contextlib.nullcontext())
    ada, bob, said = machine("ada"), machine("bob"), []
    bob.remote.say = said.append
    with ada.build("thing", CONFIG, {"cohort": "c"}) as one, bob.build("thing", CONFIG, {"cohort": "c"}) as other:
        for build, text in ((one, "ada"), (other, "bob")):
            (build.path / "x.txt").write_text(text)
            (build.path / "same.txt").write_text("same")
        one.publish({"by": "ada"})
        lost = other.publish({"by": "bob"})
    assert lost.facts["by"] == "ada" and lost.file("x.txt").read_text() == "ada" and (lost.path / "same.txt").exists()
    assert any("another machine has published" in line and "used from now on" in line for line in said)
    assert (bob.data / "trash/embeddings" / lost.id / "x.txt").read_text() == "bob"
    assert bob.scan()[1] == [] and machine("carl").get(lost.id).file("x.txt").read_text() == "ada"


def test_one_that_was_listed_while_it_was_built_is_kept(bucket, machine, monkeypatch):
    monkeypatch.setattr(remotes.Remote, "claimed", lambda self, key: contextlib.nullcontext())
    ada, bob = machine("ada"), machine("bob")
    with bob.build("thing", CONFIG, {"cohort": "c"}) as other:
        make(ada)
        bob.remote.refresh()
        (other.path / "x.txt").write_text("bob")
        assert other.publish({}).file("x.txt").read_text() == "hello"


def test_many_at_once_publish_one(bucket, machine, failing):
    stores = [machine(name) for name in ("ada", "bob", "carl", "dora")]
    ended = []

    def work(store):
        try:
            ended.append(make(store).id)
        except UserError as error:
            ended.append(error.what)

    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any(one.startswith("thing-") and " " not in one for one in ended)
    assert all("is being built" in one for one in ended if " " in one), ended
    assert len([key for key in keys(bucket) if key.startswith("records/")]) == 1


# --- claims -----------------------------------------------------------------------------------------------------------


def claim(client, id: str, number: int, **changes) -> None:
    there = leases.Claim("old-host", 7, "ffffffff", 0.0, **changes)
    client.put_object(Bucket="hospital", Key=f"lab/sae/claims/{id}/{number:06}", Body=seals.text(vars(there)).encode())


@pytest.mark.parametrize(
    ("changes", "goes_on"),
    [({}, False), ({"lease": 0.0}, True), ({"ended": True}, True)],
    ids=["holds", "not renewed", "ended"],
)
def test_a_claim_that_holds_no_more_is_taken_over(bucket, machine, changes, goes_on):
    ada = machine("ada")
    id = c.identity("thing", CONFIG, ["c"], {})
    claim(bucket, id, 1, **changes)
    if goes_on:
        with ada.build("thing", CONFIG, {"cohort": "c"}):
            assert sorted(keys(bucket, f"lab/sae/claims/{id}/")) == ["000001", "000002"]
        held = leases._read(f"{URL}/claims/{id}", 2)
        assert held.ended and held.machine == ada.remote.machine
    else:
        with pytest.raises(UserError, match=r"old-host \(process 7, since 1970"):
            make(ada)
    bucket.put_object(Bucket="hospital", Key=f"lab/sae/claims/{id}/000009", Body=b"torn")
    assert make(ada).file("x.txt").exists(), "a torn claim keeps nobody away"
    assert not keys(bucket, f"lab/sae/claims/{id}/")


def test_of_two_that_take_over_one_has_it(bucket, machine):
    """Both saw that number 1 is gone; the slower one finds number 2 written."""
    machine("ada")
    url, own = f"{URL}/claims/x-1", leases.Claim("b", 1, "bbbbbbbb", 0.0, token="b")
    claim(bucket, "x-1", 1, lease=0.0)
    assert leases._taken(url, "x-1", replace(own, machine="aaaaaaaa", token="a")).endswith("000002")
    with pytest.raises(UserError, match="is being built on b"):
        leases._taken(url, "x-1", own)
    claim(bucket, "x-2", 2)  # and a lower number that is free is no claim
    with pytest.raises(UserError, match="is being built on old-host"):
        leases._taken(f"{URL}/claims/x-2", "x-2", own)


def test_a_builder_that_was_killed_is_followed_at_once_on_its_own_machine(bucket, machine):
    ada = machine("ada")
    id = c.identity("thing", CONFIG, ["c"], {})
    claim(bucket, id, 1)
    with pytest.raises(UserError):
        make(ada)
    held = leases.Claim("here", 1, ada.remote.machine, 0.0)
    bucket.put_object(Bucket="hospital", Key=f"lab/sae/claims/{id}/000002", Body=seals.text(vars(held)).encode())
    assert make(ada).id == id


def test_a_claim_is_renewed_while_it_is_held(bucket, machine, monkeypatch):
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.2)
    machine("ada")
    written = []
    put = objects.put
    monkeypatch.setattr(objects, "put", lambda url, data: (written.append(url), put(url, data)))
    with leases.held(f"{URL}/claims/x-1", "x-1", "aaaaaaaa", lambda: False):
        end = time.monotonic() + 20
        while sum(url.endswith("000001") for url in written) < 2:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert leases._read(f"{URL}/claims/x-1", 1).ended


def test_storage_that_writes_over_what_is_there_is_refused(bucket, machine, monkeypatch):
    ada = machine("ada")
    objects.need_create.cache_clear()
    monkeypatch.setattr(objects, "create", lambda url, data: objects.put(url, data) or True)
    with pytest.raises(UserError, match="no exclusive writing"):
        make(ada)
    assert keys(bucket) == [] and not list(ada.artifacts.glob("*/*"))


def test_an_answer_that_was_not_heard_is_no_defeat(bucket, machine, monkeypatch):
    """The object was written and the connection broke: the second try finds it there, and it is ours."""
    machine("ada")
    storage, tries = objects.filesystem("s3"), []
    pipe = storage.pipe_file

    def deaf(name, data, mode="overwrite"):
        pipe(name, data, mode=mode)
        tries.append(name)
        if len(tries) == 1:
            raise ConnectionError("reset")

    monkeypatch.setattr(storage, "pipe_file", deaf)
    monkeypatch.setattr(objects, "PAUSE_SECONDS", 0)
    assert objects.create(f"{URL}/one", b"mine")
    assert not objects.create(f"{URL}/one", b"theirs")


# --- what is wrong ----------------------------------------------------------------------------------------------------


def test_killed_between_the_files_and_the_manifest_nothing_is_seen(bucket, machine, tmp_path, failing):
    """SIGKILL when the files are uploaded and artifact.json is not: the same command goes on."""
    code = """
        import os, signal, sys
        from medsae import objects
        create = objects.create
        def killed(url, data):
            if "/records/" in url:
                os.kill(os.getpid(), signal.SIGKILL)
            return create(url, data)
        objects.create = killed
        from pathlib import Path
        from tests.unit.test_data_in_bucket import URL, make
        from medsae.store.artifacts import Store
        make(Store(Path(URL)))
    """
    own = os.environ | {remotes.CACHE: str(tmp_path / "ada")}
    import textwrap

    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, env=own, capture_output=True)
    assert ended.returncode == -9, ended.stderr.decode()
    assert [key for key in keys(bucket) if key.startswith("objects/")]
    assert not [key for key in keys(bucket) if key.startswith("records/")] and machine("bob").list() == []
    ada = machine("ada")
    assert "not in the bucket yet" in ada.scan()[1][0].what
    made = make(ada)
    assert machine("bob").get(made.id).check().id == made.id


@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_a_damaged_object_is_named_and_never_opened(bucket, machine, how):
    made = make(machine("ada"))
    sha = made.manifest["files"]["x.txt"]["sha256"]
    key = f"lab/sae/objects/{sha}"
    if how == "gone":
        bucket.delete_object(Bucket="hospital", Key=key)
    else:
        bucket.put_object(Bucket="hospital", Key=key, Body=b"hellO" if how == "changed" else b"hel")
    found = machine("bob").get(made.id)
    told = "not in the bucket" if how == "gone" else "not what was written"
    with pytest.raises(UserError, match=f"{made.id} is damaged: x.txt.*{told}"):
        found.file("x.txt")
    assert not (found.path / "x.txt").exists()
    found.file("tables.duckdb")
    bucket.put_object(Bucket="hospital", Key=key, Body=b"hello")
    assert found.check().file("x.txt").read_text() == "hello"


def test_a_damaged_record_is_named_and_the_others_are_listed(bucket, machine):
    ada = machine("ada")
    made, other = make(ada), make(ada, replace(CONFIG, precision="bf16"))
    record = f"lab/sae/records/artifacts/embeddings/{made.id}/artifact.json"
    text = bucket.get_object(Bucket="hospital", Key=record)["Body"].read()
    for bad, told in ((text.replace(b'"n": 1', b'"n": 2'), "sealed"), (b"\xff", "utf-8"),
                      (text.replace(b"embeddings", b"cohort"), "sealed")):  # fmt: skip
        bucket.put_object(Bucket="hospital", Key=record, Body=bad)
        found, problems = machine(f"bob-{len(bad)}-{bad[:1]}").scan()
        assert [a.id for a in found] == [other.id] and told in problems[0].what and made.id in problems[0].what
    for odd in ("artifacts/cohort/../../x/artifact.json", "artifacts/cohort/.hidden/artifact.json", "artifacts/x",
                "artifacts/cohort/a/b/artifact.json"):  # fmt: skip
        bucket.put_object(Bucket="hospital", Key=f"lab/sae/records/{odd}", Body=text)
    carl = machine("carl")
    assert [a.id for a in carl.list()] == [other.id]
    assert sorted(p.name for p in carl.artifacts.iterdir()) == ["embeddings"]


def test_what_another_machine_removed_goes_to_the_trash_here(bucket, machine):
    ada = machine("ada")
    made, other = make(ada), make(ada, replace(CONFIG, precision="bf16"))
    bob = machine("bob")
    bob.get(made.id).check()
    bucket.delete_object(Bucket="hospital", Key=f"lab/sae/records/artifacts/embeddings/{made.id}/artifact.json")
    bob.remote.refresh()
    assert [a.id for a in bob.list()] == [other.id]
    assert (bob.data / "trash/embeddings" / made.id / "x.txt").is_file()


@pytest.mark.parametrize("closed", ["list", "write"])
def test_a_bucket_without_permission_is_told(bucket, machine, server, medsae, tmp_path, monkeypatch, closed):
    ada = machine("ada")
    made = make(ada)
    if closed == "list":
        server.closed = ("/hospital",)
        medsae.data, ada.remote._looked = URL, None
        status, out, err = medsae("list")
        assert status == 2 and "may not be listed" in err and "AWS_PROFILE" in err and SECRET not in err + out
        found, problems = Store(ada.data).scan()
        assert [a.id for a in found] == [made.id] and "may not be listed" in problems[0].what
    else:
        objects.need_create.cache_clear()
        server.closed = ("/hospital/lab/sae/claims",)
        with pytest.raises(UserError, match="is not begun: the bucket may not be written"):
            make(ada, replace(CONFIG, precision="bf16"))
        assert not list(ada.artifacts.glob("*/.building-*"))


def test_without_credentials_or_bucket_it_is_told(bucket, medsae, monkeypatch, tmp_path):
    monkeypatch.setenv(remotes.CACHE, str(tmp_path))
    medsae.data = "s3://nobody/lab"
    assert "no such bucket" in medsae("list")[2]
    medsae.data = URL
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    objects.filesystem.cache_clear()
    status, _, err = medsae("list")
    assert status == 2 and "may not be listed with the credentials of the environment" in err


def test_the_bucket_is_not_asked_at_every_look(bucket, machine, server, monkeypatch):
    make(machine("ada"))
    bob = machine("bob")
    bob.list()
    before = Counter(server.seen)
    for _ in range(5):
        assert len(Store(bob.data).list()) == 1
    assert not server.seen - before
    make(machine("ada"), replace(CONFIG, precision="bf16"))
    monkeypatch.setattr(remotes, "EVERY_SECONDS", 0.0)
    bob.list()
    bob.remote.settled()
    assert len(bob.list()) == 2


# --- housekeeping -----------------------------------------------------------------------------------------------------


def test_what_is_removed_is_gone_for_all_and_comes_back_for_all(bucket, machine):
    ada = machine("ada")
    made = make(ada)
    with ada.build("sae", c.Train(embeddings=made.id), {"embeddings": made.id}) as build:
        child = build.publish({}).id
    bob = machine("bob")
    with pytest.raises(UserError, match=f"is what {child} was made from"):
        housekeeping.remove(bob, [made.id])
    assert housekeeping.remove(bob, [made.id], with_dependents=True) == [made.id, child]
    assert bob.list() == [] and machine("carl").list() == []
    ada.remote.refresh()
    assert ada.list() == []
    assert housekeeping.restore(ada, made.id) == ["embeddings"]
    bob.remote.refresh()
    for store in (ada, bob, machine("dora")):
        assert store.get(made.id).check().file("x.txt").read_text() == "hello"
    assert not [key for key in keys(bucket) if made.id in key and not key.startswith("records/")]


def test_gc_removes_from_the_bucket_what_nothing_needs_and_nothing_young(bucket, machine, monkeypatch):
    ada = machine("ada")
    made, other = make(ada), make(ada, replace(CONFIG, precision="bf16"), "other")
    before = {key for key in keys(bucket) if key.startswith("objects/")}
    housekeeping.remove(ada, [made.id])
    young = housekeeping.in_bucket(ada)
    assert [r.id for r in young] == [f"trash/embeddings/{made.id}/artifact.json"]
    monkeypatch.setattr(remotes, "KEPT_SECONDS", -1.0)
    mine, rest = ({f["sha256"] for f in a.manifest["files"].values()} for a in (made, other))
    old = housekeeping.in_bucket(ada)
    assert {r.id for r in old} == {r.id for r in young} | {f"objects/{sha}" for sha in mine - rest}
    housekeeping.discard(old)
    assert before - {key for key in keys(bucket) if key.startswith("objects/")} == {f"objects/{s}" for s in mine - rest}
    assert machine("bob").get(other.id).check().id == other.id
    assert housekeeping.in_bucket(ada) == []


def test_titles_are_shared(bucket, machine, server):
    ada, bob = machine("ada"), machine("bob")
    id = make(ada).id
    housekeeping.describe(ada, id, title="Ada's")
    bob.remote.refresh()
    assert housekeeping.cards(bob.data)[id].title == "Ada's"
    housekeeping.describe(bob, id, about="said by Bob")
    ada.remote.refresh()
    assert housekeeping.cards(ada.data)[id] == housekeeping.Card("Ada's", "said by Bob")
    server.closed = ("/hospital/lab/sae/records/titles",)
    with pytest.raises(UserError, match="on this machine alone"):
        housekeeping.describe(ada, id, title="never")
    assert housekeeping.cards(ada.data)[id].title == "Ada's"
    server.closed = ()
    housekeeping.describe(ada, id, title="", about="")
    bob.remote.refresh()
    assert housekeeping.cards(bob.data) == {}


# --- what people and models write -------------------------------------------------------------------------------------


def test_notes_of_two_machines_stand_side_by_side_and_the_newer_counts(bucket, machine, monkeypatch):
    monkeypatch.setattr(remotes, "SOON_SECONDS", 0.0)
    ada, bob = machine("ada"), machine("bob")
    Notes(ada, "sae-1.5-00").put(Note(3, star=True, text="ada"), Note(4, text="only ada"))
    ada.remote.settled()
    bob.remote.refresh()
    assert Notes(bob, "sae-1.5-00").of(3).text == "ada"
    Notes(bob, "sae-1.5-00").put(Note(3, text="bob"))
    bob.remote.settled()
    ada.remote.refresh()
    for store in (ada, bob, machine("carl")):
        assert {n: note.text for n, note in Notes(store, "sae-1.5-00").all().items()} == {3: "bob", 4: "only ada"}
        assert Notes(store, "sae-1.5-00").troubles() == [] and health.troubles(store) == []
    assert len([key for key in keys(bucket) if key.startswith("records/notes/sae-1.5-00@")]) == 2
    Notes(ada, "sae-1.5-00").put(Note(4, text="more"))
    ada.remote.settled()
    bob.remote.refresh()
    assert Notes(bob, "sae-1.5-00").of(4).text == "more" and Notes(bob, "sae-1.5-00").stamp() > 0


def test_a_line_that_is_being_written_waits(bucket, machine):
    ada = machine("ada")
    Notes(ada, "r-1").put(Note(1, text="whole"))
    path = ada.data / "notes/r-1.jsonl"
    with path.open("ab") as file:
        file.write(b'{"neuron":2')
    ada.remote.refresh()
    bob = machine("bob")
    assert Notes(bob, "r-1").all().keys() == {1} and Notes(bob, "r-1").troubles() == []


def test_a_reading_is_read_on_two_machines(bucket, machine, monkeypatch):
    monkeypatch.setattr(remotes, "SOON_SECONDS", 0.0)
    ada, bob = machine("ada"), machine("bob")
    assert Readings(ada).make({"id": "r-1", "tasks": []})
    ada.remote.refresh()
    bob.remote.refresh()
    assert Readings(bob).ids() == ["r-1"] and Readings(bob).plan("r-1")["tasks"] == []
    Readings(ada).answers("r-1", "Dr. Ng").add([{"key": "a", "item": 1, "yes": True}])
    ada.remote.settled()
    bob.remote.refresh()
    theirs = Readings(bob).answers("r-1", "Dr. Ng")
    assert [row["key"] for row in theirs.rows()] == ["a"] and Readings(bob).readers("r-1") == ["Dr. Ng"]
    assert theirs.add([{"key": "a", "item": 1, "yes": False}, {"key": "b", "item": 2, "yes": True}]) == ["a", "b"]
    bob.remote.settled()
    ada.remote.refresh()
    rows = Readings(ada).answers("r-1", "Dr. Ng").rows()
    assert [(row["key"], row["yes"]) for row in rows] == [("a", True), ("b", True)]


def test_names_go_when_their_job_has_ended(bucket, machine):
    ada = machine("ada")
    with ada.build("scores", c.Score(embeddings="e", representation="raw"), {"embeddings": "e"}) as build:
        id = build.publish({}).id
    with Ledger(ada, id).writer() as writer:
        writer.append([{"kind": "run", "run": "r", "scores": id},
                       {"kind": "verdict", "run": "r", "neuron": 1, "about": "name", "image": 3, "yes": True},
                       {"kind": "name", "run": "r", "neuron": 1, "status": "ok", "concept": "Wire"}])  # fmt: skip
        ada.remote.refresh()
        assert not [key for key in keys(bucket) if key.startswith("records/names")]
    ada.remote.refresh()
    bob = machine("bob")
    assert list(Ledger(bob, id).names()["concept"]) == ["Wire"] and len(Ledger(bob, id).verdicts("r", 1)) == 1
    assert health.troubles(bob) == []
    with Ledger(bob, id).writer() as writer:
        writer.append([{"kind": "name", "run": "r", "neuron": 1, "status": "ok", "concept": "Wire, coiled"}])
    bob.remote.refresh()
    ada.remote.refresh()
    assert list(Ledger(ada, id).names()["concept"]) == ["Wire, coiled"]
    housekeeping.remove(ada, [id])
    bob.remote.refresh()
    assert not (bob.artifacts / "names" / id).exists() and (bob.data / "trash/names" / id).is_dir()


def test_a_folder_is_copied_into_a_bucket_and_out_of_it(bucket, machine, medsae, tmp_path, monkeypatch):
    here = Store(medsae.data)
    parent = make(here)
    with here.build("scores", c.Score(embeddings=parent.id, representation="raw"), {"embeddings": parent.id}) as build:
        id = build.publish({}).id
    with Ledger(here, id).writer() as writer:
        writer.append([{"kind": "name", "run": "r", "neuron": 1, "status": "ok", "concept": "Wire"}])
    Notes(here, parent.id).put(Note(3, text="older"), Note(3, text="newer"))
    housekeeping.describe(here, id, title="Ours")
    monkeypatch.setenv(remotes.CACHE, str(tmp_path / "ada"))
    status, out, err = medsae("copy", id, "--to", URL)
    assert status == 0 and out.split() == [parent.id, id], err
    assert medsae("copy", "--to", URL)[:2] == (0, "\n"), "what is there is left as it is"

    def told(store: Store) -> tuple[object, ...]:
        whole = [artifact.check().id for artifact in (store.get(parent.id), store.get(id))]
        return (whole, list(Ledger(store, id).names()["concept"]), Notes(store, parent.id).of(3).text,
                housekeeping.cards(store.data)[id].title)  # fmt: skip

    assert told(machine("bob")) == told(here)
    medsae.data = URL
    assert medsae.id("copy", id, "--to", tmp_path / "back") == id
    assert told(Store(tmp_path / "back")) == told(here) and Store(tmp_path / "back").remote is None
    assert health.troubles(Store(tmp_path / "back")) == []
    status, _, err = medsae("copy", "--to", URL)
    assert status == 2 and "its own folder" in err


def test_who_may_only_look_is_told_what_is_not_shared(bucket, machine, server):
    ada = machine("ada")
    id = make(ada).id
    bob = machine("bob")
    server.read_only = True
    Notes(bob, "r-1").put(Note(1, text="mine"))
    bob.remote.refresh()
    (found,), (told,) = bob.scan()
    assert found.check().id == id and "notes or answers of this machine are not in the bucket" in told.what
    with pytest.raises(UserError, match="may not be written"):
        bob.remote.share()
    server.read_only = False
    bob.remote.share()
    assert bob.scan()[1] == [] and Notes(machine("carl"), "r-1").of(1).text == "mine"


# --- the whole way ----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_steps_of_one_machine_are_gone_on_with_by_another(
    bucket, failing, medsae, monkeypatch, tmp_path, chexpert_root, server
):
    """Ingest, embed and train on one machine; score, name and export on another one, with nothing but the address."""
    medsae.data = URL
    monkeypatch.setenv(remotes.CACHE, str(tmp_path / "ada"))
    done = command(URL, "ingest", "chexpert", "--root", str(chexpert_root), "--evaluation-share", "0.4")
    assert done.returncode == 0, done.stderr
    cohort = done.stdout.split()[-1]
    with Store(Path(URL)).get(cohort).connect() as connection:
        paths = connection.execute("SELECT path FROM image ORDER BY image").df()["path"]
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(size=(len(paths), 8)).astype(np.float32))
    paths.rename("Path").to_csv(tmp_path / "rows.csv", index=False)
    x = medsae.id("embed", "--cohort", cohort, "--from", tmp_path / "x.npy", "--rows", tmp_path / "rows.csv")
    sae = medsae.id("train", "--embeddings", x, "--expansion", 2, "--epochs", 2)

    monkeypatch.setenv(remotes.CACHE, str(tmp_path / "bob"))
    scores = medsae.id("score", "--sae", sae)
    status, _, err = medsae("name", "--scores", scores, "--backend", "labels", "--neurons", "1,2", "--pictures", 2)
    assert status in (0, 3), err
    fetched = {p.name for p in Store(Path(URL)).artifacts.glob(f"sae/{sae}/*")}
    assert {"artifact.json", "sae.safetensors"} <= fetched

    monkeypatch.setenv(remotes.CACHE, str(tmp_path / "carl"))
    status, out, err = medsae("list")
    assert status == 0 and not err and all(id in out for id in (cohort, x, sae, scores))
    assert "neurons=" in medsae("list", "--kind", "names")[1]
    assert medsae("show", scores)[0] == 0
    status, _, err = medsae("merge", "score", "--sae", sae, "--images", "all")
    assert status == 2 and "no shard of this command has begun here" in err, "shards lie on their machine"
    assert server.failed > 0.05 * sum(server.seen.values())
    kept = [p for p in tmp_path.rglob("*") if p.is_file() and p.stat().st_size < 2**20]
    assert not [p for p in kept if SECRET.encode() in p.read_bytes()]
