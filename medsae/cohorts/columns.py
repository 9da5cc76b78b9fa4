"""What the columns of a table are for: declared by a publisher, named by flags, or guessed from names and values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from medsae.cohorts.tabular import UNREADABLE, number_of, values_of
from medsae.config import IngestTable
from medsae.progress import UserError

_KNOWN = {
    "path": ("path", "imagepath", "pathtoimage", "filepath", "imageindex", "filename", "imagefilename", "file",
             "imageid", "dicomid", "pngpath", "image", "dicompath",
             "imagename", "imgpath", "img", "imgname", "imagefile", "imagefilepath", "relativepath", "fullpath",
             "jpgpath", "picture", "dicom", "dcmpath", "sopinstanceuid", "datei", "dateiname", "bild", "bilddatei",
             "fichier", "archivo", "imagen", "imagem", "nomefile"),
    "finding": ("findinglabels", "problems", "labels", "finding", "findings", "classname", "class", "diagnosis",
                "diagnoses", "pathology", "mesh", "befund", "befunde", "diagnose", "diagnosen", "hallazgos", "hallazgo",
                "achados", "diagnostic", "diagnóstico", "diagnostico", "reperti"),
    "patient": ("patientid", "patient", "subjectid", "subject", "deidpatientid", "uid", "personid", "mrn", "pid",
                "patientno", "patientnumber", "patientuid", "ptid", "anonymizedpatientid", "caseid", "patientnr",
                "patnr", "patientennummer", "patientenid", "paciente", "pacienteid", "idpaciente", "idpatient",
                "paziente"),
    "study": ("studyid", "study", "followup", "accessionnumber", "studyinstanceuid", "patientreportdateorder"),
    "view": ("viewposition", "appa", "view", "projection", "frontallateral", "viewpositiondicom"),
    "sex": ("sex", "patientsex", "patientgender", "gender", "patientsexdicom", "geschlecht", "sexo", "sexe", "sesso"),
    "age": ("age", "patientage", "ageyears", "alter", "edad", "idade", "âge", "età"),
    "split": ("split", "subset", "partition", "fold"),
    "reader": ("radid", "readerid", "reader", "radiologistid", "rater", "annotator"),
    "folder": ("imagedir", "folder"),
    "birth": ("patientbirth", "birthyear"),
    "date": ("studydatedicom", "studydate"),
    "rle": ("encodedpixels", "rle"),
    "facing": ("frontallateral",),
}  # fmt: skip
"""Names without case, blanks and punctuation, as published tables spell them."""
BOX_NAMES = (
    ("xmin", "ymin", "xmax", "ymax"), ("x", "y", "width", "height"), ("x", "y", "w", "h"), ("x1", "y1", "x2", "y2"),
    ("bboxx", "bboxy", "bboxw", "bboxh"), ("bboxx", "y", "w", "h"),
)  # fmt: skip
"""Four columns of a marked region: two corners, or a corner and the extent."""
WEAK_FINDINGS = ("label", "target", "category", "classes", "condition", "outcome", "imagetype")
"""Names of a column of classes where a table has no other labels ("label" may as well be a code)."""
_NOT_LABELS = re.compile(
    r"(classid|rows|columns|width|height|rotation|study(date|time)|fold|index|bitsstored|samplesperpixel|exposure.*|"
    r"manual|methodlabel|labelcuis|deceased|died|dead|survival|interpreter.*|pediatric|icu|inicu|wenticu|intubated|"
    r"wasintubated|intubationpresent|extubated|neededsupplementalo2|ventilat.*|smok.*|pregnan.*|male|female|.*id|"
    r".*index|.*count|.*order|.*number|.*offset|offset|priors?|x|y|w|h|xmin|ymin|xmax|ymax|"
    r"(is|in)?(train|training|valid|validation|val|test|holdout|frontal|lateral|portable|ap|pa|male|female)(set)?|"
    r"has(mask|report|reports|box|boxes|bbox|annotations?|segmentation)|total|sum|inpatient|outpatient|emergency|"
    r"(sex|gender|race|ethnicity|view|viewposition|split|projection|insurance)[a-z]*|excluded?|duplicate|reviewed)"
)
_FLAGS = ("path", "finding", "patient", "study", "view", "sex", "age", "split")
PICTURE = re.compile(r"\.(?:png|jpe?g|jfif|tiff?|dcm|dicom|dic|bmp|gif|webp|jp2|j2k|jpx|pgm|npy)$", re.IGNORECASE)
"""The suffix of a picture's name."""
_TEXT_ENDS = re.compile(r"[.!?]\s*$")
_SHORT_FOR = re.compile(r"(\w{1,3}\.\s?)+")
"""An abbreviation: o.B., n.a."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Name of the column for each purpose, None where the table has none."""

    path: str
    finding: str | None = None
    patient: str | None = None
    study: str | None = None
    view: str | None = None
    facing: str | None = None
    """Frontal or lateral, beside the projection (CheXpert)."""
    sex: str | None = None
    age: str | None = None
    split: str | None = None
    reader: str | None = None
    """Who read the picture: rows of one picture are then votes."""
    folder: str | None = None
    """Folder of the picture, beside its name (PadChest)."""
    birth: str | None = None
    date: str | None = None
    rle: str | None = None
    """A mask as run lengths (SIIM); -1 where there is none."""
    box: tuple[str, str, str, str] | None = None
    """The columns of a marked region: a row is then a region, not a picture."""
    given: frozenset[str] = frozenset()
    """Purposes whose column was named by a flag."""

    def purposes(self) -> set[str]:
        """Every column that has a purpose."""
        single = {v for v in vars(self).values() if isinstance(v, str)}
        return single | set(self.box or ())

    def line(self, guessed: bool = True, instead: Mapping[str, str] | None = None) -> str:
        """One line of what was taken for what; `instead`: purposes that something else than a column serves."""
        parts = []
        for purpose in _FLAGS:
            name = getattr(self, purpose)
            mark = " (guessed)" if guessed and purpose not in self.given else ""
            other = (instead or {}).get(purpose)
            parts.append(f"{purpose} = {name!r}{mark}" if name else f"{purpose} from {other}" if other
                         else f"no {purpose}")  # fmt: skip
        return "columns: " + ", ".join(parts)


