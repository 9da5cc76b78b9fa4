"""Many configs in as few passes over the images as memory allows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medsae import config
from medsae.device import pick
from medsae.progress import Progress, UserError
from medsae.sae.gradients.dense import CELLS_ON_GPU
from medsae.sae.stream import TokenRows
from medsae.sae.training import AUTO, TrainResult, check, train_together

SHARE_OF_MEMORY = 0.8
"""Of the memory that is free when a sweep begins."""


@dataclass(frozen=True)
class Group:
    """Configs that are trained together, by their place in the list."""

    places: tuple[int, ...]
    why: str
    """Why they are no more, for the person who waits."""


def sweep(
    x_train_nd: np.ndarray | TokenRows,
    x_holdout_nd: np.ndarray | None,
    options: list[config.Train],
    *,
    checkpoint_dirs: list[Path],
    progress: Progress,
    device: str = "auto",
    choices: Path | None = None,
) -> list[TrainResult]:
    """Train resolved configs, each as if alone (same bits on a CPU); results in the order of `options`.

    Configs of the same batch size, epochs and seed share their batches; a sweep that is larger than memory is cut into
    groups that fit, and says so. Finished members of a killed sweep are not trained again: their checkpoints are at
    the end. UserError for a bad config anywhere in the list before anything is trained."""
    for option in options:
        check(x_train_nd, x_holdout_nd, option)
    groups = plan(options, x_train_nd.shape, free_bytes(pick(device, AUTO)))
    results: dict[int, TrainResult] = {}
    for number, group in enumerate(groups, 1):
        if len(groups) > 1:
            progress.say(f"sweep, group {number} of {len(groups)}: {len(group.places)} configs ({group.why})")
        done = train_together(
            x_train_nd,
            x_holdout_nd,
            [options[i] for i in group.places],
            checkpoint_dirs=[checkpoint_dirs[i] for i in group.places],
            progress=progress,
            device=device,
            choices=choices,
        )
        results |= dict(zip(group.places, done, strict=True))
    return [results[i] for i in range(len(options))]


def plan(options: list[config.Train], shape: tuple[int, ...], free: int) -> list[Group]:
    """Groups in order of their first config. UserError if one config alone does not fit in `free` bytes."""
    n, d = shape
    alike: dict[tuple, list[int]] = {}
    for i, option in enumerate(options):
        alike.setdefault((option.batch, option.epochs, option.seed), []).append(i)
    budget, groups = int(free * SHARE_OF_MEMORY), []
    for key, places in alike.items():
        why = f"batch {key[0]}, {key[1]} epochs, seed {key[2]}"
        part: list[int] = []
        for i in places:
            if bytes_needed([options[i]], n, d) > budget:
                gib = bytes_needed([options[i]], n, d) / 2**30
                raise UserError(f"training with expansion {options[i].expansion} and batch {options[i].batch} needs "
                                f"about {gib:.1f} GiB, {budget / 2**30:.1f} GiB may be used",
                                do="choose a smaller --batch or --expansion")  # fmt: skip
            if part and bytes_needed([options[j] for j in [*part, i]], n, d) > budget:
                groups.append(Group(tuple(part), f"{why}; more do not fit in {budget / 2**30:.1f} GiB"))
                part = []
            part.append(i)
        groups.append(Group(tuple(part), why))
    return groups


def bytes_needed(options: list[config.Train], n: int, d: int) -> int:
    """Embeddings, 5 x parameters a member (weights, gradient, two moments, the copy that is saved), and for each shape
    the activations that are worked on at once: three float32 [images, m] on a GPU, in fewer images on a CPU."""
    widths = [(o.expansion or 1) * d for o in options]
    batch = options[0].batch or 1
    return 4 * (
        n * d
        + sum(5 * (2 * m * d + 2 * m + d) for m in widths)
        + sum(3 * min(batch * m, CELLS_ON_GPU) for m in set(widths))
    )


def free_bytes(device: torch.device) -> int:
    """Memory that is free on the device now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory()


def available_memory() -> int:
    """Memory of the machine that programs can still have: Linux's MemAvailable, elsewhere half of what is installed."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        facts = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(facts["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
