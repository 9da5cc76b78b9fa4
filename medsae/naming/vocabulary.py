"""Terms of radiology for the text lens: the shipped list, or a list of one's own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from medsae.progress import UserError

SHIPPED = Path(__file__).with_name("vocabulary.tsv")
MOST_TERMS, LONGEST = 5_000, 200


@dataclass(frozen=True)
class Term:
    """A term and its kind: finding, device, position, artefact, or "own"."""

    kind: str
    text: str


def read(path: Path | None) -> list[Term]:
    """Terms of a file, one a line (kind, tab, term; or a term alone), without repeats; # begins a remark. The shipped
    list without a path. UserError for a file that cannot be read, and for one without a term."""
    where = path or SHIPPED
    try:
        lines = where.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the vocabulary cannot be read: {error}", where, "give a text file, one term a line"
        ) from error
    found: dict[str, Term] = {}
    for line in lines:
        kind, tab, text = line.partition("\t")
        text = " ".join((text if tab else kind).split())
        if text and not line.startswith("#"):
            found.setdefault(text.lower(), Term(kind.strip() if tab else "own", text[:LONGEST]))
    if not found:
        raise UserError("the vocabulary holds no term", where, "write one term a line")
    if len(found) > MOST_TERMS:
        raise UserError(f"the vocabulary holds {len(found):,} terms; {MOST_TERMS:,} are the most", where, "shorten it")
    return list(found.values())


def stamp(path: Path) -> str:
    """What stands for a file in the record: its name and the beginning of its sha256."""
    try:
        return f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    except OSError as error:
        raise UserError(f"the vocabulary cannot be read: {error}", path, "give a text file, one term a line") from error
