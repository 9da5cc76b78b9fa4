"""One radiograph of the cohort: which neurons fire on it, how strongly, and which pictures have the same code."""

import streamlit as st

from medsae.store import queries, query_images
from medsae.ui import cards, effect_parts, export, format, links, look, seen_parts, terms, view_image, viewer
from medsae.ui import study as studies

PAGE = {"title": "Image", "place": 60}

study, scores, cohort = studies.ready()
last = int(cohort.facts.get("n") or 0) - 1
image = links.whole("image", None, 0)
if image is None:
    # Nobody asked for one: the strongest image of the neuron that leads the list, else the first.
    leads = queries.neurons(study.reader, scores, queries.Filter(sort="q", least=links.least()), 1)
    strongest = query_images.top_images(study.reader, scores, [int(n) for n in leads["neuron"]], 1)["image"]
    image = int(strongest.iloc[0]) if len(strongest) else query_images.first_image(study.reader, scores)
    links.found(image=image)
data = None if image is None else view_image.data(study, scores, cohort, image)
if image is None or data is None:
    look.heading("Image")
    look.empty("There is no such image", f"This cohort has {format.plural(last + 1, 'image')}; the link names {image}.")
    studies.foot(cohort.id)
    st.stop()

before, after = query_images.beside(study.reader, scores, image)
look.heading(
    f"Image {image}",
    studies.cohort_title(cohort),
    tools=[
        look.chip("←", None if before is None else links.url("image", image=before), "ArrowLeft", "previous image"),
        look.chip("→", None if after is None else links.url("image", image=after), "ArrowRight", "next image"),
    ],
)
terms.explain("neuron", "activation", "fires", "density", "entropy")
scored = query_images.is_scored(study.reader, scores, image)
seen = links.whole("seen")
viewer.draw("viewer", {**data, "neurons": [], **seen_parts.large(study, scores, cohort, image, seen)})
if not scored:
    view_image.not_scored(study, scores, cohort, image)
    studies.foot(cohort.id)
    st.stop()
fires = query_images.firing(study.reader, scores, image, 200)
if not fires.empty:
    with st.container(border=True):
        seen_parts.panel(study, scores, cohort, image, fires)
left, right = st.columns([1, 1], gap="medium")
with left, st.container(border=True):
    look.section("Neurons that fire here", f"{len(fires)}, strongest share of their own maximum first")
    if fires.empty:
        look.empty("Nothing to list", "No neuron fires on it.")
    else:
        rows = [
            [
                look.link(int(r["neuron"]), links.url("neuron", neuron=int(r["neuron"]))),
                cards.name_or_label(study, r),
                format.number(r["value"]),
                format.percent(r["share"], 0),
                cards.entropy_text(study, r),
                format.percent(r["density"]),
            ]
            for r in fires.head(40).to_dict("records")
        ]
        columns = [
            ("neuron", True),
            ("name or label", False),
            ("activation", True),
            ("of max", True),
            ("entropy", True),
        ]
        st.html(look.table([*columns, ("fires on", True)], rows))
        export.menu({f"Neurons of image {image}": lambda: fires}, scores.id)
with right, st.container(border=True):
    effect_parts.image(study, scores, image)
with right, st.container(border=True):
    look.section("Other patients' pictures with the same code", "cosine of neuron activations")
    if studies.is_raw(scores):
        look.empty(
            "Only for a sparse representation", "Choose an SAE at the left: of a raw embedding only extremes are kept."
        )
    else:
        alike = query_images.similar(study.reader, scores, cohort, image)
        if alike.empty:
            look.empty("No picture is like it", "No neuron that fires here fires on another patient's picture.")
        else:
            cards.show(cards.grid(study, cohort, alike, lambda i: links.url("image", image=i), 110))
studies.foot(cohort.id)
