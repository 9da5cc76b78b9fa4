"""What is wrong with the small records of a data folder: each is named, and nothing of it is used (decision 122)."""

from __future__ import annotations

from medsae.progress import UserError
from medsae.store import housekeeping
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger
from medsae.store.notes import Notes, folder


def troubles(store: Store) -> list[UserError]:
    """Of every ledger of names, of every file of notes, and of the titles. Raises OSError."""
    found = housekeeping.troubles(store.data)
    for scores in ledgers(store):
        found += Ledger(store, scores).troubles()
    noted = folder(store)
    names = {path.stem for pattern in ("*.jsonl", "*.size") for path in noted.glob(pattern) if "@" not in path.name}
    for name in sorted(names):
        found += Notes(store, name).troubles()
    return found


def ledgers(store: Store) -> list[str]:
    """The ids of the scores that have a ledger of names."""
    place = store.artifacts / "names"
    return sorted(p.name for p in place.iterdir() if p.is_dir()) if place.is_dir() else []
