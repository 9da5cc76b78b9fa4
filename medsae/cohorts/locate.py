"""Where the pictures of a table lie, picture by picture, and which way each was found.

First the path as it is written (below the folder, or below the folders that a publisher's download has), asked of the
file system itself. What is not there is looked up in the tree below the folder: with another suffix (a converted
copy), in another case or Unicode form, at last by its name. Nothing is guessed: a name must tell one row from all
others, the folders that name a patient or a study must agree, and where two files fit both are named.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import posixpath
import re
import stat
import unicodedata
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from medsae.cohorts.columns import PICTURE
from medsae.progress import UserError

_ARCHIVE = re.compile(r"\.(?:zip|tar|tgz|tar\.gz|tar\.bz2|tar\.xz|7z|rar)$", re.IGNORECASE)
_PARTIAL = re.compile(r"\.(?:part|crdownload|download|aria2|!ut)$", re.IGNORECASE)
OWNER = re.compile(r"^(?:patient|pat|subject|sub|study|case|p|s|id|uid)[-_]?\d{2,}$", re.IGNORECASE)
"""A folder that says whose picture it is."""
_SHOWN = 3
_ENOUGH = 0.5


@dataclass(frozen=True)
class Way:
    """One way to read the paths: the pictures are `root / path` for each of `paths`."""

    what: str
    root: Path
    paths: pd.Series


@dataclass(frozen=True)
class Found:
    """Where each picture lies."""

    root: Path
    """Folder that `paths` start from."""
    paths: pd.Series
    there: np.ndarray
    """bool [n]: a file is at this path."""
    size: np.ndarray
    """int64 [n], bytes; 0 where nothing is."""
    modified: np.ndarray
    """int64 [n], nanoseconds since 1970; 0 where nothing is."""
    told: list[str] = field(default_factory=list)

    def digest(self) -> str:
        """sha256 over path, size and time of change of every picture found, in the order of the paths."""
        rows = zip(self.paths[self.there].tolist(), self.size[self.there].tolist(), self.modified[self.there].tolist(),
                   strict=True)  # fmt: skip
        text = "".join(f"{path}\t{size}\t{modified}\n" for path, size, modified in sorted(rows))
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def usual_ways(root: Path, written: pd.Series) -> list[Way]:
    """As written, and without the first folder: a data set is unpacked under its own name or under another one."""
    return [
        Way("at the path written", root, written),
        Way("at the path without its first folder", root, written.str.replace(r"^[^/]+/", "", regex=True)),
    ]


def find(
    ways: Sequence[Way],
    root: Path,
    table: Path,
    under: str | None,
    allow_missing: bool,
    do: str,
    missing: Callable[[], str] = str,
) -> Found:
    """Find the picture of every row: by the `ways`, the one that finds most of a sample first, then in the tree below
    `root`.

    `under`: a name or pattern; only files are taken whose folder (or path) below `root` matches it. `do`: what to do
    when pictures are missing; `missing` says what is known about them. Raises UserError when two files fit one row,
    when nothing is found, and (without `allow_missing`) when fewer than half of the pictures are.
    """
    n = len(ways[0].paths)
    place = np.full(n, None, dtype=object)
    size, modified = np.zeros(n, np.int64), np.zeros(n, np.int64)
    counts: list[tuple[str, int, str]] = []
    open_rows = list(range(n))
    for way in _best_first(ways):
        if not open_rows:
            break
        left = []
        prefix, paths = str(way.root).rstrip("/") + "/", way.paths.tolist()
        for i in open_rows:
            path = paths[i] if paths[i].startswith("/") else prefix + paths[i]
            seen = _stat(path)
            if seen is None or (under is not None and not matches(path, root, under)):
                left.append(i)
            else:
                place[i], size[i], modified[i] = path, seen.st_size, seen.st_mtime_ns
        if len(open_rows) > len(left):
            counts.append((way.what, len(open_rows) - len(left), ""))
        open_rows = left
    if open_rows:
        columns = [way.paths.to_numpy(object) for way in ways]
        wanted = [[str(column[i]) for column in columns] for i in open_rows]
        for i, (hit, what) in zip(
            open_rows, _look_up(wanted, ways, root, under, table, np.array(open_rows)), strict=True
        ):
            if hit is not None and (seen := _stat(hit)) is not None:
                place[i], size[i], modified[i] = hit, seen.st_size, seen.st_mtime_ns
                counts.append((what, 1, f"{posixpath.basename(columns[0][i])} is {_below(hit, root)}"))
    there = np.array([p is not None for p in place], dtype=bool)
    told = _summary(counts, n)
    if not there.all():
        told += _missing(ways, there, root, table, allow_missing, do, missing())
    base, paths = _relative(place, ways[0], root)
    return Found(base, pd.Series(paths, index=ways[0].paths.index, dtype="str"), there, size, modified, told)


def written_only(way: Way) -> Found:
    """The paths of a way without a look at any file."""
    n = len(way.paths)
    told = [f"pictures are not looked for (--no-pictures); {way.what}"]
    return Found(way.root, way.paths, np.zeros(n, bool), np.zeros(n, np.int64), np.zeros(n, np.int64), told)


def stem(path: str) -> str:
    """A path without the suffixes of pictures: "a.dcm.png" and "a.dcm" are both "a"; a DICOM UID keeps its dots."""
    while (shorter := PICTURE.sub("", path)) != path:
        path = shorter
    return path


def plain(path: str) -> str:
    """A path in one case and one Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


