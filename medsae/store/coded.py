"""Words that many images share: each is held once, and a number an image. A text an image would be the largest thing
that is held of very many images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import pandas as pd

Values: TypeAlias = "np.ndarray | pd.Categorical"
"""A value an image: numbers (NaN unknown), or words that are held once."""


def codes(table: str, column: str, where: str = "true") -> str:
    """SQL of a table (word, code): the words of a column, counted from 0 in their order."""
    return (f"(SELECT {column} AS word, (row_number() OVER (ORDER BY {column}) - 1)::INTEGER AS code FROM {table}"
            f" WHERE {column} IS NOT NULL AND {where} GROUP BY {column})")  # fmt: skip


def words(codes: str) -> str:
    """SQL of the words of such a table by their code."""
    return f"SELECT word FROM {codes} ORDER BY code"


def held(code_n: Iterable[int] | np.ndarray, words: Iterable[str]) -> pd.Categorical:
    """The words of images by their codes (-1: unknown)."""
    return pd.Categorical.from_codes(np.asarray(code_n), pd.Index(list(words), dtype=object))
