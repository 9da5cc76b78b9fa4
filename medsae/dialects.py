"""Any table that people keep, as text: separators, encodings, compression, JSON lines, Parquet, Excel.

What a file is, is read from its bytes; its name decides nothing. Every cell stays the text that was written, because
only the column's purpose says what it means: "00017" is a patient, "1,0" a label, "Yes" either.
"""

from __future__ import annotations

import bz2
import csv
import datetime
import gzip
import io
import itertools
import json
import lzma
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from medsae.progress import UserError

BLANKS = ("", "nan", "NaN", "NAN", "NA", "N/A", "n/a", "#N/A", "null", "NULL", "Null", "<NA>", "NaT")
"""What is read as an empty cell."""
_SEPARATORS = ",;\t|"
_TOP = 30
"""Rows among which the header is looked for."""
_NO_NAME = re.compile(r"^[+-]?[\d.,]+$|\.[A-Za-z]\w{1,4}$|/")
_HEAD = 1 << 18
"""Bytes that decide separator and encoding."""
_UNNAMED = "Unnamed: "
_FOREIGN = (
    *((bytes((0x80, version)), "a pickle, which runs code when it is read") for version in range(2, 6)),
    (b"\x89HDF", "HDF5"), (b"SQLite format 3", "a database"),
    (b"\x89PNG", "a picture"), (b"\xff\xd8\xff", "a picture"), (b"II*\0", "a picture"), (b"MM\0*", "a picture"),
    (b"%PDF", "a PDF"), (b"\x28\xb5\x2f\xfd", "packed with zstd: unpack it"), (b"7z\xbc\xaf", "a 7z: unpack it"),
    (b"Rar!", "a rar: unpack it"), (b"version https://git-lfs", "a Git LFS pointer: run git lfs pull"),
    (b"<!doctype", "a web page: was the download refused?"), (b"<html", "a web page: was the download refused?"),
    (b"<?xml", "XML"),
)  # fmt: skip
"""What files begin with (in lower case) that are no table."""


@dataclass(frozen=True)
class Read:
    """A table as it was read."""

    path: Path
    table: pd.DataFrame
    """Every column as text (`str`, NaN for an empty cell), names stripped of blanks."""
    first_line: int | None
    """Line of the first row as an editor counts; None where the file has no lines (Parquet, Excel)."""
    headed: bool = True
    """False where the columns are only numbered, because nothing but the first row could name them."""
    told: list[str] = field(default_factory=list)
    """What had to be guessed: an encoding, a separator that is not a comma, columns without a name."""
    kept: np.ndarray | None = None
    """Places of the rows among those of the file, where blank ones are left out."""

    def place(self, row: int) -> str:
        """Where row `row` (from 0) stands, as a person would look it up."""
        row = row if self.kept is None else int(self.kept[row])
        if self.first_line is None:
            return f"{self.path}, row {row + 1}"
        return f"{self.path}, line {row + self.first_line}"


def read(path: Path, rows: int | None = None, header: bool = True) -> Read:
    """The first `rows` rows, or all, of a table; raises UserError for one that is missing, empty or unreadable.

    `header` off: the first line of a table of text is a row like the others, since it may name the columns or not.
    """
    if not path.is_file():
        raise UserError("the table does not exist", path, "check the path")
    try:
        found = _read(path, rows, header)
    except pd.errors.EmptyDataError:
        raise UserError("the table is empty", path, "give a table with a header and rows") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, UnicodeError, OSError, ValueError, EOFError, csv.Error,
            zipfile.BadZipFile, lzma.LZMAError) as error:  # fmt: skip
        what, do = _why(str(error).strip())
        raise UserError(f"the table cannot be read: {what}", path, do) from error
    blank = found.table.isna().all(axis=1).to_numpy(bool)
    if blank.any():  # what a spreadsheet leaves below its rows
        found = replace(found, table=found.table[~blank].reset_index(drop=True), kept=np.flatnonzero(~blank),
                        told=[*found.told, f"{path.name}: {int(blank.sum()):,} blank rows are left out"])  # fmt: skip
    if found.table.empty:
        raise UserError("the table has a header but no rows", path, "give a table with rows")
    return found


