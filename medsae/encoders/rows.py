"""Whose row is whose: the paths beside embeddings made elsewhere, and how they match a cohort's."""

from __future__ import annotations

import json
import re
import unicodedata
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from medsae import dialects
from medsae.progress import UserError

PATH_COLUMNS = ("path", "paths", "filepath", "file_path", "filename", "file_name", "filenames", "file", "files",
                "image_path", "imagepath", "img_path", "image", "images", "image_id", "imageid", "image index", "img",
                "dicom_id", "name", "names", "id", "ids", "key", "keys", "__index_level_0__", "index")  # fmt: skip
"""Names of a column of paths, the surest first (in any letter case)."""
_SUFFIXES = re.compile(
    r"(\.(emb|embs|embed|embedding|feat|feats|features|vec))?"
    r"(\.(png|jpe?g|dcm|dicom|tiff?|bmp|webp|gif|jp2|j2k|npy|npz|pt|pth|nii|gz|txt|json|csv))+$", re.I,
)  # fmt: skip


# --- the paths of the rows --------------------------------------------------------------------------------------------


def row_paths(rows: Path, said: list[str]) -> list[str]:
    """The path of each row, from a table of any kind or one path a line; what was guessed is added to `said`."""
    try:
        with rows.open("rb") as opened:
            head = opened.read(8)
    except FileNotFoundError as error:
        raise UserError("there is no such table of rows", rows, "check --rows") from error
    except OSError as error:
        raise UserError(f"this table of rows cannot be read ({error.strerror})", rows, "check --rows") from error
    if head.startswith(b"\x93NUMPY"):
        try:
            held = np.load(rows, allow_pickle=False).ravel()
        except ValueError as error:
            raise UserError("this table of rows holds Python objects, which are pickled", rows,
                            "save the paths with dtype=str, or one a line") from error  # fmt: skip
        held = np.char.decode(held) if held.dtype.kind == "S" else held
        header, lines = ["path"], [(str(path),) for path in held]
    else:
        found = _of_json(rows) if head.lstrip()[:1] in (b"[", b"{") else None
        header, lines = found or read_table(rows)
    at = _path_column(header, lines, rows)
    if at < 0:  # no header: its "names" are the first row
        lines, at = [tuple(header), *lines], -1 - at
        said.append(f"--rows has no header: its first line is taken as the path {lines[0][at]}")
    return [_plain(str(line[at] or "")) for line in lines]


def _of_json(rows: Path) -> tuple[list[str], list[tuple[str, ...]]] | None:
    """A list of paths; paths by the number of their row, or the other way round; None for rows of JSON, a table."""
    try:
        held = json.loads(rows.read_text("utf-8-sig"))
    except ValueError:
        return None
    if isinstance(held, dict) and len(held) == 1:
        held = next(iter(held.values()))  # {"paths": [...]}
    if isinstance(held, dict) and held and all(str(k).isdecimal() and isinstance(v, str) for k, v in held.items()):
        held = {v: int(k) for k, v in held.items()}
    if isinstance(held, dict) and sorted(map(str, held.values())) == sorted(map(str, range(len(held)))):
        held = sorted(held, key=lambda path: int(held[path]))
    if isinstance(held, list) and held and all(isinstance(path, str) for path in held):
        return ["path"], [(path,) for path in held]
    return None


_QUOTED = re.compile(r"""(?:(?:Pure)?(?:Posix|Windows)?Path\()?(['"])(.*)\1\)?""")


def _plain(cell: str) -> str:
    """Without blanks around it, quotes, and what Python writes around a Path."""
    cell = cell.strip()
    quoted = _QUOTED.fullmatch(cell)
    return quoted[2] if quoted else cell


def read_table(path: Path) -> tuple[list[str], list[tuple[str, ...]]]:
    """Header and rows of a table of any kind (`dialects`), an empty cell as ""; where only the first line can be the
    header of a table of text, it is taken for one."""
    read = dialects.read(path, header=False)
    lines = [tuple(row) for row in read.table.fillna("").itertuples(index=False, name=None)]
    if read.headed:
        return [str(name) for name in read.table.columns], lines
    return [name.strip() for name in lines[0]], lines[1:]


