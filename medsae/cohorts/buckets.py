"""Pictures in object storage (s3://, gs://, az://, hf://), through fsspec and the packages of the extra `cloud`.

A path that begins with a scheme travels through the program as any path does (`Path("s3:/bucket/prefix") / "a.jpg"`:
pathlib makes one slash of two), and `pictures.read` asks here for its bytes. For `ingest`, which looks for tables and
pictures in folders, the listing of a bucket is made into a folder (`stood_in`): tables as they are, of each picture an
empty file of its size and time, so that every source reads a bucket as it reads a folder.

Credentials come from where the packages look for them (variables of the environment, files in the home folder, the
machine's role); this module takes none, and an address that holds some is refused without being repeated.

Not covered: buckets with requester pays, a listing that changes while it is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from medsae import files
from medsae.progress import Progress, UserError

SCHEMES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "hf": "huggingface_hub"}
"""Scheme -> the package that reads it."""
TABLES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".xlsx", ".gz", ".zip")
"""Endings of files that are fetched whole when a bucket is listed, if they are at most TABLE_BYTES."""
TABLE_BYTES = 2**30
AT_ONCE = 16
"""Requests at a time: a bucket answers each after some tens of milliseconds, whatever it sends."""
TRIES, ROUNDS, PAUSE_SECONDS = 6, 3, 0.2
"""A request that failed as networks do is sent again by the package (S3: so many tries), and so many times by us
whatever the package did; the pause doubles."""
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
def _filesystem(scheme: str) -> Any:
    """One a process. UserError where the package is not installed."""
    try:
        import fsspec

        options = {"config_kwargs": {"retries": {"max_attempts": TRIES, "mode": "standard"}}} if scheme == "s3" else {}
        return fsspec.filesystem(scheme, use_listings_cache=False, **options)
    except ImportError as error:
        raise UserError(f"{scheme}:// needs the package {SCHEMES[scheme]}", None,
                        "pip install 'medsae[cloud]'") from error  # fmt: skip


def _place(url: str) -> tuple[Any, str]:
    scheme, _, rest = url.partition("://")
    return _filesystem(scheme), rest


def _again(work: Callable[[], T]) -> T:
    """What `work` gives, asked again where network or server failed; what cannot get better is raised at once."""
    for number in range(ROUNDS):
        try:
            return work()
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except Exception as error:  # each of these packages has errors of its own
            if number == ROUNDS - 1:
                raise OSError(f"the bucket did not answer ({type(error).__name__})") from error
            time.sleep(PAUSE_SECONDS * 2**number)
    raise AssertionError("unreachable")


def read(path: Path | str, most: int) -> bytes:
    """The bytes of an object, at most `most` + 1 of them.

    Raises FileNotFoundError, PermissionError, and OSError for a bucket that does not answer."""
    url = url_of(path)
    assert url is not None
    filesystem, name = _place(url)

    def fetch() -> bytes:
        with filesystem.open(name, "rb", cache_type="none") as opened:
            return b"" if opened.size == 0 else opened.read(most + 1)

    return _again(fetch)


@dataclass(frozen=True)
class Entry:
    """An object below a prefix."""

    path: str
    """Below the prefix, with /."""
    bytes: int
    stamp: int
    """Nanoseconds: the second of its last change, and below it 29 bits of its etag, so that another etag is another
    time."""


def listing(url: str) -> list[Entry]:
    """Every object below a prefix, by its path. UserError for a bucket that is not there, is empty below the prefix,
    does not answer, or may not be listed."""
    filesystem, name = _place(url)
    try:
        found = _again(lambda: filesystem.find(name, detail=True))
    except FileNotFoundError as error:
        raise UserError("there is no such bucket", url, "check --root") from error
    except PermissionError as error:
        raise UserError("this bucket may not be listed with the credentials of the environment", url, _MAY) from error
    except OSError as error:
        raise UserError(f"the bucket cannot be listed: {error}", url, "check the network, and ask again") from error
    start = name.rstrip("/") + "/"
    entries = [_entry(key.removeprefix(start), facts) for key, facts in sorted(found.items())
               if key.startswith(start) and facts.get("type") == "file"]  # fmt: skip
    if not entries:
        raise UserError("there is nothing below this prefix", url, "check --root")
    return entries


_MAY = ("give the environment credentials that may list and read it (for s3: AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY; docs/how-to/buckets.md)")  # fmt: skip


def _entry(path: str, facts: dict[str, Any]) -> Entry:
    changed = next((facts[k] for k in ("LastModified", "updated", "last_modified", "mtime") if facts.get(k)), 0)
    if isinstance(changed, str):
        changed = datetime.fromisoformat(changed)
    seconds = int(changed.timestamp()) if isinstance(changed, datetime) else int(changed)
    etag = next((str(facts[k]) for k in ("ETag", "etag", "blob_id", "md5Hash") if facts.get(k)), "")
    below = int.from_bytes(hashlib.sha256(etag.encode()).digest()[:4], "big") >> 3
    return Entry(path, int(facts.get("size") or 0), seconds * 10**9 + below)


@contextlib.contextmanager
def stood_in(root: Path, under: Path, progress: Progress) -> Iterator[Path]:
    """A folder that looks like the bucket: tables are fetched, pictures are empty files of their size and time.

    It lies below `under` and goes at the end of the block. UserError as `listing`, for a name that would leave the
    folder, and where objects may be listed and not read."""
    url = url_of(root)
    assert url is not None
    entries = listing(url)
    bad = next((e.path for e in entries if _leaves(e.path)), None)
    if bad is not None:
        raise UserError(f"the bucket holds a name that is no path below its prefix: {bad!r}", url, "rename it")
    _may_be_read(url, entries)
    with tempfile.TemporaryDirectory(prefix="bucket-", dir=_made(under)) as folder:
        # named as the prefix is: sources and slugs read the name of the folder
        home = Path(folder) / url.rpartition("/")[2]
        tables = [e for e in entries if e.path.lower().endswith(TABLES) and e.bytes <= TABLE_BYTES]
        with progress.task("listing of the bucket", len(entries), "objects") as task:
            for entry in entries:
                _stand(home, entry)
                task.advance()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda entry: _fetch(url, home, entry), tables))
        yield home


def _leaves(path: str) -> bool:
    return path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in path.split("/"))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _may_be_read(url: str, entries: Sequence[Entry]) -> None:
    first = next((e for e in entries if e.bytes), None)
    if first is None:
        return
    try:
        read(f"{url}/{first.path}", 1)
    except PermissionError as error:
        raise UserError("objects of this bucket may be listed, and not read, with the credentials of the environment",
                        url, _MAY) from error  # fmt: skip
    except OSError as error:
        raise UserError(f"the bucket cannot be read: {error}", url, "check the network, and ask again") from error


def _stand(home: Path, entry: Entry) -> None:
    path = home / entry.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as new:
        new.truncate(entry.bytes)
    os.utime(path, ns=(entry.stamp, entry.stamp))


def _fetch(url: str, home: Path, entry: Entry) -> None:
    path = home / entry.path
    try:
        path.write_bytes(read(f"{url}/{entry.path}", TABLE_BYTES))
    except OSError as error:
        raise UserError(f"a table of the bucket cannot be read: {error}", f"{url}/{entry.path}", _MAY) from error
    os.utime(path, ns=(entry.stamp, entry.stamp))


# --- read ahead -------------------------------------------------------------------------------------------------------


class Ahead:
    """Bytes by number, fetched by AT_ONCE threads before they are asked for: those that follow the last one asked for.

    Safe to use from threads. What is asked for in no order is fetched when it is asked for, and nothing after it."""

    def __init__(self, fetch: Callable[[int], bytes], count: int):
        self.fetch, self.count = fetch, count
        self._pool = ThreadPoolExecutor(AT_ONCE, "bucket")
        self._held: dict[int, Future[bytes]] = {}
        self._last, self._lock = -1, threading.Lock()

    def __getitem__(self, number: int) -> bytes:
        """Raises what `fetch` raises."""
        with self._lock:
            own = self._held.pop(number, None) or self._pool.submit(self.fetch, number)
            in_order, self._last = abs(number - self._last) <= AT_ONCE, number
            for following in range(number + 1, min(number + 1 + 2 * AT_ONCE, self.count) if in_order else 0):
                if following not in self._held:
                    self._held[following] = self._pool.submit(self.fetch, following)
            for old in [n for n in self._held if abs(n - number) > 4 * AT_ONCE]:
                self._held.pop(old).cancel()
        return own.result()
