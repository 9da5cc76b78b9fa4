"""Keeping a data folder tidy: names that people give, what depends on what, a trash that can be emptied.

An artifact never changes, so what people call it stands beside all of them: `data/titles.json`, id -> title, about,
archived. What is removed goes to `data/trash/<kind>/<id>` by one rename, comes back by another, and is gone only when
the trash is emptied. Nothing is removed while something else was made from it, unless that goes too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from medsae import files, objects, seals
from medsae.progress import UserError
from medsae.store import remote as remotes
from medsae.store import trash as bin
from medsae.store.artifacts import KINDS, Artifact, Store
from medsae.store.remote import Remote

JOBS, NAMES, TITLES = "jobs", "names", "titles.json"
LONGEST = 120


@dataclass(frozen=True)
class Card:
    """What people say of an artifact."""

    title: str = ""
    about: str = ""
    archived: bool = False
    """Kept, and left out of the choosers."""


def cards(data: Path) -> dict[str, Card]:
    """id -> Card of everything that has one; none where the file is damaged (`troubles` names it)."""
    path = data / TITLES
    try:
        if remotes.of(data):
            return _shared_cards(data / "titles", (data / "titles").stat().st_mtime_ns)
        return _cards(path, path.stat().st_mtime_ns)
    except (OSError, ValueError):
        return {}


def troubles(data: Path) -> list[UserError]:
    """What is wrong with the file of titles; nothing of it is used then."""
    path = data / TITLES
    try:
        _cards(path, path.stat().st_mtime_ns)
    except OSError:
        return []
    except ValueError as error:
        return [UserError(f"the titles that people gave are damaged: {error}", path,
                          "take the file from a copy, or remove it and give them again")]  # fmt: skip
    return []


@lru_cache(maxsize=8)
def _cards(path: Path, changed: int) -> dict[str, Card]:
    said = seals.read(path)
    if isinstance(said.get("cards"), dict):  # before there were seals they were not within another entry
        said = said["cards"]
    return {str(id): _card(c) for id, c in said.items() if isinstance(c, dict)}


@lru_cache(maxsize=8)
def _shared_cards(folder: Path, changed: int) -> dict[str, Card]:
    """In a bucket a title is a record of its own; a damaged one is left out."""
    found = {}
    for path in sorted(folder.glob("[!.]*.json")):
        with contextlib.suppress(OSError, ValueError):
            found[path.stem] = _card(seals.read(path))
    return {id: card for id, card in found.items() if card != Card()}


def _card(said: dict[str, Any]) -> Card:
    return Card(str(said.get("title", "")), str(said.get("about", "")), said.get("archived") is True)


def of(artifact: Artifact) -> Card:
    """The card of an artifact."""
    return cards(artifact.path.parents[2]).get(artifact.id, Card())


def describe(store: Store, id: str, **changes: object) -> Card:
    """Change the card of an artifact or job; an empty card is removed. UserError when the title is too long,
    or the file of titles is damaged."""
    title = str(changes.get("title", "")).strip()
    changes = {**changes, "title": title} if "title" in changes else changes
    if len(title) > LONGEST or "\n" in title:
        raise UserError(f"a title has one line of at most {LONGEST} characters", None, "say more with --about")
    files.make_folder(store.data)
    handle = files.take_lock(store.data / ".titles.lock", wait=True)
    try:
        if damaged := troubles(store.data):
            raise damaged[0]  # writing would lose what may still be mended
        known = cards(store.data)
        card = replace(known.get(id, Card()), **changes)  # type: ignore[arg-type]
        if store.remote:
            _share(store.remote, store.data, id, card)
            return card
        kept = {**known, id: card} if card != Card() else {i: c for i, c in known.items() if i != id}
        files.write(store.data / TITLES, seals.text({"cards": {i: asdict(c) for i, c in sorted(kept.items())}}) + "\n")
    finally:
        if handle is not None:
            os.close(handle)
    return card


def _share(remote: Remote, data: Path, id: str, card: Card) -> None:
    """Write a card as a record of its own; of two machines the later one counts. UserError where the bucket cannot be
    written: the old card stays."""
    path = files.make_folder(data / "titles") / f"{id}.json"
    new = path.with_name(f".{path.name}")
    files.write(new, seals.text(asdict(card)))
    try:
        remote.put_record(new, f"titles/{path.name}")
        files.publish(new, path)
    finally:
        new.unlink(missing_ok=True)


def dependents(store: Store, id: str) -> list[Artifact]:
    """Every artifact that was made from this one, from its children on."""
    found: list[Artifact] = []
    wanted, everything = {id}, store.scan()[0]
    while more := [a for a in everything if a not in found and wanted & set(a.parents.values())]:
        found += more
        wanted |= {a.id for a in more}
    return found


def size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(p.lstat().st_size for p in folder.rglob("*") if not p.is_dir())


def remove(store: Store, ids: Iterable[str], with_dependents: bool = False) -> list[str]:
    """Move artifacts and jobs to the trash, and the names with their scores; the ids that went.

    UserError, before anything is moved, when there is no such id, when something else was made from it that does not
    go too, or when a job runs.
    """
    if store.remote:
        store.remote.refresh()  # what others have made from it by now
    wanted = list(dict.fromkeys(ids))
    jobs = [id for id in wanted if _is_job(store, id)]
    artifacts = [store.get(id) for id in wanted if id not in jobs]
    more = {a.id: a for artifact in artifacts for a in dependents(store, artifact.id)}
    left = [id for id in more if id not in {a.id for a in artifacts}]
    if left and not with_dependents:
        raise UserError(f"{artifacts[0].id} is what {', '.join(left)} {'was' if len(left) == 1 else 'were'} made from",
                        None, "remove those too: --with-dependents")  # fmt: skip
    everything = {**{a.id: a for a in artifacts}, **more}
    busy = [id for id in jobs if files.locked(store.data / JOBS / id / "lock")] + _running_on(store, set(everything))
    if busy:
        raise UserError(f"a job is running: {', '.join(busy)}", None, "cancel it first")
    gone = []
    for artifact in everything.values():
        if store.remote:
            store.remote.remove((artifact.kind, artifact.id))
        bin.put(store.data, artifact.path, artifact.kind)
        if artifact.kind == "scores" and (ledger := store.artifacts / NAMES / artifact.id).is_dir():
            bin.put(store.data, ledger, NAMES)
        gone.append(artifact.id)
    for id in jobs:
        bin.put(store.data, store.data / JOBS / id, JOBS)
        gone.append(id)
    return gone


def _is_job(store: Store, id: str) -> bool:
    return bool(id) and "/" not in id and not id.startswith(".") and (store.data / JOBS / id / "job.json").is_file()


def _running_on(store: Store, ids: set[str]) -> list[str]:
    """Running jobs whose command names one of these artifacts."""
    found = []
    for folder in (store.data / JOBS).glob("*/"):
        if files.locked(folder / "lock"):
            try:
                words = seals.read(folder / "job.json")["command"]
            except (OSError, ValueError, KeyError):
                continue
            if ids & set(map(str, words)):
                found.append(folder.name)
    return found


@dataclass(frozen=True)
class Rubbish:
    """Something that `gc` would remove for good."""

    kind: str
    id: str
    bytes: int
    path: Path


def trash(store: Store) -> list[Rubbish]:
    """What lies in the trash."""
    folders = sorted(p for p in (store.data / "trash").glob("*/*") if p.is_dir())
    return [Rubbish(p.parent.name, p.name, size(p), p) for p in folders]


def restore(store: Store, id: str) -> list[str]:
    """Take something out of the trash, with the names of scores; the kinds that came back. UserError if it is not
    there, or was made again."""
    mine = [r for r in trash(store) if r.id == id]
    if not mine:
        raise UserError(f"{id} is not in the trash", store.data / "trash")
    for each in mine:
        home = store.data / JOBS if each.kind == JOBS else store.artifacts / each.kind
        if (home / id).exists():
            raise UserError(f"{id} is there again", home / id, "remove it first, or leave this one in the trash")
    for each in mine:
        if store.remote and each.kind in KINDS:
            store.remote.restore((each.kind, id))
        home = files.make_folder(store.data / JOBS if each.kind == JOBS else store.artifacts / each.kind)
        os.rename(each.path, home / id)
        files.fsync(home)
    return [each.kind for each in mine]


def unfinished(store: Store) -> list[Rubbish]:
    """What was begun, interrupted, and is not being built now: its finished shards are lost with it."""
    found = []
    for kind in KINDS:
        for id, shards in store.unfinished(kind):
            folder = shards.parent
            if not files.locked(folder / ".lock"):
                found.append(Rubbish(f"unfinished {kind}", id, size(folder), folder))
    return found


def in_bucket(store: Store) -> list[Rubbish]:
    """What nothing in the bucket of this folder needs any more; nothing without one. UserError: it cannot be asked."""
    if store.remote is None:
        return []
    at = f"{store.remote.url}/"
    return [Rubbish("bucket", url.removeprefix(at), bytes, Path(url)) for url, bytes in store.remote.rubbish()]


def discard(rubbish: Iterable[Rubbish]) -> int:
    """Remove for good; bytes that became free."""
    freed = 0
    for each in rubbish:
        address = objects.url_of(each.path)
        if address:
            objects.remove(address)
        else:
            shutil.rmtree(each.path, ignore_errors=False)
        freed += each.bytes
    return freed


def disk(store: Store) -> dict[str, int]:
    """Bytes by kind, of the trash, and `free`: what the disk still has."""
    used = {kind: sum(a.bytes for a in _sized(store, kind)) for kind in (*KINDS, NAMES)}
    used |= {"trash": sum(r.bytes for r in trash(store))}
    place = store.data if store.data.exists() else store.data.parent
    return {**used, "free": shutil.disk_usage(place).free if place.exists() else 0}


def _sized(store: Store, kind: str) -> list[Rubbish]:
    folders = (p for p in (store.artifacts / kind).glob("*/") if not p.name.startswith("."))
    return [Rubbish(kind, p.name, size(p), p) for p in folders]
