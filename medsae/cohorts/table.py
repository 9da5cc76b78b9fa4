"""Any CSV or Parquet table with picture paths and labels: NIH ChestX-ray14, MIMIC-CXR-JPG, PadChest, VinDr-CXR ..."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medsae.cohorts import locate, tabular
from medsae.cohorts.columns import Columns, find_columns, plain
from medsae.cohorts.findings import read_labels, votes
from medsae.cohorts.tabular import CohortTable, line_of
from medsae.config import IngestTable
from medsae.files import sha256_of
from medsae.progress import UserError

_SOURCES = {"train": "train", "training": "train", "valid": "valid", "validate": "valid", "validation": "valid",
            "val": "valid", "dev": "valid", "test": "test", "testing": "test"}  # fmt: skip
_LATERAL = {"L", "LL", "RL", "LAT"}


def read_table(config: IngestTable) -> CohortTable:
    """Images and labels of `config.table`, in table order (rows of several readers or regions joined to one a picture).

    Columns are those named by flags, else guessed from names that published tables use; `understood` says which.
    Raises UserError for a table, column, label or path that cannot be read, for two rows about one picture, and (with
    `config.pictures`) when not one picture is found.
    """
    names = tabular.column_names(config.table)
    columns = find_columns(names, config)
    # Identifiers are text even where they look like numbers: a leading zero is part of them.
    texts = [columns.path, columns.patient, columns.study, columns.finding, columns.folder, columns.age]
    table = tabular.read_file(config.table, [name for name in texts if name is not None])
    written = _paths(table, columns, config.table)
    values_nk, label_names, told = read_labels(table, columns, config)
    if columns.boxes or columns.reader:
        table, written, values_nk, line = _one_row_a_picture(table, columns, written, values_nk, config.table)
        told.append(line)
    tabular.refuse_duplicates(written, lambda row: line_of(config.table, row))
    root = config.root if config.root is not None else config.table.parent
    root, paths, where = _locate(config, root, written, table, columns)
    n = len(table)
    patients = _patients(table, columns.patient, written, config.table)
    view, frontal = views(_column(table, columns.view), n)
    age, odd_ages = _ages(table, columns)
    source, odd_sources = _sources(_column(table, columns.split), n)
    images = pd.DataFrame(
        {
            "path": paths.to_numpy(object),
            "patient": patients,
            "study": pd.Series(table[columns.study]).fillna("").to_numpy(object) if columns.study else "",
            "source": source,
            "view": view,
            "frontal": frontal,
            "sex": tabular.sexes(_column(table, columns.sex), n),
            "age": age,
        }
    )
    kept = {"frontal": frontal, "lateral": view == "LATERAL", "all": np.ones(n, bool)}[config.views]
    if not kept.any():
        raise UserError(
            f"no row is known to be a {config.views} picture",
            config.table,
            "name the column with the projection (--view-column NAME), or leave --views out",
        )
    images = images.loc[kept].reset_index(drop=True)
    images.insert(0, "image", np.arange(len(images), dtype=np.int32))
    values_nk = values_nk[kept]
    understood = [
        f"table {config.table}: {n:,} pictures",
        columns.line(),
        where,
        *told,
        *([] if columns.patient else [_whose(patients, written)]),
        *([f"{odd_ages} ages beyond 0 to 120 years taken as unknown"] if odd_ages else []),
        *(
            [f"{odd_sources} rows with a split that is not train, valid or test: taken as no split"]
            if odd_sources
            else []
        ),
        f"views {config.views}: {len(images):,} of {n:,} pictures of {len(set(images['patient'])):,} patients",
        *tabular.counts_lines(values_nk, label_names),
    ]
    inputs = {config.table.name: sha256_of(config.table)}
    return CohortTable(images, tabular.long_labels(values_nk, label_names), label_names, understood, root, inputs)


def views(column: pd.Series | None, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Projection str [n] (AP, PA, LATERAL, another code in capitals, or ""); whether known to be frontal, bool [n]."""
    if column is None:
        return np.full(n, "", dtype=object), np.zeros(n, dtype=bool)
    code = column.astype("object").map(lambda v: str(v).strip().upper(), na_action="ignore").fillna("").to_numpy(object)
    text = code.astype(str)
    lateral = np.isin(text, list(_LATERAL)) | np.char.endswith(text, "LATERAL")
    frontal = ~lateral & (np.char.startswith(text, "AP") | np.char.startswith(text, "PA") | (text == "FRONTAL"))
    return np.where(lateral, "LATERAL", code).astype(object), frontal


def _column(table: pd.DataFrame, name: str | None) -> pd.Series | None:
    return None if name is None else pd.Series(table[name])


