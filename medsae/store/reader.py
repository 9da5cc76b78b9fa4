"""Reading artifacts for people who look: one in-memory DuckDB that attaches the artifacts it is asked about.

What an artifact answered once it answers always, so the newest answers are kept: many readers ask the same.
One connection a process, one cursor a query; the artifacts' files are only ever opened read-only. A published
artifact never changes, so an attached file may stay open; should somebody delete an artifact and make it again, the
new one has another creation time and gets another alias (an open handle would go on giving the old data).
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import duckdb
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

_OURS = (duckdb.ParserException, duckdb.BinderException, duckdb.ConversionException, duckdb.InvalidInputException)


class Reader:
    """Attaches artifacts on first use and answers queries as data frames."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection, self._aliases = _connect(), dict[str, str]()
        self._kept: OrderedDict[tuple[str, str], tuple[Frame, int]] = OrderedDict()
        self._kept_bytes = 0

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

    def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), **artifacts: Artifact) -> Frame:
        """The result of `sql`, in which {role} stands for the database of the artifact given as role=artifact.

        The frame is the caller's own (pandas copies on write). Raises UserError when an artifact's file cannot be read.
        """
        text = sql.format(**{role: self.alias(artifact) for role, artifact in artifacts.items()})
        key = (text, repr(parameters))
        kept = self._remembered(key)
        return kept if kept is not None else self._remember(key, self._answer(text, parameters, artifacts))

    def _remembered(self, key: tuple[str, str]) -> Frame | None:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0].copy(deep=False)

    def _remember(self, key: tuple[str, str], frame: Frame) -> Frame:
        size = int(frame.memory_usage(index=True, deep=True).sum()) + 500
        if size > KEPT_EACH_BYTES:
            return frame
        with self._lock:
            if key not in self._kept:
                self._kept[key] = (frame, size)
                self._kept_bytes += size
            while self._kept_bytes > KEPT_BYTES:
                self._kept_bytes -= self._kept.popitem(last=False)[1][1]
        return frame.copy(deep=False)

    def _answer(
        self, text: str, parameters: Sequence[Any] | Mapping[str, Any], artifacts: dict[str, Artifact]
    ) -> Frame:
        try:
            cursor = self._connection.cursor()
            try:
                return cursor.execute(text, parameters or None).df()
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
