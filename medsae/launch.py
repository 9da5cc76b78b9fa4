"""Opens the app: hands this process over to Streamlit with the app's script and settings, from any folder."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from medsae import config as c
from medsae.progress import UserError

HERE = Path(__file__).parent


def script() -> Path:
    """web.py beside app.py, pages/ and .streamlit/: inside an installed package, or at the top of the repository.

    Raises UserError where there is neither.
    """
    for folder in (HERE / "_app", HERE.parent):
        if (folder / "web.py").is_file() and (folder / ".streamlit").is_dir():
            return folder / "web.py"
    raise UserError("the app is not part of this installation", HERE, "pip install the whole of medsae again")


def app(config: c.App, data: Path) -> None:
    """Become the web server; does not return. Streamlit reads the settings beside the script and the variables
    STREAMLIT_*; the working folder stays, so that paths typed into the app mean what they mean in the shell."""
    if importlib.util.find_spec("streamlit") is None:
        raise UserError("the app needs the package streamlit", None, "pip install streamlit")
    words = [sys.executable, "-m", "streamlit", "run", str(script()), "--server.port", str(config.port)]
    print(f"MedSAE Explorer: http://127.0.0.1:{config.port}   (Ctrl-C ends it)", flush=True)
    os.execve(sys.executable, words, {**os.environ, "MEDSAE_DATA": str(data)})
