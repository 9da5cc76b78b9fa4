"""The look of every page: heading, rows of figures, empty states, footer, colours of meaning.

Text that comes from artifacts, models or people is escaped here; a caller hands over plain text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import streamlit as st

from medsae.paper.colours import NULL as NULL
from medsae.paper.colours import RAW as RAW
from medsae.paper.colours import SAE as SAE
from medsae.paper.colours import SECOND as SECOND
from medsae.progress import UserError
from medsae.ui import format, hiding

if TYPE_CHECKING:
    from medsae.store import queries

Tone: TypeAlias = Literal["sae", "raw", "null", "good", "bad", ""]
RESEARCH = "Research use only, not for diagnosis"
ICON = Path(__file__).with_name("icon.svg")
_CSS = Path(__file__).with_name("style.css")


def stylesheet() -> None:
    """The one stylesheet; once a run."""
    st.html(_CSS)


def heading(title: str, subtitle: str = "", name: str = "", tools: Sequence[str] = ()) -> None:
    """Title (of the browser's tab too), a name beside it, a soft line; at the right tools (ready HTML of chips) and a
    chip that copies the address."""
    st.set_page_config(page_title=f"{title} · MedSAE Explorer")
    st.html(
        f'<div class="ms-head"><h1>{escape(title)}</h1>'
        + (f'<span class="ms-name">{escape(name)}</span>' if name else "")
        + (f'<span class="ms-soft">{escape(subtitle)}</span>' if subtitle else "")
        + f'<span class="ms-tools">{"".join(tools)}{COPY}</span></div>'
    )


def badge(text: str, help: str, good: bool) -> str:
    """HTML of a short word on what something is; `good` False: a reader must know it before believing a number."""
    tone = "ms-good" if good else "ms-bad"
    return f'<span class="ms-chip ms-badge {tone}" title="{escape(help)}">{escape(text)}</span>'


def chip(text: str, href: str | None, key: str = "", title: str = "") -> str:
    """HTML of a small link; greyed where there is nowhere to go. `key`: the key that follows it."""
    if href is None:
        return f'<span class="ms-chip ms-off">{escape(text)}</span>'
    shortcut = f' data-key="{escape(key)}"' if key else ""
    return (
        f'<a class="ms-chip" data-go{shortcut} href="{escape(href)}" title="{escape(title or text)}">{escape(text)}</a>'
    )


def link(text: object, href: str) -> str:
    """HTML of a link within the app."""
    return f'<a data-go href="{escape(href)}">{escape(str(text))}</a>'


COPY = '<a class="ms-chip" data-go="copy" href="" aria-live="polite">copy link</a>'
"""HTML of a chip that copies the address as the reader sees it, which is whole: see `links.found`."""


def figures(items: Sequence[tuple[str, str, str]]) -> None:
    """A row of (value, what it is, tone); a line break in `what` is one on the page."""
    cells = "".join(
        f'<div><b class="{"ms-" + tone if tone else ""}">{escape(value)}</b>'
        f"<span>{escape(what).replace(chr(10), '<br>')}</span></div>"
        for value, what, tone in items
    )
    st.html(f'<div class="ms-figures">{cells}</div>')


def section(title: str, soft: str = "") -> None:
    """Heading of a panel."""
    more = f' <span class="ms-soft">{escape(soft)}</span>' if soft else ""
    st.html(f'<h2 class="ms-section">{escape(title)}{more}</h2>')


def empty(title: str, text: str, command: str | None = None) -> None:
    """An empty state: what is missing and what to do."""
    code = f'<p style="margin:.6rem 0 0"><span class="ms-code">{escape(command)}</span></p>' if command else ""
    lead = f'<p class="ms-lead">{escape(title)}</p>'
    st.html(f'<div class="ms-empty">{lead}<div class="ms-soft">{escape(text)}</div>{code}</div>')


def problem(error: UserError) -> None:
    """What a user can mend, on the page."""
    st.warning(literal(hiding.text(error.what + (f" — {error.do}" if error.do else ""), shown=False)))


def done(act: Callable[[], object]) -> bool:
    """Do it; whether it could be done. Where it could not, what a user can mend is told."""
    try:
        act()
    except UserError as error:
        problem(error)
        return False
    return True


def literal(text: str) -> str:
    """Text as Markdown that shows every character as it is: a file name keeps its underscores."""
    return re.sub(r"([\\`*_\[\]<>$:~|])", r"\\\1", text)


def footer(*ids: str) -> None:
    """Research use and what the page was made from."""
    shown = " · ".join(f"<b>{escape(i)}</b>" for i in ids if i)
    st.html(f'<div class="ms-foot">{RESEARCH}{" · " + shown if shown else ""}</div>')


def table(columns: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> str:
    """HTML of a small table; columns are (heading, is a number); cells are ready HTML. Without any heading it is a list
    of facts: the first cell of each row is what the others are of."""
    head = "".join(_head(c, n) for c, n in columns)
    head = f"<thead><tr>{head}</tr></thead>" if any(c for c, _ in columns) else ""
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=n' if n else ''}>{cell}</td>" for cell, (_, n) in zip(row, columns, strict=True))
        + "</tr>"
        for row in rows
    )
    # What may scroll must be reached by the keyboard: by a link in it, or by itself.
    reach = "" if "<a " in body else ' tabindex="0"'
    return f'<div class="ms-scroll"{reach}><table class="ms-table">{head}<tbody>{body}</tbody></table></div>'


def _head(text: str, number: bool) -> str:
    """One heading; the corner over the names of the rows is an empty cell, not an empty heading."""
    return f"<th scope=col{' class=n' if number else ''}>{escape(text)}</th>" if text else "<td></td>"


def difference(d: queries.Difference, scale: float) -> str:
    """What stands under a difference: its interval and its null, or why there is none."""
    if d.low is None:
        return d.note
    luck = f" · null {format.interval(d.null_low, d.null_high, 2, scale)}" if d.null_low is not None else ""
    return f"{format.interval(d.low, d.high, 2, scale)}{luck}"
