"""Labels of a table: columns of 1 / 0 / -1 / blank, or findings in one string; several readers become one value."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from medsae.cohorts.columns import Columns, may_be_label, split_names
from medsae.cohorts.tabular import MISSING, label_values
from medsae.config import CHEXPERT_LABELS, IngestTable
from medsae.progress import UserError

MOST = 64
"""Findings kept when nobody names them; PadChest has 174, most of them on a handful of pictures."""
_NEGATIVES = ("no finding", "no findings", "normal", "no_finding")


def read_labels(
    table: pd.DataFrame, columns: Columns, config: IngestTable
) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    """(int8 [rows, k], label names, what to tell) of every row; raises UserError for labels that cannot be read."""
    if columns.finding is not None:
        return _from_strings(pd.Series(table[columns.finding]), config)
    return _from_columns(table, columns, config)


# --- columns ----------------------------------------------------------------------------------------------------------


def _from_columns(
    table: pd.DataFrame, columns: Columns, config: IngestTable
) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    wanted = split_names(config.label_columns)
    unknown = [name for name in wanted if name not in table]
    if unknown:
        raise UserError(
            f"--label-columns names {', '.join(map(repr, unknown))}, which the table lacks",
            config.table,
            f"its columns are: {', '.join(table.columns)}",
        )
    if wanted:
        values_nk = np.stack([label_values(pd.Series(table[name]), config.table) for name in wanted], axis=1)
        return values_nk, tuple(wanted), [f"labels: {len(wanted)} columns as named"]
    purposes = {v for v in vars(columns).values() if isinstance(v, str)}
    names: list[str] = []
    values: list[np.ndarray] = []
    for name in table.columns:
        if name in purposes or not may_be_label(name):
            continue
        try:
            column = label_values(pd.Series(table[name]), config.table)
        except UserError:
            if name in CHEXPERT_LABELS:
                raise  # a known label with a wrong value is a mistake, not another kind of column
            continue
        # A column of one value is a label only where its name says so: CheXpert's layout keeps those that are blank.
        if name in CHEXPERT_LABELS or ((column == 1).any() and (column != 1).any()):
            names.append(name)
            values.append(column)
    if not names:
        raise UserError(
            "no column looks like a label (1, 0, -1 or blank) or like findings",
            config.table,
            f"name them: --label-columns A,B or --finding-column NAME; the columns are: {', '.join(table.columns)}",
        )
    return (
        np.stack(values, axis=1),
        tuple(names),
        [f"labels: {len(names)} columns that hold only 1, 0, -1 and blank (guessed)"],
    )


# --- strings ----------------------------------------------------------------------------------------------------------


def parse_findings(text: str) -> list[str]:
    """The findings in "A|B", "A;B" or "['A', 'B']"; an empty list where the string names none."""
    text = text.strip()
    if text.startswith("["):
        parts = [a or b for a, b in re.findall(r"'([^']*)'|\"([^\"]*)\"", text)]
    else:
        parts = re.split(r"[|;]", text)
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _from_strings(column: pd.Series, config: IngestTable) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    """A finding that is named is 1, one that is not named is 0, and a blank string states nothing."""
    # Few strings are distinct (NIH: 836 of 112,120): each is parsed once.
    code, distinct = pd.factorize(column.astype("object"))
    parsed = [parse_findings(str(text)) for text in distinct]
    times = np.bincount(code[code >= 0], minlength=len(parsed))
    count: dict[str, int] = {}
    for findings, n in zip(parsed, times, strict=True):
        for finding in findings:
            count[finding] = count.get(finding, 0) + int(n)
    if not count:
        raise UserError(
            f"the finding column {column.name!r} is blank in every row", config.table, "name another column"
        )
    told = [
        f"labels: findings in {column.name!r}; named is present, not named is absent, a blank string states nothing"
    ]
    names = _which(count, config, told)
    known = {name: j for j, name in enumerate(names)}
    distinct_values = np.zeros((len(parsed) + 1, len(names)), dtype=np.int8)
    for row, findings in enumerate(parsed):
        for finding in findings:
            if finding in known:
                distinct_values[row, known[finding]] = 1
        if not findings:
            distinct_values[row] = MISSING
    distinct_values[-1] = MISSING  # factorize gives blank the code -1
    return distinct_values[code], names, told


def _which(count: dict[str, int], config: IngestTable, told: list[str]) -> tuple[str, ...]:
    wanted = split_names(config.label_columns)
    if wanted:
        unknown = [name for name in wanted if name not in count]
        if unknown:
            raise UserError(
                f"--label-columns names {', '.join(map(repr, unknown))}, which no row has",
                config.table,
                f"the findings are: {', '.join(sorted(count))}",
            )
        return tuple(wanted)
    negative = next((name for name in count if name.lower() == config.negative.lower()), None)
    negative = negative or next((name for name in count if name.lower() in _NEGATIVES), None)
    told.append(f"{negative!r} means none of the others" if negative else f"no row says {config.negative!r}")
    names = sorted(count, key=lambda name: (-count[name], name))
    if len(names) > MOST:
        names = names[:MOST]
        told.append(f"the {MOST} most frequent of {len(count)} findings are kept (others: --label-columns A,B)")
    return tuple(sorted(names, key=lambda name: (name != negative, name)))


# --- readers ----------------------------------------------------------------------------------------------------------


def votes(values_nk: np.ndarray, picture: np.ndarray, reader: np.ndarray) -> np.ndarray:
    """One row a picture, int8 [pictures, k], from rows int8 [rows, k]; `picture` and `reader` code each row from 0.

    The rows of one reader about one picture are marked regions: a finding is present if any of them says so. Then the
    majority of the readers that state something wins; a draw is uncertain.
    """
    readers = int(reader.max()) + 1
    pair, reading = np.unique(picture.astype(np.int64) * readers + reader, return_inverse=True)
    read = np.full((len(pair), values_nk.shape[1]), MISSING, dtype=np.int8)
    np.maximum.at(read, reading, values_nk)  # present (1) wins over absent (0); MISSING is the smallest value
    owner = pair // readers
    yes, no, unsure = (np.zeros((int(picture.max()) + 1, values_nk.shape[1]), dtype=np.int32) for _ in range(3))
    for total, value in ((yes, 1), (no, 0), (unsure, -1)):
        np.add.at(total, owner, read == value)
    out = np.where(yes > no, 1, np.where(no > yes, 0, -1)).astype(np.int8)
    out[(yes + no + unsure) == 0] = MISSING
    return out
