"""Where the pictures of a table lie: decided once, on rows spread over the table, and said."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medsae.progress import UserError

_SUFFIXES = ("", ".jpg", ".png", ".jpeg", ".dicom", ".dcm")


@dataclass(frozen=True)
class Way:
    """One way to read a path column: the pictures are `root / path` for each of `paths(column)`."""

    what: str
    root: Path
    paths: Callable[[pd.Series], pd.Series]


def as_written(column: pd.Series) -> pd.Series:
    return column


def without_first(column: pd.Series) -> pd.Series:
    """The paths without their first folder; a path of one part stays."""
    return column.str.replace(r"^[^/]+/", "", regex=True)


def choose(ways: list[Way], columns: list[pd.Series], table: Path, do: str) -> tuple[Way, pd.Series] | None:
    """The first way under which most of a sample of rows exist; None when no row exists under any way.

    `columns[i]` are the raw paths that `ways[i]` starts from. Rows spread over the table are tried first, then all.
    """
    n = len(columns[0])
    if n == 0:
        raise UserError("the table has no rows", table, do)
    sample = np.unique(np.concatenate([np.arange(min(n, 20)), np.linspace(0, n - 1, min(n, 180)).astype(int)]))
    for rows in (sample, np.arange(n)):
        found = [_existing(way, column.iloc[rows]) for way, column in zip(ways, columns, strict=True)]
        if max(found) > 0:
            best = int(np.argmax(found))
            return ways[best], ways[best].paths(columns[best])
    return None


def _existing(way: Way, column: pd.Series) -> int:
    root = str(way.root)
    return sum(os.path.exists(os.path.join(root, path)) for path in way.paths(column))


def by_name(root: Path, names: pd.Series, table: Path) -> tuple[pd.Series, int] | None:
    """Paths relative to `root` of pictures known by file name only, looked up in the whole tree below `root`.

    Names may lack their suffix. Returns the paths (the name itself where nothing was found) and how many were found;
    None when nothing was. Raises UserError for a needed name that lies in two folders.
    """
    places: dict[str, str] = {}
    twice: dict[str, str] = {}
    for folder, _, files in os.walk(root):
        for file in files:
            place = os.path.relpath(os.path.join(folder, file), root)
            if places.setdefault(file, place) != place:
                twice[file] = place
    wanted = names.str.rsplit("/", n=1).str[-1]
    paths = pd.Series(pd.NA, index=names.index, dtype="str")
    for suffix in _SUFFIXES:
        found = (wanted + suffix).map(places)
        doubtful = paths.isna() & (wanted + suffix).isin(list(twice))
        if doubtful.any():
            name = (wanted + suffix)[doubtful].iloc[0]
            raise UserError(
                f"two pictures are called {name}: {places[name]} and {twice[name]}",
                table,
                "give paths relative to --root in the path column",
            )
        paths = paths.fillna(found)
    n_found = int(paths.notna().sum())
    return (paths.fillna(names), n_found) if n_found else None
