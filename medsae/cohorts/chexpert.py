"""CheXpert and CheXpert-small as published: train.csv, valid.csv and the folders of pictures they name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medsae.cohorts import locate, tabular
from medsae.cohorts.tabular import CohortTable, line_of
from medsae.config import CHEXPERT_LABELS, IngestChexpert
from medsae.files import sha256_of
from medsae.progress import UserError

_LAYOUT = "give the folder with train.csv, valid.csv and the folders train/ and valid/ (docs/ingest.md)"


def read_chexpert(config: IngestChexpert) -> CohortTable:
    """Images and the 14 labels of CheXpert under `config.root`: rows of train.csv, then of valid.csv, in table order.

    Patient and study come from the path (.../patient00001/study1/view1_frontal.jpg). Raises UserError for a missing
    root or train.csv, missing columns, labels that are not 1, 0, -1 or blank, two rows for a picture, and (with
    `config.pictures`) when not one picture is found.
    """
    files = _files(config.root)
    tables = {source: tabular.read_file(path) for source, path in files.items()}
    for source, table in tables.items():
        _refuse_missing_columns(table, files[source])
    values_nk = np.concatenate([_label_matrix(table, files[source]) for source, table in tables.items()])
    table = pd.concat([t.drop(columns=[*CHEXPERT_LABELS]) for t in tables.values()], ignore_index=True)
    source = np.repeat(np.array(list(tables), dtype=object), [len(t) for t in tables.values()])
    starts = {name: int(np.argmax(source == name)) for name in tables}

    def place(row: int) -> str:
        return line_of(files[source[row]], row - starts[source[row]])

    written = table["Path"].astype("str").str.replace("\\", "/")
    tabular.refuse_duplicates(written, place)
    parts = written.str.extract(r"(patient[^/]+)/(?:(study[^/]+)/)?")
    if parts[0].isna().any():
        row = int(np.flatnonzero(parts[0].isna())[0])
        raise UserError(
            f"the path {written.iloc[row]!r} names no patient",
            place(row),
            "paths look like train/patient00001/study1/view1_frontal.jpg; for another layout use: ingest table",
        )
    root, paths, where = _locate(config, written, files["train"])
    frontal, view = _views(table, written)
    age, odd_ages = tabular.ages(table.get("Age"), len(table))
    age[age == 0] = np.nan  # CheXpert's patients are adults; it writes 0 for unknown
    images = pd.DataFrame(
        {
            "path": paths,
            "patient": parts[0],
            "study": parts[1].fillna(""),
            "source": source,
            "view": view,
            "frontal": frontal,
            "sex": tabular.sexes(table.get("Sex"), len(table)),
            "age": age,
        }
    )
    kept = {"frontal": frontal, "lateral": ~frontal, "all": np.ones(len(frontal), bool)}[config.views]
    if not kept.any():
        raise UserError(f"no row is a {config.views} picture", files["train"], "choose another --views")
    images = images.loc[kept].reset_index(drop=True)
    images.insert(0, "image", np.arange(len(images), dtype=np.int32))
    rows = ", ".join(f"{files[name].name} {len(t):,}" for name, t in tables.items())
    understood = [
        f"CheXpert in {config.root}: rows {rows}",
        where,
        f"views {config.views}: {len(images):,} of {len(kept):,} pictures of {len(set(images['patient'])):,} patients",
        *([f"{odd_ages} ages beyond 0 to 120 years taken as unknown"] if odd_ages else []),
        *tabular.counts_lines(values_nk[kept], CHEXPERT_LABELS),
    ]
    labels = tabular.long_labels(values_nk[kept], CHEXPERT_LABELS)
    inputs = {path.name: sha256_of(path) for path in files.values()}
    return CohortTable(images, labels, CHEXPERT_LABELS, understood, root, inputs)


def _files(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        raise UserError("the folder of CheXpert does not exist", root, _LAYOUT)
    train, valid = root / "train.csv", root / "valid.csv"
    if not train.is_file():
        below = sorted(path.parent for path in root.glob("*/train.csv"))
        raise UserError(
            "there is no train.csv in this folder", root, f"give --root {below[0]}, which has one" if below else _LAYOUT
        )
    return {"train": train, **({"valid": valid} if valid.is_file() else {})}


def _refuse_missing_columns(table: pd.DataFrame, path: Path) -> None:
    missing = [name for name in ("Path", *CHEXPERT_LABELS) if name not in table]
    if missing:
        raise UserError(
            f"the table has no column {', '.join(map(repr, missing))} (it has: {', '.join(table.columns)})",
            path,
            "give CheXpert's own table, or use: ingest table --table FILE --path-column NAME",
        )
    blank = np.flatnonzero(pd.Series(table["Path"]).isna())
    if len(blank):
        raise UserError("the path is blank", line_of(path, int(blank[0])), "remove the row")


def _label_matrix(table: pd.DataFrame, path: Path) -> np.ndarray:
    return np.stack([tabular.label_values(pd.Series(table[name]), path) for name in CHEXPERT_LABELS], axis=1)


def _views(table: pd.DataFrame, written: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Whether frontal, bool [n], and the projection [n]: AP, PA, LATERAL, another code as written, or ""."""
    if "Frontal/Lateral" in table:
        frontal = table["Frontal/Lateral"].astype("str").str.strip().str.lower() == "frontal"
    else:
        frontal = written.str.contains("frontal")
    frontal = frontal.fillna(False).to_numpy(bool)
    projection = table["AP/PA"].astype("object").fillna("") if "AP/PA" in table else pd.Series("", index=table.index)
    return frontal, np.where(frontal, projection.to_numpy(object), "LATERAL").astype(object)


def _locate(config: IngestChexpert, written: pd.Series, table: Path) -> tuple[Path, pd.Series, str]:
    """Root and paths under which the pictures lie, and the line that says so."""
    if not config.pictures:
        return config.root, written, "pictures are not looked for (--no-pictures); paths as written"
    ways = locate.usual_ways(config.root, written)
    way = locate.choose(ways)
    if way is None:
        raise locate.nothing_found(ways, table, f"{_LAYOUT}, or --no-pictures to read the labels alone")
    return way.root, way.paths, f"{way.what}: {way.root}"