def plain(name: str) -> str:
    """A column name without case, blanks and punctuation."""
    return re.sub(r"[^\w]|_", "", name.lower())


def find_columns(table: pd.DataFrame, config: IngestTable, stems: Callable[[], set[str]] | None = None) -> Columns:
    """Match the columns of `table`; raises UserError for a flag that names no column, or when no path is found.

    `stems`: the names of the pictures below the root without their suffix, asked for only where neither the name nor
    the values of a column say that it holds paths.
    """
    names = [str(name) for name in table.columns]
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
    found: dict[str, Any] = dict(given)
    files = found.get("path") or next((by_plain[k] for k in _KNOWN["path"] if k in by_plain), None)
    if files is None:  # before other purposes take it: Shenzhen's study_id holds names of files
        free = [name for name in names if name not in {*given.values(), *labels}]
        files = next((name for name in free if _looks_like_pictures(table[name])), None)
    if files is not None:
        found["path"] = files
    box = next((tuple(by_plain[p] for p in four) for four in BOX_NAMES if set(four) <= set(by_plain)), None)
    for purpose, known in _KNOWN.items():
        if purpose in found:
            continue
        taken = {*(v for k, v in found.items() if k != "view" or purpose != "facing"), *labels, *(box or ())}
        fits: Callable[[str], bool] = _FITS.get(purpose, lambda name: True)
        found[purpose] = next(
            (by_plain[k] for k in known if k in by_plain and by_plain[k] not in taken and fits(table[by_plain[k]])),
            None,
        )
    if config.label_columns is not None and labels <= set(names) and "finding" not in given:
        found["finding"] = None  # the labels are columns
    if found.setdefault("path", None) is None and stems:
        found["path"] = _named_like(table, [name for name in names if name not in labels], stems())
        clash = [purpose for purpose, name in found.items() if purpose in ("study", "folder") and name == found["path"]]
        found |= dict.fromkeys(clash)
    if found["path"] is None and found["patient"] is not None and "patient" not in given:
        # RSNA: the picture is called after the patient.
        found["path"] = found["patient"]
    if found["path"] is None:
        raise UserError(
            f"no column looks like the picture's path (columns: {', '.join(names)})"
            + (
                "; the table has one column: is its separator one of comma, semicolon, tab, |?"
                if len(names) == 1
                else ""
            ),
            config.table,
            "name it: --path-column NAME",
        )
    return Columns(
        **found,
        box=box,  # type: ignore[arg-type]
        given=frozenset(given),
    )


