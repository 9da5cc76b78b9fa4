"""embed: cohort + encoder -> embeddings, or embeddings made elsewhere."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from medsae import config as c
from medsae import encoders, files, plugins
from medsae.arrays import Rows, blocks
from medsae.encoders import elsewhere
from medsae.encoders.rows import match_rows
from medsae.files import sha256_of
from medsae.progress import Progress, UserError
from medsae.steps import found
from medsae.steps.cohort_pictures import Pictures
from medsae.store.artifacts import Artifact, Build, Store

SHARD = 1024
"""Pictures that are finished together: the pieces that several machines share."""


def embed(config: c.Embed, store: Store, progress: Progress) -> dict[str, Any]:
    """Embeddings x[n, d] float32, one row an image of the cohort."""
    cohort = store.parent(config.cohort, "cohort")
    return _take(config, cohort, store, progress) if config.from_ else _encode(config, cohort, store, progress)


def _encode(config: c.Embed, cohort: Artifact, store: Store, progress: Progress) -> dict[str, Any]:
    assert config.encoder is not None
    found_files = encoders.find_files(config.encoder, config.weights, store.cache, progress, config)
    slug = f"{found_files.model}-{cohort.facts['source']}"
    asked = replace(config, cohort=cohort.id, encoder=_without_place(config.encoder, found_files.model))
    with store.build(slug, asked, {"cohort": cohort.id}, found_files.hashes) as build:
        # The record names the model, wherever its files lie; the command names them where they are.
        build.manifest |= {"command": ["python", "-m", "medsae", *c.command_line(replace(config, cohort=cohort.id))]}
        if build.existing:
            found("embeddings", build.id, progress)
            return build.existing.manifest
        # Imported here: finding that the embeddings are there already needs no torch.
        from medsae.encoders import pipeline

        encoder = encoders.load_encoder(config.encoder, config.weights, store.cache, progress, config)
        source, part = Pictures(cohort), build.part(config, progress)
        how = pipeline.How(
            shard_size=SHARD,
            precision=config.precision, device=config.device, batch=config.batch, unit_norm=config.unit_norm,
            workers=config.workers, choices=store.cache / "encoders" / "choices.json",
            part=part,
        )  # fmt: skip
        more: dict[str, Any] = {}
        if config.pool == "tokens":
            x_nd, report, more = _tokens(build, encoder, source, how, config, progress)
        else:
            x_nd, report = pipeline.embed(source, encoder, how, shards=build.shards, progress=progress)
        if x_nd is None:
            assert part is not None
            return build.shard_done(part, progress)
        for image, reason in report.failed[:10]:
            progress.say(f"image {image} cannot be decoded any more and is left out: {reason}")
        usable = np.setdiff1d(np.arange(len(source)), [image for image, _ in report.failed])
        facts = {"encoder": found_files.model, **{k: v for k, v in asdict(report).items() if k != "failed"}}
        facts |= {"failed": len(report.failed), "weights_sha256": encoder.weights_sha256}
        facts["unit_norm"] = encoder.unit_norm_default if config.unit_norm is None else config.unit_norm
        facts |= more
        # The pipeline has divided by the norm already where that was asked for.
        return _publish(build, Rows(x_nd, usable), usable, facts, cohort)


def _tokens(
    build: Build, encoder: encoders.Encoder, source: Pictures, how: Any, config: c.Embed, progress: Progress
) -> tuple[np.ndarray | None, Any, dict[str, Any]]:
    """Tokens as part of the artifact; the mean over the tokens of each picture, the report and the facts of tokens."""
    from medsae.encoders import pipeline
    from medsae.steps import tokens

    able = encoders.tokens_of(encoder)
    cells = able.grid[0] * able.grid[1]
    c.check(config.tokens_per_image is None or config.tokens_per_image <= cells,
            f"--tokens-per-image {config.tokens_per_image}: {encoder.name} has {cells:,} tokens a picture")  # fmt: skip
    sampled = pipeline.Sampled(cells, config.tokens_per_image or cells, config.token_seed)
    tokens.Plan(len(source), cells, sampled.kept, able.token_dim).announce(build.path, progress)
    shards, x_nd, report = pipeline.embed_tokens(source, able, how, sampled, shards=build.shards, progress=progress)
    if x_nd is None:
        return None, report, {}
    chosen = None if sampled.kept == cells else np.stack([sampled.of(image) for image in range(len(source))])
    tokens.keep(build, shards, how.shard_size, chosen)
    more = {"tokens": sampled.kept, "grid": list(able.grid), "shard": how.shard_size, "unit_norm": False}
    more["cell_px"] = _cell_px(encoder)
    return x_nd, report, more


def _cell_px(encoder: encoders.Encoder) -> list[float] | None:
    """Where the cells lie: centre of the first, step, what one can see, side of the network's input, in px of that
    input, into which the whole picture goes on a black square. None where preprocessing crops, or it is not known."""
    from medsae.encoders import cells

    told = getattr(encoder, "cell_px", None)
    if told is not None:
        return list(told)
    parts = cells.of(encoder)
    return None if parts is None else [parts.first_px, parts.step_px, parts.reach_px, encoder.size]


def _without_place(encoder: str, model: str) -> str:
    """The word of the record: of a family (`hf:`) its prefix and the model's name, however its files were named."""
    offer = plugins.encoders.get(encoder)
    return f"{offer.name}{model}" if offer.prefix else encoder


