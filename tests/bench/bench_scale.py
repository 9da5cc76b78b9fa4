"""Time and memory of `train` and `score` by the number of images, on synthetic embeddings written in blocks.

    python tests/bench/bench_scale.py --images 100000,1000000 --d 512 --neurons 8192 --steps train,score

Embeddings are drawn, the SAE that is scored has random directions and a bias that leaves `--active` neurons an image:
the arithmetic is that of a trained one. Each step is a process of its own; told are core seconds (user and system of
it and its children), the largest anonymous memory (what the program itself holds; read every 100 ms) and the largest
resident set, in which pages of mapped files count too that the system can take back at any time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import norm

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from medsae import config as c  # noqa: E402
from medsae.config import CHEXPERT_LABELS  # noqa: E402
from medsae.store.artifacts import Store  # noqa: E402

BLOCK = 65_536


@dataclass(frozen=True)
class Used:
    """What a command took."""

    core_seconds: float
    seconds: float
    anonymous_mib: float
    resident_mib: float
    result: str
    """Last line of its stdout."""


def use(words: Sequence[str], data: Path, patience: float = 3600) -> Used:
    """Run `medsae WORDS` on a data folder; RuntimeError where it fails."""
    began, most, cores = time.monotonic(), 0.0, {}
    environment = os.environ | {"MEDSAE_DATA": str(data)}
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([sys.executable, "-m", "medsae", *words], cwd=ROOT, env=environment, stdout=out,
                                   start_new_session=True)  # fmt: skip
        while True:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            cores |= core_seconds(process.pid)
            most = max(most, sum(map(anonymous_mib, core_seconds(process.pid))))
            if time.monotonic() - began > patience:
                process.kill()
            time.sleep(0.1)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(words)}: exit status {process.returncode}")
        out.seek(0)
        result = out.read().strip().splitlines()[-1]
    cores[process.pid] = usage.ru_utime + usage.ru_stime  # of what it waited for too
    return Used(sum(cores.values()), time.monotonic() - began, most, usage.ru_maxrss / 1024, result)


def core_seconds(session: int) -> dict[int, float]:
    """Core seconds until now of each process of a session: processes that decode are nobody's children."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                found[int(stat.parent.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def anonymous_mib(pid: int) -> float:
    """Anonymous memory of a process now, in MiB; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), 0.0)


@dataclass(frozen=True)
class Shape:
    """Of what is written."""

    n: int
    d: int
    m: int
    active: int = 16


def cohort(store: Store, n: int) -> str:
    """A cohort of n images without pictures, 3 a patient, 14 labels; written by the database itself, in blocks."""
    question = c.IngestTable(table=Path("/synthetic.csv"), root=Path("/synthetic"), pictures=False, seed=n)
    with store.build("cohort-scale", question, {}) as build:
        if build.existing:
            return build.id
        with build.database() as db:
            db.execute("SELECT setseed(0.5)")
            db.execute(
                "INSERT INTO image SELECT i, 'p' || i // 3 || '/v' || i || '.jpg', 'p' || i // 3, 's', 'train',"
                " CASE WHEN i // 3 % 20 = 0 THEN 'holdout' WHEN i // 3 % 4 = 1 THEN 'evaluation' ELSE 'train' END,"
                " i // 3 % 4 = 1, CASE WHEN i % 3 = 0 THEN 'AP' ELSE 'PA' END, true,"
                " CASE WHEN i // 3 % 2 = 0 THEN 'F' ELSE 'M' END, 20 + i // 3 % 70, 320, 320, NULL"
                " FROM range(?) r(i)", [n],
            )  # fmt: skip
            for position, label in enumerate(CHEXPERT_LABELS):
                db.execute("INSERT INTO label_name VALUES (?, ?, NULL)", [position, label])
                db.execute("INSERT INTO label SELECT i, ?, CASE WHEN random() < 0.2 THEN 1 WHEN random() < 0.7 THEN 0"
                           " ELSE NULL END FROM range(?) r(i)", [label, n])  # fmt: skip
        return build.publish({"source": "table", "n": n, "labels": list(CHEXPERT_LABELS), "root": "/synthetic",
                              "patients": n // 3, "refused": 0}).id  # fmt: skip


def embeddings(store: Store, cohort: str, shape: Shape) -> str:
    """x.npy float32 [n, d]: standard normal, written in blocks."""
    question = c.Embed(cohort=cohort, encoder="simclip", name=None, unit_norm=False)
    with store.build(f"emb-scale-{shape.d}", question, {"cohort": cohort}, {"d": str(shape.d)}) as build:
        if build.existing:
            return build.id
        out = np.lib.format.open_memmap(build.path / "x.npy", "w+", np.float32, (shape.n, shape.d))
        for k, at in enumerate(range(0, shape.n, BLOCK)):
            rows = min(BLOCK, shape.n - at)
            out[at : at + rows] = np.random.default_rng(k).standard_normal((rows, shape.d), dtype=np.float32)
        out.flush()
        del out
        with build.database() as db:
            db.execute("INSERT INTO embedding_row SELECT i, i FROM range(?) r(i)", [shape.n])
        return build.publish({"encoder": "synthetic", "n": shape.n, "d": shape.d, "device": "cpu",
                              "precision": "fp32"}).id  # fmt: skip


def sae(store: Store, embeddings: str, shape: Shape) -> str:
    """An SAE of random directions whose bias leaves `active` of m pre-activations above zero."""
    import torch

    from medsae.sae.model import Sae
    from medsae.sae.normalise import Normalisation

    rows = torch.randn(shape.m, shape.d, generator=torch.Generator().manual_seed(0))
    rows /= rows.norm(dim=1, keepdim=True)
    bias = torch.full((shape.m,), float(norm.ppf(shape.active / shape.m)))
    weights = {"W_enc": rows, "b_enc": bias, "W_dec": rows.clone(), "b_pre": torch.zeros(shape.d)}
    expansion = max(1, shape.m // shape.d)
    question = c.Train(embeddings=embeddings, l1=3e-4, expansion=expansion, epochs=1, lr=1e-3, batch=1024)
    with store.build(f"sae-scale-{shape.m}", question.resolved(shape.n), {"embeddings": embeddings}) as build:
        if build.existing:
            return build.id
        none = Normalisation(np.zeros(shape.d, np.float32), 1.0)
        Sae(question.resolved(shape.n).sae, weights, none).save(build.path / "sae.safetensors")
        with build.database() as db:
            db.execute("INSERT INTO dead SELECT i, false FROM range(?) r(i)", [shape.m])
        return build.publish({"kind": "relu", "m": shape.m, "d": shape.d}).id


def measure(
    data: Path, shape: Shape, steps: Sequence[str], epochs: int, more: Sequence[str] = (), draws: int = 200
) -> dict[str, Used]:
    """Write what is missing of the inputs and run the steps; `more`: options of train; `draws`: of null and bootstrap."""
    store = Store(data)
    x = embeddings(store, cohort(store, shape.n), shape)
    used = {}
    if "train" in steps:
        options = ["--k", str(shape.active), "--expansion", str(max(1, shape.m // shape.d)), "--batch", "4096"]
        used["train"] = use(["train", "--embeddings", x, *options, "--epochs", str(epochs), *more], data)
    if "score" in steps:
        drawn = ["--draws", str(draws), "--bootstraps", str(draws)]
        used["score"] = use(["score", "--sae", sae(store, x, shape), "--images", "all", *drawn], data)
    return used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", default="100000,1000000")
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--neurons", type=int, default=8192)
    parser.add_argument("--active", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", default="train,score")
    parser.add_argument(
        "--draws", type=int, default=200, help="of score: draws of the null, and as many of the bootstrap"
    )
    parser.add_argument("--stream-above-mib", default="4096", help="of train: more MiB of rows than this stay on disk")
    parser.add_argument("--data", type=Path, help="where to write, and keep, the inputs (default: a folder that goes)")
    asked = parser.parse_args()
    print("| images | step | core s | s | anonymous MiB | resident MiB |\n|---|---|---|---|---|---|")
    for n in map(int, asked.images.split(",")):
        shape = Shape(n, asked.d, asked.neurons, asked.active)
        folder = asked.data or Path(tempfile.mkdtemp(prefix="scale-"))
        for step, used in measure(
            folder,
            shape,
            asked.steps.split(","),
            asked.epochs,
            ["--stream-above-mib", asked.stream_above_mib],
            asked.draws,
        ).items():
            print(f"| {n:,} | {step} | {used.core_seconds:,.0f} | {used.seconds:,.0f} | {used.anonymous_mib:,.0f} |"
                  f" {used.resident_mib:,.0f} |", flush=True)  # fmt: skip
            print(json.dumps({"n": n, "step": step, **asdict(used)}), file=sys.stderr, flush=True)
        if asked.data is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
