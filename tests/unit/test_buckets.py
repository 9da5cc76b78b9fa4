# pyright: reportOptionalSubscript=false
"""Pictures in object storage: against moto's S3 server on loopback, of whose answers a tenth are failures."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections import Counter
from pathlib import Path

import pytest

from medsae import files, objects
from medsae.cohorts import buckets
from medsae.cohorts.pictures import PictureError, PictureMissing, read
from medsae.progress import Silent, UserError
from medsae.store.artifacts import Store
from tests.fixtures.bucket_server import SECRET, command


@pytest.mark.parametrize(
    ("path", "url"),
    [("s3://b/p/", "s3://b/p"), (Path("s3://b/p") / "a.jpg", "s3://b/p/a.jpg"), ("gs://b", "gs://b"),
     ("hf://datasets/o/n@main/p", "hf://datasets/o/n@main/p"), ("/s3/b", None), ("s3", None), (None, None),
     ("ftp://b/p", None), (Path("/data/s3:/b"), None)],
)  # fmt: skip
def test_what_is_an_address(path, url):
    assert buckets.url_of(path) == url


def test_an_address_with_credentials_is_refused_and_not_repeated():
    with pytest.raises(UserError) as refused:
        buckets.url_of(f"s3://KEY:{SECRET}@bucket/p")
    assert SECRET not in str(refused.value) and "environment" in str(refused.value)


def test_paths_of_buckets_stay_as_they_are_and_are_shown_with_two_slashes():
    assert files.absolute(Path("s3://b/p")) == Path("s3:/b/p") and files.shown(Path("s3://b/p")) == "s3://b/p"
    assert files.absolute(Path("a")).is_absolute() and files.shown("/a/b") == "/a/b"


def test_a_bucket_is_not_guessed_and_a_missing_package_is_named(medsae, monkeypatch):
    status, _, err = medsae("ingest", "--root", "s3://bucket/data")
    assert status == 2 and "name the source" in err
    import fsspec

    def missing(scheme, **options):
        raise ImportError(scheme)

    objects.filesystem.cache_clear()
    monkeypatch.setattr(fsspec, "filesystem", missing)
    status, _, err = medsae("ingest", "chexpert", "--root", "gs://bucket/data")
    assert status == 2 and "gcsfs" in err and "medsae[cloud]" in err
    objects.filesystem.cache_clear()


def test_read_ahead_gives_every_number_once_and_nothing_after_a_jump():
    asked = Counter()

    def fetch(number: int) -> bytes:
        with lock:
            asked[number] += 1
        if number == 7:
            raise PictureError("bad")
        return bytes([number])

    lock, count = threading.Lock(), 60
    ahead = buckets.Ahead(fetch, count)
    for number in range(count):
        if number == 7:
            with pytest.raises(PictureError, match="bad"):
                ahead[number]
        else:
            assert ahead[number] == bytes([number])
    assert asked == Counter(range(count))
    jumps = buckets.Ahead(fetch, 1000)
    asked.clear()
    assert [jumps[number] for number in (200, 100, 240)] == [b"\xc8", b"d", b"\xf0"]
    jumps._pool.shutdown()
    assert asked == Counter([200, 100, 240])


def test_what_fails_is_asked_again_but_not_for_ever(monkeypatch):
    monkeypatch.setattr(objects, "PAUSE_SECONDS", 0)
    answers = [ConnectionError("reset"), TimeoutError(), b"x"]

    def work():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert objects.again(work) == b"x"
    answers[:] = [ConnectionError("reset")] * (objects.ROUNDS + 1)
    with pytest.raises(OSError, match="did not answer"):
        objects.again(work)
    assert len(answers) == 1
    answers[:] = [PermissionError(), b"x"]
    with pytest.raises(PermissionError):
        objects.again(work)
    assert answers == [b"x"]


@pytest.mark.parametrize("path", ["../x.jpg", "/x.jpg", "a//b.jpg", "a/./b.jpg", "a\0b"])
def test_a_name_that_would_leave_the_folder_is_refused(path, tmp_path, monkeypatch):
    entries = [buckets.Entry("a.jpg", 3, 0), buckets.Entry(path, 3, 0)]
    monkeypatch.setattr(buckets, "listing", lambda url: entries)
    with pytest.raises(UserError, match="no path below"), buckets.stood_in(Path("s3://b/p"), tmp_path, Silent()):
        pass
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_another_etag_is_another_time_within_the_same_second():
    one, other = (objects._entry("a", {"size": 3, "LastModified": 1_700_000_000, "ETag": tag}) for tag in ("x", "y"))
    assert one.stamp != other.stamp and one.stamp // 10**9 == other.stamp // 10**9 == 1_700_000_000


# --- a server ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(server, chexpert_root, monkeypatch):
    """A bucket with CheXpert's folder below `data/chexpert`, one picture of which is no picture."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    objects.filesystem.cache_clear()
    client = server.client()
    client.create_bucket(Bucket="hospital")
    for path in sorted(chexpert_root.rglob("*")):
        if path.is_file():
            client.put_object(Bucket="hospital", Key=f"data/chexpert/{path.relative_to(chexpert_root)}",
                              Body=path.read_bytes())  # fmt: skip
    yield client
    server.open()
    for one in client.list_objects_v2(Bucket="hospital").get("Contents", []):
        client.delete_object(Bucket="hospital", Key=one["Key"])
    client.delete_bucket(Bucket="hospital")
    objects.filesystem.cache_clear()


