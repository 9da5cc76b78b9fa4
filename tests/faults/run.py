"""`make faults`: the long form. Prints what was tried, what failed, and what was lost or silent; goal: zeros.

    python tests/faults/run.py [--kills 200] [--flips 1000] [--urls 500] [--minutes 18] [--short] [SECTION ...]

Sections: kills disks damage shards urls readonly sessions pictures replies. Each stops at its share of the minutes, and the table
gives the tries that were made. Full disks need root (a tmpfs is mounted) and are left out, and said, without.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import damage
import disks
import kills
import photographs
import server
import shards
import study
from study import KIND, ROOT, Row

SHARES = {"kills": 0.65, "disks": 0.1, "damage": 0.12, "urls": 0.05, "shards": 0.03}
"""Of the minutes; the others take what they take."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="a step")
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--urls", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=18.0)
    parser.add_argument("--short", action="store_true", help="a few of each, as `make test` does")
    parser.add_argument("sections", nargs="*")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    began = time.monotonic()
    study.prepare()
    found: list[Row] = []

    def part(name: str, make: Callable[[study.Study], list[Row]]) -> None:
        if asked.sections and name not in asked.sections:
            return
        for row in make(made):
            found.append(row)
            _print(row)

    print(
        f"{'what':44} {'tries':>6} {'met':>6} {'failed':>7} {'lost or silent':>15} {'seconds':>8} {'cpu':>7}",
        flush=True,
    )
    if asked.short:
        return _short()
    with study.temporary("faults") as folder:
        made = study.make(folder)

        def until(name: str) -> float:
            return time.monotonic() + 60 * asked.minutes * SHARES[name]

        started = time.monotonic()
        for i, step in enumerate(KIND):  # what one step leaves of its time is the next one's
            end = started + 60 * asked.minutes * SHARES["kills"] * (i + 1) / len(KIND)
            part("kills", lambda s, step=step, end=end: [kills.kills(s, step, asked.kills, until=end)])
        part("disks", lambda s: disks.rows(s, until=until("disks")))
        part("damage", lambda s: damage.damage(s, asked.flips, until=until("damage")))
        part("shards", lambda s: shards.unfinished(s, 60, until=until("shards")))
        part("urls", lambda s: server.urls(s, damage.hostile(asked.urls), until("urls")))
        part("readonly", damage.read_only)
        part("sessions", server.sessions)
        part("pictures", lambda s: photographs.bad())
    if not asked.sections or "replies" in asked.sections:
        replies = Path(__file__).with_name("test_replies.py")
        words = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(replies)]
        done = subprocess.run(words, cwd=ROOT, env=os.environ | {"MEDSAE_FAULTS": "long"})
        found.append(Row("bad replies (table above)", 1, failed=int(done.returncode != 0), hits=1))
    return _end(found, began)


def _short() -> int:
    began, found = time.monotonic(), list[Row]()
    with study.temporary("faults") as folder:
        made = study.make(folder, patients=36)
        found += [kills.kills(made, "train", 3)]
        found += disks.full_disk(made, (0.3,), ("embed",)) if disks.can_mount() else []
        found += disks.size_limit(made, (0.3,), ("score",))
        found += damage.damage(made, 24, pages_every=12)
        found += shards.unfinished(made, 2)
        found += server.sessions(made, n=4, seconds=3.0)
        found += photographs.bad(1)
    for row in found:
        _print(row)
    return _end(found, began)


def _end(found: list[Row], began: float) -> int:
    wrong = [row for row in found if not row.good]
    print(f"\n{len(found)} rows, {len(wrong)} of them with failures, in {(time.monotonic() - began) / 60:.1f} minutes")
    return bool(wrong)


def _print(row: Row) -> None:
    print(
        f"{row.what:44} {row.tries:6,} {row.hits:6,} {row.failed:7,} {row.lost:15,} {row.seconds:8.1f} {row.cpu:7.1f}",
        flush=True,
    )
    for note in row.notes:
        print(f"    {note}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
