"""Simulated radiographs as simgemma sees them, with what was planted and roughly where: drawn once, kept in shards."""

from __future__ import annotations

import io
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from medsae import simulated
from medsae.simulated import projection

TRAINING_SEED = 910_001
"""Seed of the training patients; `HELD_OUT_SEED` draws those of the record. The demo's cohort has seed 0."""
HELD_OUT_SEED = 910_002
DRAWN_PX = 320
"""Side of a picture as it is drawn, px: those of the demo's cohort are as large."""
SIZE = 128
"""Side of a picture as the model reads it, px."""
GRID = 16
"""Side of a coarse mask; its cells are 20 px of a picture that is drawn at `DRAWN_PX`."""
SHARD = 250
"""Pictures in a file."""
Spans = tuple[tuple[int, int], ...]
"""Numbers of pictures: of each pair, from the first up to the second."""
MASKED = (
    "Cardiomegaly", "Enlarged Cardiomediastinum", "Pacemaker", "Sternal wires", "Pleural Other", "Fracture",
    "Lung Lesion", "Edema", "Pleural Effusion", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax",
    "Lung Opacity", "Endotracheal tube", "Central line", "Chest tube", "ECG leads",
)  # fmt: skip
"""What has a mask; the order of the masks' second axis."""


@dataclass(frozen=True)
class Pictures:
    """n pictures and all that is true of them."""

    x: np.ndarray
    """uint8 [n, 128, 128]."""
    f: np.ndarray
    """bool [n, factors]."""
    masks: np.ndarray
    """uint8 [n, len(MASKED), 16, 16]: 255 times the share of the cell that is covered."""
    patient: np.ndarray
    """str [n]."""
    names: list[str]
    """Of the factors."""


def seen(picture: np.ndarray) -> np.ndarray:
    """A drawn picture as it comes to the model: stored as JPEG by the cohort, made small by the image processor."""
    stored = io.BytesIO()
    Image.fromarray(picture).save(stored, "JPEG", quality=92)
    return np.asarray(Image.open(stored).resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def coarse(runs: dict[str, list[int]], px: int) -> np.ndarray:
    """Masks of one picture of px x px, uint8 [len(MASKED), 16, 16]."""
    cell = px // GRID
    out = np.zeros((len(MASKED), GRID, GRID), np.uint8)
    for i, name in enumerate(MASKED):
        if name in runs:
            mask = simulated.decode(runs[name], (px, px))
            out[i] = np.round(mask.reshape(GRID, cell, GRID, cell).mean((1, 3)) * 255)
    return out


def shard(job: tuple[Path, Path, int, int, int]) -> Path:
    """Draws `SHARD` pictures of a seed from `start` on, at `px`; what is there is kept."""
    folder, out, seed, start, px = job
    path = out / f"{start:06d}.npz"
    if not path.exists():
        prepared, plan = (
            projection.read_once(folder, simulated.quality_for(px)),
            simulated.plan(start + SHARD, seed, start),
        )
        drawn = [simulated.picture_of(prepared, study, px) for study in plan]
        part = out / f".{start:06d}.npz"
        np.savez(
            part,
            x=np.stack([seen(d.picture) for d in drawn]),
            f=np.array([list(d.factors.values()) for d in drawn], bool),
            masks=np.stack([coarse(d.masks, px) for d in drawn]),
            patient=np.array([d.patient for d in drawn]),
            names=np.array(list(drawn[0].factors)),
        )
        part.rename(path)
    return path


def pictures(cache: Path, spans: Spans, seed: int, processes: int, px: int = DRAWN_PX) -> Pictures:
    """Pictures of a seed by their numbers, drawn where they are not yet there. About 50 a second and core."""
    if any(number % SHARD for span in spans for number in span):
        raise ValueError(f"{spans}: pictures are kept in files of {SHARD}")
    folder, out = simulated.prepare(cache / "simulated", px, processes), cache / f"simgemma-{seed}-{px}"
    out.mkdir(parents=True, exist_ok=True)
    jobs = [(folder, out, seed, start, px) for span in spans for start in range(*span, SHARD)]
    if all((out / f"{start:06d}.npz").exists() for _, _, _, start, _ in jobs):
        paths = [shard(job) for job in jobs]
    else:
        with get_context("spawn").Pool(processes, simulated.one_core) as pool:
            paths = list(pool.imap(shard, jobs))
    parts = [np.load(path) for path in paths]

    def joined(key: str) -> np.ndarray:
        return np.concatenate([part[key] for part in parts])

    names = [str(name) for name in parts[0]["names"]]
    return Pictures(joined("x"), joined("f"), joined("masks"), joined("patient"), names)
