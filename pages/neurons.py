"""The gallery of neurons: sort, filter, search, page."""

import math

import streamlit as st

from medsae.store import queries
from medsae.ui import cards, export, filters, format, links, look, picking, terms, word_parts
from medsae.ui import study as studies

PAGE = {"title": "Neurons", "place": 40}

study, scores, cohort = studies.ready()
here = (*links.STUDY, *links.FILTER)
look.heading("Neurons", studies.title(study.artifacts, scores))
terms.explain("neuron", "entropy", "selective", "density", "dead", "correlation, rho")
chosen = filters.bar(study, scores, cohort)
word_parts.search(study, scores)
total = queries.count(study.reader, scores, chosen)
pages = max(1, math.ceil(total / cards.A_PAGE))
page = min(pages, links.whole("page", 1, 1) or 1)
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    look.section(format.plural(total, "neuron"), f"page {page} of {pages}" if pages > 1 else "")
    if total:
        st.html(
            look.chip(
                "←", links.url("neurons", here, page=page - 1) if page > 1 else None, "ArrowLeft", "previous page"
            )
            + " "
            + look.chip(
                "→", links.url("neurons", here, page=page + 1) if page < pages else None, "ArrowRight", "next page"
            )
        )
        export.menu(
            {
                "Neurons of this filter": lambda: filters.with_people(
                    study, queries.neurons(study.reader, scores, chosen, None)
                ).assign(name=lambda f: [study.names.get(int(n), "") for n in f["neuron"]])
            },
            scores.id,
        )
if total:
    cards.few_last(queries.few(study.reader, scores, chosen), total)
    rows = queries.neurons(study.reader, scores, chosen, cards.A_PAGE, cards.A_PAGE * (page - 1))
    picking.tools(study, scores, [int(n) for n in rows["neuron"]])
    cards.show(cards.neuron_cards(study, scores, cohort, rows, boxes=True))
    picking.boxes(scores)
    links.pager(pages)
else:
    look.empty("No neuron passes the filter", "Loosen it: fewer conditions, wider ranges, another label.")
    st.html(look.chip("clear the filter", links.url("neurons"), "Escape"))
studies.foot()