def looks_like_findings(column: pd.Series) -> bool:
    """Whether the values are short terms, alone or in lists: free text is no label."""
    words = [str(word).strip() for word in pd.unique(column.dropna())][:5000]
    words = [word for word in words if word]
    if not words:
        return True
    codes, _ = values_of(pd.Series(words))
    if (codes != UNREADABLE).all() or all(number_of(word) is not None for word in words):
        return False  # "diagnosis: 1" is a label or a code
    terms = [term.strip(" '\"[]") for word in words for term in re.split(r"[|;]", word)]
    terms = [term for term in terms if term]
    if not terms:
        return True
    if any(len(term.split()) > 12 and not term.startswith("[") and "," not in term for term in terms):
        return False
    ends = sum(bool(_TEXT_ENDS.search(term) and not _SHORT_FOR.fullmatch(term)) for term in terms)
    return ends <= 0.05 * len(terms) and sum(len(term) for term in words) <= 400 * len(words)


def _named_like(table: pd.DataFrame, names: list[str], stems: set[str]) -> str | None:
    """The column most of whose values are names of pictures, the one with more of them first."""
    best, most = None, 0.5
    for name in names:
        words = pd.Series(pd.unique(table[name].dropna().str.strip().iloc[:500]))
        share = float(words.str.casefold().isin(stems).mean()) if len(words) > 1 else 0.0
        if share > most:
            best, most = name, share
    return best


def _looks_like_pictures(column: pd.Series) -> bool:
    words = column.dropna().iloc[:500].str.strip()
    return len(words) > 0 and bool(words.str.contains(PICTURE).mean() > 0.8)


def _looks_like_folders(column: pd.Series) -> bool:
    return column.notna().any() and int(column.dropna().str.len().max()) <= 120


def _looks_like_splits(column: pd.Series) -> bool:
    known = {"train", "training", "valid", "validate", "validation", "val", "dev", "test", "testing"}
    return bool(column.dropna().str.strip().str.lower().isin(known).any())


_FITS: dict[str, Callable[[Any], bool]] = {
    "finding": looks_like_findings,
    "folder": _looks_like_folders,
    "split": _looks_like_splits,
}


def may_be_patients(table: pd.DataFrame, but: set[str]) -> list[str]:
    """Columns without a blank whose values repeat as those of patients do: many of them, none on much of the table."""
    found = []
    for name in map(str, table.columns):
        if name in but or table[name].isna().any():
            continue
        times = table[name].value_counts()
        most = max(3, 0.1 * len(table))
        if max(3, len(table) / 20) <= len(times) < len(table) and times.iloc[0] <= most:
            found.append(name)
    return found


def split_names(text: str | None) -> list[str]:
    """The names in a comma-separated flag."""
    return [part.strip() for part in text.split(",") if part.strip()] if text else []


def may_be_label(name: str) -> bool:
    """Whether a column of 1, 0, -1 and blanks is taken as a label when nobody says so."""
    other = any(plain(name) in known for purpose, known in _KNOWN.items() if purpose != "finding")
    return not other and not _NOT_LABELS.fullmatch(plain(name))
