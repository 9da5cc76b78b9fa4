"""ingest: a folder of radiographs and labels -> cohort."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from medsae import config as c
from medsae import files, plugins
from medsae.cohorts import buckets, checking, marks, splits
from medsae.cohorts.inside import refuse_outside
from medsae.cohorts.tabular import CohortTable
from medsae.progress import Progress, UserError
from medsae.shards import Part, Shards
from medsae.steps import found
from medsae.store.artifacts import Build, Store

_SHARD = 2000
_SHARD_SCHEMA = pa.schema(
    {"image": pa.int32(), "width": pa.int32(), "height": pa.int32(), "sha256": pa.string(), "webp": pa.binary(),
     "refused": pa.string(), "said": pa.string()}
)  # fmt: skip


def ingest(config: Any, store: Store, progress: Progress) -> dict[str, Any]:
    """Read what the source reads, check every picture once, split by patient, publish the cohort."""
    source = plugins.sources.get(config.source)
    if source.draws:
        return source.loaded()(config, store, progress)
    if config.pictures:
        checking.prepare()  # while the table is read
    table = _read(config, source.loaded(), store, progress)
    for line in table.understood:
        progress.say(line)
    home = getattr(config, "table", None) or getattr(config, "root", None) or table.root
    slug = f"{config.source}-{home.stem if getattr(config, 'table', None) else home.name}"
    # What was found is part of the question: a download that has gone on is another one.
    inputs = table.inputs | ({"pictures": table.digest} if table.digest else {})
    with store.build(files.slug(slug), config, {}, inputs) as build:
        if build.existing:
            found("cohort", build.id, progress)
            return build.existing.manifest
        _say_changes(store, config, inputs, table, progress)
        images, refused = table.images, pd.DataFrame({"path": [], "reason": []}, dtype=str)
        read_otherwise: list[str] = []
        if config.pictures:
            paths = [os.path.join(table.root, path) for path in images["path"]]
            pieces, part = Shards(build.shards, "parquet"), build.part(config, progress)
            checked = _checked(pieces, paths, config.workers, progress, part)
            if checked is None:
                assert part is not None
                return build.shard_done(part, progress)
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
        attributes = table.attributes
        if len(refused) and len(attributes.columns):
            attributes = attributes.iloc[number.index.to_numpy()]
        images = images.assign(image=number.to_numpy()).reset_index(drop=True)
        split, evaluation, notes = splits.assign_splits(images, labels, config)
        images = images.assign(split=split, evaluation=evaluation)
        masks, more = _masks(table, images, number)
        notes = [*read_otherwise, *notes, *more]
        for note in notes:
            progress.say(note)
        with build.database() as connection:
            write_cohort(connection, images, labels, table.label_names, refused, [*table.understood, *notes],
                         table.definitions)  # fmt: skip
            _write_attributes(connection, attributes, table.types)
            _write_marks(connection, table, number, masks)
            _append(connection, table.files, "INSERT INTO file SELECT path, bytes, modified FROM frame ORDER BY path")
            if config.pictures:
                _write_thumbnails(connection, build, number)
        facts = cohort_facts(images, table.label_names, len(refused), files.shown(table.root), config.source)
        if table.definitions:
            facts["labels_defined"] = next(iter(table.definitions.values())).removesuffix("; blank is absent")
        return build.publish(facts | {"licence": source.licence, "citation": source.citation}).manifest


def _read(config: Any, read: Callable[[Any], CohortTable], store: Store, progress: Progress) -> CohortTable:
    """What the source reads of a folder, or of a bucket by a folder that stands for it."""
    bucket = config.root or config.table.parent
    if buckets.url_of(bucket) is None:
        return _inside(config, read(config))
    url = files.shown(bucket)
    with buckets.stood_in(bucket, store.cache / "buckets", progress) as home:

        def named(text: str) -> str:  # CheXpert's home is the folder above its batches
            return text.replace(str(home), url).replace(str(home.parent), url.rpartition("/")[0])

        try:
            table = _inside(config, read(_standing(config, bucket, home)))
        except UserError as error:
            where = None if error.where is None else named(error.where)
            raise UserError(named(error.what), where, error.do and named(error.do)) from error
        return replace(table, root=Path(named(str(table.root))), home=None if table.home is None else Path(url),
                       understood=[named(line) for line in table.understood])  # fmt: skip


def _standing(config: Any, bucket: Path, home: Path) -> Any:
    """The config with the folder in the place of the bucket; UserError for a table in another one."""
    table = getattr(config, "table", None)
    if table is None or buckets.url_of(table) is None:
        return replace(config, root=home)
    if not table.is_relative_to(bucket):
        raise UserError("the table lies in object storage outside --root", files.shown(table),
                        "give a --root that holds it, or a table on this machine")  # fmt: skip
    return replace(config, root=home, table=home / table.relative_to(bucket))


def _inside(config: Any, table: CohortTable) -> CohortTable:
    if not getattr(config, "allow_outside", False):
        # What was not found is not read: a table may name the disk of whoever wrote it.
        paths = table.images["path"] if table.digest is None else table.files["path"]
        refuse_outside(table.home or table.root, table.root, paths)
    return table


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
    definitions: Mapping[str, str] | None = None,
) -> None:
    """Append the frames to the cohort's tables; `definitions`: label -> what its values mean."""
    # Unknown is NULL, never an empty string or NaN.
    columns = (
        "image, path, patient, nullif(study, ''), nullif(source, ''), split, evaluation, nullif(view, ''), frontal,"
        " nullif(sex, ''), CASE WHEN isnan(age) THEN NULL ELSE age END, width, height, sha256"
    )
    meaning = [(definitions or {}).get(name) for name in names]
    label_name = pd.DataFrame({"position": range(len(names)), "label": names, "definition": meaning})
    label_name["definition"] = label_name["definition"].astype("str")
    note = pd.DataFrame({"note": notes}, dtype=str)
    for frame, statement in (
        (images, f"INSERT INTO image SELECT {columns} FROM frame ORDER BY image"),
        (labels, "INSERT INTO label SELECT image, label::TEXT, value FROM frame"),
        (label_name, "INSERT INTO label_name SELECT position, label, definition FROM frame"),
        (refused, "INSERT INTO refused SELECT path, reason FROM frame"),
        (note, "INSERT INTO note SELECT note FROM frame"),
    ):
        _append(connection, frame, statement)


