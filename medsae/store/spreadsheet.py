"""Tables as CSV that a spreadsheet shows and does not run: text of models, of people and of label tables goes in."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

_RUNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def csv(frame: pd.DataFrame) -> str:
    """The frame as CSV without its index. A text that a spreadsheet would take for a formula gets an apostrophe, in
    cells and in headings; numbers, also those written as text, stay as they are."""
    safe = frame.copy()
    for column in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[column].dtype):
            safe[column] = safe[column].map(_cell)
    safe.columns = [_cell(name) for name in safe.columns]
    return safe.to_csv(index=False)


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        value = value.replace("\r\n", "\n").replace("\r", " ")  # a bare carriage return would end the line unquoted
    if isinstance(value, str) and value.lstrip(" ").startswith(_RUNS) and not _NUMBER.fullmatch(value.strip(" ")):
        return f"'{value}"
    return value