def _path_column(header: Sequence[str], lines: Sequence[Sequence[Any]], rows: Path) -> int:
    """Place of the column of paths; -1 - place where there is no header. Raises UserError that names the columns."""
    names = [name.lower() for name in header]
    first = [at for at, cell in enumerate(lines[0] if lines else []) if like_a_path(str(cell))]
    for known in PATH_COLUMNS:
        if known in names:  # where another column alone holds paths, a number or a word called id is none
            at = names.index(known)
            return first[0] if len(first) == 1 and not like_a_path(str(lines[0][at])) else at
    for cells, headless in ((header, True), (lines[0] if lines else [], False)):
        like = [at for at, cell in enumerate(cells) if like_a_path(str(cell))]
        if len(like) == 1:
            return -1 - like[0] if headless else like[0]
    shown = ", ".join(name[:60] for name in header[:8]) + (f" and {len(header) - 8} more" if len(header) > 8 else "")
    raise UserError(f"there is no column Path among {shown or 'no columns'}", rows,
                    "call the column of paths Path")  # fmt: skip


def like_a_path(cell: str) -> bool:
    """A suffix of a picture or of what is made from one, or a folder."""
    return bool(_SUFFIXES.search(cell)) or "/" in cell or "\\" in cell


def check_paths(paths: list[str], where: Path) -> None:
    """Raise UserError where paths are empty or repeated."""
    empty = [i for i, path in enumerate(paths) if not path]
    if empty:
        raise UserError(f"{len(empty):,} of {len(paths):,} lines have an empty Path, first line {empty[0] + 2}", where)
    repeated = [(path, count) for path, count in Counter(paths).items() if count > 1]
    if repeated:
        path, count = repeated[0]
        raise UserError(f"{len(repeated):,} paths occur more than once, first {path} ({count} times)", where)


# --- whose row is whose -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Match:
    """Which row of the file belongs to which picture of the cohort."""

    row_n: np.ndarray
    """int64 [pictures of the cohort]: the row, or -1 where the file has none."""
    missing: list[str]
    """Paths of the cohort without a row."""
    unused: list[str]
    """Paths of the file that no picture of the cohort has."""
    how: str = "by path"
    """How they were matched, in words."""


def match_rows(paths: Sequence[str], cohort_paths: Sequence[str]) -> Match:
    """Match the rows' paths with the cohort's.

    Ways, the strictest first: the same path; without the first folder on one side or on both, as CheXpert's varies; one
    path being the end of the other (file names alone, absolute paths of another machine); without the folders that
    all paths of a side share; with folders written into the name (`a_b.png` for `a/b.png`); then the same again
    without the suffix of the file. Backslashes and drive letters are read as paths. One way is used for the whole
    file: the one that matches most pictures (the stricter on a tie), and
    never one by which a picture has two rows or a row two pictures. Raises UserError when no picture matches: where
    that is because names are ambiguous, the first is named with its candidates.
    """
    best: tuple[int, str, np.ndarray] | None = None
    ambiguous = ""
    for how, rows, pictures in _ways(paths, cohort_paths):
        row_n, clash = _one_to_one(rows, pictures, paths, cohort_paths)
        if clash:
            ambiguous = ambiguous or f"{how}: {clash}"
            continue
        count = int((row_n >= 0).sum())
        if count > (best[0] if best else 0):
            best = count, how, row_n
        if count == min(len(paths), len(cohort_paths)):
            break
    if best is None:
        what = f"none of the {len(cohort_paths):,} pictures of the cohort has a row among {len(paths):,}"
        raise UserError(
            f"{what}: their names are ambiguous ({ambiguous})" if ambiguous else what,
            f"the cohort begins with {next(iter(cohort_paths), None)}, --rows with {next(iter(paths), None)}",
            "write the cohort's paths into the column Path",
        )
    _, how, row_n = best
    used = set(row_n.tolist())
    missing = [path for path, row in zip(cohort_paths, row_n, strict=True) if row < 0]
    return Match(row_n, missing, [path for row, path in enumerate(paths) if row not in used], how)


