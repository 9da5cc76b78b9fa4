"""Artifacts: folders that never change (docs/protocol.md).

An artifact is built in a hidden sibling folder, fsynced and published by one rename, so *exists* means *complete*.
The building folder has a fixed name, so that a restarted step finds its finished shards; an flock tells a living
builder from a dead one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import duckdb

from medsae import config as configs
from medsae.progress import UserError

SCHEMA_VERSION = 1
KINDS = ("cohort", "embeddings", "sae", "scores")
TABLES = "tables.duckdb"
MANIFEST = "artifact.json"


@dataclass(frozen=True)
class Artifact:
    """One published artifact; `manifest` is its artifact.json."""

    path: Path
    manifest: dict[str, Any]

    @property
    def id(self) -> str:
        return self.manifest["id"]

    @property
    def kind(self) -> str:
        return self.manifest["kind"]

    @property
    def config(self) -> dict[str, Any]:
        return self.manifest["config"]

    @property
    def parents(self) -> dict[str, str]:
        """Kind or role -> id."""
        return self.manifest["parents"]

    @property
    def facts(self) -> dict[str, Any]:
        """What the step wants remembered: sizes, devices, headline numbers."""
        return self.manifest["facts"]

    def file(self, name: str) -> Path:
        """Path of a file of the artifact; UserError when it is gone."""
        path = self.path / name
        if not path.is_file():
            raise UserError(
                f"artifact {self.id} is damaged: {name} is missing", path, "delete the folder and repeat the step"
            )
        return path

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A read-only connection to the artifact's tables; the caller closes it."""
        try:
            return duckdb.connect(str(self.file(TABLES)), read_only=True)
        except duckdb.Error as error:
            raise UserError(
                f"artifact {self.id} is damaged: {error}", self.path / TABLES, "delete the folder and repeat the step"
            ) from error

    def verify(self) -> None:
        """Recompute the sha256 of every file; UserError names the first that differs."""
        for name, recorded in self.manifest["files"].items():
            if sha256_file(self.file(name)) != recorded["sha256"]:
                raise UserError(f"artifact {self.id} is damaged: {name} is not what was written", self.path / name,
                                "delete the folder and repeat the step")  # fmt: skip


