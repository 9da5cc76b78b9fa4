"""Plotly figures from data frames, as they are printed: on white. The app draws them in the theme of the reader."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from medsae.paper import colours
from medsae.paper.colours import LIGHT
from medsae.store.reader import Frame


def blank(height: int, **layout: Any) -> go.Figure:
    """An empty figure with the margins that every chart has. Its axes are `layout.xaxis` and `layout.yaxis`: plotly
    looks through the whole layout for others when it is asked for every axis."""
    axis = dict(zeroline=False, automargin=True)
    usual = dict(
        height=height,
        margin=dict(l=8, r=8, t=8, b=8),
        bargap=0.04,
        hovermode="closest",
        showlegend=True,
        legend=dict(orientation="h", yanchor="bottom", y=1.0, x=0),
        dragmode="select",
        selectdirection="h",
        xaxis=axis,
        yaxis=axis,
    )
    figure = go.Figure(layout=usual)  # in one step: a figure of four steps took five times as long
    return figure.update_layout(**layout) if layout else figure


def literal(text: object) -> str:
    """A name as plotly shows it, letter by letter (it takes `<b>` for bold), and in one piece: numbers that follow an
    Arabic name stay behind it."""
    plain = str(text).replace("&", "&amp;").replace("<", "&lt;")
    return f"\u2068{plain}\u2069" if any(unicodedata.bidirectional(c) in ("R", "AL") for c in plain) else plain


def _short(name: str) -> str:
    """A name beside an axis: the whole of a long one would leave no room to the plot."""
    return literal(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1].rstrip()}…")


_LONGEST = 32
"""Letters; the longest label of CheXpert has 26."""


@dataclass(frozen=True)
class Histograms:
    """Histograms of entropy (bits) of one or two representations, and of the permutation null of the first."""

    first: Frame
    second: Frame | None
    null: Frame
    names: tuple[str, str]
    tones: tuple[str, str]


@dataclass(frozen=True)
class BitsAxis:
    """An axis of entropies in the unit that is shown: `scale` times bits."""

    scale: float
    unit: str
    maximum: float
    """log2 k, in bits."""
    width: float
    """Of a bin, in bits."""


def entropies(shown: Histograms, axis: BitsAxis, view: str, chosen: tuple[float, float] | None) -> go.Figure:
    """Histograms of entropy over each other, with the permutation null as a band; x in display units.

    view: share, count or cumulative. chosen: the brushed range in display units.
    """
    first, second, null, names, tones = shown.first, shown.second, shown.null, shown.names, shown.tones
    scale, unit, maximum, width = axis.scale, axis.unit, axis.maximum * axis.scale, axis.width
    column = {"share": "share", "count": "count", "cumulative": "cumulative"}[view]
    figure = blank(360, barmode="overlay")
    at = (null["low"] + null["high"]) / 2 * scale
    if view == "cumulative":
        figure.add_scatter(
            x=null["high"] * scale,
            y=null["cumulative"],
            mode="lines",
            name="labels shuffled",
            line=dict(color=colours.NULL, dash="dot"),
            hovertemplate="%{x:.2f}: %{y:.1%}<extra>null</extra>",
        )
    elif view == "share" and len(null):
        figure.add_scatter(
            x=at, y=null["high_share"], mode="lines", line=dict(width=0), showlegend=False, hoverinfo="skip", zorder=-1
        )
        figure.add_scatter(
            x=at,
            y=null["low_share"],
            mode="lines",
            line=dict(width=0),
            fill="tonexty",
            fillcolor="rgba(139,148,161,0.45)",
            name="labels shuffled (95 %)",
            hoverinfo="skip",
            zorder=-1,
        )
    for frame, name, colour in ((second, names[1], tones[1]), (first, names[0], tones[0])):
        if frame is None or frame.empty:
            continue
        y = frame[column]
        form = ":,.0f" if view == "count" else ":.1%"
        if view == "cumulative":
            figure.add_scatter(
                x=(frame["low"] + width) * scale,
                y=y,
                mode="lines",
                name=name,
                line=dict(color=colour, shape="hv", width=2),
                hovertemplate=f"at most %{{x:.2f}} {unit}: %{{y{form}}}<extra>{name}</extra>",
            )
        else:
            figure.add_bar(
                x=(frame["low"] + width / 2) * scale,
                y=y,
                width=width * scale * 0.94,
                name=name,
                marker=dict(color=colour, opacity=0.68),
                hovertemplate=f"%{{x:.2f}} {unit}: %{{y{form}}}<extra>{name}</extra>",
            )
    if chosen:
        figure.add_vrect(*chosen, fillcolor=tones[0], opacity=0.16, line_width=0)
    figure.layout.xaxis.update(
        title=f"entropy over labels ({unit}); {maximum:.2f} is all labels alike", range=[0, maximum * 1.01]
    )
    figure.layout.yaxis.update(
        title="neurons" if view == "count" else "share of neurons",
        tickformat=",.0f" if view == "count" else ".0%",
        rangemode="tozero",
    )
    return figure


def by_label(
    first: Frame,
    second: Frame | None,
    scale: float,
    unit: str,
    names: tuple[str, str],
    tones: tuple[str, str],
    floors: Mapping[str, float],
) -> go.Figure:
    """Entropy of the neurons that follow each label: 5-95 % line, 25-75 % bar, median, and the label's floor (bits)."""
    order = list(first["label"])
    figure = blank(60 + 30 * max(1, len(order)), dragmode=False)
    for offset, frame, name, colour in ((0.16, first, names[0], tones[0]), (-0.16, second, names[1], tones[1])):
        if frame is None or frame.empty:
            continue
        mine = frame[frame["label"].isin(order)]
        y = [order.index(label) + offset for label in mine["label"]]
        lines_x, lines_y, boxes_x, boxes_y = [], [], [], []
        for yy, row in zip(y, mine.to_dict("records"), strict=True):
            lines_x += [row["q05"] * scale, row["q95"] * scale, None]
            boxes_x += [row["q25"] * scale, row["q75"] * scale, None]
            lines_y += [yy, yy, None]
            boxes_y += [yy, yy, None]
        figure.add_scatter(
            x=lines_x, y=lines_y, mode="lines", line=dict(color=colour, width=1.5), showlegend=False, hoverinfo="skip"
        )
        figure.add_scatter(
            x=boxes_x,
            y=boxes_y,
            mode="lines",
            line=dict(color=colour, width=8),
            opacity=0.55,
            showlegend=False,
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=mine["q50"] * scale,
            y=y,
            mode="markers",
            name=name,
            marker=dict(color=colour, size=9),
            customdata=mine[["label", "neurons"]].assign(label=mine["label"].map(literal)).to_numpy(),
            hovertemplate="%{customdata[0]}: median %{x:.2f} " + unit + ", %{customdata[1]} neurons<extra></extra>",
        )
    known = [label for label in order if label in floors]
    if known:
        figure.add_scatter(
            x=[floors[label] * scale for label in known],
            y=[order.index(label) for label in known],
            mode="markers",
            name="floor: never wrong about it",
            marker=dict(symbol="line-ns", size=22, line=dict(width=2, color=colours.NULL)),
            customdata=[literal(label) for label in known],
            hovertemplate="%{customdata}: floor %{x:.2f} " + unit + "<extra></extra>",
        )
    figure.layout.yaxis.update(
        tickvals=list(range(len(order))), ticktext=[_short(label) for label in order], showgrid=False
    )
    figure.layout.xaxis.update(title=f"entropy ({unit})")
    return figure


