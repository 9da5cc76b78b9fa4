"""The pictures of a cohort as the steps after ingest read them: only the ones that the cohort was made of."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from medsae.cohorts import buckets
from medsae.cohorts.pictures import PictureChanged, PictureError, PictureMissing, decode, read
from medsae.progress import UserError
from medsae.store.artifacts import Artifact


class Pictures:
    """Decoded on demand by image number: uint8 grey [h, w]. Safe to use from threads."""

    def __init__(self, cohort: Artifact):
        self._cohort, self._lock, self._start = cohort, threading.Lock(), -1
        self._block: list[bytes] = []
        self._counting = threading.Lock()
        self._refused: UserError | None = None
        with cohort.connect() as connection:
            rows = connection.execute("SELECT path, sha256 FROM image ORDER BY image").fetchall()
            stored = connection.execute("SELECT count(*) FROM picture").fetchone()
        self._paths, self._sha256s = [row[0] for row in rows], [row[1] for row in rows]
        self._stored, self._root = bool(stored and stored[0]), Path(cohort.facts["root"])
        remote = not self._stored and buckets.url_of(self._root) is not None
        self._ahead = buckets.Ahead(self._file, len(self._paths)) if remote else None
        if (
            not self._stored
            and not remote
            and self._paths
            and not (self._root / self._paths[0]).exists()
            and not self._root.is_dir()
        ):
            raise UserError("the cohort's pictures are gone", self._root, "bring the folder back, or ingest again")

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, image: int) -> np.ndarray:
        """Raises ValueError where a picture cannot be decoded; UserError, for the whole cohort, where its file is not
        the one that ingest saw (of a cohort that was made without looking at pictures no file is another)."""
        path = self._root / self._paths[image]
        try:
            if self._stored:
                return decode(self._stored_bytes(image))
            return decode(self._ahead[image] if self._ahead else self._file(image))
        except PictureError as error:
            if isinstance(error, PictureChanged | PictureMissing) and self._sha256s[image]:
                raise self._refusal(f"{path}: {error}") from error
            raise ValueError(str(error)) from error

    def _file(self, image: int) -> bytes:
        return read(self._root / self._paths[image], self._sha256s[image])

    def _refusal(self, first: str) -> UserError:
        """What to tell of the whole cohort once one picture is unlike: how many are, and what to do. Reads them all."""
        with self._counting:
            if self._refused is None:
                found = list(self._compared())
                changed, missing = found.count(PictureChanged), found.count(PictureMissing)
                self._refused = UserError(
                    f"{changed + missing:,} of {len(self):,} pictures are not those that the cohort was made of"
                    f" ({changed:,} changed, {missing:,} missing)", first, new_cohort(self._cohort),
                )  # fmt: skip
            return self._refused

    def _compared(self) -> Iterator[type[PictureError] | None]:
        def compare(image: int) -> type[PictureError] | None:
            try:
                read(self._root / self._paths[image], self._sha256s[image])
            except PictureError as error:
                return type(error)
            return None

        with ThreadPoolExecutor() as pool:  # hashing and reading let other threads work
            yield from pool.map(compare, range(len(self)))

    def _stored_bytes(self, image: int) -> bytes:
        """Blobs are read 256 at a time: a query each would cost more than the decoding."""
        with self._lock:
            start = image // 256 * 256
            if not self._start <= image < self._start + len(self._block) or self._start != start:
                query = "SELECT jpeg FROM picture WHERE image >= ? AND image < ? ORDER BY image"
                with self._cohort.connect() as connection:
                    self._block = [r[0] for r in connection.execute(query, [start, start + 256]).fetchall()]
                self._start = start
            return self._block[image - start]


def stored_bytes(cohort: Artifact, images: Sequence[int]) -> dict[int, bytes]:
    """The pictures that a cohort keeps itself (simulated ones), of these images, as they are stored."""
    with cohort.connect() as connection:
        rows = connection.execute("SELECT image, jpeg FROM picture WHERE image IN (SELECT unnest(?))", [list(images)])
        return dict(rows.fetchall())


def new_cohort(cohort: Artifact) -> str:
    """What to do where pictures are unlike: bring them back, or the command that makes a cohort of what is there."""
    command = cohort.manifest.get("command") or ["python", "-m", "medsae", "ingest", "--help"]
    return f"bring the pictures back, or make a new cohort of what is there now: {shlex.join(command)}"
