"""From what a table says about an image (1, 0, -1, blank) to numbers that can be correlated, by a stated policy."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medsae.progress import UserError

Uncertain: TypeAlias = Literal["missing", "zero", "one", "keep"]
Unstated: TypeAlias = Literal["missing", "zero"]
BLANK = -128
"""A label that is not stated, in integer arrays (NaN in float arrays)."""


def label_matrix(
    values_nk: ArrayLike, uncertain: Uncertain = "missing", unstated: Unstated = "missing"
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Label values [n, k] (1 present, 0 absent, -1 uncertain, -128 or NaN not stated) as (y_nk, mask_nk).

    `mask_nk` is True where the label counts; `y_nk` is 0 where it does not. `uncertain`: what -1 becomes (`keep`: -1 is
    used as a number, as the published code does); `unstated`: what a blank becomes. Unknown is not absent, so both
    default to missing. Raises UserError for any other value.
    """
    values = np.asarray(values_nk)
    assert values.ndim == 2, f"labels are [n, k], not {values.shape}"
    blank = np.isnan(values) if values.dtype.kind == "f" else values == BLANK
    if values.dtype.kind == "f":
        values = np.where(blank, 0, values)
    doubtful = values == -1
    strange = ~(blank | doubtful | (values == 0) | (values == 1))
    if strange.any():
        row, column = np.argwhere(strange)[0]
        raise UserError(
            f"{int(strange.sum())} label values are none of 1, 0, -1 and blank; the first is {values[row, column]}",
            f"image {row}, label {column}",
            "write labels as 1 (present), 0 (absent), -1 (uncertain) or leave them blank",
        )
    y = np.where(blank, 0, values).astype(np.float32)
    if uncertain in ("missing", "zero"):
        y[doubtful] = 0
    elif uncertain == "one":
        y[doubtful] = 1
    mask = np.ones(y.shape, bool)
    if uncertain == "missing":
        mask &= ~doubtful
    if unstated == "missing":
        mask &= ~blank
    return y, mask


def mask_patterns(mask_nk: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """The distinct columns of a mask as floats [n, q], and for each label which of them is its own [k].

    Labels that miss the same images share their sums over activations; with nothing missing q = 1 for any k.
    """
    columns: dict[bytes, int] = {}
    packed = np.packbits(mask_nk, axis=0)
    pattern_k = np.array([columns.setdefault(packed[:, j].tobytes(), len(columns)) for j in range(mask_nk.shape[1])])
    first = [int(np.flatnonzero(pattern_k == q)[0]) for q in range(len(columns))]
    return mask_nk[:, first].astype(np.float32), pattern_k.astype(np.intp)


def one_hot(values: ArrayLike, least: int = 3) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[str]]:
    """A categorical attribute [n] (None or NaN = unknown) as label columns (y_nk, mask_nk, names), one a value.

    For confounders: correlate neurons with view, sex or device through the same `Sufficient` as labels, in a call of
    its own so that attributes never enter an entropy. Values seen fewer than `least` times get no column.
    """
    column = np.asarray(values, object)
    known = np.array([v is not None and v == v for v in column], bool)
    text = np.array([str(v) if k else "" for v, k in zip(column, known, strict=True)], object)
    seen = sorted({v for v, k in zip(text, known, strict=True) if k})
    names = [v for v in seen if (known & (text == v)).sum() >= least]
    y = np.array([(text == v) & known for v in names], np.float32).reshape(len(names), len(column)).T
    return y, np.repeat(known[:, None], len(names), axis=1), names
