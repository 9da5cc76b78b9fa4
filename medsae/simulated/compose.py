"""From a planned study to a picture: which maps are added, how the body is warped, how film or detector shows it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image
from scipy import ndimage

from medsae.simulated import devices, findings, markers, volume
from medsae.simulated.patients import Body, Study, Take
from medsae.simulated.probabilities import DEVICES, PATHOLOGIES, Planted
from medsae.simulated.projection import Canvas, Map, Pose, Prepared

VISIBLE = 0.05
"""A finding's mask holds the pixels whose line integral it changes by more than this (5 % of the light)."""

SCATTER = 0.016
"""Scattered light as a share of the unattenuated beam; it keeps dense regions from being white without end."""

FIELD_CENTRE = (174.0, 212.0)


@dataclass(frozen=True)
class Drawn:
    """A picture, the mask of every finding and device in it (bool [size, size]), and what was measured on the way."""

    picture: np.ndarray
    masks: dict[str, np.ndarray]
    ratio: float
    """Cardiothoracic ratio: widest heart over widest lungs, on the projected maps."""
    pose: Pose


def draw(prepared: Prepared, study: Study, size: int, without: frozenset[str] = frozenset()) -> Drawn:
    """Draws `study` as a uint8 picture [size, size]; `without` leaves findings out and changes nothing else."""
    poses = [i for i, pose in enumerate(prepared.quality.poses()) if pose.view == study.view()]
    number = poses[int(study.take.luck * len(poses))]
    pose, maps, canvas = prepared.quality.poses()[number], prepared.maps[number], prepared.quality.canvas()
    scene = _Scene(prepared, study, pose, maps, canvas)

    anatomy, ratio = scene.anatomy(enlarged="Cardiomegaly" not in without)
    u, v = body_warp(study.body, study.take, size)
    window = _window(anatomy, maps, canvas)
    layers = {name: scene.finding(planted) for name, planted in study.present.items()
              if name in PATHOLOGIES and name not in without}  # fmt: skip
    total = anatomy
    for layer in layers.values():
        total = total + layer
    if "Cardiomegaly" in layers:
        # The large heart is part of the anatomy; its mask is what it adds to this person's normal heart.
        layers["Cardiomegaly"] = anatomy - scene.anatomy(enlarged=False)[0]

    row, column = canvas_pixels(u, v, canvas)
    line = ndimage.map_coordinates(total, [row, column], order=1, mode="nearest")
    nearest = np.clip(np.rint(row), 0, canvas.shape()[0] - 1).astype(np.int32) * canvas.shape()[1]
    nearest += np.clip(np.rint(column), 0, canvas.shape()[1] - 1).astype(np.int32)
    masks = {name: (np.abs(layer) > max(VISIBLE, 0.15 * float(np.abs(layer).max()))).ravel()[nearest]
             for name, layer in layers.items()}  # fmt: skip

    to_picture = _PointWarp(study.body, study.take, size)
    for name in (*DEVICES, "ECG leads"):
        if name in study.present and name not in without:
            box, layer = devices.draw(
                study.present[name], prepared.landmarks, pose, to_picture, size, study.generator(name)
            )
            line[box] += layer
            if name in DEVICES:
                masks[name] = np.zeros((size, size), bool)
                masks[name][box] = layer > VISIBLE
    picture = _expose(line, window, study, size)
    markers.burn_in(picture, study, without)
    return Drawn(picture, masks, ratio, pose)


