"""Every picture of a cohort decoded and checked once, on all cores.

Processes, not threads: Pillow releases the interpreter lock only around its inner loops, and threads gave 0.87 x the
rate of processes on two cores (docs/decisions/030). They come from a small server process that has imported this room
and nothing else: a parent with torch or DuckDB loaded is never forked, and starting them again costs next to nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path

from medsae.cohorts.pictures import Checked, check_picture
from medsae.progress import Progress, UserError

CHUNK = 16
"""Pictures a process gets at a time."""
_FEW = 64
"""Up to here the processes would cost more than they give."""
_AHEAD = 4
"""Chunks in flight a process: bounds the memory whatever the length of the cohort."""


def check_pictures(
    paths: Sequence[Path], workers: int | None, progress: Progress, what: str = "pictures"
) -> Iterator[tuple[int, Checked]]:
    """Yield (position in `paths`, what the check found) for every picture, in the order of `paths`.

    `workers` processes decode (None: one a core). A picture that kills its process is refused, the rest goes on. The
    caller may stop at any time (Ctrl-C, an exception, `close()`): the chunks being decoded are finished, then the
    processes end. Memory does not depend on the number of pictures.
    """
    workers = workers or cores()
    with progress.task(what, len(paths), "pictures") as task:
        refused = 0
        for position, checked in _checked(paths, workers):
            refused += checked.refused is not None
            task.advance(1, refused=refused)
            yield position, checked


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _checked(paths: Sequence[Path], workers: int) -> Iterator[tuple[int, Checked]]:
    if workers <= 1 or len(paths) <= _FEW:
        yield from ((position, check_picture(path)) for position, path in enumerate(paths))
        return
    starts = iter(range(0, len(paths), CHUNK))
    flight: deque[tuple[int, Future[list[Checked]]]] = deque()
    pool = _pool(workers)
    try:
        while True:
            while len(flight) < _AHEAD * workers and (start := next(starts, None)) is not None:
                flight.append((start, pool.submit(_check_chunk, list(paths[start : start + CHUNK]))))
            if not flight:
                return
            start, future = flight[0]
            try:
                found = future.result()
            except BrokenProcessPool:
                # One picture of those in flight killed its process: find it, and go on with a new pool.
                pool.shutdown(wait=True, cancel_futures=True)
                positions = [i for start, _ in flight for i in range(start, min(start + CHUNK, len(paths)))]
                flight.clear()
                yield from zip(positions, _one_by_one([paths[i] for i in positions]), strict=True)
                pool = _pool(workers)
                continue
            flight.popleft()
            yield from ((start + i, checked) for i, checked in enumerate(found))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_by_one(paths: Sequence[Path]) -> Iterator[Checked]:
    """Check in one process, so that the picture that kills it is known; raises UserError if none can be started."""
    pool = _pool(1)
    try:
        for path in paths:
            try:
                yield pool.submit(check_picture, path).result()
            except BrokenProcessPool:
                pool.shutdown()
                pool = _pool(1)
                try:
                    pool.submit(os.getpid).result()
                except BrokenProcessPool as error:
                    raise UserError("the processes that decode cannot be started", do="try --workers 1") from error
                yield Checked(refused="its decoder crashed")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
    else:
        context = multiprocessing.get_context("spawn")  # Windows
    return ProcessPoolExecutor(workers, context, initializer=_begin)


def _begin() -> None:
    """In each process: Ctrl-C is the parent's to handle, and the process ends when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _check_chunk(paths: list[Path]) -> list[Checked]:
    return [check_picture(path) for path in paths]
