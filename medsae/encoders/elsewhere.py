"""Embeddings made elsewhere, in the shapes that people keep them. Whose row is whose: `rows`.

What a file is, is read from its first bytes. Nothing in it is ever run: pickles are read as weights only, or not.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import re
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from medsae.encoders.rows import PATH_COLUMNS, check_paths, like_a_path, read_table, row_paths
from medsae.files import sha256_of
from medsae.progress import UserError, first_line

BLOCK_ROWS = 65_536
SHAPES = ".npy, .npz, .safetensors, .pt, .parquet or .csv"
_MATRICES = ("embeddings", "embedding", "features", "feats", "emb", "embs", "x", "image_embeds", "image_embeddings",
             "image_features", "vectors", "arr_0")  # fmt: skip
"""Names of the matrix where a file holds several, the surest first."""
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf)", re.IGNORECASE)
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
    columns: tuple[str, ...] = ()
    """Names of the dimensions, where each is a column of a table."""


def from_file(file: Path, rows: Path | None, known: Collection[str] = ()) -> Taken:
    """The embeddings in `file` and the paths of its rows: from `rows` where given, else from `file` itself.

    `file`: a matrix [n, d] of floats of any width and byte order (dimensions of 1 between are dropped), or one vector a
    key with the path as its key; a folder with a file a picture. `rows`: a table with a column of paths, or one path a
    line. `known`: what the cohort says of its pictures (labels, attributes): columns of these names are no dimensions.
    Raises UserError with numbers: another kind of file, no matrix or several, a column that is a number in some rows
    alone, NaN or infinity (also beyond float32), another number of lines than rows, no column of paths, an empty or
    repeated path.
    """
    found = _without(_read(file), {name.casefold() for name in known}, file)
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
        turned = x_nd.shape[1] == len(paths)
        raise UserError(
            f"{len(x_nd):,} rows of embeddings, but {len(paths):,} lines of paths", where,
            "the matrix is turned: save it with a row for each picture" if turned
            else "give one line in --rows for each row of --from, in the same order",
        )  # fmt: skip
    check_paths(paths, rows or file)
    _check_finite(x_nd, paths, file)
    return Taken(x_nd, paths, said, found.columns)


def sha256(file: Path) -> str:
    """Of a file; of a folder, of the names and hashes of its files."""
    if not file.is_dir():
        return sha256_of(file)
    lines = (f"{path.relative_to(file).as_posix()}\t{sha256_of(path)}\n" for path in _single(file))
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


# --- the matrix -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    x: np.ndarray
    paths: list[str] | None = None
    said: list[str] = field(default_factory=list)
    no_paths: str = ""
    """Why the file's own paths were not taken, where there are some."""
    columns: tuple[str, ...] = ()
    """Of the dimensions, where each is a column."""
    counted: bool = False
    """They are counted (f0, f1 ...), not under names of their own."""
    broken: dict[str, str] = field(default_factory=dict)
    """Columns that may be dimensions, are numbers in some rows alone, and where they are none."""


def _without(found: _Found, known: set[str], file: Path) -> _Found:
    """Dimensions alone. UserError for a column that is a number in some rows alone, unless the cohort knows it."""
    broken = {k: v for k, v in found.broken.items() if k.casefold() not in known}
    if broken:
        raise UserError(_in_some_rows(broken), file, "fill these cells, or leave out their rows or the column")
    out = [name for name in found.columns if name.casefold() in known and not found.counted]
    if not out:
        return found
    left = [i for i, name in enumerate(found.columns) if name not in out]
    what = f"columns that the cohort has of its pictures are no dimensions: {', '.join(out)} left out"
    if not left:
        raise UserError(what, file, "give the embeddings")
    kept = tuple(found.columns[i] for i in left)
    return replace(found, x=found.x[:, left], said=[*found.said, what], columns=kept)


def _in_some_rows(broken: Mapping[str, str]) -> str:
    name, where = next(iter(broken.items()))
    more = f"; {len(broken) - 1} more columns too" if len(broken) > 1 else ""
    return f"column {name!r} is not a number everywhere: {where}{more}"


def _read(file: Path) -> _Found:
    if file.is_dir():
        return _folder(file)
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
    except UserError as error:
        raise UserError(error.what, error.where or file, error.do) from error
    except Exception as error:  # a damaged file makes these readers raise nearly anything
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        first = "it holds Python objects, which are pickled" if "Python objects" in first else first
        raise UserError(f"this {kind} cannot be read ({first})", file, f"save the embeddings as {SHAPES}") from error


