"""Parts of a picture replaced by what is usually there: maps by occlusion for encoders without an exact one, and the
test of a map by deletion (docs/decisions/144, 145).

Both work on the picture, before the encoder's own preparation, so they hold for every encoder. A picture is seen
centred on a square (as long as its longer side, at least as the network's input); blocks and cells lie on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from PIL import Image

from medsae import encoders, geometry
from medsae.device import pick
from medsae.progress import Progress, UserError
from medsae.steps import located
from medsae.steps import tokens as token_rows
from medsae.steps.eyes import Direction, Sees, encoder_of, pictures_of, sampled, unit_norm
from medsae.store.artifacts import Artifact, Store

if TYPE_CHECKING:
    from medsae.sae.model import Sae

MEAN_SIDE = 256
"""Side of the mean picture in px."""
HOW = "occlusion (approximate): the fall when a square is filled with the cohort's mean picture"
GRID = 8
"""Rows and columns of squares that are replaced one after the other; each is twice as wide as their distance."""
FRAME = 64
"""Px of a picture's square on which the places of the squares are told; a picture is hardly ever smaller."""
BATCH = 16


def _silent(_: int) -> None:
    pass


def on_square(picture: np.ndarray, side: int = MEAN_SIDE) -> np.ndarray:
    """float32 [side, side]: a picture uint8 [h, w] centred on a black square."""
    shown = Image.fromarray(picture)
    shown.thumbnail((side, side), Image.Resampling.BOX)
    if max(shown.size) < side:
        scale = side / max(shown.size)
        shown = shown.resize((max(1, round(shown.width * scale)), max(1, round(shown.height * scale))))
    out = np.zeros((side, side), np.float32)
    y, x = (side - shown.height) // 2, (side - shown.width) // 2
    out[y : y + shown.height, x : x + shown.width] = np.asarray(shown)
    return out


def off_square(square: np.ndarray, picture: tuple[int, int]) -> np.ndarray:
    """The part of a square that a picture of (height, width) px covers, made as large as it: uint8 [h, w]."""
    height, width = picture
    side = max(picture)
    full = np.asarray(Image.fromarray(square.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR))
    y, x = (side - height) // 2, (side - width) // 2
    return np.round(full[y : y + height, x : x + width]).clip(0, 255).astype(np.uint8)


def covered(region_bb: np.ndarray, picture: tuple[int, int], least: int) -> np.ndarray:
    """bool [h, w]: the pixels of a picture of (height, width) px that lie in blocks of its square, which is at least
    `least` px wide."""
    side = max(least, *picture)
    block = [np.minimum((np.arange(side) + 0.5) * n / side, n - 1).astype(int) for n in region_bb.shape]
    y, x = (side - picture[0]) // 2, (side - picture[1]) // 2
    return region_bb[np.ix_(block[0][y : y + picture[0]], block[1][x : x + picture[1]])]


def inside(picture: tuple[int, int], blocks: int, least: int) -> np.ndarray:
    """bool [blocks, blocks]: those of the square (at least `least` px wide) whose centre lies in the picture."""
    side = max(least, *picture)
    at = (np.arange(blocks) + 0.5) * side / blocks
    here = [np.abs(at - side / 2) < length / 2 for length in picture]
    return here[0][:, None] & here[1][None]


def embedded(
    encoder: encoders.Encoder, pictures: Sequence[np.ndarray], unit_norm: bool, passed: Callable[[int], None] = _silent
) -> np.ndarray:
    """float32 [n, d] of pictures, some at a time; `passed` is told how many more have gone through the encoder."""
    import torch

    out, device = [], _device(encoder)
    with torch.inference_mode():
        for start in range(0, len(pictures), BATCH):
            pixels = torch.from_numpy(np.stack([encoder.prepare(p) for p in pictures[start : start + BATCH]]))
            out.append(encoder.module(pixels.to(device)).float().cpu().numpy())
            passed(len(pixels))
    x_nd = np.concatenate(out)
    return x_nd / np.maximum(np.linalg.norm(x_nd, axis=1, keepdims=True), 1e-12) if unit_norm else x_nd


def _device(encoder: encoders.Encoder) -> Any:
    parameters = getattr(encoder.module, "parameters", None)
    return next((p.device for p in parameters()), "cpu") if parameters else "cpu"


# --- occlusion


PASSES = GRID * GRID + 1
"""How often the encoder runs for the maps of one picture, whatever the number of neurons."""


