"""A reading: the detection test of names done by people, blind to the neuron, to the model and to each other."""

import streamlit as st

from medsae.reading import plan
from medsae.store.readings import Readings
from medsae.ui import links, login, look, reading_parts, terms
from medsae.ui import study as studies

PAGE = {"title": "Read", "place": 75}

study = studies.current()
readings = Readings(study.store)
found = reading_parts.choices(study, readings)
if not found:
    studies.ready()  # without scores there is something else to do first
look.heading("Read", "the detection test of names, done by people")
if not found:
    reading_parts.none(study)
    studies.foot()
    st.stop()

first = next(iter(found))
with st.container(horizontal=True, vertical_alignment="bottom"):
    shown = {id: reading_parts.title(one) for id, one in found.items()}
    reading = found[links.choose(st.selectbox, "Reading", "reading", shown, first, ("page",))]
    who = reading_parts.who(readings, login.name())
    tab = links.choose(st.segmented_control, "View", "tab", {"read": "read", "results": "results"}, "read")
links.found(reading=reading.id)
cohort = reading_parts.what_is_gone(study, reading)
if tab == "read" and cohort is not None:
    if who:
        reading_parts.desk(study, readings, reading, who, cohort)
    else:
        names = ", ".join(reading.readers) or "anybody"
        look.empty("Who reads?", f"Give your name above. This reading is for: {names}. You can stop at any time and go "
                   "on later, here or on another machine of this server.")  # fmt: skip
else:
    reading, stands = plan.opened(readings, reading.id)
    reading_parts.progress(readings, reading, stands)
    if reading_parts.unfinished(reading, stands, who):
        look.empty("Not before you have finished", f"{who} has images left to answer, and stays blind until then. "
                   "Whoever planned the reading sees its results without a name above.")  # fmt: skip
    elif any(one.answers for one in stands.values()):
        reading_parts.outcome(study, reading, stands, cohort)
    else:
        look.empty("No answer yet", "Send the readers the address of this page.")
terms.explain("name", "detection", "verdict", "interval")
studies.foot(reading.id)