class _Scene:
    """Adds maps on the canvas of one pose."""

    def __init__(self, prepared: Prepared, study: Study, pose: Pose, maps: dict[str, Map], canvas: Canvas):
        self.prepared, self.study, self.pose, self.maps, self.canvas = prepared, study, pose, maps, canvas

    def add(self, out: np.ndarray, name: str, weight: float = 1.0) -> None:
        m = self.maps[name]
        h, w = m.values.shape
        out[m.row : m.row + h, m.column : m.column + w] += np.float32(weight) * m.values

    def between(self, out: np.ndarray, names: list[str], at: float, weight: float = 1.0) -> None:
        """Adds the two neighbours of fractional position `at` (0 is the first name, -1 is nothing)."""
        low = math.floor(at)
        for i, share in ((low, 1 - (at - low)), (low + 1, at - low)):
            if 0 <= i < len(names) and share > 0:
                self.add(out, names[i], weight * share)

    def empty(self) -> np.ndarray:
        return np.zeros(self.canvas.shape(), np.float32)

    def anatomy(self, enlarged: bool) -> tuple[np.ndarray, float]:
        """The person without findings, save the size of the heart; and the cardiothoracic ratio."""
        body, out = self.study.body, self.empty()
        self.add(out, "soft", 1 + body.fat)
        self.add(out, "bone", body.bone)
        self.add(out, "cartilage", body.cartilage)
        if body.breast_mm:
            at = np.interp(body.breast_mm, findings.BREAST_MM, range(len(findings.BREAST_MM)))
            for side in volume.SIDES:
                self.between(out, [f"breast {side} {mm:g}" for mm in findings.BREAST_MM], float(at))
        at = float(np.interp(body.aorta_mm, (0, *findings.AORTA_MM), (-1, 0, 1)))
        self.between(out, [f"aorta {mm:g}" for mm in findings.AORTA_MM], at)
        ratios = heart_ratios(self.maps, self.canvas)
        want = body.ratio if enlarged or "Cardiomegaly" not in self.study.present else 0.46
        # The person's ratio is that of a PA picture; AP magnifies the heart, as it does in life.
        want = want + (0.02 if self.pose.view == "AP" else 0.0)
        at = float(np.interp(want, ratios, range(len(ratios))))
        self.between(out, [f"heart {scale}" for scale in findings.HEART_SCALES], at)
        for side in volume.SIDES:
            arm = np.minimum(self.study.take.arms, 2.0)
            self.between(out, [f"arm {side} {i}" for i in range(3)], float(np.rint(arm)))
        return out, float(np.interp(want, ratios, ratios))

    def finding(self, planted: Planted) -> np.ndarray:
        """What one finding adds to the line integrals."""
        out, s = self.empty(), planted.severity
        rng = self.study.generator(planted.name)
        match planted.name:
            case "Cardiomegaly":
                pass
            case "Enlarged Cardiomediastinum":
                self.between(out, [f"mediastinum {mm:g}" for mm in findings.MEDIASTINUM_MM], 0.3 + 1.7 * s)
            case "Edema":
                lean = rng.normal(0, 0.12)
                for side, sign in (("right", 1), ("left", -1)):
                    weight = 1 + sign * lean
                    self.add(out, f"haze {side}", weight * (0.35 + 0.75 * s))
                    self.add(out, f"markings {side}", weight * (0.5 + 0.8 * s))
                    self.add(out, f"vessels {side}", weight * (0.5 + 0.5 * s))
            case "Pleural Effusion":
                for side in planted.places:
                    more = float(np.clip(s + rng.normal(0, 0.12), 0, 1))
                    lying = self.pose.view == "AP" and rng.random() < 0.5
                    names = [f"effusion {side} {mm:g}" for mm in findings.EFFUSION_MM]
                    self.between(out, names, 4 * more * (0.6 if lying else 1.0))
                    if lying:
                        self.add(out, f"layering {side}", 0.5 + 0.6 * more)
            case "Pneumothorax":
                for side in planted.places:
                    # Between two extents there would be two pleural lines: the nearest one is taken.
                    mm = findings.PNEUMOTHORAX_MM[int(s * len(findings.PNEUMOTHORAX_MM))]
                    self.add(out, f"pneumothorax {side} {mm:g}", rng.uniform(0.85, 1.1))
            case "Pleural Other":
                for side in planted.places:
                    name = (
                        f"cap {side}"
                        if planted.kind == "apical cap"
                        else f"thickening {side} {rng.integers(findings.VARIANTS)}"
                    )
                    self.add(out, name, 0.6 + 0.5 * s)
            case "Fracture":
                for side in planted.places:
                    names = (["clavicle"] if planted.kind == "clavicle"
                             else rng.permutation(findings.FRACTURES)[: 1 + int(s * 3)])  # fmt: skip
                    for name in names:
                        self.add(out, f"fracture {side} {name}", self.study.body.bone)
            case "Lung Opacity":
                for side in planted.places:
                    self.add(out, f"opacity {side} {rng.integers(findings.VARIANTS)}", 0.75 + 0.7 * s)
            case "Consolidation" | "Pneumonia":
                low = 0.45 if planted.name == "Consolidation" else 0.6
                for lobe in planted.places:
                    name = f"{planted.name.lower()} {lobe}"
                    first, second = rng.permutation(findings.VARIANTS)[:2]
                    mix = rng.uniform(0.6, 1)
                    self.add(out, f"{name} {first}", mix * (low + 0.6 * s))
                    self.add(out, f"{name} {second}", (1 - mix) * (low + 0.6 * s))
            case "Atelectasis":
                for lobe in planted.places:
                    if planted.kind == "collapse":
                        self.add(out, f"collapse {lobe}", 0.6 + 0.4 * s)
                    else:
                        self.plates(out, lobe, s, rng)
            case "Lung Lesion":
                for lobe in planted.places:
                    self.lesion(out, lobe, planted, rng)
            case other:
                raise AssertionError(f"no way to plant {other}")
        return out

    def patch(self, centre_uv: np.ndarray, reach_mm: float) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
        """The part of the canvas within `reach_mm` of a point, and its coordinates in mm from that point."""
        pitch, (rows, columns) = self.canvas.pitch, self.canvas.shape()
        row, column = canvas_pixels(centre_uv[0], centre_uv[1], self.canvas)
        n = int(reach_mm / pitch) + 1
        box = (
            slice(max(0, int(row) - n), min(rows, int(row) + n)),
            slice(max(0, int(column) - n), min(columns, int(column) + n)),
        )
        return box, self.canvas.u()[box[1]][None, :] - centre_uv[0], self.canvas.v()[box[0]][:, None] - centre_uv[1]

    def lesion(self, out: np.ndarray, lobe: str, planted: Planted, rng: np.random.Generator) -> None:
        """A lobulated ball in the lung: nodules up to three centimetres across, masses beyond."""
        nodule = planted.kind == "nodule"
        for _ in range(1 + int(rng.integers(3)) if nodule and planted.severity > 0.6 else 1):
            radius = (6.0 + 8 * planted.severity if nodule else 17 + 16 * planted.severity) * rng.uniform(0.9, 1.1)
            point = self.prepared.places[lobe][rng.integers(len(self.prepared.places[lobe]))]
            box, du, dv = self.patch(self.pose.project(point[None])[0], 1.7 * radius)
            angle = np.arctan2(dv, du)
            border = 1 + sum(
                rng.normal(0, 0.17 / k**0.8) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 4, 6, 9)
            )
            away = np.hypot(du, dv) / (radius * border)
            ball = np.clip(1 - away**2, 0, None) ** 0.75 + 0.12 * np.exp(-((away / 1.2) ** 4))
            out[box] += (2 * radius * 0.95 * volume.WATER_PER_MM * ball * (1.35 if nodule else 0.95)).astype(np.float32)

    def plates(self, out: np.ndarray, lobe: str, severity: float, rng: np.random.Generator) -> None:
        """Plate-like atelectasis: thin curved bands, nearly level, that do not leave the lung."""
        points = self.pose.project(self.prepared.places[lobe])
        low = points[points[:, 1] < np.quantile(points[:, 1], 0.5)] if lobe in ("RLL", "LLL") else points
        lung = self.empty()
        self.add(lung, f"lung {'right' if lobe[0] == 'R' else 'left'}")
        for _ in range(1 + int(3 * severity)):
            centre, half, thick = low[rng.integers(len(low))], rng.uniform(20, 42), rng.uniform(1.6, 3.6)
            box, du, dv = self.patch(centre, 1.3 * half)
            turn = rng.normal(0, 0.22)
            along, across = du * math.cos(turn) + dv * math.sin(turn), dv * math.cos(turn) - du * math.sin(turn)
            across = across + rng.normal(0, 5) * (along / half) ** 2
            band = np.exp(-((across / thick) ** 2)) * np.clip(1.4 - (along / half) ** 2, 0, 1)
            out[box] += (band * rng.uniform(0.28, 0.5) * np.clip(lung[box] / 0.3, 0, 1)).astype(np.float32)


