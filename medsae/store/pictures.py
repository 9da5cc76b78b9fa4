"""Pictures and patients as a page may show them: data URIs, patients as salted hashes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from medsae import files, seals
from medsae.store.artifacts import Store


def data_uri(picture: bytes) -> str:
    """A picture as a data URI; the type is told by its first bytes (WebP, PNG, else JPEG)."""
    kind = "webp" if picture[8:12] == b"WEBP" else "png" if picture[:4] == b"\x89PNG" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


_SALT_BYTES = 16
_in_memory: dict[Path, bytes] = {}


def salt(store: Store) -> bytes:
    """The random salt of this data folder, made once. Where the folder cannot be written (`keeps_salt` is False then)
    this process makes one of its own and keeps it in memory: hashes then change with a restart."""
    path = store.cache / "patient-salt"
    found = _read(path)
    if found is None:
        with contextlib.suppress(OSError):
            files.make_folder(path.parent)
            lock = files.take_lock(path.with_name("patient-salt.lock"), wait=True)
            try:
                if _read(path) is None:  # of two processes the first one's stays
                    files.write(path, seals.text({"salt": secrets.token_hex(_SALT_BYTES)}))
                found = _read(path)
            finally:
                if lock is not None:
                    os.close(lock)
    return found if found is not None else _in_memory.setdefault(path, secrets.token_bytes(_SALT_BYTES))


def keeps_salt(store: Store) -> bool:
    """Whether the hashes of patients are the same after a restart: the salt is there, or it can be written."""
    return _read(store.cache / "patient-salt") is not None or os.access(store.data, os.W_OK)


def _read(path: Path) -> bytes | None:
    """The salt in a file; None where there is none, or it is damaged: then patients get other hashes, and two pages
    that show the same hash were not made before and after that."""
    try:
        value = path.read_bytes()
        if len(value) == _SALT_BYTES:  # from before there were seals
            return value
        return bytes.fromhex(seals.opened(value).values["salt"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def hashed(patient: str, salt: bytes) -> str:
    """Six hex digits that stand for a patient; the same in one data folder, meaningless elsewhere."""
    return hashlib.blake2b(patient.encode(), key=salt, digest_size=3).hexdigest()
