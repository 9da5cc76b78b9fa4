"""Labels of a table: columns of 1 / 0 / -1 / blank, or findings in one string; several readers become one value."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from medsae.cohorts.columns import may_be_label
from medsae.cohorts.tabular import MISSING, UNREADABLE, label_values, looks_like_probabilities, number_of, values_of
from medsae.config import CHEXPERT_LABELS
from medsae.progress import UserError

MOST = 64
"""Findings kept when nobody names them; PadChest has 174, most of them on a handful of pictures."""
_NEGATIVES = ("no finding", "no findings", "normal", "no_finding", "o.b.", "o. b.", "ohne befund", "unauffällig",
              "sin hallazgos", "sem achados", "sans anomalie", "nella norma")  # fmt: skip
_NOT_STATED = frozenset(("todo", "unknown", "unlabeled", "unlabelled", "not available", "tbd", "none stated"))
_SEVERAL = 3
"""So many of CheXpert's own names in a table, and Yes/No columns with other names are no findings."""
_EXAMPLES = 3
_LIST = re.compile(r"\[.*\]|\{.*\}|\(\s*['\"].*\)", re.DOTALL)
"""A list, an array, a set or a tuple, as programs write them into a cell."""


@dataclass(frozen=True)
class Labels:
    """What was read of every row."""

    values_nk: np.ndarray
    """int8 [rows, k]."""
    names: tuple[str, ...]
    told: list[str] = field(default_factory=list)
    columns: frozenset[str] = frozenset()
    """Columns that are labels (not attributes)."""


def from_columns(
    table: pd.DataFrame, names: Sequence[str], place: Callable[[int], str], threshold: float | None = None
) -> Labels:
    """Named label columns; raises UserError for one that is missing or holds something else than labels."""
    unknown = [name for name in names if name not in table]
    if unknown:
        raise UserError(
            f"--label-columns names {', '.join(map(repr, unknown))}, which the table lacks",
            place(0).rsplit(",", 1)[0],
            f"its columns are: {', '.join(map(str, table.columns))}",
        )
    values_nk = np.stack([label_values(pd.Series(table[name]), place, threshold) for name in names], axis=1)
    return Labels(values_nk, tuple(names), [f"labels: {len(names)} columns as named"], frozenset(names))


def guessed_columns(
    table: pd.DataFrame,
    purposes: set[str],
    place: Callable[[int], str],
    threshold: float | None = None,
    constant: bool = False,
) -> Labels:
    """Columns whose values look like labels; a known label with another value is a mistake, not another column.

    `constant`: a column that says one thing of every picture is a label too (a publisher's table has no others).
    """
    names: list[str] = []
    values: list[np.ndarray] = []
    told: list[str] = []
    one: list[str] = []
    several = sum(name in CHEXPERT_LABELS for name in table.columns) >= _SEVERAL
    for name in map(str, table.columns):
        if name in purposes or not may_be_label(name):
            continue
        column = pd.Series(table[name])
        if name in CHEXPERT_LABELS:
            read = label_values(column, place, threshold)
        else:
            read, odd = values_of(column, threshold)
            if len(odd):
                if not _a_few_words(read, odd):
                    _say_almost(name, read, odd, told)
                    continue
                told.append(f"column {name!r}: {_counted(odd)} cannot be read and are taken as not stated")
                read[read == UNREADABLE] = MISSING
            if several and not _numbers(column):
                continue  # "interpreter_needed: Yes" beside CheXpert's labels
        # A column of one value is a label only where its name says so: CheXpert's layout keeps those that are blank.
        if name in CHEXPERT_LABELS or (constant and column.notna().any()) or ((read == 1).any() and (read != 1).any()):
            names.append(name)
            values.append(read)
        elif column.notna().any():
            one.append(name)
    if one:
        told.append(f"say the same of every picture, so they are no labels: {', '.join(map(repr, one[:8]))}"
                    + (f" and {len(one) - 8} more" if len(one) > 8 else ""))  # fmt: skip
    if not names:
        more = ("\n  " + "\n  ".join(told)) if told else ""
        raise UserError(
            f"no column looks like a label (1, 0, -1 or blank) or like findings{more}",
            place(0).rsplit(",", 1)[0],
            "name them: --label-columns A,B or --finding-column NAME"
            f"; the columns are: {', '.join(map(str, table.columns))}",
        )
    told.insert(0, f"labels: {len(names)} columns that hold only 1, 0, -1 (or Yes, No ...) and blank (guessed)")
    return Labels(np.stack(values, axis=1), tuple(names), told, frozenset(names))


