"""Any table with picture paths and labels; what is not named by flags is guessed from names and values, and said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from medsae.cohorts import findings, locate, marks, reports, tabular
from medsae.cohorts.assemble import Plan, Rows, assemble, views
from medsae.cohorts.columns import WEAK_FINDINGS, Columns, find_columns, looks_like_findings, plain, split_names
from medsae.cohorts.findings import Labels
from medsae.cohorts.tabular import CohortTable
from medsae.config import CHEXPERT_LABELS, IngestTable
from medsae.dialects import Read
from medsae.files import sha256_of
from medsae.progress import UserError

__all__ = ["read_table", "views"]
_BY_DEFINITION = ("No Finding",)


def read_table(config: IngestTable) -> CohortTable:
    """Images and labels of `config.table`, in table order (rows of several readers or regions joined to one a picture).

    Columns are those named by flags, else guessed from names that published tables use; `understood` says which.
    Raises UserError for a table, column, label or path that cannot be read, for rows about one picture that contradict
    each other, and (with `config.pictures`) when fewer than half of the pictures are found.
    """
    read = reports.read(config.table)
    table = read.table
    root = config.root if config.root is not None else config.table.parent
    if not root.is_dir():
        raise UserError("the folder of the pictures does not exist", root, "give the folder with --root")
    columns = find_columns(table, config, (lambda: locate.stems_below(root)) if config.pictures else None)
    labels = _labels(table, columns, config, read)
    rows = Rows(table, read.place, config.table, {config.table.name: sha256_of(config.table)}, told=read.told)
    blank = _no_finding_by_definition(labels)
    plan = Plan(
        title=f"table {config.table}",
        ways=lambda table, written: [*_built(root, written, table, columns), *locate.usual_ways(root, written)],
        root=root,
        guessed=True,
        headers=True,
        box_label="Pneumothorax" if columns.rle else "",
        blank_is_absent=blank,
        defined="taken as CheXpert's: No Finding is never stated as absent here, so its blank is absent"
        if blank
        else "",
    )
    return assemble(rows, columns, labels, config, plan)


def _labels(table: pd.DataFrame, columns: Columns, config: IngestTable, read: Read) -> Labels:
    wanted = split_names(config.label_columns)
    if columns.rle is not None and not wanted:
        values = marks.is_mask(pd.Series(table[columns.rle])).astype(np.int8)[:, None]
        told = [f"labels: 'Pneumothorax' where column {columns.rle!r} holds a mask (SIIM's run lengths)"]
        return Labels(values, ("Pneumothorax",), told, frozenset([columns.rle]))
    known = sum(name in CHEXPERT_LABELS for name in table.columns)
    if columns.finding is not None and ("finding" in columns.given or known < 5):
        return findings.from_strings(
            pd.Series(table[columns.finding]), wanted, config.negative, config.finding_separators, config.table
        )
    if wanted:
        return findings.from_columns(table, wanted, read.place, config.threshold)
    purposes = columns.purposes() - ({columns.finding} if columns.finding else set())
    try:
        return findings.guessed_columns(table, purposes, read.place, config.threshold)
    except UserError:
        free = {plain(name): name for name in reversed(list(map(str, table.columns))) if name not in purposes}
        weak = next((free[name] for name in WEAK_FINDINGS if name in free), None)
        if weak is None or not looks_like_findings(table[weak]):
            raise
        found = findings.from_strings(table[weak], wanted, config.negative, config.finding_separators, config.table)
        return replace(found, told=[f"column {weak!r} is taken for the findings: no other looks like a label (guessed)",
                                    *found.told])  # fmt: skip


def _no_finding_by_definition(labels: Labels) -> tuple[str, ...]:
    """A table in CheXpert's labels whose No Finding is 1 or blank alone follows CheXpert's definition of it."""
    if not set(CHEXPERT_LABELS) <= set(labels.names):
        return ()
    column = labels.values_nk[:, labels.names.index("No Finding")]
    stated = set(column.tolist()) - {int(tabular.MISSING)}
    return _BY_DEFINITION if stated == {1} else ()


def _built(root: Path, written: pd.Series, table: pd.DataFrame, columns: Columns) -> list[locate.Way]:
    """Paths that published cohorts build from several columns."""
    if columns.folder is not None:
        folder = tabular.identifiers(pd.Series(table[columns.folder])).fillna("").reset_index(drop=True)
        paths = (folder + "/" + written).str.removeprefix("/")
        return [locate.Way(f"in the folder of column {columns.folder!r}", root, paths)]
    if plain(columns.path) == "dicomid" and columns.patient and columns.study:
        subject = tabular.identifiers(pd.Series(table[columns.patient])).str.removeprefix("p")
        study = tabular.identifiers(pd.Series(table[columns.study])).fillna("").str.removeprefix("s")
        below = "p" + subject.str[:2] + "/p" + subject + "/s" + study + "/" + written
        return [
            locate.Way(
                f"in MIMIC-CXR's layout ({folder or './'}p10/p10000032/s50414267/NAME{suffix})",
                root,
                folder + below + suffix,
            )
            for suffix in (".jpg", ".dcm")
            for folder in ("files/", "")
        ]
    return []