def _append(connection: duckdb.DuckDBPyConnection, frame: pd.DataFrame, statement: str) -> None:
    """Run an INSERT that selects from `frame`; an empty frame appends nothing."""
    if len(frame):
        connection.register("frame", frame)
        connection.execute(statement)
        connection.unregister("frame")


def _write_attributes(
    connection: duckdb.DuckDBPyConnection, attributes: pd.DataFrame, types: Mapping[str, str]
) -> None:
    """One row an image and attribute that it has, attribute by attribute, and the type of each."""
    for name in attributes.columns:
        column = attributes[name]
        frame = pd.DataFrame({"image": np.arange(len(column), dtype=np.int32), "value": column.to_numpy(object)})
        frame["attribute"] = str(name)
        _append(connection, frame[column.notna().to_numpy(bool)],
                "INSERT INTO attribute SELECT image, attribute, value FROM frame ORDER BY image")  # fmt: skip
    named = pd.DataFrame({"position": range(len(types)), "attribute": list(types), "type": list(types.values())})
    _append(connection, named, "INSERT INTO attribute_name SELECT position, attribute, type FROM frame")


def _write_marks(
    connection: duckdb.DuckDBPyConnection, table: CohortTable, number: pd.Series, masks: pd.DataFrame
) -> None:
    """The publisher's boxes and masks of the images that are kept."""
    boxes = table.boxes
    if len(boxes):
        boxes = boxes.assign(image=number.reindex(boxes["image"].to_numpy()).to_numpy()).dropna(subset=["image"])
        boxes = boxes.astype({"image": np.int32}).sort_values("image", kind="stable")
    _append(
        connection, boxes, "INSERT INTO box SELECT image, label, x, y, width, height, nullif(reader, '') FROM frame"
    )
    _append(connection, masks, "INSERT INTO mask SELECT image, finding, runs FROM frame")


