"""Published data sets as they are downloaded, read by their declarations (`declared`, `offered`): no code for each."""

from __future__ import annotations

import fnmatch
import os
import string
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from medsae.cohorts import findings, locate, marks, reports, tabular
from medsae.cohorts.assemble import Plan, Rows, assemble
from medsae.cohorts.columns import PICTURE, Columns
from medsae.cohorts.declared import Declaration, File, Join, Published
from medsae.cohorts.findings import Labels
from medsae.cohorts.tabular import CohortTable
from medsae.dialects import Read
from medsae.plugins import named, sources
from medsae.progress import UserError

_DEEP = 3
"""Folders below the root in which tables are looked for."""
_MANY = 400
"""A folder with more folders than this holds patients, not tables."""
_PACKED = ("", ".gz", ".zip")


def read(config: Published) -> CohortTable:
    """The cohort of a data set whose download lies in `config.root`, by its declaration.

    Raises UserError for a missing folder, table or column, for cells that are no labels, for rows that contradict each
    other, and (with `config.pictures`) when fewer than half of the pictures are found.
    """
    offer, layout = sources.get(config.source), config.layout()
    root = config.root
    if not root.is_dir():
        what = "is a file, not a folder" if root.is_file() else "does not exist"
        raise UserError(f"the folder of {offer.label} {what}", root, "give the folder that you unpacked")
    home = _home(root, layout)
    near = _Near(home)
    tables = _tables(near, layout, config)
    rows = _rows(tables, layout)
    inputs = {name: reports.sha256_of_table(path) for name, path in near.used.items()}
    told: list[str] = []
    for join in layout.joins:
        rows, line = _joined(rows, join, near, layout)
        told += line
    rows = _listed(rows, layout, near, told)
    rows = _only(rows, layout, told)
    inputs |= {name: reports.sha256_of_table(path) for name, path in near.used.items() if name not in inputs}
    columns = _columns(rows.table, layout, rows)
    labels = _labels(rows, columns, layout)
    regions, lines = _regions(near, layout, inputs)
    told += lines
    rows = replace(rows, inputs=inputs, told=[*rows.told, *told, *layout.about])
    # Tables lie beside the pictures or one folder below them: the pictures are looked for from there on.
    plan = Plan(
        title=f"{offer.label} in {root}",
        ways=lambda table, written: _ways(home, near.folder_of(rows.main), table, layout),
        root=home,
        missing=lambda: _lacking(home, layout),
        do=f"give the whole download with --root, or --no-pictures to read the labels alone ({_summary(config)})",
        patient_in_path=layout.patient_in_path,
        study_in_path=layout.study_in_path,
        split_in_path=layout.split_in_path,
        age_zero_is_unknown=layout.age_zero_is_unknown,
        box_label=layout.box_label,
        marks=regions,
        picture=columns.path,
        defined=layout.defined,
        blank_is_absent=layout.blank_is_absent,
        views_help="choose another --views",
    )
    return assemble(rows, columns, labels, config, plan)


def recognise(folder: Path, options: type[Published]) -> Published | None:
    """The config that reads `folder`, when it holds the tables and columns that the data set declares, else None."""
    if not folder.is_dir():
        return None
    layout = options.declaration
    near = _Near(_home(folder, layout))
    found = [near.find(file, _marks_of(layout)) for file in layout.tables]
    needed = [path for file, path in zip(layout.tables, found, strict=True) if file.needed]
    needed += [
        near.find(join.file, [(name,) for name in join.on.values()]) for join in layout.joins if join.file.needed
    ]
    if not any(found) or not all(needed):
        return None
    return options(root=folder)


def _summary(config: Published) -> str:
    return (type(config).__doc__ or "").strip().rstrip(".")


# --- the tables of a download -----------------------------------------------------------------------------------------


