"""Two cores without waiting: many small products run side by side in threads, each on one core.

BLAS shares even a small product among all cores and waits for the last one. On a machine that does other things too,
that wait is what the time goes to (measured at a load of 15 on two cores: 10 s instead of 0.1 s for one set of
correlations).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import TypeVar

from threadpoolctl import ThreadpoolController


def _cores() -> int:
    """Cores of this process: those it may run on, and no more than OMP_NUM_THREADS, where that is a number. A shard
    that an engine runs beside others has a part of a node, which may have a hundred."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "").strip()
    return min(here, int(asked)) if asked.isascii() and asked.isdigit() and int(asked) else here


CORES = _cores()


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def one_core_each() -> Iterator[None]:
    """Matrix products inside run on the core of their caller. A setting of the whole process, put back at the end."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


T = TypeVar("T")


def side_by_side(work: Callable[[int], T], count: int) -> Iterator[T]:
    """`work(0)`, `work(1)` ... in their order, `CORES` at a time; for work that is sorting or products."""
    if CORES < 2:
        yield from map(work, range(count))
        return
    with ThreadPoolExecutor(CORES) as pool:
        yield from pool.map(work, range(count))


def strips(work: Callable[[slice], None], size: int) -> None:
    """`work` for each of `CORES` equal parts of 0 .. size, side by side; what one raises is raised here."""
    edges = [size * i // CORES for i in range(CORES + 1)]
    parts = [slice(a, b) for a, b in pairwise(edges) if b > a]
    with one_core_each():
        if len(parts) < 2:
            for part in parts:
                work(part)
            return
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(work, parts))
