"""Open-I's reports as the National Library of Medicine gives them, one XML file a report, as a table of pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from medsae import dialects, files
from medsae.progress import UserError

_SECTIONS = ("COMPARISON", "INDICATION", "FINDINGS", "IMPRESSION")


def read_reports(folder: Path, rows: int | None = None) -> pd.DataFrame:
    """A row for each picture of each report: uid, filename (without a suffix), MeSH and Problems ("A;B": the coders'
    terms, and their heads), image (the caption), and the sections of the report; text, NaN where one is empty.

    The columns are those of the tables that are passed on (indiana_reports.csv). Raises UserError for a file that is
    no XML, and for a folder without a report that names a picture.
    """
    found: list[dict[str, str | None]] = []
    for path in sorted(folder.glob("*.xml"), key=lambda path: (len(path.name), path.name)):
        if rows is not None and len(found) >= rows:
            break
        try:
            report = ElementTree.parse(path).getroot()
        except ElementTree.ParseError as error:
            raise UserError(f"the report cannot be read: {error}", path, "unpack the reports again") from error
        terms = [" ".join((term.text or "").split()) for term in report.iter("major")]
        named = report.find(".//uId")
        about: dict[str, str | None] = {
            "uid": (named.get("id") if named is not None else None) or path.stem,
            "MeSH": ";".join(terms) or None,
            "Problems": ";".join(dict.fromkeys(term.split("/")[0].strip() for term in terms)) or None,
        }
        for text in report.iter("AbstractText"):
            if text.get("Label") in _SECTIONS:
                about[str(text.get("Label")).lower()] = " ".join((text.text or "").split()) or None
        for picture in report.iter("parentImage"):
            found.append({**about, "filename": picture.get("id"), "image": picture.findtext("caption")})
    if not found:
        raise UserError("no report in this folder names a picture", folder, "unpack the reports again")
    return pd.DataFrame(found[:rows], dtype="str")


def sha256_of_reports(folder: Path) -> str:
    """Over name and content of every report."""
    state = hashlib.sha256()
    for path in sorted(folder.glob("*.xml")):
        state.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()


def read(path: Path, rows: int | None = None, header: Sequence[str] = (), picture: str = "") -> dialects.Read:
    """A table, or a folder of reports as one; raises UserError like `dialects.read`. header: see `declared.File`;
    `picture` is the column with the picture then."""
    if header:
        return dialects.read_list(path, header, picture, rows)
    if path.is_dir() and any(path.glob("*.xml")):
        return dialects.Read(path, read_reports(path, rows), None)
    return dialects.read(path, rows)


def columns_of(path: Path) -> list[str]:
    """The names of the columns; raises UserError like `read`."""
    return list(read(path, rows=1).table.columns)


def sha256_of_table(path: Path) -> str:
    """Of the bytes of a table, or of all reports in a folder of reports."""
    return sha256_of_reports(path) if path.is_dir() else files.sha256_of(path)
