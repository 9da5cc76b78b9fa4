"""Embeddings made elsewhere: what is taken, what is refused, which row is whose."""

import json
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from medsae.encoders import elsewhere
from medsae.encoders.elsewhere import from_file
from medsae.encoders.rows import match_rows
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


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f2", ">f4", ">f8"])
def test_floats_of_any_width_and_byte_order_come_as_float32_in_order(files, dtype):
    taken = from_file(*files(X.astype(dtype), ROWS))
    assert taken.x_nd.dtype == np.dtype("<f4") and (taken.x_nd == X).all()
    assert taken.paths == ROWS[1:] and not taken.said


PATHS = ["img/a.png", "img/b.png", "img/c.png"]


def into(path, save, *arrays, **named):
    with path.open("wb") as file:
        save(file, *arrays, **named)


def npz(path, **arrays):
    into(path, np.savez, **arrays)


def pt(path, held):
    torch.save(held, path)


def parquet(path, frame):
    frame.to_parquet(path)


T = torch.from_numpy(X)
HOLDS_PATHS = {
    "npz": lambda p: npz(p, emb=X, paths=np.array(PATHS)),
    "npz, bytes": lambda p: npz(p, features=X.astype(">f8"), filenames=np.array(PATHS, dtype="S")),
    "npz, labels beside": lambda p: npz(p, x=X, y=np.zeros((3, 14), np.float32), filename=np.array(PATHS)),
    "npz, a vector a path": lambda p: npz(p, **{path.replace("/", "~"): x for path, x in zip(PATHS, X, strict=True)}),
    "pt, dict": lambda p: pt(p, {"embeddings": T.double(), "paths": PATHS, "epoch": 3}),
    "pt, bfloat16": lambda p: pt(p, {"features": T.bfloat16(), "names": PATHS}),
    "pt, a vector a path": lambda p: pt(p, {path: x for path, x in zip(PATHS, T, strict=True)}),
    "safetensors, a vector a path": lambda p: save_file({path: x.half() for path, x in zip(PATHS, T, strict=True)}, p),
    "parquet, columns": lambda p: parquet(
        p, pd.DataFrame(X, columns=["0", "1"]).assign(Path=PATHS, age=[50.0, 60, 70])
    ),
    "parquet, lists": lambda p: parquet(p, pd.DataFrame({"image": PATHS, "embedding": list(X)})),
    "parquet, paths in the index": lambda p: parquet(p, pd.DataFrame(X, columns=["f0", "f1"], index=PATHS)),
    "npz, a text's vectors beside": lambda p: npz(p, img_embeds=X, txt_embeds=X[:2], filenames=np.array(PATHS)),
    "pt, dicts in dicts": lambda p: pt(p, {"train": {"features": T}, "meta": {"paths": PATHS}}),
    "pt, a dict a picture": lambda p: pt(p, [{"path": path, "embedding": x} for path, x in zip(PATHS, T, strict=True)]),
    "pt, a pair": lambda p: pt(p, (T, PATHS)),
    "pt, lists of vectors": lambda p: pt(p, {"embeddings": list(T), "paths": PATHS}),
    "pt, numpy inside": lambda p: pt(p, {"embeddings": X, "paths": PATHS}),
    "feather": lambda p: pd.DataFrame(X, columns=["0", "1"]).assign(Path=PATHS).to_feather(p),
    "csv, packed": lambda p: into(
        p,
        lambda file: (
            pd.DataFrame(X, columns=["0", "1"]).assign(Path=PATHS).to_csv(file, index=False, compression="gzip")
        ),
    ),
    "csv, decimal commas": lambda p: (
        pd.DataFrame(X, columns=["0", "1"]).assign(Path=PATHS).to_csv(p, index=False, sep=";", decimal=",")
    ),
    "csv, lists as text": lambda p: pd.DataFrame({"path": PATHS, "x": [str(x.tolist()) for x in X]}).to_csv(p),
    "csv, arrays as text": lambda p: pd.DataFrame({"path": PATHS, "x": [str(x) for x in X]}).to_csv(p),
    "json lines": lambda p: p.write_text(
        "\n".join(json.dumps({"path": path, "embedding": x.tolist()}) for path, x in zip(PATHS, X, strict=True))
    ),
    "csv": lambda p: pd.DataFrame(X, columns=["0", "1"]).assign(Path=PATHS).to_csv(p, index=False),
    "pt, pairs of path and vector": lambda p: pt(p, list(zip(PATHS, T, strict=True))),
    "pt, a dictionary a path": lambda p: pt(p, {path: {"embedding": x} for path, x in zip(PATHS, T, strict=True)}),
    "json, a list a path": lambda p: p.write_text(json.dumps(dict(zip(PATHS, X.tolist(), strict=True)), indent=1)),
    "npy, records": lambda p: into(
        p,
        np.save,
        np.array([(path, x) for path, x in zip(PATHS, X, strict=True)], [("path", "U20"), ("x", "f4", (2,))]),
    ),
    "npy, a field a dimension": lambda p: into(
        p,
        np.save,
        np.array([(path, *x) for path, x in zip(PATHS, X, strict=True)], [("path", "U20"), ("f0", "f4"), ("f1", "f4")]),
    ),
    "parquet, paths as a category": lambda p: parquet(
        p, pd.DataFrame({"image": pd.Categorical(PATHS), "embedding": list(X)})
    ),
    "parquet, a dimension of whole numbers": lambda p: parquet(
        p, pd.DataFrame({"Path": PATHS, "f0": X[:, 0].astype(int), "f1": X[:, 1], "fold": [1, 2, 3]})
    ),
    "csv, tensors as text": lambda p: pd.DataFrame({"path": PATHS, "x": [str(x) for x in T]}).to_csv(p),
    "csv, semicolons": lambda p: (
        pd.DataFrame(X, columns=["e0", "e1"]).assign(file=PATHS).to_csv(p, index=False, sep=";")
    ),
}