def heat_map(frame: Frame, labels: list[str], neurons: list[int], limit: float, texts: dict[int, str]) -> go.Figure:
    """Neurons (rows) x labels of rho; a transparent marker on each cell makes it clickable (customdata: neuron)."""
    grid = frame.pivot(index="neuron", columns="label", values="rho").reindex(index=neurons, columns=labels)
    figure = blank(max(240, 60 + 17 * len(neurons)), dragmode=False, showlegend=False, hoverdistance=-1)
    rows = [literal(texts.get(n, n)) for n in neurons]
    position = {n: i for i, n in enumerate(neurons)}
    column = {label: i for i, label in enumerate(labels)}
    figure.add_heatmap(
        z=grid.to_numpy(),
        zmin=-limit,
        zmax=limit,
        colorscale=LIGHT,
        xgap=1,
        ygap=1,
        hoverinfo="skip",
        colorbar=dict(title="ρ", thickness=10, len=min(1.0, 240 / (60 + 17 * len(neurons)) + 0.2)),
    )
    known = frame[frame["label"].isin(labels)]
    figure.add_scatter(
        x=[column[label] for label in known["label"]],
        y=[position[n] for n in known["neuron"]],
        mode="markers",
        marker=dict(size=15, symbol="square", color="rgba(0,0,0,0)"),
        selected=dict(marker=dict(opacity=1)),
        unselected=dict(marker=dict(opacity=1)),
        customdata=known[["neuron", "label", "rho", "low", "high", "n"]]
        .assign(label=known["label"].map(literal))
        .to_numpy(),
        hovertemplate="neuron %{customdata[0]} · %{customdata[1]}<br>ρ %{customdata[2]:+.3f} [%{customdata[3]:+.3f}, "
        "%{customdata[4]:+.3f}] · n = %{customdata[5]:,}<extra></extra>",
    )
    figure.layout.xaxis.update(
        tickvals=list(range(len(labels))),
        ticktext=[literal(label) for label in labels],
        side="top",
        tickangle=-40,
        showgrid=False,
        range=[-0.5, len(labels) - 0.5],
    )
    figure.layout.yaxis.update(
        tickvals=list(range(len(neurons))), ticktext=rows, range=[len(neurons) - 0.5, -0.5], showgrid=False
    )
    return figure


