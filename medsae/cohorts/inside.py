"""Pictures lie under --root: a table from elsewhere must not make the program read, show and copy other files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from medsae.progress import UserError


def refuse_outside(home: Path, root: Path, paths: Iterable[str]) -> None:
    """UserError when a path, taken from `root`, leaves `home` by `..` or by being absolute; the first is named.

    Links are followed as they are: who made a link inside the data set meant it.
    """
    folders = {os.path.abspath(home), os.path.realpath(home)}
    heads = tuple(folder.rstrip(os.sep) + os.sep for folder in folders)
    top = os.path.abspath(root)
    # Most paths hold no `..` and are relative to a root within home: those need no look.
    plain = f"{top}{os.sep}".startswith(heads)
    outside = [path for path in paths if not (plain and not _suspicious(path))
               and not os.path.normpath(os.path.join(top, path)).startswith(heads)]  # fmt: skip
    if outside:
        what = f"{len(outside):,} pictures lie outside --root, the first is {outside[0]!r}"
        do = "give a --root that holds them all, or --allow-outside if you know what the table names"
        raise UserError(what, home, do)


def _suspicious(path: str) -> bool:
    return ".." in path or path.startswith(("/", "\\", "~")) or ":" in path[:3]
