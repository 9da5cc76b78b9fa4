"""Exports: tables as CSV and Parquet, plots as HTML (the browser makes PNG and SVG: `charts.show`), a report.

A file is made when its button is clicked, not before. Every export says `Research use only` and names its artifacts.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import streamlit as st

from medsae.store import spreadsheet
from medsae.store.reader import Frame
from medsae.ui import look

if TYPE_CHECKING:
    import plotly.graph_objects as go


def csv(frame: Frame, ids: str) -> bytes:
    """CSV whose first line is a comment with the research-use note and the artifacts; no cell is a formula."""
    return f"# {look.RESEARCH} · {ids}\n{spreadsheet.csv(frame)}".encode()


def parquet(frame: Frame, ids: str) -> bytes:
    """Parquet with the note in the file's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), "note": look.RESEARCH, "artifacts": ids})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def plot(figure: go.Figure, ids: str) -> bytes:
    """A plot as one HTML file that needs no network."""
    text = figure.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})
    return text.replace("</body>", f"<p>{look.RESEARCH} · {ids}</p></body>").encode()


def menu(
    tables: Mapping[str, Callable[[], Frame]],
    ids: str,
    plots: Mapping[str, Callable[[], go.Figure]] | None = None,
    files: Mapping[str, tuple[Callable[[], bytes], str]] | None = None,
    label: str = "Export",
) -> None:
    """A menu of downloads: tables and plots (name -> function that makes it), other files (name -> function, type)."""
    with st.popover(label):
        if plots:
            st.caption("PNG and SVG: open the HTML file and use the camera of its toolbar.")
        for name, frame in tables.items():
            stem = re.sub(r"\W+", "-", name).strip("-").lower()
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(name)
                _button("CSV", lambda f=frame: csv(f(), ids), f"{stem}.csv", "text/csv")
                _button("Parquet", lambda f=frame: parquet(f(), ids), f"{stem}.parquet", "application/octet-stream")
        for name, figure in (plots or {}).items():
            stem = re.sub(r"\W+", "-", name).strip("-").lower()
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(name)
                _button("HTML", lambda f=figure: plot(f(), ids), f"{stem}.html", "text/html")
        for name, (make, kind) in (files or {}).items():
            _button(name, make, name, kind)


def _button(label: str, data: Callable[[], bytes], file: str, kind: str) -> None:
    st.download_button(label, data, file, kind, key=f"_export-{file}", on_click="ignore")
