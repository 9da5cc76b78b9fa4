"""What every source of labels gives (`CohortTable`), and how a table is read so that a mistake names its row.

Everything is vectorised over columns: CheXpert's 223,414 rows with 14 labels take about a second.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medsae.progress import UserError

MISSING = np.int8(-128)
"""Marks a label that is not stated inside int8 matrices; NULL outside this room."""
_PARQUET = (".parquet", ".pq")


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


def column_names(path: Path) -> list[str]:
    """The columns of a table, stripped of blanks; raises UserError for a missing, empty or unreadable table."""
    return list(read_file(path, rows=1).columns)


def read_file(path: Path, texts: Collection[str] = (), rows: int | None = None) -> pd.DataFrame:
    """A CSV (comma, semicolon or tab; also .gz) or Parquet file, its first `rows` rows or all; raises UserError.

    Columns in `texts` are read as text even where they look like numbers ("00017" stays "00017").
    """
    if not path.is_file():
        raise UserError("the table does not exist", path, "check the path")
    try:
        table = _read_parquet(path, texts) if path.suffix.lower() in _PARQUET else _read_csv(path, texts, rows)
    except pd.errors.EmptyDataError:
        raise UserError("the table is empty", path, "give a table with a header and rows") from None
    except (pd.errors.ParserError, UnicodeDecodeError, OSError, ValueError) as error:
        raise UserError(f"the table cannot be read: {error}", path, "give a UTF-8 CSV or a Parquet file") from error
    if table.empty:
        raise UserError("the table has a header but no rows", path, "give a table with rows")
    names = pd.Index([str(name).strip() for name in table.columns])
    if names.has_duplicates:
        raise UserError(f"two columns are called {names[names.duplicated()][0]!r}", path, "rename one of them")
    return table.set_axis(names, axis=1)


def _read_csv(path: Path, texts: Collection[str], rows: int | None) -> pd.DataFrame:
    separator = ","
    if path.suffix.lower() not in (".gz", ".zip", ".bz2", ".xz"):
        with path.open("rb") as file:
            header = file.readline(65_536)
        separator = max(",;\t", key=lambda c: header.count(c.encode()))
    names = pd.read_csv(path, encoding="utf-8-sig", sep=separator, nrows=0).columns
    types = {name: "str" for name in names if str(name).strip() in texts}
    return pd.read_csv(path, encoding="utf-8-sig", sep=separator, nrows=rows, dtype=types, low_memory=False)  # type: ignore[arg-type]


def _read_parquet(path: Path, texts: Collection[str]) -> pd.DataFrame:
    table = pd.read_parquet(path)
    for name in table.columns:
        column = pd.Series(table[name])
        if str(name).strip() in texts and column.dtype.kind in "fiu":
            # A column of whole numbers with blanks is stored as floats: 17.0 is the patient 17.
            table[name] = column.astype("Int64" if (column.dropna() % 1 == 0).all() else "float64").astype("str")
    return table


def line_of(path: Path, row: int) -> str:
    """Where row `row` (from 0) of a table stands, as a person would look it up."""
    return f"{path}, row {row + 1}" if path.suffix.lower() in _PARQUET else f"{path}, line {row + 2}"


def label_values(column: pd.Series, path: Path) -> np.ndarray:
    """int8 [n] of one label column: 1, 0, -1, MISSING for blank. Booleans count as 1 and 0.

    Raises UserError that names the first row whose value is something else.
    """
    values = column
    if values.dtype.kind not in "fiub" or isinstance(values.dtype, pd.api.extensions.ExtensionDtype):
        text = values.astype("object").map(_word, na_action="ignore")
        values = pd.Series(pd.to_numeric(text, errors="coerce"))
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
        f"label {column.name!r} has the value {str(column.iloc[row])!r}, which {why}",
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
    """int8 [n, k] of long labels in any row order, MISSING where NULL or without a row; undoes `long_labels`."""
    values_nk = np.full((n, len(names)), MISSING, dtype=np.int8)
    label = pd.Categorical(labels["label"])
    column = pd.Index(names).get_indexer(pd.Index(label.categories))[label.codes]
    value = pd.Series(labels["value"]).astype("Int8").to_numpy(np.int8, na_value=MISSING)
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
    years = pd.Series(pd.to_numeric(column, errors="coerce"))
    text = pd.Series(column[years.isna() & column.notna()]).astype("str")
    if len(text):
        parts = text.str.extract(r"^\s*(\d+)\s*([YMWDymwd])\s*$")
        unit = parts[1].str.upper().map({"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25})
        years = years.astype("float64")
        years.loc[text.index] = pd.Series(pd.to_numeric(parts[0])) * unit
    values = years.to_numpy(np.float64, na_value=np.nan).copy()
    odd = (values < 0) | (values > 120)
    values[odd] = np.nan
    return values, int(odd.sum())
