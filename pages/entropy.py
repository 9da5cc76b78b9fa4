"""Is a neuron about one thing? Entropy of both representations over each other, beside shuffled labels."""

import streamlit as st

from medsae.ui import entropy_parts, links, look, terms
from medsae.ui import study as studies

PAGE = {"title": "Entropy", "place": 20}

study, scores, cohort = studies.ready()
chosen = links.filter_of_url()
look.heading(
    "Is a neuron about one thing?",
    f"entropy of its correlations over {study.k} labels: 0 is one label, {study.maximum_bits * study.scale:.2f} is "
    "all alike",
)
entropy_parts.means(study, scores)
terms.explain("entropy", "null", "interval", "selective", "raw", "SAE")
with st.container(border=True):
    view, base = entropy_parts.controls(study, cohort, chosen)
    if view == "label":
        entropy_parts.by_label(study, scores, base)
    else:
        entropy_parts.histogram(study, scores, base, chosen, view)
entropy_parts.listed(study, scores, cohort, base, chosen)
studies.foot()