def heart_ratios(maps: dict[str, Map], canvas: Canvas) -> list[float]:
    """Cardiothoracic ratio of every heart of a pose, from the widths of its map and of the lungs."""
    lungs = [maps[f"lung {side}"] for side in volume.SIDES]
    edges = [m.column + np.where((m.values > 0.05).any(0))[0][[0, -1]] for m in lungs]
    wide = max(e[1] for e in edges) - min(e[0] for e in edges)
    out = []
    for scale in findings.HEART_SCALES:
        reach = np.where((maps[f"heart {scale}"].values > 0.25).any(0))[0]
        out.append(float((reach[-1] - reach[0] + 1) / wide))
    return out


def canvas_pixels(u: np.ndarray, v: np.ndarray, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Canvas millimetres to fractional row and column."""
    return (canvas.v()[0] - v) / canvas.pitch, (u - canvas.u()[0]) / canvas.pitch


def warp_points(px: np.ndarray, py: np.ndarray, body: Body, take: Take, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which canvas millimetres (u, v) show at picture pixels (px, py): body build, breath and roll."""
    f = take.field_mm / size
    a, b = (px + 0.5 - size / 2) * f + take.centre_mm[0], (size / 2 - py - 0.5) * f + take.centre_mm[1]
    roll = math.radians(take.roll_degrees)
    a, b = a * math.cos(roll) + b * math.sin(roll), b * math.cos(roll) - a * math.sin(roll)
    up = 1 / (1 + np.exp(-(b - 75) / 25))
    down = 1 / (1 + np.exp((b + 85) / 25))
    u = FIELD_CENTRE[0] + a / (body.width + body.shoulders * up + body.waist * down)
    v = FIELD_CENTRE[1] + b / body.height
    # A deep breath shows at each height what lay higher before: the diaphragm moves down, the apex stays.
    base = np.exp(-(((v - 135) / 62) ** 2))
    v = v + 15 * take.inspiration * base
    for side, raised in zip((-1, 1), take.raised, strict=True):
        v = v - raised * base * np.exp(-(((u - (174 + side * 72)) / 48) ** 2))
    du, dv = np.zeros_like(u), np.zeros_like(v)
    for au, av, ku, kv, phase in body.waves:
        wave = np.sin(ku * u + kv * v + phase)
        du, dv = du + au * wave, dv + av * wave
    return u + du, v + dv


def body_warp(body: Body, take: Take, size: int) -> tuple[np.ndarray, np.ndarray]:
    """`warp_points` for every pixel, computed on a coarse lattice (the warp is smooth) and interpolated."""
    n = 27
    at = np.linspace(0, size - 1, n)
    u, v = warp_points(at[None, :] + np.zeros((n, 1)), at[:, None] + np.zeros((1, n)), body, take, size)
    w = _lattice(size, n)
    return (w @ u @ w.T).astype(np.float32), (w @ v @ w.T).astype(np.float32)


@lru_cache(maxsize=8)
def _lattice(size: int, n: int) -> np.ndarray:
    at = np.arange(size) / (size - 1) * (n - 1)
    return np.clip(1 - np.abs(at[:, None] - np.arange(n)[None, :]), 0, None)


class _PointWarp:
    """Canvas millimetres to picture pixels: the inverse of `warp_points`, by iteration."""

    def __init__(self, body: Body, take: Take, size: int):
        self.body, self.take, self.size = body, take, size
        self.pixels_per_mm = size / take.field_mm

    def __call__(self, uv: np.ndarray) -> np.ndarray:
        px, py = np.full(len(uv), self.size / 2.0), np.full(len(uv), self.size / 2.0)
        roll = math.radians(self.take.roll_degrees)
        for _ in range(8):
            u, v = warp_points(px, py, self.body, self.take, self.size)
            du, dv = (uv[:, 0] - u) * self.body.width, (uv[:, 1] - v) * self.body.height
            px = px + 0.9 * (du * math.cos(roll) - dv * math.sin(roll)) * self.pixels_per_mm
            py = py - 0.9 * (dv * math.cos(roll) + du * math.sin(roll)) * self.pixels_per_mm
        return np.stack([px, py], 1)


def _window(anatomy: np.ndarray, maps: dict[str, Map], canvas: Canvas) -> tuple[float, float]:
    """Line integrals shown as dark (lung) and as bright (spine and belly), from the person without findings."""
    lung = maps["lung right"]
    rows, columns = (
        slice(lung.row, lung.row + lung.values.shape[0]),
        slice(lung.column, lung.column + lung.values.shape[1]),
    )
    inside = lung.values[::4, ::4] > 0.8
    dark = float(np.percentile(anatomy[rows, columns][::4, ::4][inside], 8))
    thorax = anatomy[rows.start : rows.stop + int(30 / canvas.pitch) : 4, columns.start :: 4]
    return dark, float(np.percentile(thorax[:, : int(250 / canvas.pitch) // 4], 96))


def _expose(line: np.ndarray, window: tuple[float, float], study: Study, size: int) -> np.ndarray:
    """Line integrals to grey values: scatter, quantum noise, local contrast, characteristic curve."""
    rng, take = study.generator("noise"), study.take
    scatter = np.float32(SCATTER)

    def film(integral: np.ndarray | float) -> np.ndarray:
        return -np.log((np.exp(-np.asarray(integral, dtype=np.float32)) + scatter) / (1 + scatter))

    shown = film(line)
    dark, bright = float(film(window[0])), float(film(window[1]))
    shown = (shown - np.float32(dark)) / np.float32(bright - dark)
    # Fewer quanta arrive behind dense tissue, so noise grows towards white.
    noise = rng.standard_normal((size, size), dtype=np.float32)
    shown += np.float32(take.noise * math.exp(-take.exposure / 2)) * (0.4 + np.clip(shown, 0, 1.2)) * noise
    small = Image.fromarray(np.clip(shown, -0.6, 1.4)).resize(
        (max(2, size // 10), max(2, size // 10)), Image.Resampling.BOX
    )
    smooth = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))
    shown = shown + np.float32(0.55) * (shown - smooth)
    curve = _curve(take)
    index = (shown - np.float32(CURVE_LOW)) * np.float32(len(curve) / (CURVE_HIGH - CURVE_LOW))
    return curve[np.clip(index, 0, len(curve) - 1).astype(np.int32)]


CURVE_LOW, CURVE_HIGH = -0.8, 2.0


def _curve(take: Take) -> np.ndarray:
    """Grey values 0..255 (float32) for film densities between `CURVE_LOW` and `CURVE_HIGH`."""
    shown = np.linspace(CURVE_LOW, CURVE_HIGH, 4096)
    shown = 0.86 - take.contrast * 0.66 * (1 - shown) - 0.10 * take.exposure
    shown = np.clip(shown, 0, None) ** take.gamma
    # The shoulder of the curve: bright regions flatten instead of clipping.
    shown = np.where(shown > 0.7, 0.7 + 0.3 * np.tanh((shown - 0.7) / 0.3), shown)
    return (shown * 255).clip(0, 255).astype(np.float32)
