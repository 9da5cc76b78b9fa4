"""import, export: SAEs of other programs, and scores as Parquet for notebooks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medsae import config as c
from medsae import files, formats
from medsae.formats.plain import Plain
from medsae.progress import Progress, UserError
from medsae.steps import found, measured
from medsae.steps.train import split_rows
from medsae.store.artifacts import Artifact, Store
from medsae.store.ledger import Ledger

if TYPE_CHECKING:
    from medsae.sae.model import Sae


def import_sae(config: c.ImportSae, store: Store, progress: Progress) -> dict[str, Any]:
    """A folder of another program -> an SAE artifact on embeddings of this one."""
    embeddings = store.parent(config.embeddings, "embeddings")
    cohort = store.parent(embeddings.parents["cohort"], "cohort")
    plain, origin = formats.read(config.format, config.from_, config.subtract_bias)
    d = int(embeddings.facts["d"])
    c.check(plain.d == d, f"this SAE takes d = {plain.d}, the embeddings {embeddings.id} have d = {d}", config.from_,
            "embed with the encoder, layer and pool that it was trained on")  # fmt: skip
    config = replace(config, embeddings=embeddings.id)
    slug = f"{config.format.replace('_', '-')}-{plain.kind}-{plain.m}-{embeddings.facts['encoder']}"
    with store.build(slug, config, {"embeddings": embeddings.id},
                     {"weights": origin["sha256"], "meaning": plain.sha256()}) as build:  # fmt: skip
        if build.existing:
            found("SAE", build.id, progress)
            return build.existing.manifest
        rows = split_rows(embeddings, cohort)["all"]
        x_nd = measured.sample(np.load(embeddings.file("x.npy"), mmap_mode="r"), rows)
        sae = sae_of(plain)
        facts = {"kind": type(sae.kind).__name__.lower(), "k": plain.k,
                 "expansion": plain.m // plain.d if plain.m % plain.d == 0 else round(plain.m / plain.d, 2),
                 "origin": origin, "n_train": None,
                 "n_holdout": 0, "cohort": cohort.id, "embeddings": embeddings.id}  # fmt: skip
        made = measured.publish(build, sae, x_nd, facts, progress)
        if not made["facts"]["fve"] > 0:
            progress.say("it rebuilds these embeddings worse than their mean does: was it trained on another encoder, "
                         "layer or pool, or on embeddings divided by their norm?")  # fmt: skip
        return made


def export(config: c.ExportSae | c.ExportScores, store: Store, progress: Progress) -> dict[str, Any]:
    """What is exported says what is made."""
    return (export_sae if isinstance(config, c.ExportSae) else export_scores)(config, store, progress)  # pyright: ignore


def export_sae(config: c.ExportSae, store: Store, progress: Progress) -> dict[str, Any]:
    """An SAE artifact -> a folder of another program, with a card."""
    from medsae.sae.model import Sae

    artifact = store.parent(config.id, "sae")
    artifact.verify()
    embeddings = store.parent(artifact.parents["embeddings"], "embeddings")
    cohort = store.parent(embeddings.parents["cohort"], "cohort")
    about = about_sae(artifact, embeddings, cohort)
    with _folder(config.to) as folder:
        formats.write_folder(config.format, plain_of(Sae.load(artifact.file("sae.safetensors"))), about, folder)
        files.write(folder / "README.md", card(about, config.format))
    progress.say(f"written: {config.to}, ready for `hf upload ORG/NAME {config.to}`")
    return {"id": str(config.to), "files": sorted(p.name for p in config.to.iterdir())}


def export_scores(config: c.ExportScores, store: Store, progress: Progress) -> dict[str, Any]:
    """Scores -> one Parquet file a table: neurons, correlations, activations, pictures and the names so far."""
    scores = store.parent(config.id, "scores")
    scores.verify()
    cohort = store.parent(scores.parents["cohort"], "cohort")
    with _folder(config.to) as folder:
        for name, frame in _tables(scores, cohort, store):
            frame.to_parquet(folder / f"{name}.parquet", index=False)
    progress.say(f"written: {config.to}; {c.RESEARCH_ONLY}")
    return {"id": str(config.to), "files": sorted(p.name for p in config.to.iterdir())}


def _tables(scores: Artifact, cohort: Artifact, store: Store) -> Iterator[tuple[str, pd.DataFrame]]:
    with scores.connect() as connection:
        for name in ("neuron", "correlation", "activation", "summary"):
            yield name, connection.execute(f"SELECT * FROM {name}").df()
        scored = connection.execute("SELECT image FROM scored").df()["image"]
    with cohort.connect() as connection:
        pictures = connection.execute("SELECT image, path, patient, split, view, sex, age FROM image").df()
    yield "image", pictures[pictures["image"].isin(set(scored))]
    yield "name", Ledger(store, scores.id).names()


@contextmanager
def _folder(to: Path) -> Iterator[Path]:
    """A hidden folder that becomes `to` when all is written; nothing is left behind otherwise."""
    if to.exists():
        raise UserError("this folder exists already", to, "choose another --to: nothing is overwritten")
    new = to.with_name(f".{to.name}.new")
    try:
        files.make_folder(new)
        yield new
        new.rename(to)
    except OSError as error:
        raise UserError(f"the export cannot be written: {error.strerror}", to, "choose another --to") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


# --- between Plain and an SAE of this program -------------------------------------------------------------------------


def sae_of(plain: Plain) -> Sae:
    """The SAE on embeddings as they are (mean 0, scale 1). Coefficients of its training are unknown and stand as 0."""
    import torch

    from medsae.sae import kinds
    from medsae.sae.model import Sae
    from medsae.sae.normalise import Normalisation

    p = plain.folded(subtract=True)
    one = p.one_threshold()
    own: dict[str, Any] = {}
    if p.kind == "relu":
        kind: c.SaeKind = c.Relu(l1=0.0, decoder_norm="weighted")
    elif p.kind == "topk":
        assert p.k is not None
        kind = c.TopK(k=p.k)
    elif p.kind == "gated":
        kind, own = c.Gated(l1=0.0), {"r_mag": p.r_mag_m, "b_mag": p.b_mag_m}
    elif one is not None and p.k is not None:
        kind, own = c.BatchTopK(k=p.k), {"threshold": torch.tensor(one)}
    else:
        assert p.threshold_m is not None
        # a threshold of 0 is ReLU; its logarithm must be a number
        kind, own = c.JumpRelu(l0=0.0), {"log_threshold": p.threshold_m.expand(p.m).clamp(min=1e-37).log()}
    start = kinds.Start(p.d, p.m, images=0)
    weights = {"W_enc": p.w_enc_md, "b_enc": p.b_enc_m, "W_dec": p.w_dec_md, "b_pre": p.b_dec_d}
    weights |= kinds.of(kind).start(start) | kinds.of(kind).memory(start) | own
    weights = {k: v.contiguous().clone() for k, v in weights.items()}
    return Sae(kind, weights, Normalisation(np.zeros(p.d, np.float32), 1.0))


def plain_of(sae: Sae) -> Plain:
    """The same SAE on embeddings as they are: mean mu and scale s go into the weights.

    W_enc = s W_enc', b_dec = mu + b_pre / s, W_dec = W_dec' / s; activations stay what they are."""
    import torch

    w, s = sae.weights, float(sae.normalisation.scale)
    b_dec = torch.from_numpy(np.asarray(sae.normalisation.mean_d, np.float32)) + w["b_pre"] / s
    parts = w["W_enc"] * s, w["b_enc"], w["W_dec"] / s, b_dec
    match sae.kind:
        case c.Relu():
            return Plain("relu", *parts)
        case c.TopK(k=k):
            return Plain("topk", *parts, k=k)
        case c.Gated():
            return Plain("gated", *parts, r_mag_m=w["r_mag"], b_mag_m=w["b_mag"])
        case c.JumpRelu():
            return Plain("jumprelu", *parts, threshold_m=w["log_threshold"].exp())
        case c.BatchTopK(k=k) | c.Matryoshka(k=k):
            return Plain("jumprelu", *parts, k=k, threshold_m=w["threshold"])


def about_sae(artifact: Artifact, embeddings: Artifact, cohort: Artifact) -> dict[str, Any]:
    """What a reader elsewhere needs to know: plain JSON values."""
    facts, asked = artifact.facts, embeddings.config
    return {
        "made_by": "MedSAE Explorer", "medsae_id": artifact.id, "kind": facts["kind"], "neurons": facts["m"],
        "encoder": embeddings.facts["encoder"], "encoder_asked": asked.get("encoder"),
        "encoder_files": embeddings.manifest["inputs"],
        "layer": asked.get("layer", -1), "pool": asked.get("pool"),
        "divided_by_norm": embeddings.facts.get("unit_norm"),
        "cohort": cohort.id, "source": cohort.facts["source"], "images_trained_on": facts.get("n_train"),
        "fve": facts.get("fve"), "origin": facts.get("origin"), "use": c.RESEARCH_ONLY,
    }  # fmt: skip


def card(about: dict[str, Any], format: str) -> str:
    """README.md of an export, with the header that the Hub reads."""
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in about.items() if value is not None)
    return f"""---
license: other
license_name: as-its-encoder-and-cohort
tags: [sparse-autoencoder, chest-radiograph]
---

# Sparse autoencoder on {about["encoder"]}

{c.RESEARCH_ONLY}

Format: {format}. It takes embeddings as the encoder gives them: the mean and the scale of training are in the weights.

| | |
|---|---|
{rows}

Fill in the licence before you publish: that of the encoder and that of the cohort hold for what was learned from them.
"""
