"""The panels of the Correlations page."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

import streamlit as st

from medsae.paper.row_order import row_order
from medsae.store.artifacts import Artifact
from medsae.store.reader import Frame
from medsae.ui import export, format, heat, links
from medsae.ui.study import Study

if TYPE_CHECKING:
    import plotly.graph_objects as go

_NAME = 28
"""Letters of a neuron's name that stand beside its row."""


def heat_map(study: Study, each: Artifact, frame: Frame, labels: list[str], order: str) -> None:
    """Neurons (rows of `queries.heat_map`) by labels; a click on a cell opens the neuron. Labels of too few images
    have their number in brackets."""
    assert study.scores is not None
    neurons = row_order(frame, labels, order)
    limit = max(0.2, float(frame["rho"].abs().max()))
    names = study.shown_names if each is study.scores else {}
    texts = {n: f"{n} {format.shortened(names[n], _NAME)}" if n in names else str(n) for n in neurons}
    other = {} if each is study.scores else {"versus": study.scores.id}
    to = [links.url("neuron", neuron=n, scores=each.id, **other) for n in neurons]
    by = [urlencode({"by": label}) for label in labels]
    known = {(int(r["neuron"]), str(r["label"])): r for r in frame.to_dict("records")}
    grid = frame.pivot(index="neuron", columns="label", values="rho").reindex(index=neurons, columns=labels)

    def words(r: int, c: int) -> str:
        cell = known[neurons[r], labels[c]]
        ends = format.interval(cell["low"], cell["high"], 3)
        rho, n = format.signed(cell["rho"], 3), format.count(cell["n"])
        return f"neuron {neurons[r]} · {labels[c]} · ρ {rho} {ends} · n = {n}"

    rows = [texts[n] for n in neurons]
    heads = [f"{x} ({study.scarce[x]})" if x in study.scarce else x for x in labels]
    cells = heat.table(rows, heads, grid.to_numpy(float), words, lambda r, c: f"{to[r]}&{by[c]}", limit)
    st.html(heat.scale(limit, "ρ") + cells)

    def printed() -> go.Figure:
        from medsae.paper import plots

        return plots.heat_map(frame, labels, neurons, limit, texts)

    export.plots({f"Heat map of {len(neurons)} neurons by {len(labels)} labels": printed}, each.id, f"heat-{each.id}")


def square(study: Study, frame: Frame, labels: list[str]) -> None:
    """Label by label: which share of the images with the row's label also has the column's."""
    assert study.scores is not None
    grid = frame.pivot(index="a", columns="b", values="share").reindex(index=labels, columns=labels).to_numpy(float)

    def words(r: int, c: int) -> str:
        return f"of images with {labels[r]}, {format.percent(grid[r, c])} also have {labels[c]}"

    st.html(heat.scale(1.0, "share", both=False) + heat.table(labels, labels, grid, words))

    def printed() -> go.Figure:
        from medsae.paper import plots

        return plots.square(frame, labels)

    export.plots({"Label by label co-occurrence": printed}, study.scores.id, "cooccurrence")