def _take(config: c.Embed, cohort: Artifact, store: Store, progress: Progress) -> dict[str, Any]:
    assert config.from_ is not None
    with cohort.connect() as connection:
        known = [row[0] for row in connection.execute("SELECT path FROM image ORDER BY image").fetchall()]
    taken = elsewhere.from_file(config.from_, config.rows, _said_of(cohort))
    x_nd, paths = taken.x_nd, taken.paths
    for line in taken.said:
        progress.say(line)
    inputs = {"embeddings": elsewhere.sha256(config.from_)} | ({"rows": sha256_of(config.rows)} if config.rows else {})
    if taken.columns:  # which of them are dimensions is this program's understanding of the file
        inputs["columns"] = hashlib.sha256("\n".join(taken.columns).encode()).hexdigest()
    name = config.name or config.from_.stem
    with store.build(
        f"{files.slug(name)}-{cohort.facts['source']}", _identified(config, cohort), {"cohort": cohort.id}, inputs
    ) as build:
        if build.existing:
            found("embeddings", build.id, progress)
            return build.existing.manifest
        matched = match_rows(paths, known)
        progress.say(f"{len(known) - len(matched.missing):,} of {len(known):,} pictures have a row ({matched.how})")
        if matched.missing:
            progress.say(
                f"{len(matched.missing):,} of {len(known):,} pictures of the cohort have no row and are left out"
            )
        if matched.unused:
            progress.say(f"{len(matched.unused):,} rows belong to no picture of the cohort and are left out")
        images = np.flatnonzero(matched.row_n >= 0)
        facts = {"encoder": name, "missing": len(matched.missing), "unused": len(matched.unused)}
        return _publish(build, Rows(x_nd, matched.row_n[images]), images, facts, cohort, config.unit_norm)


def _said_of(cohort: Artifact) -> set[str]:
    """Names of labels and attributes: who finds them among the dimensions has the answer in the question."""
    with cohort.connect() as connection:
        tables = {row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        names = [f"SELECT DISTINCT {what} FROM {what}" for what in ("label", "attribute") if what in tables]
        found = connection.execute(" UNION ".join(names)).fetchall()
    return {"label", "target", "patient", "split", "view", "sex", "age", *(str(row[0]) for row in found)}


def _identified(config: c.Embed, cohort: Artifact) -> c.Embed:
    return replace(config, cohort=cohort.id)


def _publish(
    build: Build,
    x_nd: Rows,
    images: np.ndarray,
    facts: dict[str, Any],
    cohort: Artifact,
    unit_norm: bool | None = None,
) -> dict[str, Any]:
    if len(x_nd) == 0:
        raise UserError("no picture of the cohort has an embedding", cohort.id, "check the Path column of --rows")
    zeros = 0
    with (build.path / "x.npy").open("wb") as out:  # in blocks: not all embeddings are in memory, here or anywhere
        header = {"descr": "<f4", "fortran_order": False, "shape": x_nd.shape}
        np.lib.format.write_array_header_1_0(out, header)
        for block in blocks(x_nd):
            x_bd = np.ascontiguousarray(block, np.float32)
            if unit_norm:
                norms = np.linalg.norm(x_bd, axis=1, keepdims=True)
                zeros += int((norms == 0).sum())
                x_bd = x_bd / np.where(norms > 0, norms, 1)
            out.write(x_bd.tobytes())
    if zeros:
        raise UserError(f"{zeros} embeddings are zero and have no direction", cohort.id, "leave out --unit-norm")
    rows = pd.DataFrame({"row": np.arange(len(x_nd)), "image": images})
    with build.database() as connection:
        connection.register("rows", rows)
        connection.execute('INSERT INTO embedding_row SELECT "row", image FROM rows')
    n, d = x_nd.shape
    return build.publish({"n": n, "d": d, "cohort": cohort.id, **facts}).manifest
