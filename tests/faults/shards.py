"""Flips and cuts in what an interrupted step left: the same command goes on, and ends as an undisturbed one."""

from __future__ import annotations

import math
import random
import shutil
import time

from damage import changed
from lanes import LANES, lanes
from study import KIND, Row, Study, command, spent, temporary

STEPS = ("ingest", "embed", "train")
"""Steps that keep finished pieces."""


def unfinished(study: Study, n: int, until: float = math.inf) -> list[Row]:
    """`n` tries, two at a time."""
    share = [n // LANES + (lane < n % LANES) for lane in range(LANES)]
    return lanes(lambda lane: [_unfinished(study, share[lane], lane, until)])


def _unfinished(study: Study, n: int, seed: int, until: float) -> Row:
    row, chance, began, cpu = Row("flips and cuts: unfinished steps"), random.Random(seed), time.monotonic(), spent()
    while row.hits < n and row.tries < 4 * n and time.monotonic() < until:
        step = STEPS[row.tries % len(STEPS)]
        row.tries += 1
        with temporary("shards") as folder:
            data = study.copy(folder / "data", upto=step)
            for share in (0.5, 0.7, 0.9, 0.8, 0.6):
                command(study.words[step], data, kill_after=share * study.seconds[step])
                building = data / "artifacts" / KIND[step] / f".building-{study.ids[step]}"
                left = sorted(p for p in building.rglob("*") if p.is_file() and p.stat().st_size)
                if left or study.folder(step, data).exists():
                    break
            if not left:
                continue
            path = chance.choice(left)
            now, how = changed(path.read_bytes(), chance)
            path.write_bytes(now)
            row.hits += 1
            where = f"{step}: {path.relative_to(building)} {how}"
            ended = command(study.words[step], data)
            if ended.status or "Traceback" in ended.err:
                row.bad(f"{where}: status {ended.status}: {ended.err.strip()[-300:]}", lost=True)
            elif study.content(step, data) != study.content(step, study.data):
                row.bad(f"{where}: another result, silently", lost=True)
            shutil.rmtree(data, ignore_errors=True)
    row.seconds, row.cpu = time.monotonic() - began, spent() - cpu
    return row
