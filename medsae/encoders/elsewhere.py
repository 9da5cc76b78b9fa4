"""Embeddings made elsewhere, in the shapes that people keep them. Whose row is whose: `rows`.

What a file is, is read from its first bytes. Nothing in it is ever run: pickles are read as weights only, or not.
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medsae.encoders.rows import PATH_COLUMNS, check_paths, read_table, row_paths
from medsae.progress import UserError, first_line

BLOCK_ROWS = 65_536
SHAPES = ".npy, .npz, .safetensors, .pt, .parquet or .csv"
_MATRICES = ("embeddings", "embedding", "features", "feats", "emb", "embs", "x", "image_embeds", "image_embeddings",
             "image_features", "vectors", "arr_0")  # fmt: skip
"""Names of the matrix where a file holds several, the surest first."""
_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Taken:
    """What a file of embeddings holds."""

    x_nd: np.ndarray
    """float32 [n, d]; a read-only memory map where the file is a .npy of that."""
    paths: list[str]
    """The picture of each row, as the file or --rows names it."""
    said: list[str]
    """What had to be chosen or undone."""


def from_file(file: Path, rows: Path | None) -> Taken:
    """The embeddings in `file` and the paths of its rows: from `rows` where given, else from `file` itself.

    `file`: a matrix [n, d] of floats of any width and byte order (dimensions of 1 between are dropped), or one vector a
    key with the path as its key. `rows`: a table with a column of paths, or one path a line. Raises UserError with
    numbers: another kind of file, no matrix or several, NaN or infinity (also beyond float32), another number of lines
    than rows, no column of paths, an empty or repeated path.
    """
    found = _read(file)
    said = list(found.said)
    if rows is not None:
        paths = row_paths(rows, said)
    elif found.paths is not None:
        paths = found.paths
    else:
        why = f" ({found.no_paths})" if found.no_paths else ""
        raise UserError(f"this file does not say whose rows these are{why}", file, "give the paths with --rows")
    x_nd = _matrix(found.x, file, said)
    where = f"{file} and {rows}" if rows is not None else file
    if len(x_nd) != len(paths):
        raise UserError(
            f"{len(x_nd):,} rows of embeddings, but {len(paths):,} lines of paths", where,
            "give one line in --rows for each row of --from, in the same order",
        )  # fmt: skip
    check_paths(paths, rows or file)
    _check_finite(x_nd, paths, file)
    return Taken(x_nd, paths, said)


# --- the matrix -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    x: np.ndarray
    paths: list[str] | None = None
    said: list[str] = field(default_factory=list)
    no_paths: str = ""
    """Why the file's own paths were not taken, where there are some."""


def _read(file: Path) -> _Found:
    try:
        with file.open("rb") as opened:
            head = opened.read(16)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        what = "there is no such file of embeddings" if missing else f"this file cannot be read ({error.strerror})"
        raise UserError(what, file, "check --from") from error
    kind, read = _kind(head, file)
    try:
        return read(file)
    except UserError:
        raise
    except Exception as error:  # a damaged file makes these readers raise nearly anything
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        first = "it holds Python objects, which are pickled" if "Python objects" in first else first
        raise UserError(f"this {kind} cannot be read ({first})", file, f"save the embeddings as {SHAPES}") from error


def _kind(head: bytes, file: Path) -> tuple[str, Callable[[Path], _Found]]:
    if head.startswith(b"\x93NUMPY"):
        return ".npy array", lambda path: _Found(np.load(path, mmap_mode="r", allow_pickle=False))
    if head.startswith(b"PK\x03\x04"):
        return "zip archive", _zip
    if head.startswith(b"PAR1"):
        return "Parquet table", _parquet
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= file.stat().st_size:
        return "safetensors file", _safetensors
    if head[:1] == b"\x80":
        return "pickle", _torch
    for mark, what in ((_HDF5, "HDF5"), (b"\x1f\x8b", "gzip: unpack it"), (b"MATLAB", "MATLAB")):
        if head.startswith(mark):
            raise UserError(f"not supported: {what}", file, f"save the embeddings as {SHAPES}")
    if head and b"\0" not in head and not head.lstrip().startswith(b"<"):
        return "table", _text
    raise UserError(f"this is not a file of embeddings; it begins with {head!r}", file, f"give {SHAPES}")


