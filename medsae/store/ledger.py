"""The ledger of names: one JSON line a result, appended and fsynced, files of its own for each job (docs/protocol.md).

Files are `data/artifacts/names/<scores id>/<job>.jsonl` and, for the many verdicts, `<job>.verdicts.jsonl` beside it: a
list of names is read without reading half a million verdicts (docs/decisions/067). Nothing is overwritten; a newer
result for the same question supersedes an older one when it is read. A damaged line costs that line. Any number of jobs
write at once, each into files of its own, and readers need no lock.

Kinds of lines: `run` (what was asked of whom), `explanation`, `control` (another neuron's or a random description),
`verdict` (one picture), `name` (the result for a neuron).
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from medsae.progress import UserError
from medsae.store.artifacts import Store
from medsae.store.places import Places

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    # every line
    "kind": "VARCHAR", "run": "VARCHAR", "job": "VARCHAR", "time": "DOUBLE", "neuron": "INTEGER", "take": "INTEGER",
    # run
    "scores": "VARCHAR", "protocol": "VARCHAR", "backend": "VARCHAR", "model": "VARCHAR", "prompts": "VARCHAR",
    "pictures": "INTEGER", "hard": "DOUBLE", "controls": "BOOLEAN", "seed": "INTEGER", "overlap": "VARCHAR",
    # explanation, control, name
    "concept": "VARCHAR", "description": "VARCHAR", "status": "VARCHAR", "note": "VARCHAR", "raw": "VARCHAR",
    "naming": "INTEGER[]", "top": "INTEGER", "other": "INTEGER", "group_key": "VARCHAR", "firing": "INTEGER",
    # verdict (about: name, shuffled or random)
    "about": "VARCHAR", "image": "INTEGER", "fires": "BOOLEAN", "value": "DOUBLE", "quantile": "INTEGER",
    "hard_one": "BOOLEAN", "yes": "BOOLEAN", "mass": "DOUBLE", "key": "VARCHAR",
    # verdict: probability of yes; name: p-value of the detection
    "p": "DOUBLE",
    # name
    "asked": "INTEGER", "judged": "INTEGER", "correct": "INTEGER", "accuracy": "DOUBLE", "low": "DOUBLE",
    "high": "DOUBLE", "sensitivity": "DOUBLE", "specificity": "DOUBLE", "auroc": "DOUBLE", "retry": "INTEGER",
    "shuffled_accuracy": "DOUBLE", "shuffled_low": "DOUBLE", "shuffled_high": "DOUBLE", "shuffled_auroc": "DOUBLE",
    "shuffled_judged": "INTEGER", "shuffled_concept": "VARCHAR", "shuffled_other": "INTEGER",
    "random_accuracy": "DOUBLE", "random_low": "DOUBLE", "random_high": "DOUBLE", "random_auroc": "DOUBLE",
    "random_judged": "INTEGER", "random_concept": "VARCHAR", "seconds": "DOUBLE", "calls": "INTEGER",
}  # fmt: skip
"""Column -> DuckDB type; a line holds those that belong to its kind."""

RUN = ("scores", "protocol", "backend", "model", "prompts", "pictures", "hard", "controls", "seed", "overlap")
VERDICT = ("kind", "run", "job", "time", "neuron", "take", "about", "image", "fires", "value", "quantile", "hard_one",
           "yes", "p", "mass", "status", "raw", "key")  # fmt: skip
"""Columns of a verdict."""
_VERDICTS = ".verdicts.jsonl"

NAMES = """
WITH line AS (
    SELECT * FROM {lines} WHERE kind = 'name' AND neuron IS NOT NULL AND status IS NOT NULL
), newest AS (
    SELECT * FROM line QUALIFY row_number() OVER (PARTITION BY run, neuron ORDER BY time DESC, take DESC) = 1
), ranked AS (
    SELECT *,
        count(p) OVER (PARTITION BY run) AS tests,
        row_number() OVER (PARTITION BY run ORDER BY p NULLS LAST) AS rank
    FROM newest
), about_run AS (
    SELECT run, any_value(overlap ORDER BY time DESC) AS run_overlap, {run}
    FROM {lines} WHERE kind = 'run' GROUP BY run
)
SELECT ranked.* EXCLUDE (rank, kind, raw, {skip}), about_run.* EXCLUDE (run),
    CASE WHEN p IS NOT NULL THEN least(1.0, min(p * tests / rank) OVER (
        PARTITION BY ranked.run ORDER BY p DESC NULLS FIRST, rank DESC ROWS UNBOUNDED PRECEDING
    )) END AS q
