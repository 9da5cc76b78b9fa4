"""Artifacts of one data folder in another one, or in a bucket (`medsae copy`): with what they were made from.

An artifact is the same wherever it lies: its files are hashed before they go, and its manifest goes as it is. Names,
notes and titles go with it where the other place has none of that name; nothing there is written over.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from medsae import files
from medsae.progress import Progress, UserError
from medsae.store import housekeeping
from medsae.store.artifacts import Artifact, Store
from medsae.store.notes import Notes, representation


def copy(store: Store, ids: Iterable[str], to: Path, progress: Progress) -> list[str]:
    """Copy artifacts (all, without ids) and what they were made from, parents first; the ids that went.

    UserError where one is damaged, where `to` is this folder, or where it cannot be written: the same command goes on.
    """
    other = Store(to)
    if other.data == store.data:
        raise UserError("an artifact is not copied into its own folder", store.data, "give another --to")
    if other.remote:
        other.remote.say = progress.say
    everything = store.list()
    wanted, gone = _with_parents(everything, [store.get(id) for id in ids] or everything), []
    with progress.task("copying", len(wanted), "artifacts") as task:
        for artifact in wanted:
            if _copied(artifact, other):
                gone.append(artifact.id)
            task.advance()
    _writings(store, other, wanted)
    if other.remote:
        other.remote.refresh()
    return gone


def _with_parents(everything: list[Artifact], artifacts: list[Artifact]) -> list[Artifact]:
    """These and their ancestors that are there, parents before children."""
    known, found = {artifact.id: artifact for artifact in everything}, dict[str, Artifact]()

    def add(artifact: Artifact) -> None:
        if artifact.id not in found:
            for parent in artifact.parents.values():
                if parent in known:
                    add(known[parent])
            found[artifact.id] = artifact

    for artifact in artifacts:
        add(artifact)
    return list(found.values())


def _copied(artifact: Artifact, other: Store) -> bool:
    key = (artifact.kind, artifact.id)
    final = other.artifacts / artifact.kind / artifact.id
    fresh = not final.is_dir()
    if fresh:
        new = files.make_folder(final.with_name(f".copied-{artifact.id}-{secrets.token_hex(4)}"))
        try:
            for name in [*artifact.check().manifest["files"], "artifact.json"]:
                _copy(artifact.path / name, new / name)
            if other.remote:
                other.remote.begin(key)
            files.publish(new, final)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    if other.remote:
        other.remote.publish(key)
    return fresh


def _copy(path: Path, to: Path) -> None:
    files.make_folder(to.parent)
    shutil.copyfile(path, to)
    to.chmod(files.OWN_FILE)
    files.fsync(to)


def _writings(store: Store, other: Store, artifacts: list[Artifact]) -> None:
    """What people and models wrote about these, where there is none of it yet."""
    mine, theirs = housekeeping.cards(store.data), housekeeping.cards(other.data)
    for artifact in artifacts:
        if artifact.id in mine and artifact.id not in theirs:
            housekeeping.describe(other, artifact.id, **asdict(mine[artifact.id]))
        if artifact.kind == "scores":
            Notes(other, representation(artifact)).take_over(Notes(store, representation(artifact)))
            for path in sorted((store.artifacts / "names" / artifact.id).glob("*.jsonl")):
                target = other.data / path.relative_to(store.data)
                if not target.exists():
                    files.make_folder(target.parent)
                    with files.replacing(target) as new:
                        _copy(path, new)
