"""Where each encoder's weights lie on disk: what a person names, what a package ships, what is fetched once. No torch.

Under `cache`/encoders/<name>/ lie what a person put there, what was downloaded, `source.json` (where the download came
from, with its hashes) and <first 16 digits of the sha256>.safetensors, the converted copy that is read from then on.
"""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medsae import seals
from medsae.encoders.download import fetch
from medsae.files import replacing, sha256_of, write
from medsae.progress import Progress, UserError

WEIGHT_NAMES = ("pytorch_model.bin", "model.safetensors")
LARGEST_BYTES = 8 << 30


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights and the sha256 of the file they first came in (`path` may be the converted copy of that)."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Files:
    """Every file that decides an embedding: what the identity of an encoder is."""

    model: str
    """Short name of the model and of what is taken of it, for slugs and titles."""
    weights: Checkpoint
    hashes: dict[str, str]
    """Role (`weights`, `config`, `preprocessing`, ...) -> hex sha256. What is fixed in the program's code has none."""

    @staticmethod
    def single(wanted: Wanted, weights: Checkpoint) -> Files:
        """Of an encoder whose weights alone are a file, and of which its own vector or its tokens can be taken."""
        pool = wanted.options.pool
        if pool not in (None, "tokens"):
            raise UserError(f"--pool {pool}: {wanted.name} has one vector, and tokens", None,
                            "leave --pool out, or use --pool tokens")  # fmt: skip
        return Files(f"{wanted.name}-{pool}" if pool else wanted.name, weights, {"weights": weights.sha256})


@dataclass(frozen=True)
class Wanted:
    """What `load`, `files` and `text` of a registered encoder are called with."""

    name: str
    """The whole word on the command line."""
    weights: Path | None
    """A checkpoint that a person names instead of the encoder's own."""
    cache: Path
    """The program's cache folder."""
    progress: Progress
    options: Any
    """An instance of the offer's `options` (or of a class that inherits it, such as the command's config)."""


def folder_of(name: str, cache: Path) -> Path:
    """The encoder's own folder in the cache."""
    return cache / "encoders" / name


def given(path: Path) -> Checkpoint:
    """The checkpoint a person names: a file, or a folder with one in it. Raises UserError where there is none."""
    if not path.exists():
        raise UserError("there are no weights at this path", path, "check --weights")
    file = path if path.is_file() else _only_checkpoint(path)
    if file is None:
        raise UserError(
            "this folder holds no checkpoint", path, f"give a folder with {' or '.join(WEIGHT_NAMES)}, or the file"
        )
    return Checkpoint(file, sha256_of(file))


def cached(folder: Path, url: str, progress: Progress) -> Checkpoint:
    """The checkpoint in the encoder's cache `folder`: put there by a person, fetched before, or fetched now from `url`.

    `url` names a zip with one pytorch_model.bin in it. Raises UserError that says where to get it and where to put it.
    """
    source = folder / "source.json"
    if source.exists():
        try:
            sha256 = seals.read(source)["file_sha256"]
        except (ValueError, KeyError) as error:
            raise UserError(
                f"the note on the weights is damaged: {error}", source, "remove it: it is made again"
            ) from error
        for path in (converted(folder, sha256), folder / "pytorch_model.bin"):
            if path.exists():
                return Checkpoint(path, sha256)
    placed = _only_checkpoint(folder) if folder.is_dir() else None
    if placed is not None and not source.exists():
        return Checkpoint(placed, sha256_of(placed))
    archive = folder / url.rsplit("/", 1)[-1]
    do = (
        f"get the file on a machine with internet and put it (the zip, or the pytorch_model.bin in it) into {folder}, "
        "or give --weights PATH"
    )
    if not archive.exists():
        progress.say(f"weights are not on this machine: downloading {url}")
        fetch(url, archive, progress, do)
    file = _unzip(archive, folder, url, do)
    sha256 = sha256_of(file)
    facts = dict(url=url, zip_sha256=sha256_of(archive), zip_bytes=archive.stat().st_size, file=file.name)
    facts |= dict(file_sha256=sha256, file_bytes=file.stat().st_size, fetched=datetime.now(UTC).isoformat())
    write(source, seals.text(facts))
    archive.unlink()
    progress.say(f"weights fetched, sha256 {sha256}")
    return Checkpoint(file, sha256)


def _only_checkpoint(folder: Path) -> Path | None:
    """The one checkpoint in a folder or one level below it; a .bin goes before its copies in other formats."""
    for pattern in ("pytorch_model.bin", "*/pytorch_model.bin", "model.safetensors", "*/model.safetensors"):
        if files := sorted(folder.glob(pattern)):
            if len(files) > 1:
                raise UserError(f"this folder holds {len(files)} checkpoints", folder, f"name one, such as {files[0]}")
            return files[0]
    return None


def converted(folder: Path, sha256: str) -> Path:
    return folder / f"{sha256[:16]}.safetensors"


def _unzip(archive: Path, folder: Path, url: str, do: str) -> Path:
    """The pytorch_model.bin of a zip, written to `folder` under that name only (no path of the zip is used)."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [m for m in opened.infolist() if Path(m.filename).name == "pytorch_model.bin"]
            if len(members) != 1:
                raise UserError(f"the archive holds {len(members)} files pytorch_model.bin instead of one", archive, do)
            if members[0].file_size > LARGEST_BYTES:
                raise UserError(f"the archive announces {members[0].file_size:,} bytes", archive, do)
            target = folder / "pytorch_model.bin"
            with opened.open(members[0]) as packed, replacing(target) as new, new.open("wb") as plain:
                shutil.copyfileobj(packed, plain, 1 << 20)
    except zipfile.BadZipFile as error:
        with archive.open("rb") as file:
            head = file.read(60)
        archive.unlink()
        raise UserError(f"what was downloaded is not a zip ({error}); it begins with {head!r}", url, do) from error
    return target
