"""What every source of labels gives (`CohortTable`), and what the words of its columns mean.

Everything is vectorised over columns: each distinct word is looked at once, however long the table is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from medsae.progress import UserError

MISSING = np.int8(-128)
"""Marks a label that is not stated inside int8 matrices; NULL outside this room."""
UNREADABLE = np.int8(-127)
"""Marks a cell that is no label's value."""
_WORDS = {
    **dict.fromkeys(("true", "yes", "y", "positive", "pos", "present", "detected", "ja", "sí", "si", "oui", "sim",
                     "positiv", "positivo", "positif", "vorhanden", "presente", "vrai", "verdadero"), 1),
    **dict.fromkeys(("false", "no", "n", "negative", "neg", "absent", "not present", "not detected", "nein", "non",
                     "não", "negativ", "negativo", "négatif", "nicht vorhanden", "ausente", "assente", "faux",
                     "falso"), 0),
    **dict.fromkeys(("uncertain", "unsure", "equivocal", "?", "possible", "possibly", "indeterminate",
                     "suspected", "fraglich", "unsicher", "dudoso", "douteux", "incerto"), -1),
    **dict.fromkeys(("", "nan", "none", "na", "n/a", "null", "not mentioned", "unknown", "n.a.", "k.a.", "missing",
                     "not stated", "not available", "unbekannt", "keine angabe", "desconocido", "inconnu"), MISSING),
}  # fmt: skip
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?")
_EXAMPLES = 3


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
    attributes: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Every other column as text, one row an image in the order of `images`; NaN where a cell is empty."""
    types: dict[str, str] = field(default_factory=dict)
    """Attribute -> number, category, date or text."""
    boxes: pd.DataFrame = field(default_factory=pd.DataFrame)
    """image, label, x, y, width, height (px of the original picture), reader (or "")."""
    runs: pd.DataFrame = field(default_factory=pd.DataFrame)
    """image, label, code: masks as the publisher's run lengths (`marks.runs_of`)."""
    definitions: dict[str, str] = field(default_factory=dict)
    """Label -> what its values mean, where the publisher says so."""
    files: pd.DataFrame = field(default_factory=pd.DataFrame)
    """path, bytes, modified (ns) of every picture found; empty when none was looked for."""
    home: Path | None = None
    """Folder that the pictures must lie in; None: `root`. CheXpert's is the one above its batches."""
    digest: str | None = None
    """sha256 over `files`; None when none was looked for."""


def values_of(column: pd.Series, threshold: float | None = None) -> tuple[np.ndarray, pd.Series]:
    """(int8 [n]: 1, 0, -1, MISSING, or UNREADABLE; how often each unreadable word occurs, most frequent first).

    Words are Yes/No, True/False, Y/N, positive/negative in any case, and numbers with a decimal point or comma that
    equal 1, 0 or -1; with a `threshold` numbers from 0 to 1 are present from it on.
    """
    code, distinct = pd.factorize(column.astype("object"))
    meaning = np.array([_value(str(word), threshold) for word in distinct] + [MISSING], dtype=np.int8)
    values = meaning[code]
    odd = np.flatnonzero(meaning[:-1] == UNREADABLE)
    times = np.bincount(code[code >= 0], minlength=len(distinct))
    counted = pd.Series(times[odd], index=[str(distinct[i]) for i in odd], dtype=int)
    return values, counted.sort_values(ascending=False, kind="stable")


def _value(word: str, threshold: float | None) -> int:
    word = word.strip().lower()
    if word in _WORDS:
        return int(_WORDS[word])
    number = number_of(word)
    if number is None:
        return int(UNREADABLE)
    if threshold is not None and 0 <= number <= 1:
        return int(number >= threshold)
    return int(number) if number in (1, 0, -1) else int(UNREADABLE)


def by_word(column: pd.Series, meaning: Callable[[str], Any]) -> pd.Series:
    """`meaning` of every cell, None for an empty one; asked once for each distinct word, however long the column is."""
    code, distinct = pd.factorize(column.astype("str"))
    values = np.array([*(meaning(str(word)) for word in distinct), None], dtype=object)
    return pd.Series(values[code], index=column.index, dtype="object")