class _Near:
    """The files in a folder and the folders in it, by which tables are found; the ones that were read."""

    def __init__(self, home: Path):
        self.home = home
        self.used: dict[str, Path] = {}
        self._files = _shallow_files(home)

    def find(self, file: File, columns: Sequence[Sequence[str]], strict: bool = False) -> Path | None:
        """The table: the first of its names that is there, with one of each of `columns` in its header; the
        shallowest. UserError when two folders at the same depth hold it. With `strict` a table of its first name that
        lacks a column is found too: reading it says what is wrong."""
        for name in file.names:
            patterns = [(name + end).lower() for end in _PACKED]
            named = [path for path in self._files if any(fnmatch.fnmatchcase(path.name.lower(), p) for p in patterns)]
            hits = [path for path in named if (_lists(path, file, columns) if file.header else _has(path, columns))]
            if not hits and strict and name == file.names[0]:
                hits = named
            if not hits:
                continue
            depth = min(len(path.parts) for path in hits)
            hits = [path for path in hits if len(path.parts) == depth]
            # A table that is there plain and packed is one.
            folders = list(dict.fromkeys(path.parent for path in hits))
            if len(folders) > 1:
                raise UserError(f"{name} is in two folders: {folders[0]} and {folders[1]}", self.home,
                                f"give one of them: --root '{folders[0]}'")  # fmt: skip
            return hits[0]
        return None

    def use(self, path: Path, file: File, picture: str = "") -> Read:
        self.used[path.name] = path
        return reports.read(path, header=file.header, picture=picture)

    def folder_of(self, path: Path) -> Path:
        return path.parent


def _shallow_files(home: Path) -> list[Path]:
    found: list[Path] = []
    level = [home]
    for depth in range(_DEEP + 1):
        below: list[Path] = []
        for folder in level:
            try:
                with os.scandir(folder) as entries:
                    names = sorted(entries, key=lambda entry: entry.name)
            except OSError:
                continue
            folders = [entry for entry in names if not entry.name.startswith(".") and entry.is_dir()]
            if len(folders) <= _MANY and depth < _DEEP:
                below += [Path(entry.path) for entry in folders]
            found += [
                Path(entry.path)
                for entry in names
                if entry.name.lower().endswith(_TABLES) and not entry.name.startswith(".") and entry.is_file()
            ]
            if any(entry.name.endswith(".xml") for entry in names[:50]):
                found.append(Path(folder))  # a folder of reports is a table
        level = below
    return found


_TABLES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".gz", ".zip", ".parquet", ".xlsx", ".xls")


def _has(path: Path, columns: Sequence[Sequence[str]]) -> bool:
    """The header has at least one of the names in each of `columns`."""
    if not columns:
        return True
    try:
        names = {name.strip().lower() for name in reports.columns_of(path)}
    except UserError:
        return False
    return all(any(name.lower() in names for name in one) for one in columns)


def _lists(path: Path, file: File, columns: Sequence[Sequence[str]]) -> bool:
    """It is a list without a header whose first line names a picture where `file` says."""
    picture = columns[0][0] if columns else file.header[0]
    try:
        return bool(PICTURE.search(reports.read(path, 1, file.header, picture).table[picture].iloc[0]))
    except UserError:
        return False


def _marks_of(layout: Declaration) -> list[tuple[str, ...]]:
    """Columns that tell this data set's table from another table of the same name."""
    return [layout.picture]


def _home(root: Path, layout: Declaration) -> Path:
    """The folder that holds the data set: `root`, or its parent where `root` is one of the parts beside each other."""
    lower = root.name.lower()
    if layout.beside and any(fnmatch.fnmatchcase(lower, part) for part in layout.beside):
        return root.absolute().parent
    return root


def _lacking(home: Path, layout: Declaration) -> str:
    """A sentence about parts of the download that are not there while others are."""
    if not layout.beside:
        return ""
    folders = [p for depth in ("*", "*/*") for p in sorted(home.glob(depth))[:_MANY] if p.is_dir()]
    there = {part for part in layout.beside for p in folders if fnmatch.fnmatchcase(p.name.lower(), part)}
    gone = [part.strip("*") for part in layout.beside if part not in there]
    if not there or not gone:
        return ""
    return f"no folder {', '.join(map(repr, gone))}: that part of the download is missing or not unpacked"


