"""A picture of your own: which neurons fire on it, where, and how far it lies from the training images."""

import streamlit as st

from medsae.ui import look, own_parts
from medsae.ui import study as studies

PAGE = {"title": "Own picture", "place": 65}

study, scores, cohort = studies.ready()
look.heading("Own picture", studies.title(study.artifacts, scores))
st.caption(
    "JPEG, PNG, TIFF or DICOM, through the decoder, the encoder and the SAE of the cohort. The picture stays on this "
    "machine, is not kept, and nothing of a DICOM header is shown; what is burned into the pixels is."
)
if not own_parts.service(study, scores):
    studies.foot(cohort.id)
    st.stop()
found = own_parts.asked(study, scores)
if found is not None:
    own_parts.verdict(found)
    left, right = st.columns([13, 7], gap="medium")
    with left, st.container(border=True):
        own_parts.neurons(study, found, own_parts.switch())
    with right, st.container(border=True):
        own_parts.nearest(study, cohort, found)
studies.foot(cohort.id)