def _masks(table: CohortTable, images: pd.DataFrame, number: pd.Series) -> tuple[pd.DataFrame, list[str]]:
    """(image, finding, runs) from the publisher's run lengths, whose picture's size must be known; what to tell."""
    out = pd.DataFrame({"image": [], "finding": [], "runs": []})
    if not len(table.runs):
        return out, []
    if images["width"].isna().all():
        return out, ["masks are left out: the size of the pictures is not known (--no-pictures)"]
    rows, bad = [], []
    for (old, label), part in table.runs.groupby(["image", "label"], sort=True):
        image = number.get(old)
        if image is None:
            continue
        width, height = int(images["width"].iloc[image]), int(images["height"].iloc[image])
        try:
            rows.append((image, label, marks.runs_of(part["code"].tolist(), width, height)))
        except ValueError as error:
            bad.append(f"{images['path'].iloc[image]}: {error}")
    told = [f"{len(bad):,} masks cannot be read and are left out: {bad[0]}"] if bad else []
    return pd.DataFrame(rows, columns=["image", "finding", "runs"]) if rows else out, told


def _say_changes(store: Store, config: Any, inputs: dict[str, str], table: CohortTable, progress: Progress) -> None:
    """Where the same command made a cohort of other pictures before: what has changed since."""
    if table.digest is None:
        return
    recorded = c.record(config)
    for old in store.list("cohort"):
        before = old.manifest.get("inputs", {})
        if old.config != recorded or before.keys() != inputs.keys():
            continue
        tables = [name for name in inputs if name != "pictures" and before[name] != inputs[name]]
        if tables:
            progress.say(f"cohort {old.id} was made by the same command from another {', '.join(tables)}")
            continue
        with contextlib.closing(old.connect()) as connection:
            known = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
            if "file" not in known:
                continue
            was = connection.execute("SELECT path, bytes, modified FROM file").df().set_index("path")
        now = table.files.set_index("path")
        new, gone = now.index.difference(was.index), was.index.difference(now.index)
        both = now.index.intersection(was.index)
        changed = both[(now.loc[both] != was.loc[both]).any(axis=1)]
        sorts = (("are new", new), ("have changed", changed), ("are gone", gone))
        parts = [f"{len(paths):,} pictures {what}, such as {paths[0]}"
                 for what, paths in sorts if len(paths)]  # fmt: skip
        progress.say(f"since cohort {old.id} {'; '.join(parts)}: this is another cohort")
        return


def _checked(
    pieces: Shards, paths: list[str], workers: int | None, progress: Progress, part: Part | None
) -> pd.DataFrame | None:
    """Check every picture once; a finished shard of 2,000 is a file that a restarted ingest skips. None from one of
    several commands that has checked its part."""
    starts = range(0, len(paths), _SHARD)
    own = [k for k in range(len(starts)) if part is None or part.makes(k)]
    todo = [k for k in own if pieces.finished(k) is None]
    if part is not None:
        todo = part.mine(todo, pieces)

    def images(ks: list[int]) -> list[int]:
        return [i for k in ks for i in range(starts[k], min(starts[k] + _SHARD, len(paths)))]

    missing, all_own = images(todo), len(images(own))
    if len(missing) < all_own:
        progress.say(f"{all_own - len(missing):,} of {all_own:,} pictures are checked already")
    rows: list[dict[str, Any]] = []
    # One stream over all shards: the decoding processes never wait for a shard to be written.
    for position, seen in checking.check_pictures([paths[i] for i in missing], workers, progress, "checking pictures"):
        image = missing[position]
        rows.append(dict(image=image, width=seen.width, height=seen.height, sha256=seen.sha256, webp=seen.webp,
                         refused=seen.refused, said=seen.said))  # fmt: skip
        if (image + 1) % _SHARD == 0 or image + 1 == len(paths):
            with pieces.writing(image // _SHARD) as new:
                pq.write_table(pa.Table.from_pylist(rows, schema=_SHARD_SCHEMA), new, compression="none")
            rows = []
    if part is not None and not part.merges:
        return None
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
    return [f"{count:,} picture{'s' * (count != 1)}: {what}" for what, count in Counter(parts).most_common()]


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