def _zip(path: Path) -> _Found:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return _npz(path) if any(name.endswith(".npy") for name in names) else _torch(path)


def _npz(path: Path) -> _Found:
    arrays, texts, no_paths = {}, {}, ""
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            try:
                array = archive[name]
            except ValueError:  # an array of Python objects, which is a pickle
                no_paths = f"its {name!r} is a pickle of objects; save it with dtype=str"
                continue
            if array.dtype.kind in "US" and array.ndim == 1:
                texts[name] = (
                    [str(text) for text in np.char.decode(array) if True] if array.dtype.kind == "S" else array.tolist()
                )
            else:
                arrays[name] = array
    return _chosen(arrays, texts, no_paths)


def _safetensors(path: Path) -> _Found:
    from safetensors.torch import load_file

    return _chosen({name: _numpy(tensor) for name, tensor in load_file(path).items()}, {})


def _torch(path: Path) -> _Found:
    import torch

    try:
        with path.open("rb") as file:  # of a path, torch reads the suffix
            held = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"this pickle is not one of tensors alone ({first_line(error)})", path,
            f"a file that needs code to be run is refused; save the embeddings as {SHAPES}",
        ) from error  # fmt: skip
    if isinstance(held, torch.Tensor):
        return _Found(_numpy(held))
    if isinstance(held, list | tuple) and held and all(isinstance(one, torch.Tensor) for one in held):
        return _Found(_numpy(torch.stack([one.reshape(-1) for one in held])))
    if not isinstance(held, dict):
        raise UserError(f"this file holds a {type(held).__name__}, not embeddings", path, "save the tensor")
    arrays = {str(k): _numpy(v) for k, v in held.items() if isinstance(v, torch.Tensor)}
    texts = {str(k): [str(t) for t in v] for k, v in held.items()
             if isinstance(v, list | tuple) and v and all(isinstance(t, str) for t in v)}  # fmt: skip
    return _chosen(arrays, texts)


def _numpy(tensor: Any) -> np.ndarray:
    """Of any width: numpy knows no bfloat16 and no 8-bit floats."""
    tensor = tensor.detach()
    return (tensor.float() if tensor.is_floating_point() and tensor.dtype.itemsize < 4 else tensor).numpy()


def _chosen(arrays: dict[str, np.ndarray], texts: dict[str, list[str]], no_paths: str = "") -> _Found:
    """The matrix and the paths among what a file holds by name; or a vector a name, the names being paths."""
    vectors = {k: a.reshape(-1) for k, a in arrays.items() if a.dtype.kind == "f" and a.size == max(a.shape, default=0)}
    if len(vectors) == len(arrays) > 1 and len({a.size for a in vectors.values()}) == 1:
        return _Found(np.stack(list(vectors.values())), list(vectors), ["one vector a key: the keys are the paths"])
    matrices = {k: a for k, a in arrays.items() if a.dtype.kind == "f" and a.ndim >= 2}
    known = [k for name in _MATRICES for k in matrices if k.lower() == name]
    if len(matrices) != 1 and not known:
        held = (
            ", ".join(f"{k} {a.dtype} {list(a.shape)}" for k, a in list(arrays.items())[:6]) or "no arrays of numbers"
        )
        raise UserError(f"which array holds the embeddings cannot be told: {held}",
                        do=f"save it alone, or name it {_MATRICES[0]!r}")  # fmt: skip
    name = known[0] if known else next(iter(matrices))
    x = matrices[name]
    lists = {k: t for k, t in texts.items() if len(t) == len(x)}
    named = [k for column in PATH_COLUMNS for k in lists if k.lower() == column] or list(lists)[: len(lists) == 1]
    said = [f"embeddings are the array {name!r}" + (f", paths the list {named[0]!r}" if named else "")]
    return _Found(x, lists[named[0]] if named else None, said, no_paths)


