"""Housekeeping on the Runs page: names, descriptions, the archive, the trash, the disk."""

from __future__ import annotations

from typing import Any

import streamlit as st

from medsae.store import housekeeping
from medsae.store.artifacts import KINDS, Artifact
from medsae.ui import format, links, look
from medsae.ui import study as studies
from medsae.ui.study import Study


def name(study: Study, artifact: Artifact) -> None:
    """What people call an artifact, and whether choosers show it."""
    card = housekeeping.of(artifact)
    with st.form(f"card-{artifact.id}", border=False):
        title = st.text_input("Title", card.title, max_chars=housekeeping.LONGEST, placeholder="as choosers call it")
        about = st.text_area("Description", card.about, height=80)
        archived = st.toggle("Archived", card.archived, help="Kept, and left out of the choosers at the left.")
        if st.form_submit_button("Save"):
            _do(lambda: housekeeping.describe(study.store, artifact.id, title=title, about=about, archived=archived))


def remove(study: Study, artifact: Artifact) -> None:
    """Move an artifact to the trash; what was made from it is named first."""
    more = housekeeping.dependents(study.store, artifact.id)
    with st.popover("Move to trash", type="tertiary"):
        if more:
            st.markdown(f"{format.plural(len(more), 'artifact')} made from it would go too:")
            st.html(look.table([("", False)], [[look.escape(a.id)] for a in more]))
        st.caption("It can be taken out of the trash until the trash is emptied. Notes of people stay.")
        word = f"Move {len(more) + 1} artifacts" if more else "Move to trash"
        pressed = st.button(word, key=f"_rm-{artifact.id}")
    if pressed and _do(lambda: housekeeping.remove(study.store, [artifact.id], with_dependents=True), rerun=False):
        links.go(links.url("runs", (), tab="trash"))


def remove_job(study: Study, id: str) -> None:
    """Move a job with its log to the trash."""
    pressed = st.button("Move to trash", key=f"_rm-{id}", type="tertiary")
    if pressed and _do(lambda: housekeeping.remove(study.store, [id]), rerun=False):
        links.go(links.url("runs", tab="jobs"))


def trash(study: Study) -> None:
    """What was removed: take it back, or remove it for good."""
    rubbish = housekeeping.trash(study.store)
    with st.container(border=True):
        look.section("Trash", format.size(sum(r.bytes for r in rubbish)))
        if not rubbish:
            look.empty("The trash is empty", "What is moved here from an artifact's or a job's page can be taken back.")
            return
        for each in rubbish:
            with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
                st.markdown(f"{each.kind} · **{look.literal(each.id)}** · {format.size(each.bytes)}")
                if each.kind != housekeeping.NAMES and st.button("Take back", key=f"_back-{each.kind}-{each.id}"):
                    _do(lambda id=each.id: housekeeping.restore(study.store, id))
        if study.store.remote:
            st.caption("This empties the trash of this machine; in the bucket it lies until `medsae gc --yes`.")
        sure = st.toggle("I want to remove all of it for good", key="_sure")
        if st.button("Empty the trash", disabled=not sure):
            _do(lambda: housekeeping.discard(rubbish))


def disk(study: Study) -> None:
    """How much of the disk each kind takes."""
    used = housekeeping.disk(study.store)
    parts = [f"{kind} {format.size(used[kind])}" for kind in (*KINDS, housekeeping.NAMES, "trash") if used[kind]]
    st.caption(" · ".join([*parts, f"{format.size(used['free'])} free on the disk"]))
    if study.store.remote:
        said = f"Shared in {study.store.remote.url}: above is what this machine has fetched of it."
        st.caption(look.literal(f"{said} Jobs are of this machine alone."))


def _do(act: Any, rerun: bool = True) -> bool:
    """`look.done`, and the lists of artifacts are read again."""
    if not look.done(act):
        return False
    studies.forget_scan()
    if rerun:
        st.rerun()
    return True
