"""Every artifact and every job: what there is, how it was made, what runs; start the next step."""

import streamlit as st

from medsae.ui import keeping_parts, links, look, run_parts
from medsae.ui import study as studies

PAGE = {"title": "Runs", "place": 90}

study = studies.current()
VIEWS = {"artifacts": "artifacts", "jobs": "jobs", "start": "start a step", "trash": "trash"}
look.heading("Runs", str(study.store.data) if study.patients else "artifacts, jobs, and the next step")
view = links.choose(st.segmented_control, "Show", "tab", VIEWS, "artifacts", label_visibility="collapsed")
if not study.artifacts and view != "start":
    look.empty("Nothing has been made yet", "Start here, or in a terminal:", "python -m medsae run demo")
if view == "jobs":
    run_parts.chosen_job(study)
run_parts.live(study)
if view == "artifacts":
    run_parts.artifacts(study)
elif view == "jobs":
    run_parts.jobs(study)
elif view == "trash":
    keeping_parts.trash(study)
else:
    run_parts.start(study)
studies.foot()