class Store:
    """The artifacts under one data folder."""

    def __init__(self, data: Path | None = None):
        """`data` None: the variable MEDSAE_DATA, else ./data."""
        self.data = Path(data or os.environ.get("MEDSAE_DATA") or "data").expanduser().absolute()
        self.artifacts = self.data / "artifacts"
        self.cache = self.data / "cache"

    def list(self, kind: str | None = None) -> list[Artifact]:
        """Readable artifacts, newest first."""
        return self.scan(kind)[0]

    def scan(self, kind: str | None = None) -> tuple[list[Artifact], list[UserError]]:
        """Readable artifacts newest first, and what is wrong with the others (damaged, or of a newer schema)."""
        found, problems = [], []
        for k in KINDS if kind is None else (kind,):
            folder = self.artifacts / k
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                if path.name.startswith(".") or not path.is_dir():
                    continue
                try:
                    found.append(_read(path))
                except UserError as error:
                    problems.append(error)
        return sorted(found, key=lambda a: a.manifest["created"], reverse=True), problems

    def get(self, ref: str, kind: str | None = None) -> Artifact:
        """The artifact with this id, or with this unique beginning of an id; UserError says what there is."""
        for k in KINDS if kind is None else (kind,):
            path = self.artifacts / k / ref
            if ref and "/" not in ref and not ref.startswith(".") and path.is_dir():
                return _read(path)
        names = [p.name for k in (KINDS if kind is None else (kind,)) if (self.artifacts / k).is_dir()
                 for p in (self.artifacts / k).iterdir() if not p.name.startswith(".")]  # fmt: skip
        hits = [n for n in names if ref and n.startswith(ref)]
        if len(hits) == 1:
            return self.get(hits[0], kind)
        what = kind or "artifact"
        if hits:
            raise UserError(
                f"{ref!r} is the beginning of {len(hits)} ids: {', '.join(sorted(hits)[:5])}",
                self.artifacts,
                "give more of the id",
            )
        there = f"there is: {', '.join(sorted(names)[:8])}" if names else "there are none yet"
        raise UserError(
            f"no {what} with the id {ref!r}; {there}", self.artifacts, "python -m medsae list shows the ids"
        )

    @contextlib.contextmanager
    def build(
        self, slug: str, config: Any, parents: dict[str, str], inputs: dict[str, str] | None = None
    ) -> Iterator[Build]:
        """Build (or find) the artifact of a resolved config. `config.makes` is the kind.

        parents: role -> id; inputs: name -> sha256 of files from outside. With `build.existing` set there is nothing
        to do. Raises UserError when another process builds the same artifact, or the folder is not writable.
        """
        inputs = inputs or {}
        id = configs.identity(slug, config, list(parents.values()), inputs)
        final = self.artifacts / config.makes / id
        if final.is_dir():
            artifact = _read(final)
            yield Build(self, final, final, {}, artifact)
            return
        building = final.parent / f".building-{id}"
        try:
            building.mkdir(parents=True, exist_ok=True)
            lock = os.open(building / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise _disk_error(error, building) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise UserError(f"another process is building {id}", building, "wait for it, or cancel it") from error
        try:
            manifest = {
                "id": id,
                "kind": config.makes,
                "schema": SCHEMA_VERSION,
                "config": configs.record(config),
                "command": ["python", "-m", "medsae", *configs.command_line(config)],
                "parents": parents,
                "inputs": inputs,
                "versions": _versions(),
                "hardware": {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()},
            }
            try:
                yield Build(self, building, final, manifest, None)
            except OSError as error:
                raise _disk_error(error, building) from error
            except duckdb.Error as error:
                if "No space left" in str(error) or "could not write" in str(error).lower():
                    raise UserError(
                        f"writing failed: {error}", building, "free disk space, then run the same command"
                    ) from error
                raise
        finally:
            # What failed before its first shard leaves nothing behind.
            if building.is_dir() and not any((building / ".shards").glob("*")):
                shutil.rmtree(building, ignore_errors=True)
            os.close(lock)

    def unfinished(self, kind: str) -> list[tuple[str, Path]]:
        """(id, shards folder) of every artifact of this kind that is being built, or whose building was interrupted."""
        folder = self.artifacts / kind
        found = sorted(folder.glob(".building-*")) if folder.is_dir() else []
        return [(p.name.removeprefix(".building-"), p / ".shards") for p in found]


@dataclass
class Build:
    """A folder that is becoming an artifact: write into `path`, shards into `shards`, then `publish`."""

    store: Store
    path: Path
    final: Path
    manifest: dict[str, Any]
    existing: Artifact | None

    def __post_init__(self) -> None:
        self.began = time.time()

    @property
    def id(self) -> str:
        return self.final.name

    @property
    def shards(self) -> Path:
        """A folder for what a restarted step may reuse; it is not part of the artifact."""
        path = self.path / ".shards"
        path.mkdir(exist_ok=True)
        return path

    @contextlib.contextmanager
    def database(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A fresh writable tables.duckdb with this kind's empty tables."""
        path = self.path / TABLES
        for old in (path, path.with_name(TABLES + ".wal")):
            old.unlink(missing_ok=True)
        connection = duckdb.connect(str(path))
        try:
            connection.execute(schema()[self.manifest["kind"]])
            yield connection
            connection.execute("CHECKPOINT")
        finally:
            connection.close()

    def publish(self, facts: dict[str, Any]) -> Artifact:
        """Hash and fsync every file, write artifact.json last, rename into place."""
        shutil.rmtree(self.path / ".shards", ignore_errors=True)
        files = sorted(p for p in self.path.rglob("*") if p.is_file() and p.name not in (".lock", MANIFEST))
        manifest = self.manifest | {
            "created": time.time(),
            "seconds": round(time.time() - self.began, 3),
            "facts": facts,
            "files": {
                str(p.relative_to(self.path)): {"bytes": p.stat().st_size, "sha256": sha256_file(p)} for p in files
            },
        }
        text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)
        (self.path / MANIFEST).write_text(text)
        for p in [*files, self.path / MANIFEST, self.path]:
            _fsync(p)
        (self.path / ".lock").unlink(missing_ok=True)
        os.rename(self.path, self.final)
        _fsync(self.final.parent)
        return Artifact(self.final, manifest)


@cache
def schema() -> dict[str, str]:
    """Kind -> the CREATE TABLE statements of schema.sql."""
    text = Path(__file__).with_name("schema.sql").read_text()
    sections = text.split("-- @")[1:]
    return {s.split("\n", 1)[0].strip(): s.split("\n", 1)[1] for s in sections}


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> Artifact:
    again = "delete the folder and repeat the step"
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        missing = {"id", "kind", "schema", "config", "parents", "facts", "files", "created"} - set(manifest)
    except (OSError, ValueError) as error:
        raise UserError(
            f"artifact {path.name} is damaged: artifact.json cannot be read ({error})", path, again
        ) from error
    if missing:
        raise UserError(
            f"artifact {path.name} is damaged: artifact.json lacks {', '.join(sorted(missing))}", path, again
        )
    if manifest["schema"] > SCHEMA_VERSION:
        what = f"artifact {path.name} has schema {manifest['schema']}; this program reads up to {SCHEMA_VERSION}"
        raise UserError(what, path, "update the program: git pull && make setup")
    for name, recorded in manifest["files"].items():
        file = path / name
        if not file.is_file() or file.stat().st_size != recorded["bytes"]:
            raise UserError(f"artifact {path.name} is damaged: {name} is missing or has another size", file, again)
    return Artifact(path, manifest)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _disk_error(error: OSError, where: Path) -> UserError:
    if error.errno == errno.ENOSPC:
        return UserError("the disk is full", where, "free space, then run the same command: finished shards are kept")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return UserError("the folder is not writable", where, "choose another with --data DIR, or mend its rights")
    return UserError(f"reading or writing failed: {error}", error.filename or where, None)


@cache
def _versions() -> dict[str, str]:
    names = ("medsae", "torch", "transformers", "duckdb", "numpy", "scipy", "pandas", "pillow", "streamlit")
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    from medsae import __version__

    return {**found, "medsae": __version__, "python": platform.python_version()}
