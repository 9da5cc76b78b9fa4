"""Where the pictures of a table lie: decided once, on rows spread over the table, and said."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medsae.progress import UserError

_SUFFIXES = ("", ".jpg", ".png", ".jpeg", ".dicom", ".dcm")


@dataclass(frozen=True)
class Way:
    """One way to read a path column: the pictures are `root / path` for each of `paths`."""

    what: str
    root: Path
    paths: pd.Series


def usual_ways(root: Path, written: pd.Series) -> list[Way]:
    """As written, without the first folder, and from the parent folder: CheXpert is found unpacked all three ways."""
    return [
        Way("paths as written, below the folder", root, written),
        Way(
            "paths without their first folder, below the folder", root, written.str.replace(r"^[^/]+/", "", regex=True)
        ),
        Way("paths as written, below the parent folder", root.absolute().parent, written),
    ]


def choose(ways: Sequence[Way]) -> Way | None:
    """The way under which most of a sample of the rows exist as files; None when not one row exists under any way.

    Rows spread over the table are tried first; all of them only where none of those exists.
    """
    n = len(ways[0].paths)
    sample = np.unique(np.concatenate([np.arange(min(n, 20)), np.linspace(0, n - 1, min(n, 180)).astype(int)]))
    for rows in (sample, np.arange(n)):
        found = [sum(os.path.exists(os.path.join(way.root, p)) for p in way.paths.iloc[rows]) for way in ways]
        if max(found) > 0:
            return ways[int(np.argmax(found))]
    return None


def by_name(root: Path, names: pd.Series, table: Path) -> Way | None:
    """The pictures looked up by file name (with or without its suffix) in the whole tree below `root`.

    A name that is not found stays as written. None when nothing is found. Raises UserError for a needed name that lies
    in two folders.
    """
    places: dict[str, str] = {}
    twice: dict[str, str] = {}
    for folder, _, files in os.walk(root):
        for file in files:
            place = os.path.relpath(os.path.join(folder, file), root)
            if places.setdefault(file, place) != place:
                twice[file] = place
    paths: list[str] = []
    n_found = 0
    for written in names:
        name = written.rsplit("/", 1)[-1]
        name = next((name + suffix for suffix in _SUFFIXES if name + suffix in places), name)
        if name in twice:
            raise UserError(
                f"two pictures are called {name}: {places[name]} and {twice[name]}",
                table,
                "write paths relative to --root into the path column",
            )
        n_found += name in places
        paths.append(str(places.get(name, written)))
    if not n_found:
        return None
    what = f"pictures looked up by name in the tree below the folder ({n_found:,} of {len(names):,} found)"
    return Way(what, root, pd.Series(paths, index=names.index, dtype="str"))


def nothing_found(ways: Sequence[Way], table: Path, do: str) -> UserError:
    """The error for a table of which not one picture exists: what was tried for its first row."""
    tried = "\n    ".join(str(way.root / way.paths.iloc[0]) for way in ways)
    return UserError(
        f"not one of the {len(ways[0].paths):,} pictures was found; tried for the first row:\n    {tried}", table, do
    )