def _patients(table: pd.DataFrame, name: str | None, written: pd.Series, path: Path) -> np.ndarray:
    """The patients: their column, else the folder called patient... in the paths, else the picture itself."""
    if name is None:
        folder = written.str.extract(r"(?:^|/)(patient[^/]+)/")[0]
        return (written if folder.isna().any() else folder).to_numpy(object)
    text = pd.Series(table[name]).str.strip()
    blank = (text.isna() | (text == "")).to_numpy(bool)
    if blank.any():
        raise UserError(
            f"column {name!r} is blank: whose picture is it?",
            line_of(path, int(np.flatnonzero(blank)[0])),
            "patients must be known to be kept apart; complete the row or remove it",
        )
    return text.to_numpy(object)


def _whose(patients: np.ndarray, written: pd.Series) -> str:
    if (patients == written.to_numpy(object)).all():
        return "no patient column: every picture counts as a patient of its own (name it: --patient-column NAME)"
    return "no patient column: patients taken from the folders called patient... in the paths"


def _paths(table: pd.DataFrame, columns: Columns, path: Path) -> pd.Series:
    written = pd.Series(table[columns.path]).str.strip().str.replace("\\", "/").str.removeprefix("./")
    blank = (written.isna() | (written == "")).to_numpy(bool)
    if blank.any():
        raise UserError(
            f"the path (column {columns.path!r}) is blank",
            line_of(path, int(np.flatnonzero(blank)[0])),
            "remove the row",
        )
    return written


def _one_row_a_picture(
    table: pd.DataFrame, columns: Columns, written: pd.Series, values_nk: np.ndarray, path: Path
) -> tuple[pd.DataFrame, pd.Series, np.ndarray, str]:
    """Join the rows of several readers or regions; the other columns come from the first row of each picture."""
    picture, _ = pd.factorize(written)
    reader = pd.factorize(table[columns.reader])[0] + 1 if columns.reader else np.zeros(len(table), dtype=np.int64)
    if not columns.boxes:
        both = written + " read by " + pd.Series(table[columns.reader]).astype("str")
        tabular.refuse_duplicates(both, lambda row: line_of(path, row))
    first = np.unique(picture, return_index=True)[1]
    readers = (
        f"{int(reader.max())} readers, the majority counts, a draw is uncertain"
        if columns.reader
        else "no readers named"
    )
    line = f"{len(table):,} rows joined to {len(first):,} pictures ({readers})"
    joined = votes(values_nk, picture, reader)
    return table.iloc[first].reset_index(drop=True), written.iloc[first].reset_index(drop=True), joined, line


def _locate(
    config: IngestTable, root: Path, written: pd.Series, table: pd.DataFrame, columns: Columns
) -> tuple[Path, pd.Series, str]:
    """Root and paths under which the pictures lie, and the line that says so."""
    if not root.is_dir():
        raise UserError("the folder of the pictures does not exist", root, "give the folder with --root")
    built = _built(root, written, table, columns)
    ways = [*built, *locate.usual_ways(root, written)]
    if not config.pictures:
        way = ways[0]
        return way.root, way.paths, f"pictures are not looked for (--no-pictures); {way.what}"
    way = locate.choose(ways) or locate.by_name(root, written, config.table)
    if way is None:
        raise locate.nothing_found(ways, config.table, "give the folder that the paths start from with --root")
    return way.root, way.paths, f"{way.what}: {way.root}"


def _built(root: Path, written: pd.Series, table: pd.DataFrame, columns: Columns) -> list[locate.Way]:
    """Paths that published cohorts build from several columns."""
    if columns.folder is not None:
        folder = pd.Series(table[columns.folder]).str.strip().str.replace(r"\.0$", "", regex=True)
        return [locate.Way(f"column {columns.folder!r} is the folder of each picture", root, folder + "/" + written)]
    if plain(columns.path) == "dicomid" and columns.patient and columns.study:
        subject = pd.Series(table[columns.patient]).str.strip().str.removeprefix("p")
        study = pd.Series(table[columns.study]).str.strip().str.removeprefix("s")
        below = "p" + subject.str[:2] + "/p" + subject + "/s" + study + "/" + written
        return [
            locate.Way(
                f"MIMIC-CXR layout, {folder or './'}p10/p10000032/s50414267/NAME{suffix}", root, folder + below + suffix
            )
            for suffix in (".jpg", ".dcm")
            for folder in ("files/", "")
        ]
    return []


def _ages(table: pd.DataFrame, columns: Columns) -> tuple[np.ndarray, int]:
    if columns.age is None and columns.birth is not None and columns.date is not None:
        year = pd.Series(pd.to_numeric(table[columns.date], errors="coerce")) // 10_000
        born = pd.Series(pd.to_numeric(table[columns.birth], errors="coerce"))
        born = born.where(born < 10_000, born // 10_000)
        return tabular.ages(year - born, len(table))
    return tabular.ages(_column(table, columns.age), len(table))


def _sources(column: pd.Series | None, n: int) -> tuple[np.ndarray, int]:
    """Published split as train, valid, test or "", str [n], and how many rows name another one."""
    if column is None:
        return np.full(n, "", dtype=object), 0
    word = column.astype("object").map(lambda v: str(v).strip().lower(), na_action="ignore")
    source = word.map(_SOURCES).fillna("")
    return source.to_numpy(object), int((word.notna() & (source == "")).sum())