def first_group(text: pd.Series, pattern: str) -> pd.Series:
    """What the first group of a pattern finds in each text, NaN where it finds nothing."""
    try:
        # RE2 in pyarrow: 10 x the rate of Python's own on 223,414 paths. Groups must have names there.
        named = re.sub(r"\((?!\?)", "(?P<found>", pattern, count=1)
        found = pc.extract_regex(pa.array(text, type=pa.string(), from_pandas=True), pattern=named)  # type: ignore[attr-defined]
        return pd.Series(pc.struct_field(found, "found").to_numpy(zero_copy_only=False), index=text.index, dtype="str")
    except pa.ArrowInvalid:  # a pattern that RE2 does not know, such as one that looks ahead
        return text.str.extract(pattern)[0]


def number_of(word: str) -> float | None:
    """A number written with a decimal point or comma; None for anything else."""
    word = word.strip()
    return float(word.replace(",", ".")) if _NUMBER.fullmatch(word) else None


def label_values(
    column: pd.Series, place: Callable[[int], str], threshold: float | None = None, flag: str = ""
) -> np.ndarray:
    """int8 [n] of one label column: 1, 0, -1, MISSING for blank.

    Raises UserError that counts the cells with another value, shows examples and names the first row.
    """
    values, odd = values_of(column, threshold)
    if not len(odd):
        return values
    row = int(np.flatnonzero(values == UNREADABLE)[0])
    number = number_of(str(column.iloc[row]))
    why = "is not a number" if number is None else "is none of 1, 0, -1"
    examples = ", ".join(f"{word!r} ({count:,})" for word, count in odd.iloc[:_EXAMPLES].items())
    do = "correct the rows, or leave the column out of the labels"
    if looks_like_probabilities(odd):
        do = "numbers from 0 to 1 become labels with --threshold 0.5, or another one"
    raise UserError(
        f"label {column.name!r} has the value {str(column.iloc[row])!r}, which {why};"
        f" {int(odd.sum()):,} of {len(column):,} cells of this column cannot be read: {examples}",
        place(row),
        f"a label is 1 (present), 0 (absent), -1 (uncertain) or blank (not stated), or Yes/No, True/False; {do}{flag}",
    )


def looks_like_probabilities(odd: pd.Series) -> bool:
    """The unreadable words of a column are numbers between 0 and 1."""
    numbers = [number_of(str(word)) for word in odd.index]
    return bool(numbers) and all(x is not None and 0 <= x <= 1 for x in numbers)


def identifiers(column: pd.Series) -> pd.Series:
    """Names of patients or studies as text, NaN where blank: "3.0" is "3" (a table that was saved with blanks), but a
    leading zero is part of the name."""
    text = column.astype("object").map(lambda v: str(v).strip(), na_action="ignore")
    code, distinct = pd.factorize(text)
    whole = [re.sub(r"^(\d+)\.0+$", r"\1", str(word)) or None for word in distinct]
    return pd.Series(np.array([*whole, None], dtype=object)[code], index=column.index)


def types_of(table: pd.DataFrame) -> dict[str, str]:
    """Attribute -> "number", "date", "category" (at most 64 short values that repeat) or "text"."""
    return {str(name): _type_of(pd.Series(table[name])) for name in table.columns}


def _type_of(column: pd.Series) -> str:
    words = [str(word) for word in pd.unique(column.dropna())]
    if not words:
        return "text"
    if all(number_of(word) is not None for word in words):
        return "number"
    if all(_DATE.fullmatch(word) for word in words):
        return "date"
    few = len(words) <= 64 and len(words) <= max(2, 0.5 * int(column.notna().sum()))
    return "category" if few and max(map(len, words)) <= 80 else "text"


_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}(?:[T ].*)?|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}")


