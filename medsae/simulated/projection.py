"""Projecting volumes along the rays of an X-ray tube, once a pose, and keeping the results in a cache.

A pose is a projection (PA or AP), a turn and a tilt. Rays spread from the tube; the plane in the middle of the body
keeps its size. Every coronal slice then lands on the detector scaled and shifted, so its projection is two products
with thin interpolation matrices.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from medsae import files, seals
from medsae.progress import Progress, Silent, UserError
from medsae.simulated import findings, volume
from medsae.simulated.volume import Grid

VERSION = 1
"""Raised whenever volume.py, findings.py or this file would give other maps: an older cache is then made anew."""

_IDENTITY = "identity.json"

CENTRE = (174.0, 165.0, 205.0)
"""The central ray's crossing with the middle of the body, in mm."""

LEFT_MM, BOTTOM_MM, WIDE_MM, HIGH_MM = -60.0, -10.0, 470.0, 400.0
"""The canvas: what part of the plane in the middle of the body is mapped."""


@dataclass(frozen=True)
class Pose:
    """Degrees: `turn` > 0 brings the patient's left side forward, `tilt` > 0 looks from above."""

    view: str
    turn: float
    tilt: float

    def distance(self) -> float:
        """mm from the tube to the middle of the body."""
        return 1650.0 if self.view == "PA" else 900.0

    def magnification(self, y: np.ndarray | float) -> np.ndarray:
        """Size on the detector of what lies at depth y (mm), relative to the middle of the body."""
        towards = (np.asarray(y) - CENTRE[1]) * (1 if self.view == "PA" else -1)
        return self.distance() / (self.distance() + towards)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points [n, 3] in mm to canvas millimetres [n, 2] (u to the patient's left, v upwards)."""
        points = np.asarray(points, dtype=np.float64)
        m, deep = self.magnification(points[:, 1]), points[:, 1] - CENTRE[1]
        u = CENTRE[0] + (points[:, 0] - CENTRE[0]) * m + deep * math.tan(math.radians(self.turn))
        v = CENTRE[2] + (points[:, 2] - CENTRE[2]) * m + deep * math.tan(math.radians(self.tilt))
        return np.stack([u, v], 1)


POSES = (
    Pose("PA", 0.0, 0.0), Pose("PA", 4.0, 1.5), Pose("PA", -4.0, 1.5), Pose("PA", 1.5, -3.0), Pose("PA", -7.0, -1.0),
    Pose("PA", 7.0, 0.0), Pose("AP", 0.0, 3.0), Pose("AP", 5.0, 5.0), Pose("AP", -5.0, 5.0), Pose("AP", 2.0, -3.0),
    Pose("AP", -9.0, 1.0), Pose("AP", 9.0, 2.0),
)  # fmt: skip
FEW_POSES = (POSES[0], POSES[6])


@dataclass(frozen=True)
class Canvas:
    """The plane that maps are kept on."""

    pitch: float

    def shape(self) -> tuple[int, int]:
        return round(HIGH_MM / self.pitch), round(WIDE_MM / self.pitch)

    def u(self) -> np.ndarray:
        return LEFT_MM + (np.arange(self.shape()[1]) + 0.5) * self.pitch

    def v(self) -> np.ndarray:
        """From the top of the picture downwards."""
        return BOTTOM_MM + HIGH_MM - (np.arange(self.shape()[0]) + 0.5) * self.pitch


@dataclass(frozen=True)
class Map:
    """A piece of a canvas: line integrals `values` [rows, columns] (no unit) whose first pixel is `row`, `column`."""

    row: int
    column: int
    values: np.ndarray


def project(values: np.ndarray, origin: tuple[int, int, int], grid: Grid, pose: Pose, canvas: Canvas) -> Map:
    """Line integrals of attenuation `values` [x, y, z] (1/mm) placed at voxel `origin` of `grid`."""
    nx, ny, nz = values.shape
    x, y, z = (axis[o : o + n] for axis, o, n in zip((grid.x, grid.y, grid.z), origin, (nx, ny, nz), strict=True))
    dx, dy, dz = grid.spacing()
    m, deep = pose.magnification(y), y - CENTRE[1]
    shift_u, shift_v = (deep * math.tan(math.radians(angle)) for angle in (pose.turn, pose.tilt))

    def span(axis: np.ndarray, centre: float, shift: np.ndarray, to: np.ndarray, d: float) -> tuple[int, int]:
        ends = [centre + (e - centre) * m + shift for e in (axis[0] - d, axis[-1] + d)]
        reach = np.where((to >= min(e.min() for e in ends)) & (to <= max(e.max() for e in ends)))[0]
        return (int(reach[0]), int(reach[-1]) + 1) if len(reach) else (0, 1)

    c0, c1 = span(x, CENTRE[0], shift_u, canvas.u(), dx)
    r0, r1 = span(z, CENTRE[2], shift_v, canvas.v(), dz)
    columns, column_weights = _taps(canvas.u()[c0:c1], x, CENTRE[0], m, shift_u, dx, canvas.pitch)
    rows, row_weights = _taps(canvas.v()[r0:r1], z, CENTRE[2], m, shift_v, dz, canvas.pitch)
    padded = np.pad(values, ((PAD, PAD), (0, 0), (PAD, PAD)))
    out = np.zeros((r1 - r0, c1 - c0), np.float32)
    for j in range(ny):
        plane = np.ascontiguousarray(padded[:, j].T)
        if plane.any():
            tall = sum(row_weights[j, k][:, None] * plane[rows[j, k]] for k in range(rows.shape[1]))
            assert isinstance(tall, np.ndarray)
            out += sum(tall[:, columns[j, k]] * column_weights[j, k] for k in range(columns.shape[1]))
    return Map(r0, c0, out * dy)


PAD = 3
"""Voxels of nothing around a box, where interpolation reaches beyond it."""


def _taps(to: np.ndarray, axis: np.ndarray, centre: float, m: np.ndarray, shift: np.ndarray, spacing: float,
          pitch: float) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Padded voxel indices and linear interpolation weights [depths, taps, to] of detector positions `to`.

    The hat is as wide as the coarser of the two spacings; weights add up to one, so no ripple of the two shows."""
    at = (centre + (to[None, :] - centre - shift[:, None]) / m[:, None] - axis[0]) / spacing
    width = np.maximum(1.0, pitch / (spacing * m))[:, None, None]
    n = int(np.floor(2 * width.max() - 1e-9)) + 1
    index = np.floor(at[:, None, :] - width + 1e-9).astype(np.int64) + 1 + np.arange(n)[None, :, None]
    weight = np.clip(1 - np.abs(index - at[:, None, :]) / width, 0, None)
    weight /= np.maximum(weight.sum(1, keepdims=True), 1e-9)
    return np.clip(index + PAD, 0, len(axis) + 2 * PAD - 1), weight.astype(np.float32)


@dataclass(frozen=True)
class Quality:
    """How finely the thorax is projected; `coarse` is for small pictures and tests."""

    coarse: bool

    def canvas(self) -> Canvas:
        return Canvas(2.5 if self.coarse else 1.25)

    def poses(self) -> tuple[Pose, ...]:
        return FEW_POSES if self.coarse else POSES

    def slug(self) -> str:
        return "simulated-coarse" if self.coarse else "simulated"


@dataclass(frozen=True)
class Prepared:
    """Everything pictures are composed from."""

    quality: Quality
    maps: tuple[dict[str, Map], ...]
    """A dictionary of maps a pose."""
    places: dict[str, np.ndarray]
    landmarks: dict[str, list[list[float]]]


def one_core() -> None:
    """Begins a worker process: linear algebra on one thread, where two a process made drawing 3 times slower."""
    threadpool_limits(1)


def prepare(cache: Path, quality: Quality, processes: int = 2, progress: Progress | None = None) -> Path:
    """Makes the folder of maps under `cache` unless it is there; returns it. UserError when it cannot be written."""
    progress = progress or Silent()
    data = volume.data_folder()
    folder = cache / quality.slug()
    identity = {"version": VERSION, "ct_bytes": (data / "cxr.nii.gz").stat().st_size}
    found = _identity(folder)
    if found is not None and found.items() >= identity.items():
        if (damaged := _damaged(folder, found)) is None:
            return folder
        progress.say(f"the prepared thorax in {folder} is damaged ({damaged}): made anew")
    elif found is not None:
        progress.say(f"the prepared thorax in {folder} is of version {found.get('version')}, not {VERSION}: made anew")
    building = cache / f".{quality.slug()}-{os.getpid()}"
    try:
        files.make_folder(building)
    except OSError as error:
        raise UserError(f"the prepared thorax cannot be kept: {error.strerror}", where=cache,
                        do="give a folder that can be written with --data") from error  # fmt: skip
    try:
        _build(data, quality, building, processes, progress)
        made = {path.name: files.sha256_of(path) for path in sorted(building.iterdir())}
        files.write(building / _IDENTITY, seals.text({**identity, "files": made}))
        _publish(building, folder, identity)
    except OSError as error:
        raise UserError(f"the prepared thorax cannot be kept: {error.strerror}", where=cache,
                        do="free 80 MiB or give another folder with --data") from error  # fmt: skip
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def _identity(folder: Path) -> dict[str, Any] | None:
    """What a prepared folder says it is; None where there is none. A damaged one is of no version."""
    if not folder.exists():
        return None
    try:
        return seals.read(folder / _IDENTITY)
    except (OSError, ValueError):
        return {}


def _damaged(folder: Path, identity: dict[str, Any]) -> str | None:
    """The first file that is not what was written (0.1 s for 70 MiB); a folder from before this was kept is trusted."""
    for name, sha256 in identity.get("files", {}).items():
        if not (folder / name).is_file() or files.sha256_of(folder / name) != sha256:
            return name
    return None


def _publish(building: Path, folder: Path, identity: dict[str, Any]) -> None:
    """One rename; when another process was faster with the same version, its folder stays."""
    if folder.exists():
        found = _identity(folder) or {}
        if found.items() >= identity.items() and _damaged(folder, found) is None:
            return
        shutil.rmtree(folder)
    files.publish(building, folder)


def _build(data: Path, quality: Quality, folder: Path, processes: int, progress: Progress) -> None:
    thorax = volume.load(data, quality.coarse)
    small = volume.lower_resolution(thorax)
    chest = volume.chest(small)
    np.savez(folder / "places.npz", **findings.places(chest))  # pyright: ignore[reportArgumentType]
    files.write(folder / "landmarks.json", json.dumps(findings.landmarks(small)))
    poses = quality.poses()
    global _shared
    _shared = (thorax, small, chest)
    with progress.task("plant and project findings", len(findings.FAMILIES) + len(poses), "families") as task:
        jobs = [(poses, family, quality) for family in ("anatomy", *findings.FAMILIES)]
        maps: list[dict[str, Map]] = [{} for _ in poses]
        # fork: the volumes (a quarter of a GiB) are shared, not sent.
        with get_context("fork").Pool(processes, one_core) if processes > 1 else nullcontext() as pool:
            for made in pool.imap(_project_family, jobs) if pool else map(_project_family, jobs):
                for pose_maps, new in zip(maps, made, strict=True):
                    pose_maps.update(new)
                task.advance()
        for number, pose_maps in enumerate(maps):
            _save(folder, number, pose_maps)
            task.advance()
    _shared = None


_shared: tuple[volume.Thorax, volume.Thorax, volume.Thorax] | None = None


def _project_family(job: tuple[tuple[Pose, ...], str, Quality]) -> list[dict[str, Map]]:
    """Plants one family of findings (or takes the anatomy itself) and projects it for every pose."""
    poses, family, quality = job
    assert _shared is not None
    thorax, small, chest = _shared
    canvas = quality.canvas()
    if family == "anatomy":
        cartilage = np.where(small.mask(volume.CARTILAGE), np.float32(0.012), 0)
        whole = (
            ("soft", thorax.soft, thorax.grid),
            ("bone", thorax.bone, thorax.grid),
            ("cartilage", cartilage, small.grid),
        )
        return [
            {n: project(v, (0, 0, 0), grid, pose, canvas) for n, v, grid in whole} | _arms(canvas) for pose in poses
        ]
    parts = findings.components(chest, family)
    return [{p.name: project(p.values, p.origin, chest.grid, pose, canvas) for p in parts} for pose in poses]


def _arms(canvas: Canvas) -> dict[str, Map]:
    """Arms beside the body at three angles: muscle that tapers around a hollow bone (drawn, not from the CT)."""
    maps, u, v = {}, canvas.u()[None, :], canvas.v()[:, None]
    for side, sign in (("right", -1), ("left", 1)):
        for i, out in enumerate((14.0, 40.0, 78.0)):
            top, foot = (CENTRE[0] + sign * 152, 292.0), (CENTRE[0] + sign * (172 + out), 20.0)
            axis = np.array(foot) - np.array(top)
            t = ((u - top[0]) * axis[0] + (v - top[1]) * axis[1]) / (axis**2).sum()
            du, dv = u - top[0] - np.clip(t, 0, 1.2) * axis[0], v - top[1] - np.clip(t, 0, 1.2) * axis[1]
            away, muscle = np.sqrt(du**2 + dv**2), 46 - 10 * np.clip(t, 0, 1)
            soft = 2 * np.sqrt(np.clip(muscle**2 - away**2, 0, None)) * volume.WATER_PER_MM * 0.97
            head = 11.5 + 10 * np.exp(-(((t - 0.02) / 0.09) ** 2))
            shell = 2 * (
                np.sqrt(np.clip(head**2 - away**2, 0, None))
                - 0.8 * np.sqrt(np.clip((head - 4) ** 2 - away**2, 0, None))
            )
            maps[f"arm {side} {i}"] = Map(0, 0, (soft + shell * 0.018).astype(np.float32))
    return maps


def _save(folder: Path, number: int, maps: dict[str, Map]) -> None:
    index, flat, at = {}, [], 0
    for name, m in maps.items():
        index[name] = [at, m.row, m.column, *m.values.shape]
        flat.append(m.values.astype(np.float16).ravel())
        at += flat[-1].size
    np.save(folder / f"pose{number:02d}.npy", np.concatenate(flat))
    files.write(folder / f"pose{number:02d}.json", json.dumps(index))


def read(folder: Path, quality: Quality) -> Prepared:
    """Reads a prepared folder (0.3 s, 150 MiB)."""
    poses = []
    for number in range(len(quality.poses())):
        flat = np.load(folder / f"pose{number:02d}.npy", mmap_mode="r")
        index = json.loads((folder / f"pose{number:02d}.json").read_text())
        poses.append({name: Map(r, c, np.asarray(flat[at : at + h * w], dtype=np.float32).reshape(h, w))
                      for name, (at, r, c, h, w) in index.items()})  # fmt: skip
    with np.load(folder / "places.npz") as places:
        return Prepared(quality, tuple(poses), dict(places), json.loads((folder / "landmarks.json").read_text()))


@lru_cache(maxsize=2)
def read_once(folder: Path, quality: Quality) -> Prepared:
    """`read`, kept for the life of a process."""
    return read(folder, quality)