@dataclass(frozen=True)
class Occluder:
    """Maps by occlusion: what an embedding loses when a square is filled with the mean picture of the cohort."""

    encoder: encoders.Encoder
    unit_norm: bool
    mean: np.ndarray
    """float [MEAN_SIDE, MEAN_SIDE]."""

    def losses(self, picture: np.ndarray, passed: Callable[[int], None] = _silent) -> np.ndarray:
        """float32 [GRID * GRID, d]: the embedding minus that with the square about each cell filled. A picture much
        larger than the network's input is made smaller first. `passed`: as of `embedded`."""
        picture = _smaller(picture, 2 * self.encoder.size)
        size = (picture.shape[0], picture.shape[1])
        fill, blocks = off_square(self.mean, size), 4 * GRID
        filled = [picture]
        for r in range(GRID):
            for c in range(GRID):
                region = np.zeros((blocks, blocks), bool)
                region[max(0, 4 * r - 2) : 4 * r + 6, max(0, 4 * c - 2) : 4 * c + 6] = True
                filled.append(np.where(covered(region, size, FRAME), fill, picture))
        x = embedded(self.encoder, filled, self.unit_norm, passed)
        return x[0] - x[1:]

    def maps(self, losses_cd: np.ndarray, directions: Direction, neurons: np.ndarray) -> np.ndarray:
        """[k, cells]: the fall of the pre-activation of some neurons, cell by cell."""
        return directions.row_md[neurons] @ losses_cd.T

    @property
    def places(self) -> located.Cells:
        """Where the squares lie: on the picture's own square, whatever the encoder does to a picture smaller or larger
        than its input."""
        step = FRAME / GRID
        return located.Cells((GRID, GRID), (step - 1) / 2, step, FRAME)

    def grid_row(self) -> dict[str, Any]:
        """As a row of the table `cell_grid`."""
        at = self.places
        return {"rows": GRID, "columns": GRID, "first_px": at.first_px, "step_px": at.step_px,
                "reach_px": int(2 * at.step_px), "size_px": at.size, "how": HOW}  # fmt: skip


