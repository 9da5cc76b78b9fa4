"""Checkpoints of encoders: find the file, know its sha256, read it without running code, fit it to a network.

Under `cache`/encoders/<name>/ lie what a person put there, what was downloaded, `source.json` (where the download came
from, with its hashes) and <first 16 digits of the sha256>.safetensors, the converted copy that is read from then on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from medsae.encoders.download import fetch
from medsae.progress import Progress, UserError

WEIGHT_NAMES = ("pytorch_model.bin", "model.safetensors")
LARGEST_BYTES = 8 << 30


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights and the sha256 of the file they first came in (`path` may be the converted copy of that)."""

    path: Path
    sha256: str


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        sha256 = json.loads(source.read_text())["file_sha256"]
        for path in (_converted(folder, sha256), folder / "pytorch_model.bin"):
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
    _write_text(source, json.dumps(facts, indent=1))
    archive.unlink()
    progress.say(f"weights fetched, sha256 {sha256}")
    return Checkpoint(file, sha256)


def tensors(checkpoint: Checkpoint, folder: Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """The float32 tensors whose key begins with `prefix` (taken off), on the CPU.

    A pickle is read with weights_only (it can hold tensors, not code) and converted once to safetensors in `folder`.
    Raises UserError for a file that is not a checkpoint and for one that holds NaN or infinity.
    """
    path = checkpoint.path
    if path.suffix != ".safetensors":
        path = _converted(folder, checkpoint.sha256)
        if not path.exists():
            _convert(checkpoint, path)
        if checkpoint.path.parent == folder and (folder / "source.json").exists():
            checkpoint.path.unlink(missing_ok=True)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            found = {k[len(prefix) :]: file.get_tensor(k) for k in file.keys() if k.startswith(prefix)}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"this is not a whole safetensors file ({error})", path, "get the file again") from error
    found = {k: v.float() if v.is_floating_point() else v for k, v in found.items()}
    broken = [prefix + k for k, v in found.items() if v.is_floating_point() and not v.isfinite().all()]
    if broken:
        raise UserError(f"{len(broken)} tensors of the checkpoint hold NaN or infinity, first {broken[0]}", path)
    return found


def fit(module: torch.nn.Module, found: dict[str, torch.Tensor], what: str, where: Path, prefix: str = "") -> None:
    """Load `found` into `module`; raises UserError that names the first keys that are missing, left over or of
    another shape. `prefix` is put before the keys in the message. BatchNorm's step counters may be absent."""
    want = module.state_dict()
    missing = [k for k in want if k not in found and not k.endswith("num_batches_tracked")]
    extra = [k for k in found if k not in want]
    shapes = [
        f"{prefix}{k} {list(found[k].shape)} instead of {list(want[k].shape)}"
        for k in want
        if k in found and found[k].shape != want[k].shape
    ]
    if missing or extra or shapes:
        lines = [
            f"{len(names)} {kind}: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
            for kind, names in (
                ("keys are missing", [prefix + k for k in missing]),
                ("keys do not belong", [prefix + k for k in extra]),
                ("tensors have another shape", shapes),
            )
            if names
        ]
        raise UserError(
            f"this is not a checkpoint of {what}: {'; '.join(lines)}", where, "check --weights and --encoder"
        )
    module.load_state_dict(found, strict=False)
    module.eval().requires_grad_(False)


def _only_checkpoint(folder: Path) -> Path | None:
    """The one checkpoint in a folder or one level below it; a .bin goes before its copies in other formats."""
    for pattern in ("pytorch_model.bin", "*/pytorch_model.bin", "model.safetensors", "*/model.safetensors"):
        if files := sorted(folder.glob(pattern)):
            if len(files) > 1:
                raise UserError(f"this folder holds {len(files)} checkpoints", folder, f"name one, such as {files[0]}")
            return files[0]
    return None


def _converted(folder: Path, sha256: str) -> Path:
    return folder / f"{sha256[:16]}.safetensors"


def _convert(checkpoint: Checkpoint, to: Path) -> None:
    where = checkpoint.path
    try:
        state = torch.load(where, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        with where.open("rb") as file:
            head = file.read(60)
        raise UserError(
            f"this file cannot be read as PyTorch weights ({first}); it begins with {head!r}", where,
            "give the pytorch_model.bin of the encoder; a file that needs code to be run is refused",
        ) from error  # fmt: skip
    state = {k: v for k, v in state.items() if isinstance(v, torch.Tensor)} if isinstance(state, dict) else {}
    if not state:
        raise UserError("this file holds no dictionary of tensors", where, "give the encoder's state dict")
    to.parent.mkdir(parents=True, exist_ok=True)
    temporary = to.with_name(f".{to.name}.{os.getpid()}")
    # clone: a checkpoint may hold views of one storage, which safetensors refuses
    save_file({k: v.clone().contiguous() for k, v in state.items()}, temporary, {"source_sha256": checkpoint.sha256})
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, to)


def _unzip(archive: Path, folder: Path, url: str, do: str) -> Path:
    """The pytorch_model.bin of a zip, written to `folder` under that name only (no path of the zip is used)."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [m for m in opened.infolist() if Path(m.filename).name == "pytorch_model.bin"]
            if len(members) != 1:
                raise UserError(f"the archive holds {len(members)} files pytorch_model.bin instead of one", archive, do)
            if members[0].file_size > LARGEST_BYTES:
                raise UserError(f"the archive announces {members[0].file_size:,} bytes", archive, do)
            target, temporary = folder / "pytorch_model.bin", folder / f".pytorch_model.bin.{os.getpid()}"
            with opened.open(members[0]) as packed, temporary.open("wb") as plain:
                shutil.copyfileobj(packed, plain, 1 << 20)
                plain.flush()
                os.fsync(plain.fileno())
    except zipfile.BadZipFile as error:
        with archive.open("rb") as file:
            head = file.read(60)
        archive.unlink()
        raise UserError(f"what was downloaded is not a zip ({error}); it begins with {head!r}", url, do) from error
    os.replace(temporary, target)
    return target


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)
