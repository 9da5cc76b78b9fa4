"""A small study whose steps can be run, killed and starved: forked from a process that has imported everything once."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

KIND = {"ingest": "cohort", "embed": "embeddings", "train": "sae", "score": "scores", "name": "names"}


@dataclass
class Row:
    """One line of the table."""

    what: str
    tries: int = 0
    failed: int = 0
    lost: int = 0
    """Lost, or wrong without a word."""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    hits: int = 0
    """Tries in which the fault was met (a kill within the step, a disk that was full)."""
    cpu: float = 0.0
    """Seconds of processor that it took: what a quiet machine would need of one core."""

    def bad(self, note: str, lost: bool = False) -> None:
        self.failed += not lost
        self.lost += lost
        if len(self.notes) < 8:
            self.notes.append(note)

    @property
    def good(self) -> bool:
        return self.hits > 0 and not self.failed and not self.lost


def spent() -> float:
    """Seconds of processor of this process and of the children that have ended."""
    return sum(os.times()[:4])


def prepare() -> Callable[[], None]:
    """Import what the steps import, so that a forked child starts in a millisecond; shards small enough to have some.
    Returns what puts the size of the shards back."""
    import medsae.cli
    import medsae.naming.run
    import medsae.sae.training
    import medsae.scoring.scores
    import medsae.steps.embed
    import medsae.steps.ingest
    import medsae.steps.naming
    import medsae.steps.score
    import medsae.steps.train
    from medsae.encoders import pipeline

    usual, embed = medsae.steps.ingest._SHARD, pipeline.embed
    medsae.steps.ingest._SHARD = 24
    pipeline.embed = lambda pictures, encoder, how, **k: embed(pictures, encoder, replace(how, shard_size=24), **k)

    def back() -> None:
        medsae.steps.ingest._SHARD, pipeline.embed = usual, embed

    return back


@dataclass
class Ended:
    """How a command ended; status is negative when a signal ended it."""

    status: int
    out: str
    err: str


def command(words: list[str], data: Path, kill_after: float | None = None, before=None) -> Ended:
    """Run `medsae ...` in a forked child; SIGKILL it and all of its own after so many seconds."""
    folder = Path(tempfile.mkdtemp(prefix="medsae-fault-"))
    pid = os.fork()
    if pid == 0:
        os.setsid()
        status = 99
        try:
            for place, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(folder / name, os.O_CREAT | os.O_WRONLY, 0o600), place)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            os.environ.pop("MEDSAE_JOB", None)
            import torch

            torch.set_num_threads(1)  # a fork of a process that has used its threads must not wait for them
            if before is not None:
                before()
            from medsae.cli import main

            status = main([*words, "--data", str(data)])
            sys.stdout.flush()
        except BaseException:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    end = None if kill_after is None else time.monotonic() + kill_after
    while True:
        done, code = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if end is not None and time.monotonic() >= end:
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:  # the child has not come to its own group yet
                os.kill(pid, signal.SIGKILL)
            end = None
        time.sleep(0.002)
    # A kill may come before the child has opened them.
    read = [path.read_text(errors="replace") if (path := folder / name).exists() else "" for name in ("out", "err")]
    shutil.rmtree(folder)
    return Ended(os.waitstatus_to_exitcode(code), *read)


@dataclass
class Study:
    """The finished study; `words[step]` is the command that makes a step's result again."""

    data: Path
    words: dict[str, list[str]]
    ids: dict[str, str]
    seconds: dict[str, float]
    """How long each step took when it was left alone."""

    def folder(self, step: str, data: Path | None = None) -> Path:
        """Where the result of a step lies."""
        id = self.ids["score"] if step == "name" else self.ids[step]
        return (data or self.data) / "artifacts" / KIND[step] / id

    def copy(self, to: Path, upto: str | None = None) -> Path:
        """A data folder with everything before the step `upto` (None: everything)."""
        for step in KIND:
            if step == upto:
                break
            shutil.copytree(self.folder(step), self.folder(step, to))
        if (self.data / "cache").is_dir():
            shutil.copytree(self.data / "cache", to / "cache", dirs_exist_ok=True)
        return to

    def content(self, step: str, data: Path) -> object:
        """What must be the same after any fault: hashes of arrays and weights, rows of tables, names."""
        import duckdb

        from medsae.store.artifacts import Store
        from medsae.store.ledger import Ledger

        if step == "name":
            names = Ledger(Store(data), self.ids["score"]).names()
            rows = (repr((r["neuron"], r["concept"], r["status"], r["accuracy"])) for r in names.to_dict("records"))
            return sorted(rows)
        artifact = Store(data).get(self.ids[step], KIND[step])
        artifact.verify()
        found: list[object] = [
            e["sha256"] for n, e in sorted(artifact.manifest["files"].items()) if n.endswith(("npy", "safetensors"))
        ]
        with artifact.connect() as connection:
            for (table,) in sorted(connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()):
                found.append(
                    (table, connection.execute(f"SELECT count(*), sum(hash(t)::HUGEINT) FROM {table} t").fetchall())
                )
        assert isinstance(connection, duckdb.DuckDBPyConnection)
        return found


def make(folder: Path, patients: int = 70) -> Study:
    """A generated CheXpert of some shards, through all five steps."""
    from conftest import write_chexpert

    root, data = write_chexpert(folder / "source", patients), folder / "data"
    ids: dict[str, str] = {}
    words: dict[str, list[str]] = {}
    seconds: dict[str, float] = {}

    def step(name: str, *arguments: str) -> None:
        words[name] = [name, *arguments]
        began = time.monotonic()
        ended = command(words[name], data)
        assert ended.status == 0, (name, ended)
        seconds[name] = time.monotonic() - began
        ids[name] = ended.out.strip().splitlines()[-1]

    step("ingest", "chexpert", "--root", str(root), "--per-class", "20", "--workers", "1")
    step("embed", "--cohort", ids["ingest"], "--encoder", "simclip", "--workers", "1", "--device", "cpu",
         "--precision", "fp32")  # fmt: skip
    step("train", "--embeddings", ids["embed"], "--k", "4", "--expansion", "2", "--epochs", "40", "--device", "cpu")
    step("score", "--sae", ids["train"], "--images", "all", "--draws", "20", "--bootstraps", "20", "--device", "cpu")
    step("name", "--scores", ids["score"], "--top", "6", "--pictures", "3")
    return Study(data, words, ids, seconds)


@contextmanager
def temporary(prefix: str) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f"medsae-{prefix}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
