"""A full disk, a file-size limit, missing rights: one message that helps, exit status 2, and no second error."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from safetensors import SafetensorError

from medsae import jobs
from medsae.jobs import Jobs
from medsae.progress import File, UserError
from medsae.store.troubles import explained

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("error", "words"), [
    (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
    (OSError("25600 requested and 0 written"), "the disk is full"),
    (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "the disk is full"),
    (duckdb.IOException("Could not write all bytes to file: wanted=2 wrote=1"), "the disk is full"),
    (RuntimeError("[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file"), "disk is full"),
    (OSError(errno.EFBIG, "File too large"), "larger than the limit"),
    (OSError(errno.EACCES, "Permission denied"), "not writable, or no permission"),
    (OSError(errno.EROFS, "Read-only file system"), "not writable"),
    (OSError(errno.EMFILE, "Too many open files"), "too many files are open"),
    (OSError(errno.EIO, "Input/output error"), "reading or writing failed: Input/output error"),
])  # fmt: skip
def test_what_an_error_means(error, words, tmp_path):
    told = explained(error, tmp_path)
    assert told is not None and words in told.what
    assert "delete" not in (told.do or "")


def test_what_is_none_of_these_stays_an_error():
    assert explained(ZeroDivisionError(), "x") is None and explained(UserError("mine"), "x") is None
    assert explained(duckdb.ParserException("syntax error"), "x") is None


def test_a_full_disk_says_what_may_go(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "big").write_bytes(os.urandom(3 * 2**20))
    told = explained(OSError(errno.ENOSPC, "No space left on device"), tmp_path, tmp_path)
    assert told is not None and f"the cache (made again when needed) in {tmp_path / 'cache'}: 3 MiB" in (told.do or "")


def test_the_error_path_of_a_job_does_not_raise_on_a_full_disk(tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")

    def no_room(*_, **__):
        raise full

    with pytest.raises(OSError, match="No space left") as raised, jobs.running(tmp_path, ["embed"]) as job:
        progress = File(job.folder / "progress.json")
        monkeypatch.setattr("medsae.files.write", no_room)
        progress.say("going on")
        with progress.task("encoding", 3) as task:
            task.advance()
        raise full
    assert raised.value is full
    monkeypatch.undo()
    [job] = Jobs(tmp_path).list()
    assert job.state == "interrupted"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["list"], ["show", "nothing"]])
def test_output_that_cannot_be_written_is_no_traceback(words, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "medsae", *words, "--data", str(tmp_path)], stdout=full,
                              stderr=subprocess.PIPE, text=True, cwd=ROOT)  # fmt: skip
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert done.returncode in (0, 2)


def test_a_limit_of_file_size_is_said(tmp_path):
    """SIGXFSZ does not end the program, and what is said names the limit."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
        "from medsae.cli import main; sys.exit(main(['train', '--embeddings', 'x', '--data', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "larger than the limit" in done.stderr and "Traceback" not in done.stderr


def test_damaged_files_of_a_job_are_lived_with(tmp_path):
    for name in ("a", "b", "c"):
        with jobs.running(tmp_path, ["embed", name]):
            pass
    first, second, third = sorted((tmp_path / "jobs").iterdir())
    (first / "job.json").write_text('{"command": null, "started": "soon"}')
    (second / "end.json").write_text('{"state": "exploded", "ended": []}')
    (second / "progress.json").write_text('{"done": "three", "total": {}, "facts": 7}')
    (third / "job.json").write_bytes(b"\xff\xfe")
    of = {job.id: job for job in Jobs(tmp_path).list()}
    assert [of[path.name].state for path in (first, second, third)] == ["damaged", "interrupted", "damaged"]
    job = of[second.name]
    assert job.ended is None and job.progress["done"] is None and job.progress["facts"] == {}
    assert not of[third.name].command and "job.json" in str(of[third.name].error)
    with pytest.raises(UserError, match=r"job\.json"):
        Jobs(tmp_path).resume(third.name)
    assert [Path(str(trouble.where)) for trouble in Jobs(tmp_path).troubles()] == [third / "job.json"]
    for id in ("", "..", "a/b", "x" * 5000, "a\0b"):
        with pytest.raises(UserError, match="no job"):
            Jobs(tmp_path).get(id)