URL = "s3://hospital/data/chexpert"


@pytest.mark.long
def test_a_bucket_is_ingested_embedded_and_shown_as_a_folder_is(server, bucket, chexpert_root, tmp_path, medsae_at):
    pictures = sorted(p for p in chexpert_root.rglob("*.jpg"))
    bad = f"data/chexpert/{pictures[3].relative_to(chexpert_root)}"
    good = pictures[3].read_bytes()
    folder = tmp_path / chexpert_root.name
    subprocess.run(["cp", "-r", str(chexpert_root), str(folder)], check=True)
    (folder / pictures[3].relative_to(chexpert_root)).write_bytes(b"<html>no picture</html>")
    bucket.put_object(Bucket="hospital", Key=bad, Body=b"<html>no picture</html>")
    server.failing = True
    here = {name: medsae_at(tmp_path / name) for name in ("bucket", "folder")}
    done = command(tmp_path / "bucket", "ingest", "chexpert", "--root", URL, "--per-class", "5")
    assert done.returncode == 0, done.stderr
    ids = {"bucket": done.stdout.split()[-1],
           "folder": here["folder"].id("ingest", "chexpert", "--root", folder, "--per-class", 5)}  # fmt: skip
    made = {name: Store(tmp_path / name).get(id, "cohort") for name, id in ids.items()}
    assert server.failed > 0.05 * sum(server.seen.values())
    assert made["bucket"].facts["root"].startswith(URL) and made["bucket"].facts["refused"] == 1
    for table in ("image", "label", "attribute", "thumbnail", "refused"):
        rows = []
        for cohort in made.values():
            with cohort.connect() as connection:
                rows.append(connection.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall())
        assert rows[0] == rows[1] and rows[0], table

    from medsae.store.reader import Reader
    from medsae.ui.full_picture import full_size

    data, words = full_size(Reader(), made["bucket"], 0)
    assert words == "full size" and data == full_size(Reader(), made["folder"], 0)[0]

    embedded = {}
    for name, cohort in made.items():
        x = here[name].id("embed", "--cohort", cohort.id, "--encoder", "simclip")
        embedded[name] = Store(tmp_path / name).get(x).file("x.npy").read_bytes()
        if name == "bucket":  # the layout is measured once a machine: both are to use what one of them measured
            shutil.copytree(tmp_path / name / "cache/encoders", tmp_path / "folder/cache/encoders", dirs_exist_ok=True)
    assert embedded["bucket"] == embedded["folder"]

    # nothing of the credentials is kept, and no stand-in is left
    kept = [p for p in (tmp_path / "bucket").rglob("*") if p.is_file()]
    assert not [p for p in kept if SECRET.encode() in p.read_bytes()]
    assert not list((tmp_path / "bucket/cache/buckets").iterdir())

    # a picture that became another one is another cohort, and the old one says so
    bucket.put_object(Bucket="hospital", Key=bad, Body=good)
    done = command(tmp_path / "bucket", "ingest", "chexpert", "--root", URL, "--per-class", "5")
    assert done.returncode == 0 and "have changed" in done.stderr and done.stdout.split()[-1] != made["bucket"].id
    with made["bucket"].connect() as connection:
        path = connection.execute("SELECT path FROM image ORDER BY image LIMIT 1").fetchone()[0]
    key = f"{made['bucket'].facts['root']}/{path}".removeprefix("s3://hospital/")
    bucket.put_object(Bucket="hospital", Key=key, Body=good + b" ")
    again = ("embed", "--cohort", made["bucket"].id, "--encoder", "simclip", "--unit-norm", "False")
    status, out, err = here["bucket"](*again)
    assert status == 2 and "not those that the cohort was made of" in err and "1 changed" in err
    assert SECRET not in err + out + done.stderr + done.stdout


