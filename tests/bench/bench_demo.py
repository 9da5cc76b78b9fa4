"""Which SAE finds the most of what was planted: `python tests/bench/bench_demo.py DATA [SEEDS]`.

DATA holds the demo's embeddings (`make demo`); SAEs and scores are added to it, so take a copy. Each setting is trained
with SEEDS seeds (3) and scored; a line a setting: mean over the planted factors of the best neuron's AUROC (chosen on
half of the patients, measured on the other half) by activation and by pre-activation, with the spread over seeds.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from medsae import config as c
from medsae.progress import Silent
from medsae.steps import run
from medsae.store.artifacts import Store

SETTINGS: list[dict[str, Any]] = [
    dict(kind="topk", k=16),
    dict(kind="topk", k=32),
    dict(kind="batchtopk", k=16),
    dict(kind="batchtopk", k=32),
    dict(kind="matryoshka", k=16),
    dict(kind="jumprelu", l0=0.3),
    dict(kind="jumprelu", l0=1.0),
    dict(kind="gated", l1=0.5),
    dict(kind="gated", l1=2.0),
    dict(kind="relu", l1=0.5),
    dict(kind="relu", l1=1.0),
    dict(kind="relu", l1=2.0),
]


def main() -> None:
    store = Store(Path(sys.argv[1]))
    seeds = range(int(sys.argv[2]) if len(sys.argv) > 2 else 3)
    embeddings = next(found.id for found in store.list("embeddings"))
    print("| SAE, m = 4 d, 60 epochs | active an image | FVE | dead | activation | pre-activation |")
    print("|---|---|---|---|---|---|")
    for setting in SETTINGS:
        rows, means = [], []
        for seed in seeds:
            trained = run(c.Train(embeddings=embeddings, preset="demo", seed=seed, **setting), store, Silent())
            scores = run(c.Score(sae=trained["id"], draws=20, bootstraps=20), store, Silent())
            facts = trained["facts"]
            rows.append((facts["active_neurons"], facts["fve"], facts["dead_share"]))
            with store.get(scores["id"]).connect() as connection:
                means.append(connection.execute("SELECT avg(activation), avg(preactivation), avg(raw), "
                    "avg(random) FROM recovery").fetchone())  # fmt: skip
        active, fve, dead = (statistics.mean(column) for column in zip(*rows, strict=True))
        a, b = (
            (statistics.mean(x), statistics.stdev(x) if len(x) > 1 else 0.0) for x in list(zip(*means, strict=True))[:2]
        )
        name = " ".join(f"{value}" if key == "kind" else f"{key} = {value}" for key, value in setting.items())
        print(
            f"| {name} | {active:.1f} | {fve:.3f} | {dead:.1%} | {a[0]:.3f} ± {a[1]:.3f} | {b[0]:.3f} ± {b[1]:.3f} |",
            flush=True,
        )
    print(f"raw {means[0][2]:.3f}, as many random directions {means[0][3]:.3f}")


if __name__ == "__main__":
    main()
