"""The whole step `score` at the paper's size: time, memory, and how long the top 25 pictures of a neuron take.

    python tests/bench/bench_score.py [--images 224000] [--neurons 8192] [--active 16]

Embeddings are drawn and the SAE is a ReLU one with random directions: the arithmetic is that of a trained one with as
many active neurons. The step runs in a process of its own, whose peak memory is reported (MiB, after `score` ended).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from medsae import config as c  # noqa: E402
from medsae.config import CHEXPERT_LABELS  # noqa: E402
from medsae.store.artifacts import Store  # noqa: E402


def prepare(store: Store, n: int, m: int, active: int, d: int = 512) -> str:
    """A cohort table, embeddings and an SAE artifact; returns the id of the SAE."""
    import torch

    from medsae.sae.model import Sae
    from medsae.sae.normalise import Normalisation

    generator = np.random.default_rng(0)
    root = store.data / "tables"
    root.mkdir(parents=True)
    table = pd.DataFrame({"Path": [f"train/patient{i // 3:06}/study{i % 3 + 1}/view1_frontal.jpg" for i in range(n)],
                          "Sex": "Male", "Age": 60, "Frontal/Lateral": "Frontal", "AP/PA": "AP"})  # fmt: skip
    for name in CHEXPERT_LABELS:
        table[name] = generator.choice([1.0, 0.0, -1.0, np.nan], n, p=[0.2, 0.2, 0.1, 0.5])
    table.to_csv(root / "train.csv", index=False)
    cohort = command(store, "ingest", "chexpert", "--root", str(root), "--no-pictures")
    x_nd = generator.standard_normal((n, d), dtype=np.float32)
    np.save(root / "x.npy", x_nd)
    table[["Path"]].to_csv(root / "rows.csv", index=False)
    embeddings = command(store, "embed", "--cohort", cohort, "--from", str(root / "x.npy"),
                         "--rows", str(root / "rows.csv"), "--name", "bench")  # fmt: skip
    rows = torch.randn(m, d, generator=torch.Generator().manual_seed(0))
    rows /= rows.norm(dim=1, keepdim=True)
    # Pre-activations are standard normal: this bias leaves `active` of m above zero.
    bias = float(norm.ppf(active / m))
    weights = {"W_enc": rows, "b_enc": torch.full((m,), bias), "W_dec": rows.clone(), "b_pre": torch.zeros(d)}
    config = c.Train(embeddings=embeddings, l1=3e-4, expansion=m // d, epochs=1, lr=1e-3, batch=1024).resolved(n)
    with store.build("bench", config, {"embeddings": embeddings}) as build:
        Sae(config.sae, weights, Normalisation(x_nd.mean(0), 1.0)).save(build.path / "sae.safetensors")
        with build.database() as connection:
            connection.execute("INSERT INTO dead SELECT range, false FROM range(?)", [m])
        return build.publish({"kind": "relu", "m": m, "d": d}).id


def command(store: Store, *words: str) -> str:
    environment = os.environ | {"MEDSAE_DATA": str(store.data)}
    done = subprocess.run([sys.executable, "-m", "medsae", *words], cwd=ROOT, env=environment, check=True,
                          stdout=subprocess.PIPE, text=True)  # fmt: skip
    return done.stdout.strip().splitlines()[-1]


def score_and_measure(store: Store, sae: str) -> tuple[str, float, float]:
    """Id of the scores, seconds, peak MiB of the process that made them."""
    code = (
        "import resource, sys\nfrom medsae.cli import main\n"
        "status = main(['score', '--sae', sys.argv[1], '--images', 'all'])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\nsys.exit(status)"
    )
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, sae], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
                          env=os.environ | {"MEDSAE_DATA": str(store.data)})  # fmt: skip
    scores, peak = done.stdout.strip().splitlines()[-2:]
    return scores, time.perf_counter() - began, float(peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=224_000)
    parser.add_argument("--neurons", type=int, default=8192)
    parser.add_argument("--active", type=int, default=16)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "data")
        sae = prepare(store, asked.images, asked.neurons, asked.active)
        scores, seconds, peak = score_and_measure(store, sae)
        query = "SELECT image, value FROM activation WHERE neuron = ? ORDER BY value DESC LIMIT 25"
        times = []
        with store.get(scores).connect() as connection:
            for neuron in np.random.default_rng(1).integers(0, asked.neurons, 200):
                began = time.perf_counter()
                connection.execute(query, [int(neuron)]).fetchall()
                times.append(1e3 * (time.perf_counter() - began))
        p50, p95 = np.quantile(times, [0.5, 0.95])
        print(json.dumps({"images": asked.images, "neurons": asked.neurons, "score_seconds": round(seconds, 1),
                          "peak_mib": round(peak), "top25_ms_p50": round(p50, 2), "top25_ms_p95": round(p95, 2)}))  # fmt: skip


if __name__ == "__main__":
    main()
