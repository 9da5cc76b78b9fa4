"""The ledger of names: one JSON line a result, appended and fsynced, files of its own for each job (docs/protocol.md).

Files are `data/artifacts/names/<scores id>/<job>.jsonl` and, for the many verdicts, `<job>.verdicts.jsonl` beside it: a
list of names is read without reading half a million verdicts (docs/decisions/067). Nothing is overwritten; a newer
result for the same question supersedes an older one when it is read. Every line carries a seal (`medsae.seals`): one
that is not what was written is left out and named, and costs that line alone. The last line of a job's file says how
many lines it wrote (decision 122). Any number of jobs write at once, each into files of its own, and readers need no
lock.

What is newer is told by `counter`, which every append of any job raises by one, not by the clock, which may go back
(docs/decisions/095). Lines written before there was one have none: they are older than all that have, by their time.

Kinds of lines: `run` (what was asked of whom), `explanation`, `control` (another neuron's or a random description),
`verdict` (one picture), `name` (the result for a neuron), `audit` (how well the judge tells one label), `truth` (what a
neuron of a simulated cohort follows, and whether its name says it), `end` (of the job's files, with the numbers of
their lines).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsae import files, seals
from medsae.progress import UserError
from medsae.store.artifacts import Store
from medsae.store.connections import passing
from medsae.store.places import Places
from medsae.store.tally import Tallies, Tally

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    # every line
    "kind": "VARCHAR", "run": "VARCHAR", "job": "VARCHAR", "time": "DOUBLE", "neuron": "INTEGER", "take": "INTEGER",
    "counter": "BIGINT",
    # run
    "scores": "VARCHAR", "protocol": "VARCHAR", "backend": "VARCHAR", "model": "VARCHAR", "prompts": "VARCHAR",
    "pictures": "INTEGER", "hard": "DOUBLE", "controls": "BOOLEAN", "seed": "INTEGER", "overlap": "VARCHAR",
    "test": "VARCHAR", "against": "VARCHAR",
    # explanation, control, name
    "concept": "VARCHAR", "description": "VARCHAR", "status": "VARCHAR", "note": "VARCHAR", "raw": "VARCHAR",
    "naming": "INTEGER[]", "top": "INTEGER", "other": "INTEGER", "group_key": "VARCHAR", "firing": "INTEGER",
    # verdict (about: name, shuffled, random, or audit with its label)
    "label": "VARCHAR", "about": "VARCHAR", "image": "INTEGER", "fires": "BOOLEAN", "value": "DOUBLE",
    "quantile": "INTEGER",
    "hard_one": "BOOLEAN", "shown": "INTEGER[]", "yes": "BOOLEAN", "mass": "DOUBLE", "key": "VARCHAR",
    # truth
    "fact": "VARCHAR", "follows": "DOUBLE", "match": "VARCHAR",
    # verdict: probability of yes; name: p-value of the detection
    "p": "DOUBLE",
    # name
    "chance": "DOUBLE", "asked": "INTEGER", "judged": "INTEGER", "correct": "INTEGER", "accuracy": "DOUBLE",
    "low": "DOUBLE",
    "high": "DOUBLE", "sensitivity": "DOUBLE", "specificity": "DOUBLE", "auroc": "DOUBLE", "retry": "INTEGER",
    "shuffled_accuracy": "DOUBLE", "shuffled_low": "DOUBLE", "shuffled_high": "DOUBLE", "shuffled_auroc": "DOUBLE",
    "shuffled_judged": "INTEGER", "shuffled_concept": "VARCHAR", "shuffled_other": "INTEGER",
    "random_accuracy": "DOUBLE", "random_low": "DOUBLE", "random_high": "DOUBLE", "random_auroc": "DOUBLE",
    "shuffled_more": "INTEGER", "shuffled_less": "INTEGER", "shuffled_p": "DOUBLE",
    "random_more": "INTEGER", "random_less": "INTEGER", "random_p": "DOUBLE", "specific_p": "DOUBLE",
    "random_judged": "INTEGER", "random_concept": "VARCHAR", "seconds": "DOUBLE", "calls": "INTEGER",
    # end: lines of the job's file before this one, and of its file of verdicts
    "told_lines": "INTEGER", "verdict_lines": "INTEGER",
}  # fmt: skip
"""Column -> DuckDB type; a line holds those that belong to its kind."""

RUN = ("scores", "protocol", "backend", "model", "prompts", "pictures", "hard", "controls", "seed", "overlap",
       "test", "against")  # fmt: skip
_TRUTH = ("concept", "fact", "follows", "match")
_AUDIT = ("label", "asked", "judged", "accuracy", "auroc", "low", "high")
_ALWAYS = ("kind", "run", "neuron", "time", "counter", "take")
_ENDS = ("told_lines", "verdict_lines")
NEWEST = "counter DESC NULLS LAST, time DESC NULLS LAST, take DESC NULLS LAST"
"""SQL: what is newer comes first."""
OLDEST = "counter ASC NULLS FIRST, time ASC NULLS FIRST, take ASC NULLS FIRST"
VERDICT = ("kind", "run", "job", "time", "counter", "neuron", "take", "about", "image", "fires", "value", "quantile",
           "hard_one", "label", "shown", "yes", "p", "mass", "status", "raw", "key")  # fmt: skip
"""Columns of a verdict."""
_VERDICTS = ".verdicts.jsonl"

NAMES = """
WITH every AS MATERIALIZED (  -- the files are read and taken apart once
    SELECT * FROM {lines}
), line AS (
    SELECT * FROM every WHERE kind = 'name' AND neuron IS NOT NULL AND status IS NOT NULL
), newest AS (
    SELECT * FROM line QUALIFY row_number() OVER (PARTITION BY run, neuron ORDER BY {newest}) = 1
), ranked AS (
    SELECT *,
        count(p) OVER (PARTITION BY run) AS tests,
        row_number() OVER (PARTITION BY run ORDER BY p NULLS LAST) AS rank,
        count(specific_p) OVER (PARTITION BY run) AS specific_tests,
        row_number() OVER (PARTITION BY run ORDER BY specific_p NULLS LAST) AS specific_rank
    FROM newest
), about_run AS (
    SELECT run, any_value(overlap ORDER BY {newest}) AS run_overlap, {run}
    FROM every WHERE kind = 'run' GROUP BY run
)
SELECT ranked.* EXCLUDE (rank, specific_rank, kind, raw, {skip}), about_run.* EXCLUDE (run),
    CASE WHEN p IS NOT NULL THEN least(1.0, min(p * tests / rank) OVER (
        PARTITION BY ranked.run ORDER BY p DESC NULLS FIRST, rank DESC ROWS UNBOUNDED PRECEDING
    )) END AS q,
    CASE WHEN specific_p IS NOT NULL THEN least(1.0, min(specific_p * specific_tests / specific_rank) OVER (
        PARTITION BY ranked.run ORDER BY specific_p DESC NULLS FIRST, specific_rank DESC ROWS UNBOUNDED PRECEDING
    )) END AS specific_q