FROM ranked LEFT JOIN about_run USING (run)
ORDER BY accuracy DESC NULLS LAST, neuron
"""


class Ledger:
    """The names of one scores artifact."""

    def __init__(self, store: Store, scores: str):
        self.folder = store.artifacts / "names" / scores
        self._judged, self._told = Places(lambda: self._files(True)), Places(lambda: self._files(False))

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

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """The result of `sql`: {verdicts} stands for the verdicts as a table of VERDICT, {lines} for all other lines as
        a table of COLUMNS; damaged lines are left out."""
        with duckdb.connect(":memory:") as connection:
            return connection.execute(self._sql(sql), parameters or None).df()

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The same as tuples, NULL as None: for those who need no pandas, a fifth of a second to load."""
        if not self.stamp()[1]:
            return []
        with duckdb.connect(":memory:") as connection:
            return connection.execute(self._sql(sql), parameters or None).fetchall()

    def _sql(self, sql: str) -> str:
        for word, verdicts in (("{lines}", False), ("{verdicts}", True)):
            if word in sql:
                sql = sql.replace(word, f"({self._lines(verdicts)})")
        return sql

    def names(self) -> pd.DataFrame:
        """The newest result of every neuron in every run, best accuracy first, with what the run asked.

        Beside the name's columns: `q`, Benjamini-Hochberg over the tested neurons of the run, and `tests`, their
        number. Neurons that could not be named are rows too, with status and note.
        """
        run = ", ".join(f"any_value({name} ORDER BY time DESC) AS {name}" for name in RUN)
        sql = NAMES.replace("{run}", run).replace("{skip}", ", ".join(RUN))
        return self.query(sql)

    def verdicts(self, run: str, neuron: int) -> pd.DataFrame:
        """Every picture judged for a neuron in a run: about, image, fires, value, quantile, hard_one, yes, p, mass,
        status, raw, take. Of two verdicts on one question the newest."""
        import pandas as pd

        newest: dict[tuple[str, int], dict[str, Any]] = {}
        for row in self._judged.lines(run, neuron):
            if row.get("kind") == "verdict" and row.get("about") and isinstance(row.get("image"), int):
                key = (row["about"], row["image"])
                if key not in newest or row.get("time", 0) >= newest[key].get("time", 0):
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
        newest = max(rows, key=lambda row: row.get("time", 0))
        return {name: newest.get(name) for name in ("concept", "description", "status", "note", "raw", "naming", "top")}

    def _lines(self, verdicts: bool) -> str:
        columns = {name: COLUMNS[name] for name in VERDICT} if verdicts else COLUMNS
        files = self._files(verdicts)
        if not files:
            return "SELECT " + ", ".join(f"NULL::{kind} AS {name}" for name, kind in columns.items()) + " WHERE false"
        listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
        types = ", ".join(f"{name}: '{kind}'" for name, kind in columns.items())
        return (
            f"SELECT * FROM read_json([{listed}], format='newline_delimited', ignore_errors=true, columns={{{types}}})"
            " WHERE kind IS NOT NULL"
        )


class Writer:
    """Appends lines to two files of its own; what `append` returned from survives a kill and a power cut."""

    def __init__(self, folder: Path):
        self.job = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        self.path, self.verdicts = folder / f"{self.job}.jsonl", folder / f"{self.job}{_VERDICTS}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND
            self.handles = {path: os.open(path, flags, 0o644) for path in (self.verdicts, self.path)}
        except OSError as error:
            do = "choose another --data DIR"
            raise UserError(f"the ledger cannot be written: {error.strerror}", folder, do) from error

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write rows as lines, fsynced, verdicts first; job and time are added, what is None is left out."""
        now = round(time.time(), 3)
        lines: dict[Path, list[str]] = {self.verdicts: [], self.path: []}
        for row in rows:
            assert row.keys() <= COLUMNS.keys(), row.keys() - COLUMNS.keys()
            full = {k: _plain(v) for k, v in row.items() if v is not None} | {"time": now, "job": self.job}
            path = self.verdicts if row["kind"] == "verdict" else self.path
            lines[path].append(json.dumps(full, separators=(",", ":"), allow_nan=False))
        for path, found in lines.items():
            if found:
                self._write(path, ("\n".join(found) + "\n").encode("utf-8", "replace"))

    def _write(self, path: Path, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self.handles[path], data) :]
            os.fsync(self.handles[path])
        except OSError as error:
            what = f"the ledger cannot be written: {error.strerror}"
            raise UserError(what, path, "free disk space, then run the same command: answers are kept") from error

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; an empty one is removed."""
        for path, handle in self.handles.items():
            os.close(handle)
            if path.exists() and path.stat().st_size == 0:
                path.unlink()


def _plain(value: Any) -> Any:
    """A float as it is stored: six significant digits, and NaN or infinite not at all."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) < float("inf") else None
    return value