@pytest.mark.parametrize("kind", HOLDS_PATHS)
def test_files_that_say_whose_rows_they_hold(tmp_path, kind):
    path = tmp_path / "embeddings.bin"  # the name says nothing
    HOLDS_PATHS[kind](path)
    taken = from_file(path, None)
    order = np.argsort(taken.paths)
    assert [taken.paths[i].replace("~", "/") for i in order] == PATHS
    assert taken.x_nd.dtype == np.float32 and (taken.x_nd[order] == X).all() and taken.said


HOLDS_A_MATRIX = {
    "pt, tensor": lambda p: pt(p, T),
    "pt, list of tensors": lambda p: pt(p, [x[None] for x in T]),
    "pt, zipped no more": lambda p: torch.save(T, p, _use_new_zipfile_serialization=False),
    "safetensors": lambda p: save_file({"x": T.bfloat16(), "labels": torch.zeros(3, 14)}, p),
    "npz with objects": lambda p: into(p, np.savez, emb=X, paths=np.array(PATHS, object)),
    "pt, batches": lambda p: pt(p, [T[:2], T[2:]]),
    "pt, sparse": lambda p: pt(p, T.to_sparse()),
    "numbers parted by blanks": lambda p: into(p, np.savetxt, X),
    "numbers without a header": lambda p: into(p, lambda file: np.savetxt(file, X, delimiter=",")),
    "npy, columns first": lambda p: into(p, np.save, np.asfortranarray(X)),
    "npy with a dimension of 1": lambda p: into(p, np.save, X[:, None, :]),
}


@pytest.mark.parametrize("kind", HOLDS_A_MATRIX)
def test_matrices_go_with_rows(tmp_path, kind):
    HOLDS_A_MATRIX[kind](tmp_path / "e")
    (tmp_path / "rows.txt").write_text("\n".join(PATHS))
    taken = from_file(tmp_path / "e", tmp_path / "rows.txt")
    assert taken.paths == PATHS and taken.x_nd.shape == (3, 2) and (taken.x_nd == X).all()
    with pytest.raises(UserError, match=r"does not say whose rows(.|\n)*--rows"):
        from_file(tmp_path / "e", None)