def long_labels(values_nk: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
    """The label matrix int8 [n, k] as one row for each pair, label by label in the order of `names`, then by image: who
    searches for a label reads the rows of one."""
    n, k = values_nk.shape
    flat = values_nk.T.reshape(-1)
    unstated = flat == MISSING
    label = pd.Categorical.from_codes(np.repeat(np.arange(k, dtype=np.int16), n), categories=list(names))
    return pd.DataFrame(
        {
            "image": np.tile(np.arange(n, dtype=np.int32), k),
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


def merge_repeats(table: pd.DataFrame, key: pd.Series, place: Callable[[int], str]) -> tuple[np.ndarray, int]:
    """(rows to keep, how many were the same again) for a table with one row a picture.

    Rows of one picture that agree in every column are one. Raises UserError when they contradict.
    """
    twice = key.duplicated(keep=False).to_numpy()
    if not twice.any():
        return np.arange(len(key)), 0
    rows = np.flatnonzero(twice)
    compared = table.iloc[rows].astype("object").fillna("")
    compared = compared.assign(**{"\0key": key.iloc[rows].to_numpy(object)})
    distinct = ~compared.duplicated().to_numpy()
    again = compared["\0key"][distinct].duplicated(keep=False).to_numpy()
    if again.any():
        kept = rows[distinct]
        path = key.iloc[int(kept[np.flatnonzero(again)[0]])]
        own = np.flatnonzero((key == path).to_numpy())
        differs = [
            str(name) for name in table.columns if table[name].iloc[own].astype("object").fillna("").nunique() > 1
        ]
        pictures = int(compared["\0key"][distinct][again].nunique())
        raise UserError(
            f"{len(own)} rows are about one picture, {path}, and contradict each other in"
            f" {', '.join(map(repr, differs[:5]))} ({pictures:,} such pictures in all)",
            "; ".join(place(int(row)) for row in own[:3]),
            "keep one row a picture; rows that are the same are merged",
        )
    keep = np.ones(len(key), bool)
    keep[rows[~distinct]] = False
    return np.flatnonzero(keep), int((~keep).sum())


_FEMALE_WORDS = """f fem female femenino feminino féminin feminin femminile femmina femme frau w weiblich woman women
 girl donna mujer mulher kvinna kvinne kvinde vrouw"""
_MALE_WORDS = """m male masculino masculin maschile maschio mann man men boy männlich maennlich homme hombre homem uomo
 varón varon"""
_FEMALE, _MALE = frozenset(_FEMALE_WORDS.split()), frozenset(_MALE_WORDS.split())
_LETTERS = {
    frozenset("hm"): ("m", "h"),
    frozenset("vm"): ("m", "v"),
    frozenset("hf"): ("f", "h"),
    frozenset("dh"): ("d", "h"),
}
"""Pairs of letters that stand for words of another language: hombre and mujer, varón and mujer, homme and femme."""


def sexes(column: pd.Series | None, n: int) -> np.ndarray:
    """ "F", "M" or "" [n] from words of several languages and their first letters; a letter alone is understood by the
    letters that stand beside it (of H and M, M is a woman)."""
    if column is None:
        return np.full(n, "", dtype=object)
    letters = {word.strip().lower() for word in column.dropna().astype("str").unique()}
    female, male = _LETTERS.get(frozenset(w for w in letters if len(w) == 1 and w.isalpha()), ("", ""))

    def sex(word: str) -> str:
        word = word.strip().lower()
        if word == female or (word in _FEMALE and word != male):
            return "F"
        return "M" if word == male or word in _MALE else ""

    return by_word(column, sex).fillna("").to_numpy(object)


def ages(column: pd.Series | None, n: int) -> tuple[np.ndarray, int]:
    """Years float64 [n] (NaN unknown) and how many were beyond 0..120 and set to unknown.

    Understands numbers and DICOM's "058Y", "006M", "012W", "003D".
    """
    if column is None:
        return np.full(n, np.nan), 0
    years = pd.Series(pd.to_numeric(by_word(column, lambda word: word.strip().replace(",", ".")), errors="coerce"))
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
