"""Jobs: command lines that run on their own, listed with state, progress and log. Knows no torch.

A job is a folder `data/jobs/<id>/`: job.json (command, pid, start), progress.json (see `progress.File`), log.txt, and
end.json once it ended. A lock that the running process holds tells running from interrupted; a pid would lie for a
dead child that nobody reaped. Steps started in a shell register themselves in the same way. Every record is sealed
(`medsae.seals`): one that is not what was written is named, and nothing is started or stopped by it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from medsae import config as configs
from medsae import files, seals
from medsae.progress import UserError
from medsae.store.troubles import explained

State = Literal["running", "done", "part failed", "failed", "cancelled", "interrupted", "damaged"]
AGAIN: tuple[State, ...] = ("part failed", "failed", "cancelled", "interrupted", "damaged")
"""States after which the same command has something left to do."""
ENVIRONMENT = "MEDSAE_JOB"
PART = "MEDSAE_PART"
"""Variable of a command that is a part of another job: the folder for its progress and its end. It is no job of its
own, and it ends as on Ctrl-C when its standard input does: whoever started it is gone then."""
ONLY_IN_A_SHELL = ("allow_remote", "allow_outside")
"""Options that let data leave this machine or files outside a data set in: nobody gives them in a browser."""
_TABLES = (".csv", ".tsv", ".tab", ".parquet", ".jsonl", ".ndjson", ".xlsx", ".xls", ".npy", ".npz",
           ".pt", ".pth", ".bin", ".safetensors", ".zip", ".gz", ".bz2", ".xz", ".zst")  # fmt: skip
_SERVICES = ("watch", "look")
"""Folders beside the jobs in which services are asked (`store.requests`, `store.looks`)."""
_END_SECONDS = 20.0
"""Wait for a part that was told to end, before it is ended."""
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Job:
    """One job as it stands now."""

    id: str
    command: list[str]
    state: State
    started: float
    ended: float | None
    progress: dict[str, Any] = field(default_factory=dict)
    result: str | None = None
    error: str | None = None

    @property
    def step(self) -> str:
        return self.command[0] if self.command else ""


class Jobs:
    """The jobs under one data folder."""

    def __init__(self, data: Path):
        self.folder = Path(data) / "jobs"

    def start(self, config: Any) -> Job:
        """Start `python -m medsae ...` for a config in a session of its own; returns at once."""
        for name in ONLY_IN_A_SHELL:
            if getattr(config, name, False):
                flag = f"--{name.replace('_', '-')}"
                raise UserError(f"{flag} can be given on the command line only", None, "start the step in a shell")
        for each in fields(config):
            value = getattr(config, each.name)
            if isinstance(value, Path) and not value.is_dir() and value.suffix.lower() not in _TABLES:
                # Whoever reaches the page must not make the program open any file of this machine.
                raise UserError(f"{each.name.rstrip('_')}: neither a folder nor a file of a kind that is read here",
                                None, f"a file that ends in {', '.join(_TABLES[:6])} ...")  # fmt: skip
        return self._start(configs.command_line(config), os.getcwd())

    def resume(self, id: str) -> Job:
        """Start the same command again; a step goes on from its finished shards."""
        job = self.get(id)
        if job.state == "running":
            raise UserError(f"job {id} is running", self.folder / id, "cancel it first")
        if not job.command:
            raise UserError(job.error or f"job {id} has no command", self.folder / id, "give the command anew")
        for name in ONLY_IN_A_SHELL:
            flag = f"--{name.replace('_', '-')}"
            if flag in job.command:
                raise UserError(f"{flag} can be given on the command line only", None, "start the command in a shell")
        return self._start(job.command, _read(self.folder / id / "job.json")[0].get("cwd", os.getcwd()))

    def _start(self, words: list[str], cwd: str) -> Job:
        folder, lock = _create(self.folder, words, cwd)
        program = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
        own = {ENVIRONMENT: str(folder), "MEDSAE_DATA": str(self.folder.parent), "PYTHONPATH": program}
        files.write(folder / "log.txt", b"")
        with (folder / "log.txt").open("ab") as log:
            # The child inherits the locked descriptor, so there is no moment in which the job looks dead.
            child = subprocess.Popen(
                [sys.executable, "-m", "medsae", *words],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=os.environ | own,
                start_new_session=True, pass_fds=(lock,), cwd=cwd,
            )  # fmt: skip
        os.close(lock)
        _write(folder / "pid.json", {"pid": child.pid})
        _children.append(child)
        return self.get(folder.name)

    def list(self) -> list[Job]:
        """Every job, newest first."""
        _children[:] = [child for child in _children if child.poll() is None]
        try:
            names = sorted(os.listdir(self.folder), reverse=True)
        except OSError:  # none yet, or no permission: the store says so
            return []
        return [job for name in names if (job := self._read(name)) is not None]

    def get(self, id: str) -> Job:
        """One job; UserError when there is none of that id, or its files cannot be read."""
        job = self._read(id) if id and "/" not in id and "\0" not in id and len(id) < 200 else None
        if job is None:
            raise UserError(f"no job {id[:60]!r}", self.folder)
        return job

    def _read(self, id: str) -> Job | None:
        folder = self.folder / id
        begun, damaged = _read(folder / "job.json")
        command, started = begun.get("command"), _number(begun.get("started"))
        if damaged or not isinstance(command, list) or not all(isinstance(word, str) for word in command):
            command = []
        if not command and not (folder / "job.json").is_file():
            return None
        end, half = _read(folder / "end.json")
        state: State = _state(end) or ("running" if files.locked(folder / "lock") else "interrupted")
        if state != "running" and not end:
            end, half = _read(folder / "end.json")  # it may have ended between the two looks
            state = _state(end) or state
        progress = _read(folder / "progress.json")[0]
        for name in ("done", "total", "seconds", "seconds_left"):
            progress[name] = _number(progress.get(name))
        if not isinstance(progress.get("facts"), dict):
            progress["facts"] = {}
        error = _text(end.get("error"))
        if not command or half:
            what = "job.json: what was started" if not command else "end.json: how it ended"
            state, error = "damaged" if state != "running" else state, f"{what} cannot be read, the file is damaged"
        return Job(id, command, state, started or 0.0, _number(end.get("ended")), progress, _text(end.get("result")),
                   error)  # fmt: skip

    def troubles(self) -> list[UserError]:
        """Records of jobs that are not what was written; the job is listed all the same."""
        found = [path for path in sorted(self.folder.glob("*/*.json")) if path.parent.name not in _SERVICES]
        do = "nothing of it is used; start the job again"
        return [UserError(f"job {p.parent.name}: {p.name} is damaged", p, do) for p in found if _read(p)[1]]

    def cancel(self, id: str) -> None:
        """Send Ctrl-C to a running job; what it has finished stays."""
        folder = self.folder / id
        if self.get(id).state == "running":
            pid = _read(folder / "pid.json")[0].get("pid")
            if isinstance(pid, int) and pid > 1:
                # The lock is held, so the pid is alive and cannot have been given to another process.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)

    def log(self, id: str) -> str:
        """The last 64 KiB of what the job printed."""
        path = self.folder / id / "log.txt"
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 65536))
            return file.read().decode(errors="replace")


@contextlib.contextmanager
def running(data: Path, words: list[str]) -> Iterator[Running]:
    """Register this process as a job (or take the folder that `Jobs.start` made) while the block runs."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # A shell that starts a command in the background lets it ignore Ctrl-C, and `cancel` with it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    given, part = os.environ.pop(ENVIRONMENT, None), os.environ.pop(PART, None)
    if part:
        folder, lock = files.make_folder(Path(part)), None
        _end_with_starter()
    elif given:
        folder, lock = Path(given), None
    else:
        folder, lock = _create(Path(data) / "jobs", words, os.getcwd())
        _write(folder / "pid.json", {"pid": os.getpid()})
    job = Running(folder, part=part is not None)
    try:
        yield job
        job.end(job.state, error=job.error)
    except KeyboardInterrupt:
        with _deaf():
            job.end("cancelled")
        raise
    except BaseException as error:
        better = explained(error, folder.parents[1], folder.parents[1]) if isinstance(error, Exception) else None
        told = unquoted(error, words[0]) if given and isinstance(error, Exception) else None
        job.end("failed", error=str(told or better or error) or type(error).__name__)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def unquoted(error: Exception, step: str) -> UserError | None:
    """What a job that was started in a browser says of an error that a library raised while it read a file, or of one
    that nobody foresaw: such a message may quote the file, and the reader of the page may not be allowed to read it.
    None for what is our own message or the system's, and for a step that reads no files from outside."""
    if step not in ("ingest", "embed", "run"):
        return None
    cause = error.__cause__ if isinstance(error, UserError) else error
    if cause is None or (isinstance(cause, UserError | OSError) and not isinstance(cause, UnicodeError)):
        return None
    where = error.where if isinstance(error, UserError) else None
    what = f"a file could not be read as what it should be ({type(cause).__name__})"
    return UserError(what, where, "start the same command in a shell: it says more")


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C is not heard: a second one must not keep the end from being written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_starter() -> None:
    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(_END_SECONDS)
        os._exit(130)

    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # an engine may keep it from its workers
    threading.Thread(target=wait, daemon=True).start()