def in_order(taken):
    """Rows of the cohort's pictures."""
    return taken.x_nd[match_rows(taken.paths, PATHS).row_n]


@pytest.mark.parametrize("suffix", [".npy", ".emb.pt"])
def test_a_file_a_picture(tmp_path, suffix):
    for path, x in zip(PATHS, X, strict=True):
        file = tmp_path / "e" / (path.removesuffix(".png") + suffix)
        file.parent.mkdir(parents=True, exist_ok=True)
        into(file, np.save, x) if suffix == ".npy" else pt(file, torch.from_numpy(x)[None])
    assert (in_order(from_file(tmp_path / "e", None)) == X).all()
    before = elsewhere.sha256(tmp_path / "e")
    into(file, np.save, X)
    assert elsewhere.sha256(tmp_path / "e") != before
    with pytest.raises(UserError, match=r"shape \[3, 2\], where one vector"):
        from_file(tmp_path / "e", None)
    (tmp_path / "z").mkdir()
    with pytest.raises(UserError, match=r"holds no \.npy"):
        from_file(tmp_path / "z", None)
    (tmp_path / "z/.zarray").touch()
    with pytest.raises(UserError, match="a Zarr store"):
        from_file(tmp_path / "z", None)


def test_a_table_without_a_header_loses_no_row_and_no_dimension(tmp_path):
    x = X + 0.25
    pd.DataFrame({"p": PATHS, "a": x[:, 0], "b": x[:, 1], "c": -x[:, 0], "d": 1e-3 * x[:, 1]}).to_csv(
        tmp_path / "e.csv", index=False, header=False)  # fmt: skip
    taken = from_file(tmp_path / "e.csv", None)
    assert taken.paths == PATHS
    np.testing.assert_allclose(taken.x_nd, np.column_stack([x, -x[:, 0], 1e-3 * x[:, 1]]), rtol=1e-6)


@pytest.mark.parametrize(
    ("cell", "said"),
    [("", "'nothing' in row 2 of 3"), ("NA", "in row 2 of 3"), ("nan", "in row 2 of 3"), ("?", "'?' in row 2 of 3")],
)
@pytest.mark.parametrize("names", [["f0", "f1", "f2"], ["mean", "sd", "skew"]])
def test_a_cell_that_is_no_number_costs_no_dimension(tmp_path, cell, said, names):
    lines = [",".join(["path", *names]), "img/a.png,1.5,2.5,3", f"img/b.png,1,{cell},3.5", "img/c.png,1,2,3.25"]
    (tmp_path / "e.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match=rf"column '{names[1]}' is not a number everywhere: .*{re.escape(said)}"):
        from_file(tmp_path / "e.csv", None)


def test_numbers_in_thousands_and_columns_that_are_not_there(tmp_path):
    (tmp_path / "e.csv").write_text('path,f0,f1,f3\nimg/a.png,1.5,"1,234.5",3\nimg/b.png,1,"-2,000.25",3.5\n'
                                    'img/c.png,1,"1.000,5",2\n')  # fmt: skip
    taken = from_file(tmp_path / "e.csv", None)
    assert taken.x_nd[:, 1].tolist() == [1234.5, -2000.25, 1000.5] and taken.x_nd.shape == (3, 3)
    assert "of the columns f... 1 are not there, first f2" in taken.said
    (tmp_path / "e.csv").write_text("path,f0,f99999999999\n" + "\n".join(f"{p},0.5,1.5" for p in PATHS))
    assert "99,999,999,998 are not there, first f1" in from_file(tmp_path / "e.csv", None).said[-1]


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "e.csv").write_text("path,f0,f1,f0,f1\n" + "\n".join(f"{p},1,2.5,3,4.5" for p in PATHS))
    with pytest.raises(UserError, match="2 names stand over two columns each, first 'f0'"):
        from_file(tmp_path / "e.csv", None)


