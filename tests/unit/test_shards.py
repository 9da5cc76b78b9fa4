"""One shard format for every step: whole, or made again."""

import pytest

from medsae.shards import Shards
from medsae.store.artifacts import Store


@pytest.fixture
def pieces(tmp_path):
    return Shards(tmp_path / "shards", "bin")


def write(pieces, k, content=b"hello", **remembered):
    with pieces.writing(k, **remembered) as new:
        new.write_bytes(content)


def test_a_piece_is_finished_when_both_files_are_whole(pieces):
    assert pieces.finished(0) is None
    write(pieces, 0, failed=[[1, "why"]])
    assert pieces.finished(0)["failed"] == [[1, "why"]] and pieces.path(0).read_bytes() == b"hello"
    assert pieces.path(0).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("harm", ["flip", "cut", "gone", "note gone", "note cut", "note other"])
def test_a_damaged_piece_is_made_again(pieces, harm):
    write(pieces, 3)
    path, note = pieces.path(3), pieces.note(3)
    match harm:
        case "flip":
            path.write_bytes(b"hallo")
        case "cut":
            path.write_bytes(b"hell")
        case "gone":
            path.unlink()
        case "note gone":
            note.unlink()
        case "note cut":
            note.write_text(note.read_text()[:-4])
        case "note other":
            note.write_text("[]")
    assert pieces.finished(3) is None
    write(pieces, 3)
    assert pieces.finished(3) is not None


def test_what_fails_while_it_is_written_leaves_nothing_that_counts(pieces):
    write(pieces, 0)
    with pytest.raises(ZeroDivisionError), pieces.writing(0) as new:
        new.write_bytes(b"half")
        raise ZeroDivisionError
    assert pieces.finished(0) is None
    assert [path.name for path in pieces.folder.iterdir()] == ["00000.bin"]
    pieces.discard()
    assert not list(pieces.folder.iterdir())


@pytest.mark.parametrize("harm", ["flip", "cut"])
def test_ingest_checks_a_damaged_shard_again(medsae, chexpert_root, monkeypatch, harm):
    """Of five shards one is damaged: its pictures are checked again, the cohort is the one of an undisturbed run."""
    from medsae.steps import ingest

    monkeypatch.setattr(ingest, "_SHARD", 20)
    words = ["ingest", "chexpert", "--root", chexpert_root, "--per-class", 5]
    whole = Store(medsae.data).get(medsae.id(*words), "cohort")
    table = "SELECT image, path, sha256, webp FROM image LEFT JOIN thumbnail USING (image) ORDER BY image"
    with whole.connect() as connection:
        expected = connection.execute(table).fetchall()
    other = type(medsae)(medsae.data.parent / "other")
    monkeypatch.setattr(ingest, "write_cohort", lambda *_: 1 / 0)  # stopped after the last shard
    with pytest.raises(ZeroDivisionError):
        other(*words)
    [(_, folder)] = Store(other.data).unfinished("cohort")
    path = sorted(folder.glob("*.parquet"))[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data[:-100] if harm == "cut" else data)
    monkeypatch.undo()
    monkeypatch.setattr(ingest, "_SHARD", 20)
    status, out, err = other(*words)
    assert status == 0 and "pictures are checked already" in err, err
    again = Store(other.data).get(out.split()[-1], "cohort")
    assert again.id == whole.id
    with again.connect() as connection:
        assert connection.execute(table).fetchall() == expected