@dataclass
class Running:
    """The job that this process is."""

    folder: Path
    part: bool = False
    """It is a part of another job."""
    result: str | None = None
    state: State = "done"
    """How it ends when nothing is raised."""
    error: str | None = None
    """What of it failed, in that case."""

    def end(self, state: State, error: str | None = None) -> None:
        """Write how it ended. Where the disk is full nothing can be written: the job is then listed as interrupted,
        and what the step itself says is not drowned in a second error."""
        with contextlib.suppress(OSError):
            _write(
                self.folder / "end.json", {"state": state, "ended": time.time(), "result": self.result, "error": error}
            )


def _create(jobs: Path, words: list[str], cwd: str) -> tuple[Path, int]:
    folder = jobs / f"{time.strftime('%Y%m%d-%H%M%S')}-{words[0]}-{secrets.token_hex(2)}"
    try:
        files.make_folder(folder)
        lock = files.take_lock(folder / "lock")
        assert lock is not None, "the folder is new"
        _write(folder / "job.json", {"command": words, "cwd": cwd, "started": time.time()})
    except OSError as error:
        raise explained(error, jobs, jobs.parent) or error from error
    return folder, lock


def _write(path: Path, value: dict[str, Any]) -> None:
    files.write(path, seals.text(value))


def _read(path: Path) -> tuple[dict[str, Any], bool]:
    """The record in a file, empty where there is none; and whether the file is there and damaged."""
    try:
        return seals.read(path), False
    except ValueError:
        return {}, True
    except OSError:
        return {}, False


def _state(end: dict[str, Any]) -> State | None:
    return end["state"] if end.get("state") in get_args(State) else None


def _number(value: object) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
