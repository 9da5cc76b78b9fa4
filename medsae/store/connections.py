"""Connections to DuckDB, and where they may put what does not fit into memory: never into an artifact, nor into the
folder that a command was started in."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import duckdb


def in_memory(**config: Any) -> duckdb.DuckDBPyConnection:
    """A connection without a file of its own; the caller closes it."""
    return duckdb.connect(":memory:", config={"temp_directory": _spill(secrets.token_hex(4)), **config})


@cache
def _shared(process: int) -> duckdb.DuckDBPyConnection:
    return in_memory()


def passing() -> duckdb.DuckDBPyConnection:
    """A connection for one question that leaves nothing behind; the caller closes it. All of a process share a database
    without a file, which takes 30 ms to make; they may be used at once, each by one thread."""
    return _shared(os.getpid()).cursor()


def read_only(path: Path) -> duckdb.DuckDBPyConnection:
    """A connection to a file that nobody may write to; the caller closes it. Raises duckdb.Error.

    Connections of one process to one file, whatever link leads to it, share a database and must be asked for it in the
    same words.
    """
    own = hashlib.blake2b(os.fsencode(os.path.realpath(path)), digest_size=8).hexdigest()
    return duckdb.connect(str(path), read_only=True, config={"temp_directory": _spill(own)})


def writable(path: Path, spill: Path) -> duckdb.DuckDBPyConnection:
    """A connection to a file that is being made, with a folder for what does not fit into memory."""
    return duckdb.connect(str(path), config={"temp_directory": str(spill)})


def _spill(whose: str) -> str:
    """A folder of one database of this process, which DuckDB makes when it needs it, and removes."""
    return str(Path(tempfile.gettempdir()) / f"medsae-spill-{os.getpid()}-{whose}")
