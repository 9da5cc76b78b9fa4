"""Pictures and patients as a page may show them: data URIs, patients as salted hashes."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets

from medsae.progress import UserError
from medsae.store.artifacts import Store


def data_uri(picture: bytes) -> str:
    """A picture as a data URI; the type is told by its first bytes (WebP, PNG, else JPEG)."""
    kind = "webp" if picture[8:12] == b"WEBP" else "png" if picture[:4] == b"\x89PNG" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def salt(store: Store) -> bytes:
    """The random salt of this data folder, made once; UserError when the folder is not writable."""
    path = store.cache / "patient-salt"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return path.read_bytes()
    except OSError as error:
        raise UserError("the folder is not writable", path, "choose another with MEDSAE_DATA") from error
    value = secrets.token_bytes(16)
    with os.fdopen(handle, "wb") as file:
        file.write(value)
        file.flush()
        os.fsync(file.fileno())
    return value


def hashed(patient: str, salt: bytes) -> str:
    """Six hex digits that stand for a patient; the same in one data folder, meaningless elsewhere."""
    return hashlib.blake2b(patient.encode(), key=salt, digest_size=3).hexdigest()
