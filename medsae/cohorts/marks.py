"""What readers marked in the pictures: boxes, and masks as run lengths, in the form that the cohort's tables hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from medsae import runs
from medsae.cohorts.columns import BOX_NAMES, plain
from medsae.progress import UserError

BOX_COLUMNS = ("image", "label", "x", "y", "width", "height", "reader")


def box_columns(names: list[str]) -> tuple[str, str, str, str] | None:
    """The four columns of a region among these names, None where there are none."""
    by_plain: dict[str, str] = {}
    for name in names:
        by_plain.setdefault(plain(name), name)
    for four in BOX_NAMES:
        if set(four) <= set(by_plain):
            return tuple(by_plain[name] for name in four)  # type: ignore[return-value]
    return None


def boxes(
    table: pd.DataFrame, columns: tuple[str, str, str, str], image: np.ndarray, label: np.ndarray, reader: np.ndarray
) -> tuple[pd.DataFrame, int]:
    """(image, label, x, y, width, height in px, reader) of every row with a region; how many regions cannot be read.

    `columns` are a corner and the extent, or two corners (told by their names). A row whose four cells are blank marks
    nothing. A region without an extent cannot be read.
    """
    text = table[list(columns)].apply(lambda c: c.astype("object").map(_decimal, na_action="ignore"))
    numbers = np.stack([pd.to_numeric(text[name], errors="coerce").to_numpy(np.float64) for name in columns], axis=1)
    blank = table[list(columns)].isna().to_numpy().all(axis=1)
    if plain(columns[2]) in ("xmax", "x2"):
        numbers[:, 2:] -= numbers[:, :2]
        # Two corners in either order.
        numbers[:, :2] += np.minimum(numbers[:, 2:], 0)
        numbers[:, 2:] = np.abs(numbers[:, 2:])
    good = np.isfinite(numbers).all(axis=1) & (np.nan_to_num(numbers[:, 2:]) > 0).all(axis=1) & (image >= 0)
    found = pd.DataFrame(numbers[good], columns=["x", "y", "width", "height"])
    found.insert(0, "image", image[good].astype(np.int32))
    found.insert(1, "label", label[good])
    found["reader"] = reader[good]
    return found[list(BOX_COLUMNS)], int((~good & ~blank & (image >= 0)).sum())


def _decimal(value: object) -> object:
    return value.strip().replace(",", ".") if isinstance(value, str) else value


def runs_of(codes: Sequence[str], width: int, height: int) -> list[int]:
    """A mask as the cohort's tables hold it (run lengths row by row, the first outside) from SIIM's run lengths; the
    outlines of several `codes` are one mask.

    SIIM writes pairs "start length" column by column, each start counted from the end of the run before. Absolute
    starts (Kaggle's later data sets, counted from 1) are told by relative ones that would leave the picture. Raises
    ValueError for a code that fits neither.
    """
    flat = np.zeros(width * height, dtype=bool)
    for code in codes:
        numbers = np.array(code.split(), dtype=np.int64)
        if len(numbers) % 2:
            raise ValueError("its run lengths are no pairs")
        starts, lengths = numbers[0::2], numbers[1::2]
        first = np.cumsum(starts) + np.concatenate([[0], np.cumsum(lengths)[:-1]])
        if len(first) and first[-1] + lengths[-1] > flat.size:
            first = starts - 1
            if (np.diff(first) < lengths[:-1]).any() or (first < 0).any() or first[-1] + lengths[-1] > flat.size:
                raise ValueError(f"its run lengths leave a picture of {width} x {height} px")
        for begin, length in zip(first, lengths, strict=True):
            flat[begin : begin + length] = True
    return runs.encode(flat.reshape(width, height).T)


def is_mask(code: pd.Series) -> np.ndarray:
    """bool [n]: the cell holds run lengths; "-1" and a blank mean that there is no mask."""
    text = code.fillna("").astype("object").map(lambda v: str(v).strip())
    return (~text.isin(["", "-1", "-1.0"])).to_numpy(bool)


def refuse_codes(code: pd.Series, where: object) -> None:
    """Raise UserError for cells that are neither run lengths nor -1."""
    bad = code.dropna()[~code.dropna().str.fullmatch(r"\s*(?:-1(?:\.0)?|\d+(?:\s+\d+)*)\s*")]
    if len(bad):
        raise UserError(
            f"{len(bad):,} masks of column {code.name!r} are no run lengths, such as {str(bad.iloc[0])[:40]!r}",
            where,
            "write pairs of start and length, or -1",
        )