def read_list(path: Path, names: Sequence[str], wide: str, rows: int | None = None) -> Read:
    """A list without a header whose cells are parted by blanks, as a table with the columns `names`; more blanks than
    that are inside the column `wide`. Raises UserError for a file that is missing, empty or no text, and for a line
    with fewer cells."""
    if not path.is_file():
        raise UserError("the table does not exist", path, "check the path")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeError, OSError) as error:
        raise UserError(f"the list cannot be read: {error}", path, "give a list of text") from error
    kept = [i for i, line in enumerate(lines) if line.strip()][:rows]
    if not kept:
        raise UserError("the list is empty", path, "give a list with a line for each picture")
    before, after = names.index(wide), len(names) - names.index(wide) - 1
    found = []
    for i in kept:
        cells = lines[i].split()
        if len(cells) < len(names):
            raise UserError(f"line {i + 1} has {len(cells)} cells, {len(names)} were expected ({', '.join(names)})",
                            path, "give the publisher's own list")  # fmt: skip
        middle = " ".join(cells[before : len(cells) - after])
        found.append([*cells[:before], middle, *cells[len(cells) - after :]] if after else [*cells[:before], middle])
    told = [f"{path.name}: no header, cells parted by blanks"]
    return Read(path, pd.DataFrame(found, columns=list(names), dtype="str"), 1, False, told, np.array(kept))


def _why(said: str) -> tuple[str, str]:
    """What pandas says of a table that is no grid, in words that tell where; what to do."""
    if long := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", said):
        return (f"line {long[2]} has {long[3]} cells, the header has {long[1]}",
                "put cells that hold the separator in quotes")  # fmt: skip
    if "EOF inside string" in said:
        row = re.search(r"row (\d+)", said)
        return f"a quote opens{f' in row {row[1]}' if row else ''} and is never closed", "close it, or write it twice"
    return said, "give a CSV, JSON lines, Parquet or Excel file"


def _read(path: Path, rows: int | None, header: bool) -> Read:
    with path.open("rb") as file:
        start = file.read(32)
    magic, start = start[:8], start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    what = next((what for mark, what in _FOREIGN if start.startswith(mark.lower())), None)
    if what is not None:
        raise UserError(f"this is no table but {what}", path, "give a CSV, JSON lines, Parquet or Excel file")
    if magic[:6] == b"ARROW1":
        return Read(path, _texts(_indexed(pd.read_feather(path)), rows), None)
    if magic[:4] == b"PAR1":
        return Read(path, _texts(_indexed(pd.read_parquet(path)), rows), None)
    if magic[:4] == b"PK\x03\x04" and "xl/workbook.xml" in zipfile.ZipFile(path).namelist():
        return _read_excel(path, rows, "openpyxl")
    if magic == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        return _read_excel(path, rows, "xlrd")
    with _opened(path, magic) as file:
        head = file.read(_HEAD)
    if not head:
        raise pd.errors.EmptyDataError
    encoding, told = _encoding(head), []
    text = head.decode(encoding, errors="replace")
    start = text.lstrip()[:1]
    if start == "{" or (start == "[" and re.match(r"\s*\[\s*\{", text)):
        return _read_json(path, magic, encoding, rows)
    try:
        return _read_csv(path, magic, encoding, head, rows, header, told)
    except UnicodeDecodeError:
        if encoding not in ("utf-8", "utf-8-sig"):
            raise
    told.append(f"{path.name} is not UTF-8: read as Latin-1 (Windows-1252)")
    try:
        return _read_csv(path, magic, "cp1252", head, rows, header, told)
    except UnicodeDecodeError:
        return _read_csv(path, magic, "latin-1", head, rows, header, told)


