"""SIGKILL at random moments of a step: nothing half is ever listed, and the same command ends as an undisturbed one."""

from __future__ import annotations

import math
import random
import shutil
import time
from pathlib import Path

from study import Row, Study, command, temporary

from pages import inside

WHOLE_EVERY = 8
"""After so many kills the step is left alone, and its result compared."""


def kills(study: Study, step: str, n: int, seed: int = 0, until: float = math.inf) -> Row:
    """`n` kills in one step, or as many as there is time for."""
    row, chance, began = Row(f"SIGKILL in {step}"), random.Random(f"{step}{seed}"), time.monotonic()
    expected = study.content(step, study.data)
    with temporary("kill") as folder:
        data = study.copy(folder / "data", upto=step)
        start = time.monotonic()
        _ended_well(row, study, step, data, expected, "undisturbed")
        usual = time.monotonic() - start
        _remove(study, step, data)
        while row.hits < n and row.tries < 3 * n and time.monotonic() < until:
            row.tries += 1
            ended = command(study.words[step], data, kill_after=chance.uniform(0, 1.05 * usual))
            row.hits += ended.status == -9
            _, out, problems = inside(["list"], data)
            if "Traceback" in problems or "damaged" in problems:
                row.bad(f"kill {row.hits}: {problems.strip()[-200:]}", lost=True)
            there = step != "name" and study.ids[step] in out
            if ended.status == 0 or there or (ended.status == -9 and row.hits % WHOLE_EVERY == 0):
                _ended_well(row, study, step, data, expected, f"kill {row.hits}")
                _remove(study, step, data)
            elif ended.status != -9:
                row.bad(f"kill {row.hits}: status {ended.status}: {ended.err.strip()[-200:]}")
    row.seconds = time.monotonic() - began
    return row


def _ended_well(row: Row, study: Study, step: str, data: Path, expected: object, where: str) -> None:
    ended = command(study.words[step], data)
    if ended.status:
        row.bad(f"{where}: the same command did not go on: {ended.err.strip()[-300:]}", lost=True)
    elif study.content(step, data) != expected:
        row.bad(f"{where}: another result than of an undisturbed run", lost=True)


def _remove(study: Study, step: str, data: Path) -> None:
    shutil.rmtree(study.folder(step, data))
    shutil.rmtree(data / "jobs", ignore_errors=True)
