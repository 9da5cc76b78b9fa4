"""run: all steps of a preset. Each step that finds its artifact does nothing, so a second run is quick."""

from __future__ import annotations

from typing import Any

from medsae import config as c
from medsae.progress import Progress
from medsae.steps import run
from medsae.store.artifacts import Store

DEMO_IMAGES = 12_000


def run_preset(config: c.RunDemo | c.RunPaper, store: Store, progress: Progress) -> dict[str, Any]:
    """ingest, embed, train, score raw and SAE; returns the manifest of the SAE's scores."""
    if isinstance(config, c.RunDemo):
        ingest: Any = c.IngestSimulated(images=config.images or DEMO_IMAGES, seed=config.seed)
        encoder, weights = "simclip", None
        preset, protocol = "demo", "strict"
    else:
        ingest = c.IngestChexpert(root=config.root, protocol="paper")
        encoder, weights = config.encoder, config.weights
        preset, protocol = "paper", "paper"
    cohort = run(ingest, store, progress)
    embeddings = run(c.Embed(cohort=cohort["id"], encoder=encoder, weights=weights), store, progress)
    sae = run(c.Train(embeddings=embeddings["id"], preset=preset, seed=config.seed), store, progress)
    raw = c.Score(embeddings=embeddings["id"], representation="raw", protocol=protocol)
    run(raw, store, progress)
    return run(c.Score(sae=sae["id"], protocol=protocol), store, progress)