@contextmanager
def _opened(path: Path, magic: bytes) -> Iterator[BinaryIO]:
    """The bytes of a table, unpacked."""
    if magic[:2] == b"\x1f\x8b":
        with gzip.open(path) as file:
            yield file  # type: ignore[misc]
    elif magic[:3] == b"BZh":
        with bz2.open(path) as file:
            yield file  # type: ignore[misc]
    elif magic[:6] == b"\xfd7zXZ\x00":
        with lzma.open(path) as file:
            yield file  # type: ignore[misc]
    elif magic[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
            if len(names) != 1:
                raise UserError(f"the archive holds {len(names)} files: {', '.join(names[:5])}", path,
                                "unpack it, and give the table itself")  # fmt: skip
            with archive.open(names[0]) as file:
                yield file  # type: ignore[misc]
    else:
        with path.open("rb") as file:
            yield file


def _encoding(head: bytes) -> str:
    """By the byte order mark, else by the zero bytes that UTF-16 has in plain text, else UTF-8."""
    if head[:3] == b"\xef\xbb\xbf":
        return "utf-8-sig"
    if head[:4] in (b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff"):
        return "utf-32"
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    even, odd = head[0:4096:2].count(0), head[1:4096:2].count(0)
    half = max(1, min(len(head), 4096) // 2)
    if odd > 0.6 * half > even:
        return "utf-16-le"
    if even > 0.6 * half > odd:
        return "utf-16-be"
    return "utf-8"


# --- CSV --------------------------------------------------------------------------------------------------------------


def _read_csv(
    path: Path, magic: bytes, encoding: str, head: bytes, rows: int | None, header: bool, told: list[str]
) -> Read:
    text = head.decode(encoding, errors="ignore")
    if "\x00" in text:
        raise ValueError("it holds zero bytes: it is no text")
    if len(head) == _HEAD:
        text = text[: text.rfind("\n") + 1] or text  # the last line may be cut
    named = re.match(r"\s*\"?sep=(.)\"?[^\S\n]*\r?\n", text, re.IGNORECASE)
    skip = 1 if named else 0
    body = text[named.end() :] if named else text
    separator = named.group(1) if named else _separator(body)
    top = list(itertools.islice(csv.reader(io.StringIO(body, newline=None), delimiter=separator), _TOP))
    if header and (above := _above(top)):
        told = [*told, f"{path.name}: {above} lines above the header are left out"]
        skip, top = skip + above, top[above:]
    first = next((row for row in top if any(row)), [])
    if header:
        _refuse_twins([name.strip() for name in first], path)
    if separator != ",":
        told = [*told, f"{path.name}: columns parted by {'tab' if separator == chr(9) else repr(separator)}"]
    with _opened(path, magic) as file, warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            table = pd.read_csv(
                file, sep=separator, encoding=encoding, dtype=str, keep_default_na=False, na_values=list(BLANKS),
                skiprows=skip, nrows=rows, index_col=False, skipinitialspace=True, header=0 if header else None,
            )  # fmt: skip
        except pd.errors.ParserWarning as error:
            raise ValueError("rows have more cells than the header has names") from error
    if not header:
        return Read(path, table, 1 + skip, False, told)
    if len(table.columns) == 1 and len(first) <= 1 and len(table) and rows is None:
        told = [*told, f"{path.name} has one column: is its separator one of comma, semicolon, tab, |?"]
    return Read(path, _named(table, told, path), 2 + skip, told=told)


def _above(top: list[list[str]]) -> int:
    """How many of the first rows are no header but a title or a remark: one cell alone, where several words follow."""
    at = 0
    while at < len(top) and not any(cell.strip() for cell in top[at][1:]):
        at += 1
    head = [cell.strip() for cell in top[at]] if at < len(top) else []
    names = [name for name in head if name]
    # A header names things: a number, or the name of a file, is a row's.
    is_header = len(names) > 1 and bool(head[0]) and not any(_NO_NAME.search(name) for name in names)
    return at if is_header and len(set(names)) == len(names) else 0


def _separator(text: str) -> str:
    """The separator under which the first rows have equally many cells, and the most; a comma when none does. Single
    cells above them are a title."""
    lines = [line for line in text.splitlines(keepends=True)[:60] if line.strip()]
    return _grid(lines, title=False) or _grid(lines, title=True) or ","


def _grid(lines: list[str], title: bool) -> str | None:
    """The separator under which the lines are a grid, below single cells with `title`; None without one."""
    best, most = None, 1
    for separator in _SEPARATORS:
        try:
            cells = [len(row) for row in csv.reader(lines, delimiter=separator) if row]
        except csv.Error:
            continue
        cells = list(itertools.dropwhile(lambda n: n < 2, cells)) if title else cells
        if not cells or cells[0] < 2:
            continue
        # The last row may be cut; rows may lack cells at their end.
        agree = sum(n == cells[0] for n in cells) / len(cells)
        if agree >= 0.7 and cells[0] > most:
            best, most = separator, cells[0]
    return best


def _refuse_twins(names: list[str], path: Path) -> None:
    seen: set[str] = set()
    for name in names:
        if name and name in seen:
            raise UserError(f"two columns are called {name!r}", path, "rename one of them")
        seen.add(name)


def _named(table: pd.DataFrame, told: list[str], path: Path) -> pd.DataFrame:
    """Names stripped; columns without a name are left out (an index that a program wrote, or empty ones), and said."""
    names = [str(name).strip() for name in table.columns]
    nameless = [name.startswith(_UNNAMED) or not name for name in names]
    filled = [str(i) for i, without in enumerate(nameless) if without and table.iloc[:, i].notna().any()]
    if filled:
        told.append(f"{path.name}: {len(filled)} columns without a name are left out")
    table = table.set_axis(pd.Index(names), axis=1)
    return table.loc[:, [not without for without in nameless]] if any(nameless) else table


# --- JSON, Parquet, Excel ---------------------------------------------------------------------------------------------


def _read_json(path: Path, magic: bytes, encoding: str, rows: int | None) -> Read:
    """An object a line, or one array of objects."""
    found: list[dict[str, Any]] = []
    with _opened(path, magic) as file:
        text = io.TextIOWrapper(file, encoding=encoding)
        start = text.read(64)
        text.seek(0)
        if start.lstrip()[:1] == "[":
            found = json.load(text)[:rows]
            first = None
        elif (held := _one_object(text)) is not None:
            found, first = _records(held)[:rows], None
        else:
            first = 1
            text.seek(0)
            for number, line in enumerate(text, 1):
                if rows is not None and len(found) >= rows:
                    break
                if not line.strip():
                    continue
                try:
                    found.append(json.loads(line))
                except ValueError as error:
                    raise UserError(f"this is no JSON object: {error}", f"{path}, line {number}",
                                    "give one object a line, or one array of objects") from error  # fmt: skip
    if not all(isinstance(row, dict) for row in found):
        raise ValueError("its lines are no JSON objects")
    told: list[str] = []
    table = pd.DataFrame([_flat(row) for row in found], dtype=object)
    return Read(path, _named(_texts(table, rows), told, path), first, told=told)


def _one_object(text: io.TextIOWrapper) -> dict[str, Any] | None:
    """What a file of one JSON object holds, None for one object a line."""
    try:
        first = json.loads(text.readline())
        if any(line.strip() for line in text):
            return None
    except ValueError:
        text.seek(0)
        try:
            first = json.load(text)
        except ValueError:  # a line is torn: reading them one by one says which
            return None
    return first if isinstance(first, dict) else None


def _records(held: dict[str, Any]) -> list[Any]:
    """The rows in one object: its only list of objects ("images": [...]), or a table by columns as pandas writes it."""
    lists = [value for value in held.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(lists) == 1:
        return lists[0]
    if isinstance(held.get("columns"), list) and isinstance(held.get("data"), list):
        return [dict(zip(map(str, held["columns"]), row, strict=True)) for row in held["data"]]
    if len(held) > 1 and all(isinstance(value, dict) for value in held.values()):
        keys = [list(value) for value in held.values()]
        if all(one == keys[0] for one in keys) and not any(isinstance(v, dict | list) for v in held[next(iter(held))]):
            return [{name: held[name][key] for name in held} for key in keys[0]]
    if len(held) > 1 and all(isinstance(v, list) and not any(isinstance(c, dict) for c in v) for v in held.values()):
        return [dict(zip(held, row, strict=True)) for row in zip(*held.values(), strict=True)]
    return [held]


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Objects in a row are columns: {"labels": {"Edema": 1}} is {"Edema": 1}; a name that is taken keeps both."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            out |= {
                inner if inner not in row and inner not in out else f"{name}.{inner}": v for inner, v in value.items()
            }
        else:
            out[name] = value
    return out


def _indexed(table: pd.DataFrame) -> pd.DataFrame:
    """An index that is more than a count of the rows is a column."""
    counted = isinstance(table.index, pd.RangeIndex) or (table.index.name is None and table.index.nlevels == 1
                                                         and pd.api.types.is_integer_dtype(table.index))  # fmt: skip
    return table if counted else table.reset_index()


def _read_excel(path: Path, rows: int | None, engine: str) -> Read:
    try:
        sheets = pd.read_excel(
            path, sheet_name=None, header=None, dtype=object, engine=engine, nrows=None if rows is None else rows + _TOP
        )  # type: ignore[arg-type]
    except ImportError as error:
        raise UserError("this is an Excel file, and its reader is not installed", path,
                        f"pip install {engine}, or save the table as CSV") from error  # fmt: skip
    # A sheet of remarks has one column.
    wide = [name for name, sheet in sheets.items() if min(sheet.dropna(how="all").dropna(axis=1, how="all").shape) > 1]
    name = wide[0] if wide else next(iter(sheets))
    told = [f"{path.name}: the sheet {name!r} of {', '.join(map(repr, sheets))}" if len(sheets) > 1
            else f"{path.name}: its only sheet"]  # fmt: skip
    sheet = sheets[name]
    if sheet.empty:
        raise pd.errors.EmptyDataError
    top = [["" if pd.isna(cell) else str(cell) for cell in row] for row in sheet.head(_TOP).to_numpy(object)]
    above = _above(top)
    if above:
        told.append(f"{path.name}: {above} rows above the header are left out")
    names = [word or f"{_UNNAMED}{place}" for place, word in enumerate(top[above])]
    table = sheet.iloc[above + 1 :].set_axis(pd.Index(names), axis=1)
    return Read(path, _named(_texts(table, rows), told, path), None, told=told)


def _texts(table: pd.DataFrame, rows: int | None) -> pd.DataFrame:
    """A table with types as text; whole numbers that are stored as floats because cells are empty lose their ".0"."""
    out = {str(name).strip(): _text(pd.Series(table[name]).iloc[:rows]) for name in table.columns}
    _refuse_twins([str(name).strip() for name in table.columns], Path("table"))
    return pd.DataFrame(out, index=range(min(len(table), rows or len(table))))


def _text(column: pd.Series) -> pd.Series:
    column = column.reset_index(drop=True)
    kind = column.dtype.kind if hasattr(column.dtype, "kind") else "O"
    if kind == "f" and bool((column.dropna() % 1 == 0).all()):
        column = column.astype("Int64")
    if kind == "M":
        column = column.map(lambda v: v.isoformat().removesuffix("T00:00:00"), na_action="ignore")
    if column.dtype == object:
        column = column.map(_cell)
    text = column.astype("str")
    return text.where(~text.str.strip().isin(list(BLANKS)) & column.notna().to_numpy(bool))


def _cell(value: Any) -> Any:
    if isinstance(value, (list, tuple, np.ndarray)):
        return repr([str(part) for part in value])
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat().removesuffix("T00:00:00")
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if value is None or isinstance(value, float) else str(value)
