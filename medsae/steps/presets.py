"""run: all steps of a preset. Each step that finds its artifact does nothing, so a second run is quick."""

from __future__ import annotations

from typing import Any

from medsae import config as c
from medsae.plugins import backends, sources
from medsae.progress import Progress, UserError
from medsae.steps import run
from medsae.store.artifacts import Store

DEMO_IMAGES = 10_000
FEW_IMAGES = 30_000
"""`run paper` trains three seeds of a cohort of at most this many pictures."""


def run_preset(config: c.RunDemo | c.RunPaper, store: Store, progress: Progress) -> dict[str, Any]:
    """ingest, embed, train, score raw and SAE; (demo) name; returns the manifest of the SAE's scores."""
    if isinstance(config, c.RunDemo):
        ingest: Any = c.IngestSimulated(images=config.images or DEMO_IMAGES, seed=config.seed)
        cohort = run(ingest, store, progress)
        embeddings = run(c.Embed(cohort=cohort["id"], encoder="simclip"), store, progress)
        sae = run(c.Train(embeddings=embeddings["id"], preset="demo", seed=config.seed), store, progress)
        protocol: c.Protocol = "strict"
    else:
        cohort = run(sources.get("chexpert").options(root=config.root, protocol="paper"), store, progress)  # type: ignore[misc]
        embed = c.Embed(cohort=cohort["id"], encoder=config.encoder, weights=config.weights)
        embeddings = run(embed, store, progress)
        seeds = config.seeds or (3 if cohort["facts"]["n"] <= FEW_IMAGES else 1)
        sae = run(c.Train(embeddings=embeddings["id"], preset="paper"), store, progress)
        for seed in range(1, seeds):
            other = run(c.Train(embeddings=embeddings["id"], preset="paper", seed=seed), store, progress)
            # Beside the first training: how many of its neurons come again.
            run(c.Score(sae=other["id"], versus=sae["id"], protocol="paper"), store, progress)
        protocol = "paper"
    run(c.Score(embeddings=embeddings["id"], representation="raw", protocol=protocol), store, progress)
    scores = run(c.Score(sae=sae["id"], protocol=protocol), store, progress)
    if isinstance(config, c.RunDemo) and config.names:
        _name(config.names, scores["id"], store, progress)
    return scores


def _name(neurons: int, scores: str, store: Store, progress: Progress) -> None:
    """The best neurons named by the labels and by simgemma; the newest names are the ones shown, so those that
    pages ask first come last. Scores of too few images to name anything are left without names, and that is said."""
    asked: list[tuple[str, str | None]] = [("labels", None), ("medgemma", "simgemma")]
    for backend, model in asked if backends.get("medgemma").first else reversed(asked):
        try:
            run(c.Name(scores=scores, top=neurons, backend=backend, model=model), store, progress)
        except UserError as error:
            progress.say(f"no names by {model or backend}: {error.what}")
