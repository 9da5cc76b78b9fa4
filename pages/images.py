"""The search of images: by label, attribute, view, sex, age, split, and by the neurons that fire on them."""

import math

import streamlit as st

from medsae.store import find_images
from medsae.ui import cards, export, format, image_filters, links, look, terms, view_image, viewer
from medsae.ui import study as studies

PAGE = {"title": "Images", "place": 55}

study, scores, cohort = studies.ready()
here = (*links.STUDY, *image_filters.PARAMETERS)
look.heading("Images", studies.cohort_title(cohort))
terms.explain("fires", "activation", "neuron")
search = image_filters.bar(study, scores, cohort)
page = links.whole("page", 1, 1) or 1
found = find_images.find(study.reader, scores, cohort, search, cards.MOST, cards.MOST * (page - 1))
pages = max(1, math.ceil(found.total / cards.MOST))
if page > pages:
    page = pages
    found = find_images.find(study.reader, scores, cohort, search, cards.MOST, cards.MOST * (page - 1))
at = [int(i) for i in found.rows["image"]]
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    asked = "" if search.neurons is None else f"{format.plural(len(search.neurons), 'neuron')} asked for"
    where = f"page {page} of {pages}" if pages > 1 else ""
    look.section(format.plural(found.total, "image"), " · ".join(filter(None, [where, asked])))
    if found.total:
        back = links.url("images", here, page=page - 1) if page > 1 else None
        forth = links.url("images", here, page=page + 1) if page < pages else None
        st.html(
            look.chip("←", back, "ArrowLeft", "previous page")
            + " "
            + look.chip("→", forth, "ArrowRight", "next page")
            + " "
            + look.chip("clear", links.url("images"), "", "ask for nothing")
        )
        export.menu(
            {"Images of this search": lambda: view_image.table(study, scores, cohort, search)},
            scores.id,
        )
if found.total:
    rows = found.rows.rename(columns={"strength": "value"})
    rows = rows if search.neurons is not None else rows.drop(columns="value")
    words = image_filters.strongest(rows)
    cards.show(cards.grid(study, cohort, rows, lambda i: links.url("images", (*here, "page"), view=i), words=words))
    if search.neurons is not None:
        st.caption("The number is the largest share of its own maximum that one of these neurons reaches on the image.")
    links.pager(pages)
else:
    look.empty("No image passes the search", "Ask for less: fewer labels, wider ranges, another text.")
    st.html(look.chip("clear the search", links.url("images"), "Escape"))
studies.foot(cohort.id)

view = links.whole("view")
back_here = links.url("images", (*here, "page"))
data = (
    None
    if view is None
    else view_image.data(
        study, scores, cohort, view, back_here, at, links.url("image", image=view), ("images", (*here, "page"))
    )
)
viewer.draw("viewer", data)
if view is not None and data is None:
    st.warning(f"The link asks for image {view}, which this cohort does not have.")
