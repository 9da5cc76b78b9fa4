"""Paths and numbers of patients in commands, logs and messages: hidden unless the reader switched patients on.

The name of a folder may name a person, a ward or a study, and CheXpert's paths hold the number of the patient.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

HIDDEN = "…"
_PATH = re.compile(
    r"""(?<![\w:/.])          # not within a word or an address
    (?:[A-Za-z]:[\\/]|\\\\|~?/|\.{1,2}/)[^\s'",;]*   # C:\..., \\host\..., /..., ~/..., ./..., ../...
    |(?<![\w:/.])[\w.+-]+(?:/[\w.+ -]+){2,}""",  # a/b/c
    re.VERBOSE,
)
_PATIENT = re.compile(r"(?i)\bpatient[_-]?\d+")
_FLAGS = ("--root", "--table", "--from", "--rows", "--weights", "--masks", "--data")


def command(words: Sequence[str], shown: bool) -> str:
    """A command line as one can copy it; values that are paths are … unless `shown`."""
    if shown:
        return shlex.join(words)
    kept, value = [], False
    for word in words:
        path = (value or "/" in word or "\\" in word) and not word.startswith(("http://", "https://"))
        flag, sign, _ = word.partition("=")
        kept.append(f"{flag}={HIDDEN}" if sign and flag in _FLAGS else HIDDEN if path else shlex.quote(word))
        value = word in _FLAGS
    return text(" ".join(kept), shown)


def text(words: str, shown: bool, known: Iterable[str] = ()) -> str:
    """Free text without paths and patients' numbers unless `shown`; `known`: paths that may hold spaces."""
    if shown:
        return words
    for path in sorted((str(p) for p in known if p and len(str(p)) > 1), key=len, reverse=True):
        words = words.replace(path, HIDDEN)
    return _PATIENT.sub(f"patient{HIDDEN}", _PATH.sub(HIDDEN, words))


def values(record: dict[str, object], shown: bool) -> dict[str, object]:
    """The entries of a config or of facts; texts without their paths unless `shown`."""
    hidden = {flag.lstrip("-") for flag in _FLAGS} | {"from_"}
    return {
        name: value
        if shown or not isinstance(value, str)
        else (HIDDEN if name in hidden and value else text(value, shown))
        for name, value in record.items()
    }
