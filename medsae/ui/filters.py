"""The filter of neurons: its controls, and what people and models add to it (stars, names)."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from medsae.store import followed, neuron_map, queries
from medsae.store.artifacts import Artifact
from medsae.store.reader import Frame
from medsae.ui import links, look
from medsae.ui import study as studies
from medsae.ui.study import Study

SHOW = {
    "all": "all",
    "defined": "defined",
    "selective": "selective",
    "named": "named by a model",
    "called": "named by you",
    "unjudged": "named, not judged",
    "agree": "you agreed",
    "disagree": "you disagreed",
    "starred": "starred",
    "dead": "silent or undefined",
}
ORDER = {
    "q": "most selective",
    "entropy": "lowest entropy",
    "-entropy": "highest entropy",
    "-rho": "strongest ρ",
    "-density": "most active",
    "density": "least active",
    "-fall": "falls most given attributes",
    "neuron": "number",
    "name": "name, A to Z",
}
DENSITY = {"": "any", "0.0001": "0.01 %", "0.001": "0.1 %", "0.01": "1 %", "0.05": "5 %", "0.2": "20 %"}
RHO = {"": "any", "0.1": "0.1", "0.2": "0.2 (published filter)", "0.3": "0.3", "0.5": "0.5"}


def complete(study: Study, chosen: queries.Filter) -> queries.Filter:
    """The filter with what is not in the tables: stars, names, and the text that is searched."""
    if chosen.sort == "-fall" and study.scores is not None and not followed.has(study.reader, study.scores):
        st.warning("What is left given attributes was not computed then: the order is another.")
        chosen = replace(chosen, sort=links.DEFAULT_SORT)
    ids: set[int] | None = None
    if chosen.show == "starred":
        ids = {n for n, note in study.notes.items() if note.star}
    if chosen.show == "named":
        ids = set(study.names)
    if chosen.show == "called":
        ids = set(study.called)
    if chosen.show == "unjudged":
        ids = {n for n, name in study.names.items() if not _judged(study, n, name)}
    if chosen.show in ("agree", "disagree"):
        ids = {n for n, note in study.notes.items() if note.verdict == chosen.show}
    if chosen.search:
        words = chosen.search.lower()
        found = {n for n, name in study.names.items() if words in name.lower()}
        found |= {
            n for n, note in study.notes.items() if words in f"{note.called} {note.text} {' '.join(note.tags)}".lower()
        }
        found |= {int(words)} if words.isascii() and words.isdigit() and len(words) < 10 else set()
        ids = found if ids is None else ids & found
    if chosen.sort == "name":
        known = sorted(study.shown_names, key=lambda n: (study.shown_names[n].casefold(), n))
        chosen = replace(chosen, by_name=tuple(known))
    return chosen.among(ids).among(in_area(study))


def in_area(study: Study) -> set[int] | None:
    """The neurons within the area of the map that the address names; None where it names none."""
    area = st.query_params.get("area")
    if area is None or study.scores is None:
        return None
    corners, places = neuron_map.corners(area), neuron_map.places(study.reader, study.scores)
    if corners is None or places is None:
        st.warning("The link names an area of a map that cannot be used: it is left out.")
        return None
    return neuron_map.inside(places, corners)


def _judged(study: Study, neuron: int, name: str) -> bool:
    """Whether somebody said agree or disagree to this very name."""
    note = study.notes.get(neuron)
    return note is not None and bool(note.verdict) and note.name == name


def bar(study: Study, scores: Artifact, cohort: Artifact, page: str = "neurons") -> queries.Filter:
    """Draw the controls and give the complete filter; `page`: where they stand."""
    known = queries.labels(study.reader, cohort)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        links.choose(st.selectbox, "Show", "show", SHOW, "all", resets=("page",), width=150)
        links.choose(st.selectbox, "Order", "sort", ORDER, links.DEFAULT_SORT, resets=("page",), width=165)
        links.choose(
            st.selectbox, "Following", "label", {"": "any label", **{x: x for x in known}}, "", ("page",), width=200
        )
        links.text("Search", "q", "name, note, tag or number", resets=("page",), width=210)
        studies.unit_switch()
        ranges = [p for p in ("lo", "hi", "dlo", "dhi", "rho") if p in st.query_params]
        with st.popover(f"Ranges ({len(ranges)})" if ranges else "Ranges"):
            top = round(study.maximum_bits * study.scale, 2)
            links.bounds(f"Entropy ({study.unit_name})", "lo", "hi", 0.0, top, study.scale, resets=("page",))
            links.choose(st.selectbox, "Fires on at least", "dlo", DENSITY, "", resets=("page",))
            links.choose(st.selectbox, "Fires on at most", "dhi", DENSITY, "", resets=("page",))
            links.choose(st.selectbox, "Strongest |ρ| at least", "rho", RHO, "", resets=("page",))
    if "area" in st.query_params:
        out = links.url(page, (*links.STUDY, *(p for p in links.FILTER if p != "area")))
        st.html(look.chip("within an area of the map ✕", out, "", "leave the area"))
    return complete(study, links.filter_of_url())


def with_people(study: Study, frame: Frame) -> Frame:
    """Rows with a column `neuron`, and beside them people's notes: called, star, tags, verdict, note."""
    notes = [study.notes.get(int(n)) for n in frame["neuron"]]
    return frame.assign(
        called=[n.called if n else "" for n in notes],
        star=[bool(n and n.star) for n in notes],
        tags=[", ".join(n.tags) if n else "" for n in notes],
        verdict=[n.verdict if n else "" for n in notes],
        note=[n.text if n else "" for n in notes],
    )
