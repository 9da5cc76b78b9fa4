"""ingest against its parts, and CheXpert's whole label table.

    python -m tests.bench.bench_ingest [--pictures 4140] [--rounds 3] [--table chexpert_train.csv[.gz]]

Pictures: the same files by (a) Pillow's decode + 160 px WebP alone, in processes that are already running, (b)
`check_pictures` with the start of its processes, (c) the whole `ingest` step with its database. Rounds take turns;
medians. Asked for: (b) and (c) >= 0.8 x the rate of (a). On a machine that others use too, compare CPU seconds: where
every core is busy they decide the rate.

Table: reading, splitting and writing without pictures, in a process of its own: seconds and peak memory of the process.
`--table` is CheXpert's train.csv; without it one of the same shape (223,414 rows, 14 labels) is generated. Asked for:
20 s and 1.5 GiB.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from medsae.cohorts.checking import CHUNK, check_pictures, cores
from medsae.cohorts.offered.chexpert import Chexpert
from medsae.config import CHEXPERT_LABELS
from medsae.progress import Silent

# What is heavy is imported in the functions: processes that decode import this file too, as the main module.
REAL = Path(__file__).parents[2] / "../shared/cxr"
HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(CHEXPERT_LABELS)


def radiographs(folder: Path, n: int) -> list[str]:
    """`n` JPEG files in CheXpert's layout below `folder`: copies of real ones where there are any, else generated."""
    real = sorted(REAL.glob("*/*/*/*.jpg"))
    made = [path.read_bytes() for path in real] or [generated(seed) for seed in range(64)]
    paths = []
    for i in range(n):
        path = f"train/patient{i:05}/study1/view1_frontal.jpg"
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_bytes(made[i % len(made)])
        paths.append(path)
    return paths


def generated(seed: int) -> bytes:
    """A grey JPEG of CheXpert-small's size (390 x 320) with soft shapes and grain."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (20, 24), np.uint8)).resize((390, 320), Image.Resampling.BICUBIC)
    grey = (np.asarray(coarse).astype(int) + random.integers(-12, 13, (320, 390))).clip(0, 255)
    buffer = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def decode_and_thumbnail(paths: list[str]) -> None:
    """What cannot be left out: read, decode, shrink, encode."""
    for path in paths:
        with Image.open(path) as image:
            grey = image.convert("L")
        grey.thumbnail((160, 160), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        grey.save(buffer, "WEBP", quality=80, method=0)


class Clock:
    """Wall seconds, and CPU seconds of this process, its children and those that they started and waited for."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), self._cpu()

    @staticmethod
    def _cpu() -> float:
        ticks = 0
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        for pid in ("self", *children):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
        return ticks / os.sysconf("SC_CLK_TCK")

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self.wall, self._cpu() - self.cpu


def bench_pictures(n: int, rounds: int) -> None:
    from medsae.steps.ingest import ingest
    from medsae.store.artifacts import Store

    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "cxr"
        root.mkdir()
        paths = radiographs(root, n)
        rng = np.random.default_rng(0)
        rows = [f"{path},Male,50,Frontal,AP," + ",".join(rng.choice(["1.0", "0.0", ""], 14)) for path in paths]
        (root / "train.csv").write_text("\n".join([HEADER, *rows]) + "\n")
        full = [str(root / path) for path in paths]
        chunks = [full[i : i + CHUNK] for i in range(0, n, CHUNK)]
        times: dict[str, list[tuple[float, float]]] = {
            "decode + thumbnail alone": [],
            "check_pictures": [],
            "ingest": [],
        }
        with ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn")) as pool:
            list(pool.map(decode_and_thumbnail, chunks[: 2 * cores()]))
            for _ in range(rounds):
                clock = Clock()
                list(pool.map(decode_and_thumbnail, chunks))
                times["decode + thumbnail alone"].append(clock.read())
                clock = Clock()
                assert all(found.refused is None for _, found in check_pictures([*map(Path, full)], None, Silent()))
                times["check_pictures"].append(clock.read())
                data = Path(name) / "data"
                clock = Clock()
                ingest(Chexpert(root=root), Store(data), Silent())
                times["ingest"].append(clock.read())
                shutil.rmtree(data)
    print(f"{n:,} pictures, {cores()} cores, medians of {rounds} rounds; x: times the rate of the first line")
    alone_wall, alone_cpu = (statistics.median(t[i] for t in times["decode + thumbnail alone"]) for i in (0, 1))
    for what, measured in times.items():
        wall, cpu = (statistics.median(t[i] for t in measured) for i in (0, 1))
        print(
            f"  {what:<26} {n / wall:>6,.0f} /s {alone_wall / wall:.2f} x"
            f"   {1000 * cpu / n:.2f} ms of CPU a picture {alone_cpu / cpu:.2f} x"
        )


def write_table(path: Path, seed: int = 0) -> None:
    """A table of the shape of CheXpert's train.csv: 64,540 patients, 223,414 pictures, 14 labels, most of them blank."""
    rng = np.random.default_rng(seed)
    patient = np.sort(np.concatenate([np.arange(64_540), rng.integers(0, 64_540, 223_414 - 64_540)]))
    cells = np.array(["", "1.0", "0.0", "-1.0"])[rng.choice(4, (len(patient), 14), p=[0.75, 0.14, 0.07, 0.04])]
    lateral = rng.random(len(patient)) < 0.145
    with path.open("w") as file:
        file.write(HEADER + "\n")
        for i, p in enumerate(patient):
            view = (
                f"view{i % 3 + 1}_lateral.jpg,Female,60,Lateral,"
                if lateral[i]
                else "view1_frontal.jpg,Male,60,Frontal,AP"
            )
            file.write(f"CheXpert-v1.0-small/train/patient{p:05}/study{i}/{view},{','.join(cells[i])}\n")


def bench_table(table: Path | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "CheXpert"
        root.mkdir()
        if table is None:
            write_table(root / "train.csv")
        elif table.suffix == ".gz":
            (root / "train.csv").write_bytes(gzip.decompress(table.read_bytes()))
        else:
            shutil.copy(table, root / "train.csv")
        command = [sys.executable, "-m", "tests.bench.bench_ingest", "--one-table", str(root)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    facts = json.loads(done.stdout.splitlines()[-1])
    print(f"{facts['n']:,} rows ({table.name if table else 'generated'}), 14 labels, without pictures")
    print(f"  read {facts['read']:.1f} s, whole ingest {facts['ingest']:.1f} s, peak {facts['peak_gib']:.2f} GiB")


def one_table(root: Path) -> None:
    """Read, then ingest as a whole, in this process; the last line is JSON."""
    from medsae.cohorts.published import read
    from medsae.steps.ingest import ingest
    from medsae.store.artifacts import Store

    config = Chexpert(root=root, views="all", pictures=False)
    began = time.perf_counter()
    n = len(read(config).images)
    read = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as data:
        began = time.perf_counter()
        ingest(config, Store(Path(data)), Silent())
        whole = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"n": n, "read": read, "ingest": whole, "peak_gib": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=4140)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--one-table", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_table:
        one_table(options.one_table)
        return
    print(f"load before: {os.getloadavg()[0]:.1f}")
    bench_table(options.table)
    bench_pictures(options.pictures, options.rounds)


if __name__ == "__main__":
    main()