def _parquet(path: Path) -> _Found:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    columns = {f.name: table.column(f.name) for f in table.schema}
    is_list = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    lists = {k: c for k, c in columns.items() if any(is_one(c.type) for is_one in is_list)}
    texts = {k: [str(v) if v is not None else "" for v in c.to_pylist()] for k, c in columns.items()
             if pa.types.is_string(c.type) or pa.types.is_large_string(c.type)}  # fmt: skip
    if lists:
        arrays = {}
        for name, column in lists.items():
            sizes = {len(v) if v is not None else 0 for v in column.to_pylist()}
            if len(sizes) == 1 and pa.types.is_floating(column.type.value_type):
                flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
                arrays[name] = flat.reshape(len(column), -1)
        return _chosen(arrays, texts)
    floats = {k: c.to_numpy() for k, c in columns.items() if pa.types.is_floating(c.type)}
    return _of_columns(floats, texts)


def _of_columns(floats: dict[str, np.ndarray], texts: dict[str, list[str]]) -> _Found:
    """A number a column: columns that are counted (0, 1, ... or x0, x1, ...) where there are some, else all."""
    families = Counter(match[1] for k in floats if (match := re.fullmatch(r"(.*?)\d+", k)))
    family = next((name for name, count in families.most_common(1) if count > 1), None)
    names = [k for k in floats if family is None or re.fullmatch(re.escape(family) + r"\d+", k)]
    if not names:
        raise UserError("there are no columns of floats", do="give a column a dimension, or one column of lists")
    n = len(next(iter(floats.values())))
    named = [k for column in PATH_COLUMNS for k in texts if k.lower() == column] or list(texts)[: len(texts) == 1]
    said = [
        f"embeddings are the {len(names)} columns {names[0]} to {names[-1]}"
        + (f", paths the column {named[0]}" if named else "")
    ]
    x = np.stack([floats[k] for k in names], axis=1) if n else np.zeros((0, len(names)), np.float32)
    return _Found(x, texts[named[0]] if named else None, said)


def _text(path: Path) -> _Found:
    header, lines = read_table(path)
    columns = list(zip(*lines, strict=True)) if lines else []
    floats, texts = {}, {}
    for name, cells in zip(header, columns, strict=False):
        try:
            floats[name] = np.array([float(cell) for cell in cells])
        except ValueError:
            texts[name] = [cell.strip() for cell in cells]
    return _of_columns(floats, texts)


def _matrix(x: np.ndarray, file: Path, said: list[str]) -> np.ndarray:
    """float32 [n, d] of what was found."""
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        kind = "bfloat16 (or another type that numpy does not know)" if x.dtype.kind == "V" else x.dtype
        raise UserError(f"embeddings must be floats, not {kind}", file, "save them as float32")
    if x.ndim > 2 and x.size and max(x.shape[1:]) * x.shape[0] == x.size:
        said.append(f"shape {list(x.shape)} is taken as {[len(x), max(x.shape[1:])]}")
        x = x.reshape(len(x), -1)
    if x.ndim != 2 or 0 in x.shape:
        raise UserError(f"embeddings must be a matrix [n, d], not {list(x.shape)}", file)
    if x.dtype == np.dtype("<f4"):
        return x
    with np.errstate(over="ignore"):
        return x.astype(np.float32)


def _check_finite(x_nd: np.ndarray, paths: list[str], file: Path) -> None:
    bad, first = 0, -1
    for at in range(0, len(x_nd), BLOCK_ROWS):
        wrong = ~np.isfinite(x_nd[at : at + BLOCK_ROWS]).all(1)
        bad += int(wrong.sum())
        if first < 0 and wrong.any():
            first = at + int(np.flatnonzero(wrong)[0])
    if bad:
        raise UserError(
            f"{bad:,} of {len(x_nd):,} rows hold NaN or infinity, first row {first} ({paths[first]})", file,
            "leave these rows out of both files",
        )  # fmt: skip
