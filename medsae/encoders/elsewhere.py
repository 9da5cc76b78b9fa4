"""Embeddings made elsewhere: a .npy and a table that says whose row is whose."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medsae.progress import UserError

BLOCK_ROWS = 65_536


def from_file(npy: Path, rows: Path) -> tuple[np.ndarray, list[str]]:
    """x float32 [n, d] (a read-only memory map where the file is float32) and the n paths of its rows.

    `npy` is a float16, float32 or float64 matrix, never a pickle; `rows` a CSV with a column `Path`, one line a row.
    Raises UserError with numbers: not a matrix of floats, NaN or infinity (also from float64 beyond float32), another
    number of lines than rows, no column Path, an empty or repeated path.
    """
    paths = _paths(rows)
    try:
        x_nd = np.load(npy, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError("there is no such file of embeddings", npy, "check --from") from error
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"this is not a .npy array of numbers ({error})", npy, "save it with numpy.save") from error
    if not isinstance(x_nd, np.ndarray) or x_nd.dtype not in (np.float16, np.float32, np.float64):
        kind = x_nd.dtype if isinstance(x_nd, np.ndarray) else "an archive of arrays"
        raise UserError(f"embeddings must be float16, float32 or float64, not {kind}", npy)
    if x_nd.ndim != 2 or 0 in x_nd.shape:
        raise UserError(f"embeddings must be a matrix [n, d], not {list(x_nd.shape)}", npy)
    if len(x_nd) != len(paths):
        raise UserError(
            f"{len(x_nd):,} rows of embeddings, but {len(paths):,} lines of paths", f"{npy} and {rows}",
            "give one line in --rows for each row of --from, in the same order",
        )  # fmt: skip
    if x_nd.dtype != np.float32:
        with np.errstate(over="ignore"):
            x_nd = x_nd.astype(np.float32)
    bad = 0
    first = -1
    for at in range(0, len(x_nd), BLOCK_ROWS):
        wrong = ~np.isfinite(x_nd[at : at + BLOCK_ROWS]).all(1)
        bad += int(wrong.sum())
        if first < 0 and wrong.any():
            first = at + int(np.flatnonzero(wrong)[0])
    if bad:
        raise UserError(
            f"{bad:,} of {len(x_nd):,} rows hold NaN or infinity, first row {first} ({paths[first]})", npy,
            "leave these rows out of both files",
        )  # fmt: skip
    return x_nd, paths


def _paths(rows: Path) -> list[str]:
    try:
        with rows.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = table.fieldnames or []
            if "Path" not in columns:
                raise UserError(f"there is no column Path among {', '.join(columns) or 'no columns'}", rows)
            paths = [(line["Path"] or "").strip() for line in table]
    except FileNotFoundError as error:
        raise UserError("there is no such table of rows", rows, "check --rows") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"this is not a CSV in UTF-8 ({error})", rows) from error
    empty = [i for i, path in enumerate(paths) if not path]
    if empty:
        raise UserError(f"{len(empty):,} of {len(paths):,} lines have an empty Path, first line {empty[0] + 2}", rows)
    repeated = [(path, count) for path, count in Counter(paths).items() if count > 1]
    if repeated:
        path, count = repeated[0]
        raise UserError(f"{len(repeated):,} paths occur more than once, first {path} ({count} times)", rows)
    return paths


@dataclass(frozen=True)
class Match:
    """Which row of the file belongs to which picture of the cohort."""

    row_n: np.ndarray
    """int64 [pictures of the cohort]: the row, or -1 where the file has none."""
    missing: list[str]
    """Paths of the cohort without a row."""
    unused: list[str]
    """Paths of the file that no picture of the cohort has."""


def match_rows(paths: Sequence[str], cohort_paths: Sequence[str]) -> Match:
    """Match by path, either exactly or without the first folder on one side or on both, as CheXpert's varies.

    One of these four ways is used for the whole file: the one that matches most pictures (the stricter on a tie), and
    never one in which two paths become equal. Raises UserError when no picture matches in any way.
    """
    best: np.ndarray | None = None
    for theirs, ours in ((_whole, _whole), (_rest, _whole), (_whole, _rest), (_rest, _rest)):
        keys, wanted = [theirs(path) for path in paths], [ours(path) for path in cohort_paths]
        if len(set(keys)) < len(keys) or len(set(wanted)) < len(wanted):
            continue
        row_of = {key: row for row, key in enumerate(keys) if key}
        row_n = np.array([row_of.get(key, -1) for key in wanted], np.int64)
        if best is None or (row_n >= 0).sum() > (best >= 0).sum():
            best = row_n
    if best is None or not (best >= 0).any():
        raise UserError(
            f"none of the {len(cohort_paths):,} pictures of the cohort has a row among {len(paths):,}",
            f"the cohort begins with {next(iter(cohort_paths), None)}, --rows with {next(iter(paths), None)}",
            "write the cohort's paths into the column Path",
        )
    used = set(best.tolist())
    missing = [path for path, row in zip(cohort_paths, best, strict=True) if row < 0]
    return Match(best, missing, [path for row, path in enumerate(paths) if row not in used])


def _whole(path: str) -> str:
    return path.replace("\\", "/").removeprefix("./").strip("/")


def _rest(path: str) -> str:
    """The path without its first folder; "" where there is none."""
    return _whole(path).partition("/")[2]
