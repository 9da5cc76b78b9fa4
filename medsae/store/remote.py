"""A data folder in a bucket: this machine works on a local copy of it (docs/protocol.md, "In a bucket"; decision 165).

`--data s3://...` stands for an ordinary data folder on this machine with a mark in it, so everything that reads files,
maps them or attaches them works as it does anywhere. Three things are added. The manifests of the bucket's artifacts
are taken in when one looks (`refresh`), and a file is fetched when it is opened first (`fetch`), compared with the hash
in its manifest. What a step has published here is uploaded (`publish`): first the files, each under its hash, so that
nobody can write over what another machine published; artifact.json last and exclusively, so that an artifact is there
whole or not at all, and of two machines one has published it. A step that begins holds a claim (`leases`).

    records/artifacts/<kind>/<id>/artifact.json     what there is
    objects/<sha256>                                its files
    claims/<id>/<n>                                 who builds it
    trash/<kind>/<id>/artifact.json                 what was removed
    records/names, notes, readings, titles          what people and models wrote (`records`)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias, cast

from medsae import files, objects, seals
from medsae.progress import UserError
from medsae.store import leases, records, trash
from medsae.store import manifest as manifests
from medsae.store.manifest import NAME as MANIFEST
from medsae.store.manifest import FileEntry
from medsae.store.troubles import explained

MARK = "bucket.json"
"""In a data folder: it is the local copy of the bucket named there."""
CACHE = "MEDSAE_CACHE"
"""Variable: where local copies of buckets lie (default: XDG_CACHE_HOME, else ~/.cache)."""
EVERY_SECONDS = 20.0
"""The bucket is listed at most so often by one process, however many readers it has."""
SOON_SECONDS = 2.0
"""From a note to its upload."""
TOLD_BYTES = 2**24
"""Fetching or uploading a file of this size is told to who waits."""
KEPT_SECONDS = 7 * 86_400.0
"""A file in the bucket that no artifact names is kept for so long: somebody may be about to publish it."""
UPLOADED_SECONDS = 86_400.0
"""A file that this machine has uploaded is for so long not uploaded again (shorter than KEPT_SECONDS by far)."""
Key: TypeAlias = tuple[str, str]
"""Kind and id."""
_RECORD = re.compile(r"artifacts/([a-z]+)/([^/.\0][^/\0]{0,199})/artifact\.json")
_MAY_WRITE = "give the environment credentials that may write to it (docs/how-to/buckets.md); nothing here is lost"


def local(url: str) -> Path:
    """The folder of this machine that stands for an address, made where it is missing. Raises UserError."""
    base = os.environ.get(CACHE) or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    digest = hashlib.sha256(url.encode()).hexdigest()[:8]
    slug = files.slug(url.partition("://")[2].replace("/", "-"))
    folder = Path(base).expanduser().absolute() / "medsae" / "buckets" / f"{slug}-{digest}"
    try:
        files.make_folder(folder)
        if not (folder / MARK).is_file():
            files.write(folder / MARK, seals.text({"address": url, "machine": secrets.token_hex(4)}))
    except OSError as error:
        raise explained(error, folder) or error from error
    return folder


def of(data: Path) -> Remote | None:
    """The bucket that a data folder is the local copy of; None for a folder of its own. UserError: damaged mark."""
    if data not in _known:
        if not (data / MARK).is_file():
            return None
        try:
            said = seals.read(data / MARK)
            _known[data] = Remote(data, str(said["address"]), str(said["machine"]))
        except (OSError, ValueError, KeyError) as error:
            raise UserError("the mark that names the bucket of this folder is damaged", data / MARK,
                            "remove it, and give --data the bucket's address again") from error  # fmt: skip
    return _known[data]


_known: dict[Path, Remote] = {}


class Remote:
    """One bucket (or a prefix of one) and its local copy; one object a process."""

    def __init__(self, data: Path, url: str, machine: str):
        self.data, self.url, self.machine = data, url, machine
        self.say: Callable[[str], None] = lambda line: None
        """Where a step that waits for the network says so."""
        self.records = records.Copy(data, url, machine)
        self._one = threading.Lock()
        self._looked: float | None = None
        self._starting = threading.Lock()
        self._looking: threading.Thread | None = None
        self._wanted = False
        self._error: UserError | None = None
        self._unshared: UserError | None = None
        self._bad: dict[Key, tuple[int, UserError]] = {}

    # --- what there is

    def open(self) -> None:
        """Know what the bucket has, as of EVERY_SECONDS ago or less. UserError where it cannot be listed."""
        with self._one:
            if self._looked is None or self._error or time.monotonic() - self._looked > EVERY_SECONDS:
                self._refresh()

    def refresh(self) -> None:
        """Take in what the bucket lists now. UserError where it cannot be listed."""
        with self._one:
            self._refresh()

    def share(self) -> None:
        """The same; UserError also where what was written on this machine cannot go to the bucket."""
        self.refresh()
        if self._unshared:
            raise self._unshared

    def look(self) -> list[UserError]:
        """As `refresh`, unless that was done in the last EVERY_SECONDS; what is wrong with the bucket and its
        artifacts, and what waits to be uploaded. The first look waits; later ones go on behind the page and are seen by
        the next."""
        if self._looked is None:
            with self._one:
                if self._looked is None:  # else somebody else has looked while we waited
                    self._quietly()
        elif time.monotonic() - self._looked > EVERY_SECONDS and self._looking is None:
            self._start(0.0)
        found = [error for error in (self._error, self._unshared) if error]
        return [*found, *(error for _, error in list(self._bad.values())), *map(self._waiting, self._unpublished())]

    def soon(self) -> None:
        """Somebody has written a note or an answer here: it goes to the bucket behind the page."""
        self._start(SOON_SECONDS)

    def settled(self) -> None:
        """Wait until nothing goes on behind the page."""
        while thread := self._looking:
            thread.join()

    def _start(self, seconds: float) -> None:
        with self._starting:
            self._wanted = True
            if self._looking is None:
                self._looking = threading.Thread(target=self._behind, args=(seconds,), daemon=True)
                self._looking.start()

    def _behind(self, seconds: float) -> None:
        again = True
        try:
            while again:
                time.sleep(seconds)  # several notes in one go
                self._wanted = False
                with self._one, contextlib.suppress(RuntimeError):  # the program ends: no new threads
                    self._quietly()
                again = self._ended()
        finally:
            self._looking = None

    def _ended(self) -> bool:
        """Whether something was written meanwhile; if not, the next one starts a thread of its own."""
        with self._starting:
            if not self._wanted:
                self._looking = None
            return self._wanted

    def _quietly(self) -> None:
        with contextlib.suppress(UserError):
            self._refresh()

    def _refresh(self) -> None:
        try:
            self._exchange()
        except UserError as error:
            self._error = error
            raise
        finally:
            self._looked = time.monotonic()
        self._error = None

    def _exchange(self) -> None:
        mine = self._published()  # before the listing: what is published meanwhile is not taken for removed
        try:
            listed = {entry.path: entry for entry in objects.entries(f"{self.url}/records")}
            there = {key: entry for entry in listed.values() if (key := _key(entry.path)) is not None}
            self._take_in(mine, there)
            scores = {id for kind, id in there if kind == "scores"}
            self.records.fetch(listed, scores)
        except OSError as error:
            raise objects.trouble(error, self.url, "--data") from error
        self._unshared = None
        try:
            self.records.share(listed, scores)
        except OSError as error:  # who may only look has notes of his own all the same
            self._unshared = self._unwritten(error, "names, notes or answers of this machine are not in the bucket")

    def _take_in(self, mine: set[Key], there: dict[Key, objects.Entry]) -> None:
        waits = set(self._unpublished())
        self._bad = {key: bad for key, bad in self._bad.items() if key in there and there[key].stamp == bad[0]}
        new = [key for key, entry in there.items()
               if key not in self._bad and key not in waits and entry.stamp != self._stamp(key)]  # fmt: skip
        with ThreadPoolExecutor(objects.AT_ONCE) as pool:
            list(pool.map(lambda key: self._take(key, there[key].stamp), new))
        for key in mine - set(there):  # somebody removed it
            self._drop(key)

    def _drop(self, key: Key) -> None:
        for folder, kind in ((self.folder(key), key[0]), (self.folder(("names", key[1])), "names")):
            with contextlib.suppress(FileNotFoundError):
                trash.put(self.data, folder, kind)

    def _published(self) -> set[Key]:
        """What is whole here and was in the bucket."""
        found = {(p.parent.parent.name, p.parent.name) for p in self.data.glob(f"artifacts/*/[!.]*/{MANIFEST}")}
        return found - set(self._unpublished())

    def folder(self, key: Key) -> Path:
        """Where an artifact lies on this machine."""
        return self.data / "artifacts" / key[0] / key[1]

    def _record(self, key: Key) -> str:
        return f"{self.url}/records/artifacts/{key[0]}/{key[1]}/{MANIFEST}"

    def _stamp(self, key: Key) -> int | None:
        """Of the record that the local manifest was taken from: its time of change."""
        with contextlib.suppress(OSError):
            return (self.folder(key) / MANIFEST).stat().st_mtime_ns
        return None

    def take(self, key: Key) -> None:
        """Take in one artifact, if the bucket has it by now. UserError where it cannot be asked."""
        try:
            self._take(key, None)
        except OSError as error:
            raise objects.trouble(error, self.url, "--data") from error
        if key in self._bad:
            raise self._bad[key][1]

    def _take(self, key: Key, stamp: int | None) -> None:
        try:
            text = objects.read(self._record(key), manifests.LARGEST).decode()
            manifests.parse(text, key[1], key[0])
        except FileNotFoundError:
            return  # removed between the two looks
        except PermissionError as error:
            raise UserError("records of this bucket may be listed, and not read, with the credentials of the "
                            "environment", self.url, objects.MAY) from error  # fmt: skip
        except UserError as error:  # of a newer schema
            self._bad[key] = stamp or 0, UserError(error.what, self._record(key), error.do)
        except ValueError as error:
            what = f"artifact {key[1]} of the bucket is damaged: {MANIFEST} cannot be used: {error}"
            self._bad[key] = stamp or 0, UserError(what, self._record(key), _ANEW)
        else:
            self._put_here(key, text, stamp)

    def _put_here(self, key: Key, text: str, stamp: int | None) -> None:
        """The manifest of the bucket as an artifact of this folder; files are fetched when they are opened."""
        final = self.folder(key)
        if not (final / MANIFEST).is_file() or (final / MANIFEST).read_text() != text:
            new = files.make_folder(final.with_name(f".listed-{key[1]}-{secrets.token_hex(4)}"))
            files.write(new / MANIFEST, text)
            if final.is_dir():  # the same question, answered twice: the bucket's answer stands
                _keep_equal(final, new, text)
                trash.put(self.data, final, key[0])
            try:
                os.rename(new, final)
            except OSError:  # another process of this machine was quicker
                shutil.rmtree(new, ignore_errors=True)
        if stamp is not None:
            os.utime(final / MANIFEST, ns=(stamp, stamp))

    def put_record(self, path: Path, record: str) -> None:
        """Upload a small file of this folder as a record. UserError where it cannot be."""
        try:
            self.records.put(path, record)
        except OSError as error:
            raise self._unwritten(error, f"{path.name} is on this machine alone") from error

    def remove(self, key: Key) -> None:
        """Move an artifact to the bucket's trash: no machine lists it any more. UserError where it cannot be."""
        self._move(key, "records/artifacts", "trash", "nothing was removed")
        (self.data / "unpublished" / key[0] / key[1]).unlink(missing_ok=True)
        shutil.rmtree(self.data / "cache" / "uploaded", ignore_errors=True)  # made again, it is uploaded again

    def restore(self, key: Key) -> None:
        """Take an artifact out of the bucket's trash. UserError where it cannot be, or was made again."""
        self._move(key, "trash", "records/artifacts", "nothing was restored")

    def _move(self, key: Key, here: str, there: str, kept: str) -> None:
        old, new = (f"{self.url}/{folder}/{key[0]}/{key[1]}/{MANIFEST}" for folder in (here, there))
        try:
            text = objects.read(old, manifests.LARGEST)
            if there == "trash":
                objects.put(new, text)
            elif not objects.create(new, text):
                raise UserError(f"{key[1]} is there again", new, "remove it first, or leave this one in the trash")
            objects.remove(old)
        except FileNotFoundError:
            return  # another machine has moved it
        except OSError as error:
            raise self._unwritten(error, kept) from error

    def rubbish(self) -> list[tuple[str, int]]:
        """Address and bytes of every object that nothing needs any more: what is in the trash with its names, and files
        that no artifact names and that are older than whoever uploads them now. UserError where that cannot be told."""
        with self._one:
            self._refresh()
        if self._bad:
            raise UserError("what an artifact of the bucket needs cannot be told", self.url,
                            "mend or remove it first: " + ", ".join(id for _, id in self._bad))  # fmt: skip
        try:
            every = objects.entries(self.url)
            old = objects.now(f"{self.url}/claims") - KEPT_SECONDS
        except OSError as error:
            raise self._unwritten(error, "nothing was removed") from error
        needed = {one["sha256"] for key in self._published() for one in self._manifest(key)["files"].values()}
        gone = {path[2] for e in every if (path := e.path.split("/"))[0] == "trash" and len(path) == 4}
        gone -= {id for _, id in self._published()}

        def unneeded(entry: objects.Entry) -> bool:
            first, *rest = entry.path.split("/")
            if first == "objects":
                return rest[0] not in needed and entry.second < old
            return first == "trash" or (first == "records" and rest[0] == "names" and rest[1] in gone)

        return [(f"{self.url}/{entry.path}", entry.bytes) for entry in every if unneeded(entry)]

    def _manifest(self, key: Key) -> dict[str, Any]:
        return json.loads((self.folder(key) / MANIFEST).read_text())

    # --- files

    def fetch(self, path: Path, entry: FileEntry) -> None:
        """A file of an artifact that is listed here, into its place, if it is what its manifest says. Files of equal
        content are fetched once. UserError where the bucket does not give it, or gives something else."""
        held = files.make_folder(self.data / "cache" / "objects") / entry["sha256"]
        try:
            lock = files.take_lock(held.with_name(f".{held.name}.lock"), wait=True)
            try:
                if not held.is_file() or held.stat().st_size != entry["bytes"]:
                    self._download(path, entry, held)
            finally:
                os.close(cast(int, lock))
            files.make_folder(path.parent)
            _link(held, path)
        except OSError as error:
            raise explained(error, path, self.data) or error from error

    def _download(self, path: Path, entry: FileEntry, to: Path) -> None:
        url, id = f"{self.url}/objects/{entry['sha256']}", path.relative_to(self.data).parts[2]
        if entry["bytes"] >= TOLD_BYTES:
            self.say(f"fetching {id}/{path.name} from the bucket, {entry['bytes'] / 2**20:,.0f} MiB")
        with files.replacing(to) as new:
            try:
                objects.fetch(url, new, entry["bytes"])
            except FileNotFoundError as error:
                raise UserError(f"artifact {id} is damaged: {path.name} is not in the bucket", url, _ANEW) from error
            except ValueError as error:
                raise _damaged(id, path.name, url) from error
            except OSError as error:
                raise UserError(f"{path.name} of {id} could not be fetched: {error}", url,
                                "check the network and the rights, and ask again") from error  # fmt: skip
            if files.sha256_of(new) != entry["sha256"]:
                raise _damaged(id, path.name, url)

    # --- publishing

    @contextlib.contextmanager
    def claimed(self, key: Key) -> Iterator[None]:
        """The block builds an artifact, and no other machine does. UserError while one does, and where the bucket may
        not be written."""
        with contextlib.ExitStack() as stack:
            url = f"{self.url}/claims/{key[1]}"
            try:
                stack.enter_context(leases.held(url, key[1], self.machine, lambda: self._is_published(key)))
                self.take(key)
            except OSError as error:
                raise self._unwritten(error, f"{key[1]} is not begun") from error
            yield

    def _is_published(self, key: Key) -> bool:
        return (self.folder(key) / MANIFEST).is_file() and key not in self._unpublished()

    def begin(self, key: Key) -> None:
        """What is published on this machine in a moment is not in the bucket yet. Raises OSError."""
        mark = self.data / "unpublished" / key[0] / key[1]
        files.make_folder(mark.parent)
        files.write(mark, "")

    def publish(self, key: Key) -> None:
        """Upload what is published here and not in the bucket, what it was made from first; nothing to do otherwise.

        Where another machine has published the same artifact meanwhile, the bucket's is kept, and that is said.
        UserError where the bucket cannot be written: everything is kept here."""
        if key not in self._unpublished():
            return
        manifest = json.loads(text := (self.folder(key) / MANIFEST).read_text())
        for parent in self._unpublished():
            if parent[1] in manifest["parents"].values():
                self.publish(parent)
        try:
            for name, entry in manifest["files"].items():
                self._upload(self.folder(key) / name, entry)
            if not objects.create(self._record(key), text.encode()):
                self._lost(key, manifest)
        except OSError as error:
            raise self._unwritten(error, f"{key[1]} is complete on this machine, and not in the bucket yet") from error
        (self.data / "unpublished" / key[0] / key[1]).unlink(missing_ok=True)

    def _lost(self, key: Key, mine: dict[str, Any]) -> None:
        """Another machine was first: its answer to the same question is taken, whether or not every byte is ours."""
        self.take(key)
        same = (
            "with the same content"
            if self._manifest(key)["files"] == mine["files"]
            else "its files are used from now on"
        )
        self.say(f"another machine has published {key[1]} meanwhile: {same}")

    def _upload(self, path: Path, entry: FileEntry) -> None:
        url, note = f"{self.url}/objects/{entry['sha256']}", self.data / "cache" / "uploaded" / entry["sha256"]
        recent = note.is_file() and time.time() - note.stat().st_mtime < UPLOADED_SECONDS
        if recent and objects.size(url) == entry["bytes"]:
            return
        if entry["bytes"] >= TOLD_BYTES:
            self.say(f"uploading {path.parent.name}/{path.name}, {entry['bytes'] / 2**20:,.0f} MiB")
        objects.put_file(url, path)
        files.make_folder(note.parent)
        note.touch()

    def _unpublished(self) -> list[Key]:
        marked = [(p.parent.name, p.name) for p in self.data.glob("unpublished/*/[!.]*")]
        return [key for key in marked if (self.folder(key) / MANIFEST).is_file()]

    def _waiting(self, key: Key) -> UserError:
        return UserError(f"{key[1]} is complete on this machine, and not in the bucket yet", self.url,
                         "give the command that makes it again: it uploads what is left")  # fmt: skip

    def _unwritten(self, error: OSError, what: str) -> UserError:
        if isinstance(error, PermissionError):
            return UserError(f"{what}: the bucket may not be written with the credentials of the environment", self.url,
                             _MAY_WRITE)  # fmt: skip
        why = "there is no such bucket" if isinstance(error, FileNotFoundError) else str(error)
        return UserError(f"{what}: {why}", self.url, "check the network, and give the same command again")


_ANEW = "remove the artifact (medsae rm), and repeat its step where the parents are"


def _damaged(id: str, name: str, url: str) -> UserError:
    return UserError(f"artifact {id} is damaged: {name} in the bucket is not what was written", url, _ANEW)


def _key(path: str) -> Key | None:
    """Kind and id of a record of an artifact."""
    found = _RECORD.fullmatch(path)
    return (found[1], found[2]) if found else None


def _keep_equal(old: Path, new: Path, text: str) -> None:
    """The files of the older folder whose hash the newer manifest names too."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        before = json.loads((old / MANIFEST).read_text())["files"]
        for name, entry in json.loads(text)["files"].items():
            if before.get(name) == entry and (old / name).is_file():
                files.make_folder((new / name).parent)
                _link(old / name, new / name)


def _link(held: Path, path: Path) -> None:
    """One content under a second path: a second name of the same file, where the file system has such."""
    with contextlib.suppress(FileExistsError):  # another process was quicker
        try:
            os.link(held, path)
        except FileExistsError:
            raise
        except OSError:
            with files.replacing(path) as new:
                shutil.copyfile(held, new)
                new.chmod(files.OWN_FILE)
