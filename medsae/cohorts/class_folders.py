"""Pictures sorted into folders by class, without a table: train/PNEUMONIA/a.jpeg, COVID/images/b.png."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from medsae.cohorts import findings, headers, locate
from medsae.cohorts.assemble import SOURCES, Plan, Rows, assemble
from medsae.cohorts.columns import PICTURE, Columns
from medsae.cohorts.offered.folders import IngestFolders
from medsae.cohorts.tabular import CohortTable
from medsae.progress import UserError

MOST = 40
"""More folders than that are no classes."""
SOME, FEWEST = 6, 5
"""More folders than that are no classes either where the middle one holds fewer pictures than these."""
_HOLDS = re.compile(
    r"(original[-_ ]?)?(images?|imgs?|pictures?|pngs?|jpe?gs?|dicoms?|dcm|x-?rays?|cxrs?)|(.*[-_ ])?data(set|base)?",
    re.I,
)
"""A folder that says only that pictures lie in it."""
_MASKS = re.compile(r"(.*[-_ ])?(masks?|segmentations?|annotations?|heat ?maps?)", re.I)
_NO_CLASS = re.compile(
    r"ap|pa|lat(eral)?|frontal|portable|f|m|female|male|((fold|batch|study|series|patient|view|p|s)[-_ ]?)?\d+",
    re.I,
)
"""Views, sexes, parts of a download: folders that say nothing about what a picture shows."""
_PERSON = re.compile(r"^((?:person|patient|pat|subject|sub|case)[-_ ]?\d+)(?=[-_. ])", re.I)
"""A file name that begins with a patient, as Kermany's person1_bacteria_2.jpeg."""
_WHO = re.compile(r"(patient|pat|subject|sub|case)[-_ ]?\d+|p\d{2,}", re.I)
"""A folder called after a patient; one called after a study (`locate.OWNER`) counts only where there is no such."""
_OCCASION = re.compile(r"(study|series|exam|visit)[-_ ]?\d+", re.I)
_DEEP, _LOOK, _FOLDERS = 6, 200, 3_000


@dataclass(frozen=True)
class _Folder:
    """What the names on the way to a picture say."""

    finding: str
    """Levels of the class, parted by /; empty where none is named."""
    split: str
    patient: str
    mask: bool


def read(config: IngestFolders) -> CohortTable:
    """The cohort of the pictures in `config.root`, each of the class that its folder is called after.

    Raises UserError for a missing folder, for fewer than two classes, and for folders that cannot be classes.
    """
    root = config.root
    if not root.is_dir():
        raise UserError("the folder does not exist", root, "check the path")
    found = [path for path in locate.files_below(root) if _picture(path)]
    found.sort(key=lambda path: (path.count(os.sep), path))  # of two copies the one that lies higher counts
    if config.under:
        found = [path for path in found if locate.matches(path, root, config.under)]
    if not found:
        raise UserError("there is no picture in this folder or the folders in it", root, "check the path")
    paths = [os.path.relpath(path, root).replace(os.sep, "/") for path in found]
    said = _folders(map(posixpath.dirname, paths), root.name)
    rows, told = _rows(paths, found, said)
    table = pd.DataFrame(rows, columns=["path", "class", "split", "patient"], dtype="str")
    _refuse(Counter(table["class"]), root)
    labels = findings.from_strings(table["class"], (), config.negative, "/", root)
    listed = hashlib.sha256("\n".join(paths).encode()).hexdigest()
    place = lambda row: posixpath.join(str(root), rows[row][0])  # noqa: E731
    plan = Plan(
        title=f"folders of classes in {root}",
        ways=lambda table, written: [locate.Way("in the folder of its class", root, written)],
        root=root,
        defined="stated by the folder that a picture lies in: it is of this class and of no other",
        headers=True,
        views_help="folders name no views: leave --views out",
    )
    split = "split" if (table["split"] != "").any() else None
    table = table.replace({"split": {"": None}}) if split else table.drop(columns="split")
    columns = Columns(path="path", finding="class", patient="patient", split=split)
    return assemble(Rows(table, place, root, {"folders": listed}, told=told), columns, labels, config, plan)


def recognise(folder: Path) -> IngestFolders | None:
    """The config that reads `folder`, when pictures lie in folders of classes and no table lies beside them."""
    holders, tables = _look(folder)
    said = _folders(holders, folder.name)
    classes = Counter(
        one.finding for path, one in said.items() if one.finding and not one.mask for _ in range(holders[path])
    )
    known = {name.casefold() for finding in classes for name in finding.split("/")}
    if any(table.split(".")[0].casefold() not in known for table in tables):  # COVID.metadata.xlsx lists file names
        return None
    try:
        _refuse(classes, folder)
    except UserError:
        return None
    return IngestFolders(root=folder)


