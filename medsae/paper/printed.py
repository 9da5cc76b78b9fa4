"""A Plotly figure as it is printed: on white, whole, at the widths of journals, fonts embedded.

The browser's own pictures of a plot have its window's theme and width, and cut what does not fit. Here the same figure
is drawn by matplotlib, which needs no browser. Knows the traces that `plots` uses: bars, lines, marks, heat maps.
"""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import plotly.graph_objects as go

Format: TypeAlias = Literal["png", "svg", "pdf"]
KINDS: tuple[Format, ...] = ("png", "svg", "pdf")
WIDTHS = {"one column": 89, "two columns": 183}
"""Widths of a figure in mm, as most journals have them."""
DPI = 300
_POINT = 0.55
"""Points of print for a pixel of the screen: text of 13 px is 7 pt."""
_DASHES = {"dot": ":", "dash": "--", "dashdot": "-."}
_MARKS = {"circle": "o", "circle-open": "o", "diamond": "D", "x": "x", "square": "s"}


def draw(figure: go.Figure, width_mm: float, kind: Format, note: str) -> bytes:
    """The figure `width_mm` wide as PNG (300 dpi), SVG or PDF; `note` goes into the file's description."""
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "font.size": 7,
        "font.family": "sans-serif",
        "axes.linewidth": 0.5,
        "axes.edgecolor": "#59626e",
        "xtick.major.width": 0.5,
        "ytick.major.width": 0.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "pdf.fonttype": 42,  # whole fonts, as publishers ask for, not outlines
        "svg.fonttype": "path",  # reads the same where the font is not there
        "savefig.dpi": DPI,
    }
    with matplotlib.rc_context(settings):
        height = float(figure.layout.height or 320) * _POINT / 72 + 0.25  # type: ignore[attr-defined]
        page = Figure(figsize=(width_mm / 25.4, height), layout="constrained", facecolor="white")
        _fill(page, figure.to_plotly_json())
        out = io.BytesIO()
        about: dict[str, Any] = {"svg": {"Description": note, "Date": None}, "pdf": {"Subject": note},
                                 "png": {"Description": note}}[kind]  # fmt: skip
        page.savefig(out, format=kind, metadata=about)
    return out.getvalue()


def _fill(page: Any, json: dict[str, Any]) -> None:
    layout, axes = json["layout"], page.add_subplot()
    filled = None
    for trace in sorted(json["data"], key=lambda t: t.get("zorder") or 0):
        if trace["type"] == "heatmap":
            _heatmap(page, axes, trace)
        elif trace["type"] == "bar":
            _bars(axes, trace)
        elif not str(trace.get("marker", {}).get("color", "")).startswith(
            "rgba(0,0,0,0"
        ):  # marks that only take clicks
            filled = _scatter(axes, trace, filled)
    for shape in layout.get("shapes", ()):
        if shape["type"] == "line":
            axes.axvline(shape["x0"], **_line(shape.get("line", {})))
        else:
            axes.axvspan(shape["x0"], shape["x1"], color=shape.get("fillcolor"), alpha=shape.get("opacity"), lw=0)
    _axis(axes, layout.get("xaxis", {}), "x")
    _axis(axes, layout.get("yaxis", {}), "y")
    for note in layout.get("annotations", ()):
        axes.annotate(_plain(note["text"]), (note["x"], note["y"]), xycoords=("axes fraction", "data"),
                      xytext=(3, 0), textcoords="offset points", va="center", annotation_clip=False)  # fmt: skip
    handles, names = axes.get_legend_handles_labels()
    if layout.get("showlegend") is not False and names:
        page.legend(handles, names, loc="outside upper left", ncols=2, frameon=False)


def _list(values: Any) -> list[Any]:
    """Values of a trace as a list (Plotly packs arrays of numbers)."""
    if isinstance(values, dict) and "bdata" in values:
        import base64

        import numpy as np

        flat = np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"])
        shape = [int(n) for n in str(values.get("shape", len(flat))).split(",")]
        return flat.reshape(shape).tolist()
    return [] if values is None else [None if v is None or v != v else v for v in values]


