"""ingest simulated: radiographs projected from a real CT with planted findings -> cohort."""

from __future__ import annotations

import io
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from medsae import config as c
from medsae.cohorts import splits
from medsae.cohorts.checking import cores
from medsae.cohorts.pictures import thumbnail
from medsae.progress import Progress
from medsae.shards import Shards
from medsae.steps import found
from medsae.steps.ingest import cohort_facts, write_cohort
from medsae.store.artifacts import Build, Store

_SHARD = 1000
_JPEG_QUALITY = 92
_SCHEMA = pa.schema({
    "image": pa.int32(), "path": pa.string(), "patient": pa.string(), "study": pa.string(), "view": pa.string(),
    "sex": pa.string(), "age": pa.int32(), "jpeg": pa.binary(), "webp": pa.binary(),
    "labels": pa.map_(pa.string(), pa.int8()), "attributes": pa.map_(pa.string(), pa.string()),
    "masks": pa.map_(pa.string(), pa.list_(pa.int32())),
})  # fmt: skip


def ingest_simulated(config: c.IngestSimulated, store: Store, progress: Progress) -> dict[str, Any]:
    """Draw the pictures in shards, split by patient, publish the cohort with its truth."""
    with store.build(f"simulated-{config.images}", config, {}) as build:
        if build.existing:
            found("cohort", build.id, progress)
            return build.existing.manifest
        shards = list(_shards(build, config, store.cache / "simulated", progress))
        flat = ["image", "path", "patient", "study", "view", "sex", "age"]
        images = pd.concat([pq.read_table(shard, columns=flat).to_pandas() for shard in shards], ignore_index=True)
        images = images.assign(source="", frontal=True, width=config.size, height=config.size, sha256=None)
        with build.database() as connection:
            parts = f"read_parquet({[str(shard) for shard in shards]})"
            connection.execute(
                f"CREATE TEMP TABLE written AS SELECT image, unnest(map_entries(labels)) AS entry FROM {parts}"
            )
            labels = connection.execute(
                "SELECT image, entry.key AS label, entry.value AS value FROM written ORDER BY image"
            ).df()
            labels["value"] = labels["value"].astype("Int8")
            split, evaluation, notes = splits.assign_splits(images, labels, config)
            images = images.assign(split=split, evaluation=evaluation)
            for note in notes:
                progress.say(note)
            refused = pd.DataFrame({"path": [], "reason": []}, dtype=str)
            write_cohort(connection, images, labels, c.CHEXPERT_LABELS, refused, notes)
            connection.execute(f"INSERT INTO picture SELECT image, jpeg FROM {parts} ORDER BY image")
            connection.execute(f"INSERT INTO thumbnail SELECT image, webp FROM {parts} ORDER BY image")
            connection.execute(
                "INSERT INTO attribute SELECT image, e.key, e.value FROM"
                f" (SELECT image, unnest(map_entries(attributes)) AS e FROM {parts}) ORDER BY image"
            )
            connection.execute(
                "INSERT INTO mask SELECT image, e.key, e.value FROM"
                f" (SELECT image, unnest(map_entries(masks)) AS e FROM {parts}) ORDER BY image"
            )
        facts = cohort_facts(images, c.CHEXPERT_LABELS, 0, "", config.source)
        return build.publish(facts).manifest


def _shards(build: Build, config: c.IngestSimulated, cache: Path, progress: Progress) -> Iterator[Path]:
    """Draw in shards of 1,000; a finished shard is a file that a restarted ingest skips."""
    from medsae import simulated

    workers = config.workers or cores()
    folder = simulated.prepare(cache, config.size, workers, progress)
    with (
        progress.task("drawing radiographs", config.images, "pictures") as task,
        get_context("spawn").Pool(workers, simulated.one_core) as pool,
    ):
        studies = list(simulated.plan(config.images, config.seed))
        pieces = Shards(build.shards, "parquet")
        for k, start in enumerate(range(0, config.images, _SHARD)):
            part = studies[start : start + _SHARD]
            if pieces.finished(k) is not None:
                task.advance(len(part))
            else:
                rows = []
                jobs = ((folder, study, config.size, start + i) for i, study in enumerate(part))
                for row in pool.imap(_draw, jobs, chunksize=8):
                    rows.append(row)
                    task.advance()
                with pieces.writing(k) as new:
                    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), new, compression="none")
            yield pieces.path(k)


def jpeg_of(picture: Image.Image) -> bytes:
    """A drawn picture as the cohort keeps it; encoders see what this leaves of it."""
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=_JPEG_QUALITY)
    return jpeg.getvalue()


def _draw(job: tuple[Path, Any, int, int]) -> dict[str, Any]:
    """One row of a shard: drawn, compressed and described in a worker process."""
    from medsae import simulated
    from medsae.simulated import projection

    folder, study, size, image = job
    drawn = simulated.picture_of(projection.read_once(folder, simulated.quality_for(size)), study, size)
    picture = Image.fromarray(np.asarray(drawn.picture))
    return {
        "image": image, "path": drawn.path, "patient": drawn.patient, "study": drawn.study, "view": drawn.view,
        "sex": {"Female": "F", "Male": "M"}[drawn.sex], "age": drawn.age, "jpeg": jpeg_of(picture),
        "webp": thumbnail(picture), "labels": list(drawn.labels.items()), "masks": list(drawn.masks.items()),
        # Masks have a table of their own.
        "attributes": [(k, v) for k, v in drawn.attributes.items() if not k.startswith("mask:")],
    }  # fmt: skip