def test_what_the_cohort_knows_of_its_pictures_is_no_dimension(tmp_path):
    frame = pd.DataFrame({"path": PATHS, "Edema": [1.0, 0, 1], "age": [50.5, 60, 70], "mean": X[:, 0], "sd": X[:, 1]})
    frame.to_parquet(tmp_path / "e.parquet")
    taken = from_file(tmp_path / "e.parquet", None, {"edema", "Age"})
    assert (taken.x_nd == X).all() and "Edema, age left out" in taken.said[-1]
    assert taken.columns == ("mean", "sd"), "what they are made of is part of what they are"
    frame[["path", "Edema"]].to_parquet(tmp_path / "l.parquet")
    with pytest.raises(UserError, match="give the embeddings"):
        from_file(tmp_path / "l.parquet", None, {"Edema"})


def test_folders_that_were_written_into_the_name():
    ours = ["p1/study1/a_1.png", "p1/study2/a_1.png", "p2/study1/a_1.png"]
    found = match_rows(["p2_study1_a_1.pt", "p1-study1-a_1.pt", "p1__study2__a_1.pt"], ours)
    assert found.row_n.tolist() == [1, 2, 0] and "written into the name" in found.how


def test_what_the_cohort_knows_may_have_gaps_and_pictures_may_be_called_by_numbers(tmp_path):
    (tmp_path / "e.csv").write_text("image_id,Age,mean,sd\n101,50,0.5,1\n102,,1.5,2\n103,70,2.5,3\n")
    taken = from_file(tmp_path / "e.csv", None, {"age"})
    assert taken.paths == ["101", "102", "103"] and taken.x_nd.tolist() == [[0.5], [1.5], [2.5]]
    with pytest.raises(UserError, match="column 'Age' is not a number everywhere"):
        from_file(tmp_path / "e.csv", None)
    pd.DataFrame({"image_id": [101, 102, 103], "f0": X[:, 0], "f1": X[:, 1]}).to_parquet(tmp_path / "e.parquet")
    assert from_file(tmp_path / "e.parquet", None).paths == ["101", "102", "103"]


ROW_FILES = {
    "indented JSON": json.dumps(PATHS, indent=1),
    "path to row": json.dumps({path: i for i, path in enumerate(PATHS)}),
    "row to path": json.dumps({str(i): path for i, path in reversed(list(enumerate(PATHS)))}),
    "paths in an object": json.dumps({"paths": PATHS}),
    "quoted": "\n".join(map(repr, PATHS)),
    "Paths of Python": "\n".join(f"PosixPath('{path}')" for path in PATHS),
    "an id beside": "id,xray_file\n" + "\n".join(f"{i},{path}" for i, path in enumerate(PATHS)),
    "a name beside": "name,cxr\n" + "\n".join(f"view,{path}" for path in PATHS),
    "rows of JSON": "\n".join(json.dumps({"path": path, "n": 1}) for path in PATHS),
}


