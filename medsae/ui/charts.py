"""Charts on a page: figures of `paper.plots` in the reader's theme, what was clicked in them, and what saves them."""

from __future__ import annotations

import math
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from medsae.paper.colours import DARK, LIGHT
from medsae.paper.plots import (
    BitsAxis,
    Histograms,
    activations,
    blank,
    by_label,
    correlations,
    entropies,
    factor_map,
    heat_map,
    lines,
    neuron_map,
    pairs,
    pareto,
    recovery,
    scatter,
    square,
)
from medsae.store import neuron_map as neuron_areas
from medsae.ui import export, links
from medsae.ui import study as studies

__all__ = [
    "BitsAxis",
    "Histograms",
    "activations",
    "blank",
    "brushed",
    "by_label",
    "clicked",
    "correlations",
    "entropies",
    "factor_map",
    "heat_map",
    "lassoed",
    "lines",
    "neuron_map",
    "pairs",
    "pareto",
    "recovery",
    "scatter",
    "show",
    "soft",
    "square",
]


TEXT_PX = 12
"""Size of a chart's text on a screen of usual size; it grows with the text of the page."""


def soft() -> str:
    """The theme's colour of soft text, 4.5:1 on its background: Streamlit's own axes are paler."""
    return "#59626e" if st.context.theme.type == "light" else "#a3acb8"


def show(figure: go.Figure, key: str, alt: str, save: bool = True, roam: bool = False, **more: Any) -> Any:
    """Draw a figure without a logo; below it, unless `save` is off, what saves it for print. `roam`: a map to zoom,
    pan and draw areas in."""
    config = {
        "displaylogo": False,
        "displayModeBar": True if roam else _bar(figure),
        # The camera would save the window's theme and cut what does not fit: `export.plots` draws for print.
        "modeBarButtonsToRemove": ["toImage", "autoScale2d", *([] if roam else ["lasso2d"])],
        "scrollZoom": roam,
    }
    printed = figure.to_dict() if save else {}  # a figure of it is made when somebody saves it
    scale = links.scale()
    text = dict(color=soft(), size=round(TEXT_PX * scale))
    figure.update_layout(height=round(figure.layout.height * scale))  # type: ignore[attr-defined]
    figure.update_layout(legend_font_size=text["size"], hoverlabel_font_size=text["size"])
    for axis in (figure.layout.xaxis, figure.layout.yaxis):  # type: ignore[attr-defined]
        axis.update(tickfont=text, title_font=text)
    figure.update_traces(textfont_size=round(11 * scale), selector=dict(mode="markers+text"))
    if st.context.theme.type != "light":
        dark = [[at, colour] for at, colour in DARK]
        figure.for_each_trace(
            lambda trace: trace.update(colorscale=dark),
            lambda trace: trace.type == "heatmap" and [c for _, c in trace.colorscale or ()] == [c for _, c in LIGHT],
        )
    event = st.plotly_chart(figure, key=key, alt=alt, config=config, width="stretch", **more)
    if save:
        study = studies.current()
        export.plots(
            {alt: lambda: go.Figure(printed)}, " · ".join(a.id for a in (study.scores, study.versus) if a), key
        )
    return event


def _bar(figure: go.Figure) -> str | bool:
    """Whether plotly's buttons appear: where nothing is dragged there is nothing to zoom, and without a mouse they
    would lie over the legend for ever."""
    return False if figure.layout.dragmode is False else "hover"  # type: ignore[attr-defined]


def clicked(event: Any) -> list[Any] | None:
    """customdata of the point that was clicked in a chart drawn with on_select, or None."""
    points = event.get("selection", {}).get("points", []) if event else []
    data = points[0].get("customdata") if points else None
    return list(data.values()) if isinstance(data, dict) else data if data is None or isinstance(data, list) else [data]


def lassoed(event: Any) -> str | None:
    """The area (as `neuron_map.written`) that was drawn in a map, or None."""
    selection = event.get("selection", {}) if event else {}
    for kind, write in (("lasso", neuron_areas.written), ("box", neuron_areas.box)):
        drawn = selection.get(kind) or []
        if drawn and len(drawn[-1].get("x") or ()) >= 2:
            return write(drawn[-1]["x"], drawn[-1]["y"])
    return None


def brushed(event: Any) -> tuple[float, float] | None:
    """The x range of the box that was drawn in a chart, or None."""
    boxes = event.get("selection", {}).get("box", []) if event else []
    if not boxes or not boxes[0].get("x"):
        return None
    low, high = sorted(float(v) for v in boxes[0]["x"][:2])
    return (low, high) if math.isfinite(low) and high > low else None
