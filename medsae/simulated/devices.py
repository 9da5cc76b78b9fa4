"""Lines, tubes, wires and pacemakers: curves in the body that follow its landmarks, drawn into the line integrals.

Curves are given in mm in the body, projected with the pose, bent with the body and drawn four times finer than the
picture. A tube is drawn as nested strokes, so its walls and its radio-opaque stripe show.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline

from medsae.simulated.probabilities import Planted
from medsae.simulated.projection import Pose

Box = tuple[slice, slice]
Warp = Callable[[np.ndarray], np.ndarray]
FINE = 4
FULL = 3.2
"""Line integral of the densest device part (metal)."""


class _Pen:
    """Strokes and outlines in picture coordinates; brightness 0..1 of `FULL`."""

    def __init__(self, pose: Pose, warp: Warp, size: int):
        self.pose, self.warp, self.size = pose, warp, size
        self.scale: float = warp.pixels_per_mm  # pyright: ignore[reportFunctionMemberAccess]
        self.strokes: list[tuple[np.ndarray, float, float]] = []
        self.shapes: list[tuple[np.ndarray, float]] = []

    def flat(self, points_mm: np.ndarray) -> np.ndarray:
        return self.warp(self.pose.project(points_mm))

    def curve(self, points_mm: np.ndarray, width_mm: float, level: float) -> None:
        """A smooth curve through points [n, 3]."""
        self.strokes.append((self.flat(smooth(points_mm)), width_mm * self.scale, level))

    def tube(self, points_mm: np.ndarray, width_mm: float, wall: float, bore: float, stripe: float) -> None:
        """A tube: walls, a less dense bore, and a thin stripe along it."""
        line = self.flat(smooth(points_mm))
        for width, level in ((width_mm, wall), (0.62 * width_mm, bore), (0.9, stripe)):
            self.strokes.append((line, width * self.scale, level))

    def outline(self, points_mm: np.ndarray, level: float) -> None:
        """A filled shape through corners [n, 3]."""
        self.shapes.append((self.flat(points_mm), level))

    def render(self) -> tuple[Box, np.ndarray]:
        """The box of the picture that was drawn on, and the line integrals to add there."""
        margin = 3 + max([width for _, width, _ in self.strokes], default=0)
        ends = np.concatenate([line for line, *_ in (*self.strokes, *self.shapes)])
        low = np.clip(np.floor(ends.min(0) - margin), 0, self.size - 1).astype(int)
        high = np.clip(np.ceil(ends.max(0) + margin), low + 1, self.size).astype(int)
        image = Image.new("L", tuple((FINE * (high - low)).tolist()))
        pen = ImageDraw.Draw(image)
        for line, level in self.shapes:
            pen.polygon([tuple(p) for p in FINE * (line - low)], fill=round(255 * level))
        for line, width, level in self.strokes:
            points = FINE * (line - low)
            pixels = max(1, round(FINE * width))
            # Thinner than the fine grid can show: fainter instead.
            fill = round(255 * level * min(1.0, FINE * width))
            pen.line([tuple(p) for p in points], fill=fill, width=pixels, joint="curve")
            r = pixels / 2
            for x, y in points[[0, -1]]:
                pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        layer = np.asarray(image.reduce(FINE), dtype=np.float32) * np.float32(FULL / 255)
        return (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))), layer


def smooth(points_mm: np.ndarray, n: int = 90) -> np.ndarray:
    """A cubic spline through points [k, 3], sampled at `n` places."""
    points = np.asarray(points_mm, dtype=np.float64)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    return CubicSpline(length, points)(np.linspace(0, length[-1], n))


def draw(planted: Planted, landmarks: dict[str, list[list[float]]], pose: Pose, warp: Warp, size: int,
         rng: np.random.Generator) -> tuple[Box, np.ndarray]:  # fmt: skip
    """Line integrals that one device adds: the box of the picture [size, size] and the layer inside it."""
    pen = _Pen(pose, warp, size)
    marks = {name: np.array(points) for name, points in landmarks.items()}
    match planted.name:
        case "Pacemaker":
            _pacemaker(pen, marks, planted, rng)
        case "Sternal wires":
            _sternal_wires(pen, marks, rng)
        case "Endotracheal tube":
            _endotracheal_tube(pen, marks, rng)
        case "Central line":
            _central_line(pen, marks, planted, rng)
        case "Chest tube":
            _chest_tube(pen, planted, rng)
        case "ECG leads":
            _ecg_leads(pen, rng)
        case other:
            raise AssertionError(f"no way to draw {other}")
    return pen.render()


def _sign(planted: Planted) -> int:
    return 1 if planted.places[0] == "left" else -1


def _at(line: np.ndarray, z: float) -> np.ndarray:
    """The point of a centre line at height z, held at its ends."""
    order = np.argsort(line[:, 2])
    return np.array([np.interp(z, line[order, 2], line[order, 0]), np.interp(z, line[order, 2], line[order, 1]), z])


def _pacemaker(pen: _Pen, marks: dict[str, np.ndarray], planted: Planted, rng: np.random.Generator) -> None:
    """A generator under the collarbone and one or two leads through the veins into the right heart."""
    sign = _sign(planted)
    centre = np.array([174 + sign * rng.uniform(82, 100), 292.0, rng.uniform(258, 276)])
    turn, half_w, half_h = rng.normal(sign * 0.35, 0.25), rng.uniform(20, 25), rng.uniform(18, 22)

    def place(shape: np.ndarray) -> np.ndarray:
        c, s = math.cos(turn), math.sin(turn)
        x, z = shape[:, 0] * c - shape[:, 1] * s, shape[:, 0] * s + shape[:, 1] * c
        return centre + np.stack([x, 0 * x, z], 1)

    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)

    def rounded(w: float, h: float, power: float, up: float = 0.0) -> np.ndarray:
        c, s = np.cos(angle), np.sin(angle)
        return np.stack([w * np.sign(c) * np.abs(c) ** power, up + h * np.sign(s) * np.abs(s) ** power], 1)

    pen.outline(place(rounded(0.80 * half_w, 6.5, 0.6, half_h + 2.5)), 0.34)
    pen.outline(place(rounded(half_w, half_h, 0.62)), 0.60)
    pen.outline(place(rounded(0.86 * half_w, 0.50 * half_h, 0.5, -0.36 * half_h)), 0.92)
    pen.outline(place(rounded(0.55 * half_w, 0.22 * half_h, 0.5, 0.50 * half_h)), 0.78)
    low, high = marks["heart"]
    cava = marks["cava"]
    entry = np.array([174 + sign * rng.uniform(52, 62), 270, rng.uniform(292, 300)])
    header = place(np.array([[-sign * 0.5 * half_w, half_h + 6.0]]))[0]
    top = _at(cava, 268.0) + rng.normal(0, 1.5, 3)
    middle = np.array([174 + (8 if sign > 0 else -14), 268, 284.0])
    atrium = np.array([low[0] + 0.14 * (high[0] - low[0]), 250, 196.0])
    apex = np.array([low[0] + rng.uniform(0.66, 0.76) * (high[0] - low[0]), 300, low[2] + rng.uniform(14, 22)])
    floor = np.array([low[0] + 0.34 * (high[0] - low[0]), 270, low[2] + 20.0])
    loop = place(np.array([[sign * 0.9 * half_w, half_h + 8.0], [sign * 1.15 * half_w, -0.2 * half_h]]))
    lead = [
        header,
        (header + entry) / 2 + np.array([0, 0, 8.0]),
        entry,
        middle,
        top,
        _at(cava, 222.0),
        atrium,
        floor,
        apex,
    ]
    if rng.random() < 0.5:
        lead = [header, *loop, entry, middle, top, _at(cava, 222.0), atrium, floor, apex]
    pen.curve(np.array(lead), 1.5, 0.36)
    pen.curve(np.array([apex - np.array([7, 3, -1.5]), apex]), 2.4, 0.8)
    if planted.kind == "two leads":
        tip = np.array([low[0] + 0.20 * (high[0] - low[0]), 285, 216.0])
        second = [header + np.array([2, 0, 1.0]), (header + entry) / 2 + np.array([0, 0, 12.0]),
                  entry + np.array([1, 0, 2.5]), middle + np.array([0, 0, 2.0]), top + np.array([2, 0, 0]),
                  _at(cava, 226.0) + np.array([2.5, 0, 0]), atrium + np.array([6, 8, -2.0]), tip]  # fmt: skip
        pen.curve(np.array(second), 1.5, 0.33)
        pen.curve(np.array([tip - np.array([2, 3, 6.0]), tip]), 2.4, 0.8)


def _sternal_wires(pen: _Pen, marks: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """Five to seven twisted wires around the breastbone, none quite like the other."""
    line = marks["sternum"]
    low, high = line[:, 2].min() + 14, line[:, 2].max() - 10
    for z in np.linspace(low, high, int(rng.integers(5, 8))):
        centre = _at(line, float(z + rng.normal(0, 2.5)))
        wide, tall, lean = rng.uniform(9, 13), rng.uniform(3, 5.5), rng.normal(0, 0.25)
        t = np.linspace(0.25, 2 * np.pi - 0.25, 14)
        x, up = wide * np.sin(t), tall * np.cos(t) * (1 + 0.5 * np.cos(t))
        ring = centre + np.stack(
            [x * math.cos(lean) - up * math.sin(lean), 6 * np.cos(t), up * math.cos(lean) + x * math.sin(lean)], 1
        )
        pen.curve(ring, 1.1, 0.62)
        knot = ring[-1] + np.array([[0, 2, 0], [rng.normal(0, 1.5), 3, -2.5], [rng.normal(0, 2), 3, -5.0]])
        pen.curve(knot, 1.7, 0.75)


def _endotracheal_tube(pen: _Pen, marks: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """A tube with a stripe in the windpipe; its tip two to six centimetres above the carina."""
    line = marks["trachea"]
    carina = line[:, 2].min() + 12
    tip = carina + rng.uniform(20, 58)
    # The straight line through the windpipe: its slices wander more than a tube does.
    course = line[line[:, 2] > carina]
    fit = np.polynomial.polynomial.polyfit(course[:, 2], course[:, :2], 1)
    heights = np.linspace(tip, 308, 3)
    points = np.concatenate([fit[0] + heights[:, None] * fit[1], heights[:, None]], 1)
    top = points[-1]
    points = np.concatenate(
        [points, top + np.array([[0, 2, 25.0], [rng.normal(0, 3), 6, 55.0], [rng.normal(0, 8), 14, 95.0]])]
    )
    points[:, 0] += rng.normal(0, 1.5)
    pen.tube(points, 9.0, 0.11, 0.05, 0.32)


def _central_line(pen: _Pen, marks: dict[str, np.ndarray], planted: Planted, rng: np.random.Generator) -> None:
    """A catheter from the jugular or subclavian vein down the superior vena cava."""
    sign, cava = _sign(planted), marks["cava"]
    tip = rng.uniform(196, 240)
    inside = [_at(cava, z) + rng.normal(0, 1.0, 3) for z in np.linspace(tip, 262, 3)]
    join = np.array([174 + (-10 if sign < 0 else 12), 268, 284.0])
    if planted.kind == "jugular":
        outside = [join + np.array([sign * 6, -6, 14.0]), np.array([174 + sign * rng.uniform(24, 30), 240, 322.0]),
                   np.array([174 + sign * rng.uniform(32, 42), 240, 362.0])]  # fmt: skip
    else:
        outside = [np.array([174 + sign * 34, 275, 296.0]), np.array([174 + sign * 66, 280, rng.uniform(292, 299)]),
                   np.array([174 + sign * rng.uniform(96, 112), 290, rng.uniform(268, 284)]),
                   np.array([174 + sign * rng.uniform(130, 150), 292, rng.uniform(266, 300)])]  # fmt: skip
    pen.curve(np.array([*inside, join, *outside]), 2.2, 0.16)


def _chest_tube(pen: _Pen, planted: Planted, rng: np.random.Generator) -> None:
    """A drain from the lower chest wall up towards the apex, with a stripe and a side hole that interrupts it."""
    sign = _sign(planted)
    skin = np.array([174 + sign * rng.uniform(158, 172), 200, rng.uniform(120, 150)])
    entry = np.array([174 + sign * rng.uniform(112, 118), 205, rng.uniform(165, 200)])
    middle = np.array([174 + sign * rng.uniform(86, 100), 190, rng.uniform(225, 250)])
    tip = np.array([174 + sign * rng.uniform(36, 62), 190, rng.uniform(262, 290)])
    points = np.array([tip, middle, entry, skin])
    pen.tube(points, 8.0, 0.10, 0.065, 0.32)
    hole = smooth(points)[18:22]
    pen.strokes.append((pen.flat(hole), 1.4 * pen.scale, 0.08))


def _ecg_leads(pen: _Pen, rng: np.random.Generator) -> None:
    """Electrodes on the skin, and their cables, which gather at one side and leave the picture."""
    side = 1 if rng.random() < 0.5 else -1
    hub = np.array([174 + side * rng.uniform(120, 160), 310, rng.uniform(70, 130)])
    for x, z in ((-105, 285), (108, 287), (112, 130), (-108, 128), (25, 165))[: int(rng.integers(3, 6))]:
        at = np.array([174 + x + rng.normal(0, 9), 300, z + rng.normal(0, 9)])
        angle = np.linspace(0, 2 * np.pi, 24)
        ring = at + 5.0 * np.stack([np.cos(angle), 0 * angle, np.sin(angle)], 1)
        pen.outline(ring, 0.14)
        pen.outline(at + 0.42 * (ring - at), 0.55)
        sag = np.array([0, 0, -abs(rng.normal(12, 10))])
        bend = np.array([rng.normal(0, 10), 0, rng.normal(0, 8)])
        path = [
            at,
            at + (hub - at) * 0.35 + 1.2 * sag + bend,
            at + (hub - at) * 0.7 + sag - 0.5 * bend,
            hub + rng.normal(0, 2, 3),
        ]
        pen.curve(np.array([*path, hub + np.array([side * 90, 0, -60.0])]), 1.6, 0.13)
