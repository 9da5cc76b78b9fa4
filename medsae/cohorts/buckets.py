"""Pictures in object storage (s3://, gs://, az://, hf://; see `medsae.objects`).

A path that begins with a scheme travels through the program as any path does, and `pictures.read` asks for its bytes.
For `ingest`, which looks for tables and pictures in folders, the listing of a bucket is made into a folder
(`stood_in`): tables as they are, of each picture an empty file of its size and time, so that every source reads a
bucket as it reads a folder.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from medsae import objects
from medsae.objects import AT_ONCE, MAY, Entry, read, url_of
from medsae.progress import Progress, UserError

TABLES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".xlsx", ".gz", ".zip")
"""Endings of files that are fetched whole when a bucket is listed, if they are at most TABLE_BYTES."""
TABLE_BYTES = 2**30

__all__ = ["AT_ONCE", "Ahead", "Entry", "listing", "read", "stood_in", "url_of"]


def listing(url: str) -> list[Entry]:
    """Every object below a prefix, by its path. UserError for a bucket that is not there, is empty below the prefix,
    does not answer, or may not be listed."""
    try:
        entries = objects.entries(url)
    except OSError as error:
        raise objects.trouble(error, url, "--root") from error
    if not entries:
        raise UserError("there is nothing below this prefix", url, "check --root")
    return entries


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
                        url, MAY) from error  # fmt: skip
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
        raise UserError(f"a table of the bucket cannot be read: {error}", f"{url}/{entry.path}", MAY) from error
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
