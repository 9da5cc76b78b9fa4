"""Sealed lines and records: a changed byte, a cut, a lost line is named and left out, and costs nothing else."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae import files, jobs, seals
from medsae.jobs import Jobs
from medsae.progress import UserError
from medsae.store import health, housekeeping, pictures
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger
from medsae.store.notes import Note, Notes
from medsae.store.requests import Requests


def changes(data: bytes, every: int = 1):
    """Each bit flipped (of every `every`-th byte), and the file cut at each place."""
    for at in range(0, len(data), every):
        for bit in range(8):
            yield f"bit {bit} at {at}", data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
        yield f"cut at {at}", data[:at]


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda k: k != "seal"), st.text() | st.integers() | st.none(), min_size=1
    )
)
def test_what_was_sealed_is_read(values):
    line = seals.text(values)
    assert line.isascii() and "\n" not in line and seals.opened(line) == (values, True)
    assert seals.opened(json.dumps(values)) == (values, False), "a line from before there were seals"


def test_no_single_change_of_a_line_goes_unseen():
    line = seals.text({"concept": "Effusion, left", "p": 0.25, "none": None}).encode()
    for what, changed in changes(line):
        with pytest.raises(ValueError):
            print(what, seals.opened(changed))


def test_what_has_a_seal_elsewhere_or_is_no_object_is_refused():
    for text in ('{"seal": "01234567", "a": 1}', "[1, 2]", "null", "", "[" * 100_000):
        with pytest.raises(ValueError):
            seals.opened(text)


def row(neuron: int, concept: str) -> dict:
    return {"kind": "name", "run": "r", "neuron": neuron, "status": "ok", "concept": concept, "accuracy": 0.5}


def verdict(neuron: int, image: int) -> dict:
    return {"kind": "verdict", "run": "r", "neuron": neuron, "about": "name", "image": image, "fires": True,
            "value": 1.0, "yes": True, "status": "ok"}  # fmt: skip


def written(ledger: Ledger) -> None:
    with ledger.writer() as writer:
        writer.append([{"kind": "run", "run": "r", "backend": "labels"}, row(1, "Effusion"), verdict(1, 7)])
        writer.append([row(2, "Pacemaker"), verdict(2, 7), verdict(2, 8)])


def told(ledger: Ledger) -> dict:
    """What the ledger says, by the query over all lines and by the index of single ones."""
    names = ledger.names()[["neuron", "concept", "accuracy"]].values.tolist()
    rows = sorted(ledger.rows("SELECT neuron, image, value, yes FROM {verdicts}"))
    found = [ledger.verdicts("r", n)[["image", "value", "yes"]].values.tolist() for n in (1, 2)]
    return {"names": names, "rows": rows, "verdicts": found}


def test_every_flip_and_cut_of_a_ledger_is_named_and_costs_only_its_line(tmp_path):
    ledger = Ledger(Store(tmp_path), "scores-x")
    written(ledger)
    whole = told(ledger)
    assert ledger.troubles() == [] and ledger.tally().damaged == [] and ledger.tally().unsealed == 0
    for path in ledger.files():
        data, lines = path.read_bytes(), path.read_bytes().count(b"\n")
        for number, (what, changed) in enumerate(changes(data, every=11)):
            path.write_bytes(changed)
            fresh = Ledger(Store(tmp_path), "scores-x")
            assert fresh.troubles(), f"{path.name}: {what} is silent"
            if number % 83 == 0 and not what.startswith("cut") and changed.count(b"\n") == lines:
                now = told(fresh)
                kept = len(now["names"]) + len(now["rows"])
                assert kept >= len(whole["names"]) + len(whole["rows"]) - 1, f"{path.name}: {what}"
                assert all(name in whole["names"] for name in now["names"]), what
                assert all(one in whole["rows"] for one in now["rows"]), what
        path.write_bytes(data)
    assert told(Ledger(Store(tmp_path), "scores-x")) == whole


def test_lines_that_are_gone_at_a_line_s_end_are_missed(tmp_path):
    """A cut between two lines leaves only whole ones; a file that is gone leaves none."""
    ledger = Ledger(Store(tmp_path), "scores-x")
    written(ledger)
    judged, names = sorted(ledger.files(), key=lambda path: "verdicts" not in path.name)
    for path, words in ((judged, "lines of verdicts are gone"), (names, "did not end them")):
        data = path.read_bytes()
        ends = [i + 1 for i, byte in enumerate(data) if byte == 10][:-1]
        for at in [0, *ends]:
            path.write_bytes(data[:at])
            assert [words in str(t) for t in Ledger(Store(tmp_path), "scores-x").troubles()] == [True], at
        path.unlink()
        assert [words in str(t) for t in Ledger(Store(tmp_path), "scores-x").troubles()] == [True]
        path.write_bytes(data)


def test_a_killed_job_is_named_until_the_next_one_takes_over(tmp_path):
    ledger = Ledger(Store(tmp_path), "scores-x")
    writer = ledger.writer()
    writer.append([row(1, "Effusion"), verdict(1, 7)])
    assert ledger.troubles() == [], "it lives"

    for handle in writer.handles.values():
        os.close(handle)  # as a kill does
    assert ["did not end them" in str(trouble) for trouble in ledger.troubles()] == [True]
    with ledger.writer() as second:
        second.append([row(2, "Pacemaker")])
        assert ledger.troubles() == []
    assert ledger.troubles() == [] and sorted(ledger.names()["neuron"]) == [1, 2]


def test_ledgers_from_before_there_were_seals_are_read_and_counted(tmp_path):
    ledger = Ledger(Store(tmp_path), "scores-x")
    ledger.folder.mkdir(parents=True)
    (ledger.folder / "old.jsonl").write_text(json.dumps(row(1, "Ödem")) + "\n" + json.dumps(row(2, "Pacemaker")) + "\n")
    assert ledger.names()["concept"].tolist() == ["Ödem", "Pacemaker"] and ledger.troubles() == []
    assert (ledger.tally().unsealed, ledger.tally().sealed) == (2, 0)


def test_every_flip_and_cut_of_notes_is_named(tmp_path):
    store = Store(tmp_path)
    for neuron, text in ((1, "line\u2028separator"), (2, "Ä second"), (1, "newer")):
        Notes(store, "sae-x").put(Note(neuron, star=True, text=text))
    notes = Notes(store, "sae-x")
    assert {n: note.text for n, note in notes.all().items()} == {1: "newer", 2: "Ä second"} and notes.troubles() == []
    data, good = notes.path.read_bytes(), list(notes.all().values())
    assert data.count(b"\n") == 3 and json.loads(data.split(b"\n")[0])["text"] == "line\u2028separator"
    first = seals.opened(data.split(b"\n")[0]).values["text"]
    for what, changed in changes(data, every=9):
        notes.path.write_bytes(changed)
        assert notes.troubles(), what
        assert all(n in good or n.text == first for n in notes.all().values()), what
    notes.path.unlink()
    assert notes.troubles() and health.troubles(store), "all of them gone"


def test_every_flip_and_cut_of_a_job_s_records_is_named_and_starts_nothing(tmp_path):
    with jobs.running(tmp_path, ["train", "--embeddings", "x", "--seed", "1"]) as job:
        job.result = "sae-1"
    [whole] = Jobs(tmp_path).list()
    for name in ("job.json", "end.json", "pid.json"):
        path = job.folder / name
        data = path.read_bytes()
        for what, changed in changes(data, every=5):
            path.write_bytes(changed)
            assert [t.where for t in Jobs(tmp_path).troubles()] == [str(path)], f"{name}: {what}"
            [now] = Jobs(tmp_path).list()
            assert now == whole or now.state == "damaged", f"{name}: {what}"
            assert now.command in (whole.command, []) and now.result in (whole.result, None)
        path.write_bytes(data)
    assert Jobs(tmp_path).list() == [whole] and Jobs(tmp_path).troubles() == []


def test_damaged_titles_are_named_and_not_written_over(tmp_path):
    store = Store(tmp_path)
    housekeeping.describe(store, "sae-1", title="Mine", about="ä")
    housekeeping.describe(store, "sae-2", title="Other")
    path = tmp_path / "titles.json"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"Mine", b"Mind"))
    assert housekeeping.cards(tmp_path) == {} and len(housekeeping.troubles(tmp_path)) == 1
    with pytest.raises(UserError, match="titles"):
        housekeeping.describe(store, "sae-3", title="New")
    path.write_text('{"sae-1": {"title": "Old", "about": "", "archived": false}}\n')
    assert housekeeping.cards(tmp_path)["sae-1"].title == "Old", "from before there were seals"


def test_a_damaged_salt_is_made_anew_and_an_old_one_is_kept(tmp_path):
    store = Store(tmp_path)
    salt, path = pictures.salt(store), tmp_path / "cache" / "patient-salt"
    data = bytearray(path.read_bytes())
    data[12] ^= 1
    path.write_bytes(data)
    assert pictures.salt(store) != salt and len(pictures.salt(store)) == 16
    path.write_bytes(b"0123456789abcdef")
    assert pictures.salt(store) == b"0123456789abcdef", "from before there were seals"


def test_a_request_with_a_flipped_number_asks_for_no_neuron(tmp_path):
    from medsae import config

    requests = Requests(Store(tmp_path), config.Name(scores="scores-x", top=1))
    requests.ask(12)
    path: Path = requests.folder / "12.ask"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"neuron":12', b'"neuron":13'))
    assert requests.take() is None
    path.write_bytes(data)
    assert requests.take() == (12, False)


def test_the_prepared_thorax_tells_a_flipped_byte(tmp_path):
    from medsae.simulated import projection

    (tmp_path / "pose00.npy").write_bytes(bytes(100))
    made = {"version": 1, "files": {"pose00.npy": files.sha256_of(tmp_path / "pose00.npy")}}
    files.write(tmp_path / "identity.json", seals.text(made))
    assert projection._identity(tmp_path) == made and projection._damaged(tmp_path, made) is None
    assert projection._damaged(tmp_path, {"version": 1}) is None, "from before this was kept"
    (tmp_path / "pose00.npy").write_bytes(bytes(50) + b"\1" + bytes(49))
    assert projection._damaged(tmp_path, made) == "pose00.npy"
    (tmp_path / "identity.json").write_bytes((tmp_path / "identity.json").read_bytes().replace(b":1,", b":3,"))
    assert projection._identity(tmp_path) == {}


def test_a_checkpoint_with_a_flipped_bit_is_none(tmp_path):
    """One bit in a weight would give other weights under the same id."""
    import torch

    from medsae.sae import checkpoint

    checkpoint.save(tmp_path, {"w": torch.arange(6.0), "b": torch.tensor(True)}, {"steps": 3})
    path = tmp_path / checkpoint.NAME
    data = path.read_bytes()
    found = checkpoint.load(tmp_path)
    assert found is not None and found[1] == {"steps": 3} and found[0]["w"].tolist() == [0, 1, 2, 3, 4, 5]
    for what, changed in changes(data[-27:]):
        path.write_bytes(data[:-27] + changed)
        assert checkpoint.load(tmp_path) is None, what


def test_duckdb_spills_neither_into_an_artifact_nor_into_the_working_folder(tmp_path):
    from medsae.store import connections
    from medsae.store.reader import Reader

    path = tmp_path / "tables.duckdb"
    connections.writable(path, tmp_path / "spill").close()
    for connection in (connections.read_only(path), connections.in_memory(), Reader()._connection):
        [(where,)] = connection.execute("SELECT current_setting('temp_directory')").fetchall()
        assert Path(where).is_absolute() and "medsae-spill" in Path(where).name and tmp_path not in Path(where).parents
        assert Path.cwd() not in Path(where).parents and not Path(where).exists()
        connection.close()


def test_two_connections_of_one_process_to_one_file(tmp_path):
    from medsae.store import connections

    path = tmp_path / "tables.duckdb"
    connections.writable(path, tmp_path / "spill").close()
    link = tmp_path / "link.duckdb"
    link.symlink_to(path)
    opened = [connections.read_only(path), connections.read_only(path), connections.read_only(link)]
    assert [each.execute("SELECT 1").fetchall() for each in opened] == [[(1,)]] * 3
    for each in opened:
        each.close()