# --- exact ------------------------------------------------------------------------------------------------------------


def _stat(path: str) -> os.stat_result | None:
    """What is at a path, None for nothing and for a folder."""
    try:
        seen = os.stat(path)
    except (OSError, ValueError):
        return None
    return None if stat.S_ISDIR(seen.st_mode) else seen


def _best_first(ways: Sequence[Way]) -> list[Way]:
    """The ways, those first that find more of a sample of the rows; the same order among equals."""
    n = len(ways[0].paths)
    sample = np.unique(np.linspace(0, n - 1, min(n, 100)).astype(int))
    hits = [sum(_stat(os.path.join(way.root, str(path))) is not None for path in way.paths.iloc[sample])
            for way in ways]  # fmt: skip
    return [ways[i] for i in np.argsort([-h for h in hits], kind="stable")]


def _below(path: str, root: Path) -> str:
    return os.path.relpath(path, root).replace(os.sep, "/")


def matches(path: str, root: Path, under: str) -> bool:
    """The path below `root`, its name, or a folder on the way, is `under`."""
    parts = _below(path, root).split("/")
    pattern = under.strip("/").removeprefix("./")
    heads = ("/".join(parts[:i]) for i in range(1, len(parts) + 1))
    return any(fnmatch.fnmatchcase(head, pattern) for head in heads) or any(
        fnmatch.fnmatchcase(part, pattern) for part in parts
    )


def _relative(place: np.ndarray, way: Way, root: Path) -> tuple[Path, list[str]]:
    """One folder that all paths start from, and the paths; what was not found keeps the path that is written."""
    start = str(root)
    inside = all(p is None or p.startswith(start + os.sep) for p in place)
    if not inside:
        known = [p for p in place if p is not None]
        start = os.path.commonpath([start, *(os.path.dirname(p) for p in known)])
    cut = len(start.rstrip(os.sep)) + 1
    written = way.paths.tolist()
    return Path(start), [str(w) if p is None else _clean(p[cut:]) for w, p in zip(written, place, strict=True)]


def _clean(path: str) -> str:
    return posixpath.normpath(path) if "./" in path or "//" in path else path


# --- the tree ---------------------------------------------------------------------------------------------------------


def _look_up(
    wanted: list[list[str]],
    ways: Sequence[Way],
    root: Path,
    under: str | None,
    table: Path,
    rows: np.ndarray,
) -> list[tuple[str | None, str]]:
    """(file or None, how it was found) for each of `wanted`, the paths of one row under every way."""
    tree = [path for path in files_below(root) if under is None or matches(path, root, under)]
    # A table or an archive is no picture, whatever it is called.
    tree = [path for path in tree if not _ARCHIVE.search(path)]
    below = [_below(path, root) for path in tree]
    keys = (
        ("with another suffix", stem),
        ("in another case or Unicode form", plain),
        ("in another case or Unicode form", lambda path: stem(plain(path))),
        ("with the escapes of an URL undone", lambda path: stem(plain(urllib.parse.unquote(path)))),
    )
    out: list[tuple[str | None, str]] = [(None, "")] * len(wanted)
    doubtful: list[tuple[str, list[str]]] = []
    left = set(range(len(wanted)))
    for what, key in keys:
        index = _index(map(key, below))
        for j in sorted(left):
            hits: list[int] = []
            for k, path in enumerate(wanted[j]):
                if ways[k].root == root:
                    hits += index.get(key(posixpath.normpath(path)), [])
            hits = list(dict.fromkeys(hits))
            if hits:
                left.discard(j)
                if len(hits) > 1:
                    doubtful.append((wanted[j][0], [below[h] for h in hits]))
                out[j] = (tree[hits[0]], what)
    if left:
        _by_name(wanted, ways, tree, below, left, out, doubtful, rows)
    if doubtful:
        raise _two_fit(doubtful, table)
    return out