def _numbers(column: pd.Series) -> bool:
    return not column.dropna().str.contains("[A-Za-z]").any()


def _a_few_words(read: np.ndarray, odd: pd.Series) -> bool:
    """At most a tenth of what the column says cannot be read, and that is words: other numbers make it a count or a
    grade, no label."""
    said = int((read != MISSING).sum())
    return int(odd.sum()) <= 0.1 * said and all(number_of(str(word)) is None for word in odd.index)


def _counted(odd: pd.Series) -> str:
    examples = ", ".join(f"{word!r} ({count:,})" for word, count in odd.iloc[:_EXAMPLES].items())
    return f"{int(odd.sum()):,} cells, such as {examples},"


def _say_almost(name: str, read: np.ndarray, odd: pd.Series, told: list[str]) -> None:
    """A column that is nearly a label is named: nothing is dropped silently."""
    readable = int(((read != UNREADABLE) & (read != MISSING)).sum())
    examples = ", ".join(f"{word!r} ({count:,})" for word, count in odd.iloc[:_EXAMPLES].items())
    if looks_like_probabilities(odd):
        told.append(f"column {name!r} holds numbers from 0 to 1 ({examples}): not a label without --threshold")
    elif readable >= int(odd.sum()) and readable:
        told.append(
            f"column {name!r} is not taken as a label: {int(odd.sum()):,} of its values cannot be read: {examples}"
            " (correct them, or name the column in --label-columns to see where they stand)"
        )


# --- strings ----------------------------------------------------------------------------------------------------------


def parse_findings(text: str, separators: str = "|;") -> list[str]:
    """The findings in "A|B", "A;B", or a list as programs write it; an empty list where the string names none."""
    text = text.strip()
    if _LIST.fullmatch(text):
        parts = _in_brackets(text)
    else:
        parts = re.split("[" + re.escape(separators) + "]", text) if separators else [text]
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _in_brackets(text: str) -> list[str]:
    """What a list, set or tuple of Python, an array of numpy or a list without quotes holds."""
    try:
        held = None if re.search("['\"]\\s+['\"]", text) else ast.literal_eval(text)  # numpy puts no commas
        if isinstance(held, (list, set, tuple)):
            return [str(part) for part in (sorted(held) if isinstance(held, set) else held) if part is not None]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    quoted = [a or b for a, b in re.findall(r"'([^']*)'|\"([^\"]*)\"", text)]
    return quoted if re.search("['\"]", text) else text[1:-1].split(",")


def guess_separators(strings: Sequence[str]) -> str:
    """The characters that part the findings in these strings: "|", ";", tabs and new lines always, "," and the levels
    of "/" only where the parts are findings of other strings too ("COVID-19, ARDS", but not "effusion, left" or
    "Nodule/Mass")."""
    separators = "|;\t\n"
    plain = [s for s in strings if not _LIST.fullmatch(s.strip())]
    for mark in ",/":
        with_mark = [s for s in plain if mark in s]
        if not with_mark:
            continue
        terms = Counter(
            part for s in plain for part in {p.strip() for p in re.split("[" + re.escape(separators + mark) + "]", s)}
        )
        if mark == ",":
            alone = {p.strip() for s in plain for p in re.split("[|;/\t\n]", s) if "," not in p}
            good = [all(p.strip() in alone or terms[p.strip()] > 1 for p in s.split(",")) for s in with_mark]
            if sum(good) >= 0.5 * len(good):
                separators += mark
        else:
            heads = Counter(part.split("/")[0].strip() for s in with_mark
                            for part in re.split("[" + re.escape(separators) + "]", s) if "/" in part)  # fmt: skip
            whole = {p.strip() for s in plain for p in re.split("[" + re.escape(separators) + "]", s)}
            if any(times > 1 or head in whole for head, times in heads.items()):
                separators += mark
    return separators