def _line(line: dict[str, Any]) -> dict[str, Any]:
    return {"color": line.get("color"), "linewidth": _POINT * float(line.get("width", 2)),
            "linestyle": _DASHES.get(str(line.get("dash")), "-")}  # fmt: skip


def _plain(text: Any) -> str:
    """Text of Plotly without its tags, and without the marks of direction of `plots.literal`: the fonts have none."""
    without = re.sub(r"<[^>]+>", "", str(text or "").replace("<br>", " "))
    return html.unescape(without).translate({0x2068: None, 0x2069: None})


def _name(trace: dict[str, Any]) -> str | None:
    return None if trace.get("showlegend") is False else _plain(trace.get("name")) or None


def _bars(axes: Any, trace: dict[str, Any]) -> None:
    x, y, marker = _list(trace["x"]), _list(trace["y"]), trace.get("marker", {})
    look = {"color": marker.get("color"), "alpha": marker.get("opacity"), "label": _name(trace), "linewidth": 0}
    width = trace.get("width")
    size = 0.8 if width is None else width if isinstance(width, (int, float)) else _list(width)
    if trace.get("orientation") != "h":
        axes.bar(x, y, width=size, **look)
        return
    axes.barh(y, x, height=size, **look)
    error = trace.get("error_x")
    if error:
        ends = [[float("nan") if v is None else v for v in _list(error[part])] for part in ("arrayminus", "array")]
        axes.errorbar(x, y, xerr=ends, fmt="none", ecolor="#59626e", elinewidth=0.7)


def _scatter(axes: Any, trace: dict[str, Any], below: Any) -> Any:
    """Lines and marks; returns what the next trace may be filled down to."""
    x = [float("nan") if v is None else v for v in _list(trace["x"])]
    y = [float("nan") if v is None else v for v in _list(trace["y"])]
    mode, line = trace.get("mode", "lines"), trace.get("line", {})
    if trace.get("fill") == "tonexty" and below is not None:
        axes.fill_between(x, below[1], y, color=_opaque(trace["fillcolor"]), linewidth=0, label=_name(trace))
        return None
    if "lines" in mode and line.get("width") != 0:
        style = "steps-post" if line.get("shape") == "hv" else "default"
        # Text as y is drawn by its place among the names, so a gap in a line is a gap between two lines.
        for a, b in _runs(x, y):
            axes.plot(a, b, drawstyle=style, alpha=trace.get("opacity"), **_line(line))
        if _name(trace):
            axes.plot([], [], label=_name(trace), **_line(line))
    if "markers" in mode:
        _marks(axes, x, y, trace)
    return x, y


def _runs(x: list[Any], y: list[Any]) -> list[tuple[list[Any], list[Any]]]:
    """The parts of a line between its gaps."""
    runs: list[tuple[list[Any], list[Any]]] = [([], [])]
    for a, b in zip(x, y, strict=True):
        if a != a or b != b:
            runs.append(([], []))
        else:
            runs[-1][0].append(a)
            runs[-1][1].append(b)
    return [run for run in runs if run[0]]


def _marks(axes: Any, x: list[Any], y: list[Any], trace: dict[str, Any]) -> None:
    known = [i for i, (a, b) in enumerate(zip(x, y, strict=True)) if a == a and b == b]
    marker = trace.get("marker", {})
    size, symbol = marker.get("size", 8), str(marker.get("symbol", "circle"))
    sizes = [size] * len(x) if isinstance(size, (int, float)) else _list(size)
    colour = marker.get("color")
    # A name of a label has its place even where its value is missing.
    axes.scatter(
        [x[i] for i in known], [y[i] for i in known], s=[(0.42 * sizes[i]) ** 2 for i in known],
        marker=_MARKS.get(symbol, "o"), alpha=marker.get("opacity"), label=_name(trace), linewidths=0.9, zorder=3,
        **({"facecolors": "none", "edgecolors": colour} if symbol.endswith("-open") else {"color": colour}),
    )  # fmt: skip
    words = _list(trace.get("text"))
    if "text" in trace.get("mode", "") and words:
        for i in known:
            axes.annotate(_plain(words[i]), (x[i], y[i]), xytext=(3, 3), textcoords="offset points")