def _tables(near: _Near, layout: Declaration, config: Published) -> list[tuple[File, Read]]:
    found = [(file, near.find(file, _marks_of(layout), strict=True)) for file in layout.tables]
    absent = [file for file, path in found if path is None and file.needed]
    if absent or not any(path for _, path in found):
        names = " or ".join((absent[0] if absent else layout.tables[0]).names)
        raise _no_table(names, near, config)
    return [(file, near.use(path, file, layout.picture[0])) for file, path in found if path is not None]


def _no_table(names: str, near: _Near, config: Published) -> UserError:
    """The error for a folder without the table: what lies there instead."""
    archives, _ = locate.set_aside(near.home)
    seen = ", ".join(path.name for path in near._files[:6]) or "no table at all"
    other = [
        name
        for name, source in sources.all().items()
        if name != config.source
        and source.recognise
        and not source.any_folder
        and _recognised(source.recognise, near.home)
    ]
    do = (f"this looks like another data set: python -m medsae ingest {other[0]} --root '{config.root}'" if other
          else f"{', '.join(archives[:3])}: unpack it first" if archives
          else "give the folder of the download with --root, or use: ingest table --table FILE")  # fmt: skip
    return UserError(f"there is no {names} in this folder or the folders in it (there is: {seen})", config.root, do)


def _recognised(where: str, folder: Path) -> bool:
    try:
        return named(where)(folder) is not None
    except UserError:
        return False


# --- rows -------------------------------------------------------------------------------------------------------------


def _rows(tables: Sequence[tuple[File, Read]], layout: Declaration) -> Rows:
    parts, starts, source, told = [], [], [], []
    for file, read in tables:
        starts.append(sum(len(part) for part in parts))
        parts.append(_spelled(read.table, layout))
        _refuse_lacking(parts[-1], read.path, layout)
        source += [file.split] * len(read.table)
        told += read.told
    reads = [read for _, read in tables]

    def place(row: int) -> str:
        which = max(i for i, start in enumerate(starts) if start <= row)
        return reads[which].place(row - starts[which])

    table = parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)
    split = np.array(source, dtype=object)
    counts = ", ".join(f"{read.path.name} {len(read.table):,}" for read in reads)
    return Rows(table, place, reads[0].path, {}, split if (split != "").any() else None, [f"rows {counts}", *told])


def _refuse_lacking(table: pd.DataFrame, path: Path, layout: Declaration) -> None:
    """Raise UserError for a table that lacks a column without which its rows mean nothing."""
    own = () if layout.labels is None or layout.finding or layout.joins else layout.labels
    needed = [*([] if set(layout.picture) & set(table) else [layout.picture[0]]),
              *(name for name in own if name not in table)]  # fmt: skip
    if needed:
        raise _lacks(needed, table, path)


def _lacks(needed: Sequence[str], table: pd.DataFrame, path: Path) -> UserError:
    return UserError(
        f"the table has no column {', '.join(map(repr, needed))} (it has: {', '.join(map(str, table.columns))})",
        path,
        "give the publisher's own table, or use: ingest table --table FILE --path-column NAME",
    )


def _spelled(table: pd.DataFrame, layout: Declaration) -> pd.DataFrame:
    """Column names in the spelling of the declaration, where a version of the data set differs in case."""
    known = [*layout.picture, *(layout.labels or ()), *layout.finding, *layout.patient, *layout.rle]
    names = {name.lower(): name for name in known}
    own = {str(name).lower() for name in table.columns}
    return table.rename(columns={name: names[str(name).lower()] for name in table.columns
                                 if str(name).lower() in names and name not in names.values()
                                 and len(own) == len(table.columns)})  # fmt: skip


