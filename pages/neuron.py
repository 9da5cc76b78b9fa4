"""One neuron: the radiographs that fire it, its correlations, how it fires, what else could explain it."""

import streamlit as st

from medsae.store import queries
from medsae.ui import (
    effect_parts,
    filters,
    followed_parts,
    format,
    judging,
    links,
    located_parts,
    look,
    maps,
    neuron_parts,
    planted_pairs_parts,
    statistics_panels,
    terms,
    view_image,
    viewer,
    word_parts,
)
from medsae.ui import study as studies

PAGE = {"title": "Neuron", "place": 50}

study, scores, cohort = studies.ready()
chosen = filters.complete(study, links.filter_of_url())
total = int(scores.facts.get("m") or queries.count(study.reader, scores, queries.Filter()))
number = links.whole("neuron", None, 0, max(0, total - 1))
if number is None:
    first = queries.neurons(study.reader, scores, chosen, 1)
    number = int(first["neuron"].iloc[0]) if len(first) else 0
    links.found(neuron=number)
row = queries.neuron(study.reader, scores, number)
if row is None:
    look.heading(f"Neuron {number}")
    look.empty("There is no such neuron", f"These scores have {format.plural(total, 'neuron')}, from 0.")
    studies.foot()
    st.stop()

neuron, tone = number, study.tone(scores)
neuron_parts.header(study, scores, chosen, row)
neuron_parts.headline(study, row, tone)

terms.explain(
    "entropy",
    "null",
    "q",
    "selective",
    "correlation, rho",
    "interval",
    "activation",
    "fires",
    "name",
    "detection",
    "verdict",
)
left, right = st.columns([13, 7], gap="medium")
with left:
    with st.container(border=True):
        shown = neuron_parts.pictures(study, scores, cohort, row)
    located_parts.localisation(study, scores, number)
    planted_pairs_parts.neuron(study, scores, number)
    neuron_parts.naming(scores, number)
    if not studies.is_raw(scores):
        with st.container(border=True):
            word_parts.neuron(study, scores, number)
        with st.container(border=True):
            effect_parts.neuron(study, scores, number)
        with st.container(border=True):
            followed_parts.closer(study, scores, cohort, number)
        with st.container(border=True):
            neuron_parts.neighbours(study, scores, number)
with right:
    judging.judgement(study, scores, number)
    with st.container(border=True):
        frame = neuron_parts.correlations(study, scores, row)
    with st.container(border=True):
        drawn = neuron_parts.activations(study, scores, cohort, row, frame)
    with st.container(border=True):
        statistics_panels.neuron(study, scores, number)
    with st.container(border=True):
        neuron_parts.confounders(study, scores, cohort, number)
    with st.container(border=True):
        judging.note(study, scores, number)
neuron_parts.exports(study, scores, cohort, row, frame, drawn)
studies.foot(cohort.id)

view = links.whole("view")
back = links.url("neuron", (*links.STUDY, *links.FILTER, "neuron", "which", "one", "by"))
data = (
    None if view is None else view_image.data(study, scores, cohort, view, back, shown, links.url("image", image=view))
)
if data is not None and view is not None:
    data |= view_image.beside(study, scores, cohort, number, view)
    data |= maps.large(study, scores, cohort, number, view) or {}
viewer.draw("viewer", data, lambda text: judging.call(study, scores, neuron, text))
if view is not None and data is None:
    st.warning(f"The link asks for image {view}, which this cohort does not have.")
