"""Artifacts: folders that never change (docs/protocol.md).

An artifact is built in a hidden sibling folder, fsynced and published by one rename, so *exists* means *complete*.
The building folder has a fixed name, so that a restarted step finds its finished shards; an flock tells a living
builder from a dead one.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import duckdb

from medsae import config as configs
from medsae import files, objects, shards
from medsae.progress import Progress, UserError, first_line
from medsae.store import connections, trash
from medsae.store import manifest as manifests
from medsae.store import remote as remotes
from medsae.store.manifest import NAME as MANIFEST
from medsae.store.manifest import SCHEMA_VERSION, Manifest
from medsae.store.troubles import explained
from medsae.store.verified import sha256_once

KINDS = ("cohort", "embeddings", "sae", "scores", "pairs")
BESIDE = ("pairs",)
"""Kinds that a study can do without: no page waits for them."""
TABLES = "tables.duckdb"
NOT_THEN = "not computed then: score again for it (another --seed makes new scores)"
"""Why scores of an older program lack something."""
_AGAIN = "delete the folder and repeat the step"

__all__ = [
    "BESIDE",
    "KINDS",
    "MANIFEST",
    "NOT_THEN",
    "SCHEMA_VERSION",
    "TABLES",
    "Artifact",
    "Build",
    "Store",
    "schema",
    "versions",
]


@dataclass(frozen=True)
class Artifact:
    """One published artifact; `manifest` is its artifact.json, checked: see `store.manifest.Manifest`."""

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

    @property
    def sealed(self) -> bool:
        """Whether the manifest holds its own hash; those of earlier versions of the program do not."""
        return "seal" in self.manifest

    def file(self, name: str) -> Path:
        """Path of a file of the artifact; UserError when it is gone. Of a bucket's it is fetched when it is asked for
        first."""
        path = self.path / name
        if not path.is_file() and not self._fetched(name):
            raise UserError(f"artifact {self.id} is damaged: {name} is missing", path, _AGAIN)
        return path

    def _fetched(self, name: str) -> bool:
        remote, entry = remotes.of(self.path.parents[2]), self.manifest["files"].get(name)
        if remote is None or entry is None:
            return False
        remote.fetch(self.path / name, entry)
        return True

    def has(self, name: str) -> bool:
        """Whether a file can be opened: it is here, or in the bucket."""
        listed = name in self.manifest["files"] and remotes.of(self.path.parents[2]) is not None
        return (self.path / name).is_file() or listed

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A read-only connection to the artifact's tables; the caller closes it."""
        try:
            return connections.read_only(self.file(TABLES))
        except duckdb.Error as error:
            raise self.trouble(error) from error

    def verify(self) -> None:
        """Read every file and compare its sha256; UserError names the first that differs."""
        for name in self.manifest["files"]:
            self._compare(name, files.sha256_of)

    def check(self) -> Artifact:
        """The same for files that were not hashed since they last changed (`verified`): one read, then none; itself."""
        for name in self.manifest["files"]:
            self._compare(name, lambda path: sha256_once(path, _notes(self.path)))
        return self

    def checked(self, name: str) -> Path:
        """Path of one file whose bytes are what was written (as `check`)."""
        self._compare(name, lambda path: sha256_once(path, _notes(self.path)))
        return self.path / name

    def _compare(self, name: str, sha256: Any) -> None:
        path = self.file(name)
        recorded = self.manifest["files"].get(name)
        try:
            same = recorded is not None and sha256(path) == recorded["sha256"]
        except OSError as error:
            raise _named(self.id, cast(UserError, explained(error, path))) from error
        if not same:
            raise UserError(f"artifact {self.id} is damaged: {name} is not what was written", path, _AGAIN)

    def trouble(self, error: duckdb.Error) -> UserError:
        """Why the tables cannot be read: open elsewhere, no rights, too many files, damaged (only where the bytes are
        not what was written), or something else that deleting would not mend."""
        better = explained(error, self.path / TABLES)
        if better is not None:
            return _named(self.id, better)
        first = first_line(error)
        try:
            self.checked(TABLES)
        except UserError as damaged:
            return UserError(f"{damaged.what} ({first})", damaged.where, damaged.do)
        what = f"artifact {self.id} cannot be read, though its files are what was written: {first}"
        do = "try again; then check that the program is up to date (git pull && make setup)"
        return UserError(what, self.path / TABLES, do)


