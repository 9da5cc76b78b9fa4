"""Does the neuron that tells a finding look where the finding is? Maps against masks: those that were planted, and the
boxes and masks that a publisher's readers drew (docs/decisions/072 and 143).

The neuron of a finding was chosen by AUROC on one half of the patients; its maps are judged on the other half. The same
for whole embeddings and for tokens: both are `Told`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from medsae import geometry
from medsae import runs as run_lengths
from medsae.cohorts.columns import plain
from medsae.store.artifacts import Artifact

if TYPE_CHECKING:
    from medsae.scoring.scores import Truth

PLANTED, READERS = "planted", "readers"
"""Who knows where a finding is."""
_SPELT = {"infiltrate": "infiltration"}
"""Marks that their own publisher (NIH) spells otherwise than its label."""
_COMPARED = 2_000
"""Scored images that tell whether a direction grows or falls with a finding."""


@dataclass(frozen=True)
class Cells:
    """Where the cells of a map lie, px of the network's input."""

    grid: tuple[int, int]
    first_px: float
    step_px: float
    size: int

    @property
    def count(self) -> int:
        return self.grid[0] * self.grid[1]

    def brought(self, mask_hw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A mask of a picture at the cells: (the centre of each cell lies inside, share of each cell covered)."""
        from medsae.scoring.localisation import at_cells

        y, x = geometry.centres(self.grid, self.first_px, self.step_px, self.size, mask_hw.shape[:2])
        step = self.step_px * max(self.size, *mask_hw.shape) / self.size
        return at_cells(mask_hw, y, x, (step, step))


class Neurons(Protocol):
    """Scored images and the neurons that fire on them."""

    @property
    def images(self) -> pd.DataFrame:
        """image, patient of each scored row."""
        ...

    @property
    def seed(self) -> int: ...

    @property
    def representations(self) -> Sequence[str]:
        """The spaces in which a neuron can be asked for, in their order: of sae, raw, random."""
        ...

    def size(self, space: int) -> int:
        """Neurons of a space."""
        ...

    def fires(self, rows: np.ndarray) -> np.ndarray:
        """bool [n, m]: where the neurons of the SAE fire on these scored rows."""
        ...


class Told(Neurons, Protocol):
    """Scored images as localisation needs them."""

    @property
    def cohort(self) -> Artifact: ...

    @property
    def recovery(self) -> pd.DataFrame:
        """A row a finding: its best neuron in each representation, chosen on half of the patients."""
        ...

    def values(self, space: int, neuron: int, rows: np.ndarray) -> np.ndarray:
        """float [n]: what a direction gives on these scored rows."""
        ...


@dataclass(frozen=True)
class Asked:
    """Maps that are wanted, one a place: picture (row of the scored images), in which space, neuron."""

    row: np.ndarray
    space: np.ndarray
    neuron: np.ndarray

    @staticmethod
    def joined(parts: Sequence[Asked]) -> Asked:
        return Asked(*(np.concatenate([getattr(p, k) for p in parts]) for k in ("row", "space", "neuron")))


@dataclass(frozen=True)
class Finding:
    """A finding with masks: the scored rows that show it, of patients who had no say in the choice of its neuron."""

    name: str
    source: str
    """PLANTED or READERS."""
    neurons: Mapping[str, int]
    """Representation -> its best neuron by the other half of the patients."""
    row: np.ndarray
    inside_nc: np.ndarray
    cover_nc: np.ndarray

    def questions(self, told: Told) -> list[Question]:
        """One a representation: the maps of its neuron, and of another firing neuron, on these pictures."""
        rng = np.random.default_rng([told.seed, 13])
        out = []
        for representation, neuron in self.neurons.items():
            space = list(told.representations).index(representation)
            if representation == "sae":
                fires_nm, sign = told.fires(self.row), 1.0
            else:
                fires_nm, sign = np.ones((len(self.row), told.size(space)), bool), _sign(told, space, neuron, self.row)
            fires = fires_nm[:, neuron]
            other = np.zeros(len(self.row), np.intp)
            for i in np.flatnonzero(fires):
                rivals = np.flatnonzero(fires_nm[i])
                rivals = rivals[rivals != neuron]
                other[i] = rng.choice(rivals) if len(rivals) else neuron
            out.append(Question(self, representation, neuron, fires, other[fires], space, sign, told.images))
        return out


def _sign(told: Told, space: int, neuron: int, rows: np.ndarray) -> float:
    """-1 where the direction tells the finding by small values."""
    every = np.arange(0, len(told.images), max(1, len(told.images) // _COMPARED))
    return 1.0 if told.values(space, neuron, rows).mean() >= told.values(space, neuron, every).mean() else -1.0


@dataclass(frozen=True)
class Question:
    """Maps of one neuron and of another one on the pictures of a finding."""

    finding: Finding
    representation: str
    neuron: int
    fires: np.ndarray
    other: np.ndarray
    space: int
    sign: float
    """-1 where the direction tells the finding by small values."""
    images: pd.DataFrame

    @property
    def asked(self) -> Asked:
        row = self.finding.row[self.fires]
        neuron = np.full(len(row), self.neuron)
        return Asked(np.tile(row, 2), np.full(2 * len(row), self.space), np.concatenate([neuron, self.other]))

    def answer(self, maps: np.ndarray, seed: int) -> dict[str, Any]:
        """A row of the table `localisation`; `maps` of `asked`, NaN where a picture could not be read."""
        from medsae.scoring import localisation
        from medsae.scoring.draws import Patients

        own, other = np.split(maps, 2)
        read = np.isfinite(own).all(1) & np.isfinite(other).all(1)
        patients = self.images["patient"].to_numpy()[self.finding.row[self.fires][read]]
        located = localisation.locate(
            self.sign * own[read], other[read], self.finding.inside_nc[self.fires][read],
            self.finding.cover_nc[self.fires][read], Patients.of(patients), seed=seed,
        )  # fmt: skip
        row = {"finding": self.finding.name, "source": self.finding.source, "representation": self.representation}
        return row | {"neuron": self.neuron} | localisation.table_row(located)


def answers(questions: Sequence[Question], maps: np.ndarray, seed: int) -> pd.DataFrame:
    """The table `localisation` from the maps of all questions, one under the other."""
    begin, rows = 0, []
    for question in questions:
        count = len(question.asked.row)
        rows.append(question.answer(maps[begin : begin + count], seed))
        begin += count
    return pd.DataFrame(rows)


def findings(told: Told, cells: Cells) -> list[Finding]:
    """Findings with masks whose best neurons are known, judged on the half of the patients that did not choose."""
    from medsae.scoring.best import halves
    from medsae.scoring.draws import Patients

    if not len(told.recovery):
        return []
    judged = ~halves(Patients.of(told.images["patient"].to_numpy()), told.seed)
    row_of = {int(image): row for row, image in enumerate(told.images["image"]) if judged[row]}
    images_of = _planted(told.cohort)
    source = PLANTED if images_of else READERS
    masks = _at_cells(told.cohort, row_of, cells)
    found = []
    for entry in told.recovery.to_dict("records"):
        name = str(entry["factor"])
        mine = masks.get(name.partition(":")[0] if source == PLANTED else name)
        if mine is None or pd.isna(entry["neuron"]):
            continue
        shown = images_of.get(name, set()) if source == PLANTED else _shown(told.cohort, name)
        rows = np.array(sorted({row_of[i] for i in shown if i in row_of} & set(mine)), np.intp)
        if len(rows):
            inside, cover = (np.stack([mine[int(r)][k] for r in rows]) for k in (0, 1))
            found.append(Finding(name, source, _neurons(entry, told.representations[0]), rows, inside, cover))
    return found


def _neurons(entry: dict[Any, Any], own: str) -> dict[str, int]:
    """Representation -> best neuron, from a row of recovery."""
    neurons = {own: int(entry["neuron"])}
    for name in ("raw", "random"):
        column = f"{name}_neuron"
        if name not in neurons and column in entry and not pd.isna(entry[column]):
            neurons[name] = int(entry[column])
    return neurons


def _planted(cohort: Artifact) -> dict[str, set[int]]:
    """Planted factor -> its images; {} for cohorts whose truth is not known."""
    with cohort.connect() as connection:
        rows = connection.execute(
            "SELECT substr(attribute, 8), list(image) FROM attribute"
            " WHERE attribute LIKE 'factor:%' AND value = '1' GROUP BY 1"
        ).fetchall()
    return {str(factor): set(images) for factor, images in rows}


def _at_cells(
    cohort: Artifact, row_of: dict[int, int], cells: Cells
) -> dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]:
    """finding -> scored row -> its mask at the cells. Masks of several readers are one, as are their boxes."""
    found: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
    for image, masks in _marked(cohort, list(row_of)):
        for finding, mask in masks.items():
            if mask.any():
                found.setdefault(finding, {})[row_of[image]] = cells.brought(mask)
    return found


def _marked(cohort: Artifact, images: list[int]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """(image, finding -> bool [h, w]) of every one of these images with a mask or a box, one after the other: at full
    size all of them need not fit into memory."""
    among = ", ".join(map(str, images)) or "-1"
    with cohort.connect() as connection:
        size = "i.height IS NOT NULL AND i.width IS NOT NULL"
        masks = connection.execute(
            f"SELECT m.image, m.finding, m.runs, i.height, i.width FROM mask m JOIN image i USING (image)"
            f" WHERE m.image IN ({among}) AND {size}"
        ).fetchall()
        boxes = [] if not _has_boxes(connection) else connection.execute(
            f"SELECT b.image, b.label, [b.x, b.y, b.width, b.height], i.height, i.width FROM box b JOIN image i"
            f" USING (image) WHERE b.image IN ({among}) AND {size}"
        ).fetchall()  # fmt: skip
    rows = sorted([(*r, True) for r in masks] + [(*r, False) for r in boxes], key=lambda r: r[0])
    for image, mine in groupby(rows, key=lambda r: r[0]):
        found: dict[str, np.ndarray] = {}
        for _, name, shape, height, width, outlined in mine:
            size = (height, width)
            mask = run_lengths.decode(shape, size) if outlined else geometry.box_mask(tuple(shape), size)
            if mask is not None:
                found[str(name)] = found[str(name)] | mask if str(name) in found else mask
        yield int(image), found


def _has_boxes(connection: Any) -> bool:
    return bool(connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'box'").fetchall())


# --- what readers marked, as something that a neuron can tell


def truth(cohort: Artifact, image: np.ndarray, rivals: Mapping[str, Any]) -> Truth | None:
    """Findings that readers marked in the pictures, for the choice of the neuron that tells each best: present where
    the label of the same name says so, or where there is a mark; None for a cohort without marks on these images."""
    from medsae.scoring.scores import Truth

    names = _marks(cohort, image)
    if not names:
        return None
    present, known = np.zeros((len(image), len(names)), bool), np.ones((len(image), len(names)), bool)
    for j, name in enumerate(names):
        shown = np.isin(image, list(_shown(cohort, name)))
        label = _label_values(cohort, name, image)
        if label is not None:
            known[:, j] = shown | np.isin(label, (0.0, 1.0))
            shown = shown | (label == 1)
        present[:, j] = shown
    return Truth(names, present, known, {k: v for k, v in rivals.items() if k in ("raw", "random")})


def _marks(cohort: Artifact, image: np.ndarray) -> list[str]:
    with cohort.connect() as connection:
        # A view: as words of the query the images took 8 KB each.
        connection.register("scored", pd.DataFrame({"image": image}))
        parts = ["SELECT finding FROM mask WHERE image IN (SELECT image FROM scored)"]
        if _has_boxes(connection):
            parts.append("SELECT label FROM box WHERE image IN (SELECT image FROM scored)")
        return [str(r[0]) for r in connection.execute(f"{' UNION '.join(parts)} ORDER BY 1").fetchall()]


def _shown(cohort: Artifact, name: str) -> set[int]:
    """Images on which this was marked, but for those whose label says that the majority of readers saw nothing, or did
    not agree."""
    with cohort.connect() as connection:
        rows = connection.execute("SELECT image FROM mask WHERE finding = ?", [name]).fetchall()
        if _has_boxes(connection):
            rows += connection.execute("SELECT image FROM box WHERE label = ?", [name]).fetchall()
    marked = np.unique(np.array([r[0] for r in rows], np.int64))
    label = _label_values(cohort, name, marked)
    return set((marked if label is None else marked[~np.isin(label, (0.0, -1.0))]).tolist())


def _label_values(cohort: Artifact, name: str, image: np.ndarray) -> np.ndarray | None:
    """The label of the same name on these images (NaN: not stated); None where there is no such label."""
    with cohort.connect() as connection:
        labels = [str(r[0]) for r in connection.execute("SELECT label FROM label_name ORDER BY position").fetchall()]
        wanted = _SPELT.get(plain(name), plain(name))
        label = next((one for one in labels if plain(one) == wanted), None)
        if label is None:
            return None
        frame = connection.execute("SELECT image, value FROM label WHERE label = ?", [label]).df()
    return frame.set_index("image")["value"].astype(float).reindex(image).to_numpy()
