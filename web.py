"""The web server: the app's script behind a first paint in the reader's colours. Run with `streamlit run web.py`."""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from medsae.ui.first_paint import FirstPaint

app = st.App(Path(__file__).with_name("app.py"), middleware=[Middleware(FirstPaint)])