def _joined(rows: Rows, join: Join, near: _Near, layout: Declaration) -> tuple[Rows, list[str]]:
    path = near.find(join.file, [(name,) for name in join.on.values()])
    lacking = [name for name in join.on if name not in rows.table]
    if path is None or lacking:
        if join.file.needed:
            raise UserError(f"there is no {' or '.join(join.file.names)} in this folder or the folders in it",
                            near.home, "give the whole download with --root")  # fmt: skip
        return rows, []
    read = near.use(path, join.file)
    other = _spelled(read.table, layout).rename(columns={theirs: ours for ours, theirs in join.on.items()})
    on = list(join.on)
    extra = [str(name) for name in other.columns if name not in on]
    # A column that the rows have already is not taken twice.
    new = [name for name in extra if join.prefix or name not in rows.table]
    other = other[[*on, *new]].rename(columns={name: join.prefix + name for name in new})
    for name in on:
        other[name] = tabular.identifiers(other[name])
    other = other.drop_duplicates()
    twice = int(other.duplicated(subset=on).sum())
    told = [*read.told, *([f"{path.name}: {twice:,} rows say something else of the same picture: the first counts"]
                          if twice else [])]  # fmt: skip
    other = other.drop_duplicates(subset=on).dropna(subset=on)
    table = rows.table
    keys = pd.DataFrame({name: tabular.identifiers(table[name]) for name in on})
    index = keys.reset_index().merge(other, on=on, how="left").sort_values("index", kind="stable")
    matched = int(index[[join.prefix + name for name in new]].notna().any(axis=1).sum()) if new else 0
    added = index[[join.prefix + name for name in new]].reset_index(drop=True)
    if join.prefix and set(added.columns) & set(table.columns):
        # Two tables of one kind (test and validation): each fills its own pictures.
        for name in added.columns:
            table = table.assign(**{name: table[name].fillna(added[name]) if name in table else added[name]})
    else:
        table = pd.concat([table, added], axis=1)
    told.append(f"{path.name}: joined to {matched:,} of {len(table):,} rows")
    return replace(rows, table=table), told


def _listed(rows: Rows, layout: Declaration, near: _Near, told: list[str]) -> Rows:
    """Published splits that are lists of pictures in text files."""
    source = np.full(len(rows.table), "", dtype=object) if rows.source is None else rows.source.copy()
    names = rows.table[_first(rows.table, layout.picture)] if layout.lists else None
    for file in layout.lists:
        path = near.find(file, ())
        if path is None or names is None:
            continue
        near.used[path.name] = path
        listed = {line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()}
        among = names.isin(listed).to_numpy(bool) & (source == "")
        source[among] = file.split
        told.append(f"{path.name}: {int(among.sum()):,} pictures are {file.split}")
    return replace(rows, source=source if (source != "").any() else None)


def _only(rows: Rows, layout: Declaration, told: list[str]) -> Rows:
    for name, words in layout.only.items():
        if name not in rows.table:
            continue
        column = tabular.by_word(rows.table[name], lambda word: word.strip().lower())
        kept = column.isin(words) | column.isna()
        if not kept.all():
            counts = rows.table[name][~kept].value_counts()
            left = ", ".join(f"{count:,} {word}" for word, count in counts.iloc[:3].items())
            told.append(f"left out, because they are no radiographs by column {name!r}: {left}")
            rows = rows.take(np.flatnonzero(kept))
    return rows


def _first(table: pd.DataFrame, names: Sequence[str]) -> str:
    return next(name for name in names if name in table)


