"""What runs on a node: one command of the program, watched. Knows no engine.

The command is a process of its own, so a shard made by an engine is the shard made by hand: its own memory, its own
threads, its own end. It is stopped as Ctrl-C stops it, when the run is stopped and when this process is gone.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from medsae import files, jobs, seals
from medsae.store.artifacts import versions

STOP = "stop"
"""A file beside the folders of the commands: all end."""
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 30.0
_TAIL = 2_000


class Broken(Exception):
    """A command that ended in a way nobody foresaw (killed, out of memory): to be done again elsewhere."""


class Stopped(Exception):
    """A command that was stopped because the run was."""


@dataclass(frozen=True)
class Task:
    """One command and where it tells how far it is."""

    words: tuple[str, ...]
    """After `python -m medsae`."""
    folder: Path
    """For its progress, its end and what it prints."""
    token_file: Path
    token: str
    """What the shared folder must hold in `token_file`."""
    versions: dict[str, str]
    """Of who submits it."""
    cwd: str
    threads: int
    gpus: float = 0.0
    """What the engine has reserved; of 0 none is seen, whatever the node has."""


@dataclass(frozen=True)
class Seen:
    """What a node says of itself."""

    host: str
    token: str | None
    """What it reads in the shared folder; None: there is no such file."""
    versions: dict[str, str]
    problem: str | None = None
    """Why it could not be looked at."""


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    host: str
    status: int
    result: str | None
    """The id that it is about."""
    error: str | None
    """What a person can mend, in the command's own words."""
    said: str | None
    """What it printed on stdout."""


def look(task: Task) -> Seen:
    """This node, as it sees the shared folder."""
    try:
        token = task.token_file.read_text()
    except OSError:
        token = None
    return Seen(platform.node(), token, versions())


def foreign(seen: Seen, token: str, here: dict[str, str]) -> str | None:
    """Why a node cannot take part; None where it can."""
    if seen.problem is not None:
        return seen.problem
    if seen.token != token:
        return "does not see this data folder" if seen.token is None else "sees another folder under this path"
    names = sorted({*seen.versions, *here} - set(_SHOWN))
    differ = [n for n in names if seen.versions.get(n) != here.get(n)]
    said = ", ".join(f"{n} {seen.versions.get(n, 'none')} there, {here.get(n, 'none')} here" for n in differ)
    return f"other versions: {said}" if differ else None


_SHOWN = ("streamlit",)


def make(task: Task) -> Done:
    """Do a command. Raises `Broken` where it should be done again, `Stopped` where the run is stopped.

    A node that came after the others were looked at, and does not belong to them, does nothing: its error says so."""
    stop, seen = task.folder.parent / STOP, look(task)
    if stop.exists():
        raise Stopped
    why = foreign(seen, task.token, task.versions)
    if why is not None:
        return Done(seen.host, 2, None, f"{seen.host}: {why}", None)
    files.make_folder(task.folder)
    files.append_line(task.folder / "hosts", seen.host, durable=False)
    (task.folder / "end.json").unlink(missing_ok=True)
    with (task.folder / "out").open("wb") as out, (task.folder / "log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "medsae", *task.words], stdin=subprocess.PIPE, stdout=out, stderr=log,
            env=_environment(task), cwd=task.cwd if os.path.isdir(task.cwd) else None, start_new_session=True,
        )  # fmt: skip
        status = _watched(child, stop)
    return _done(task, seen.host, status)


def hosts(task: Task) -> list[str]:
    """Where a command was begun, first to last."""
    try:
        return (task.folder / "hosts").read_text().splitlines()
    except OSError:
        return []


def _environment(task: Task) -> dict[str, str]:
    program = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    threads = {name: str(task.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    hidden = {} if task.gpus else {"CUDA_VISIBLE_DEVICES": ""}
    return os.environ | threads | hidden | {"PYTHONPATH": program, jobs.PART: str(task.folder)}


def _watched(child: subprocess.Popen[bytes], stop: Path) -> int:
    """The exit status of a command; it is stopped when the file `stop` appears, or when we are."""
    assert child.stdin is not None
    try:
        while (status := child.poll()) is None:
            time.sleep(_POLL_SECONDS)
            if stop.exists():
                raise Stopped
        return status
    finally:
        child.stdin.close()  # a command that still runs takes this as Ctrl-C
        try:
            child.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()


def _done(task: Task, host: str, status: int) -> Done:
    end: dict[str, object] = {}
    with contextlib.suppress(OSError, ValueError):
        end = seals.read(task.folder / "end.json")
    error, result = end.get("error"), end.get("result")
    said = (task.folder / "out").read_text(errors="replace")
    if status in (0, 3):
        return Done(host, status, str(result) if result else None, None, said)
    log = (task.folder / "log").read_text(errors="replace")[-_TAIL:].strip()
    if status == 2:
        return Done(host, status, None, str(error) if error else log.removeprefix("medsae: "), said)
    raise Broken(f"on {host} it ended with {_status(status)}: {log.splitlines()[-1] if log else 'it said nothing'}")


def _status(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