def factor_map(frame: Frame, factors: list[str], neurons: list[int]) -> go.Figure:
    """Factors (rows) x neurons of `share`: which share of what moves a neuron is due to each factor, upwards or
    downwards; a transparent marker on each cell makes it clickable (customdata: neuron)."""
    grid = frame.pivot(index="factor", columns="neuron", values="share").reindex(index=factors, columns=neurons)
    figure = blank(max(240, 70 + 17 * len(factors)), dragmode=False, showlegend=False, hoverdistance=-1)
    row = {factor: i for i, factor in enumerate(factors)}
    column = {neuron: i for i, neuron in enumerate(neurons)}
    figure.add_heatmap(
        z=grid.to_numpy(), zmin=-1, zmax=1, colorscale=LIGHT, xgap=1, ygap=1, hoverinfo="skip",
        colorbar=dict(title="share", thickness=10, len=min(1.0, 240 / (70 + 17 * len(factors)) + 0.2)),
    )  # fmt: skip
    known = frame[frame["factor"].isin(factors) & frame["neuron"].isin(neurons)]
    figure.add_scatter(
        x=[column[n] for n in known["neuron"]],
        y=[row[factor] for factor in known["factor"]],
        mode="markers",
        marker=dict(size=15, symbol="square", color="rgba(0,0,0,0)"),
        selected=dict(marker=dict(opacity=1)),
        unselected=dict(marker=dict(opacity=1)),
        customdata=known[["neuron", "factor", "share", "change", "low", "high"]].to_numpy(),
        hovertemplate="neuron %{customdata[0]} · %{customdata[1]}<br>share %{customdata[2]:+.2f} · change "
        "%{customdata[3]:+.3g} [%{customdata[4]:+.3g}, %{customdata[5]:+.3g}]<extra></extra>",
    )
    figure.layout.xaxis.update(
        tickvals=list(range(len(neurons))), ticktext=[str(n) for n in neurons], side="top", tickangle=-90,
        showgrid=False, range=[-0.5, len(neurons) - 0.5],
    )  # fmt: skip
    figure.layout.yaxis.update(
        tickvals=list(range(len(factors))), ticktext=[factor.replace(":", ", ") for factor in factors],
        range=[len(factors) - 0.5, -0.5], showgrid=False,
    )  # fmt: skip
    return figure