def _by_name(
    wanted: list[list[str]],
    ways: Sequence[Way],
    tree: list[str],
    below: list[str],
    left: set[int],
    out: list[tuple[str | None, str]],
    doubtful: list[tuple[str, list[str]]],
    rows: np.ndarray,
) -> None:
    """Fill `out` for the rows in `left` from files of the same name."""
    # How many of the last parts of its path tell a row from every other row of the table.
    tails = [_parts(str(path)) for path in ways[0].paths]
    needed = _needed(tails)
    parts = [_parts(path) for path in below]
    index: dict[int, dict[tuple[str, ...], list[int]]] = {}
    for length in {int(needed[rows[j]]) for j in left}:
        ends: dict[tuple[str, ...], list[int]] = {}
        for i, part in enumerate(parts):
            if len(part) >= length:
                ends.setdefault(tuple(part[-length:]), []).append(i)
        index[length] = ends
    taken = {path for path, _ in out if path is not None}
    claims: Counter[str] = Counter()
    for j in sorted(left):
        own = tails[rows[j]]
        least = int(needed[rows[j]])
        hits = [h for h in index[least].get(tuple(own[-least:]), []) if tree[h] not in taken]
        hits = [h for h in hits if _same_owner(own, parts[h])]
        if not hits:
            continue
        # Of files with one name: those that agree on most folders; then those with the very name and suffix.
        most = max(_common_tail(own, parts[h]) for h in hits)
        hits = [h for h in hits if _common_tail(own, parts[h]) == most]
        name = posixpath.basename(wanted[j][0])
        exact = [h for h in hits if posixpath.basename(below[h]) == name]
        hits = exact or hits
        if len(hits) > 1:
            doubtful.append((wanted[j][0], [below[h] for h in hits]))
        what = "by name" if exact else "by name, with another suffix or form"
        out[j] = (tree[hits[0]], what)
        claims[tree[hits[0]]] += 1
    for j in left:  # a file that two rows would take belongs to neither
        if out[j][0] is not None and claims[str(out[j][0])] > 1:
            out[j] = (None, "")


