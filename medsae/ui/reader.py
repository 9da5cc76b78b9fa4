"""The reader's desk: one image after another, a name beside it, yes, no or cannot tell; keyboard and mouse.

The next images lie in the browser before they are asked for, so one follows the other at once. An answer is told as
kept only when it is on the disk; until then the browser holds it and sends it again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2 import component

_HERE = Path(__file__)
_reader = component(
    "medsae_reader",
    html='<div class="root"></div>',
    css=_HERE.with_suffix(".css").read_text(),
    js=_HERE.with_suffix(".js").read_text(),
)


def received(key: str) -> list[dict[str, Any]]:
    """What the browser has answered and not yet been told that it is kept; anything may stand in it."""
    found = getattr(st.session_state.get(key), "answers", None)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def draw(key: str, data: dict[str, Any]) -> None:
    """Mount the desk. Keys of `data`: place (of this reader's answers), question, items [{task, image, name, about,
    src or None}], done, total, kept (keys of answers that are on the disk), trouble."""
    _reader(key=key, data=data, height="content", on_answers_change=lambda: None)
