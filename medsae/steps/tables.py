"""Data frames into the tables of an artifact."""

from __future__ import annotations

import duckdb
import pandas as pd


def insert(connection: duckdb.DuckDBPyConnection, table: str, frame: pd.DataFrame) -> None:
    """Append by column name; NaN is NULL. A column that the schema lacks is a mistake of ours."""
    known = [row[0] for row in connection.execute(f"SELECT name FROM pragma_table_info('{table}')").fetchall()]
    assert set(frame.columns) <= set(known), f"{table}: the schema lacks {sorted(set(frame.columns) - set(known))}"
    columns = ", ".join(
        f'CASE WHEN isnan("{name}") THEN NULL ELSE "{name}" END AS "{name}"'
        if frame[name].dtype.kind == "f"
        else f'"{name}"'
        for name in frame.columns
    )
    if len(frame):
        connection.register("frame", frame)
        connection.execute(f"INSERT INTO {table} BY NAME SELECT {columns} FROM frame")
        connection.unregister("frame")