def _index(keys: Iterable[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i, key in enumerate(keys):
        found.setdefault(key, []).append(i)
    return found


def _parts(path: str) -> list[str]:
    if "%" in path:  # of an URL; what has the sign in its own name loses it on both sides
        path = urllib.parse.unquote(path)
    return [part for part in stem(plain(path.replace("\\", "/"))).split("/") if part not in ("", ".")] or [""]


def _needed(tails: list[list[str]]) -> np.ndarray:
    """How many last parts tell each row from the others; more than any path has where rows have one path."""
    needed = np.full(len(tails), 99, dtype=int)
    open_rows = list(range(len(tails)))
    for length in range(1, 1 + max((len(t) for t in tails), default=0)):
        seen = Counter(tuple(tails[i][-length:]) for i in open_rows)
        alone = [i for i in open_rows if seen[tuple(tails[i][-length:])] == 1]
        needed[alone] = length
        open_rows = [i for i in open_rows if needed[i] == 99]
    return needed


def _common_tail(one: list[str], other: list[str]) -> int:
    n = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        n += 1
    return n


def _same_owner(own: list[str], other: list[str]) -> bool:
    """Short names ("view1_frontal") say nothing about whose picture it is: then the folders that do must agree."""
    if sum(ch.isdigit() for ch in own[-1]) >= 8:
        return True
    return all(part in other for part in own[:-1] if OWNER.match(part))


def _two_fit(doubtful: list[tuple[str, list[str]]], table: Path) -> UserError:
    first, places = doubtful[0]
    # A folder that only one of them lies in, with its number left open (images_001 is one of twelve); else the suffix.
    parts = [place.split("/")[:-1] for place in places[:2]]
    own = [next((p for p in part if p not in other), None) for part, other in zip(parts, parts[::-1], strict=True)]
    names = [re.sub(r"\d+$", "*", name) for name in own if name]
    choice = " or ".join(f"--under '{name}'" for name in names)
    choice = choice or " or ".join(f"--under '*{posixpath.splitext(place)[1]}'" for place in places[:2])
    return UserError(
        f"two pictures fit {first}: {places[0]} and {places[1]} ({len(doubtful):,} such rows)",
        table,
        f"choose with {choice} (a folder below --root, or a pattern), or write paths relative to --root into the path"
        " column",
    )


def files_below(root: Path) -> list[str]:
    """Every file in the tree below a folder, links to folders followed once, in an order that does not change."""
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    stack = [str(root)]
    while stack:
        folder = stack.pop()
        try:
            own = os.stat(folder)
            if (own.st_dev, own.st_ino) in seen:
                continue
            seen.add((own.st_dev, own.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        stack.append(entry.path)
                    else:
                        found.append(entry.path)
        except OSError:
            continue  # a folder that may not be read: its pictures are missing, and that is said
    return sorted(found)


def stems_below(root: Path) -> set[str]:
    """The names of the pictures in the tree below a folder, without suffix, in one letter case."""
    names = (posixpath.basename(path) for path in files_below(root))
    return {stem(name).casefold() for name in names if PICTURE.search(name)}


# --- what is said -----------------------------------------------------------------------------------------------------


def _summary(counts: list[tuple[str, int, str]], n: int) -> list[str]:
    total: Counter[str] = Counter()
    example: dict[str, str] = {}
    for what, count, shown in counts:
        total[what] += count
        example.setdefault(what, shown)
    parts = [f"{count:,} {what}" + (f" ({example[what]})" if example[what] else "") for what, count in total.items()]
    return [f"pictures: {', '.join(parts) or 'none'}; {n - sum(total.values()):,} of {n:,} not found"]


def _missing(
    ways: Sequence[Way], there: np.ndarray, root: Path, table: Path, allow_missing: bool, do: str, known: str
) -> list[str]:
    """Lines about the pictures that are not there; UserError when they are too many."""
    n, found = len(there), int(there.sum())
    rows = np.flatnonzero(~there)[:_SHOWN]
    paths = [str(ways[0].paths.iloc[i]) for i in rows]
    archives, partial = set_aside(root)
    hints = [known] if known else []
    if archives:
        hints.append(f"{', '.join(archives[:4])}{' ...' if len(archives) > 4 else ''}: an archive is not looked into,"
                     " unpack it")  # fmt: skip
    if partial:
        hints.append(f"{', '.join(partial[:3])}: a download that has not finished")
    if found and (found >= _ENOUGH * n or allow_missing):
        return [f"not found, the first: {', '.join(paths)}", *hints]
    tried = "\n    ".join(dict.fromkeys(os.path.join(way.root, str(way.paths.iloc[rows[0]])) for way in ways))
    how_many = f"only {found:,} of the {n:,} pictures were" if found else f"not one of the {n:,} pictures was"
    lines = "".join(f"\n  {hint}" for hint in hints)
    more = f"\n  missing: {', '.join(paths)}" if found else ""
    flag = ", or --allow-missing to go on with those" if found else ""
    raise UserError(
        f"{how_many} found{more}\n  looked for the first missing one at\n    {tried}\n  and by its name in the tree"
        f" below {root}{lines}",
        table,
        do + flag,
    )


def set_aside(root: Path) -> tuple[list[str], list[str]]:
    """Names of archives, and of unfinished downloads, in a folder and the folders in it."""
    names: list[str] = []
    for folder in (root, *sorted(p for p in _children(root) if p.is_dir())):
        names += [_below(str(path), root) for path in _children(folder) if path.is_file()]
    return [name for name in names if _ARCHIVE.search(name)], [name for name in names if _PARTIAL.search(name)]


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
