"""The map of neurons: directions that are alike lie side by side; what is drawn around becomes a gallery."""

import streamlit as st

from medsae.store import neuron_map, queries
from medsae.ui import cards, filters, format, links, look, map_parts, terms
from medsae.ui import study as studies

PAGE = {"title": "Map", "place": 45}

study, scores, cohort = studies.ready()
look.heading("Map of neurons", studies.title(study.artifacts, scores))
terms.explain("neuron", "entropy", "selective", "density", "correlation, rho", "name")
places = None if studies.is_raw(scores) else neuron_map.places(study.reader, scores)
if places is None or places.empty:
    map_parts.none(study, scores, places)
    studies.foot()
    st.stop()

chosen = filters.bar(study, scores, cohort, "map")
colour = links.choose(st.segmented_control, "Coloured by", "colour", map_parts.COLOURS, "label")
passing = {int(n) for n in queries.neurons(study.reader, scores, chosen, None)["neuron"]}
map_parts.draw(study, scores, places, colour, passing)
rows = queries.neurons(study.reader, scores, chosen, cards.A_PAGE)
here = (*links.STUDY, *links.FILTER)
with st.container(horizontal=True, vertical_alignment="center"):
    few = f"the first {len(rows)} of them" if len(passing) > len(rows) else ""
    look.section(format.plural(len(passing), "neuron"), few)
    st.html(look.chip("open in the gallery", links.url("neurons", here)))
cards.show(cards.neuron_cards(study, scores, cohort, rows) if len(rows) else "")
st.caption(
    f"{format.plural(len(places), 'neuron')} that fire on a scored image, laid out by t-SNE of their decoder "
    "directions. Which ones lie together means something; how far groups are apart, and how large, does not."
)
studies.foot()
