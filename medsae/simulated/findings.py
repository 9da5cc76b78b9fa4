"""Findings planted in the volume: each is a change of attenuation inside a box of voxels.

A component is what one finding, of one side and extent, adds to the attenuation of the thorax. Line integrals add, so
a picture is the sum of the anatomy and of the components it needs, each projected once a pose. Severity between two
extents is a weighted sum of neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medsae.simulated import shapes, volume
from medsae.simulated.volume import Grid, Thorax, attenuation

HEART_SCALES = tuple(round(0.74 + 0.06 * i, 2) for i in range(14))
EFFUSION_MM = (62.0, 84.0, 108.0, 140.0, 185.0)
PNEUMOTHORAX_MM = (13.0, 22.0, 34.0, 50.0)
MEDIASTINUM_MM = (7.0, 13.0, 20.0)
AORTA_MM = (5.0, 10.0)
BREAST_MM = (18.0, 30.0, 44.0)
VARIANTS = 3
FRACTURES = 6


@dataclass(frozen=True)
class Component:
    """`values` [x, y, z] in 1/mm belong at `origin` (voxel indices) of the finding grid."""

    name: str
    origin: tuple[int, int, int]
    values: np.ndarray


def crop(name: str, delta: np.ndarray) -> Component:
    """Cuts the box that holds everything different from zero."""
    where = np.abs(delta) > 1e-5
    if not where.any():
        return Component(name, (0, 0, 0), np.zeros((1, 1, 1), np.float32))
    box = ndimage.find_objects(where.astype(np.uint8))[0]
    return Component(name, tuple(s.start for s in box), np.ascontiguousarray(delta[box], dtype=np.float32))


FAMILIES = ("heart", "mediastinum", "breasts", "lungs",
            *(f"{family} {side}" for side in volume.SIDES
              for family in ("effusion", "pneumothorax", "thickening", "edema", "ground_glass", "fractures")),
            *(f"{family} {lobe}" for lobe in volume.LOBES
              for family in ("consolidation", "pneumonia", "collapse")))  # fmt: skip


def components(thorax: Thorax, family: str) -> list[Component]:
    """The components of one family; `thorax` is the chest at finding resolution."""
    # One generator a family with a fixed seed: planted shapes belong to the one thorax, not to a user's seed.
    plant = _Planter(thorax, np.random.default_rng([20240229, FAMILIES.index(family)]))
    method, *which = family.split(" ")
    return list(getattr(plant, method)(*which))


class _Planter:
    """Holds the distances and soft masks that several findings share."""

    def __init__(self, thorax: Thorax, rng: np.random.Generator):
        self.thorax, self.rng, self.grid = thorax, rng, thorax.grid
        self.spacing = thorax.grid.spacing()
        self.mm = [axis.reshape([-1 if i == a else 1 for i in range(3)]) for a, axis in
                   enumerate((self.grid.x, self.grid.y, self.grid.z))]  # fmt: skip
        self.lobe = {name: thorax.mask(number) for name, number in volume.LOBES.items()}
        self.side = {side: np.any([self.lobe[lobe] for lobe in lobes], axis=0) for side, lobes in volume.SIDES.items()}
        self.heart_mask = thorax.mask(*volume.HEART)
        self.spine_x = float(np.average(self.grid.x, weights=thorax.mask(volume.AORTA).sum((1, 2)) + 1e-9))

    def soft(self, mask: np.ndarray, mm: float = 1.5) -> np.ndarray:
        """The mask with edges `mm` wide, 0..1."""
        return ndimage.gaussian_filter(mask.astype(np.float32), [mm / s for s in self.spacing])

    def noise(self, mm: float) -> np.ndarray:
        """Smooth noise with features of `mm`, mean 0, sd 1."""
        field = self.rng.standard_normal(self.grid.shape(), dtype=np.float32)
        field = ndimage.gaussian_filter(field, [mm / s for s in self.spacing], mode="wrap")
        return (field - field.mean()) / field.std()

    def towards(self, hu: float) -> np.ndarray:
        """What must be added to every voxel to make it tissue of `hu`."""
        return attenuation(hu) - self.thorax.soft

    def filling(self, mask: np.ndarray, hu: float, edge_mm: float = 1.5) -> np.ndarray:
        """Denser tissue inside `mask`; air becomes tissue, what is dense already stays."""
        return self.soft(mask, edge_mm) * np.clip(self.towards(hu), 0, None)

    def wall_distance(self, side: str, without: np.ndarray | None = None) -> np.ndarray:
        """mm from the pleura of chest wall and diaphragm (not mediastinum or fissures) inside one lung; 0 outside."""
        lung = shapes.close(self.side[side], 2)
        inner = shapes.dilate(
            self.heart_mask | self.thorax.mask(*volume.MEDIASTINUM), 5, shapes.BALL)  # fmt: skip
        centre = np.abs(self.mm[0] - self.spine_x) < 42
        free = lung | inner | (centre & (self.mm[2] > 150))
        return np.where(lung, shapes.depth(free, self.spacing), 0).astype(np.float32)

    def heart(self) -> Iterator[Component]:
        """The heart at growing sizes, held at its back and at the diaphragm, and growing towards the left."""
        solid = shapes.close(self.heart_mask | (self.thorax.mask(62) & (self.mm[2] < 215)), 2)
        smooth = self.soft(solid, 2.5)
        where = np.argwhere(solid)
        low, high = where.min(0), where.max(0)
        anchor = low + (high - low) * np.array([0.30, 0.30, 0.0])
        for scale in HEART_SCALES:
            factor = np.array([scale, 1 + 0.8 * (scale - 1), 1 + 0.5 * max(scale - 1, 0)])
            grown = ndimage.affine_transform(smooth, 1 / factor, anchor - anchor / factor, order=1)
            grown = np.clip((grown - 0.5) * 1.6 + 0.5, 0, 1)
            yield crop(f"heart {scale}", grown * np.clip(self.towards(45), 0, None))

    def mediastinum(self) -> Iterator[Component]:
        """A wider upper mediastinum, and the unfolded aorta of age."""
        upper = self.thorax.mask(*volume.MEDIASTINUM) & (self.mm[2] > 205) & (self.mm[2] < 318)
        upper = shapes.close(upper, 4, shapes.BALL)
        away = shapes.depth(~upper, self.spacing)
        taper = np.clip((self.mm[2] - 195) / 30, 0, 1) * np.clip((325 - self.mm[2]) / 30, 0, 1)
        bumps = 1 + 0.12 * self.noise(22)
        for mm in MEDIASTINUM_MM:
            yield crop(f"mediastinum {mm:g}", self.filling(away < mm * taper * bumps, 45, 2.0))
        aorta = self.thorax.mask(volume.AORTA) & (self.mm[2] > 110) & (self.mm[0] > self.spine_x - 8)
        away = shapes.depth(~aorta, self.spacing)
        for mm in AORTA_MM:
            yield crop(f"aorta {mm:g}", self.filling((away < mm) & (self.mm[0] > self.spine_x), 45, 1.5))

    def breasts(self) -> Iterator[Component]:
        """Soft half ellipsoids in front of the chest, fuller below; they hang over the lower lungs."""
        x, y, z = self.mm
        for side, sign in (("right", -1), ("left", 1)):
            for mm in BREAST_MM:
                width, height = 44 + 0.62 * mm, 40 + 0.75 * mm
                up = (z - (184 - 0.45 * mm)) / height
                sag = np.where(up < 0, np.abs(up) ** 2.2, (up / 1.25) ** 2)
                cx = 174 + sign * (84 + 0.15 * mm)
                radius = ((x - cx) / width) ** 2 + sag + ((y - 268) / (1.9 * mm)) ** 2
                delta = np.clip((1 - radius) * 4, 0, 1) * (y > 268) * attenuation(-40.0)
                yield crop(f"breast {side} {mm:g}", ndimage.gaussian_filter(delta, (1.2, 0.5, 0.8)))

    def effusion(self, side: str) -> Iterator[Component]:
        """Fluid between lung and chest wall: a layer that thins upwards, so that its tangent view is a meniscus."""
        wall = self.wall_distance(side)
        lung = wall > 0
        lowest = float(np.percentile((lung * self.mm[2])[lung], 1))
        behind = np.clip((200 - self.mm[1]) / 120, 0, 1)
        ripple = 1 + 0.08 * self.noise(30)
        outwards = np.abs(self.mm[0] - self.spine_x)
        outwards = np.clip(outwards / float((lung * outwards).max()), 0, 1)
        for mm in EFFUSION_MM:
            top = lowest + mm * (0.86 + 0.34 * outwards**3) + 14 * behind
            left = np.clip((top - self.mm[2]) / mm, 0, None)
            layer = ((4 + 0.42 * mm) * left**1.35 + 2.4 * mm * np.clip(left - 0.55, 0, None)) * ripple
            yield crop(f"effusion {side} {mm:g}", self.filling(lung & (wall < layer), 12, 2.5))
        # Lying patients: the fluid spreads behind the lung and veils it, densest below.
        depth = self.mm[1] - np.where(lung, self.mm[1], np.inf).min(1, keepdims=True)
        veil = 48 * np.clip((lowest + 190 - self.mm[2]) / 190, 0, 1) ** 0.7
        yield crop(f"layering {side}", self.filling(lung & (depth < veil), 12, 3.0))

    def pneumothorax(self, side: str) -> Iterator[Component]:
        """Air between chest wall and retracted lung, widest at the apex, behind a thin pleural line."""
        lung = shapes.close(self.side[side], 1)
        wall = self.wall_distance(side)
        z = np.where(lung.any((0, 1)))[0]
        height = (self.mm[2] - self.grid.z[z[0]]) / (self.grid.z[z[-1]] - self.grid.z[z[0]])
        wave = 1 + 0.10 * self.noise(35)
        for mm in PNEUMOTHORAX_MM:
            width = mm * 1.2 * np.clip((height - 0.10) / 0.90, 0, 1) ** 1.2 * wave
            gone = self.soft(lung & (wall < width), 0.6)
            line = np.exp(-(((wall - width) / 1.1) ** 2)) * lung * (width > 2.5)
            squeezed = np.clip(wall - width, 0, None) > 0
            delta = gone * np.minimum(attenuation(-1000.0) - self.thorax.soft, 0) * lung
            delta = delta + line * 0.8 * attenuation(0.0) + squeezed * lung * 0.0003 * mm / 10
            yield crop(f"pneumothorax {side} {mm:g}", delta)

    def thickening(self, side: str) -> Iterator[Component]:
        """Thickened pleura along the lower lateral wall, and a cap over the apex."""
        lung, wall = self.side[side], self.wall_distance(side)
        z = np.where(lung.any((0, 1)))[0]
        height = (self.mm[2] - self.grid.z[z[0]]) / (self.grid.z[z[-1]] - self.grid.z[z[0]])
        lateral = np.abs(self.mm[0] - 174) > 62
        for i in range(VARIANTS):
            middle, reach = (0.30, 0.45, 0.60)[i], (0.25, 0.30, 0.34)[i]
            layer = (9 + 4 * self.noise(14)) * np.clip(1.2 - (np.abs(height - middle) / reach) ** 2, 0, 1)
            yield crop(f"thickening {side} {i}", self.filling(lung & lateral & (wall < layer), 60, 1.2))
        cap = np.clip((height - 0.80) / 0.12, 0, 1) * (15 + 4 * self.noise(10))
        yield crop(f"cap {side}", self.filling(lung & (wall < cap), 40, 1.5))

    def edema(self, side: str) -> Iterator[Component]:
        """Haze around the hilum, thick markings, and full vessels."""
        lung = self.side[side]
        hilum = self._hilum(side)
        away = np.sqrt(sum(((axis - at) / r) ** 2 for axis, at, r in zip(self.mm, hilum, (72, 95, 92), strict=True)))
        fine, coarse = self.noise(3.2), self.noise(16)
        haze = self.soft(lung, 2) * np.exp(-(away**2) * 0.9) * np.clip(1 + 0.45 * coarse, 0.1, 2)
        yield crop(f"haze {side}", haze * 330e-3 * attenuation(0.0))
        texture = lung * np.clip(fine - 0.5, 0, None) * np.exp(-(away**2) * 0.45)
        yield crop(f"markings {side}", texture * 420e-3 * attenuation(0.0))
        inside = shapes.erode(lung, 2) | (lung & (away < 0.8))
        vessel = np.clip((self.thorax.soft - attenuation(-720.0)) / attenuation(-400.0), 0, 1) * inside
        yield crop(f"vessels {side}", ndimage.gaussian_filter(vessel, 0.9) * 0.9 * attenuation(0.0))

    def _hilum(self, side: str) -> tuple[float, float, float]:
        where = np.argwhere(self.thorax.mask(volume.TRACHEA))
        carina = where[where[:, 2] <= where[:, 2].min() + 2].mean(0)
        x, y, z = (float(np.interp(c, np.arange(len(a)), a)) for c, a in zip(carina, (self.grid.x, self.grid.y, self.grid.z), strict=True))  # fmt: skip  # noqa: E501
        return x + (38 if side == "left" else -38), y + 5, z - 12

    def ground_glass(self, side: str) -> Iterator[Component]:
        """A hazy opacity of no particular lobe."""
        where = np.argwhere(shapes.erode(self.side[side], 6))
        for i in range(VARIANTS):
            at = where[self.rng.integers(len(where))]
            blob = self._blob(at, (34, 38, 36), 0.35, 14)
            yield crop(f"opacity {side} {i}", self.soft(self.side[side], 2) * blob * 0.55 * attenuation(0.0))

    def _blob(
        self, at: np.ndarray, radii_mm: tuple[float, float, float], rough: float, feature_mm: float
    ) -> np.ndarray:
        """A cloud 0..1 around a voxel with an irregular soft border."""
        away = sum(((axis - axis.reshape(-1)[i]) / r) ** 2 for axis, i, r in zip(self.mm, at, radii_mm, strict=True))
        return 1 / (1 + np.exp(-5 * (1 - np.sqrt(away) + rough * self.noise(feature_mm))))

    def consolidation(self, lobe: str) -> Iterator[Component]:
        """Most of a lobe filled, its fissure sharp and its other borders soft, bronchi left open."""
        mask = self.lobe[lobe]
        bronchi = np.clip((attenuation(-915.0) - self.thorax.soft) / attenuation(-970.0), 0, 1)
        for i in range(VARIANTS):
            field = self.noise(24) + 0.35 * self.noise(7)
            share = 1 / (1 + np.exp(-3.2 * (field + 0.45)))
            delta = self.soft(mask, 1.5) * share * np.clip(self.towards(-130), 0, None) * (1 - 0.8 * bronchi)
            yield crop(f"consolidation {lobe} {i}", delta)

    def pneumonia(self, lobe: str) -> Iterator[Component]:
        """Patchy clouds in one part of a lobe."""
        mask = self.lobe[lobe]
        where = np.argwhere(shapes.erode(mask, 5))
        for i in range(VARIANTS):
            at = where[self.rng.integers(len(where))]
            cloud = self._blob(at, (30, 34, 30), 0.45, 9) * np.clip(0.75 + 0.7 * self.noise(6), 0, 1.6)
            yield crop(f"pneumonia {lobe} {i}", self.soft(mask, 1.5) * cloud * 0.9 * np.clip(self.towards(0), 0, None))

    def collapse(self, lobe: str) -> Iterator[Component]:
        """A collapsed lobe: dense, small, folded against spine and diaphragm (lower) or mediastinum (upper, middle)."""
        mask = self.lobe[lobe]
        inwards = np.abs(self.mm[0] - self.spine_x)
        z = np.where(mask.any((0, 1)))[0]
        height = (self.mm[2] - self.grid.z[z[0]]) / (self.grid.z[z[-1]] - self.grid.z[z[0]])
        if lobe in ("LLL", "RLL"):
            keep = (inwards < 82 * np.clip(1.02 - height, 0, 1) + 8 + 3 * self.noise(15)) & (height < 0.9)
        elif lobe == "RML":
            keep = (inwards < 78 + 4 * self.noise(12)) & (np.abs(height - 0.35) < 0.22)
        else:
            keep = (inwards < 40 * np.clip(height, 0, 1) + 22 + 3 * self.noise(15)) & (height > 0.35)
        yield crop(f"collapse {lobe}", self.filling(mask & keep, 0, 2.0))

    def fractures(self, side: str) -> Iterator[Component]:
        """Broken ribs: a gap, one end displaced, and a little swelling; and a broken clavicle."""
        first, sign = volume.RIB_FIRST[side], 1 if side == "left" else -1
        for i in range(FRACTURES):
            rib = self.thorax.mask(first + 3 + i)
            where = np.argwhere(rib)
            x = sign * (self.grid.x[where[:, 0]] - 174)
            outer = where[x > np.quantile(x, 0.55 + 0.3 * self.rng.random())]
            at = outer[self.rng.integers(len(outer))]
            yield crop(f"fracture {side} {i}", self._broken(rib, at, 20.0, sign))
        clavicle = self.thorax.mask(volume.CLAVICLE[side]) & (self.mm[2] < 330)
        where = np.argwhere(clavicle)
        at = where[np.argmin(np.abs(sign * (self.grid.x[where[:, 0]] - 174) - 62))]
        yield crop(f"fracture {side} clavicle", self._broken(clavicle, at, 34.0, sign))

    def _broken(self, bone: np.ndarray, at: np.ndarray, reach_mm: float, sign: int) -> np.ndarray:
        """Moves the bone on the outer side of `at` down and leaves a gap."""
        away = [axis - axis.reshape(-1)[i] for axis, i in zip(self.mm, at, strict=True)]
        distance = np.sqrt(sum(a**2 for a in away))
        near = shapes.dilate(bone, 2) & (distance < reach_mm)
        part = np.where(near, self.thorax.bone, 0)
        # The broken end is displaced fully at the gap and not at all at the end of the reach, so it stays joined.
        outer = part * np.clip(sign * away[0] / 2.5, 0, 1) * np.clip(1.15 - distance / reach_mm, 0, 1)
        shift = (1.0 * sign, 0.0, -(6.0 + 4.0 * self.rng.random()) / self.spacing[2])
        moved = ndimage.shift(outer, shift, order=1)
        gap = part * np.exp(-((away[0] / 2.2) ** 2)) * (1 - np.clip(outer / (part + 1e-6), 0, 1))
        swelling = 0.7 * attenuation(0.0) * np.exp(-((distance / 8) ** 2)) * (self.thorax.soft < 0.014)
        return 1.5 * (moved - outer) - gap + swelling

    def lungs(self) -> Iterator[Component]:
        """Depth of each lung, as 0.01/mm: no finding, but where small findings lie and how wide the thorax is."""
        for side, mask in self.side.items():
            yield crop(f"lung {side}", mask * np.float32(0.01))


def places(thorax: Thorax, n: int = 400) -> dict[str, np.ndarray]:
    """`n` points in mm [n, 3] inside each lobe, 9 mm or more from its surface: where nodules may lie."""
    out, rng = {}, np.random.default_rng(20240229)
    for name, number in volume.LOBES.items():
        deep = shapes.depth(thorax.mask(number), thorax.grid.spacing()) > 9
        # Below this height a lesion would hide behind the dome of the diaphragm.
        deep &= thorax.grid.z > 158
        where = np.argwhere(deep)
        where = where[rng.integers(len(where), size=n)]
        out[name] = np.stack(
            [axis[where[:, a]] for a, axis in enumerate((thorax.grid.x, thorax.grid.y, thorax.grid.z))], 1
        )
    return out


def landmarks(thorax: Thorax) -> dict[str, list[list[float]]]:
    """Centre lines in mm that devices follow: trachea, superior vena cava, sternum (bottom to top), heart box."""
    grid: Grid = thorax.grid
    out: dict[str, list[list[float]]] = {}
    named = {
        "trachea": (volume.TRACHEA,),
        "cava": (volume.VENA_CAVA,),
        "sternum": (volume.STERNUM,),
        "aorta": (volume.AORTA,),
    }
    for name, structures in named.items():
        mask = thorax.mask(*structures)[:, :, : -volume.NECK_SLICES]
        line = []
        for k in np.where(mask.any((0, 1)))[0][::3]:
            x, y = np.argwhere(mask[:, :, k]).mean(0)
            line.append([float(np.interp(x, np.arange(len(grid.x)), grid.x)),
                         float(np.interp(y, np.arange(len(grid.y)), grid.y)), float(grid.z[k])])  # fmt: skip
        out[name] = line
    where = np.argwhere(thorax.mask(*volume.HEART))
    out["heart"] = [[float(axis[where[:, a].min()]) for a, axis in enumerate((grid.x, grid.y, grid.z))],
                    [float(axis[where[:, a].max()]) for a, axis in enumerate((grid.x, grid.y, grid.z))]]  # fmt: skip
    return out