FROM ranked LEFT JOIN about_run USING (run)
ORDER BY accuracy DESC NULLS LAST, neuron
"""


class Ledger:
    """The names of one scores artifact."""

    def __init__(self, store: Store, scores: str):
        self.folder = store.artifacts / "names" / scores
        self._judged, self._told = Places(lambda: self._files(True)), Places(lambda: self._files(False))
        self._tallies = Tallies()

    def files(self) -> list[Path]:
        """The files of all jobs, oldest first."""
        return sorted(self.folder.glob("*.jsonl")) if self.folder.is_dir() else []

    def _files(self, verdicts: bool) -> list[Path]:
        return [path for path in self.files() if path.name.endswith(_VERDICTS) == verdicts]

    def stamp(self) -> tuple[int, int]:
        """Changes whenever a line was added: (files, bytes); cheap enough to ask every second."""
        sizes = [path.stat().st_size for path in self.files()]
        return len(sizes), sum(sizes)

    def writer(self) -> Writer:
        """A new file for this job."""
        return Writer(self.folder)

    def follow(self) -> Follower:
        """What other jobs write from now on."""
        return Follower(self.files)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """The result of `sql`: {verdicts} stands for the verdicts as a table of VERDICT, {lines} for all other lines as
        a table of COLUMNS; damaged lines are left out."""
        with passing() as connection:
            return connection.execute(self._sql(sql), parameters or None).df()

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The same as tuples, NULL as None: for those who need no pandas, a fifth of a second to load."""
        if not self.stamp()[1]:
            return []
        with passing() as connection:
            return connection.execute(self._sql(sql), parameters or None).fetchall()

    def dicts(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """The same as dicts, column -> value."""
        if not self.stamp()[1]:
            return
        with passing() as connection:
            found = connection.execute(self._sql(sql), parameters or None)
            names = [column[0] for column in found.description]
            while rows := found.fetchmany(65_536):
                for row in rows:
                    yield dict(zip(names, row, strict=True))

    def _sql(self, sql: str) -> str:
        for word, verdicts in (("{lines}", False), ("{verdicts}", True)):
            if word in sql:
                sql = sql.replace(word, f"({self._lines(verdicts)})")
        return sql

    def names(self) -> pd.DataFrame:
        """The newest result of every neuron in every run, best accuracy first, with what the run asked.

        Beside the name's columns: `q`, Benjamini-Hochberg over the tested neurons of the run, and `tests`, their
        number; `specific_q`, the same of the paired tests against the control names, and `specific_tests` (NULL in
        ledgers from before these tests). Neurons that could not be named are rows too, with status and note.
        """
        run = ", ".join(f"any_value({name} ORDER BY {NEWEST}) AS {name}" for name in RUN)
        sql = NAMES.replace("{run}", run).replace("{skip}", ", ".join(RUN + _ENDS)).replace("{newest}", NEWEST)
        return self.query(sql)

    def audits(self) -> pd.DataFrame:
        """How well each judge tells each label of the cohort: backend, model, label, asked, judged, accuracy, auroc,
        low, high (95 % interval of the AUROC); the newest of each, best told first. Empty where no audit was made."""
        return self.query(
            "WITH asked AS (SELECT run, any_value(backend) AS backend, any_value(model) AS model "
            f"FROM ({self._lines(False, 'run', ('backend', 'model'))}) GROUP BY run) "
            "SELECT asked.backend, asked.model, label, line.asked, judged, accuracy, auroc, low, high "
            f"FROM ({self._lines(False, 'audit', _AUDIT)}) AS line JOIN asked USING (run) "
            f"QUALIFY row_number() OVER (PARTITION BY asked.backend, asked.model, label ORDER BY {NEWEST}) = 1 "
            "ORDER BY auroc DESC NULLS LAST, label"
        )

    def truths(self) -> pd.DataFrame:
        """run, neuron, concept, fact (the planted fact that the neuron follows best), follows (their correlation) and
        match (`naming.planted.Match`, or NULL): the newest of each; empty but for simulated cohorts."""
        return self.query(
            f"SELECT run, neuron, {', '.join(_TRUTH)} FROM ({self._lines(False, 'truth', _TRUTH)}) "
            "WHERE neuron IS NOT NULL "
            f"QUALIFY row_number() OVER (PARTITION BY run, neuron ORDER BY {NEWEST}) = 1 ORDER BY run, neuron"
        )

    def verdicts(self, run: str, neuron: int) -> pd.DataFrame:
        """Every picture judged for a neuron in a run: about, image, fires, value, quantile, hard_one, yes, p, mass,
        status, raw, take. Of two verdicts on one question the newest."""
        import pandas as pd

        newest: dict[tuple[str, int], dict[str, Any]] = {}
        for row in self._judged.lines(run, neuron):
            if row.get("kind") == "verdict" and row.get("about") and isinstance(row.get("image"), int):
                key = (row["about"], row["image"])
                if key not in newest or age(row) >= age(newest[key]):
                    newest[key] = row
        columns = ["about", "image", "fires", "value", "quantile", "hard_one", "yes", "p", "mass", "status", "raw",
                   "take"]  # fmt: skip
        found = pd.DataFrame(list(newest.values()), columns=columns)
        found = found.astype({"value": float, "p": float, "mass": float, "status": object, "raw": object})
        # Ascending "silent" is descending "fires", and what has no value comes last.
        found = found.assign(silent=~found["fires"].astype(bool), weak=-found["value"])
        found = found.sort_values(["about", "silent", "weak", "image"], ignore_index=True)
        return found.drop(columns=["silent", "weak"])

    def explanation(self, run: str, neuron: int) -> dict[str, Any] | None:
        """The newest explanation of a neuron: concept, description, status, note, raw, naming (images), top."""
        rows = [row for row in self._told.lines(run, neuron) if row.get("kind") == "explanation"]
        if not rows:
            return None
        newest = max(rows, key=age)
        return {name: newest.get(name) for name in ("concept", "description", "status", "note", "raw", "naming", "top")}

    def _lines(self, verdicts: bool, kind: str = "", only: Sequence[str] = ()) -> str:
        """SQL of the lines as a table; of one kind and with these columns besides, where they are given: the other
        lines are passed over as text."""
        columns = {name: COLUMNS[name] for name in VERDICT} if verdicts else COLUMNS
        columns = {name: COLUMNS[name] for name in (*_ALWAYS, *only)} if only else columns
        files = self._files(verdicts)
        if not files:
            return "SELECT " + ", ".join(f"NULL::{kind} AS {name}" for name, kind in columns.items()) + " WHERE false"
        listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
        types = ", ".join(f'"{name}":"{kind}"' for name, kind in columns.items())
        return (
            f"SELECT row.* FROM (SELECT json_transform({_WHOLE}, '{{{types}}}') AS row "
            f"FROM read_csv([{listed}], {_AS_TEXT}){_of(kind)}) "
            f"WHERE row.kind IS NOT NULL AND row.kind = coalesce(nullif('{kind}', ''), row.kind)"
        )

    def tally(self) -> Tally:
        """How many lines of all files are sealed, not sealed, and not what was written; only what was added since the
        last call is read."""
        return self._tallies.of(self.files())

    def troubles(self) -> list[UserError]:
        """What is wrong with the files: lines that are not what was written, lines that are gone, and files whose job
        did not end them. Nothing of it keeps the other lines from being read."""
        found = []
        for told, verdicts in _pairs(self.folder):
            parts = [self._tallies.of([path] if path.is_file() else []) for path in (told, verdicts)]
            found += [
                _not_written(path, part) for path, part in zip((told, verdicts), parts, strict=True) if part.damaged
            ]
            if not files.locked(told):
                found += _unended(self._tallies, told, verdicts)
        return found


def _not_written(path: Path, tally: Tally) -> UserError:
    n, first = len(tally.damaged), tally.damaged[0]
    what = f"{n:,} {'line is' if n == 1 else 'lines are'} damaged and left out of the names, first line {first:,}"
    return UserError(what, path, "the same name command asks again for what is missing")


def _unended(tallies: Tallies, told: Path, verdicts: Path) -> list[UserError]:
    """Why a job's files do not end as they should; nothing where they do, or where damage tells it already."""
    names, judged = (tallies.of([path] if path.is_file() else []) for path in (told, verdicts))
    if names.damaged or judged.damaged:
        return []
    if _open_ended(tallies, told, verdicts):
        what = "the job that wrote these names did not end them (killed, or the file was cut)"
        what += f"; {names.lines:,} lines are kept"
        return [UserError(what, told, "the next name command goes on from what is there")]
    ends = ((names, names.end[0] + 1, "names"), (judged, names.end[1], "verdicts")) if names.end else ()
    return [
        UserError(f"{said - part.lines:,} of {said:,} lines of {words} are gone", told,
                  "the same name command asks again for what is missing")
        for part, said, words in ends if part.lines < said
    ]  # fmt: skip


_AS_TEXT = (
    "columns={'line': 'VARCHAR'}, delim='\\x01', quote='', escape='', comment='', header=false, auto_detect=false, "
    "ignore_errors=true, strict_mode=false"
)
"""Lines as they stand: the text that the writer writes is ASCII without control characters."""
_BODY = f"left(line, length(line) - {seals.TAIL})"
_WHOLE = (
    f"CASE WHEN line = {_BODY} || ',\"seal\":\"' || left(md5({_BODY}), 8) || '\"}}' THEN line "
    f"WHEN NOT regexp_matches(right(line, {seals.TAIL}), '{seals.LIKE_A_SEAL}') AND line[1] = '{{' "
    "THEN CASE WHEN json_valid(line) THEN line END END"
)
"""SQL of `seals.opened`: a line that is what was sealed, or from before there were seals; NULL for a damaged one."""


def _of(kind: str) -> str:
    """SQL that passes over lines which cannot be of a kind, before they are checked and taken apart."""
    return f""" WHERE regexp_matches(line, '"kind"\\s*:\\s*"{kind}"')""" if kind else ""


def age(row: dict[str, Any]) -> tuple[float, float, float]:
    """What the newest of some lines is largest by, as `NEWEST` in SQL."""
    found = (row.get("counter"), row.get("time"), row.get("take"))
    first, *rest = (value if isinstance(value, (int, float)) else -1 for value in found)
    return float(first), float(rest[0]), float(rest[1])


class Follower:
    """Lines that are added to a ledger after this was made."""

    def __init__(self, files: Any):
        self._files = files
        self._seen = {path: path.stat().st_size for path in files()}

    def new(self, skip: Sequence[Path] = ()) -> Iterator[dict[str, Any]]:
        """Every whole line added since the last call, those of the files in `skip` left out; a damaged one is too."""
        for path in self._files():
            if path in skip:
                continue
            at, size = self._seen.get(path, 0), path.stat().st_size
            if size <= at:
                continue
            with path.open("rb") as file:
                file.seek(at)
                added = file.read(size - at)
            whole = added[: added.rfind(b"\n") + 1]
            self._seen[path] = at + len(whole)
            for line in whole.splitlines():
                with contextlib.suppress(ValueError):
                    yield seals.opened(line).values


class Counter:
    """The number of the newest append of a ledger, shared by all jobs: a small file under a lock.

    It is a hint that the lines themselves outrank: a job that begins looks at the last line of every file, so a lost or
    damaged counter costs nothing.
    """

    def __init__(self, folder: Path):
        self.path = folder / ".counter"
        self.last = max((_last_counter(path) for path in folder.glob("*.jsonl")), default=0)

    def next(self) -> int:
        """A number larger than every one given before; raises OSError."""
        handle = files.take_lock(self.path, wait=True)
        assert handle is not None
        try:
            self.last = max(_number(os.pread(handle, 32, 0)), self.last) + 1
            os.pwrite(handle, b"%016d\n" % self.last, 0)
            return self.last
        finally:
            os.close(handle)

    def peek(self) -> int:
        """The number as it stands; it has changed when any job has written. 0 when it cannot be read."""
        try:
            return _number(self.path.read_bytes()[:32])
        except OSError:
            return 0


def _number(text: bytes) -> int:
    """The number in a counter's file; 0 for a damaged one."""
    text = text.strip()
    return int(text) if text.isdigit() and int(text) < 10**15 else 0


def _last_counter(path: Path) -> int:
    """The counter of the last readable line of a file, 0 where there is none; counters only grow within a file."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        size = 1 << 16
        while True:
            start = max(0, end - size)
            file.seek(start)
            for line in reversed(file.read(end - start).splitlines()):
                with contextlib.suppress(ValueError):
                    number = seals.opened(line).values.get("counter")
                    if isinstance(number, int) and 0 < number < 10**15:
                        return number
            if start == 0 or size >= 1 << 22:
                return 0
            size *= 8


class Writer:
    """Appends lines to two files of its own; what `append` returned from survives a kill and a power cut."""

    def __init__(self, folder: Path):
        self.job = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        self.path, self.verdicts = folder / f"{self.job}.jsonl", folder / f"{self.job}{_VERDICTS}"
        try:
            files.make_folder(folder)
            self.counter = Counter(folder)
            with _alone(folder):
                _end_the_dead(folder)
                self.handles = {path: _held(path) for path in (self.verdicts, self.path)}
            self.lines = dict.fromkeys(self.handles, 0)
        except OSError as error:
            do = "choose another --data DIR"
            raise UserError(f"the ledger cannot be written: {error.strerror}", folder, do) from error

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write rows as lines, fsynced, verdicts first; job, time and counter are added, what is None is left out."""
        found = list(rows)
        if not found:
            return
        try:
            added = {"time": round(time.time(), 3), "counter": self.counter.next(), "job": self.job}
        except OSError as error:
            raise _unwritable(error, self.counter.path) from error
        lines: dict[Path, list[str]] = {self.verdicts: [], self.path: []}
        for row in found:
            assert row.keys() <= COLUMNS.keys(), row.keys() - COLUMNS.keys()
            full = {k: _plain(v) for k, v in row.items() if v is not None} | added
            path = self.verdicts if row["kind"] == "verdict" else self.path
            lines[path].append(seals.text(full, allow_nan=False))
        for path, texts in lines.items():
            if texts:
                self._write(path, ("\n".join(texts) + "\n").encode())
                self.lines[path] += len(texts)
        with contextlib.suppress(OSError):
            self.counter.next()  # the lines are there now: whoever looks for a change finds them

    def _write(self, path: Path, data: bytes) -> None:
        handle = self.handles[path]
        before = os.fstat(handle).st_size
        try:
            while data:
                data = data[os.write(handle, data) :]
            os.fsync(handle)
        except OSError as error:
            with contextlib.suppress(OSError):  # this job alone writes here: half a line would spoil the next one too
                os.ftruncate(handle, before)
            raise _unwritable(error, path) from error

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the files and close them; an empty one is removed."""
        if any(self.lines.values()):
            with contextlib.suppress(OSError):  # the disk is full: who reads is told that there is no end
                _end(self.handles[self.path], self.job, self.lines[self.path], self.lines[self.verdicts])
        for path, handle in self.handles.items():
            os.close(handle)
            if path.exists() and path.stat().st_size == 0:
                path.unlink()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of several jobs that begin, one after the other: none takes another's new files for those of a dead one."""
    handle = files.take_lock(folder / ".opening", wait=True)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _held(path: Path) -> int:
    """A new file to append to, locked while its job lives: who reads tells a living job from a dead one."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, files.OWN_FILE)
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_EX)  # waits for the instant in which somebody looks whether it is locked
    return handle


def _end(handle: int, job: str, told: int, verdicts: int) -> None:
    """Append the line that ends a job's files; a torn line before it is closed."""
    size = os.fstat(handle).st_size
    torn = b"\n" if size and os.pread(handle, 1, size - 1) != b"\n" else b""
    row = {"kind": "end", "told_lines": told, "verdict_lines": verdicts, "time": round(time.time(), 3), "job": job}
    os.write(handle, torn + seals.text(row).encode() + b"\n")
    os.fsync(handle)


def _end_the_dead(folder: Path) -> None:
    """End the files of jobs that were killed, with what is there: whoever begins a job here asks again for what they
    lack, so from now on they are no trouble."""
    tallies = Tallies()
    for told, verdicts in _pairs(folder):
        if files.locked(told) or not _open_ended(tallies, told, verdicts):
            continue
        handle = os.open(told, os.O_CREAT | os.O_RDWR | os.O_APPEND, files.OWN_FILE)
        try:
            counts = [tallies.of([path]).lines for path in (told, verdicts) if path.is_file()]
            _end(handle, told.name.partition(".")[0], *[*counts, 0][:2])
        finally:
            os.close(handle)


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """The two files of every job, in order; either may be missing."""
    jobs = sorted({path.name.partition(".")[0] for path in folder.glob("*.jsonl")}) if folder.is_dir() else []
    return [(folder / f"{job}.jsonl", folder / f"{job}{_VERDICTS}") for job in jobs]


def _open_ended(tallies: Tallies, told: Path, verdicts: Path) -> bool:
    """Whether the job's files are of the kind that has an end, and lack it."""
    names, judged = (tallies.of([path] if path.is_file() else []) for path in (told, verdicts))
    old = names.unsealed + judged.unsealed and not names.sealed + judged.sealed
    return names.end is None and not old


def _unwritable(error: OSError, path: Path) -> UserError:
    what = f"the ledger cannot be written: {error.strerror}"
    return UserError(what, path, "free disk space, then run the same command: answers are kept")


def _plain(value: Any) -> Any:
    """A float as it is stored: six significant digits, and NaN or infinite not at all."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) < float("inf") else None
    return value