def _kind(head: bytes, file: Path) -> tuple[str, Callable[[Path], _Found]]:
    if head.startswith(b"\x93NUMPY"):
        return ".npy array", _npy
    if head.startswith(b"PK\x03\x04"):
        return "zip archive", _zip
    if head.startswith(b"PAR1"):
        return "Parquet table", _parquet
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= file.stat().st_size:
        return "safetensors file", _safetensors
    if head[:1] == b"\x80":
        return "pickle", _torch
    if head.startswith(b"ARROW1"):
        return "Feather file", _feather
    if head.startswith(b"\x1f\x8b"):
        with contextlib.suppress(OSError, EOFError, zlib.error), gzip.open(file) as packed:
            if b"\0" not in packed.read(64):
                return "packed table", _text
    for mark, what in ((_HDF5, "HDF5"), (b"\x1f\x8b", "gzip: unpack it"), (b"MATLAB", "MATLAB")):
        if head.startswith(mark):
            raise UserError(f"not supported: {what}", file, f"save the embeddings as {SHAPES}")
    if head.lstrip()[:1] == b"{":
        return "JSON file", _json
    if head and b"\0" not in head and not head.lstrip().startswith(b"<"):
        return "table", _text
    raise UserError(f"this is not a file of embeddings; it begins with {head!r}", file, f"give {SHAPES}")


def _zip(path: Path) -> _Found:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return _npz(path) if any(name.endswith(".npy") for name in names) else _torch(path)


_A_PICTURE = (".npy", ".pt", ".pth")


def _single(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _A_PICTURE and path.is_file())


def _folder(folder: Path) -> _Found:
    """A file a picture, called after it."""
    files = _single(folder)
    if not files:
        zarr = any((folder / name).exists() for name in (".zarray", ".zgroup", "zarr.json"))
        what = "this is a Zarr store" if zarr else f"this folder holds no {', '.join(_A_PICTURE)} of single pictures"
        raise UserError(what, folder, f"save the embeddings in one file: {SHAPES}")
    vectors = []
    for path in files:
        x = _read(path).x.squeeze()
        if x.ndim != 1 or (vectors and len(x) != len(vectors[0])):
            raise UserError(f"shape {list(x.shape)}, where one vector of a picture was expected", path,
                            "keep one vector of one length a picture in the folder")  # fmt: skip
        vectors.append(np.array(x))
    paths = [path.relative_to(folder).as_posix() for path in files]
    return _Found(np.stack(vectors), paths, [f"a file a picture: {len(files):,} files"])


def _npy(path: Path) -> _Found:
    held = np.load(path, mmap_mode="r", allow_pickle=False)
    if held.dtype.names is None:
        return _Found(held)
    fields = {name: np.asarray(held[name]) for name in held.dtype.names}  # a record a row
    wide = {k: v for k, v in fields.items() if v.dtype.kind == "f" and v.ndim > 1}
    texts = {k: (np.char.decode(v) if v.dtype.kind == "S" else v).tolist()
             for k, v in fields.items() if v.dtype.kind in "US" and v.ndim == 1}  # fmt: skip
    return _chosen(wide, texts) if wide else _of_columns({k: v for k, v in fields.items() if k not in texts}, texts)


def _json(path: Path) -> _Found:
    """A list of numbers a path; or lists by name. Rows of JSON are a table."""
    try:
        held = json.loads(path.read_text("utf-8-sig"))
    except ValueError:
        return _text(path)
    lists = {k: v for k, v in held.items() if isinstance(v, list) and v} if isinstance(held, dict) else {}
    texts = {k: v for k, v in lists.items() if all(isinstance(one, str) for one in v)}
    numbers = {k: np.array(v, float) for k, v in lists.items() if k not in texts}
    return _chosen(numbers, texts)


