"""A neuron in words: the nearest terms of a vocabulary, and neurons found by what they mean."""

from __future__ import annotations

import streamlit as st

from medsae.store import words
from medsae.store.artifacts import Artifact
from medsae.ui import cards, export, format, links, look
from medsae.ui import study as studies
from medsae.ui.study import Study


def neuron(study: Study, scores: Artifact, number: int) -> None:
    """The text lens: terms nearest to what the neuron writes, beside directions drawn at random."""
    look.section("In words", "terms nearest to its direction, by the encoder's text tower")
    why = words.missing(scores)
    if why:
        st.caption(look.literal(f"No words: {why}."))
        return
    frame = words.of_neuron(study.reader, scores, number)
    if frame.empty:
        look.empty("Nothing to show", "Its direction has no length.")
        return
    rows = [
        [look.link(r["term"], links.url("neurons", meaning=r["term"])), format.escape(str(r["kind"])),
         format.number(r["cosine"]), f'<span class="ms-soft">{format.number(r["null_high"])}</span>']
        for r in frame.to_dict("records")
    ]  # fmt: skip
    st.html(look.table([("term", False), ("", False), ("cosine", True), ("random, 95 %", True)], rows))
    p = float(frame["p"].iloc[0])
    said = "nearer to a word than" if p <= 0.05 else "no nearer to a word than"
    st.caption(
        f"Its nearest term: {said} directions drawn at random with the embeddings' spread (p {_small(p)}, whichever "
        "term is nearest to each). A word is where the direction points, not what fires it: look at the images."
    )


def _small(p: float) -> str:
    return "= 0.001" if p <= 0.001 else f"= {p:.3f}"


def search(study: Study, scores: Artifact) -> None:
    """A field, and the neurons whose direction lies nearest to what is written there; or why there can be none."""
    why = words.missing(scores)
    if why:
        if not studies.is_raw(scores):
            st.caption(look.literal(f"No search by meaning: {why}."))
        return
    text = links.text("Meaning", "meaning", "fluid on the left", width=260)
    if not text:
        return
    known = words.terms(study.reader, scores)
    found = words.meant(known, text)
    with st.container(border=True):
        if not found:
            look.empty(
                "No term of the vocabulary says this", "Other words; or a vocabulary of your own (--vocabulary FILE)."
            )
            return
        by = known.set_index("position")
        names = {str(p): str(by["term"][p]) for p in found}
        first = str(found[0])
        chosen = first
        if len(names) > 1:
            chosen = links.choose(st.selectbox, "Understood as", "term", names, first, width=300)
        _nearest(study, scores, int(chosen), names[chosen], float(by["null_high"][int(chosen)]),
                 float(by["null_most"][int(chosen)]))  # fmt: skip


def _nearest(study: Study, scores: Artifact, position: int, term: str, high: float, most: float) -> None:
    look.section(
        f"Neurons nearest to “{term}”", f"random directions: 95 % below {high:.2f}, largest of 1,000 {most:.2f}"
    )
    frame = words.nearest(study.reader, scores, position)
    rows = [
        [look.link(int(r["neuron"]), links.neuron_url(int(r["neuron"]))), cards.name_or_label(study, r),
         format.number(r["cosine"]) + (' <span class="ms-soft">as random ones</span>' if r["cosine"] < high else ""),
         format.percent(r["density"])]
        for r in frame.to_dict("records")
    ]  # fmt: skip
    st.html(look.table([("neuron", True), ("name or label", False), ("cosine", True), ("fires on", True)], rows))
    export.menu({f"Neurons nearest to {term}": lambda: frame}, scores.id)
