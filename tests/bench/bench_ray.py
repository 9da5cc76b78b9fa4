"""What `--on ray` costs over the same shards by hand, and what shards win.

    python -m tests.bench.bench_ray DATA embed|score [WAY ...]

DATA: a finished demo, or what `bench_scale.py --data` has left; its artifacts are linked, nothing in it changes. "One core": the
step by one command on one core. "By hand": two commands with --shard at once, a core each, then `merge` on both. "On Ray": the same two
on a cluster that is started for the command, and "on a running Ray" that is there already (both need the extra `cluster`).
Told are seconds, and seconds of cores of all commands (which a busy machine changes less).
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from medsae.store.artifacts import Store

ROOT = Path(__file__).parents[2]
SHARDS = 2


def _start(data: Path, *words: str, core: int | None = None, **around: str) -> subprocess.Popen[bytes]:
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"} | around
    command = [sys.executable, "-m", "medsae", *words, "--data", str(data)]
    pinned = ["taskset", "-c", str(core)] if core is not None else []
    return subprocess.Popen([*pinned, *command], env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _core_seconds() -> float:
    """Of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _end(child: subprocess.Popen[bytes]) -> None:
    err = child.communicate()[1].decode()
    if child.returncode:
        raise SystemExit(err)


def _alone(data: Path, words: list[str]) -> dict[str, float]:
    _end(_start(data, *words, core=0))
    return {}


def _by_hand(data: Path, words: list[str]) -> dict[str, float]:
    began = time.perf_counter()
    before = _core_seconds()
    children = [_start(data, *words, "--shard", f"{i}/{SHARDS}", core=i - 1) for i in range(1, SHARDS + 1)]
    for child in children:
        _end(child)
    shards, of_shards = time.perf_counter() - began, _core_seconds() - before
    _end(_start(data, "merge", *words, OMP_NUM_THREADS=str(SHARDS), MKL_NUM_THREADS=str(SHARDS)))  # alone by now
    return {"shards": shards, "merge": time.perf_counter() - began - shards, "core seconds of both shards": of_shards,
            "core seconds of merge": _core_seconds() - before - of_shards}  # fmt: skip


def _on_ray(data: Path, words: list[str]) -> dict[str, float]:
    _end(_start(data, *words, "--on", "ray", "--shards", str(SHARDS)))
    return {}


def _on_running(data: Path, words: list[str]) -> dict[str, float]:
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": SHARDS, "include_dashboard": False})
    try:
        began = time.perf_counter()
        _end(_start(data, *words, "--on", "ray", "--shards", str(SHARDS), RAY_ADDRESS=cluster.address))
        return {"without the cluster's start": time.perf_counter() - began}
    finally:
        cluster.shutdown()


def _copy(data: Path, copy: Path, without: str) -> Path:
    """A data folder with the same artifacts (linked), but for those of one kind, and the same cache."""
    for kind in ("cohort", "embeddings", "sae", "scores"):
        (copy / "artifacts" / kind).mkdir(parents=True)
        for one in sorted((data / "artifacts" / kind).glob("[!.]*")):
            if kind != without:
                (copy / "artifacts" / kind / one.name).symlink_to(one.resolve())
    if (data / "cache").is_dir():  # none beside drawn embeddings
        shutil.copytree(
            data / "cache", copy / "cache", symlinks=True, ignore=shutil.ignore_patterns("shards", "cluster")
        )
    return copy


def measure(data: Path, step: str, chosen: list[str]) -> None:
    store = Store(data)
    cohort = store.list("cohort")[0].id
    sae = next(a.id for a in store.list("sae"))
    words = {"embed": ["embed", "--cohort", cohort, "--encoder", "simclip", "--workers", "1"],
             "score": ["score", "--sae", sae, "--no-maps", "--images", "all"]}[step]  # fmt: skip
    kind = {"embed": "embeddings", "score": "scores"}[step]
    ways: dict[str, Callable[[Path, list[str]], dict[str, float]]] = {
        "one core": _alone, "by hand": _by_hand, "on Ray": _on_ray, "on a running Ray": _on_running,
    }  # fmt: skip
    seconds: dict[str, float] = {}
    for name in chosen or ways:
        way = ways[name]
        with tempfile.TemporaryDirectory() as folder:
            copy = _copy(data, Path(folder) / "data", without=kind)
            began, before = time.perf_counter(), _core_seconds()
            parts = way(copy, words)
            seconds[name] = parts.get("without the cluster's start") or time.perf_counter() - began
        print(json.dumps({"step": step, "way": name, "seconds": round(seconds[name], 1),
                          "core seconds": round(_core_seconds() - before, 1), **{k: round(v, 1) for k, v in parts.items()}}), flush=True)  # fmt: skip
    if set(seconds) != set(ways):
        return
    hand = seconds["by hand"]
    print(f"{step}: two shards {seconds['one core'] / hand:.2f} x one core; on Ray {seconds['on Ray'] - hand:+.1f} s over by "
          f"hand, on a running cluster {seconds['on a running Ray'] - hand:+.1f} s (asked: {0.1 * hand + 10:.1f} s)")  # fmt: skip


if __name__ == "__main__":
    measure(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
