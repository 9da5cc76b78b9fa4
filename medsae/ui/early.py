"""Imports the tables' libraries while the browser still loads the program of its own side.

A fresh server has nothing to do for most of a second between the first page that it sends and the first question that
the browser asks: half of what the first run imports is imported then. What fails here fails again, and is told, where
a page asks for it.
"""

from __future__ import annotations

import contextlib
import importlib
import threading

_MODULES = ("pandas", "medsae.config", "medsae.store.reader", "medsae.store.concepts", "medsae.store.followed",
            "medsae.jobs", "medsae.store.housekeeping", "medsae.store.requests", "medsae.store.trained",
            "medsae.store.titles", "medsae.scoring.measures", "medsae.store.find_images", "medsae.store.planted_pairs",
            "medsae.store.places", "medsae.paper.overlay")  # fmt: skip
"""In the order in which the first page needs them; none of them imports streamlit."""
_began = threading.Event()


def begin() -> None:
    """Start importing, once in a server's life; returns at once."""
    if not _began.is_set():
        _began.set()
        threading.Thread(target=_import, name="early imports", daemon=True).start()


def _import() -> None:
    for name in _MODULES:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
