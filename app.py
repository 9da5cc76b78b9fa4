"""MedSAE Explorer: navigation, and the sidebar's choosers. Run with `streamlit run app.py`."""

import streamlit as st

from medsae.ui import links, look, study

PAGES = {
    "overview": "Overview",
    "entropy": "Entropy",
    "correlations": "Correlations",
    "neuron": "Neuron",
}

st.set_page_config(page_title="MedSAE Explorer", page_icon=str(look.ICON), layout="wide")
look.stylesheet()
links.router()
pages = [
    st.Page(f"pages/{name}.py", title=title, url_path=name, default=name == "overview") for name, title in PAGES.items()
]
page = st.navigation(pages, position="hidden")
with st.sidebar:
    st.html('<div class="ms-brand">MedSAE Explorer</div>')
    for each in pages:
        st.page_link(each, query_params=links.parameters(*links.STUDY), width="stretch")
chosen = study.choose()
for problem in chosen.problems:
    look.problem(problem)
page.run()
