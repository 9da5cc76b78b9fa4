"""MedSAE Explorer: navigation, and the sidebar's choosers. `web.py` serves it."""

import os
import sys
from pathlib import Path

import streamlit as st

from medsae.progress import UserError
from medsae.ui import links, login, look
from medsae.ui import pages as declared

HERE = Path(__file__).parent
os.umask(0o077)  # what libraries write is for its owner alone

st.set_page_config(page_title="MedSAE Explorer", page_icon=str(look.ICON), layout="wide")
look.stylesheet()
links.sound()
links.router()
declarations, faulty = declared.found(HERE / "pages")
pages = [
    st.Page(each.file, title=each.title, url_path=each.path, default=not place)
    for place, each in enumerate(declarations)
]
links.first_page_by_name(declarations[0].path)
page = st.navigation(pages, position="hidden")
with st.sidebar:
    st.html('<div class="ms-brand">MedSAE Explorer</div>')
    menu = st.empty()
login.required()


def links_of_menu() -> None:
    """The menu; its links carry the study that is looked at."""
    with menu.container(gap=None):
        for each in pages:
            st.page_link(each, query_params=links.parameters(*links.STUDY), width="stretch")


if "medsae.ui.study" not in sys.modules:
    # Once in a server's life the tables' libraries are imported: the browser draws the frame of the page meanwhile.
    links_of_menu()
from medsae.ui import study  # noqa: E402

chosen = study.choose()
links_of_menu()
for problem in (*faulty, *chosen.problems, *study.troubles(chosen)):
    look.problem(problem)
try:
    page.run()
except UserError as damaged:
    look.problem(damaged)
