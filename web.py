"""The web server: the app's script behind a first paint in the reader's colours. Run with `streamlit run web.py`."""

from pathlib import Path

import streamlit as st
import streamlit.delta_generator
from starlette.middleware import Middleware

from medsae.ui import no_delay
from medsae.ui.first_paint import FirstPaint

# Before the first element of a server's life Streamlit asks whether it runs in a terminal, and looks for the source of
# every module that is loaded: 77 ms of processor that the first page would wait for. It is a server that runs this.
streamlit.delta_generator._use_warning_has_been_displayed = True

no_delay.begin()

app = st.App(Path(__file__).with_name("app.py"), middleware=[Middleware(FirstPaint)])
