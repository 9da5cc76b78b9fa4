"""Small charts drawn as HTML, for the page that is opened hundreds of times: painted at once, readable as text.

The same charts as Plotly figures (for export) are in `charts`.
"""

from __future__ import annotations

from html import escape

from medsae.store.reader import Frame
from medsae.ui import format


def correlations(frame: Frame, tone: str) -> str:
    """One row a label: a bar from 0 to rho with its 95 % interval, and the number; undefined labels say why."""
    known = frame[frame["rho"].notna()]
    most = max(0.1, float(known[["rho", "low", "high"]].abs().max().max()) if len(known) else 0.1)  # skips no interval
    rows = []
    for row in frame.to_dict("records"):
        label = escape(str(row["label"]))
        if format.missing(row["rho"]):
            reason = escape(str(row["reason"] or "undefined"))
            rows.append(f'<span>{label}</span><span class="ms-soft ms-reason">{reason}</span><span class="n">–</span>')
            continue
        rho = row["rho"] / most
        bar = f'<i class="ms-{tone}-fill" style="left:{50 + 50 * min(rho, 0):.1f}%;width:{50 * abs(rho):.1f}%"></i>'
        ends = ""
        if not format.missing(row["low"]):
            low, high = row["low"] / most, row["high"] / most
            bar += f'<u style="left:{50 + 50 * low:.1f}%;width:{max(0.5, 50 * (high - low)):.1f}%"></u>'
            ends = format.interval(row["low"], row["high"])
        title = f"{row['label']}: ρ {format.signed(row['rho'], 3)} {ends} n = {format.count(row['n'])}"
        value = f'<span class="n" title="{escape(title)}">{format.signed(row["rho"])}</span>'
        rows.append(f'<span>{label}</span><span class="ms-track" title="{escape(title)}">{bar}</span>{value}')
    return f'<div class="ms-bars" role="table">{"".join(rows)}</div>'


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
            f'<span><i class="ms-{t}-fill"></i>{name} {escape(label)} ({int(frame[c].sum()):,})</span>'
            for c, t, name in reversed(columns)
        )
    alt = f"Histogram of activations from {low} to {high}, at most {int(most):,} images in a bin"
    return (
        f'<div class="ms-legend">{legend}</div>'
        f'<div class="ms-hist" role="img" aria-label="{escape(alt)}">{"".join(bins)}</div>'
        f'<div class="ms-axis"><span>{low}</span><span>activation</span><span>{high}</span></div>'
    )
