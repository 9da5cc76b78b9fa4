"""Speed and memory of the simulated cohort: `python tests/bench/bench_simulated.py [IMAGES] [SIZE]`.

Prints the seconds for preparing (once) and for drawing, and the largest resident memory of this process and of any of
its workers. The goal is 3,000 pictures at 320 px in 90 s on two cores, in 2 GiB."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from medsae.cohorts import simulated

if __name__ == "__main__":
    images, size = ([int(a) for a in sys.argv[1:]] + [3000, 320][len(sys.argv) - 1 :])[:2]
    with tempfile.TemporaryDirectory() as cache:
        began = time.monotonic()
        simulated.prepare(Path(cache), size)
        ready = time.monotonic()
        n = sum(1 for _ in simulated.simulate(images, seed=0, size=size, cache=Path(cache)))
        drawn = time.monotonic()
    mib = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    print(f"prepared in {ready - began:.1f} s; {n} pictures of {size} px in {drawn - ready:.1f} s "
          f"({n / (drawn - ready):.0f}/s, {cpu:.0f} s of workers' time with preparing); "
          f"largest process {max(mib):.0f} MiB")  # fmt: skip
