"""The picture viewer: one radiograph large, or two side by side, with zoom, window, level, invert; keyboard and mouse.

`dialog` opens over the page (the URL says which picture, closing is a link back), `inline` stands in a page. The
window is a linear map of grey values done by the browser's own filter, so it costs nothing on the server.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2 import component

_HTML = '<div class="root"></div>'
_HERE = Path(__file__)
_viewer = component(
    "medsae_viewer",
    html=_HTML,
    css=_HERE.with_suffix(".css").read_text(),
    js=_HERE.with_suffix(".js").read_text(),
)


def draw(key: str, data: dict[str, Any] | None, named: Callable[[str], None] | None = None) -> None:
    """Mount the viewer. Keys of `data`: image, src (data URI), alt, title, what, facts [(name, value)], neurons
    [{href, text, value}], page, close (links or None; with `close` it is a dialog); optionally name,
    steps (links of the pictures in their order) with at (the place of this one), side [(text, link, key)], called (what
    people call the neuron), beside {src, alt, title, said}: a second picture that
    moves with the first, over (data URI) with over_said and mapped: a map over the first picture, shown at once or not
    (asked: what the reader chose; another one than before is shown at once).
    None: closed.

    named: called with the name that the reader gave inside the viewer. Everything is put into the page as text, never
    as HTML.
    """

    def told() -> None:
        if named is not None:
            named(str(st.session_state[key]["named"] or ""))

    _viewer(key=key, data=data or {"image": None}, height="content", on_named_change=told)
