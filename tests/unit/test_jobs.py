"""Jobs: a lock, not a pid, tells running from interrupted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medsae import config as c
from medsae import jobs
from medsae.jobs import Jobs
from medsae.progress import UserError

ROOT = Path(__file__).parents[2]


def wait(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def test_a_block_is_a_job(tmp_path):
    with jobs.running(tmp_path, ["train", "--embeddings", "x"]) as job:
        [seen] = Jobs(tmp_path).list()
        assert seen.state == "running" and seen.step == "train"
        job.result = "sae-1"
    [seen] = Jobs(tmp_path).list()
    assert (seen.state, seen.result) == ("done", "sae-1")


def test_failure_and_cancel_are_kept(tmp_path):
    with pytest.raises(UserError), jobs.running(tmp_path, ["embed"]):
        raise UserError("no such cohort", "here", "list")
    with pytest.raises(KeyboardInterrupt), jobs.running(tmp_path, ["score"]):
        raise KeyboardInterrupt
    states = {job.step: (job.state, job.error) for job in Jobs(tmp_path).list()}
    assert states["embed"][0] == "failed" and "no such cohort" in str(states["embed"][1])
    assert states["score"][0] == "cancelled"


def test_a_killed_job_is_interrupted_even_as_an_unreaped_child(tmp_path):
    code = "import sys, time; from medsae import jobs\nwith jobs.running(sys.argv[1], ['train']): print('up', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    assert Jobs(tmp_path).list()[0].state == "running"
    os.kill(child.pid, signal.SIGKILL)
    wait(lambda: Jobs(tmp_path).list()[0].state == "interrupted")  # not reaped yet: a pid check would say alive
    child.wait()
    child.stdout.close()


def test_started_from_the_app_it_fails_with_its_message_and_log(tmp_path):
    all_jobs = Jobs(tmp_path)
    job = all_jobs.start(c.Train(embeddings="nothing"))
    assert all_jobs.get(job.id).state in ("running", "failed")
    ended = wait(lambda: (j := all_jobs.get(job.id)).state != "running" and j)
    assert ended.state == "failed" and "no embeddings with the id 'nothing'" in (ended.error or "")
    wait(lambda: "no embeddings with the id" in all_jobs.log(job.id))  # it prints after it has said how it ended
    again = all_jobs.resume(job.id)
    assert again.command == job.command and again.id != job.id
    wait(lambda: all_jobs.get(again.id).state == "failed")


def test_cancel_a_running_job(tmp_path):
    code = (
        "import sys, time; from medsae import jobs\n"
        "try:\n  with jobs.running(sys.argv[1], ['train']):\n    print('up', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt: pass"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    [job] = Jobs(tmp_path).list()
    with pytest.raises(UserError, match="is running"):
        Jobs(tmp_path).resume(job.id)
    Jobs(tmp_path).cancel(job.id)
    child.wait(20)
    child.stdout.close()
    assert Jobs(tmp_path).get(job.id).state == "cancelled"


def test_an_unknown_job(tmp_path):
    with pytest.raises(UserError, match="no job"):
        Jobs(tmp_path).get("x")
    assert Jobs(tmp_path).list() == []


def test_a_second_ctrl_c_does_not_keep_the_end_from_being_written(tmp_path, monkeypatch):
    """Cancel pressed twice: the second signal falls into the writing of end.json."""
    ended = jobs.Running.end

    def end(self, state, error=None):
        os.kill(os.getpid(), signal.SIGINT)
        ended(self, state, error)

    monkeypatch.setattr(jobs.Running, "end", end)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt), jobs.running(tmp_path, ["train"]):
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)
    (job,) = jobs.Jobs(tmp_path).list()
    assert job.state == "cancelled"


def test_a_command_of_which_part_failed_says_so_and_can_be_started_again(tmp_path, monkeypatch):
    """Exit status 3 is neither done nor failed; 2 without an exception is failed."""
    from medsae import cli

    states = {}
    for status in (0, 3, 2):
        result = {"id": "scores-x", "exit": status, "left": "3 of 5 neurons named and tested; 2 server error"}
        monkeypatch.setattr(cli, "_step", lambda *_, result=result: dict(result))
        assert cli.main(["name", "--scores", "x", "--top", "5", "--data", str(tmp_path / str(status))]) == status
        [states[status]] = Jobs(tmp_path / str(status)).list()
    assert [states[s].state for s in (0, 3, 2)] == ["done", "part failed", "failed"]
    assert states[3].error == "3 of 5 neurons named and tested; 2 server error" and states[3].state in jobs.AGAIN
    again = Jobs(tmp_path / "3").resume(states[3].id)
    assert again.command == states[3].command
    wait(lambda: Jobs(tmp_path / "3").get(again.id).state != "running")