Keys = list[list[str]]
"""For each path the keys under which it is looked up, the surest first."""


def _ways(paths: Sequence[str], cohort_paths: Sequence[str]) -> Iterator[tuple[str, Keys, Keys]]:
    """Yield (words, keys of the rows, keys of the pictures)."""
    for without_suffix, folded in ((False, False), (True, False), (True, True)):
        rows, pictures = ([_clean(p, without_suffix) for p in side] for side in (paths, cohort_paths))
        if folded:
            rows, pictures = ([_folded(p) for p in side] for side in (rows, pictures))
        said = ", in another letter case or form" if folded else ", another suffix" if without_suffix else ""
        for theirs, ours, how in (
            (_whole, _whole, "by path"),
            (_rest, _whole, "without the first folder of --rows"),
            (_whole, _rest, "without the cohort's first folder"),
            (_rest, _rest, "without the first folders"),
        ):
            yield how + said, [theirs(p) for p in rows], [ours(p) for p in pictures]
        depths = sorted({p.count("/") for p in rows}, reverse=True)
        yield "by the end of the path" + said, [_whole(p) for p in rows], [_ends(p, depths) for p in pictures]
        depths = sorted({p.count("/") for p in pictures}, reverse=True)
        yield "by the end of the row's path" + said, [_ends(p, depths) for p in rows], [_whole(p) for p in pictures]
        rows_, pictures_ = ([[_FLAT.sub("_", p)] for p in side] for side in (rows, pictures))
        yield "with the folders written into the name" + said, rows_, pictures_
        if len(rows) > 1 and len(pictures) > 1:
            yield "below the folders that all share" + said, _below(rows), _below(pictures)


_FLAT = re.compile(r"[/_~+-]+")


def _one_to_one(
    rows: Keys, pictures: Keys, paths: Sequence[str], cohort_paths: Sequence[str]
) -> tuple[np.ndarray, str]:
    """row_n, and the first ambiguity in words ("" without one)."""
    row_of: dict[str, int] = {}
    twice: dict[str, int] = {}
    for row, keys in enumerate(rows):
        for key in keys:
            if row_of.setdefault(key, row) != row:
                twice.setdefault(key, row)
    row_n = np.full(len(pictures), -1, np.int64)
    taken: dict[int, int] = {}
    for image, keys in enumerate(pictures):
        key = next((key for key in keys if key in row_of), None)
        if key is None:
            continue
        row = row_of[key]
        if key in twice:
            return row_n, f"{cohort_paths[image]} may be {paths[row]} or {paths[twice[key]]}"
        if row in taken:
            return row_n, f"{paths[row]} may be {cohort_paths[taken[row]]} or {cohort_paths[image]}"
        taken[row] = image
        row_n[image] = row
    return row_n, ""


def _clean(path: str, without_suffix: bool) -> str:
    if "://" in path:  # an URL's path
        path = re.sub(r"^[a-z][a-z0-9+.-]+://[^/]*|[?#].*$", "", path, flags=re.IGNORECASE)
    path = re.sub(r"^[A-Za-z]:(?=[\\/])", "", path).replace("\\", "/").removeprefix("./").strip("/")
    return _SUFFIXES.sub("", path) if without_suffix else path


def _folded(path: str) -> str:
    """In one letter case and Unicode form, the escapes of an URL undone."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", urllib.parse.unquote(path)).casefold())


def _whole(path: str) -> list[str]:
    return [path]


def _rest(path: str) -> list[str]:
    """The path without its first folder; nothing where there is none."""
    rest = path.partition("/")[2]
    return [rest] if rest else []


def _ends(path: str, depths: list[int]) -> list[str]:
    """The ends of a path with as many folders as `depths` names, the longest first."""
    parts = path.split("/")
    return ["/".join(parts[-1 - depth :]) for depth in depths if depth < len(parts)]


def _below(paths: list[str]) -> Keys:
    """The paths without the folders that all of them begin with."""
    parents = [PurePosixPath(path).parts[:-1] for path in paths]
    low, high = min(parents), max(parents)  # the first difference of all is the first difference of these two
    shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return [["/".join(path.split("/")[shared:])] for path in paths]
