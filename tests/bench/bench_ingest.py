"""ingest against its parts, and CheXpert's whole label table.

    python -m tests.bench.bench_ingest [--pictures 4140] [--rounds 3] [--table chexpert_train.csv[.gz]]

Pictures: the same files by (a) Pillow's decode + 160 px WebP alone, in processes that are already running, (b)
`check_pictures` with the start of its processes, (c) the whole `ingest` step with its database. Rounds take turns, so that
a busy moment of the machine falls on all; medians; the ratios are what counts. Asked for: (b) and (c) >= 0.8 x (a).

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
from medsae.config import CHEXPERT_LABELS, IngestChexpert
from medsae.progress import Silent
from medsae.steps.ingest import ingest
from medsae.store.artifacts import Store

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


def decode_and_thumbnail(paths: list[str]) -> int:
    """What cannot be left out: read, decode, shrink, encode."""
    size = 0
    for path in paths:
        with Image.open(path) as image:
            grey = image.convert("L")
        grey.thumbnail((160, 160), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        grey.save(buffer, "WEBP", quality=80, method=0)
        size += len(buffer.getvalue())
    return size


def bench_pictures(n: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "cxr"
        root.mkdir()
        paths = radiographs(root, n)
        rng = np.random.default_rng(0)
        rows = [f"{path},Male,50,Frontal,AP," + ",".join(rng.choice(["1.0", "0.0", ""], 14)) for path in paths]
        (root / "train.csv").write_text("\n".join([HEADER, *rows]) + "\n")
        full = [str(root / path) for path in paths]
        chunks = [full[i : i + CHUNK] for i in range(0, n, CHUNK)]
        seconds: dict[str, list[float]] = {"decode + thumbnail alone": [], "check_pictures": [], "ingest": []}
        with ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn")) as pool:
            list(pool.map(decode_and_thumbnail, chunks[: 2 * cores()]))
            for _ in range(rounds):
                began = time.perf_counter()
                list(pool.map(decode_and_thumbnail, chunks))
                seconds["decode + thumbnail alone"].append(time.perf_counter() - began)
                began = time.perf_counter()
                assert all(found.refused is None for _, found in check_pictures([*map(Path, full)], None, Silent()))
                seconds["check_pictures"].append(time.perf_counter() - began)
                data = Path(name) / "data"
                began = time.perf_counter()
                ingest(IngestChexpert(root=root), Store(data), Silent())
                seconds["ingest"].append(time.perf_counter() - began)
                shutil.rmtree(data)
    alone = n / statistics.median(seconds["decode + thumbnail alone"])
    print(f"{n:,} pictures, {cores()} cores, median of {rounds} rounds")
    for what, times in seconds.items():
        rate = n / statistics.median(times)
        ratios = sorted(a / b for a, b in zip(seconds["decode + thumbnail alone"], times, strict=True))
        print(f"  {what:<26} {rate:>7,.0f} /s   {rate / alone:.2f} x   (rounds {ratios[0]:.2f} to {ratios[-1]:.2f})")


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
    from medsae.cohorts.chexpert import read_chexpert

    config = IngestChexpert(root=root, views="all", pictures=False)
    began = time.perf_counter()
    n = len(read_chexpert(config).images)
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
