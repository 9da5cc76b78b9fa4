"""Training on tokens: streamed from a file on disk against the same tokens in memory. `python tests/bench/bench_tokens.py`

Both take turns, the better of each counts. The goal is 0.9 of the speed from memory.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from medsae import config
from medsae.progress import Silent
from medsae.sae.stream import TokenRows
from medsae.sae.training import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("images", 3000), ("tokens", 64), ("d", 128), ("expansion", 4), ("rounds", 3), ("mib", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    a = parser.parse_args()
    options = config.Train(embeddings="e", kind="topk", k=16, expansion=a.expansion, epochs=1, batch=1024, lr=1e-3,
                           token_memory_mib=a.mib).resolved(a.images * a.tokens)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.npy"
        x_ntd = np.random.default_rng(0).standard_normal((a.images, a.tokens, a.d), dtype=np.float32)
        np.save(path, x_ntd.astype(np.float16))
        disk = np.load(path, mmap_mode="r")
        rows = TokenRows(lambda images: disk[images].astype(np.float32), np.arange(a.images), a.tokens, a.d)
        memory = x_ntd.astype(np.float16).astype(np.float32).reshape(-1, a.d)
        best = {"memory": float("inf"), "disk": float("inf")}
        for i in range(a.rounds):
            for name, x_nd in (("memory", memory), ("disk", rows)):
                began = time.perf_counter()
                train(x_nd, None, options, checkpoint_dir=Path(folder) / f"{name}{i}", progress=Silent())
                best[name] = min(best[name], time.perf_counter() - began)
    n = a.images * a.tokens
    print(f"{n:,} tokens, d = {a.d}, m = {a.expansion * a.d}, batch 1,024, parts within {a.mib} MiB")
    for name, seconds in best.items():
        print(f"  from {name:8}{n / seconds:12,.0f} tokens/s   {best['memory'] / seconds:.2f} x")


if __name__ == "__main__":
    main()