@pytest.mark.parametrize(
    ("closed", "told"),
    [("/hospital", "may not be listed"), ("/hospital/data", "may be listed, and not read")],
    ids=["no list", "no read"],
)
@pytest.mark.long
def test_a_bucket_without_permission_is_told(server, bucket, medsae, closed, told):
    server.closed = (closed,)
    status, _, err = medsae("ingest", "chexpert", "--root", URL)
    assert status == 2 and told in err and "AWS_PROFILE" in err and SECRET not in err
    with pytest.raises(PictureError, match="does not let it be read"):
        read(f"{URL}/train.csv")


def test_what_is_not_there_is_told(bucket, medsae):
    for root, told in (("s3://hospital/other", "nothing below"), ("s3://nobody/p", "no such bucket")):
        status, _, err = medsae("ingest", "chexpert", "--root", root)
        assert status == 2 and told in err, err
    with pytest.raises(PictureMissing):
        read(f"{URL}/nothing.jpg")
    bucket.put_object(Bucket="hospital", Key="empty.jpg", Body=b"")
    with pytest.raises(PictureError, match="empty file"):
        read("s3://hospital/empty.jpg")


def test_what_may_not_be_read_is_asked_for_once(server, bucket):
    key = bucket.list_objects_v2(Bucket="hospital")["Contents"][0]["Key"]
    server.closed = ("/hospital/data",)
    for ask in (lambda: objects.read(f"s3://hospital/{key}", 10), lambda: objects.size(f"s3://hospital/{key}")):
        server.seen.clear()
        with pytest.raises(PermissionError):
            ask()
        assert server.seen[f"/hospital/{key}"] == 1


@pytest.mark.long
def test_a_table_here_or_in_the_bucket_names_pictures_of_the_bucket(bucket, chexpert_root, medsae, tmp_path):
    paths = sorted(str(p.relative_to(chexpert_root)) for p in chexpert_root.rglob("*.jpg"))
    table = "Path,Edema\n" + "".join(f"{path},{i % 2}\n" for i, path in enumerate(paths))
    (tmp_path / "t.csv").write_text(table)
    bucket.put_object(Bucket="hospital", Key="data/chexpert/t.csv", Body=table.encode())
    ids = [done.stdout.split()[-1] for words in (["--table", str(tmp_path / "t.csv"), "--root", URL],
           ["--table", f"{URL}/t.csv"]) if not (done := command(medsae.data, "ingest", "table", *words)).returncode]  # fmt: skip
    assert len(ids) == 2 and all(Store(medsae.data).get(id).facts["n"] == len(paths) for id in ids)
    status, _, err = medsae("ingest", "table", "--table", f"{URL}/t.csv", "--root", "s3://hospital/elsewhere")
    assert status == 2 and ("outside --root" in err or "nothing below" in err)
    outside = table.replace(paths[0], "../../../../../../etc/passwd.jpg", 1)
    (tmp_path / "outside.csv").write_text(outside)
    done = command(medsae.data, "ingest", "table", "--table", str(tmp_path / "outside.csv"), "--root", URL)
    assert done.returncode in (0, 2) and "root:" not in done.stderr