def _npz(path: Path) -> _Found:
    arrays, texts, no_paths = {}, {}, ""
    with np.load(path, allow_pickle=False) as archive:
        if {"indptr", "indices", "data", "shape"} <= set(archive.files):
            from scipy.sparse import load_npz

            return _Found(load_npz(path).toarray())
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

    from medsae.wrapped import harmless

    try:
        known = [*harmless(), np._core.multiarray._reconstruct]  # pyright: ignore
        # Of a path, torch reads the suffix.
        with torch.serialization.safe_globals(known), path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch warns of in a foreign pickle is told below
            held = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        why = first_line(error)
        why = "it was not written by torch.save" if "operand" in why or "magic number" in why else why
        raise UserError(
            f"this pickle is not one of tensors alone ({why})", path,
            f"a file that needs code to be run is refused; save the embeddings as {SHAPES}",
        ) from error  # fmt: skip
    if isinstance(held, dict) and held and all(isinstance(v, dict) for v in held.values()) and _paths(held):
        held = [one | {"path": str(path)} for path, one in held.items()]
    elif isinstance(held, list | tuple) and held and all(
        isinstance(one, list | tuple) and len(one) == 2 and isinstance(one[0], str) for one in held
    ):  # fmt: skip
        held = dict(held)
    if isinstance(held, list | tuple) and held and all(isinstance(one, dict) for one in held):
        # A dictionary a picture: a list for each of its names.
        held = {k: [one[k] for one in held] for k in held[0] if all(k in one for one in held)}
    elif isinstance(held, list | tuple) and _joined(held, torch) is None:
        held = {str(i): one for i, one in enumerate(held)}
    whole = _joined(held, torch)
    if whole is not None:
        return _Found(whole)
    if not isinstance(held, dict):
        raise UserError(f"this file holds a {type(held).__name__}, not embeddings", path, "save the tensor")
    flat = _flat(held)
    arrays = {k: found for k, v in flat.items() if (found := _joined(v, torch)) is not None}
    texts = {k: [str(t) for t in v] for k, v in flat.items()
             if isinstance(v, list | tuple) and v and all(isinstance(t, str) for t in v)}  # fmt: skip
    return _chosen(arrays, texts)


def _paths(names: Iterable[Any]) -> bool:
    return all(like_a_path(str(name)) for name in names)


def _flat(held: dict[Any, Any], deep: int = 4) -> dict[str, Any]:
    """Dictionaries in a dictionary as names with points: {"train": {"features": x}} is {"train.features": x}."""
    out: dict[str, Any] = {}
    for name, value in held.items():
        inner = _flat(value, deep - 1) if isinstance(value, dict) and deep else None
        out |= {str(name): value} if inner is None else {f"{name}.{k}": v for k, v in inner.items()}
    return out


def _joined(held: Any, torch: Any) -> np.ndarray | None:
    """A tensor or array; or a list of vectors, or of batches of them, as one; None for anything else."""
    if isinstance(held, np.ndarray):
        return held
    if isinstance(held, torch.Tensor):
        return _numpy(held)
    parts = [_joined(one, torch) if not isinstance(one, list | tuple) else None for one in held] if isinstance(
        held, list | tuple) else []  # fmt: skip
    known = [part for part in parts if part is not None]
    if not known or len(known) != len(parts):
        return None
    if all(part.ndim == 2 and part.shape[1] == known[0].shape[1] for part in known):
        return np.concatenate(known)
    same = len({part.size for part in known}) == 1
    return np.stack([part.reshape(-1) for part in known]) if same else None


def _numpy(tensor: Any) -> np.ndarray:
    """Of any width: numpy knows no bfloat16 and no 8-bit floats."""
    tensor = tensor.detach()
    tensor = tensor.to_dense() if str(tensor.layout) != "torch.strided" else tensor
    return (tensor.float() if tensor.is_floating_point() and tensor.dtype.itemsize < 4 else tensor).numpy()


