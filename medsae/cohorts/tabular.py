"""What every source of labels gives (`CohortTable`), and how a table is read so that a mistake names its row.

Everything is vectorised over columns: CheXpert's 223,414 rows with 14 labels take about a second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medsae.progress import UserError

MISSING = np.int8(-128)
"""Marks a label that is not stated inside int8 matrices; NULL outside this room."""


@dataclass(frozen=True)
class CohortTable:
    """Images and labels before any picture is opened."""

    images: pd.DataFrame
    """image (int32, 0..n-1 in table order), path (relative to `root`), patient, study, source ("train", "valid", "test"
    or "": the published split), view ("AP", "PA", "LATERAL", ... or ""), frontal (bool: known to be frontal),
    sex ("F", "M" or ""), age (float64 years, NaN where unknown)."""
    labels: pd.DataFrame
    """image (int32), label (categorical), value (Int8: 1 present, 0 absent, -1 uncertain, NULL not stated); one row for
    every pair of image and label."""
    label_names: tuple[str, ...]
    """In the order of the table."""
    understood: list[str]
    """Plain lines for the person who waits: files, columns taken, what was guessed, counts."""
    root: Path
    """Folder that the paths start from."""
    inputs: dict[str, str]
    """Name of each table read -> sha256 of its bytes."""


def read_file(path: Path, **columns: type) -> pd.DataFrame:
    """A CSV (comma, semicolon or tab; also .gz) or Parquet file; `columns` forces types. Raises UserError."""
    if not path.is_file():
        raise UserError("the table does not exist", path, "check the path")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(path, encoding="utf-8-sig", sep=_separator(path), low_memory=False, dtype=columns)  # type: ignore[call-overload]
    except pd.errors.EmptyDataError:
        raise UserError("the table is empty", path, "give a table with a header and rows") from None
    except (pd.errors.ParserError, UnicodeDecodeError, OSError, ValueError) as error:
        raise UserError(f"the table cannot be read: {error}", path, "give a UTF-8 CSV or a Parquet file") from error
    if table.empty:
        raise UserError("the table has a header but no rows", path, "give a table with rows")
    table.columns = [str(name).strip() for name in table.columns]
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise UserError(f"two columns are called {twice[0]!r}", path, "rename one of them")
    return table


def _separator(path: Path) -> str:
    if path.suffix.lower() in (".gz", ".zip", ".bz2", ".xz"):
        return ","
    with path.open("rb") as file:
        header = file.readline(65_536)
    return max(",;\t", key=lambda c: header.count(c.encode()))


def sha256_of(path: Path) -> str:
    """Of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def line_of(path: Path, row: int) -> str:
    """Where row `row` (from 0) of a table stands, as a person would look it up."""
    return f"{path}, row {row + 1}" if path.suffix.lower() in (".parquet", ".pq") else f"{path}, line {row + 2}"


def label_values(column: pd.Series, path: Path) -> np.ndarray:
    """int8 [n] of one label column: 1, 0, -1, MISSING for blank. Booleans count as 1 and 0.

    Raises UserError that names the first row whose value is something else.
    """
    values = column
    if values.dtype.kind not in "fiub" or isinstance(values.dtype, pd.api.extensions.ExtensionDtype):
        text = values.astype("object").map(_word, na_action="ignore")
        values = pd.to_numeric(text, errors="coerce")
        bad = values.isna() & text.notna()
        if bad.any():
            raise _not_a_label(column, int(np.flatnonzero(bad)[0]), path, "is not a number")
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    unstated = np.isnan(numbers)
    filled = np.where(unstated, 0, numbers)
    bad = (filled != 1) & (filled != 0) & (filled != -1)
    if bad.any():
        raise _not_a_label(column, int(np.flatnonzero(bad)[0]), path, "is none of 1, 0, -1")
    return np.where(unstated, MISSING, filled).astype(np.int8)


def _word(value: object) -> object:
    if isinstance(value, str):
        word = value.strip().lower()
        return {"true": 1, "false": 0, "": None, "nan": None}.get(word, word)
    return value


