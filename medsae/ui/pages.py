"""The pages of the app, each declared in its own file and nowhere else: a new page is one new file in `pages/`.

A page says its title and its place in the menu in a literal that is read without running the script:

    PAGE = {"title": "Overview", "place": 10}

The page with the smallest place is the root of the address; the others are found under the names of their files.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from medsae.progress import UserError


@dataclass(frozen=True)
class Page:
    """One page: its file, its title in the menu, its path in the address."""

    file: Path
    title: str
    place: float

    @property
    def path(self) -> str:
        """The last part of its address; that of the first page is never shown."""
        return self.file.stem


def found(folder: Path) -> tuple[list[Page], list[UserError]]:
    """The pages of a folder in the order of the menu, and what is wrong with files that declare none."""
    pages, problems = [], []
    for file in sorted(folder.glob("[!_]*.py")):
        page = _read(file, file.stat().st_mtime_ns)
        (pages if isinstance(page, Page) else problems).append(page)
    return sorted(pages, key=lambda page: (page.place, page.path)), problems


@cache
def _read(file: Path, changed: int) -> Page | UserError:
    why = "it declares no page"
    try:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["PAGE"]:
                said = ast.literal_eval(node.value)
                return Page(file, str(said["title"]), float(said["place"]))
    except (SyntaxError, ValueError, KeyError, TypeError, OSError) as error:
        why = f"{type(error).__name__}: {error}"
    return UserError(f"the page {file.name} is left out: {why}", None,
                     'write PAGE = {"title": "...", "place": 10} near its top')  # fmt: skip
