"""From what a table says about an image (1, 0, -1, blank) to numbers that can be correlated, by a stated policy."""

from __future__ import annotations

from typing import Literal, TypeAlias, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from medsae.progress import UserError

Uncertain: TypeAlias = Literal["missing", "zero", "one", "keep"]
Unstated: TypeAlias = Literal["missing", "zero"]
BLOCK = 2**16
"""Images looked at at a time."""
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


def mask_patterns(mask_nk: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """The distinct columns of a mask [n, q], and for each label which of them is its own [k].

    Labels that miss the same images share their sums over activations; with nothing missing q = 1 for any k.
    """
    columns: dict[bytes, int] = {}
    pattern_k = np.array(
        [columns.setdefault(np.packbits(mask_nk[:, j]).tobytes(), len(columns)) for j in range(mask_nk.shape[1])]
    )
    first = [int(np.flatnonzero(pattern_k == q)[0]) for q in range(len(columns))]
    return mask_nk[:, first], pattern_k.astype(np.intp)


def zero_where_unknown(y_nk: NDArray[np.floating], mask_nk: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The labels as float32, 0 where they are not known: the array itself where it is so already (of very many images
    each copy would be a gigabyte)."""
    rows = [slice(at, at + BLOCK) for at in range(0, len(y_nk), BLOCK)]
    if y_nk.dtype == np.float32 and all(not y_nk[some][~mask_nk[some]].any() for some in rows):
        return y_nk
    return np.where(mask_nk, y_nk, 0).astype(np.float32)


def one_hot(values: ArrayLike, least: int = 3) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[str]]:
    """A categorical attribute [n] (None or NaN = unknown) as label columns (y_nk, mask_nk, names), one a value.

    For confounders: correlate neurons with view, sex or device through the same `Sufficient` as labels, in a call of
    its own so that attributes never enter an entropy. Values seen fewer than `least` times get no column.
    """
    code, names = coded(values, least)
    y = (code[:, None] == np.arange(len(names))).astype(np.float32)
    return y, np.repeat((code != UNKNOWN)[:, None], len(names), axis=1), names


UNKNOWN, RARE = -2, -1
"""Codes of a value that is not known, and of one that too few images have."""


def coded(values: ArrayLike, least: int = 3) -> tuple[NDArray[np.int32], list[str]]:
    """A categorical attribute [n] (None or NaN = unknown) as one code an image, and the values in alphabetical order;
    those seen fewer than `least` times have no place among them (`RARE`)."""
    if isinstance(values, pd.Categorical):  # words that are held once stay so
        held = cast(pd.Categorical, values)
        code, found = held.codes, held.categories
    else:
        code, found = pd.factorize(np.asarray(values, object))
    text = sorted({str(v) for v in found})
    place = {word: i for i, word in enumerate(text)}
    word_n = np.append([place[str(v)] for v in found], -1).astype(np.int32)[code]
    count = np.bincount(word_n[word_n >= 0], minlength=len(text))
    kept = np.flatnonzero(count >= least)
    new = np.full(len(text) + 1, RARE, np.int32)
    new[kept], new[-1] = np.arange(len(kept)), UNKNOWN
    return new[word_n], [text[i] for i in kept]
