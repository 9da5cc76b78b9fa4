"""Reading artifacts for people who look: one in-memory DuckDB that attaches the artifacts it is asked about.

What an artifact answered once it answers always, so the newest answers are kept, and what was computed from them:
many readers ask the same. A page that wants one row as words and numbers asks for `rows`: making a data frame of it
costs as long as the query.
One connection a process, one cursor a query; the artifacts' files are only ever opened read-only. A published
artifact never changes, so an attached file may stay open; should somebody delete an artifact and make it again, the
new one has another creation time and gets another alias (an open handle would go on giving the old data).
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import duckdb
import numpy as np
import pandas as pd

from medsae.progress import UserError
from medsae.store.artifacts import TABLES, Artifact
from medsae.store.connections import in_memory

if TYPE_CHECKING:
    # pandas' own annotations give a column the type of everything that a column could be; that checks nothing.
    Frame: TypeAlias = Any
else:
    Frame = pd.DataFrame

MEMORY_MIB = 256
"""What DuckDB may hold; larger intermediate results go to disk."""
KEPT_BYTES, KEPT_EACH_BYTES = 32 * 2**20, 2**20
"""What answers may take together, and the largest that is kept."""
WHOLE_KEPT = 8
"""How many things are kept that hold something of every image or neuron of an artifact (`Reader.once`)."""
_CELL_BYTES = 64
"""What a Python object in a column or a row is counted as, besides the bytes of a text or picture."""

Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]
T = TypeVar("T")
_OURS = (duckdb.ParserException, duckdb.BinderException, duckdb.ConversionException, duckdb.InvalidInputException)


class Reader:
    """Attaches artifacts on first use and answers queries as data frames."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection, self._aliases = _connect(), dict[str, str]()
        self._kept: OrderedDict[tuple[str, ...], tuple[Any, int]] = OrderedDict()
        self._kept_bytes = 0
        self._whole: OrderedDict[tuple[str, ...], Any] = OrderedDict()

    def alias(self, artifact: Artifact) -> str:
        """The quoted database name under which the artifact's tables are attached; UserError when they cannot be."""
        key = f"{artifact.id}@{artifact.manifest['created']}"
        with self._lock:
            if key in self._aliases:
                return self._aliases[key]
        path = str(artifact.file(TABLES)).replace("'", "''")  # fetched, perhaps: nobody else waits for it
        with self._lock:
            if key in self._aliases:
                return self._aliases[key]
            name = '"' + re.sub(r"[^\w@.-]", "_", key) + '"'
            try:
                for old in [k for k in self._aliases if k.startswith(f"{artifact.id}@")]:
                    self._connection.execute(f"DETACH {self._aliases.pop(old)}")
                self._connection.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
            except duckdb.Error as error:
                raise self._told(artifact, error) from error
            self._aliases[key] = name
            return name

    def query(self, sql: str, parameters: Parameters = (), **artifacts: Artifact) -> Frame:
        """The result of `sql`, in which {role} stands for the database of the artifact given as role=artifact.

        The frame is the caller's own (pandas copies on write). Raises UserError when an artifact's file cannot be read.
        """
        text = self._text(sql, artifacts)
        make = lambda: self._answer(text, parameters, artifacts, _frame)  # noqa: E731
        return self._kept_or(("frame", text, repr(parameters)), make, _bytes_of_frame).copy(deep=False)

    def rows(self, sql: str, parameters: Parameters = (), **artifacts: Artifact) -> list[dict[str, Any]]:
        """The same as a list of rows, column -> value, None for NULL: for answers of some rows. The rows are the
        caller's own."""
        text = self._text(sql, artifacts)
        make = lambda: self._answer(text, parameters, artifacts, _rows)  # noqa: E731
        return [dict(row) for row in self._kept_or(("rows", text, repr(parameters)), make, _bytes_of_rows)]

    def once(self, what: str, make: Callable[[], T], *artifacts: Artifact) -> T:
        """What `make` computes from artifacts and nothing else, computed once and kept while it is among the newest
        WHOLE_KEPT, however large; shared by all readers, so never changed. `what`: names the computation."""
        key = (what, *[self.alias(artifact) for artifact in artifacts])
        with self._lock:
            if key in self._whole:
                self._whole.move_to_end(key)
                return self._whole[key]
        made = make()
        with self._lock:
            self._whole[key] = made
            while len(self._whole) > WHOLE_KEPT:
                self._whole.popitem(last=False)
        return made

    def _text(self, sql: str, artifacts: dict[str, Artifact]) -> str:
        return sql.format(**{role: self.alias(artifact) for role, artifact in artifacts.items()})

    def _kept_or(self, key: tuple[str, ...], make: Callable[[], T], size_of: Callable[[T], int]) -> T:
        """The kept answer, else a new one, which is kept where it is small."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        made = make()
        size = size_of(made) + 500
        if size > KEPT_EACH_BYTES:
            return made
        with self._lock:
            if key not in self._kept:
                self._kept[key] = (made, size)
                self._kept_bytes += size
            while self._kept_bytes > KEPT_BYTES:
                self._kept_bytes -= self._kept.popitem(last=False)[1][1]
        return made

    def _answer(
        self,
        text: str,
        parameters: Parameters,
        artifacts: dict[str, Artifact],
        read: Callable[[duckdb.DuckDBPyConnection], T],
    ) -> T:
        try:
            cursor = self._connection.cursor()
            try:
                return read(cursor.execute(text, parameters or None))
            finally:
                cursor.close()
        except duckdb.Error as error:
            troubles = [(a, a.trouble(error)) for a in artifacts.values()]
            # Of several artifacts the one whose bytes are not what was written.
            artifact, trouble = next((t for t in troubles if "is damaged" in t[1].what), troubles[0])
            with self._lock:
                self._told(artifact, error)
            if isinstance(error, _OURS) and "is damaged" not in trouble.what:
                raise  # the question is wrong, not the file
            raise trouble from error

    def _told(self, artifact: Artifact, error: duckdb.Error) -> UserError:
        """What is wrong with an artifact. After an error inside DuckDB itself its whole instance answers nothing any
        more: a fresh one takes its place, so that the other artifacts go on answering."""
        if isinstance(error, duckdb.FatalException | duckdb.InternalException) or "invalidated" in str(error):
            with contextlib.suppress(duckdb.Error):
                self._connection.close()
            self._connection, self._aliases = _connect(), {}
        return artifact.trouble(error)

    def close(self) -> None:
        """Let go of every file."""
        self._connection.close()


def _connect() -> duckdb.DuckDBPyConnection:
    return in_memory(memory_limit=f"{MEMORY_MIB}MiB", threads=2, preserve_insertion_order=True)


def _frame(result: duckdb.DuckDBPyConnection) -> Frame:
    return result.df()


def _rows(result: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _bytes_of_frame(frame: Frame) -> int:
    """What a frame takes, near enough. pandas' own count of it costs longer than many a query."""
    return int(frame.index.nbytes) + sum(_bytes_of_column(column.array) for _, column in frame.items())


def _bytes_of_column(array: Any) -> int:
    held = int(array.nbytes)
    values = array.to_numpy() if pd.api.types.is_object_dtype(array.dtype) else None
    return held if values is None else held + sum(map(_bytes_of_cell, values))


def _bytes_of_rows(rows: list[dict[str, Any]]) -> int:
    return sum(_bytes_of_cell(value) for row in rows for value in row.values()) + 200 * len(rows)


def _bytes_of_cell(value: Any) -> int:
    if isinstance(value, str | bytes | bytearray):
        return _CELL_BYTES + len(value)
    if isinstance(value, np.ndarray):
        return _CELL_BYTES + int(value.nbytes)
    return _CELL_BYTES + sum(map(_bytes_of_cell, value)) if isinstance(value, list | tuple) else _CELL_BYTES
