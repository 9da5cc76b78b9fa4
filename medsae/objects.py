"""Objects in a bucket (s3://, gs://, az://, hf://), through fsspec and the packages of the extra `cloud`.

Whole objects in and out; every request is sent again where it fails as networks do. One write is exclusive (`create`):
of any number of machines that put the same name one wins, which is what a rename and a lock are on a disk.

An address travels through the program as any path does (`Path("s3:/bucket/prefix") / "a.jpg"`: pathlib makes one slash
of two). Credentials come from where the packages look for them (variables of the environment, files in the home folder,
the machine's role); this module takes none, and an address that holds some is refused without being repeated.

Not covered: buckets with requester pays, a listing that changes while it is read.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from medsae import files
from medsae.progress import UserError

SCHEMES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "hf": "huggingface_hub"}
"""Scheme -> the package that reads it."""
AT_ONCE = 16
"""Requests at a time: a bucket answers each after some tens of milliseconds, whatever it sends."""
TRIES, ROUNDS, PAUSE_SECONDS = 6, 3, 0.2
"""A request that failed as networks do is sent again by the package (S3: so many tries), and so many times by us
whatever the package did; the pause doubles."""
BLOCK_BYTES = 2**24
"""A large object is fetched in blocks of this size, several at a time; one that fails is fetched again alone."""
MAY = ("give the environment credentials that may list and read it (for s3: AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
       "AWS_SECRET_ACCESS_KEY; docs/how-to/buckets.md)")  # fmt: skip
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError",
                   "ClientAuthenticationError", "TokenRetrievalError", "UnauthorizedSSOTokenError")  # fmt: skip
"""Errors of the packages that no second try mends."""
T = TypeVar("T")


def url_of(path: Path | str | None) -> str | None:
    """`s3://bucket/prefix` of a path with one slash or two; None for a path of this machine.

    UserError for an address that holds credentials: it would end up in records and logs."""
    found = files.REMOTE.match(str(path)) if path is not None else None
    if found is None:
        return None
    scheme, rest = found[1], found[2].rstrip("/")
    if re.match(r"[^/]*[:@]", rest) and scheme != "hf":
        raise UserError(f"an address of {scheme}:// holds credentials", None,
                        "leave them out: they are taken from the environment (docs/how-to/buckets.md)")  # fmt: skip
    return f"{scheme}://{rest}"


@cache
def filesystem(scheme: str) -> Any:
    """One a process. UserError where the package is not installed."""
    try:
        import fsspec

        options = {"config_kwargs": {"retries": {"max_attempts": TRIES, "mode": "standard"}}} if scheme == "s3" else {}
        return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True, **options)
    except ImportError as error:
        raise UserError(f"{scheme}:// needs the package {SCHEMES[scheme]}", None,
                        "pip install 'medsae[cloud]'") from error  # fmt: skip


def _place(url: str) -> tuple[Any, str]:
    scheme, _, rest = url.partition("://")
    return filesystem(scheme), rest


def again(work: Callable[[], T]) -> T:
    """What `work` gives, asked again where network or server failed; what cannot get better is raised at once: objects
    that are not there or are there already, and PermissionError, also for missing credentials."""
    for number in range(ROUNDS):
        try:
            return work()
        except (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError):
            raise
        except Exception as error:  # each of these packages has errors of its own
            if type(error).__name__ in _NO_CREDENTIALS:
                raise PermissionError("no credentials") from error
            if number == ROUNDS - 1:
                raise OSError(f"the bucket did not answer ({type(error).__name__})") from error
            time.sleep(PAUSE_SECONDS * 2**number)
    raise AssertionError("unreachable")


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """An object below a prefix."""

    path: str
    """Below the prefix, with /."""
    bytes: int
    stamp: int
    """Nanoseconds: the second of its last change by the server's clock, and below it 29 bits of its etag, so that
    another etag is another time."""

    @property
    def second(self) -> int:
        """Of its last change, by the server's clock."""
        return self.stamp // 10**9


def entries(url: str) -> list[Entry]:
    """Every object below a prefix, by its path; none where nothing lies there.

    Raises FileNotFoundError where there is no such bucket, PermissionError, OSError for one that does not answer."""
    storage, name = _place(url)
    found = again(lambda: storage.find(name, detail=True))
    start = name.rstrip("/") + "/"
    return [_entry(key.removeprefix(start), facts) for key, facts in sorted(found.items())
            if key.startswith(start) and facts.get("type") == "file"]  # fmt: skip


