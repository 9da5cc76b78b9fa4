"""artifact.json: a typed record that is checked when it is read, and the seal that covers it (docs/protocol.md).

The seal is the sha256 of the canonical text of everything else in the manifest, and the manifest holds the sha256 of
every file, so one hash stands for the whole artifact. The file must be exactly the text that its content is written as:
no byte of it can change unseen. A manifest from before there were seals is read and called "not sealed"; its config,
parents and inputs are still covered, by the hash in its id. A seal is no signature: whoever rewrites the manifest on
purpose can compute it anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import PurePosixPath
from typing import Any, NotRequired, TypedDict, cast

from medsae import config as configs
from medsae.progress import UserError

SCHEMA_VERSION = 1
NAME = "artifact.json"
LARGEST = 2**24
"""Bytes: nothing that this program writes comes near, and a page must not read a gigabyte because of its name."""


class FileEntry(TypedDict):
    """What a file of the artifact was when it was written."""

    bytes: int
    sha256: str


class Manifest(TypedDict):
    """The content of artifact.json. `command` to `seconds` are empty where an old one lacks them."""

    id: str
    kind: str
    schema: int
    config: dict[str, Any]
    parents: dict[str, str]
    facts: dict[str, Any]
    files: dict[str, FileEntry]
    created: float
    command: list[str]
    inputs: dict[str, str]
    versions: dict[str, str]
    hardware: dict[str, Any]
    seconds: float
    seal: NotRequired[str]
    """Missing in what was made before there were seals."""


_REQUIRED = ("id", "kind", "schema", "config", "parents", "facts", "files", "created")
_FACTS: dict[str, dict[str, tuple[type, ...]]] = {
    "cohort": {"source": (str,), "n": (int,), "root": (str,), "labels": (list,)},
    "embeddings": {"encoder": (str,), "n": (int,), "d": (int,)},
    "sae": {"kind": (str,), "m": (int,), "d": (int,)},
    "scores": {"m": (int,), "n": (int,)},
    "pairs": {"m": (int,), "n": (int,), "patients": (int,)},
}
"""What pages read of the facts of a kind: where such a fact is there, it has this type."""
_NUMBERS = {"n", "d", "m", "patients", "refused", "evaluation", "expansion", "k", "l1", "fve",
            "active_share", "active_neurons", "dead_share",
            "seed", "failed", "training_seconds", "mean_entropy", "null_mean_entropy", "selective_share"}  # fmt: skip
"""Facts that pages format as numbers, of whatever kind."""


def sealed(manifest: Manifest) -> str:
    """The text of artifact.json: the manifest with its seal."""
    return _text(cast(Manifest, {**manifest, "seal": _seal(manifest)}))


def parse(text: str, folder: str, kind: str) -> Manifest:
    """The manifest of the artifact in `artifacts/<kind>/<folder>`.

    Raises ValueError that says what is wrong with it, UserError when it is of a newer schema.
    """
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    if "seal" in found:
        if not _whole(text, found):
            raise ValueError("its content is not what was sealed")
        if _whole_number(found.get("schema")) and found["schema"] > SCHEMA_VERSION:
            what = f"artifact {folder} has schema {found['schema']}; this program reads up to {SCHEMA_VERSION}"
            raise UserError(what, None, "update the program: git pull && make setup")
    _check(found)
    if "seal" not in found:
        if unknown := sorted(set(found) - set(Manifest.__annotations__)):
            raise ValueError(f"it has a key that nothing wrote: {unknown[0]!r}")
        _check_facts(found)
    if found["id"] != folder:
        raise ValueError(f"the folder is called {folder}, the artifact {found['id']}; rename or remove the copy")
    if found["kind"] != kind:
        raise ValueError(f"it is of kind {found['kind']} and lies among {kind}; move it back")
    slug, _, digest = found["id"].rpartition("-")
    if "inputs" in found and found["id"] != configs.identified(
        slug, found["config"], list(found["parents"].values()), found["inputs"]
    ):
        raise ValueError(f"its config, parents and inputs do not give its id (…-{digest})")
    empty = {"command": [], "inputs": {}, "versions": {}, "hardware": {}, "seconds": 0.0}
    return cast(Manifest, {**empty, **found})


def _seal(manifest: Manifest) -> str:
    content = {key: value for key, value in manifest.items() if key != "seal"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _text(manifest: Manifest) -> str:
    return json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)


def _whole(text: str, found: dict[str, Any]) -> bool:
    """Whether the seal fits the content, and the file is the very text that the content is written as."""
    manifest = cast(Manifest, found)
    try:
        return found.get("seal") == _seal(manifest) and text == _text(manifest)
    except ValueError:  # NaN and infinity, which are never written
        return False


def _check(found: dict[str, Any]) -> None:
    """Types of every entry; ValueError names the first that is wrong."""
    missing = [name for name in _REQUIRED if name not in found]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    for name in ("id", "kind", "seal"):
        _need(isinstance(found.get(name, ""), str), name, "a text")
    _need(_whole_number(found["schema"]) and 1 <= found["schema"] <= SCHEMA_VERSION, "schema", "one that is known")
    for name in ("created", "seconds"):
        value = found.get(name, 0.0)
        _need(_number(value) and 0 <= value < 1e11, name, "a time in seconds")
    for name in ("config", "facts", "hardware", "parents", "inputs", "versions", "files"):
        _need(isinstance(found.get(name, {}), dict), name, "a table")
    for name in ("parents", "inputs", "versions"):
        _need(all(isinstance(v, str) for v in found.get(name, {}).values()), name, "a table of texts")
    command = found.get("command", [])
    _need(isinstance(command, list) and all(isinstance(word, str) for word in command), "command", "a list of words")
    for name, entry in found["files"].items():
        place = PurePosixPath(name)
        inside = bool(name) and not place.is_absolute() and ".." not in place.parts and "\0" not in name
        _need(inside, f"files/{name!r}", "a path within the artifact")
        _need(isinstance(entry, dict) and _whole_number(entry.get("bytes")) and entry["bytes"] >= 0
              and isinstance(entry.get("sha256"), str) and re.fullmatch("[0-9a-f]{64}", entry["sha256"]) is not None,
              f"files/{name!r}", "a size and a sha256")  # fmt: skip


def _check_facts(found: dict[str, Any]) -> None:
    """What a seal would have told: facts of the types that pages expect."""
    for name, types in _FACTS.get(found["kind"], {}).items():
        value = found["facts"].get(name)
        _need(value is None or (isinstance(value, types) and not isinstance(value, bool)), f"facts/{name}",
              f"of type {types[0].__name__}")  # fmt: skip
    for name in _NUMBERS & set(found["facts"]):
        value = found["facts"][name]
        _need(value is None or _number(value), f"facts/{name}", "a number")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _whole_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _need(condition: bool, name: str, what: str) -> None:
    if not condition:
        raise ValueError(f"{name} is not {what}")
