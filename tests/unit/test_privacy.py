"""What leaves the page: no formulas in exports, no paths and patients unless switched on, no bytes of foreign files."""

import time
from pathlib import Path

import pandas as pd
import pytest

from medsae import config as c
from medsae import jobs
from medsae.jobs import Jobs, unquoted
from medsae.progress import UserError
from medsae.store import spreadsheet
from medsae.ui import export, forms, hiding


@pytest.mark.parametrize("cell", ["=1+1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", '=HYPERLINK("http://x","y")',
                                  "=cmd|' /C calc'!A0", "＝1", "-"])  # fmt: skip
def test_no_cell_and_no_heading_of_an_export_is_a_formula(cell):
    frame = pd.DataFrame({"name": [cell, "effusion"], cell: [1, 2]})
    first, *rows = spreadsheet.csv(frame).splitlines()
    read = pd.read_csv(pd.io.common.StringIO("\n".join([first, *rows])), dtype=str, keep_default_na=False)
    for value in [*read.columns, *read["name"]]:
        assert not value.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "＝")), value
    assert b"\n=" not in export.csv(frame, "x")


def test_numbers_stay_numbers_in_an_export():
    frame = pd.DataFrame({"rho": [-0.5, None], "text": ["-0.5", "+3e-4"], "n": pd.array([1, None], dtype="Int64")})
    assert spreadsheet.csv(frame) == "rho,text,n\n-0.5,-0.5,1\n,+3e-4,\n"


@pytest.mark.parametrize(("words", "hidden"), [
    (["ingest", "table", "--table", "/home/miller/ward 7/x.csv", "--root=/data/ward", "--seed", "3"],
     "ingest table --table … --root=… --seed 3"),
    (["ingest", "table", "--table", "labels.csv"], "ingest table --table …"),
    (["name", "--endpoint", "http://127.0.0.1:8000/v1", "--top", "5"],
     "name --endpoint http://127.0.0.1:8000/v1 --top 5"),
    (["train", "--sweep", "l1=1e-4,3e-4 seed=0,1"], "train --sweep 'l1=1e-4,3e-4 seed=0,1'"),
])  # fmt: skip
def test_paths_in_a_command_are_hidden(words, hidden):
    assert hiding.command(words, shown=False) == hidden
    assert "/home" in hiding.command(words, shown=True) or "/home" not in " ".join(words)


@pytest.mark.parametrize("path", ["/home/miller/study/a.csv", "~/study", r"C:\Users\Miller\x.csv", r"\\host\ward\x",
                                  "train/patient00042/study1/view1.jpg", "../miller/x", "./labels.csv"])  # fmt: skip
def test_paths_and_patients_in_a_text_are_hidden(path):
    told = hiding.text(f"reading failed: {path}: no such file", shown=False)
    assert "iller" not in told and "00042" not in told and told.endswith("no such file")
    assert hiding.text(path, shown=True) == path
    for harmless in ("AP/PA", "n/a", "12.5 pictures/s", "http://127.0.0.1:8000/v1", "p = 3/4", "and/or"):
        assert hiding.text(harmless, shown=False) == harmless


def test_a_form_offers_nothing_that_lets_data_out():
    assert {"allow_remote", "allow_outside"} <= set(forms._HIDDEN)


@pytest.mark.parametrize("config", [
    c.Name(scores="s", top=1, backend="endpoint", endpoint="http://example.org/v1", allow_remote=True),
    c.Embed(cohort="c", from_=Path("/etc/shadow"), rows=Path("rows.csv")),
    c.Embed(cohort="c", encoder="simclip", weights=Path("/proc/self/environ")),
])  # fmt: skip
def test_a_job_of_the_app_cannot_be_given_everything(tmp_path, config):
    with pytest.raises(UserError):
        Jobs(tmp_path).start(config)
    assert Jobs(tmp_path).list() == []


def test_a_job_of_a_shell_that_lets_data_out_is_not_resumed_in_the_app(tmp_path):
    with jobs.running(tmp_path, ["name", "--scores", "s", "--allow-remote"]):
        pass
    [job] = Jobs(tmp_path).list()
    with pytest.raises(UserError, match="command line only"):
        Jobs(tmp_path).resume(job.id)
    assert len(Jobs(tmp_path).list()) == 1


def test_a_job_of_the_app_never_quotes_what_it_could_not_read(tmp_path):
    secret = "hunter2"
    (tmp_path / "x.npy").write_bytes(f"{secret} is no array".encode())
    (tmp_path / "rows.csv").write_text(f"{secret}\n")
    all_jobs = Jobs(tmp_path / "data")
    job = all_jobs.start(c.Embed(cohort="nothing", from_=tmp_path / "x.npy", rows=tmp_path / "rows.csv", name="n"))
    end = time.monotonic() + 60
    while all_jobs.get(job.id).state == "running":
        assert time.monotonic() < end
        time.sleep(0.1)
    assert all_jobs.get(job.id).state == "failed"
    assert secret not in all_jobs.log(job.id) + (all_jobs.get(job.id).error or "")


def test_what_a_library_said_is_not_repeated():
    try:
        try:
            raise ValueError("CSV parse error: Expected 1 columns, got 2: root:x:0:0")
        except ValueError as error:
            raise UserError(f"the table cannot be read: {error}", "t.csv", "check it") from error
    except UserError as error:
        told = unquoted(error, "ingest")
    assert told is not None and "root:x" not in str(told) and "ValueError" in str(told)
    assert unquoted(UserError("no embeddings with the id 'x'"), "embed") is None
    assert "root:x" not in str(unquoted(KeyError("root:x"), "ingest"))
    assert unquoted(FileNotFoundError(2, "No such file"), "ingest") is None
    assert unquoted(KeyError("x"), "name") is None
