"""Neurons x labels: which neuron goes with which finding."""

import streamlit as st

from medsae.store import queries
from medsae.store.artifacts import Artifact
from medsae.store.reader import Frame, Reader
from medsae.ui import cards, correlation_parts, followed_parts, format, links, look, terms
from medsae.ui import study as studies

PAGE = {"title": "Correlations", "place": 30}


@st.cache_data(show_spinner=False, max_entries=8)
def together(_reader: Reader, _scores: Artifact, _cohort: Artifact, key: tuple[str, str, float]) -> Frame:
    """Co-occurrence of labels, counted once for these scores."""
    return queries.cooccurrence(_reader, _scores, _cohort)


study, scores, cohort = studies.ready()
look.heading(
    "Which neuron goes with which finding?",
    "Pearson correlation over images; click a cell to open its neuron",
)
terms.explain("correlation, rho", "interval", "neuron", "selective", "co-occurrence")
labels = [x for x in queries.labels(study.reader, cohort)]
ROWS = {"label": "grouped by label", "rho": "strongest first", "entropy": "lowest entropy", "like": "alike together"}
with st.container(horizontal=True, vertical_alignment="bottom"):
    order = links.choose(st.selectbox, "Order of neurons", "rows", ROWS, "label", width=180)
    top = int(links.choose(st.segmented_control, "Neurons shown", "top", ["20", "40", "60", "100"], "40"))
    label = links.choose(st.selectbox, "Following", "label", {"": "any label", **{x: x for x in labels}}, "", width=210)
    both = links.switch("Both representations", "beside", False) if study.versus else False

filter = queries.Filter(show="defined", label=label or None, sort="entropy" if order == "entropy" else "-rho")
shown = [scores, study.versus] if both and study.versus else [scores]
for place, each in zip(st.columns(len(shown), gap="medium"), shown, strict=True):
    frame = queries.heat_map(study.reader, each, filter, top)
    with place, st.container(border=True):
        total = queries.count(study.reader, each, filter)
        look.section(
            studies.title(study.artifacts, each),
            f"{frame['neuron'].nunique()} of {format.plural(total, 'neuron')}",
        )
        if frame.empty:
            look.empty(
                "No correlation is defined", "Every neuron is silent, or every label is constant over these images."
            )
            continue
        kept = [x for x in labels if x in set(frame["label"][frame["rho"].notna()])]
        kept = sorted(kept, key=lambda x: x in study.scarce)  # too few images: last, with their number
        cards.few_last(queries.few(study.reader, each, filter), total)
        correlation_parts.heat_map(study, each, frame, kept, order)

with st.container(border=True):
    followed_parts.falls(study, scores)
with st.expander("How labels go together"):
    st.caption(
        "Share of the images with the row's label that also carry the column's: "
        "a neuron of one label follows its companions too."
    )
    key = (str(study.store.data), scores.id, scores.manifest["created"])
    correlation_parts.square(study, together(study.reader, scores, cohort, key), labels)
studies.foot()
