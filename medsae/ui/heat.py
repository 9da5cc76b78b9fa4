"""Heat maps drawn as HTML: painted with the page, in the reader's theme, and every cell is a link like any other.

As Plotly figures (for print) they are in `charts`; why not on the page: docs/decisions/202.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from html import escape

import numpy as np

from medsae.paper.colours import DARK, LIGHT
from medsae.ui import format

_LEVELS = 64
"""Shades on each side of 0: neighbours cannot be told apart."""
_LONGEST = 40
"""Letters of a column's name that are shown; the rest is in its title."""


def table(
    rows: Sequence[str],
    columns: Sequence[str],
    values: np.ndarray,
    words: Callable[[int, int], str],
    href: Callable[[int, int], str] | None = None,
    limit: float = 1.0,
) -> str:
    """Cells of `values` [rows, columns] from -`limit` to `limit`, NaN where there is none (an empty cell); what the
    mouse reads of a cell, and where a click leads."""
    letters = [min(_LONGEST, len(c)) for c in columns]
    # How far names lean out over the last column: one that begins further left has the columns beside it.
    out = max((n - 3 * after for after, n in enumerate(reversed(letters))), default=0)
    parts = ["<span></span>"]
    parts += [f'<span class="ms-top" title="{escape(c)}"><i dir="auto">{escape(c)}</i></span>' for c in columns]
    for r, name in enumerate(rows):
        parts.append(f'<b title="{escape(name)}">{escape(name)}</b>')
        for c in range(len(columns)):
            value = float(values[r, c])
            if value != value:
                parts.append("<span></span>")
                continue
            said = f'aria-label="{escape(words(r, c))}" style="background:{_colour(round(_LEVELS * value / limit))}"'
            # Hundreds of cells are no stops of the keyboard: the neurons of a row are on the page Neurons.
            cell = f'<a data-go tabindex="-1" href="{escape(href(r, c))}" {said}></a>' if href else f"<u {said}></u>"
            parts.append(cell)
    size = f"--columns:{len(columns)};--letters:{max(letters, default=0)};--out:{out}"
    return f'<div class="ms-scroll" tabindex="0"><div class="ms-heat" style="{size}">{"".join(parts)}</div></div>'


def scale(limit: float, what: str, both: bool = True) -> str:
    """The legend: what the colours mean, from -`limit` (or from 0) to `limit`."""
    steps = range(-_LEVELS if both else 0, _LEVELS + 1, _LEVELS // 4)
    ground = ", ".join(_colour(step) for step in steps)
    low = format.signed(-limit) if both else "0"
    high = format.signed(limit) if both else format.number(limit)
    return (
        f'<div class="ms-legend"><span>{escape(what)} {low} '
        f'<i class="ms-shades" style="background:linear-gradient(90deg, {ground})"></i> {high}</span></div>'
    )


@cache
def _colour(level: int) -> str:
    """The colour of a level from -_LEVELS to _LEVELS, in both themes."""
    at = 0.5 + 0.5 * max(-1.0, min(1.0, level / _LEVELS))
    return f"light-dark({_between(LIGHT, at)},{_between(DARK, at)})"


def _between(stops: Sequence[Sequence[float | str]], at: float) -> str:
    places = [float(place) for place, _ in stops]
    parts = [[int(str(colour)[i : i + 2], 16) for _, colour in stops] for i in (1, 3, 5)]
    return "#" + "".join(f"{round(float(np.interp(at, places, part))):02x}" for part in parts)