def from_strings(
    column: pd.Series,
    wanted: Sequence[str],
    negative: str,
    separators: str | None,
    where: object,
    fixed: bool = False,
    not_stated: Sequence[str] = (),
) -> Labels:
    """A finding that is named is 1, one that is not named is 0, and a blank string states nothing.

    `wanted`: the labels (empty: all that occur, at most `MOST`); with `fixed` one that never occurs is a label too.
    """
    # Few strings are distinct (NIH: 836 of 112,120): each is parsed once.
    code, distinct = pd.factorize(column.astype("object"))
    strings = [str(text) for text in distinct]
    marks = guess_separators(strings) if separators is None else separators
    silent = _NOT_STATED | {word.lower() for word in not_stated}
    parsed = [parse_findings(text, marks) for text in strings]
    parsed = [[] if findings and all(f.lower() in silent for f in findings) else findings for findings in parsed]
    unsaid = sorted({f for text, left in zip(strings, parsed, strict=True) if not left
                     for f in parse_findings(text, marks)})  # fmt: skip
    times = np.bincount(code[code >= 0], minlength=len(parsed))
    empty = sum(int(n) for text, left, n in zip(strings, parsed, times, strict=True)
                if not left and not parse_findings(text, marks))  # fmt: skip
    parsed, folded = _one_spelling(parsed, times, (*wanted, negative))
    count: dict[str, int] = {}
    for findings, n in zip(parsed, times, strict=True):
        for finding in findings:
            count[finding] = count.get(finding, 0) + int(n)
    if not count:
        raise UserError(f"the finding column {column.name!r} is blank in every row", where, "name another column")
    parted = ", ".join(repr(mark) for mark in marks if any(mark in s for s in strings)) or "nothing"
    told = [
        f"labels: findings in {column.name!r}, parted by {parted}; named is present, not named is absent, a blank"
        " string states nothing"
    ]
    told += folded
    if empty:
        told.append(f"{empty:,} rows hold an empty list, which states nothing")
    if unsaid:
        told.append(f"{', '.join(map(repr, unsaid[:5]))} states nothing")
    names = tuple(wanted) if fixed else _which(count, wanted, negative, where, told)
    known = {name: j for j, name in enumerate(names)}
    distinct_values = np.zeros((len(parsed) + 1, len(names)), dtype=np.int8)
    for row, findings in enumerate(parsed):
        for finding in findings:
            if finding in known:
                distinct_values[row, known[finding]] = 1
        if not findings:
            distinct_values[row] = MISSING
    distinct_values[-1] = MISSING  # factorize gives blank the code -1
    return Labels(distinct_values[code], names, told, frozenset([str(column.name)]))


def _one_spelling(
    parsed: list[list[str]], times: np.ndarray, known: Sequence[str]
) -> tuple[list[list[str]], list[str]]:
    """The findings with those that differ in letter case, blanks and underscores alone under one spelling: a `known`
    one, else the most frequent; a line that says so."""
    count: Counter[str] = Counter()
    for findings, n in zip(parsed, times, strict=True):
        count.update({finding: int(n) for finding in findings})
    spellings: dict[str, list[str]] = {}
    for finding in sorted(count, key=lambda finding: (finding not in known, -count[finding], finding)):
        spellings.setdefault(" ".join(finding.casefold().replace("_", " ").split()), []).append(finding)
    meant = {other: names[0] for names in spellings.values() for other in names}
    told = [f"{', '.join(map(repr, names[1:4]))} counted as {names[0]!r}" for names in spellings.values() if names[1:]]
    return [list(dict.fromkeys(meant[f] for f in findings)) for findings in parsed], told


def _which(
    count: dict[str, int], wanted: Sequence[str], negative: str, where: object, told: list[str]
) -> tuple[str, ...]:
    if wanted:
        unknown = [name for name in wanted if name not in count]
        if unknown:
            raise UserError(
                f"--label-columns names {', '.join(map(repr, unknown))}, which no row has",
                where,
                f"the findings are: {', '.join(sorted(count))}",
            )
        return tuple(wanted)
    none = next((name for name in count if name.lower() == negative.lower()), None)
    none = none or next((name for name in count if name.lower() in _NEGATIVES), None)
    told.append(f"{none!r} means none of the others" if none else f"no row says {negative!r}")
    names = sorted(count, key=lambda name: (-count[name], name))
    if len(names) > MOST:
        rest = names[MOST:]
        names = names[:MOST]
        told.append(
            f"the {MOST} most frequent of {len(count)} findings are kept (others: --label-columns A,B); the most"
            f" frequent left out: {', '.join(f'{name} ({count[name]:,})' for name in rest[:3])}"
        )
    return tuple(sorted(names, key=lambda name: (name != none, name)))


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
