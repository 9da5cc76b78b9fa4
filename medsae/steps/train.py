"""train: embeddings -> SAE."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medsae import config as c
from medsae.arrays import Rows
from medsae.progress import Progress, UserError
from medsae.sae.advice import advice
from medsae.steps import found, tokens
from medsae.store.artifacts import Artifact, Build, Store

if TYPE_CHECKING:
    from medsae.sae.stream import TokenRows
    from medsae.sae.training import TrainResult


@dataclass(frozen=True)
class Data:
    """The embeddings that an SAE is trained and measured on, in raw units."""

    embeddings: Artifact
    cohort: Artifact
    train_nd: np.ndarray | TokenRows
    """Tokens are read from disk when they are asked for."""
    holdout_nd: np.ndarray | None


def train(config: c.Train, store: Store, progress: Progress) -> dict[str, Any]:
    """Fit the normalisation and the SAE on the train split, measure on the hold-out split."""
    data = read(config, store, progress)
    config, slug = resolved(config, data)
    if config.untrained:
        return untrained(config, slug, data, store, progress)
    with store.build(slug, config, {"embeddings": data.embeddings.id}) as build:
        if build.existing:
            found("SAE", build.id, progress)
            return build.existing.manifest
        # Imported here: finding that the SAE is there already needs no torch.
        from medsae.sae import training

        result = training.train(
            data.train_nd,
            data.holdout_nd,
            config,
            checkpoint_dir=build.shards,
            progress=progress,
            device=config.device,
            choices=choices(store),
        )
        return publish(build, result, config, data, progress)


def choices(store: Store) -> Path:
    """The file that remembers how products are carried out fastest on this machine."""
    return store.cache / "sae" / "choices.json"


def untrained(config: c.Train, slug: str, data: Data, store: Store, progress: Progress) -> dict[str, Any]:
    """The control of a trained SAE; UserError where that one is not there."""
    asked = replace(config, untrained=False)
    id = c.identity(slug, asked, [data.embeddings.id], {})
    try:
        trained = store.parent(id, "sae")
    except UserError as error:
        command = ["python", "-m", "medsae", *c.command_line(asked)]
        raise UserError("the SAE that this is to be the control of is not there", id, " ".join(command)) from error
    parents = {"embeddings": data.embeddings.id, "trained": id}
    with store.build(f"untrained-{slug}", config, parents) as build:
        if build.existing:
            found("SAE", build.id, progress)
            return build.existing.manifest
        from medsae.sae.model import Sae
        from medsae.sae.untrained import untrained
        from medsae.steps import measured

        x_nd = measured.sample(data.train_nd, np.arange(len(data.train_nd)))
        sae = untrained(Sae.load(trained.file("sae.safetensors")), x_nd, config.seed)
        facts = {k: v for k, v in trained.facts.items() if k not in ("device", "training_seconds", "products")}
        seen = data.train_nd if data.holdout_nd is None else data.holdout_nd
        now = {"untrained": True, "control_of": id, "n_train": 0, "epochs": 0}
        facts = {k: v for k, v in facts.items() if k not in _MEASURED}
        return measured.publish(build, sae, measured.sample(seen, np.arange(len(seen))), facts | now, progress)


_MEASURED = ("advice", "m", "d", "loss", "mse", "fve", "active_share", "active_neurons", "dead_share", "history_on")


def read(config: c.Train, store: Store, progress: Progress) -> Data:
    """The training and hold-out rows of the embeddings; UserError when there is nothing to train on."""
    embeddings = store.parent(config.embeddings, "embeddings")
    cohort = store.parent(embeddings.parents["cohort"], "cohort")
    x_nd = np.load(embeddings.file("x.npy"), mmap_mode="r")
    rows = split_rows(embeddings, cohort)
    if config.images == "all":
        rows |= {"train": rows["all"], "holdout": rows["all"][:0]}
    if not len(rows["train"]):
        raise UserError("no embedded image is in the train split", embeddings.id, "--images all trains on every image")
    if not len(rows["holdout"]):
        progress.say("no hold-out images: history is measured on the training images")
    if found_tokens := tokens.Tokens.of(embeddings):
        held = tokens.held_out(found_tokens, rows["holdout"]) if len(rows["holdout"]) else None
        return Data(embeddings, cohort, tokens.rows_of(found_tokens, rows["train"]), held)
    if len(rows["train"]) * x_nd.shape[1] * 4 > config.stream_above_mib * 2**20:
        return _streamed(x_nd, rows, embeddings, cohort)
    holdout = np.asarray(x_nd[rows["holdout"]]) if len(rows["holdout"]) else None
    return Data(embeddings, cohort, np.asarray(x_nd[rows["train"]]), holdout)


def _streamed(x_nd: np.ndarray, rows: dict[str, np.ndarray], embeddings: Artifact, cohort: Artifact) -> Data:
    """Rows that stay on disk; the hold-out images that the history is measured on are so many as fit in memory."""
    from medsae.sae.stream import BlockRows

    held = rows["holdout"][:: max(1, -(-len(rows["holdout"]) // tokens.HOLDOUT_TOKENS))]
    holdout = np.asarray(x_nd[held], np.float32) if len(held) else None
    return Data(embeddings, cohort, BlockRows(Rows(x_nd, rows["train"])), holdout)


def resolved(config: c.Train, data: Data) -> tuple[c.Train, str]:
    """The config with every option filled, and the slug of its artifact."""
    (rows, d), kept = data.train_nd.shape, int(data.embeddings.facts.get("tokens") or 1)
    config = replace(config, embeddings=data.embeddings.id, sweep=None).resolved(rows, d, kept)
    return config, f"{config.kind}-x{config.expansion}-{data.embeddings.facts['encoder']}"


def publish(build: Build, result: TrainResult, config: c.Train, data: Data, progress: Progress) -> dict[str, Any]:
    """Weights, history and dead neurons as an artifact; says what the training came to."""
    result.sae.save(build.path / "sae.safetensors")
    m = len(result.dead_m)
    history = pd.DataFrame([asdict(row) for row in result.history]).assign(dead=lambda h: h["dead"] / m)
    dead = pd.DataFrame({"neuron": np.arange(m), "dead": result.dead_m})
    with build.database() as connection:
        connection.register("frame", history)
        connection.execute(
            "INSERT INTO history BY NAME SELECT step, epoch, loss, mse, l1, active_share, fve, dead FROM frame"
        )
        connection.register("frame", dead)
        connection.execute("INSERT INTO dead SELECT neuron, dead FROM frame")
    last = result.history[-1]
    holdout = 0 if data.holdout_nd is None else len(data.holdout_nd)
    progress.say(
        f"{last.active_share * m:,.1f} of {m:,} neurons active an image, FVE {last.fve:.3f} on {result.history_on},"
        f" {np.mean(result.dead_m):.1%} dead"
    )
    told = advice([row.loss for row in result.history], last.fve, float(np.mean(result.dead_m)), config, holdout > 0)
    for one in told:
        progress.say(f"warning: {one}")
    return build.publish({
        "kind": config.kind, "m": m, "d": data.train_nd.shape[1], "expansion": config.expansion,
        "l1": config.l1, "k": config.k, "l0_coefficient": config.l0, "lr": config.lr, "epochs": config.epochs,
        "batch": config.batch, "seed": config.seed, "preset": config.preset, "n_train": len(data.train_nd),
        "n_holdout": holdout, "loss": last.loss, "mse": last.mse, "fve": last.fve,
        "active_share": last.active_share, "active_neurons": last.active_share * m,
        "dead_share": float(np.mean(result.dead_m)), "device": result.device, "history_on": result.history_on,
        "products": asdict(result.products),
        "advice": [asdict(one) for one in told],
        "training_seconds": round(result.seconds, 2), "cohort": data.cohort.id, "embeddings": data.embeddings.id,
    }).manifest  # fmt: skip


def split_rows(embeddings: Artifact, cohort: Artifact) -> dict[str, np.ndarray]:
    """Rows of x.npy by split, and of the balanced evaluation set under `balanced`."""
    with embeddings.connect() as connection:
        rows = connection.execute('SELECT "row", image FROM embedding_row ORDER BY "row"').fetchnumpy()
    with cohort.connect() as connection:  # a byte an image: of very many images a word each would be gigabytes
        known = connection.execute(
            "SELECT image, coalesce(list_position(?, split), 0)::UTINYINT AS split, evaluation FROM image", [[*SPLITS]]
        ).fetchnumpy()
    place = np.zeros(int(known["image"].max(initial=-1)) + 1, np.int64)
    place[known["image"]] = np.arange(len(known["image"]))
    row, at = rows["row"], place[rows["image"]]
    split, balanced = known["split"][at], np.asarray(known["evaluation"], bool)[at]
    found = {name: row[split == k] for k, name in enumerate(SPLITS, 1)}
    return found | {"balanced": row[balanced], "all": row}


SPLITS = ("train", "holdout", "evaluation")
