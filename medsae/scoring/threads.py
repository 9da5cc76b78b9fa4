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


def strips(work: Callable[[slice], None], size: int, width: int) -> None:
    """`work` for each `width` of 0 .. size, `CORES` side by side; what one raises is raised here.

    Where the parts are cut does not depend on the cores: a product of other columns at once has other last bits, and a
    shard on one core is to make the bits of a command on many.
    """
    parts = [slice(a, min(a + width, size)) for a in range(0, size, width)]
    with one_core_each():
        for _ in side_by_side(lambda i: work(parts[i]), len(parts)):
            pass
