"""Jobs on the Runs page: the one that is asked for stands first with its log; a service is no bar that never ends."""

import json
import os
import time

from medsae import files
from medsae.jobs import Jobs


def job(data, id, words, end=None, progress=None, log=None):
    folder = data / "jobs" / id
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"command": words, "started": time.time() - 60, "cwd": "/"}))
    (folder / "progress.json").write_text(json.dumps(progress or {}))
    if end:
        (folder / "end.json").write_text(json.dumps(end))
    if log is not None:
        (folder / "log.txt").write_text(log)
    return folder


def test_the_log_of_a_failed_job_stands_above_the_list(app, html, data, ids):
    job(
        data,
        "20300101-1",
        ["train", "--k", "9"],
        {"state": "failed", "error": "the disk is full", "ended": time.time()},
        log="epoch 3\nthe disk is full\n",
    )
    job(data, "20300101-2", ["train"], {"state": "failed", "error": "no", "ended": time.time()})
    assert [j.state for j in Jobs(data).list()] == ["failed", "failed"]
    test = app.open("runs", tab="jobs", job="20300101-1")
    assert any("epoch 3" in code.value for code in test.code) and any("the disk is full" in e.value for e in test.error)
    text = html(test)
    assert text.index("train --k 9 <span") < text.index("<table"), "the job that is asked for comes first"
    test = app.open("runs", tab="jobs", job="20300101-2")
    assert any("started in a terminal" in c.value for c in test.caption) and "no output yet" not in str(test.code)


def test_a_service_that_waits_is_no_full_bar(app, data, ids):
    full = {"done": 40, "total": 40, "unit": "questions", "seconds_left": 0.0, "what": "naming neuron 3"}
    folder = job(data, "20300101-3", ["name", "--scores", ids.scores, "--watch"], progress=full)
    handle = files.take_lock(folder / "lock")
    assert handle is not None
    try:
        test = app.open("runs", tab="jobs")
        assert any("waits for questions" in c.value for c in test.caption)
        assert [b.label for b in test.button] == ["Stop the service"] and not test.get("progress")
        (folder / "progress.json").write_text(json.dumps(full | {"done": 20}))
        test = app.run()
        assert any("naming neuron 3, 20 of 40 questions" in c.value for c in test.caption)
        assert not test.get("progress"), "a service has no end, so no bar"
        watch = data / "jobs/watch/abc"
        watch.mkdir(parents=True)
        (watch / "job.json").write_text(json.dumps({"job": "20300101-3"}))
        (watch / "state.json").write_text(json.dumps({"phase": "loading"}))
        assert any("being loaded" in c.value for c in app.run().caption)
    finally:
        os.close(handle)


def test_a_service_that_is_stopped_says_so_and_so_does_the_list(app, html, data, ids, monkeypatch):
    folder = job(data, "20300101-4", ["look", "--scores", ids.scores, "--watch"])
    handle = files.take_lock(folder / "lock")
    assert handle is not None
    test = app.open("runs", tab="jobs")
    monkeypatch.setattr(Jobs, "cancel", lambda self, id: (folder / "pressed").write_text(id))
    next(b for b in test.button if b.label == "Stop the service").click()
    test = app.run()
    assert (folder / "pressed").read_text() == "20300101-4" and any("is being stopped" in i.value for i in test.info)
    (folder / "end.json").write_text(json.dumps({"state": "cancelled", "ended": time.time()}))
    os.close(handle)
    test = app.run()
    assert any("The service was stopped" in said.value for said in test.success) and ">stopped</span>" in html(test)
    (folder / "end.json").write_text(json.dumps({"state": "cancelled", "ended": time.time() - 60}))
    assert not app.run().success, "it is not said for ever"


def test_the_end_of_a_long_log_is_seen_at_once(app, data, ids):
    lines = [f"epoch {i}" for i in range(400)] + ["RuntimeError: the reason"]
    end = {"state": "failed", "error": "the reason", "ended": time.time()}
    job(data, "20300101-5", ["train"], end, log="\n".join(lines))
    first, whole = app.open("runs", tab="jobs", job="20300101-5").code
    assert first.value.endswith("the reason") and first.value.count("\n") < 14 and whole.value.count("\n") == 400


def test_what_failed_in_part_says_how_many_and_goes_on(app, html, data, ids):
    left = "3 of 5 neurons named and tested; 2 server error"
    end = {"state": "part failed", "error": left, "ended": time.time(), "result": ids.scores}
    job(data, "20300101-5", ["name", "--scores", ids.scores, "--top", "5"], end)
    test = app.open("runs", tab="jobs", job="20300101-5")
    assert "part failed" in html(test) and left in html(test) and [w.value for w in test.warning] == [left]
    assert "Resume" in [b.label for b in test.button]
    damaged = data / "jobs/20300101-5/end.json"
    damaged.write_bytes(damaged.read_bytes().replace(b"part", b"p\0rt"))
    test = app.open("runs", tab="jobs", job="20300101-5")
    assert "damaged" in html(test) and any("how it ended" in e.value for e in test.error)