class Store:
    """The artifacts under one data folder."""

    def __init__(self, data: Path | None = None):
        """`data` None: the variable MEDSAE_DATA, else ./data. A bucket's address stands for its local copy, which then
        knows what the bucket has; UserError where it cannot be listed."""
        given = data or os.environ.get("MEDSAE_DATA") or "data"
        address = objects.url_of(given)
        self.data = remotes.local(address) if address else Path(given).expanduser().absolute()
        self.remote = remotes.of(self.data)
        if address and self.remote:
            self.remote.open()
        self.artifacts = self.data / "artifacts"
        self.cache = self.data / "cache"

    def list(self, kind: str | None = None) -> list[Artifact]:
        """Readable artifacts, newest first."""
        return self.scan(kind)[0]

    def scan(self, kind: str | None = None) -> tuple[list[Artifact], list[UserError]]:
        """Readable artifacts newest first, and what is wrong with the others (damaged, or of a newer schema)."""
        found, problems = [], self.remote.look() if self.remote else []
        for k in KINDS if kind is None else (kind,):
            folder = self.artifacts / k
            try:
                names = sorted(os.listdir(folder))
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append(cast(UserError, explained(error, folder)))
                continue
            for name in names:
                try:
                    if not name.startswith(".") and (folder / name).is_dir():
                        found.append(_read(folder / name))
                except UserError as error:
                    problems.append(error)
        return sorted(found, key=lambda a: a.manifest["created"], reverse=True), problems

    def get(self, ref: str, kind: str | None = None) -> Artifact:
        """The artifact with this id, or with this unique beginning of an id; UserError says what there is."""
        for k in KINDS if kind is None else (kind,):
            path = self.artifacts / k / ref
            if ref and "/" not in ref and not ref.startswith(".") and path.is_dir():
                return _read(path)
        if self.remote:
            self.remote.look()
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

    def parent(self, ref: str, kind: str) -> Artifact:
        """`get` for a step that computes from it: every file is what was written (`Artifact.check`), else UserError."""
        return self.get(ref, kind).check()

    @contextlib.contextmanager
    def build(
        self, slug: str, config: Any, parents: dict[str, str], inputs: dict[str, str] | None = None
    ) -> Iterator[Build]:
        """Build (or find) the artifact of a resolved config. `config.makes` is the kind.

        parents: role -> id; inputs: name -> sha256 of files from outside. With `build.existing` set there is nothing
        to do. Shards of one artifact (`config.shard`) build side by side; whoever merges them waits for none of them.
        Raises UserError when another process builds the same artifact, or the folder is not writable.
        """
        inputs = inputs or {}
        together = getattr(config, "shard", None) not in (None, shards.MERGE)
        id = configs.identity(slug, config, list(parents.values()), inputs)
        final = self.artifacts / config.makes / id
        if final.is_dir():
            yield self._there(final)
            return
        building = final.parent / f".building-{id}"
        try:
            files.make_folder(building)
            lock = files.take_lock(building / ".lock", shared=together)
        except OSError as error:
            raise cast(UserError, explained(error, building, self.data)) from error
        if lock is None:
            raise UserError(f"another process is building {id}", building, "wait for it, or cancel it")
        claim = contextlib.ExitStack()
        try:
            if self.remote and not together:
                claim.enter_context(self.remote.claimed((config.makes, id)))
            if final.is_dir():  # published between the two looks
                yield self._there(final)
                return
            begun = {
                "id": id,
                "kind": config.makes,
                "schema": SCHEMA_VERSION,
                "config": configs.record(config),
                "command": ["python", "-m", "medsae", *configs.command_line(config)],
                "parents": parents,
                "inputs": inputs,
                "versions": versions(),
                "hardware": {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()},
            }
            try:
                yield Build(self, building, final, begun, None)
            except Exception as error:
                better = explained(error, building, self.data)
                if better is None:
                    raise
                raise better from error
        finally:
            # What failed before its first shard leaves nothing behind.
            if building.is_dir() and not together and not any((building / ".shards").glob("*")):
                shutil.rmtree(building, ignore_errors=True)
            claim.close()
            os.close(lock)

    def _there(self, final: Path) -> Build:
        """What is published already; in the bucket too, where an upload was interrupted."""
        _tidy(final)
        if self.remote:
            self.remote.publish((final.parent.name, final.name))
        return Build(self, final, final, {}, _read(final))

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
        return files.make_folder(path)

    def part(self, config: Any, progress: Progress) -> shards.Part | None:
        """The part of this artifact that a config's `--shard` asks for; None where it asks for the whole."""
        about = {name: self.manifest[name] for name in ("config", "inputs", "versions")}
        words = self.manifest["command"]
        if self.store.remote and config.shard is not None and config.shard != shards.MERGE:
            progress.say(f"the pieces of this shard stay in {self.shards} and are not put into the bucket: every shard "
                         "and merge must be run where this folder is seen (MEDSAE_CACHE on a shared disk)")  # fmt: skip
        return shards.join(self.shards, config.shard, words, about, progress)

    def shard_done(self, part: shards.Part, progress: Progress) -> dict[str, Any]:
        """What a shard returns in place of a manifest; says what comes after it."""
        progress.say(f"shard {part.index}/{part.of} is done; when all are: {part.merge_command}")
        return {"id": self.id, "published": False}

    @contextlib.contextmanager
    def database(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A fresh writable tables.duckdb with this kind's empty tables."""
        path = self.path / TABLES
        for old in (path, path.with_name(TABLES + ".wal")):
            old.unlink(missing_ok=True)
        connection = connections.writable(path, self.shards / "spill")
        try:
            connection.execute(schema()[self.manifest["kind"]])
            yield connection
            connection.execute("CHECKPOINT")
        finally:
            connection.close()

    def publish(self, facts: dict[str, Any]) -> Artifact:
        """Hash and fsync every file, write artifact.json last, rename into place; only then the shards go."""
        left = (self.path / ".lock", self.path / MANIFEST)
        shards = self.path / ".shards"
        found = sorted(p for p in self.path.rglob("*")
                       if p.is_file() and p not in left and shards not in p.parents)  # fmt: skip
        for path in found:
            path.chmod(files.OWN_FILE)
            files.fsync(path)
        entries = {
            str(p.relative_to(self.path)): {"bytes": p.stat().st_size, "sha256": files.sha256_of(p)} for p in found
        }
        times = {"created": time.time(), "seconds": round(time.time() - self.began, 3)}
        manifest = self.manifest | times | {"facts": facts, "files": entries}
        files.write(self.path / MANIFEST, manifests.sealed(cast(Manifest, manifest)))
        remote, key = self.store.remote, (self.manifest["kind"], self.id)
        if remote:
            if self.final.is_dir():  # another machine's was taken in meanwhile; the upload tells whose stands
                trash.put(self.store.data, self.final, key[0])
            remote.begin(key)
        os.rename(self.path, self.final)
        files.fsync(self.final.parent)
        _tidy(self.final)
        if remote:
            remote.publish(key)
        return _read(self.final)


def _tidy(published: Path) -> None:
    """Remove what building needed. The lock's file too goes only now: unlinked before the rename, another builder could
    make and lock a second one. What a kill leaves here is removed when the artifact is asked for again."""
    shutil.rmtree(published / ".shards", ignore_errors=True)
    with contextlib.suppress(OSError):
        (published / ".lock").unlink()


@cache
def schema() -> dict[str, str]:
    """Kind -> the CREATE TABLE statements of schema.sql."""
    text = Path(__file__).with_name("schema.sql").read_text()
    sections = text.split("-- @")[1:]
    return {s.split("\n", 1)[0].strip(): s.split("\n", 1)[1] for s in sections}


def _read(path: Path) -> Artifact:
    """The artifact in a folder: its manifest is sound, and every file is there with its size; else UserError."""
    try:
        with (path / MANIFEST).open(encoding="utf-8") as file:
            manifest = manifests.parse(file.read(manifests.LARGEST), path.name, path.parent.name)
    except UserError as error:
        raise UserError(error.what, path, error.do) from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError too
        raise UserError(f"artifact {path.name} is damaged: artifact.json cannot be used: {error}", path,
                        _AGAIN) from error  # fmt: skip
    except FileNotFoundError as error:
        raise UserError(f"artifact {path.name} is damaged: artifact.json is missing", path, _AGAIN) from error
    except OSError as error:
        raise _named(path.name, cast(UserError, explained(error, path))) from error
    for name, recorded in manifest["files"].items():
        file = path / name
        try:
            good = file.stat().st_size == recorded["bytes"]
        except FileNotFoundError:
            good = remotes.of(path.parents[2]) is not None  # fetched when it is opened
        except OSError as error:
            raise _named(path.name, cast(UserError, explained(error, file))) from error
        if not good:
            raise UserError(f"artifact {path.name} is damaged: {name} is missing or has another size", file, _AGAIN)
    return Artifact(path, cast(dict[str, Any], manifest))


def _named(id: str, error: UserError) -> UserError:
    return UserError(f"artifact {id}: {error.what}", error.where, error.do)


def _notes(artifact: Path) -> Path:
    """Where hashes are remembered, of an artifact in `<data>/artifacts/<kind>/<id>`."""
    return artifact.parents[2] / "cache" / "verified"


@cache
def versions() -> dict[str, str]:
    """Of this program, of Python and of the packages that a result depends on."""
    names = ("medsae", "torch", "transformers", "duckdb", "numpy", "scipy", "pandas", "pillow", "streamlit")
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    from medsae import __version__

    return {**found, "medsae": __version__, "python": platform.python_version()}
