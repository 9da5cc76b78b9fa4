"""Small records that tell when one byte of them changed: a JSON object on one line whose last entry is its seal.

The seal is the first 8 hex digits of the md5 of everything that stands before it (a check against damage, no
signature: whoever rewrites a line can seal it anew). Lines of ledgers and notes, records of jobs and notes in caches
are written in this way. What was written before there were seals has none, is read, and is told apart as not sealed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

KEY = "seal"
TAIL = len(',"seal":"01234567"}')
"""Characters of a sealed line that the seal itself takes."""
LIKE_A_SEAL = r',"[^"]{4}":"[^"]{8}"\}$'
"""A line that ends so and whose seal does not fit was sealed: one changed byte does not make it an old one."""
_LIKE_A_SEAL = re.compile(LIKE_A_SEAL.encode())


class Opened(NamedTuple):
    """A record as it was read."""

    values: dict[str, Any]
    sealed: bool


def text(values: Mapping[str, Any], allow_nan: bool = True) -> str:
    """A record as one line of ASCII, without the line's end; `values` has an entry, and none is called `seal`."""
    assert values and KEY not in values, "a record has entries, and the seal is not one of its own"
    body = json.dumps(values, separators=(",", ":"), allow_nan=allow_nan)[:-1]
    return body + _tail(body.encode()).decode()


def opened(line: bytes | str) -> Opened:
    """The values of a line; ValueError when it is not what was sealed, or no JSON object."""
    data = (line.encode() if isinstance(line, str) else line).rstrip(b"\r\n")
    sealed = is_sealed(data)
    if not sealed and _LIKE_A_SEAL.search(data):
        raise ValueError("it is not what was sealed")
    try:
        found = json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(found, dict) or (KEY in found and not sealed):
        raise ValueError("it is no JSON object, or its seal is not where it was written")
    found.pop(KEY, None)
    return Opened(found, sealed)


def is_sealed(line: bytes) -> bool:
    """Whether a line (without its end) is, byte for byte, what was sealed."""
    return line[-TAIL:] == _tail(line[:-TAIL])


def read(path: Path) -> dict[str, Any]:
    """The values of a file of one record. Raises OSError, and ValueError as `opened`."""
    return opened(path.read_bytes()).values


def _tail(body: bytes) -> bytes:
    return b',"seal":"%b"}' % hashlib.md5(body, usedforsecurity=False).hexdigest()[:8].encode()