@pytest.mark.parametrize("kind", ROW_FILES)
def test_rows_as_people_write_them(tmp_path, kind):
    into(tmp_path / "e.npy", np.save, X)
    (tmp_path / "rows").write_text(ROW_FILES[kind])
    assert from_file(tmp_path / "e.npy", tmp_path / "rows").paths == PATHS


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_a_sparse_matrix_of_scipy_is_read(tmp_path):
    from scipy import sparse

    sparse.save_npz(tmp_path / "e.npz", sparse.csr_matrix(X))
    (tmp_path / "rows.txt").write_text("\n".join(PATHS))
    assert (from_file(tmp_path / "e.npz", tmp_path / "rows.txt").x_nd == X).all()
    pt(tmp_path / "e.pt", T.to_sparse_csr())
    assert (from_file(tmp_path / "e.pt", tmp_path / "rows.txt").x_nd == X).all()


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path):
    class Runs:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    for held in (Runs(), {"x": Runs()}):
        (tmp_path / "x.pt").write_bytes(pickle.dumps(held))
        with pytest.raises(UserError, match="not one of tensors alone"):
            from_file(tmp_path / "x.pt", None)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "text",
    ["path\nimg/a.png\nimg/b.png\nimg/c.png\n", "img/a.png\nimg/b.png\nimg/c.png", "k;Path\n1;img/a.png\n2;img/b.png\n3;img/c.png",
     "sep=;\nfilename;k\nimg/a.png;1\nimg/b.png;2\nimg/c.png;3\n", '["img/a.png", "img/b.png", "img/c.png"]',
     "sex\twhere\nF\timg/a.png\nM\timg/b.png\nF\timg/c.png\n"],
    ids=["lower case", "no header", "semicolon", "sep=", "json", "column told by its values"],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_rows(files, text, encoding):
    npy, rows = files(X, [])
    if text.startswith("[") and encoding != "utf-8":
        pytest.skip("JSON is UTF-8")
    rows.write_text(text, encoding=encoding)
    assert from_file(npy, rows).paths == PATHS


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
        (np.arange(9, dtype=np.float32).reshape(3, 3)[:2], ROWS, "the matrix is turned"),
        (np.zeros((3, 4, 2), np.float32), ROWS, r"not \[3, 4, 2\](.|\n)*one vector a picture"),
        (X[0], ROWS, r"must be a matrix \[n, d\], not \[2\]"),
        (np.zeros((0, 2), np.float32), ["Path"], r"not \[0, 2\]"),
        (X.astype(np.int64), ROWS, "not int64"),
        (np.array([{}, {}, {}], object), ROWS, r"\.npy array cannot be read"),
        (X, ["Kind", "a", "b", "c"], "no column Path among Kind"),
        (X, ["Path", "a", "b", "a"], r"1 paths occur more than once, first a \(2 times\)"),
        (X, ["Path,Sex", "a,F", ",F", "c,M"], "1 of 3 lines have an empty Path, first line 3"),
    ],
)
def test_refused_with_numbers(files, x, lines, words):
    with pytest.raises(UserError, match=words):
        from_file(*files(x, lines))


def test_other_files_are_refused(files, tmp_path):
    npy, rows = files(X, ROWS)
    for data, words in (
        (b"<html>not found</html>", "not a file of embeddings; it begins with b'<html>"),
        (b"", "not a file of embeddings"),
        (b"\x93NUMPY\x01\x00", "npy array cannot be read"),
        (b"PK\x03\x04 cut", "cannot be read"),
        (b"\x1f\x8b\x08", "not supported: gzip"),
        (b"\x89HDF\r\n\x1a\n", "not supported: HDF5"),
        (b"PAR1 cut", "Parquet table cannot be read"),
    ):
        npy.write_bytes(data)
        with pytest.raises(UserError, match=words):
            from_file(npy, rows)
    into(npy, np.savez, a=X, b=X)
    with pytest.raises(UserError, match=r"which array .* cannot be told: a float32 \[3, 2\], b"):
        from_file(npy, rows)
    into(npy, np.savez, emb=X, paths=np.array(PATHS, object))
    with pytest.raises(UserError, match="'paths' is a pickle of objects; save it with dtype=str"):
        from_file(npy, None)
    with pytest.raises(UserError, match="no such file"):
        from_file(tmp_path / "none.npy", rows)
    with pytest.raises(UserError, match="no such table"):
        from_file(npy, tmp_path / "none.csv")
    np.save(tmp_path / "rows.npy", np.array(PATHS, object), allow_pickle=True)
    with pytest.raises(UserError, match=r"pickled(.|\n)*dtype=str"):
        from_file(npy, tmp_path / "rows.npy")
    cut = pd.DataFrame({"path": PATHS, "x": ["[0.1 0.2 ... 0.3]"] * 3})
    cut.to_csv(tmp_path / "cut.csv")
    with pytest.raises(UserError, match="its numbers were cut"):
        from_file(tmp_path / "cut.csv", None)
    rows.write_bytes(b"Path\n\xff\xfe\x00")
    with pytest.raises(UserError, match="it is no text"):
        from_file(npy, rows)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (["train/a", "train/b"], ["train/b", "train/a"]),
        (["CheXpert-v1.0/train/a", "CheXpert-v1.0/train/b"], ["train/b", "train/a"]),
        (["train/a", "train/b"], ["CheXpert-v1.0-small/train/b", "CheXpert-v1.0-small/train/a"]),
        (["CheXpert-v1.0/train/a", "CheXpert-v1.0/train/b"], ["small/train/b", "small/train/a"]),
        ([".\\train\\a", "train\\b"], ["train/b", "train/a"]),
        (["a.png", "b.png"], ["x/b.png", "y/a.png"]),
        (["C:\\data\\img\\a.png", "C:\\data\\img\\b.png"], ["img/b.png", "img/a.png"]),
        (["/home/u/img/a.png", "/home/u/img/b.png"], ["data/images/b.png", "data/images/a.png"]),
        (["img/a.jpg", "img/b.jpg"], ["img/b.png", "img/a.png"]),
        (["1.2.840.11", "1.2.840.12"], ["img/1.2.840.12.dcm", "img/1.2.840.11.dcm"]),
        (["a", "b"], ["x/b.png", "y/a.png"]),
        (["https://h.org/x/img/a.png?dl=1", "https://h.org/x/img/b.png?dl=1"], ["img/b.png", "img/a.png"]),
        (["IMG/A.PNG", "IMG/B.PNG"], ["img/b.png", "img/a.png"]),
        (["my%20img/a.png", "my%20img/b.png"], ["my img/b.png", "my img/a.png"]),
    ],
)
def test_ways_in_which_paths_differ(theirs, ours):
    match = match_rows(theirs, ours)
    assert match.row_n.tolist() == [1, 0] and not match.missing and not match.unused


