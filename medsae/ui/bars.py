"""Small charts drawn as HTML, for the page that is opened hundreds of times: painted at once, readable as text.

The same charts as Plotly figures (for export) are in `charts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from medsae.paper.colours import MARKS
from medsae.store.reader import Frame
from medsae.ui import format


def correlations(frame: Frame, tone: str, scarce: Mapping[str, int] | None = None) -> str:
    """One row a label: a bar from 0 to rho with its 95 % interval, the number and n; undefined labels say why.

    `scarce`: label -> images on its scarcer side, of labels with too few: they come last, grey, without an interval
    (no interval holds over one image) and do not set the scale.
    """
    scarce = scarce or {}
    firm = frame[frame["rho"].notna() & ~frame["label"].isin(list(scarce))]
    most = max(0.1, float(firm[["rho", "low", "high"]].abs().max().max()) if len(firm) else 0.1)  # skips no interval
    rows, last = [], []
    for row in frame.to_dict("records"):
        label, few = escape(str(row["label"])), row["label"] in scarce
        if format.missing(row["rho"]):
            reason = escape(str(row["reason"] or "undefined"))
            rows.append(f'<span>{label}</span><span class="ms-soft ms-reason">{reason}</span><span class="n">–</span>')
            continue
        n = f"n {format.count(row['n'])}"
        if few:
            images = format.plural(scarce[str(row["label"])], "image")
            why = f"{images} only: too few (ρ\u00a0{format.signed(row['rho'])})"
            last.append(
                f'<span class="ms-soft">{label}</span><span class="ms-soft ms-reason">{why}</span>'
                f'<span class="n"><small>{n}</small></span>'
            )
            continue
        ends = "" if format.missing(row["low"]) else format.interval(row["low"], row["high"])
        title = f"{row['label']}: ρ {format.signed(row['rho'], 3)} {ends} {n}"
        value = f'<span class="n" title="{escape(title)}">{format.signed(row["rho"])} <small>{n}</small></span>'
        bar = correlation(row, tone, most)
        rows.append(
            f'<span>{label}</span><span class="ms-track" role="img" aria-label="{escape(title)}" '
            f'title="{escape(title)}">{bar}</span>{value}'
        )
    return f'<div class="ms-bars">{"".join(rows + last)}</div>'


def correlation(row: Mapping[Any, Any], tone: str, most: float = 1.0) -> str:
    """The bar of one row from the middle (rho 0) with its 95 % interval as a line; the ends are rho -`most`, `most`."""
    rho = row["rho"] / most
    bar = f'<i class="ms-{tone}-fill" style="left:{50 + 50 * min(rho, 0):.1f}%;width:{50 * abs(rho):.1f}%"></i>'
    if format.missing(row["low"]):
        return bar
    low, high = row["low"] / most, row["high"] / most
    return bar + f'<u style="left:{50 + 50 * low:.1f}%;width:{max(0.5, 50 * (high - low)):.1f}%"></u>'


def pair(frame: Frame, names: tuple[str, str]) -> str:
    """One row a label with the correlations of two neurons (rho_first, low_first, ..., rho_second, ...) as marks on one
    scale that has 0 in it, their 95 % intervals as lines, both numbers at the right."""
    sides = ("first", "second")
    ends = frame[[f"{part}_{side}" for part in ("rho", "low", "high") for side in sides]].astype(float)
    low, high = min(0.0, float(ends.min().min())), max(0.0, float(ends.max().max()))
    span = max(high - low, 0.1)

    def place(rho: float) -> float:
        return 100 * (rho - low) / span

    rows = []
    for row in frame.to_dict("records"):
        title = escape(f"{row['label']}: " + ", ".join(
            f"{name} {format.signed(row[f'rho_{side}'])} {format.interval(row[f'low_{side}'], row[f'high_{side}'])}"
            for name, side in zip(names, sides, strict=True)))  # fmt: skip
        marks = f'<b style="left:{place(0.0):.1f}%"></b>'
        for side, mark in zip(sides, ("sae", "raw"), strict=True):
            a, b = row[f"low_{side}"], row[f"high_{side}"]
            if not format.missing(a):
                width = max(0.5, place(b) - place(a))
                marks += f'<u class="ms-ends-{mark}" style="left:{place(a):.1f}%;width:{width:.1f}%"></u>'
            marks += f'<i class="ms-mark ms-mark-{mark}" style="left:{place(row[f"rho_{side}"]):.1f}%"></i>'
        numbers = "".join(f'<span class="n">{format.signed(row[f"rho_{side}"])}</span>' for side in sides)
        rows.append(
            f'<span>{escape(str(row["label"]))}</span><span class="ms-track ms-dots ms-pair" title="{title}" '
            f'role="img" aria-label="{title}">{marks}</span>{numbers}'
        )
    heads = "".join(f'<span class="n">{escape(name)}</span>' for name in names)
    legend = "".join(f'<span><i class="ms-mark ms-mark-{mark}"></i>neuron {escape(name)}</span>'
                     for name, mark in zip(names, ("sae", "raw"), strict=True))  # fmt: skip
    return (f'<div class="ms-legend">{legend}</div><div class="ms-bars ms-four"><span></span><span></span>{heads}'
            f'{"".join(rows)}</div>')  # fmt: skip


def recovery(frame: Frame, neuron: Callable[[object], str]) -> str:
    """One row a planted factor, most recovered on top: AUROC of the best neuron by each of `MARKS`, from 0.5 (chance)
    or the least there is to 1, the 95 % interval of the SAE's as a line, its number, and the HTML that `neuron` makes
    of that neuron. Where the frame has `pairs` (recovery in pairs that differ in the factor alone) and `pairs_neuron`,
    these stand beside it."""
    columns = [column for column, *_ in MARKS]
    paired = "pairs" in frame
    order = frame.assign(best=frame[columns[:3]].max(axis=1)).sort_values(["best", "factor"], ascending=[False, True])
    least = float(frame[columns].min().min())
    low = 0.1 * math.floor(10 * min(0.5, least)) if least == least else 0.5

    def place(auroc: float) -> str:
        return f"left:{100 * max(0.0, auroc - low) / (1 - low):.1f}%"

    rows = []
    for row in order.to_dict("records"):
        name = escape(str(row["factor"]).replace(":", ", "))
        known = [(c, mark, what) for c, mark, what in MARKS if not format.missing(row[c])]
        title = escape(f"{name}: " + ", ".join(f"{what} {format.number(row[c], 3)}" for c, _, what in known))
        marks = "".join(f'<i class="ms-mark ms-mark-{mark}" style="{place(row[c])}"></i>' for c, mark, _ in known[::-1])
        ends = ""
        if not format.missing(row["activation_low"]):
            a, b = row["activation_low"], row["activation_high"]
            title += f"; SAE activation {format.interval(a, b)}"
            ends = f'<u style="{place(a)};width:{100 * (b - max(low, a)) / (1 - low):.1f}%"></u>'
        rows.append(
            f'<span>{name}</span><span class="ms-track ms-dots" title="{title}" role="img" aria-label="{title}">'
            f'<b style="{place(0.5)}"></b>{ends}{marks}</span>'
            f'<span class="n">{format.number(row["activation"])}</span><span class="n">{neuron(row["neuron"])}</span>'
        )
        if paired:
            share = format.NOTHING if format.missing(row["pairs"]) else format.number(row["pairs"])
            rows[-1] += f'<span class="n">{share}</span><span class="n">{neuron(row["pairs_neuron"])}</span>'
    ticks = [low + 0.1 * i for i in range(round((1 - low) / 0.1) + 1)]
    axis = "".join(f'<span style="{place(tick)}">{tick:.1f}</span>' for tick in ticks)
    legend = "".join(f'<span><i class="ms-mark ms-mark-{mark}"></i>{what}</span>' for _, mark, what in MARKS)
    heads = '<span class="n">SAE</span><span class="n">neuron</span>'
    heads += '<span class="n">by pairs</span><span class="n">neuron</span>' if paired else ""
    head = f'<span></span><span class="ms-ticks" aria-hidden="true">{axis}</span>{heads}'
    wide = "ms-six" if paired else "ms-four"
    return f'<div class="ms-legend">{legend}</div><div class="ms-bars {wide}">{head}{"".join(rows)}</div>'


def histogram(frame: Frame, label: str | None, tone: str) -> str:
    """Columns of counts over activation; with a label, images with it (tone) over images without it (grey)."""
    columns = (
        [("count", tone, "images")] if label is None else [("absent", "null", "without"), ("present", tone, "with")]
    )
    most = max(1.0, float(frame[[c for c, _, _ in columns]].to_numpy().max()))
    bins = []
    for row in frame.to_dict("records"):
        where = f"{format.number(row['low'])} to {format.number(row['high'])}"
        title = f"{where}: " + ", ".join(f"{int(row[c]):,} {name}" for c, _, name in columns)
        parts = "".join(f'<i class="ms-{t}-fill" style="height:{100 * row[c] / most:.1f}%"></i>' for c, t, _ in columns)
        bins.append(f'<span title="{escape(title)}">{parts}</span>')
    low, high = format.number(frame["low"].min()), format.number(frame["high"].max())
    legend = ""
    if label is not None:
        legend = "".join(
            f'<span><i class="ms-{t}-fill"></i>{name} <bdi>{escape(label)}</bdi> ({int(frame[c].sum()):,})</span>'
            for c, t, name in reversed(columns)
        )
    alt = f"Histogram of activations from {low} to {high}, at most {int(most):,} images in a bin"
    return (
        f'<div class="ms-legend">{legend}</div>'
        f'<div class="ms-hist" role="img" aria-label="{escape(alt)}">{"".join(bins)}</div>'
        f'<div class="ms-axis"><span>{low}</span><span>activation</span><span>{high}</span></div>'
    )
