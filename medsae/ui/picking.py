"""Many neurons at once: the boxes on the cards of the gallery, and what can be done with those that are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import streamlit as st
from streamlit.components.v2 import component

from medsae.store.artifacts import Artifact
from medsae.ui import format, job_words, judging, links, look, naming_panel
from medsae.ui.study import Study

_boxes = component("medsae_picking", js=Path(__file__).with_suffix(".js").read_text(), isolate_styles=False)
_COMPONENT = "picking"


def chosen(scores: Artifact) -> list[int]:
    """The neurons of these scores that the reader has chosen, in the order of choosing."""
    return st.session_state.get(_key(scores), [])


def _key(scores: Artifact) -> str:
    return f"_chosen-{scores.id}"


def boxes(scores: Artifact) -> None:
    """Make the boxes of the cards on this page work; after the cards."""

    def changed() -> None:
        found = getattr(st.session_state.get(_COMPONENT), "chosen", None) or []
        st.session_state[_key(scores)] = [n for n in found if isinstance(n, int) and 0 <= n <= links.LARGEST]

    data = {"chosen": chosen(scores), "of": scores.id}
    _boxes(key=_COMPONENT, data=data, height="content", on_chosen_change=changed)


def tools(study: Study, scores: Artifact, page: Sequence[int]) -> None:
    """What can be done with the chosen neurons: star, tag, name as one job, look at two side by side. `page`: the
    neurons of this page of the gallery."""
    mine = chosen(scores)
    judging.unsaved()
    if not mine:
        st.caption(
            "Choose neurons by the box on their card, several with shift and a click, to star, tag or name them."
        )
        return
    with st.container(horizontal=True, vertical_alignment="center", key="_picked"):
        look.section(f"{format.plural(len(mine), 'neuron')} chosen")
        _star(study, scores, mine)
        with st.popover("tag"):
            _tag(study, scores, mine)
        with st.popover("name"):
            _name(scores, mine)
        if len(mine) == 2:
            st.html(look.chip("side by side", links.pair_url(*mine)))
        if not set(page) <= set(mine):
            st.button("choose this page", on_click=_choose, args=(scores, [*dict.fromkeys([*mine, *page])]))
        st.button("choose none", on_click=_choose, args=(scores, []))


def _choose(scores: Artifact, neurons: list[int]) -> None:
    st.session_state[_key(scores)] = neurons


def _star(study: Study, scores: Artifact, mine: list[int]) -> None:
    """Star them all; where all have a star, take it from them."""
    on = not all((note := study.notes.get(n)) is not None and note.star for n in mine)

    def press() -> None:
        judging.change(study, scores, mine, lambda note: replace(note, star=on))

    st.button("☆ star" if on else "★ take the star away", on_click=press)


def _tag(study: Study, scores: Artifact, mine: list[int]) -> None:
    """Give every chosen neuron a tag, or take one away that some have."""
    known = sorted({tag for n in mine if n in study.notes for tag in study.notes[n].tags})

    def add() -> None:
        words = judging.tags_of(st.session_state["_tag-new"])
        st.session_state["_tag-new"] = ""
        judging.change(study, scores, mine, lambda note: replace(note, tags=tuple(dict.fromkeys([*note.tags, *words]))))

    def drop(tag: str) -> None:
        judging.change(study, scores, mine, lambda note: replace(note, tags=tuple(t for t in note.tags if t != tag)))

    st.text_input("Tags for all of them", key="_tag-new", placeholder="artefact, left", max_chars=200)
    st.button("Add", on_click=add, type="primary")
    for tag in known[:12]:
        st.button(f"take away: {format.shortened(tag, 30)}", key=f"_untag-{tag}", on_click=drop, args=(tag,))


def _name(scores: Artifact, mine: list[int]) -> None:
    """Name them all by one job, asked as the panel of a neuron's page asks."""
    config = naming_panel.chosen(scores)
    if config is None:
        return
    if st.button(f"Name {format.plural(len(mine), 'neuron')}", type="primary", key="_name-many"):
        wanted = ",".join(str(n) for n in sorted(mine))
        job_words.begin(lambda: job_words.jobs().start(replace(config, watch=False, neurons=wanted)))
    st.caption("One job; what has a name from the same question already is not asked again.")
