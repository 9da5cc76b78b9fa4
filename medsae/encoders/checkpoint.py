"""Checkpoints of encoders: read without running code, converted once to safetensors, fitted to a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from medsae.encoders.sources import Checkpoint, converted
from medsae.files import make_folder, replacing
from medsae.progress import UserError, first_line
from medsae.wrapped import harmless, lead, unwrapped


def tensors(
    checkpoint: Checkpoint, folder: Path, prefix: str = "", say: Callable[[str], None] | None = None
) -> dict[str, torch.Tensor]:
    """The float32 tensors whose key begins with `prefix` (taken off), on the CPU.

    A pickle is read with weights_only (it can hold tensors, not code) and converted once to safetensors in `folder`.
    Wrappers are undone, and `say` is told: a dictionary around the weights (`state_dict`, `model`), words before every
    key (`module.`). Which kind of file it is, is read from its bytes. Raises UserError for a file that is not a
    checkpoint and for one that holds NaN or infinity.
    """
    path = checkpoint.path
    if not _is_safetensors(path):
        path = converted(folder, checkpoint.sha256)
        if not path.exists():
            _convert(checkpoint, path)
        if checkpoint.path.parent == folder and (folder / "source.json").exists():
            checkpoint.path.unlink(missing_ok=True)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            keys = list(file.keys())
            before = lead(keys, prefix)
            start = before + prefix
            found = {k[len(start) :]: file.get_tensor(k) for k in keys if k.startswith(start)}
            around = (file.metadata() or {}).get("unwrapped", "")
    except SafetensorError as error:
        raise UserError(f"this is not a whole safetensors file ({error})", path, "get the file again") from error
    if say is not None and (around or before):
        parts = [f"taken out of {around!r}"] * bool(around) + [f"{before!r} taken off its keys"] * bool(before)
        say(f"the checkpoint is wrapped: {', '.join(parts)}")
    found = {k: v.float() if v.is_floating_point() else v for k, v in found.items()}
    broken = [start + k for k, v in found.items() if v.is_floating_point() and not v.isfinite().all()]
    if broken:
        raise UserError(f"{len(broken)} tensors of the checkpoint hold NaN or infinity, first {broken[0]}", path)
    return found


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


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


def _convert(checkpoint: Checkpoint, to: Path) -> None:
    where = checkpoint.path
    try:
        # opened here: of a path, torch reads the suffix
        with torch.serialization.safe_globals(harmless()), where.open("rb") as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        with where.open("rb") as file:
            head = file.read(60)
        raise UserError(
            f"this file cannot be read as PyTorch weights ({first_line(error)}); it begins with {head!r}", where,
            "give the pytorch_model.bin of the encoder; a file that needs code to be run is refused",
        ) from error  # fmt: skip
    state, around = unwrapped(state)
    if not state:
        raise UserError("this file holds no dictionary of tensors", where, "give the encoder's state dict")
    make_folder(to.parent)
    # clone: a checkpoint may hold views of one storage, which safetensors refuses
    own = {k: v.clone().contiguous() for k, v in state.items()}
    with replacing(to) as new:
        save_file(own, new, {"source_sha256": checkpoint.sha256} | ({"unwrapped": around} if around else {}))
