"""An SAE that no step of this program has trained (imported, or untrained on purpose) as an artifact: measured once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medsae.progress import Progress
from medsae.store.artifacts import Build

if TYPE_CHECKING:
    from medsae.sae.model import Sae
    from medsae.sae.stream import TokenRows

MEASURED = 4096
"""Embeddings that such an SAE is measured on."""


def sample(x_nd: np.ndarray | TokenRows, rows: np.ndarray) -> np.ndarray:
    """At most MEASURED of these rows, evenly spread."""
    return np.asarray(x_nd[rows[:: max(1, -(-len(rows) // MEASURED))]])


def publish(build: Build, sae: Sae, x_nd: np.ndarray, facts: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Weights, one row of history (epoch 0) and dead neurons, measured on raw embeddings [n, d]; says what they are."""
    from medsae.sae.metrics import dead_neurons, quality
    from medsae.sae.model import normalised

    x = normalised(sae.normalisation, x_nd)
    found = quality(sae.kind, sae.weights, x)
    dead_m = dead_neurons(sae.kind, sae.weights, x).cpu().numpy()
    sae.save(build.path / "sae.safetensors")
    measured = dict(loss=found.mse, mse=found.mse, active_share=found.active_share, fve=found.fve)
    history = pd.DataFrame([dict(step=0, epoch=0, l1=found.l1, dead=float(dead_m.mean()), **measured)])
    with build.database() as connection:
        connection.register("frame", history)
        connection.execute("INSERT INTO history BY NAME SELECT * FROM frame")
        connection.register("frame", pd.DataFrame({"neuron": np.arange(sae.m), "dead": dead_m}))
        connection.execute("INSERT INTO dead SELECT neuron, dead FROM frame")
    progress.say(f"{found.active_share * sae.m:,.1f} of {sae.m:,} neurons active an image, FVE {found.fve:.3f} on "
                 f"{len(x_nd):,} of these embeddings, {dead_m.mean():.1%} dead")  # fmt: skip
    own = {"m": sae.m, "d": sae.d, "active_neurons": found.active_share * sae.m, "dead_share": float(dead_m.mean()),
           "history_on": f"{len(x_nd):,} images"}  # fmt: skip
    return build.publish(measured | own | facts).manifest