def square(frame: Frame, labels: list[str]) -> go.Figure:
    """Label x label co-occurrence: share of images with the row's label that also carry the column's."""
    grid = frame.pivot(index="a", columns="b", values="share").reindex(index=labels, columns=labels)
    figure = blank(110 + 22 * len(labels), dragmode=False, showlegend=False)
    figure.add_heatmap(
        z=grid.to_numpy(),
        x=labels,
        y=labels,
        zmin=0,
        zmax=1,
        colorscale="Cividis",
        xgap=1,
        ygap=1,
        colorbar=dict(thickness=10, tickformat=".0%"),
        hovertemplate="of images with %{y}, %{z:.0%} also have %{x}<extra></extra>",
    )
    figure.layout.xaxis.update(side="top", tickangle=-40, showgrid=False)
    figure.layout.yaxis.update(autorange="reversed", showgrid=False)
    return figure


def correlations(frame: Frame, colour: str) -> go.Figure:
    """Bars of rho with 95 % intervals, strongest on top."""
    known = frame[frame["rho"].notna()].iloc[::-1]
    figure = blank(40 + 23 * max(1, len(known)), dragmode=False, showlegend=False)
    figure.add_bar(
        x=known["rho"],
        y=known["label"],
        orientation="h",
        marker=dict(color=colour),
        error_x=dict(
            type="data",
            symmetric=False,
            array=known["high"] - known["rho"],
            arrayminus=known["rho"] - known["low"],
            color=colours.NULL,
            thickness=1.4,
            width=3,
        ),
        text=[f"{v:+.2f}".replace("-", "−") for v in known["rho"]],
        textposition="none",
        customdata=known[["low", "high", "n"]].to_numpy(),
        hovertemplate="%{y}: ρ %{x:+.3f} [%{customdata[0]:+.3f}, %{customdata[1]:+.3f}], n = %{customdata[2]:,}"
        "<extra></extra>",
    )
    most = max(0.1, float(known[["rho", "low", "high"]].abs().max().max()) if len(known) else 0.1)  # skips no interval
    figure.layout.xaxis.update(
        title="ρ", range=[-most * 1.05, most * 1.05], zeroline=True, zerolinecolor=colours.NULL, tickformat="+.1f"
    )
    figure.layout.yaxis.update(showgrid=False)
    figure.update_layout(margin=dict(r=46))
    for row in known.to_dict("records"):
        figure.add_annotation(
            x=1.0,
            xref="paper",
            y=row["label"],
            text=f"{row['rho']:+.2f}".replace("-", "−"),
            showarrow=False,
            xanchor="left",
            xshift=4,
            font=dict(size=11),
        )
    return figure


def activations(frame: Frame, label: str | None, colour: str) -> go.Figure:
    """Histogram of one neuron's activations; with a label, images with it over images without it."""
    figure = blank(210, barmode="overlay", dragmode=False)
    at, width = (frame["low"] + frame["high"]) / 2, frame["high"] - frame["low"]
    if label is None:
        figure.add_bar(x=at, y=frame["count"], width=width, name="images", marker=dict(color=colour, opacity=0.75))
        figure.update_layout(showlegend=False)
    else:
        figure.add_bar(
            x=at,
            y=frame["absent"],
            width=width,
            name=f"without {literal(label)}",
            marker=dict(color=colours.NULL, opacity=0.6),
        )
        figure.add_bar(
            x=at, y=frame["present"], width=width, name=f"with {literal(label)}", marker=dict(color=colour, opacity=0.7)
        )
    figure.update_traces(hovertemplate="%{x:.2f}: %{y:,} images<extra></extra>")
    figure.layout.xaxis.update(title="activation")
    figure.layout.yaxis.update(title="images")
    return figure


def lines(frame: Frame, x: str, columns: dict[str, str], height: int = 220) -> go.Figure:
    """Curves of several columns over x, each on its own scale from its first to its last value (hover for values)."""
    figure = blank(height, dragmode="zoom")
    for column, colour in columns.items():
        if column in frame and frame[column].notna().any():
            figure.add_scatter(x=frame[x], y=frame[column], mode="lines", name=column, line=dict(color=colour, width=2))
    figure.layout.xaxis.update(title=x)
    return figure