def test_missing_and_unused_are_named():
    match = match_rows(["x/a", "x/c"], ["x/a", "x/b"])
    assert match.row_n.tolist() == [0, -1] and match.missing == ["x/b"] and match.unused == ["x/c"]


def test_a_way_that_makes_two_paths_equal_is_not_used():
    """train/a and valid/a differ in the first folder only: they must never be taken for each other."""
    match = match_rows(["valid/a", "train/b"], ["train/a", "valid/a"])
    assert match.row_n.tolist() == [-1, 0] and match.missing == ["train/a"]


@pytest.mark.parametrize(
    ("theirs", "ours", "words"),
    [
        (["a", "b"], ["x/a.png", "y/a.png"], "a may be x/a.png or y/a.png"),
        (["x/a.png", "x/a.jpg"], ["x/a.dcm", "x/b.dcm"], "x/a.dcm may be x/a.png or x/a.jpg"),
        (["view1.jpg"], ["p1/view1.jpg", "p2/view1.jpg"], "view1.jpg may be p1/view1.jpg or p2/view1.jpg"),
    ],
)
def test_an_ambiguous_name_is_named_with_its_candidates(theirs, ours, words):
    with pytest.raises(UserError, match=f"names are ambiguous .*{words}"):
        match_rows(theirs, ours)


def test_pictures_of_other_patients_are_never_taken_for_each_other():
    """The ends of these paths agree, the folders that differ say that they are not the same pictures."""
    with pytest.raises(UserError, match="none of the 2"):
        match_rows(["r/p3/s1/view1.jpg", "r/p4/s1/view1.jpg"], ["r/p1/s1/view1.jpg", "r/p2/s1/view1.jpg"])


def test_nothing_matching_is_an_error_that_shows_both_sides():
    with pytest.raises(UserError, match=r"none of the 1 pictures(.|\n)*begins with x/a, --rows with y/q"):
        match_rows(["y/q"], ["x/a"])


@given(st.permutations(range(6)), st.sampled_from(["", "root/"]))
def test_any_order_is_undone(order, prefix):
    paths = [f"{prefix}train/{i}" for i in order]
    match = match_rows(paths, [f"train/{i}" for i in range(6)])
    assert [order[row] for row in match.row_n] == list(range(6))