def _look(root: Path) -> tuple[dict[str, int], list[str]]:
    """Folders below that hold pictures, and how many among their first entries; tables in `root`. Not all of a large
    tree is looked at."""
    holders: dict[str, int] = {}
    tables: list[str] = []
    level, looked = [root], 0
    for depth in range(_DEEP):
        below: list[Path] = []
        for folder in level[: _FOLDERS - looked]:
            looked += 1
            try:
                with os.scandir(folder) as entries:
                    first = islice(entries, _LOOK if depth else None)
                    some = [entry for entry in first if not entry.name.startswith(".")]
            except OSError:
                continue
            below += [Path(entry.path) for entry in some if entry.is_dir()]
            pictures = sum(bool(PICTURE.search(entry.name)) for entry in some)
            pictures = pictures or sum(_picture(entry.path) for entry in some if entry.is_file())
            if pictures:
                holders[os.path.relpath(folder, root).replace(os.sep, "/")] = pictures
            if depth == 0:
                tables = [entry.name for entry in some if _TABLE.search(entry.name)]
        level = below
    return holders, tables


def _picture(path: str) -> bool:
    """By its suffix; where a name has none, by its bytes."""
    return bool(PICTURE.search(path)) or headers.is_dicom(path)


_TABLE = re.compile(r"\.(csv|tsv|jsonl?|parquet|feather|xlsx?)(\.(gz|bz2|xz|zip))?$", re.I)


def _folders(paths: Iterable[str], root: str) -> dict[str, _Folder]:
    """folder -> what it says. What all folders of classes have in common is no class, nor is the root in itself."""
    parts = {path: [part for part in path.split("/") if part not in ("", ".")] for path in set(paths)}
    kept = {path: [part for part in names if not _silent(part)] for path, names in parts.items()}
    kept = {path: names[1:] if len(names) > 1 and names[0] == root else names for path, names in kept.items()}
    while (first := {names[0] for names in kept.values() if names}) and len(first) == 1:
        if all(len(names) < 2 for names in kept.values()):
            break
        kept = {path: names[1:] for path, names in kept.items()}
    return {
        path: _Folder(
            "/".join(kept[path]),
            next((SOURCES[part.casefold()] for part in names if part.casefold() in SOURCES), ""),
            _patient(names),
            any(_MASKS.fullmatch(part) for part in names),
        )
        for path, names in parts.items()
    }


def _patient(names: list[str]) -> str:
    deepest = names[::-1]
    of = [part for part in deepest if _WHO.fullmatch(part)] + [part for part in deepest if locate.OWNER.match(part)]
    return of[0] if of else ""


def _silent(part: str) -> bool:
    owner = _WHO.fullmatch(part) or locate.OWNER.match(part) or _OCCASION.fullmatch(part)
    return bool(owner or part.casefold() in SOURCES or _HOLDS.fullmatch(part) or _MASKS.fullmatch(part))


_Row: TypeAlias = tuple[str, str, str, str]


def _rows(paths: list[str], found: list[str], said: dict[str, _Folder]) -> tuple[list[_Row], list[str]]:
    """(path, class, split, patient) of each picture that is of a class; lines about the others."""
    rows: list[_Row] = []
    seen: set[tuple[str, str, str, int]] = set()
    masks = unsorted = twice = persons = owned = 0
    for path, file in zip(paths, found, strict=True):
        one, name = said[posixpath.dirname(path)], posixpath.basename(path)
        if one.mask or not one.finding:
            masks += one.mask
            unsorted += not one.mask
            continue
        # Some downloads hold the whole tree a second time inside itself.
        key = (one.finding, one.split, name, os.stat(file).st_size)
        if key in seen:
            twice += 1
            continue
        seen.add(key)
        person = None if one.patient else _PERSON.match(name)
        persons += person is not None
        owned += bool(one.patient)
        rows.append((path, one.finding, one.split, one.patient or (person[1].lower() if person else path)))
    told = [
        f"{masks:,} pictures in folders of masks are left out" if masks else "",
        f"{unsorted:,} pictures lie in no folder of a class: left out" if unsorted else "",
        f"{twice:,} pictures are there twice (name, size, class and split): taken once" if twice else "",
        f"{persons:,} pictures have their patient from the beginning of their name" if persons else "",
        f"{owned:,} pictures have their patient from a folder" if owned else "",
        "" if persons + owned == len(rows) else
        f"{len(rows) - persons - owned:,} pictures name no patient in their path: each counts as a patient of its own",
    ]  # fmt: skip
    return rows, [line for line in told if line]


def _refuse(classes: Counter[str], root: Path) -> None:
    """UserError for folders that cannot be classes."""
    write = "write a table with a line for each picture, then: python -m medsae ingest table --table FILE"
    shown = ", ".join(map(repr, sorted(classes)[:4]))
    if len(classes) < 2:
        what = f"all pictures are of one class ({shown})" if classes else "no picture lies in a folder of its own class"
        raise UserError(what, root, f"folders called after classes (NORMAL, PNEUMONIA) are read; or {write}")
    if all(_NO_CLASS.fullmatch(name) for name in classes):
        raise UserError(f"the folders {shown} say nothing about what a picture shows", root, write)
    middle = sorted(classes.values())[len(classes) // 2]
    if len(classes) > MOST or (len(classes) > SOME and middle < FEWEST):
        what = f"{len(classes)} folders, {middle} pictures in the middle one ({shown}): these are no classes"
        raise UserError(what, root, write)
