"""ingest: a folder of radiographs and labels -> cohort."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from medsae import config as c
from medsae import files
from medsae.cohorts import splits
from medsae.cohorts.checking import check_pictures
from medsae.cohorts.chexpert import read_chexpert
from medsae.progress import Progress, UserError
from medsae.shards import Shards
from medsae.steps import found
from medsae.store.artifacts import Build, Store

_SHARD = 2000
_SHARD_SCHEMA = pa.schema(
    {"image": pa.int32(), "width": pa.int32(), "height": pa.int32(), "sha256": pa.string(), "webp": pa.binary(),
     "refused": pa.string(), "said": pa.string()}
)  # fmt: skip


def ingest(config: c.IngestChexpert | c.IngestTable, store: Store, progress: Progress) -> dict[str, Any]:
    """Read the label tables, check every picture once, split by patient, publish the cohort."""
    if isinstance(config, c.IngestChexpert):
        config = replace(config, root=config.root.expanduser().resolve())
        table, slug = read_chexpert(config), f"chexpert-{config.root.name}"
    else:
        config = replace(config, table=config.table.expanduser().resolve())
        from medsae.cohorts.table import read_table

        table, slug = read_table(config), f"table-{config.table.stem}"
    for line in table.understood:
        progress.say(line)
    with store.build(files.slug(slug), config, {}, table.inputs) as build:
        if build.existing:
            found("cohort", build.id, progress)
            return build.existing.manifest
        images, refused = table.images, pd.DataFrame({"path": [], "reason": []}, dtype=str)
        read_otherwise: list[str] = []
        if config.pictures:
            paths = [table.root / path for path in images["path"]]
            pieces = Shards(build.shards, "parquet")
            checked = _checked(pieces, paths, config.workers, progress)
            bad = checked["refused"].notna()
            refused = pd.DataFrame({"path": images["path"][bad.to_numpy()], "reason": checked["refused"][bad]})
            _say_refused(refused, len(images), table.root, progress)
            read_otherwise = _read_otherwise(checked["said"])
            images = images.assign(width=checked["width"], height=checked["height"], sha256=checked["sha256"])
            images = images[~bad.to_numpy()]
        else:
            images = images.assign(width=None, height=None, sha256=None)
        # Images are numbered anew without the refused ones: 0 .. n-1 without gaps.
        number = pd.Series(np.arange(len(images), dtype=np.int32), index=images["image"].to_numpy())
        labels = table.labels[table.labels["image"].isin(number.index)] if len(refused) else table.labels
        labels = labels.assign(image=number.loc[labels["image"]].to_numpy() if len(refused) else labels["image"])
        images = images.assign(image=number.to_numpy()).reset_index(drop=True)
        split, evaluation, notes = splits.assign_splits(images, labels, config)
        images = images.assign(split=split, evaluation=evaluation)
        notes = [*read_otherwise, *notes]
        for note in notes:
            progress.say(note)
        with build.database() as connection:
            write_cohort(connection, images, labels, table.label_names, refused, [*table.understood, *notes])
            if config.pictures:
                _write_thumbnails(connection, build, number)
        facts = cohort_facts(images, table.label_names, len(refused), str(table.root), config.source)
        return build.publish(facts).manifest


def cohort_facts(images: pd.DataFrame, labels: tuple[str, ...], refused: int, root: str, source: str) -> dict[str, Any]:
    """What `list` and the Overview page show of a cohort."""
    return {
        "source": source,
        "n": len(images),
        "patients": int(images["patient"].nunique()),
        "refused": refused,
        "labels": list(labels),
        "evaluation": int(images["evaluation"].sum()),
        **{f"{name}_images": int((images["split"] == name).sum()) for name in ("train", "holdout", "evaluation")},
        "root": root,
    }


def write_cohort(
    connection: duckdb.DuckDBPyConnection,
    images: pd.DataFrame,
    labels: pd.DataFrame,
    names: tuple[str, ...],
    refused: pd.DataFrame,
    notes: list[str],
) -> None:
    """Append the frames to the cohort's tables."""
    # Unknown is NULL, never an empty string or NaN.
    columns = (
        "image, path, patient, nullif(study, ''), nullif(source, ''), split, evaluation, nullif(view, ''), frontal,"
        " nullif(sex, ''), CASE WHEN isnan(age) THEN NULL ELSE age END, width, height, sha256"
    )
    label_name = pd.DataFrame({"position": range(len(names)), "label": names})
    note = pd.DataFrame({"note": notes}, dtype=str)
    for frame, statement in (
        (images, f"INSERT INTO image SELECT {columns} FROM frame ORDER BY image"),
        (labels, "INSERT INTO label SELECT image, label::TEXT, value FROM frame"),
        (label_name, "INSERT INTO label_name SELECT position, label FROM frame"),
        (refused, "INSERT INTO refused SELECT path, reason FROM frame"),
        (note, "INSERT INTO note SELECT note FROM frame"),
    ):
        connection.register("frame", frame)
        connection.execute(statement)
        connection.unregister("frame")


