"""The ledger: appended lines, torn lines, several writers, and the names and q-values read from it."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae.progress import UserError
from medsae.rates import benjamini_hochberg
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger

RUN = {"kind": "run", "run": "r", "scores": "s", "protocol": "strict", "backend": "labels", "model": "labels",
       "prompts": "1", "pictures": 30, "hard": 0.0, "controls": True, "seed": 0, "overlap": "disjoint"}  # fmt: skip


@pytest.fixture
def ledger(tmp_path):
    return Ledger(Store(tmp_path), "scores-x")


def name(neuron, p: float | None = 0.5, **values):
    return {"kind": "name", "run": "r", "neuron": neuron, "status": "ok", "concept": f"c{neuron}", "p": p,
            "accuracy": 1 - (p or 0), **values}  # fmt: skip


def test_an_empty_ledger_is_an_empty_table(ledger):
    assert len(ledger.names()) == 0 and ledger.stamp() == (0, 0) and ledger.files() == []
    assert len(ledger.verdicts("r", 1)) == 0 and ledger.explanation("r", 1) is None


def test_what_was_written_is_read(ledger):
    writer = ledger.writer()
    verdict = {"kind": "verdict", "run": "r", "neuron": 3, "about": "name", "image": 7, "fires": True, "value": 1.25,
               "yes": False, "p": 0.1234567891, "mass": float("nan"), "status": "ok", "raw": 'a "quoted"\nline <b>ü'}  # fmt: skip
    writer.append([RUN, name(3), verdict, verdict | {"image": 8, "fires": False, "yes": None, "status": "timeout"}])
    writer.close()
    found = ledger.names().iloc[0]
    assert (found["neuron"], found["concept"], found["protocol"], found["run_overlap"]) == (
        3,
        "c3",
        "strict",
        "disjoint",
    )
    rows = ledger.verdicts("r", 3)
    assert rows["image"].tolist() == [7, 8] and rows["raw"][0] == verdict["raw"]
    assert rows["yes"].tolist()[0] is False or rows["yes"][0] == False  # noqa: E712
    assert rows["yes"].isna().tolist() == [False, True] and rows["p"][0] == pytest.approx(0.123457)
    assert np.isnan(rows["mass"][0])


def test_a_newer_result_supersedes_and_both_stay(ledger):
    for concept in ("old", "new"):
        writer = ledger.writer()
        writer.append([RUN, name(3, concept=concept) | {"concept": concept}])
        writer.close()
    assert ledger.names()["concept"].tolist() == ["new"]
    assert sum(path.read_bytes().count(b"\n") for path in ledger.files()) == 4 + 2, "and a line that ends each file"


@pytest.mark.parametrize(
    "damage", [b'{"kind":"name","run":"r","neuron":9,"stat', b"\x00\x00\xff\n", b"[1, 2]\n", b"null\n"]
)
def test_a_damaged_line_costs_that_line(ledger, damage):
    writer = ledger.writer()
    writer.append([RUN, name(1), name(2)])
    os.write(writer.handles[writer.path], damage)
    writer.close()
    other = ledger.writer()
    other.append([name(3)])
    other.close()
    assert sorted(ledger.names()["neuron"]) == [1, 2, 3]


def test_many_writers_at_once_lose_nothing(ledger):
    def write(start):
        writer = ledger.writer()
        for i in range(start, start + 25):
            writer.append([name(i)])
        writer.close()

    threads = [threading.Thread(target=write, args=(100 * t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.files()) == 4 and len(ledger.names()) == 100


def test_a_killed_writer_loses_nothing_that_was_appended(tmp_path):
    code = (
        "import sys; from medsae.store.artifacts import Store; from medsae.store.ledger import Ledger\n"
        "w = Ledger(Store(), 'x').writer(); i = 0\n"
        "while True:\n"
        "    w.append([{'kind': 'name', 'run': 'r', 'neuron': i, 'status': 'ok'}]); print(i, flush=True); i += 1\n"
    )
    root = Path(__file__).parents[2]
    env = os.environ | {"MEDSAE_DATA": str(tmp_path), "PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env) as child:
        assert child.stdout is not None
        last = 0
        for line in child.stdout:
            last = int(line)
            if last >= 40:
                break
        os.kill(child.pid, signal.SIGKILL)
    assert set(range(last + 1)) <= set(Ledger(Store(tmp_path), "x").names()["neuron"])


def test_q_values_are_benjamini_hochberg_of_each_run(ledger):
    rng = np.random.default_rng(0)
    p = np.round(rng.uniform(0, 1, 50) ** 3, 2)
    writer = ledger.writer()
    writer.append([RUN, RUN | {"run": "other"}, *(name(i, float(v)) for i, v in enumerate(p))])
    writer.append([name(60, None, status="dead") | {"accuracy": None}, name(61, 0.9) | {"run": "other"}])
    writer.close()
    found = ledger.names()
    mine = found[found["run"] == "r"].sort_values("neuron")
    assert np.allclose(mine["q"][:50], benjamini_hochberg(p)) and mine["tests"].unique().tolist() == [50]
    assert mine["q"].isna().tolist() == [False] * 50 + [True]
    assert found[found["run"] == "other"]["q"].tolist() == [0.9]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "artifacts").write_text("a file in the way")
    with pytest.raises(UserError, match="ledger"):
        Ledger(Store(tmp_path), "x").writer()


def test_a_full_disk_leaves_no_half_line(ledger, monkeypatch):
    writer = ledger.writer()
    writer.append([RUN, name(1)])
    real, room = os.write, [40]

    def full(handle, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(handle, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr("medsae.store.ledger.os.write", full)
    with pytest.raises(UserError, match="No space left"):
        writer.append([name(2)])
    room[0] = 10**6
    writer.append([name(3)])
    writer.close()
    assert ledger.names()["neuron"].tolist() == [1, 3] and ledger.troubles() == []


def test_an_unused_writer_leaves_no_file(ledger):
    ledger.writer().close()
    assert ledger.files() == []


def test_lines_of_a_neuron_are_found_while_files_grow_and_are_torn(ledger):
    """Verdicts come in between, a last line is half written, a file is added, one is removed: the index keeps up."""
    verdict = {"kind": "verdict", "run": "r", "about": "name", "fires": True, "value": 1.0, "status": "ok"}
    writer = ledger.writer()
    writer.append([verdict | {"neuron": 1, "image": i} for i in (1, 2)])
    assert ledger.verdicts("r", 1)["image"].tolist() == [1, 2] and len(ledger.verdicts("q", 1)) == 0
    # What a model wrote cannot pass for a key of the line.
    writer.append([verdict | {"neuron": 2, "image": 5, "raw": '{"run":"r","neuron":1}'}])
    writer.append([verdict | {"neuron": 1, "image": 3, "yes": True}])
    assert ledger.verdicts("r", 1)["image"].tolist() == [1, 2, 3] and ledger.verdicts("r", 2)["image"].tolist() == [5]
    writer.close()
    with writer.verdicts.open("ab") as file:
        whole = b'{"kind":"verdict","run":"r","neuron":1,"image":4,"about":"name","fires":true,"value":0.5}'
        file.write(b'{"kind":"verdict","run":"r","neuron":1,"image":9, torn\n' + whole[:40])
        file.flush()
        assert ledger.verdicts("r", 1)["image"].tolist() == [1, 2, 3]
        file.write(whole[40:] + b"\n")
        file.flush()
        assert ledger.verdicts("r", 1)["image"].tolist() == [1, 2, 3, 4], "the line is whole now"
    other = ledger.writer()
    other.append([verdict | {"neuron": 1, "image": 3, "yes": False}])
    other.close()
    newest = ledger.verdicts("r", 1).set_index("image")["yes"]
    assert not newest[3], "the newer verdict on the same question"
    writer.verdicts.unlink()
    assert ledger.verdicts("r", 1)["image"].tolist() == [3]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["r", "s"]), st.booleans()), max_size=12))
@pytest.mark.long
def test_the_index_agrees_with_a_query_over_all_lines(tmp_path_factory, rows):
    ledger = Ledger(Store(tmp_path_factory.mktemp("ledger")), "scores-x")
    for start in range(0, len(rows), 4):  # several files, asked in between
        writer = ledger.writer()
        for i, (neuron, run, ok) in enumerate(rows[start : start + 4], start):
            writer.append([{"kind": "verdict", "run": run, "neuron": neuron, "about": "name", "image": i, "fires": ok,
                            "value": 1.0, "status": "ok"}])  # fmt: skip
        writer.close()
        for neuron in range(4):
            expected = ledger.query(
                "SELECT image FROM {verdicts} WHERE run = 'r' AND neuron = ? ORDER BY image", [neuron]
            )
            assert sorted(ledger.verdicts("r", neuron)["image"]) == expected["image"].tolist()
