"""What people say of neurons: a name of their own, a star, agree or disagree, tags and a text; saved at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from medsae.progress import UserError
from medsae.store.artifacts import Artifact
from medsae.store.notes import Note, Notes, representation
from medsae.ui import format, login, look
from medsae.ui.study import Study

LONGEST_NAME = 120
"""Signs of a name that a person gives."""


def change(study: Study, scores: Artifact, neurons: Sequence[int], how: Callable[[Note], Note]) -> None:
    """Change people's notes of neurons in the name of who is signed in; for callbacks: `unsaved` of the run that
    follows says what went wrong."""
    try:
        Notes(study.store, representation(scores)).change(neurons, lambda note: _signed(note, how(note)))
    except UserError as error:
        st.session_state["_unsaved"] = error


def _signed(before: Note, after: Note) -> Note:
    """A changed note carries the name of who changed it."""
    return after if after == before else replace(after, by=login.name())


def unsaved() -> None:
    """Say what kept the last change from being saved."""
    problem = st.session_state.pop("_unsaved", None)
    if problem is not None:
        look.problem(problem)


def call(study: Study, scores: Artifact, number: int, text: object) -> None:
    """Keep what a person calls a neuron; an empty text takes the name back."""
    called = " ".join(str(text or "").split())[:LONGEST_NAME]
    change(study, scores, [number], lambda note: replace(note, called=called))


def judgement(study: Study, scores: Artifact, number: int) -> None:
    """Star and verdict on the name, each one key and saved at once: a reader goes through neurons without the mouse."""
    known = study.notes.get(number, Note(number))
    name = study.names.get(number, "")

    def keep(**values: Any) -> None:
        change(study, scores, [number], lambda note: replace(note, **values))

    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="_judgement"):
        st.button(
            "★ starred" if known.star else "☆ star",
            key=f"_star-{scores.id}-{number}",
            shortcut="s",
            type="primary" if known.star else "secondary",
            on_click=lambda: keep(star=not known.star),
        )
        for verdict, key in (("agree", "a"), ("disagree", "d")):
            on = known.verdict == verdict and known.name == name
            st.button(
                verdict,
                key=f"_{verdict}-{scores.id}-{number}",
                shortcut=key,
                type="primary" if on else "secondary",
                disabled=not name,
                help=None if name else "There is no name to judge yet.",
                on_click=lambda verdict=verdict, on=on: keep(verdict="" if on else verdict, name=name),
            )
    field = f"_called-{scores.id}-{number}"
    st.session_state[field] = known.called
    st.text_input(
        "Your name for it",
        key=field,
        placeholder="what you would call it",
        max_chars=LONGEST_NAME,
        on_change=lambda: call(study, scores, number, st.session_state[field]),
    )
    unsaved()
    if known.verdict and known.name != name:
        who = known.by or "You"
        st.caption(format.escape(f"{who} said “{known.verdict}” to another name: {known.name}"))


def tags_of(text: str) -> tuple[str, ...]:
    """The tags in a text with commas between them."""
    return tuple(dict.fromkeys(t.strip() for t in text.split(",") if t.strip()))


def note(study: Study, scores: Artifact, number: int) -> None:
    """Tags and text; saved when the button is pressed, kept for ever."""
    known = study.notes.get(number, Note(number))
    look.section("Your note", f"last by {known.by}" if known.by else "no new run loses it")
    with st.form(f"note-{scores.id}-{number}", border=False):
        tags = st.text_input("Tags", ", ".join(known.tags), placeholder="artefact, left, pacemaker")
        text = st.text_area("Text", known.text, height=80)
        if st.form_submit_button("Save"):
            words = tags_of(tags)
            change(study, scores, [number], lambda note: replace(note, tags=words, text=text.strip()))
            st.rerun()
    if known.time:
        st.caption(f"saved {time.strftime('%Y-%m-%d %H:%M', time.localtime(known.time))}")