def _checked(pieces: Shards, paths: list[Path], workers: int | None, progress: Progress) -> pd.DataFrame:
    """Check every picture once; a finished shard of 2,000 is a file that a restarted ingest skips."""
    starts = range(0, len(paths), _SHARD)
    missing = [image for k, start in enumerate(starts) if pieces.finished(k) is None
               for image in range(start, min(start + _SHARD, len(paths)))]  # fmt: skip
    if len(missing) < len(paths):
        progress.say(f"{len(paths) - len(missing):,} of {len(paths):,} pictures are checked already")
    rows: list[dict[str, Any]] = []
    # One stream over all shards: the decoding processes never wait for a shard to be written.
    for position, seen in check_pictures([paths[i] for i in missing], workers, progress, "checking pictures"):
        image = missing[position]
        rows.append(dict(image=image, width=seen.width, height=seen.height, sha256=seen.sha256, webp=seen.webp,
                         refused=seen.refused, said=seen.said))  # fmt: skip
        if (image + 1) % _SHARD == 0 or image + 1 == len(paths):
            with pieces.writing(image // _SHARD) as new:
                pq.write_table(pa.Table.from_pylist(rows, schema=_SHARD_SCHEMA), new, compression="none")
            rows = []
    columns = ["image", "width", "height", "sha256", "refused", "said"]
    frames = [pq.read_table(pieces.path(k), columns=columns).to_pandas() for k in range(len(starts))]
    return pd.concat(frames, ignore_index=True)


def _write_thumbnails(connection: duckdb.DuckDBPyConnection, build: Build, number: pd.Series) -> None:
    kept = pd.DataFrame({"old": number.index.to_numpy(np.int32), "new": number.to_numpy(np.int32)})
    connection.register("kept", kept)
    connection.execute(
        "INSERT INTO thumbnail SELECT new, webp FROM read_parquet(?) JOIN kept ON image = old ORDER BY new",
        [str(build.shards / "[0-9]*.parquet")],
    )
    connection.unregister("kept")


def _read_otherwise(said: pd.Series) -> list[str]:
    """A line for each way in which headers of pictures were not followed, with the number of pictures."""
    # Numbers in brackets differ between pictures (centre and width of a window): what is left are the kinds.
    parts = said.dropna().str.split("; ").explode().str.replace(r" \([^)]*\)", "", regex=True)
    return [f"{count:,} pictures: {what}" for what, count in Counter(parts).most_common()]


def _say_refused(refused: pd.DataFrame, n: int, root: Path, progress: Progress) -> None:
    if not len(refused):
        return
    reasons = Counter(refused["reason"])
    lines = "; ".join(f"{count:,} x {reason}" for reason, count in reasons.most_common(5))
    if len(refused) == n:
        raise UserError(
            f"none of {n:,} pictures can be used: {lines}", root, "check that --root is the folder the paths start from"
        )
    progress.say(f"refused {len(refused):,} of {n:,} pictures: {lines}")
