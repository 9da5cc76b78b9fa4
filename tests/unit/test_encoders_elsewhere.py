"""Embeddings made elsewhere: what is taken, what is refused, which row is whose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsae.encoders.elsewhere import from_file, match_rows
from medsae.progress import UserError


@pytest.fixture
def files(tmp_path):
    """Writes x and a table; returns their paths."""

    def write(x, lines):
        npy, rows = tmp_path / "x.npy", tmp_path / "rows.csv"
        np.save(npy, x, allow_pickle=x.dtype == object)
        rows.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return npy, rows

    return write


X = np.arange(6, dtype=np.float32).reshape(3, 2)
ROWS = ["Path", "train/a.jpg", "train/b.jpg", "train/c.jpg"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_come_as_float32_in_order(files, dtype):
    x, paths = from_file(*files(X.astype(dtype), ROWS))
    assert x.dtype == np.float32 and (x == X).all()
    assert paths == ROWS[1:]


def test_the_path_column_is_found_by_name_behind_a_byte_order_mark(files):
    npy, rows = files(X, [])
    rows.write_text("﻿Path,Sex\na.jpg,F\nb.jpg,M\nc.jpg,F\n", encoding="utf-8")
    assert from_file(npy, rows)[1] == ["a.jpg", "b.jpg", "c.jpg"]


def nan_row():
    x = X.copy()
    x[1, 0] = np.nan
    return x


@pytest.mark.parametrize(
    ("x", "lines", "words"),
    [
        (X, ROWS[:3], "3 rows of embeddings, but 2 lines of paths"),
        (nan_row(), ROWS, r"1 of 3 rows hold NaN or infinity, first row 1 \(train/b.jpg\)"),
        (np.full((3, 2), 1e300), ROWS, "3 of 3 rows hold NaN or infinity"),
        (X[0], ROWS, r"must be a matrix \[n, d\], not \[2\]"),
        (np.zeros((0, 2), np.float32), ["Path"], r"not \[0, 2\]"),
        (X.astype(np.int64), ROWS, "not int64"),
        (np.array([{}, {}, {}], object), ROWS, r"not a \.npy array of numbers"),
        (X, ["File", "a", "b", "c"], "no column Path among File"),
        (X, ["Path", "a", "b", "a"], r"1 paths occur more than once, first a \(2 times\)"),
        (X, ["Path,Sex", "a,F", ",F", "c,M"], "1 of 3 lines have an empty Path, first line 3"),
    ],
)
def test_refused_with_numbers(files, x, lines, words):
    with pytest.raises(UserError, match=words):
        from_file(*files(x, lines))


def test_other_files_are_refused(files, tmp_path):
    npy, rows = files(X, ROWS)
    npy.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"not a \.npy"):
        from_file(npy, rows)
    npy.write_bytes(b"")
    with pytest.raises(UserError, match=r"not a \.npy"):
        from_file(npy, rows)
    with npy.open("wb") as file:
        np.savez(file, x=X)
    with pytest.raises(UserError, match="archive of arrays"):
        from_file(npy, rows)
    with pytest.raises(UserError, match="no such file"):
        from_file(tmp_path / "none.npy", rows)
    with pytest.raises(UserError, match="no such table"):
        from_file(npy, tmp_path / "none.csv")
    rows.write_bytes(b"Path\n\xff\xfe\x00")
    with pytest.raises(UserError, match="not a CSV in UTF-8"):
        from_file(npy, rows)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (["train/a", "train/b"], ["train/b", "train/a"]),
        (["CheXpert-v1.0/train/a", "CheXpert-v1.0/train/b"], ["train/b", "train/a"]),
        (["train/a", "train/b"], ["CheXpert-v1.0-small/train/b", "CheXpert-v1.0-small/train/a"]),
        (["CheXpert-v1.0/train/a", "CheXpert-v1.0/train/b"], ["small/train/b", "small/train/a"]),
        ([".\\train\\a", "train\\b"], ["train/b", "train/a"]),
    ],
)
def test_the_first_folder_may_differ(theirs, ours):
    match = match_rows(theirs, ours)
    assert match.row_n.tolist() == [1, 0] and not match.missing and not match.unused


def test_missing_and_unused_are_named():
    match = match_rows(["x/a", "x/c"], ["x/a", "x/b"])
    assert match.row_n.tolist() == [0, -1] and match.missing == ["x/b"] and match.unused == ["x/c"]


def test_a_way_that_makes_two_paths_equal_is_not_used():
    """train/a and valid/a differ in the first folder only: they must never be taken for each other."""
    match = match_rows(["valid/a", "train/b"], ["train/a", "valid/a"])
    assert match.row_n.tolist() == [-1, 0] and match.missing == ["train/a"]


def test_nothing_matching_is_an_error_that_shows_both_sides():
    with pytest.raises(UserError, match=r"none of the 1 pictures(.|\n)*begins with x/a, --rows with y/q"):
        match_rows(["y/q"], ["x/a"])


@given(st.permutations(range(6)), st.sampled_from(["", "root/"]))
def test_any_order_is_undone(order, prefix):
    paths = [f"{prefix}train/{i}" for i in order]
    match = match_rows(paths, [f"train/{i}" for i in range(6)])
    assert [order[row] for row in match.row_n] == list(range(6))
