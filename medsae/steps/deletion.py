"""The test of a map by deletion: a neuron's value with the region of its own map replaced, beside that of another
neuron's map and of noise (docs/decisions/144)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd

from medsae import geometry
from medsae.progress import Progress
from medsae.steps import located
from medsae.steps.eyes import Direction, Sees
from medsae.steps.squares import BATCH, MEAN_SIDE, covered, embedded, inside, off_square, on_square

TRIED = 12
"""Strongest pictures of a neuron that are tried at most, one a patient, ..."""
ONE_OF = 20
"""... and no more than one of so many scored images: of 90 images the twelve strongest are hardly strong."""
FIRES = 10
"""Images on which a neuron must fire to be drawn."""


class Scored(located.Neurons, Protocol):
    """Scored images as deletion needs them; the first representation is the scored one.

    Of raw, every neuron has a value on every image."""

    @property
    def activation(self) -> pd.DataFrame:
        """neuron, row, value; sorted by neuron, value descending."""
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
