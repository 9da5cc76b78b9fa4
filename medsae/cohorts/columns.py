"""What the columns of an unknown table are for: flags first, then names that published tables use."""

from __future__ import annotations

import re
from dataclasses import dataclass

from medsae.config import IngestTable
from medsae.progress import UserError

_KNOWN = {
    "path": ("path", "imagepath", "filepath", "imageindex", "filename", "imagefilename", "file", "imageid", "dicomid",
             "image"),
    "finding": ("findinglabels", "labels", "findings", "classname"),
    "patient": ("patientid", "patient", "subjectid", "subject"),
    "study": ("studyid", "study", "followup", "accessionnumber"),
    "view": ("viewposition", "view", "projection", "appa", "frontallateral"),
    "sex": ("sex", "patientsex", "patientgender", "gender", "patientsexdicom"),
    "age": ("age", "patientage", "ageyears"),
    "split": ("split", "subset", "partition"),
    "reader": ("radid", "readerid", "reader", "radiologistid"),
    "folder": ("imagedir",),
    "birth": ("patientbirth", "birthyear"),
    "date": ("studydatedicom", "studydate"),
}  # fmt: skip
"""Names without case, blanks and punctuation: NIH ChestX-ray14, MIMIC-CXR-JPG, PadChest, VinDr-CXR, CheXpert."""
_BOXES = {"xmin", "ymin", "xmax", "ymax", "bboxx", "x"}
_NOT_LABELS = _BOXES | {
    "classid", "rows", "columns", "width", "height", "rotation", "studydate", "studytime", "fold", "index",
    "bitsstored", "samplesperpixel", "exposure", "manual", "methodlabel", "labelcuis",
}  # fmt: skip
_FLAGS = ("path", "finding", "patient", "study", "view", "sex", "age", "split")


@dataclass(frozen=True)
class Columns:
    """Name of the column for each purpose, None where the table has none."""

    path: str
    finding: str | None
    patient: str | None
    study: str | None
    view: str | None
    sex: str | None
    age: str | None
    split: str | None
    reader: str | None
    """Who read the picture: rows of one picture are then votes."""
    folder: str | None
    """Folder of the picture, beside its name (PadChest)."""
    birth: str | None
    date: str | None
    boxes: bool
    """The table has a row for each marked region, not for each picture."""
    given: frozenset[str]
    """Purposes whose column was named by a flag."""

    def line(self) -> str:
        """One line of what was taken for what."""
        parts = []
        for purpose in _FLAGS:
            name = getattr(self, purpose)
            parts.append(
                f"{purpose} = {name!r}{'' if purpose in self.given else ' (guessed)'}" if name else f"no {purpose}"
            )
        return "columns: " + ", ".join(parts)


def plain(name: str) -> str:
    """A column name without case, blanks and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def find_columns(names: list[str], config: IngestTable) -> Columns:
    """Match the table's column `names`; raises UserError for a flag that names no column, or when no path is found."""
    given = {p: getattr(config, f"{p}_column") for p in _FLAGS if getattr(config, f"{p}_column") is not None}
    for purpose, name in given.items():
        if name not in names:
            raise UserError(
                f"--{purpose}-column {name!r} is not a column of the table",
                config.table,
                f"its columns are: {', '.join(names)}",
            )
    by_plain: dict[str, str] = {}
    for name in names:
        by_plain.setdefault(plain(name), name)
    labels = set(split_names(config.label_columns))
    found: dict[str, str | None] = dict(given)
    for purpose, known in _KNOWN.items():
        if purpose not in found:
            taken = {*found.values(), *labels}
            found[purpose] = next((by_plain[k] for k in known if k in by_plain and by_plain[k] not in taken), None)
    if config.label_columns is not None and labels <= set(names) and "finding" not in given:
        found["finding"] = None  # the labels are columns
    if found["path"] is None:
        raise UserError(
            f"no column looks like the picture's path (columns: {', '.join(names)})",
            config.table,
            "name it: --path-column NAME",
        )
    boxes = len(_BOXES & set(by_plain)) >= 2
    return Columns(**found, boxes=boxes, given=frozenset(given))  # type: ignore[arg-type]


def split_names(text: str | None) -> list[str]:
    """The names in a comma-separated flag."""
    return [part.strip() for part in text.split(",") if part.strip()] if text else []


def may_be_label(name: str) -> bool:
    """Whether a column of 1, 0, -1 and blanks is taken as a label when nobody says so."""
    return plain(name) not in _NOT_LABELS and not name.startswith("Unnamed:")