def _chosen(arrays: dict[str, np.ndarray], texts: dict[str, list[str]], no_paths: str = "") -> _Found:
    """The matrix and the paths among what a file holds by name; or a vector a name, the names being paths."""
    vectors = {k: a.reshape(-1) for k, a in arrays.items() if a.dtype.kind == "f" and a.size == max(a.shape, default=0)}
    if len(vectors) == len(arrays) > 1 and len({a.size for a in vectors.values()}) == 1:
        return _Found(np.stack(list(vectors.values())), list(vectors), ["one vector a key: the keys are the paths"])
    matrices = {k: a for k, a in arrays.items() if a.dtype.kind == "f" and a.ndim >= 2}
    known = [k for name in _MATRICES for k in matrices if k.lower().rpartition(".")[2] == name]
    if not known and len(matrices) > 1:  # the one that there are names for
        fit = [k for k, a in matrices.items() if any(len(t) == len(a) for t in texts.values())]
        known = fit if len(fit) == 1 else []
    if len({len(matrices[k]) for k in known}) > 1 or len({k.lower().rpartition(".")[2] for k in known}) < len(known):
        known = []  # "train.features" and "test.features": which is meant?
    if len(matrices) != 1 and not known:
        held = (
            ", ".join(f"{k} {a.dtype} {list(a.shape)}" for k, a in list(arrays.items())[:6]) or "no arrays of numbers"
        )
        raise UserError(f"which array holds the embeddings cannot be told: {held}",
                        do=f"save it alone, or name it {_MATRICES[0]!r}")  # fmt: skip
    name = known[0] if known else next(iter(matrices))
    x = matrices[name]
    lists = {k: t for k, t in texts.items() if len(t) == len(x)}
    named = [k for column in PATH_COLUMNS for k in lists if k.lower().rpartition(".")[2] == column]
    named = named or list(lists)[: len(lists) == 1]
    said = [f"embeddings are the array {name!r}" + (f", paths the list {named[0]!r}" if named else "")]
    return _Found(x, lists[named[0]] if named else None, said, no_paths)


def _parquet(path: Path) -> _Found:
    import pyarrow.parquet as pq

    return _of_arrow(pq.read_table(path))


def _feather(path: Path) -> _Found:
    import pyarrow.feather as feather

    return _of_arrow(feather.read_table(path))


def _of_arrow(table: Any) -> _Found:
    import pyarrow as pa

    _refuse_twins(table.schema.names)
    columns = {f.name: table.column(f.name) for f in table.schema}
    columns = {k: c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for k, c in columns.items()}
    columns = {k: c.cast(pa.string()) if k.lower() in _SURELY_PATHS and pa.types.is_integer(c.type) else c
               for k, c in columns.items()}  # fmt: skip
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
    numbers = {k: c.to_numpy() for k, c in columns.items()
               if pa.types.is_floating(c.type) or pa.types.is_integer(c.type)}  # fmt: skip
    return _of_columns(numbers, texts)


def _refuse_twins(names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{len(twice)} names stand over two columns each, first {twice[0]!r}",
                        do="give each dimension a name of its own")  # fmt: skip


def _of_columns(
    numbers: dict[str, np.ndarray], texts: dict[str, list[str]], broken: Mapping[str, str] = MappingProxyType({})
) -> _Found:
    """A number a column: columns that are counted (0, 1, ... or x0, x1, ...) where there are some, else all of floats.

    `broken`: columns of numbers of which some cells are none, and where: a dimension is not left out in silence."""
    floats = [k for k, v in numbers.items() if v.dtype.kind == "f"]
    families = Counter(match[1] for k in (*numbers, *broken) if (match := re.fullmatch(r"(.*?)\d+", k)))
    of_floats = {match[1] for k in (*floats, *broken) if (match := re.fullmatch(r"(.*?)\d+", k))}
    family = next((name for name, count in families.most_common() if count > 1 and name in of_floats), None)
    counted = re.compile(re.escape(family or "") + r"\d+")
    names = floats if family is None else [k for k in numbers if counted.fullmatch(k)]
    bad = {k: v for k, v in broken.items() if family is None or counted.fullmatch(k)}
    if not names:
        raise UserError(_in_some_rows(bad) if bad else "there are no columns of floats",
                        do="give a column a dimension, or one column of lists")  # fmt: skip
    n = len(numbers[names[0]])
    named = [k for column in PATH_COLUMNS for k in texts if k.lower() == column] or list(texts)[: len(texts) == 1]
    said = [
        f"embeddings are the {len(names)} columns {names[0]} to {names[-1]}"
        + (f", paths the column {named[0]}" if named else "")
    ]
    if family is not None:
        number = sorted({int(k.removeprefix(family)) for k in names})
        gone = number[-1] - number[0] + 1 - len(number)
        if gone:
            first = next(a + 1 for a, b in pairwise(number) if b > a + 1)
            said.append(f"of the columns {family}... {gone:,} are not there, first {family}{first}")
    x = np.stack([numbers[k].astype(float) for k in names], axis=1) if n else np.zeros((0, len(names)), np.float32)
    return _Found(x, texts[named[0]] if named else None, said, columns=tuple(names), counted=family is not None,
                  broken=bad)  # fmt: skip


