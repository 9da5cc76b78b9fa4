"""Two neurons side by side: what fires each, what both follow, and on which radiographs only one of them fires."""

import streamlit as st

from medsae.store import queries
from medsae.ui import export, filters, format, links, look, pair_parts, terms
from medsae.ui import study as studies

PAGE = {"title": "Two neurons", "place": 52}

study, scores, cohort = studies.ready()
last = max(0, int(scores.facts.get("m") or queries.count(study.reader, scores, queries.Filter())) - 1)
first = links.whole("neuron", None, 0, last)
if first is None:
    leads = queries.neurons(study.reader, scores, filters.complete(study, links.filter_of_url()), 1)
    first = int(leads["neuron"].iloc[0]) if len(leads) else 0
known = pair_parts.others(study, scores, first)
second = links.whole("other", None, 0, last)
second = known[0] if second is None else second
links.found(neuron=first, other=second)
rows = [queries.neuron(study.reader, scores, n) for n in (first, second)]
if rows[0] is None or rows[1] is None:
    look.heading("Two neurons")
    look.empty("There is no such neuron", f"These scores have {format.plural(last + 1, 'neuron')}, from 0.")
    studies.foot()
    st.stop()

look.heading(
    f"Neurons {first} and {second}",
    studies.title(study.artifacts, scores),
    tools=[look.chip("⇄ exchange", links.pair_url(second, first), "x", "exchange the sides (x)")],
)
with st.container(horizontal=True, vertical_alignment="bottom"):
    links.text("First neuron", "neuron", str(first), width=120)
    links.text("Second neuron", "other", str(second), width=120)
    st.html(
        f'<span class="ms-soft">neighbours of {first}:</span> '
        + " ".join(look.chip(str(n), links.pair_url(first, n)) for n in known[:8] if n != second)
    )
studies.unit_switch()
terms.explain("neuron", "entropy", "correlation, rho", "interval", "activation", "fires")
pair_parts.common(study, scores, (first, second))
for place, row, tone in zip(st.columns(2, gap="medium"), rows, ("sae", "raw"), strict=True):
    with place, st.container(border=True):
        pair_parts.one(study, scores, cohort, row or {}, tone)
with st.container(border=True):
    frame = pair_parts.profiles(study, scores, (first, second))
if not studies.is_raw(scores):
    pair_parts.fired(study, scores, cohort, (first, second))
export.menu({f"Correlations of neurons {first} and {second}": lambda: frame}, f"{scores.id}, neurons {first}, {second}")
studies.foot(cohort.id)
