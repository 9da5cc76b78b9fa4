"""train: embeddings -> SAE."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from medsae import config as c
from medsae.progress import Progress, UserError
from medsae.steps import found
from medsae.store.artifacts import Artifact, Store


def train(config: c.Train, store: Store, progress: Progress) -> dict[str, Any]:
    """Fit the normalisation and the SAE on the train split, measure on the hold-out split."""
    embeddings = store.get(config.embeddings, "embeddings")
    cohort = store.get(embeddings.parents["cohort"], "cohort")
    x_nd = np.load(embeddings.file("x.npy"), mmap_mode="r")
    rows = split_rows(embeddings, cohort)
    train_rows = np.arange(len(x_nd)) if config.images == "all" else rows["train"]
    holdout_rows = np.array([], dtype=int) if config.images == "all" else rows["holdout"]
    if not len(train_rows):
        raise UserError("no embedded image is in the train split", embeddings.id, "--images all trains on every image")
    config = replace(config, embeddings=embeddings.id).resolved(len(train_rows))
    slug = f"{config.kind}-x{config.expansion}-{embeddings.facts['encoder']}"
    with store.build(slug, config, {"embeddings": embeddings.id}) as build:
        if build.existing:
            found("SAE", build.id, progress)
            return build.existing.manifest
        if not len(holdout_rows):
            progress.say("no hold-out images: history is measured on the training images")
        # Imported here: finding that the SAE is there already needs no torch.
        from medsae.sae import training

        holdout = np.asarray(x_nd[holdout_rows]) if len(holdout_rows) else None
        result = training.train(np.asarray(x_nd[train_rows]), holdout, config,
                                checkpoint_dir=build.shards, progress=progress, device=config.device)  # fmt: skip
        result.sae.save(build.path / "sae.safetensors")
        history = pd.DataFrame([asdict(row) for row in result.history]).assign(
            dead=lambda h: h["dead"] / len(result.dead_m)
        )
        dead = pd.DataFrame({"neuron": np.arange(len(result.dead_m)), "dead": result.dead_m})
        with build.database() as connection:
            connection.register("history_frame", history)
            connection.execute(
                "INSERT INTO history BY NAME SELECT step, epoch, loss, mse, l1, l0, fve, dead FROM history_frame"
            )
            connection.register("dead_frame", dead)
            connection.execute("INSERT INTO dead SELECT neuron, dead FROM dead_frame")
        last = result.history[-1]
        return build.publish({
            "kind": config.kind, "m": len(result.dead_m), "d": int(x_nd.shape[1]), "expansion": config.expansion,
            "l1": config.l1, "k": config.k, "lr": config.lr, "epochs": config.epochs, "batch": config.batch,
            "seed": config.seed, "preset": config.preset, "n_train": len(train_rows), "n_holdout": len(holdout_rows),
            "loss": last.loss, "mse": last.mse, "l0": last.l0, "fve": last.fve,
            "dead_share": float(np.mean(result.dead_m)),
            "device": result.device, "history_on": result.history_on, "training_seconds": round(result.seconds, 2),
            "cohort": cohort.id, "embeddings": embeddings.id,
        }).manifest  # fmt: skip


def split_rows(embeddings: Artifact, cohort: Artifact) -> dict[str, np.ndarray]:
    """Rows of x.npy by split, and of the balanced evaluation set under `balanced`."""
    with embeddings.connect() as connection:
        frame = connection.execute('SELECT "row", image FROM embedding_row ORDER BY "row"').df()
    with cohort.connect() as connection:
        images = connection.execute("SELECT image, split, evaluation FROM image").df().set_index("image")
    images = images.loc[frame["image"]]
    row, split = frame["row"].to_numpy(), images["split"].to_numpy()
    found = {name: row[split == name] for name in ("train", "holdout", "evaluation")}
    return found | {"balanced": row[images["evaluation"].to_numpy(bool)], "all": row}