def _text(path: Path) -> _Found:
    header, lines = read_table(path)
    if len(header) == 1 and len(header[0].split()) > 1 and all(_float(cell) is not None for cell in header[0].split()):
        return _Found(np.loadtxt(path, ndmin=2))  # as numpy.savetxt writes them: parted by blanks, without a header
    if _first_row(header):
        word = iter(("path", *(f"text {i}" for i in range(len(header)))))
        lines, header = [tuple(header), *lines], [
            next(word) if _float(cell) is None else str(i) for i, cell in enumerate(header)
        ]  # fmt: skip
    _refuse_twins(header)
    columns = list(zip(*lines, strict=True)) if lines else []
    numbers, texts, vectors, broken = {}, {}, {}, {}
    for name, cells in zip(header, columns, strict=False):
        if name.lower() in _SURELY_PATHS:
            texts[name] = [cell.strip() for cell in cells]
            continue
        values = [_float(cell) for cell in cells]
        none = [i for i, value in enumerate(values) if value is None or np.isnan(value)]
        if not none:
            whole = all(re.fullmatch(r"\s*[+-]?\d+\s*", cell) for cell in cells)
            numbers[name] = np.array(values).astype(np.int64 if whole and max(map(len, cells)) < 18 else float)
        elif all(_LIST.match(cell) for cell in cells):
            vectors[name] = _vectors(cells, path)
        elif 2 * len(none) <= len(values):
            broken[name] = f"{cells[none[0]] or 'nothing'!r} in row {none[0] + 1} of {len(values):,}"
        else:
            texts[name] = [cell.strip() for cell in cells]
    return _chosen(vectors, texts) if vectors else _of_columns(numbers, texts, broken)


_SURELY_PATHS = frozenset(PATH_COLUMNS[: PATH_COLUMNS.index("name")])
"""A picture called 12345 is no number."""
_LIST = re.compile(r"\s*(?:tensor\(|array\()?\[")


def _first_row(header: Sequence[str]) -> bool:
    """The line over a table is one of its rows: numbers, and nothing but a path beside them."""
    numbers = [cell.strip() for cell in header if _float(cell) is not None]
    if len(numbers) < 2 or any(numbers == [str(i + k) for i in range(len(numbers))] for k in (0, 1)):
        return False
    return len(numbers) == len(header) or (5 * len(numbers) >= 4 * len(header) and any("." in n for n in numbers))


def _float(cell: str) -> float | None:
    """A number with a decimal point or comma; of both, the last one is that."""
    cell = cell.strip()
    thousands = "," if cell.rfind(".") > cell.rfind(",") >= 0 else "." if cell.rfind(",") > cell.rfind(".") >= 0 else ""
    try:
        return float((cell.replace(thousands, "") if thousands else cell).replace(",", "."))
    except ValueError:
        return None


def _vectors(cells: Sequence[str], path: Path) -> np.ndarray:
    """The lists of numbers that stand as text in a column, "[0.1, 0.2]" or "[0.1 0.2]"; UserError for what is cut."""
    cut = next((i for i, cell in enumerate(cells) if "..." in cell), None)
    found = [[float(n) for n in _NUMBER.findall(cell)] for cell in cells]
    if cut is not None or len({len(one) for one in found}) != 1:
        what = "its numbers were cut (...) when it was written" if cut is not None else "its lists differ in length"
        raise UserError(f"a list of numbers as text cannot be read: {what}", path, f"save the embeddings as {SHAPES}")
    return np.array(found)


def _matrix(x: np.ndarray, file: Path, said: list[str]) -> np.ndarray:
    """float32 [n, d] of what was found."""
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        kind = "bfloat16 (or another type that numpy does not know)" if x.dtype.kind == "V" else x.dtype
        raise UserError(f"embeddings must be floats, not {kind}", file, "save them as float32")
    if x.ndim > 2 and x.size and max(x.shape[1:]) * x.shape[0] == x.size:
        said.append(f"shape {list(x.shape)} is taken as {[len(x), max(x.shape[1:])]}")
        x = x.reshape(len(x), -1)
    if x.ndim != 2 or 0 in x.shape:
        do = "save one vector a picture: their mean, or that of the CLS token" if x.ndim == 3 else None
        raise UserError(f"embeddings must be a matrix [n, d], not {list(x.shape)}", file, do)
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