def _heatmap(page: Any, axes: Any, trace: dict[str, Any]) -> None:
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap

    z = np.array([[np.nan if v is None else v for v in row] for row in _list(trace["z"])], dtype=float)
    stops = trace["colorscale"]
    scale = LinearSegmentedColormap.from_list("plotly", [(at, colour) for at, colour in stops or ()])
    # Squares are drawn one by one, so that a journal's editor finds no blurred picture of 14 x 40 pixels.
    cells = axes.pcolormesh(z, cmap=scale, vmin=trace.get("zmin"), vmax=trace.get("zmax"), edgecolor="white", lw=0.3)
    axes._centred = 0.5  # cell i lies from i to i + 1: ticks move by half a cell
    bar, title = trace.get("colorbar", {}), trace.get("colorbar", {}).get("title")
    text = _plain(title.get("text") if isinstance(title, dict) else title)
    shown = page.colorbar(cells, ax=axes, shrink=0.5, aspect=25, label=text)
    if bar.get("tickformat") == ".0%":
        shown.ax.yaxis.set_major_formatter(_percent)
    for which in ("x", "y"):
        names = trace.get(which)
        if names is not None:
            getattr(axes, f"set_{which}ticks")([i + 0.5 for i in range(len(_list(names)))], _list(names))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _percent(value: float, place: Any = None) -> str:
    return f"{100 * value:.0f} %"


def _axis(axes: Any, said: dict[str, Any], which: str) -> None:
    axis, shift = getattr(axes, f"{which}axis"), getattr(axes, "_centred", 0.0)
    if said.get("tickvals") is not None:
        places = [v + shift for v in _list(said["tickvals"])]
        getattr(axes, f"set_{which}ticks")(places, [_plain(t) for t in _list(said["ticktext"])])
    elif said.get("categoryarray") is not None:
        names = _list(said["categoryarray"])
        getattr(axes, f"set_{which}ticks")(range(len(names)), names)
    title = said.get("title")
    text = _plain(title.get("text") if isinstance(title, dict) else title)
    if text:
        getattr(axes, f"set_{which}label")(text)
    if said.get("side") == "top":
        axis.tick_top()
        axis.set_label_position("top")
    if said.get("tickangle"):
        slanted = axes.figure.get_figwidth() > 4  # in a single column slanted names would lie over each other
        axes.tick_params(axis=which, rotation=-float(said["tickangle"]) if slanted else 90)
        for tick in axis.get_ticklabels() if slanted else ():
            tick.set_horizontalalignment("left")
            tick.set_rotation_mode("anchor")
    if said.get("range") is not None:
        getattr(axes, f"set_{which}lim")(*[v + shift for v in said["range"]])
    if said.get("autorange") == "reversed":
        getattr(axes, f"invert_{which}axis")()
    form = {".0%": _percent, ",.0f": lambda v, _: f"{v:,.0f}", "+.1f": lambda v, _: f"{v:+.1f}".replace("-", "−")}
    if said.get("tickformat") in form:
        axis.set_major_formatter(form[said["tickformat"]])
    if said.get("dtick"):
        from matplotlib.ticker import MultipleLocator

        axis.set_major_locator(MultipleLocator(float(said["dtick"])))


def _opaque(rgba: str) -> Any:
    """`rgba(1,2,3,0.4)` as matplotlib says it."""
    *rgb, alpha = (float(v) for v in re.findall(r"[\d.]+", rgba))
    return (*[v / 255 for v in rgb], alpha)