def _columns(table: pd.DataFrame, layout: Declaration, rows: Rows) -> Columns:
    def one(names: Sequence[str]) -> str | None:
        return next((name for name in names if name in table), None)

    picture = one(layout.picture)
    wanted = () if layout.labels is None or (layout.finding and one(layout.finding)) else layout.labels
    missing = [*([] if picture else [layout.picture[0]]), *(name for name in wanted if name not in table)]
    missing += [names[0] for names in (layout.rle,) if names and one(names) is None]
    if missing:
        raise _lacks(missing, table, rows.main)
    box = layout.box if layout.box and set(layout.box) <= set(map(str, table.columns)) else None
    return Columns(
        path=str(picture), finding=one(layout.finding), patient=one(layout.patient), study=one(layout.study),
        view=one(layout.view), facing=one(layout.facing), sex=one(layout.sex), age=one(layout.age),
        split=one(layout.split), reader=one(layout.reader), birth=one(layout.birth), date=one(layout.date),
        rle=one(layout.rle), box=box,
    )  # fmt: skip


def _labels(rows: Rows, columns: Columns, layout: Declaration) -> Labels:
    table = rows.table
    if columns.rle is not None:
        there = marks.is_mask(table[columns.rle]).astype(np.int8)[:, None]
        return Labels(there, (layout.box_label,), [], frozenset([columns.rle]))
    if columns.finding is not None:
        found = table[columns.finding].replace(dict(layout.terms))
        return findings.from_strings(
            found, layout.findings, layout.negative, layout.separators, rows.main,
            fixed=bool(layout.findings), not_stated=layout.not_stated,
        )  # fmt: skip
    if layout.labels is not None:
        # NegBio and others leave out a label that no report states.
        names = [name for name in layout.labels if name in table]
        return replace(findings.from_columns(table, names, rows.place), told=[])
    return findings.guessed_columns(table, columns.purposes(), rows.place, constant=True)


def _regions(
    near: _Near, layout: Declaration, inputs: dict[str, str]
) -> tuple[list[tuple[pd.DataFrame, tuple[str, str, str, str], str, str | None, str, str | None]], list[str]]:
    found, told = [], []
    for mark in layout.marks:
        path = near.find(mark.file, [(mark.picture,)])
        if path is None:
            continue
        read = near.use(path, mark.file)
        inputs[path.name] = reports.sha256_of_table(path)
        box = marks.box_columns([str(name) for name in read.table.columns])
        if box is None:
            told.append(f"{path.name} holds no columns of a region: its marks are left out")
            continue
        reader = mark.reader if mark.reader in read.table else None
        found.append((read.table, box, mark.picture, mark.label, mark.means, reader))
    return found, told


# --- where pictures lie -----------------------------------------------------------------------------------------------


def _ways(home: Path, beside: Path, table: pd.DataFrame, layout: Declaration) -> list[locate.Way]:
    """Every pattern, from the folder and from the folder of the table; then without the first folder of the path."""
    ways: list[locate.Way] = []
    folders = [home, *([beside] if beside != home else [])]
    built = [(pattern, _filled(pattern, table)) for pattern in layout.path]
    for pattern, paths in built:
        if paths is not None:
            ways += [locate.Way(f"at {pattern}", folder, paths) for folder in folders]
    short = ways[0].paths.str.replace(r"^[^/]+/", "", regex=True)
    if not short.equals(ways[0].paths):
        ways += [locate.Way("at the path without its first folder", folder, short) for folder in folders]
    return ways


def _filled(pattern: str, table: pd.DataFrame) -> pd.Series | None:
    """The pattern with the cells of every row; None when it names a column that the table lacks."""
    names = [name for _, name, _, _ in string.Formatter().parse(pattern) if name]
    if any(name not in table for name in names):
        return None
    if pattern == "{" + names[0] + "}":
        return _slashes(table[names[0]].fillna(""))
    cells = {name: _slashes(tabular.identifiers(table[name]).astype("str").fillna("")) for name in dict.fromkeys(names)}
    keys = list(cells)
    rows = zip(*(column.to_numpy(object) for column in cells.values()), strict=True)
    filled = [pattern.format_map(dict(zip(keys, row, strict=True))).removeprefix("/") for row in rows]
    return pd.Series(filled, index=table.index, dtype="str")


def _slashes(text: pd.Series) -> pd.Series:
    return text.str.strip().str.replace("\\", "/", regex=False).str.removeprefix("./")
