"""SIGKILL at random moments of a step: nothing half is ever listed, and the same command ends as an undisturbed one."""

from __future__ import annotations

import math
import random
import shutil
import time
from pathlib import Path

from damage import inside
from lanes import LANES, lanes
from study import Row, Study, command, spent, temporary

WHOLE_EVERY = 8
"""After so many kills the step is left alone, and its result compared."""


def kills(study: Study, step: str, n: int, seed: int = 0, until: float = math.inf) -> Row:
    """`n` kills that fall into one step, two at a time, or as many as there is time for."""
    share = [n // LANES + (lane < n % LANES) for lane in range(LANES)]
    [row] = lanes(lambda lane: [_kills(study, step, share[lane], f"{step}{seed}{lane}", until)])
    return row


def _kills(study: Study, step: str, n: int, seed: str, until: float) -> Row:
    row, chance, began, cpu = Row(f"SIGKILL in {step}"), random.Random(seed), time.monotonic(), spent()
    expected = study.content(step, study.data)
    with temporary("kill") as folder:
        data = study.copy(folder / "data", upto=step)
        start = time.monotonic()
        _ended_well(row, study, step, data, expected, "undisturbed")
        usual = time.monotonic() - start
        _remove(study, step, data)
        while row.hits < n and row.tries < 3 * n and time.monotonic() < until:
            row.tries += 1
            ended = command(study.words[step], data, kill_after=chance.uniform(0, usual))
            row.hits += ended.status == -9 and _began(data)
            _, out, problems = inside(["list"], data)
            if "Traceback" in problems or "damaged" in problems:
                row.bad(f"kill {row.hits}: {problems.strip()[-200:]}", lost=True)
            there = step != "name" and study.ids[step] in out
            if ended.status == 0 or there or (ended.status == -9 and row.hits % WHOLE_EVERY == 0):
                _ended_well(row, study, step, data, expected, f"kill {row.hits}")
                _remove(study, step, data)
            elif ended.status != -9:
                row.bad(f"kill {row.hits}: status {ended.status}: {ended.err.strip()[-200:]}")
            shutil.rmtree(data / "jobs", ignore_errors=True)
    row.seconds, row.cpu = time.monotonic() - began, spent() - cpu
    return row


def _began(data: Path) -> bool:
    """Whether the killed command had registered its job and not ended it: the kill fell into the step."""
    return any(not (path.parent / "end.json").exists() for path in (data / "jobs").glob("*/job.json"))


def _ended_well(row: Row, study: Study, step: str, data: Path, expected: object, where: str) -> None:
    ended = command(study.words[step], data)
    if ended.status:
        row.bad(f"{where}: the same command did not go on: {ended.err.strip()[-300:]}", lost=True)
    elif study.content(step, data) != expected:
        row.bad(f"{where}: another result than of an undisturbed run", lost=True)


def _remove(study: Study, step: str, data: Path) -> None:
    shutil.rmtree(study.folder(step, data), ignore_errors=True)
    shutil.rmtree(data / "jobs", ignore_errors=True)