def scatter(frame: Frame, x: str, y: str, text: str, colour: str, titles: tuple[str, str]) -> go.Figure:
    """Points with hover text; customdata holds the column `neuron` where there is one."""
    figure = blank(380, showlegend=False, dragmode=False)
    custom = frame[["neuron"]].to_numpy() if "neuron" in frame else None
    trace = figure.add_scattergl if len(frame) > 400 else figure.add_scatter
    trace(
        x=frame[x],
        y=frame[y],
        mode="markers",
        text=frame[text],
        customdata=custom,
        marker=dict(color=colour, size=7, opacity=0.65),
        hovertemplate="%{text}<extra></extra>",
    )
    figure.layout.xaxis.update(title=titles[0])
    figure.layout.yaxis.update(title=titles[1])
    return figure


def pareto(frame: Frame) -> go.Figure:
    """FVE over L0 (columns active, fve, scores, text); `here`: the row to put a ring around; `label`, where there is
    such a column: a few words beside each point that has room for them. L0 from 0, FVE to 1."""
    frame = frame[frame["active"].notna() & frame["fve"].notna()]
    least = float(frame["fve"].min()) if len(frame) else 0.0
    most = float(frame["active"].max()) if len(frame) else 0.0
    right, bottom = (1.1 * most if most > 0 else 1), least - 0.25 * max(1 - least, 0.04)
    top = 1 + 0.02 * (1 - bottom)  # room for a point at 1, and no tick above it
    words = [str(word) for word in frame["label"]] if "label" in frame else [""] * len(frame)
    across = [PARETO_PX[0] * x / right for x in frame["active"]]
    up = [PARETO_PX[1] * (y - bottom) / (top - bottom) for y in frame["fve"]]
    places = labels_beside(across, up, words)
    figure = blank(300, showlegend=False, dragmode=False)
    ring = [3 if here else 0 for here in frame["here"]]
    figure.add_scatter(
        x=frame["active"],
        y=frame["fve"],
        mode="markers+text",
        text=[word if place else "" for word, place in zip(words, places, strict=True)],
        textposition=[place or "top center" for place in places],
        textfont=dict(size=11),
        cliponaxis=False,
        customdata=frame[["scores", "text"]].to_numpy(),
        marker=dict(
            color=colours.SAE, size=[13 if r else 9 for r in ring], opacity=1, line=dict(color=colours.NULL, width=ring)
        ),
        hovertemplate="%{customdata[1]}<extra></extra>",
    )
    figure.layout.xaxis.update(title="active neurons an image (L0)", range=[0, right])
    figure.layout.yaxis.update(title="variance explained (FVE)", range=[bottom, top])
    return figure


PARETO_PX = (460, 230)
"""Size of the plot that labels are placed for: about that of the Compare page at 1280 px."""
_SIGN_PX, _LINE_PX, _POINT_PX = 6.2, 14, 7


def labels_beside(x: Sequence[float], y: Sequence[float], words: Sequence[str]) -> list[str | None]:
    """Where the words of each point (px from the left and from below, within PARETO_PX) lie over no other point or
    words: plotly's name of the place, or None where there is no room; points are asked in their order."""
    points = [(a - _POINT_PX, b - _POINT_PX, a + _POINT_PX, b + _POINT_PX) for a, b in zip(x, y, strict=True)]
    taken: list[tuple[float, float, float, float]] = []
    found: list[str | None] = []
    for i, word in enumerate(words):
        others = [*taken, *points[:i], *points[i + 1 :]]
        boxes = _boxes_around(x[i], y[i], _SIGN_PX * len(word)) if word else {}
        place = next((name for name, box in boxes.items() if _fits(box, others)), None)
        found.append(place)
        taken += [boxes[place]] if place else []
    return found


def _boxes_around(x: float, y: float, width: float) -> dict[str, tuple[float, float, float, float]]:
    """Place -> left, bottom, right, top of words around a point, in the order of liking."""
    half, gap = width / 2, _POINT_PX + 1
    corners = {
        "top center": (x - half, y + gap), "bottom center": (x - half, y - gap - _LINE_PX),
        "middle left": (x - gap - width, y - _LINE_PX / 2), "middle right": (x + gap, y - _LINE_PX / 2),
        "top left": (x - width, y + gap), "top right": (x, y + gap),
        "bottom left": (x - width, y - gap - _LINE_PX), "bottom right": (x, y - gap - _LINE_PX),
    }  # fmt: skip
    return {name: (left, low, left + width, low + _LINE_PX) for name, (left, low) in corners.items()}


