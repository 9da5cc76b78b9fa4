"""Reading artifacts for people who look: one in-memory DuckDB that attaches the artifacts it is asked about.

One connection a process, one cursor a query; the artifacts' files are only ever opened read-only. A published
artifact never changes, so an attached file may stay open; should somebody delete an artifact and make it again, the
new one has another creation time and gets another alias (an open handle would go on giving the old data).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import duckdb
import pandas as pd

from medsae.progress import UserError
from medsae.store.artifacts import TABLES, Artifact

if TYPE_CHECKING:
    # pandas' own annotations give a column the type of everything that a column could be; that checks nothing.
    Frame: TypeAlias = Any
else:
    Frame = pd.DataFrame

MEMORY_MIB = 256
"""What DuckDB may hold; larger intermediate results go to disk."""


class Reader:
    """Attaches artifacts on first use and answers queries as data frames."""

    def __init__(self) -> None:
        self._connection = duckdb.connect(
            ":memory:", config={"memory_limit": f"{MEMORY_MIB}MiB", "threads": 2, "preserve_insertion_order": True}
        )
        self._aliases: dict[str, str] = {}
        self._lock = threading.Lock()

    def alias(self, artifact: Artifact) -> str:
        """The quoted database name under which the artifact's tables are attached; UserError when it is damaged."""
        key = f"{artifact.id}@{artifact.manifest['created']}"
        with self._lock:
            if key in self._aliases:
                return self._aliases[key]
            for old in [k for k in self._aliases if k.startswith(f"{artifact.id}@")]:
                self._connection.execute(f"DETACH {self._aliases.pop(old)}")
            name = '"' + re.sub(r"[^\w@.-]", "_", key) + '"'
            path = str(artifact.file(TABLES)).replace("'", "''")
            try:
                self._connection.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
            except duckdb.Error as error:
                raise _damaged(artifact, error) from error
            self._aliases[key] = name
            return name

    def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), **artifacts: Artifact) -> Frame:
        """The result of `sql`, in which {role} stands for the database of the artifact given as role=artifact.

        Raises UserError when an artifact's file cannot be read.
        """
        aliases = {role: self.alias(artifact) for role, artifact in artifacts.items()}
        cursor = self._connection.cursor()
        try:
            return cursor.execute(sql.format(**aliases), parameters or None).df()
        except (duckdb.IOException, duckdb.SerializationException, duckdb.CatalogException) as error:
            raise _damaged(next(iter(artifacts.values())), error) from error
        finally:
            cursor.close()

    def close(self) -> None:
        """Let go of every file."""
        self._connection.close()


def _damaged(artifact: Artifact, error: duckdb.Error) -> UserError:
    return UserError(
        f"artifact {artifact.id} is damaged: {str(error).splitlines()[0]}",
        artifact.path / TABLES,
        "delete the folder and repeat the step",
    )
