"""Where to compute: one place that knows what a machine has. Imports torch only when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsae.progress import UserError

if TYPE_CHECKING:
    import torch


def pick(wanted: str, auto: tuple[str, ...] = ("cuda", "mps", "cpu")) -> torch.device:
    """The device: `wanted`, or for "auto" the first of `auto` that is here. UserError for a wanted one that is not.

    `auto` leaves out what a caller does not want unasked: training goes to MPS only when told to.
    """
    import torch

    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        wanted = next(name for name in auto if here[name])
    if not here[wanted]:
        raise UserError(f"--device {wanted} is not available here", None, "leave --device out, or use --device cpu")
    return torch.device(wanted)
