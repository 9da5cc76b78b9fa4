"""What this study found in one sentence, six neurons to look at, what to do next; then the numbers."""

import streamlit as st

from medsae.ui import advice, links, located_parts, look, overview_parts, statistics_panels, terms, unfinished
from medsae.ui import study as studies

PAGE = {"title": "Overview", "place": 10}
WIDE = 1.4
"""From this size of text on (see `links.scale`: a 4K screen) the panels stand in two columns of their own."""

study, scores, cohort = studies.ready()
look.heading("What do these neurons encode?", studies.cohort_title(cohort))
overview_parts.in_words(study, scores)
advice.show(study.parent(scores, "sae"))
if study.state == "partial":
    unfinished.alone(study, scores)
with st.container(border=True):
    overview_parts.neurons(study, scores, cohort)
overview_parts.first_steps(study, scores)
wide = links.scale() >= WIDE
if wide:
    first, second = st.columns(2, gap="medium")
else:
    first = second = st.container()
with first, st.container(border=True):
    overview_parts.best_of_labels(study, scores)
with second:
    overview_parts.figures(study, scores)
    left, right = st.columns([3, 2], gap="medium") if not wide else (st.container(), st.container())
    with left, st.container(border=True):
        statistics_panels.measures(study, scores)
    if study.versus:
        with left, st.container(border=True):
            statistics_panels.difference(study, scores)
facts, steps = (first, second) if wide else (right, right)
with facts, st.container(border=True):
    overview_parts.cohort_facts(study, scores, cohort)
with steps, st.container(border=True):
    overview_parts.steps(study, scores, cohort)
    overview_parts.report(study, scores)
with st.container(border=True):
    overview_parts.names(study, scores)
overview_parts.planted(study, scores)
located_parts.overview(study, scores)
terms.explain(
    "neuron",
    "SAE",
    "raw",
    "correlation, rho",
    "interval",
    "AUROC",
    "entropy",
    "null",
    "selective",
    "dead",
    "L0",
    "FVE",
    "before the cut",
    "protocol",
)
studies.foot(cohort.id)
