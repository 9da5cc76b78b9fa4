"""SAEs of other programs, in and out: one small file a format in `offered`, each a pair of pure functions.

`read(tensors, told) -> Plain` and `write(plain, about) -> (tensors, told)` know no files; what lies on a disk is read
and written here. A plug-in registers its own by an entry point `medsae.formats`.
"""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsae import plugins
from medsae.config import check
from medsae.files import sha256_of, write
from medsae.formats.plain import Plain, checked
from medsae.progress import UserError, first_line

if TYPE_CHECKING:
    from torch import Tensor


def read(name: str, folder: Path, subtract_bias: bool | None = None) -> tuple[Plain, dict[str, Any]]:
    """The SAE of a folder (or of a file) of a format, and its origin: file, sha256, what its config says.

    `subtract_bias` overrides whether b_dec is taken from x before encoding, where a format leaves that open.
    Raises UserError for missing and damaged files, tensors that do not fit, and what this program cannot compute."""
    offer = plugins.formats.get(name)
    path = _weights(offer, folder)
    tensors, told = _contents(path)
    config = path.parent / offer.config if offer.config else None
    if config is not None:
        above = path.parent.parent / config.name
        if not config.is_file() and path.parent.name == "checkpoints" and above.is_file():
            config = above  # trainer_0/config.json, trainer_0/checkpoints/ae_100.pt
        if not config.is_file():
            raise UserError(f"a {offer.label} SAE comes with {offer.config}", config, "copy the whole folder")
        told = told | _json(config)
    check(not _other(tensors, told), "a transcoder (it rebuilds another vector than it reads) is no autoencoder", path,
          "its neurons can be scored from activations made elsewhere: embed --from")  # fmt: skip
    told |= {} if subtract_bias is None else {"subtract_bias": subtract_bias}
    try:
        plain = offer.loaded()(tensors, told)
    except KeyError as error:
        raise UserError(
            f"not an SAE of {offer.label}: {error.args[0]!r} is missing; there is {', '.join(sorted(tensors)[:8])}",
            path, "check --format",
        ) from error  # fmt: skip
    if subtract_bias is not None:
        plain = plain.with_subtraction(subtract_bias)
    origin = {"format": name, "file": path.name, "sha256": sha256_of(path)}
    return checked(plain, f"{offer.label}, {path}"), origin | {"told": json.loads(json.dumps(told, default=str))}


def write_folder(name: str, plain: Plain, about: dict[str, Any], folder: Path) -> None:
    """Write an SAE as a folder of a format; UserError for a kind that the format cannot hold."""
    offer = plugins.formats.get(name)
    if offer.write is None:
        writable = ", ".join(n for n, o in plugins.formats.all().items() if o.write)
        raise UserError(f"{offer.label} SAEs are read only", None, f"choose one of {writable}")
    tensors, told = plugins.attribute(offer.write)(checked(plain, "the SAE"), about)
    path = folder / offer.files[0]
    write(path, _bytes(path, tensors, told if offer.config is None else None))
    if offer.config is not None:
        write(folder / offer.config, json.dumps(told, indent=1, sort_keys=True))


def _other(tensors: dict[str, Tensor], told: dict[str, Any]) -> bool:
    """Whether it was trained to rebuild something else, or has a part beside encoder and decoder."""
    within, out = told.get("hook_name"), told.get("hook_name_out")
    named = told.get("is_transcoder") or told.get("is_skip_transcoder") or (out and within and out != within)
    return bool(named) or any(_ELSEWHERE.search(name) for name in tensors)


_ELSEWHERE = re.compile(r"b_dec_out|(^|_)skip(_|$)", re.I)


def _weights(offer: plugins.Format, folder: Path) -> Path:
    if folder.is_file():
        return folder
    found = [folder / name for name in offer.files if (folder / name).is_file()]
    if not found:
        below = sorted({path.parent for name in offer.files for path in folder.glob(f"**/{name}")})
        do = f"give the folder that holds it: {', '.join(map(str, below[:4]))}" if below else \
            "give the folder that holds it, or the file"  # fmt: skip
        raise UserError(f"there is no {offer.label} SAE here: {' or '.join(offer.files)} is missing", folder, do)
    return found[0]


def _contents(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name in float32, and the JSON line before them where there is one. No pickle runs code; what a
    training program put around the tensors is undone."""
    import numpy as np
    import torch
    from safetensors.torch import load_file

    from medsae.wrapped import harmless, lead, unwrapped

    told: dict[str, Any] = {}
    with path.open("rb") as file:
        pointer = file.read(24).startswith(b"version https://git-lfs")
    check(not pointer, "this is a Git LFS pointer, not the weights", path, "run git lfs pull where it came from")
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        else:
            data = path.read_bytes()
            if data[:1] == b"{":
                line, _, data = data.partition(b"\n")
                told = json.loads(line)
            with torch.serialization.safe_globals(harmless()):
                found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise whatever their reader meets first
        raise UserError(f"the weights cannot be read: {first_line(error)}", path,
                        "get the file again; a pickle that needs code to be run is refused") from error  # fmt: skip
    found, _ = unwrapped(found)
    check(bool(found), "the file holds no tensors by name", path, "give the state dict of the SAE")
    before = len(lead(list(found)))
    return {k[before:]: v.float() if v.is_floating_point() else v for k, v in found.items()}, told


def _json(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"the config of the SAE cannot be read ({error})", path, "get the file again") from error
    check(isinstance(told, dict), "the config of the SAE is no JSON object", path, "get the file again")
    return told


def _bytes(path: Path, tensors: dict[str, Tensor], line: dict[str, Any] | None) -> bytes:
    import torch
    from safetensors.torch import save

    plain = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    if path.suffix == ".safetensors":
        return save(plain)
    into = io.BytesIO()
    torch.save(plain, into)
    return (json.dumps(line) + os.linesep).encode() * (line is not None) + into.getvalue()