def _entry(path: str, facts: dict[str, Any]) -> Entry:
    changed = next((facts[k] for k in ("LastModified", "updated", "last_modified", "mtime") if facts.get(k)), 0)
    if isinstance(changed, str):
        changed = datetime.fromisoformat(changed)
    seconds = int(changed.timestamp()) if isinstance(changed, datetime) else int(changed)
    etag = next((str(facts[k]) for k in ("ETag", "etag", "blob_id", "md5Hash") if facts.get(k)), "")
    below = int.from_bytes(hashlib.sha256(etag.encode()).digest()[:4], "big") >> 3
    return Entry(path, int(facts.get("size") or 0), seconds * 10**9 + below)


def read(path: Path | str, most: int) -> bytes:
    """The bytes of an object, at most `most` + 1 of them.

    Raises FileNotFoundError, PermissionError, and OSError for a bucket that does not answer."""
    url = url_of(path)
    assert url is not None
    storage, name = _place(url)

    def fetch() -> bytes:
        with storage.open(name, "rb", cache_type="none") as opened:
            return b"" if opened.size == 0 else opened.read(most + 1)

    return again(fetch)


def size(url: str) -> int | None:
    """Bytes of an object, None where there is none. Raises PermissionError and OSError."""
    storage, name = _place(url)
    try:
        return int(again(lambda: storage.info(name))["size"])
    except FileNotFoundError:
        return None


def fetch(url: str, to: Path, bytes: int) -> None:
    """An object of so many bytes as a new file, in blocks, several at a time. What it holds is not looked at.

    Raises ValueError where it has another size, FileNotFoundError, PermissionError, OSError."""
    if (found := size(url)) is None:
        raise FileNotFoundError(url)
    if found != bytes:
        raise ValueError(f"it has {found:,} bytes, not {bytes:,}")
    storage, name = _place(url)
    handle = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, files.OWN_FILE)

    def block(start: int) -> None:
        data = again(lambda: storage.cat_file(name, start=start, end=min(start + BLOCK_BYTES, bytes)))
        os.pwrite(handle, data, start)

    try:
        starts = range(0, bytes, BLOCK_BYTES)
        with ThreadPoolExecutor(max(1, min(AT_ONCE // 2, len(starts)))) as pool:
            list(pool.map(block, starts))
    finally:
        os.close(handle)


# --- writing ----------------------------------------------------------------------------------------------------------


def put(url: str, data: bytes) -> None:
    """Write an object, in the place of what is there. Raises PermissionError and OSError."""
    storage, name = _place(url)
    again(lambda: storage.pipe_file(name, data))


def put_file(url: str, path: Path) -> None:
    """The same of a file, which need not fit in memory."""
    storage, name = _place(url)
    again(lambda: storage.put_file(str(path), name))


def create(url: str, data: bytes) -> bool:
    """Write an object unless there is one: of several that try one is told True. `data` must differ between them, so
    that who wrote it and did not hear the answer knows it again.

    Raises PermissionError and OSError."""
    storage, name = _place(url)
    try:
        again(lambda: storage.pipe_file(name, data, mode="create"))
    except FileExistsError:
        try:
            return read(url, len(data)) == data
        except FileNotFoundError:  # another one's, and gone again
            return False
    return True


def remove(url: str) -> None:
    """Remove an object; one that is gone is no error. Raises PermissionError and OSError."""
    storage, name = _place(url)
    try:
        again(lambda: storage.rm_file(name))
    except FileNotFoundError:
        return


@cache
def need_create(url: str) -> None:
    """UserError unless the storage does `create` as it should: makers of S3 of their own may write over what is there.
    Tried once a process, with an object that goes again. Raises PermissionError and OSError."""
    scheme, probe = url.partition("://")[0], f"{url}/probe-{secrets.token_hex(8)}"
    what = UserError("this storage has no exclusive writing, by which several machines are kept apart", url,
                     "use S3 (or another maker's that knows If-None-Match), gs:// or az://")  # fmt: skip
    if scheme == "hf":  # a commit puts one state in the place of another
        raise what
    try:
        put(probe, b"1")
        if create(probe, b"2"):
            raise what
    finally:
        remove(probe)


def now(url: str) -> int:
    """The second that it is by the bucket's own clock: that of an object written below `url`, which goes again.

    Raises PermissionError and OSError."""
    own = f"{url}/clock-{secrets.token_hex(8)}"
    put(f"{own}/now", b"now")
    try:
        (entry,) = entries(own)
        return entry.second
    finally:
        remove(f"{own}/now")


def trouble(error: OSError, url: str, option: str) -> UserError:
    """What an error of this module means for who reads it; `option`: by which the address was given."""
    if isinstance(error, FileNotFoundError):
        return UserError("there is no such bucket", url, f"check {option}")
    if isinstance(error, PermissionError):
        return UserError("this bucket may not be listed with the credentials of the environment", url, MAY)
    return UserError(f"the bucket cannot be listed: {error}", url, "check the network, and ask again")
