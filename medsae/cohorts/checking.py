"""Every picture of a cohort decoded and checked once, on all cores.

Processes, not threads: Pillow releases the interpreter lock only around its inner loops, and threads gave 0.87 x the
rate of processes on two cores (docs/decisions/030). They come from a small server process that has imported this room
and nothing else: a parent with torch or DuckDB loaded is never forked, and starting them again costs next to nothing.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from medsae.cohorts import buckets
from medsae.cohorts.pictures import Checked, PictureError, check_picture, decode, read
from medsae.progress import Progress, UserError

CHUNK = 16
"""Pictures a process gets at a time."""
DEADLINE_SECONDS = 120.0
"""For one picture. The largest take seconds on a busy machine; a decoder that needs longer is stuck."""
DEADLINE_OF_ONE = 30.0
"""For a picture that somebody waits for."""
T = TypeVar("T")
_AHEAD = 4
"""Chunks in flight a process: bounds the memory whatever the length of the cohort."""


def check_pictures(
    paths: Sequence[Path | str],
    workers: int | None,
    progress: Progress,
    what: str = "pictures",
    deadline: float = DEADLINE_SECONDS,
) -> Iterator[tuple[int, Checked]]:
    """Yield (position in `paths`, what the check found) for every picture, in the order of `paths`.

    `workers` processes decode (None: one a core). A picture that kills its process or takes longer than `deadline`
    seconds is refused, the rest goes on. The caller may stop at any time (Ctrl-C, an exception, `close()`): the chunks
    being decoded are finished, then the processes end. Memory does not depend on the number of pictures.
    """
    workers = workers or cores()
    with progress.task(what, len(paths), "pictures") as task:
        refused = 0
        for position, checked in _checked(paths, workers, deadline):
            refused += checked.refused is not None
            task.advance(1, refused=refused)
            yield position, checked


def prepare() -> None:
    """Start the server of the processes that decode, and return at once: it imports its decoders meanwhile."""
    if _forked():
        forkserver.ensure_running()


def decode_apart(data: bytes, deadline: float = DEADLINE_OF_ONE) -> np.ndarray:
    """`pictures.decode` of bytes from anywhere, in a process of its own: what kills or stops a decoder harms nobody.

    Raises PictureError, also where the decoder crashed or took longer than `deadline` seconds.
    """
    pool = _Pool(1)
    began = time.monotonic()
    try:
        return pool.submit(_decode_in_time, data, deadline).result()
    except BrokenProcessPool:
        raise PictureError(_why(began, deadline)) from None
    finally:
        pool.close()


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _checked(paths: Sequence[Path | str], workers: int, deadline: float) -> Iterator[tuple[int, Checked]]:
    starts = iter(range(0, len(paths), CHUNK))
    flight: deque[tuple[int, Future[list[Checked]]]] = deque()
    pool = _Pool(min(workers, max(1, len(paths) // CHUNK)))
    try:
        while True:
            while len(flight) < _AHEAD * workers and (start := next(starts, None)) is not None:
                flight.append((start, pool.submit(_check_chunk, list(paths[start : start + CHUNK]), deadline)))
            if not flight:
                return
            start, future = flight[0]
            try:
                found = future.result()
            except BrokenProcessPool:
                # One picture of those in flight killed its process: find it, and go on with a new pool.
                pool.close()
                positions = [i for start, _ in flight for i in range(start, min(start + CHUNK, len(paths)))]
                flight.clear()
                yield from zip(positions, _one_by_one([paths[i] for i in positions], deadline), strict=True)
                pool = _Pool(workers)
                continue
            flight.popleft()
            yield from ((start + i, checked) for i, checked in enumerate(found))
    finally:
        pool.close()


def _one_by_one(paths: Sequence[Path | str], deadline: float) -> Iterator[Checked]:
    """Check in one process, so that the picture that kills it is known; raises UserError if none can be started."""
    pool = _Pool(1)
    try:
        for path in paths:
            began = time.monotonic()
            try:
                yield pool.submit(_check_chunk, [path], deadline).result()[0]
            except BrokenProcessPool:
                why = _why(began, deadline)
                pool.close()
                pool = _Pool(1)
                try:
                    pool.submit(os.getpid).result()
                except BrokenProcessPool as error:
                    raise UserError("the processes that decode cannot be started") from error
                yield Checked(refused=why)
    finally:
        pool.close()


class _Pool:
    """Processes that know this room and nothing of the program that started them."""

    def __init__(self, workers: int):
        context = multiprocessing.get_context("forkserver" if _forked() else "spawn")
        self._executor = ProcessPoolExecutor(workers, context, initializer=_begin)

    def submit(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        with _no_main():  # processes are started here, one a call
            return self._executor.submit(work, *arguments)

    def close(self) -> None:
        """Finish what is being decoded, drop the rest."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def _forked() -> bool:
    """Whether processes can come from a server that has imported this room (not on Windows)."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return False
    multiprocessing.get_context("forkserver").set_forkserver_preload([__name__])
    return True


@contextlib.contextmanager
def _no_main() -> Iterator[None]:
    """While a process starts, the main module is an empty one: multiprocessing would have the process run the caller's
    script again, which ingests again where it has no guard, and cannot be found where it came from stdin."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _begin() -> None:
    """In each process: Ctrl-C is the parent's to handle, and the process ends when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _why(began: float, deadline: float) -> str:
    """The reason where a process ended that began to decode at `began`."""
    late = time.monotonic() - began >= deadline
    return f"took longer than {deadline:.0f} s to decode" if late else "its decoder crashed"


def _check_chunk(paths: list[Path | str], deadline: float) -> list[Checked]:
    if buckets.url_of(paths[0]) is None:
        return [_in_time(deadline, check_picture, path) for path in paths]
    with ThreadPoolExecutor(min(buckets.AT_ONCE, len(paths))) as pool:  # a process waits for its bucket once a chunk
        found = list(pool.map(_read_or_why, paths))
    return [_in_time(deadline, check_picture, path, data) for path, data in zip(paths, found, strict=True)]


def _read_or_why(path: Path | str) -> bytes | PictureError:
    try:
        return read(path)
    except PictureError as error:
        return error


def _decode_in_time(data: bytes, deadline: float) -> np.ndarray:
    return _in_time(deadline, decode, data)


def _in_time(deadline: float, work: Callable[..., T], *arguments: Any) -> T:
    """What `work` returns; after `deadline` seconds the kernel ends this process, whatever a decoder is doing."""
    if not hasattr(signal, "setitimer"):  # Windows
        return work(*arguments)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, deadline)
    try:
        return work(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
