"""Simulated radiographs as the model sees them, with everything that is true of them, drawn once and kept."""

from __future__ import annotations

import io
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from medsae import simulated
from medsae.simulated import projection

SEED = 910_001
"""Seed of the training patients; SEED + 1 draws the held-out patients of the record."""
SIZE = 128
"""Side of the model's input in px."""
DRAWN = 320
"""Side of the drawn picture, the demo's: it is packed as JPEG and made smaller as the program does."""
CELLS = 16
SHARD = 250
MASKED = (
    "Cardiomegaly", "Enlarged Cardiomediastinum", "Pacemaker", "Sternal wires", "Pleural Other", "Fracture",
    "Lung Lesion", "Edema", "Pleural Effusion", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax",
    "Lung Opacity", "Endotracheal tube", "Central line", "Chest tube", "ECG leads",
)  # fmt: skip
"""Findings and devices whose pixels the tower is asked for while it trains."""


@dataclass(frozen=True)
class Pictures:
    """n pictures and their truth."""

    x: np.ndarray
    """uint8 [n, SIZE, SIZE]."""
    f: np.ndarray
    """bool [n, factors]."""
    masks: np.ndarray
    """uint8 [n, masked, CELLS, CELLS]: share of a cell's pixels that show it, 0 to 255."""
    patient: np.ndarray
    """int [n]."""
    names: tuple[str, ...]
    """The factors' names."""


def draw(cache: Path, images: int, seed: int, processes: int) -> Pictures:
    """The pictures of one seed, from `cache` where they have been drawn before."""
    folder, out = simulated.prepare(cache / "simulated", DRAWN, processes), cache / f"simgemma-{seed}"
    out.mkdir(parents=True, exist_ok=True)
    jobs = [(folder, out, seed, start, min(images, start + SHARD)) for start in range(0, images, SHARD)]
    with get_context("spawn").Pool(processes, simulated.one_core) as pool:
        shards = [np.load(path) for path in pool.imap(_shard, jobs)]
    x, f, masks, patient = (np.concatenate([s[key] for s in shards]) for key in ("x", "f", "masks", "patient"))
    return Pictures(x, f, masks, patient, tuple(str(name) for name in shards[0]["names"]))


def _shard(job: tuple[Path, Path, int, int, int]) -> Path:
    folder, out, seed, start, stop = job
    path = out / f"{start:06d}-{stop:06d}.npz"
    if not path.exists():
        prepared = projection.read_once(folder, simulated.quality_for(DRAWN))
        studies = simulated.plan(stop, seed, start)
        drawn = [simulated.picture_of(prepared, study, DRAWN) for study in studies]
        part = out / f".{path.name}"
        np.savez(
            part,
            x=np.stack([seen(d.picture) for d in drawn]),
            f=np.array([list(d.factors.values()) for d in drawn], bool),
            masks=np.stack([_coarse(d.masks) for d in drawn]),
            patient=np.array([study.patient for study in studies]),
            names=np.array(list(drawn[0].factors)),
        )
        part.rename(path)
    return path


def seen(picture: np.ndarray) -> np.ndarray:
    """uint8 [h, w] -> uint8 [SIZE, SIZE], through the same JPEG and the same resizing as a picture of a cohort."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=90)
    return np.asarray(Image.open(buffer).resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def _coarse(masks: dict[str, list[int]]) -> np.ndarray:
    out, side = np.zeros((len(MASKED), CELLS, CELLS), np.uint8), DRAWN // CELLS
    for i, name in enumerate(MASKED):
        if name in masks:
            whole = simulated.decode(masks[name], (DRAWN, DRAWN)).reshape(CELLS, side, CELLS, side)
            out[i] = (whole.mean((1, 3)) * 255).astype(np.uint8)
    return out