def _fits(box: tuple[float, float, float, float], others: Sequence[tuple[float, float, float, float]]) -> bool:
    left, low, right, top = box
    inside = left >= 0 and right <= PARETO_PX[0] + 20 and low >= 0
    return inside and not any(left < o[2] and o[0] < right and low < o[3] and o[1] < top for o in others)


def pairs(frame: Frame, columns: tuple[str, str], names: tuple[str, str], tones: tuple[str, str]) -> go.Figure:
    """Two AUROCs of each label joined by a line, best difference on top; the axis is never narrower than 0.4 to 1.

    Where the frame has them, the columns of the same names with `other_half_low`, `other_half_high` (ENDS) in the place
    of `auroc_other_half` are their 95 % intervals, drawn as lines in their colours.
    """
    known = frame.assign(gap=frame[columns[0]] - frame[columns[1]]).sort_values("gap", na_position="first")
    # A legend of two lines and the axis need room, also over one label.
    figure = blank(max(150, 60 + 24 * len(known)), dragmode=False)
    rows = list(range(len(known)))
    xs, ys = [], []
    for at, row in zip(rows, known.to_dict("records"), strict=True):
        xs += [row[columns[0]], row[columns[1]], None]
        ys += [at + _APART, at - _APART, None]
    figure.add_scatter(
        x=xs, y=ys, mode="lines", line=dict(color=colours.NULL, width=1.5), showlegend=False, hoverinfo="skip"
    )
    for column, name, colour, aside in zip(columns, names, tones, (_APART, -_APART), strict=True):
        ends = [column.replace("auroc_other_half", end) for end in ENDS]
        ends = ends if ends[0] != column and all(end in known for end in ends) else []
        between = [f" [{low:.2f}, {high:.2f}]" for low, high in zip(*(known[end] for end in ends), strict=True)] or ""
        figure.add_scatter(
            x=known[column],
            y=[at + aside for at in rows],
            mode="markers",
            name=name,
            marker=dict(color=colour, size=10),
            error_x=_error(known, column, ends, colour),
            customdata=[
                [literal(label), more] for label, more in zip(known["label"], between or [""] * len(known), strict=True)
            ],
            hovertemplate="%{customdata[0]}: %{x:.3f}%{customdata[1]}<extra>" + name + "</extra>",
        )
    drawn = [c for c in known if c in columns or c.startswith(ENDS[0])]
    least = float(known[drawn].min().min())
    figure.layout.xaxis.update(range=[min(0.4, least if math.isfinite(least) else 0.4) - 0.02, 1.02])
    figure.layout.yaxis.update(
        showgrid=False, tickvals=rows, ticktext=[_short(x) for x in known["label"]], range=[-0.6, len(known) - 0.4]
    )
    return figure


ENDS = ("other_half_low", "other_half_high")
"""Columns of the ends of an AUROC's 95 % interval."""
_APART = 0.13
"""Rows: the two marks of a label lie so far above and below its line, or their intervals would lie on each other."""


def _error(known: Frame, column: str, ends: list[str], colour: str) -> dict[str, Any] | None:
    """Error bars that are not symmetric, from the columns of both ends."""
    if not ends:
        return None
    more, less = known[ends[1]] - known[column], known[column] - known[ends[0]]
    return dict(type="data", symmetric=False, array=more, arrayminus=less, color=colour, thickness=1.5, width=0)


