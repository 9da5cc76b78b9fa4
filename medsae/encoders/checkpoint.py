"""Checkpoints of encoders: read without running code, converted once to safetensors, fitted to a network."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from medsae.encoders.sources import Checkpoint, converted
from medsae.files import make_folder, replacing
from medsae.progress import UserError


def tensors(checkpoint: Checkpoint, folder: Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """The float32 tensors whose key begins with `prefix` (taken off), on the CPU.

    A pickle is read with weights_only (it can hold tensors, not code) and converted once to safetensors in `folder`.
    Raises UserError for a file that is not a checkpoint and for one that holds NaN or infinity.
    """
    path = checkpoint.path
    if path.suffix != ".safetensors":
        path = converted(folder, checkpoint.sha256)
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
    make_folder(to.parent)
    # clone: a checkpoint may hold views of one storage, which safetensors refuses
    own = {k: v.clone().contiguous() for k, v in state.items()}
    with replacing(to) as new:
        save_file(own, new, {"source_sha256": checkpoint.sha256})
