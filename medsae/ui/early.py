"""Imports the tables' libraries while the browser still loads the program of its own side.

A fresh server has nothing to do for most of a second between the first page that it sends and the first question that
the browser asks: half of what the first run imports is imported then (docs/decisions/171).
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import threading

_began = threading.Event()


def begin() -> None:
    """Start importing, once in a server's life; returns at once."""
    if not _began.is_set():
        _began.set()
        threading.Thread(target=_import, name="early imports", daemon=True).start()


def _import() -> None:
    """None of them imports streamlit. What fails here fails again, and is told, where a page asks for it."""
    with contextlib.suppress(Exception):
        import pandas  # noqa: F401

        import medsae.config
        import medsae.jobs
        import medsae.paper.overlay
        import medsae.store.concepts
        import medsae.store.find_images
        import medsae.store.followed
        import medsae.store.housekeeping
        import medsae.store.places
        import medsae.store.planted_pairs
        import medsae.store.requests
        import medsae.store.titles
        import medsae.store.trained  # noqa: F401
    # Modules stay for ever: looking through them for cycles, 40 ms each time, finds nothing (docs/decisions/198).
    # At the end of the process they are let go, or DuckDB says on the terminal that its own were never freed.
    gc.freeze()
    atexit.register(gc.unfreeze)
