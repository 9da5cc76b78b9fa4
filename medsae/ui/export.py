"""Exports: tables as CSV and Parquet, plots for print (PNG, SVG, PDF) and as HTML, a report.

A file is made when its button is clicked, not before. Every export says `Research use only` and names its artifacts.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import streamlit as st

from medsae.paper import printed
from medsae.store import spreadsheet
from medsae.store.reader import Frame
from medsae.ui import look

_TYPES = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}

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


def plots(figures: Mapping[str, Callable[[], go.Figure]], ids: str, key: str, label: str = "save plot") -> None:
    """A menu that saves plots for print at two widths, and as HTML; what each shows -> function that makes it."""
    with st.popover(label, key=f"_save-{key}", type="tertiary"):
        for what, figure in figures.items():
            stem = f"{key}-{_stem(what)}" if len(figures) > 1 else key
            st.markdown(f"**{look.literal(what)}**")
            for words, mm in printed.WIDTHS.items():
                with st.container(horizontal=True, vertical_alignment="center"):
                    st.markdown(f"{words}, {mm} mm")
                    for kind in printed.KINDS:
                        _button(
                            kind.upper(),
                            lambda f=figure, mm=mm, kind=kind: _printed(f(), mm, kind, ids),
                            f"{stem}-{mm}mm.{kind}",
                            _TYPES[kind],
                        )
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown("interactive")
                _button("HTML", lambda f=figure: plot(f(), ids), f"{stem}.html", "text/html")


def _printed(figure: go.Figure, width_mm: float, kind: printed.Format, ids: str) -> bytes:
    return printed.draw(figure, width_mm, kind, f"{look.RESEARCH} · {ids}")


def _stem(name: str) -> str:
    return re.sub(r"\W+", "-", name).strip("-").lower()


def plot(figure: go.Figure, ids: str) -> bytes:
    """A plot as one HTML file that needs no network."""
    text = figure.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})
    return text.replace("</body>", f"<p>{look.RESEARCH} · {ids}</p></body>").encode()


def menu(
    tables: Mapping[str, Callable[[], Frame]],
    ids: str,
    files: Mapping[str, tuple[Callable[[], bytes], str]] | None = None,
    label: str = "Export",
) -> None:
    """A menu of downloads: tables (name -> function that makes it), other files (name -> function, type)."""
    with st.popover(label):
        for name, frame in tables.items():
            stem = _stem(name)
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(name)
                _button("CSV", lambda f=frame: csv(f(), ids), f"{stem}.csv", "text/csv")
                _button("Parquet", lambda f=frame: parquet(f(), ids), f"{stem}.parquet", "application/octet-stream")
        for name, (make, kind) in (files or {}).items():
            _button(name, make, name, kind)


def _button(label: str, data: Callable[[], bytes], file: str, kind: str) -> None:
    st.download_button(label, data, file, kind, key=f"_export-{file}", on_click="ignore")