def recovery(frame: Frame) -> go.Figure:
    """AUROC of planted factors, most recovered on top: best neuron by activation and pre-activation, raw, and as many
    random directions."""
    frame = frame.assign(best=frame[["activation", "preactivation", "raw"]].max(axis=1)).sort_values(
        ["best", "factor"], ascending=[True, False], na_position="first"
    )
    factors = [str(f).replace(":", ", ") for f in frame["factor"]]
    # Legend and axis stand above the rows: nobody scrolls down to learn what a mark is.
    figure = blank(84 + 24 * max(1, len(frame)), dragmode=False, margin=dict(l=8, r=8, t=56, b=8))
    figure.update_layout(legend=dict(yref="container", yanchor="top", y=1.0))
    shapes = {
        "sae": (colours.SAE, "circle"),
        "sae-open": (colours.SAE, "circle-open"),
        "raw": (colours.RAW, "diamond"),
        "null": (colours.NULL, "x"),
    }
    for column, mark, name in colours.MARKS:
        colour, symbol = shapes[mark]
        figure.add_scatter(
            x=frame[column].tolist(),  # lists: the library that plotly reads frames with is slow to import
            y=factors,
            mode="markers",
            name=name,
            marker=dict(color=colour, size=10, symbol=symbol),
            hovertemplate="%{y}: %{x:.3f}<extra>" + name + "</extra>",
        )
    known = frame[[column for column, *_ in colours.MARKS]].stack()
    least = min(0.5, float(known.min())) if len(known) else 0.5
    figure.layout.xaxis.update(title="AUROC (0.5 is chance)", range=[least - 0.02, 1.02], side="top", dtick=0.1)
    figure.layout.yaxis.update(range=[-0.6, len(frame) - 0.4], categoryorder="array", categoryarray=factors)
    figure.add_vline(0.5, line=dict(color=colours.NULL, width=1, dash="dot"))
    return figure


GROUPS = ("#3d93d4", "#d08129", "#4fae7b", "#9277d8", "#cf5f6a", "#2fa8a8", "#b8963e", "#c26fb0", "#7f9c3a", "#6f86c9")
"""Ten colours that are told apart on both backgrounds; more groups than that are one."""
OTHER = "other"


def neuron_map(frame: Frame, colour: str, title: str) -> go.Figure:
    """Neurons as points at x, y in [-1, 1] (columns neuron, x, y, text, passes and `colour`). A column of words gets
    one colour a word (ten at most, the others grey, as what begins with "no"), one of numbers a scale. Where `passes`
    is off a point is small and pale. customdata holds the neuron."""
    # Below: beside it the words of the labels would leave half of a narrow window to the map.
    legend = dict(orientation="h", x=0, y=-0.01, yanchor="top", itemsizing="constant")
    figure = blank(680, dragmode="lasso", legend=legend)
    figure.update_layout(selectdirection="any", uirevision="map", newselection=dict(line=dict(width=2)))
    draw = figure.add_scattergl if len(frame) > SVG_POINTS else figure.add_scatter
    every, passes = frame, frame["passes"].to_numpy(bool)
    pale, frame = every[~passes], every[passes]
    _points(draw, pale, "outside the filter", dict(color=colours.NULL, size=3, opacity=0.3))
    size = 6 if len(frame) < 1500 else 4
    if frame[colour].dtype.kind == "f":
        bar = dict(title=dict(text=title, side="right"), thickness=12, outlinewidth=0)
        marker = dict(color=frame[colour], colorscale="Viridis", size=size, opacity=0.85, colorbar=bar)
        _points(draw, frame, title, marker)
        figure.update_layout(showlegend=False)
    else:
        plain = frame[colour].str.match("not? ")
        words = every[colour][~every[colour].str.match("not? ")].value_counts().index  # whatever the filter
        for word in frame[colour][plain].unique():
            mine = frame[frame[colour] == word]
            _points(draw, mine, f"{literal(word)} ({len(mine)})", dict(color=colours.NULL, size=size, opacity=0.55))
        for word, tone in zip(words[: len(GROUPS)], GROUPS, strict=False):
            mine = frame[frame[colour] == word]
            _points(draw, mine, f"{literal(word)} ({len(mine)})", dict(color=tone, size=size, opacity=0.85))
        rest = frame[~frame[colour].isin(words[: len(GROUPS)]) & ~plain]
        _points(draw, rest, f"{OTHER} ({len(rest)})", dict(color=colours.NULL, size=size, opacity=0.7))
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        axis.update(visible=False, range=[-1.04, 1.04])
    figure.layout.yaxis.update(scaleanchor="x")
    return figure


SVG_POINTS = 1_500
"""Up to so many points a map is drawn without WebGL."""


def _points(draw: Any, frame: Frame, name: str, marker: dict[str, Any]) -> None:
    if len(frame):
        draw(
            x=frame["x"].astype("f4"), y=frame["y"].astype("f4"), mode="markers", name=name, marker=marker,
            text=frame["text"], customdata=frame[["neuron"]].to_numpy(), hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