@dataclass(frozen=True)
class Occluded:
    """An encoder without exact maps as an `eyes.Sees`: the part of a cell is what the embedding loses with its square.

    Squares overlap and the encoder is not linear, so parts say where a value comes from; that they and the constant sum
    to the embedding holds only because the constant is the rest.
    """

    occluder: Occluder

    how = HOW

    @staticmethod
    def of(encoder: encoders.Encoder, embeddings: Artifact, cohort: Artifact, device: str = "cpu") -> Occluded:
        """With the mean picture of the cohort; the encoder runs in float32 on `device` (`device.pick`)."""
        encoder.module.to(pick(device))
        return Occluded(Occluder(encoder, unit_norm(encoder, embeddings), mean_of(cohort)))

    @property
    def encoder(self) -> encoders.Encoder:
        return self.occluder.encoder

    @property
    def unit_norm(self) -> bool:
        return self.occluder.unit_norm

    @property
    def places(self) -> located.Cells:
        return self.occluder.places

    def grid_row(self) -> dict[str, Any]:
        return self.occluder.grid_row()

    def prepared(self, picture: np.ndarray) -> np.ndarray:
        """As it is: parts of it are replaced before the encoder's own preparation."""
        return picture

    def parts(self, prepared: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        x_bd = embedded(self.encoder, prepared, self.unit_norm)
        parts_bcd = np.stack([self.occluder.losses(picture) for picture in prepared])
        return parts_bcd, x_bd - parts_bcd.sum(1)

    def maps(self, parts_cd: np.ndarray, constant_d: np.ndarray, directions: Direction, neurons: np.ndarray) -> tuple[
        np.ndarray, np.ndarray
    ]:  # fmt: skip
        rows = directions.row_md[neurons]
        return self.occluder.maps(parts_cd, directions, neurons), rows @ constant_d + directions.constant_m[neurons]


def _smaller(picture: np.ndarray, longest: int) -> np.ndarray:
    if max(picture.shape) <= longest:
        return picture
    shown = Image.fromarray(picture)
    shown.thumbnail((longest, longest), Image.Resampling.BOX)
    return np.asarray(shown)


def mean_square(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of pictures on their squares; mid-grey where there is none."""
    if not pictures:
        return np.full((MEAN_SIDE, MEAN_SIDE), 127.0)
    return np.mean([on_square(p) for p in pictures], axis=0)


# --- deletion

TRIED = 12
"""Strongest pictures of a neuron that are tried at most, one a patient, ..."""
ONE_OF = 20
"""... and no more than one of so many scored images: of 90 images the twelve strongest are hardly strong."""
FIRES = 10
"""Images on which a neuron must fire to be drawn."""


class Scored(Protocol):
    """Scored images as deletion needs them."""

    @property
    def images(self) -> pd.DataFrame:
        """image, patient of each scored row."""
        ...

    @property
    def activation(self) -> pd.DataFrame:
        """neuron, row, value; sorted by neuron, value descending."""
        ...

    @property
    def seed(self) -> int: ...

    @property
    def representations(self) -> Sequence[str]:
        """Of the scored representation first: of raw, every neuron has a value on every image."""
        ...

    def size(self, space: int) -> int:
        """Neurons of a representation."""
        ...

    def fires(self, rows: np.ndarray) -> np.ndarray:
        """bool [n, m]: where the neurons of the SAE fire on these scored rows."""
        ...


@dataclass(frozen=True)
class Tried:
    """A neuron on one of its strongest pictures, and another that fires there."""

    neuron: int
    row: int
    other: int


@dataclass(frozen=True)
class Silent:
    """Of each tried neuron the mean square of those pictures of a sample on which it does not fire."""

    place: dict[int, int]
    square_ks: np.ndarray
    """[neurons, MEAN_SIDE, MEAN_SIDE]."""

    def of(self, neuron: int) -> np.ndarray:
        return self.square_ks[self.place[neuron]]

    @staticmethod
    def means(
        neurons: np.ndarray, pictures: Sequence[np.ndarray], fires: Callable[[Sequence[np.ndarray]], np.ndarray]
    ) -> Silent:
        """`fires`: pictures -> bool [b, neurons]; a neuron that fires on all of them has the mean of all."""
        total, count, every = np.zeros((len(neurons), MEAN_SIDE**2), np.float64), np.zeros(len(neurons)), []
        for start in range(0, len(pictures), BATCH):
            some = pictures[start : start + BATCH]
            square = np.stack([on_square(p).ravel() for p in some]).astype(np.float64)
            silent = ~fires(some)
            total, count = total + silent.T.astype(float) @ square, count + silent.sum(0)
            every.append(square.sum(0))
        whole = np.sum(every, axis=0) / max(1, len(pictures))
        mean = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], whole)
        return Silent({int(n): k for k, n in enumerate(neurons)}, mean.reshape(-1, MEAN_SIDE, MEAN_SIDE))


class Tells(Protocol):
    """What neurons of the scored representation say of pictures that were never scored, and where they look."""

    @property
    def places(self) -> located.Cells: ...

    def maps(self, picture: np.ndarray, neurons: np.ndarray) -> np.ndarray:
        """[k, cells] on one picture uint8 [h, w]."""
        ...

    def values(self, pictures: Sequence[np.ndarray], neurons: np.ndarray) -> np.ndarray:
        """[n, k]: what may fall."""
        ...

    def fires(self, pictures: Sequence[np.ndarray], neurons: np.ndarray) -> np.ndarray:
        """bool [n, k]."""
        ...


@dataclass(frozen=True)
class OfWhole:
    """Of one vector a picture: pre-activations, which fall without a step."""

    eye: Sees
    space: Direction

    @property
    def places(self) -> located.Cells:
        return self.eye.places

    def maps(self, picture: np.ndarray, neurons: np.ndarray) -> np.ndarray:
        parts, constant = self.eye.parts([self.eye.prepared(picture)])
        return self.eye.maps(parts[0], constant[0], self.space, neurons)[0]

    def values(self, pictures: Sequence[np.ndarray], neurons: np.ndarray) -> np.ndarray:
        x_nd = embedded(self.eye.encoder, pictures, self.eye.unit_norm)
        return x_nd @ self.space.row_md[neurons].T + self.space.constant_m[neurons]

    def fires(self, pictures: Sequence[np.ndarray], neurons: np.ndarray) -> np.ndarray:
        return self.values(pictures, neurons) > 0


@dataclass(frozen=True)
class OfTokens:
    """Of the tokens of a picture: where its value is the largest token's, the largest pre-activation falls without a
    step; a mean or a share is taken of activations."""

    encoder: encoders.TokenEncoder
    sae: Sae | None
    """None for raw tokens."""
    pooled: token_rows.Pooled
    places: located.Cells

    def maps(self, picture: np.ndarray, neurons: np.ndarray) -> np.ndarray:
        return self._activations(self._tokens(picture))[:, neurons].T

    def values(self, pictures: Sequence[np.ndarray], neurons: np.ndarray) -> np.ndarray:
        if self.pooled != "max" or self.sae is None:
            found = [token_rows.pool(self._activations(self._tokens(p))[None], self.pooled)[0] for p in pictures]
        else:
            found = [self.sae.pre_activations(self._tokens(p)).max(0) for p in pictures]
        return np.stack(found)[:, neurons]

    def fires(self, pictures: Sequence[np.ndarray], neurons: np.ndarray) -> np.ndarray:
        return np.stack([self._activations(self._tokens(p))[:, neurons].max(0) > 0 for p in pictures])

    def _tokens(self, picture: np.ndarray) -> np.ndarray:
        """In half precision, as tokens lie on disk."""
        x_td = encoders.tokens(self.encoder, self.encoder.prepare(picture)[None])[0]
        return x_td.astype(np.float16).astype(np.float32)

    def _activations(self, x_td: np.ndarray) -> np.ndarray:
        return self.sae.encode(x_td) if self.sae else x_td


@dataclass(frozen=True)
class AskedOfTokens:
    """Deletion of scored tokens, as it is asked for when scores are made."""

    scored: token_rows.Scored
    embeddings: Artifact
    sae: Sae | None
    most: int
    always: tuple[int, ...]

    def tables(self, store: Store, progress: Progress) -> dict[str, pd.DataFrame]:
        """As `Deleted.tables`; {} where the encoder or the pictures are not here, which is said."""
        pictures = pictures_of(self.scored.cohort)
        sample = sampled(pictures)
        try:
            encoder = encoders.tokens_of(encoder_of(self.embeddings, store, progress))
        except UserError as error:
            progress.say(f"no deletion: {error.what}")
            return {}
        if not sample:
            progress.say("no deletion: no picture of the cohort can be read here")
            return {}
        tells = OfTokens(encoder, self.sae, self.scored.source.pooled, self.scored.cells)
        return Deleted(self.scored, tells, pictures, self.most, self.always).tables(sample, progress)


@dataclass(frozen=True)
class Deleted:
    """What is asked of deletion, and how."""

    scored: Scored
    tells: Tells
    pictures: Any
    most: int
    """Neurons that are drawn by chance."""
    always: Sequence[int] = ()
    """Neurons that are tried whatever the draw: those that readers meet first."""

    @cached_property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng([self.scored.seed, 19])

    def tables(self, sample: Sequence[np.ndarray], progress: Progress) -> dict[str, pd.DataFrame]:
        """The table `deletion` and rows of `summary`; {} where no neuron fires often, or few images are scored."""
        from medsae.scoring import deletion
        from medsae.scoring.draws import Patients

        drawn, neurons = self._neurons()
        if not len(neurons) or self.each < deletion.LEAST:
            return {}
        tried = list(self._tried(neurons))
        silent = Silent.means(neurons, sample, lambda p: self.tells.fires(p, neurons))
        fall_n3 = self._falls(tried, silent, progress)
        neuron = np.array([t.neuron for t in tried])
        patient = self.scored.images["patient"].to_numpy()[[t.row for t in tried]]
        read, rows = np.isfinite(fall_n3).all(1), []
        for n in neurons:
            mine = read & (neuron == n)
            found = deletion.deletion(fall_n3[mine], Patients.of(patient[mine]), seed=self.scored.seed)
            rows.append({"neuron": int(n), "drawn": bool(n in drawn), **deletion.table_row(found)})
        mine = read & np.isin(neuron, drawn)
        whole = deletion.deletion(fall_n3[mine], Patients.of(patient[mine]), seed=self.scored.seed)
        return {"deletion": pd.DataFrame(rows), "summary": _summary(whole, len(drawn))}

    @property
    def each(self) -> int:
        """Pictures of a neuron that are tried."""
        return min(TRIED, len(self.scored.images) // ONE_OF)

    def _neurons(self) -> tuple[np.ndarray, np.ndarray]:
        """Those drawn by chance among all that fire often enough, and these with those that are always tried."""
        count = self.scored.activation.loc[self.scored.activation["value"] > 0, "neuron"].value_counts()
        often = np.sort(count.index[count >= FIRES].to_numpy(np.intp))
        drawn = np.sort(self.rng.permutation(often)[: self.most])
        return drawn, np.unique(np.r_[drawn, np.intersect1d(often, np.array(list(self.always), np.intp))])

    def _tried(self, neurons: np.ndarray) -> Iterator[Tried]:
        table, patients = self.scored.activation, self.scored.images["patient"].to_numpy()
        table = table[table["neuron"].isin(neurons) & (table["value"] > 0)]
        for neuron, mine in table.groupby("neuron", sort=True):
            rows = mine["row"].to_numpy()
            first = ~pd.Series(patients[rows]).duplicated().to_numpy()
            rows = rows[first][: self.each]
            fires = self._firing(rows)
            fires[:, int(neuron)] = False  # type: ignore[call-overload]
            for row, others in zip(rows, fires, strict=True):
                rivals = np.flatnonzero(others)
                if len(rivals):
                    yield Tried(int(neuron), int(row), int(self.rng.choice(rivals)))  # type: ignore[call-overload]

    def _firing(self, rows: np.ndarray) -> np.ndarray:
        """bool [n, m], the caller's own."""
        if self.scored.representations[0] != "sae":
            return np.ones((len(rows), self.scored.size(0)), bool)
        return self.scored.fires(rows).copy()

    def _falls(self, tried: Sequence[Tried], silent: Silent, progress: Progress) -> np.ndarray:
        """[tried, 3]: fall as a share of the value with the region of own map, other map and noise replaced; NaN where
        the picture cannot be read, or the value in float32 is not above 0."""
        out = np.full((len(tried), 3), np.nan)
        by_row: dict[int, list[int]] = {}
        for k, one in enumerate(tried):
            by_row.setdefault(one.row, []).append(k)
        images = self.scored.images["image"].to_numpy()
        with progress.task("parts replaced", len(by_row), "pictures") as task:
            for row, places in sorted(by_row.items()):
                task.advance()
                try:
                    picture = self.pictures[int(images[row])]
                except ValueError:
                    continue
                out[places] = self._falls_of(picture, [tried[k] for k in places], silent)
        return out

    def _falls_of(self, picture: np.ndarray, tried: Sequence[Tried], silent: Silent) -> np.ndarray:
        neurons = np.array([t.neuron for t in tried])
        map_kc = self.tells.maps(picture, np.r_[neurons, [t.other for t in tried]])
        noise_kc = self.rng.normal(size=(len(tried), map_kc.shape[1]))
        regions = [self._region(m, picture) for m in np.concatenate([map_kc, noise_kc])]
        fills = [off_square(silent.of(t.neuron), (picture.shape[0], picture.shape[1])) for t in tried]
        k = len(tried)
        filled = [np.where(regions[i + part * k], fills[i], picture) for i in range(k) for part in range(3)]
        value_nk = self.tells.values([picture, *filled], neurons)
        before, after_k3k = value_nk[0], value_nk[1:].reshape(k, 3, k)
        after = after_k3k[np.arange(k), :, np.arange(k)]
        return (before[:, None] - after) / np.where(before > 0, before, np.nan)[:, None]

    def _region(self, map_c: np.ndarray, picture: np.ndarray) -> np.ndarray:
        """bool [h, w]: the contiguous strongest part of a map."""
        from medsae.scoring import deletion

        cells, size = self.tells.places, (picture.shape[0], picture.shape[1])
        value = geometry.on_blocks(
            map_c.reshape(cells.grid), cells.first_px, cells.step_px, cells.size, deletion.BLOCKS
        )
        allowed = inside(size, deletion.BLOCKS, cells.size)
        return covered(deletion.grow(value, allowed, round(deletion.SHARE * allowed.sum())), size, cells.size)


def _summary(whole: Any, neurons: int) -> pd.DataFrame:
    """Rows of `summary` over the neurons that were drawn by chance."""
    note = f"over pairs of a neuron and one of its strongest pictures, {neurons} neurons drawn by chance; by patient"
    row = {"n": whole.n, "note": whole.reason or note}
    numbers = {
        "deletion_fall": (whole.fall, whole.low, whole.high),
        "deletion_other": (whole.other, np.nan, np.nan),
        "deletion_random": (whole.random, np.nan, np.nan),
        "deletion_minus_other": (whole.minus_other, whole.minus_low, whole.minus_high),
    }
    return pd.DataFrame(
        [{"measure": k, "value": v, "low": low, "high": high, **row} for k, (v, low, high) in numbers.items()]
    )


def mean_of(cohort: Artifact) -> np.ndarray:
    """The mean square of a sample of a cohort."""
    return mean_square(sampled(pictures_of(cohort), 64))