def _not_a_label(column: pd.Series, row: int, path: Path, why: str) -> UserError:
    return UserError(
        f"label {column.name!r} has the value {column.iloc[row]!r}, which {why}",
        line_of(path, row),
        "a label is 1 (present), 0 (absent), -1 (uncertain) or blank (not stated); "
        "correct the row, or leave the column out of the labels",
    )


def long_labels(values_nk: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
    """The label matrix int8 [n, k] as one row for each pair, image by image, labels in the order of `names`."""
    n, k = values_nk.shape
    flat = values_nk.reshape(-1)
    unstated = flat == MISSING
    label = pd.Categorical.from_codes(np.tile(np.arange(k, dtype=np.int16), n), categories=list(names))
    return pd.DataFrame(
        {
            "image": np.repeat(np.arange(n, dtype=np.int32), k),
            "label": label,
            "value": pd.arrays.IntegerArray(np.where(unstated, np.int8(0), flat), unstated),
        }
    )


def label_matrix(labels: pd.DataFrame, names: tuple[str, ...], n: int) -> np.ndarray:
    """int8 [n, k] of long labels in any row order (MISSING where NULL or where there is no row); inverse of `long_labels`."""
    values_nk = np.full((n, len(names)), MISSING, dtype=np.int8)
    column = pd.Index(names).get_indexer(labels["label"].astype("object")) if labels["label"].dtype != "category" else (
        pd.Index(names).get_indexer(labels["label"].cat.categories)[labels["label"].cat.codes.to_numpy()]
    )  # fmt: skip
    value = labels["value"].astype("Int8").to_numpy(np.int8, na_value=MISSING)
    known = column >= 0
    values_nk[labels["image"].to_numpy()[known], column[known]] = value[known]
    return values_nk


def counts_lines(values_nk: np.ndarray, names: tuple[str, ...]) -> list[str]:
    """One line a label: how many images state what."""
    width = max(map(len, names), default=0)
    lines = [f"  {'label':<{width}} {'present':>9} {'absent':>9} {'uncertain':>9} {'unstated':>9}"]
    for j, name in enumerate(names):
        column = values_nk[:, j]
        numbers = "".join(f" {int((column == v).sum()):>9,}" for v in (1, 0, -1, MISSING))
        lines.append(f"  {name:<{width}}{numbers}")
    return lines


def refuse_duplicates(paths: pd.Series, place: Callable[[int], str]) -> None:
    """Raise UserError if a picture has two rows; `place(row)` says where a row stands."""
    twice = paths.duplicated(keep=False).to_numpy()
    if not twice.any():
        return
    path = paths.iloc[int(np.flatnonzero(twice)[0])]
    rows = np.flatnonzero((paths == path).to_numpy())
    more = int(paths.duplicated().sum())
    raise UserError(
        f"{len(rows)} rows are about one picture, {path} ({more:,} rows too many in all)",
        "; ".join(place(int(row)) for row in rows[:3]),
        "keep one row a picture",
    )


def sexes(column: pd.Series | None, n: int) -> np.ndarray:
    """ "F", "M" or "" [n] from spellings such as Female, f, 1-letter codes."""
    if column is None:
        return np.full(n, "", dtype=object)
    first = column.astype("object").map(lambda v: str(v).strip()[:1].upper(), na_action="ignore")
    return first.where(first.isin(["F", "M"]), "").to_numpy(object)


def ages(column: pd.Series | None, n: int) -> tuple[np.ndarray, int]:
    """Years float64 [n] (NaN unknown) and how many were beyond 0..120 and set to unknown.

    Understands numbers and DICOM's "058Y", "006M", "012W", "003D".
    """
    if column is None:
        return np.full(n, np.nan), 0
    years = pd.to_numeric(column, errors="coerce")
    text = column[years.isna() & column.notna()].astype("str")
    if len(text):
        parts = text.str.extract(r"^\s*(\d+)\s*([YMWDymwd])\s*$")
        unit = parts[1].str.upper().map({"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25})
        years = years.astype("float64")
        years.loc[text.index] = pd.to_numeric(parts[0]) * unit
    values = years.to_numpy(np.float64, na_value=np.nan).copy()
    odd = (values < 0) | (values > 120)
    values[odd] = np.nan
    return values, int(odd.sum())
