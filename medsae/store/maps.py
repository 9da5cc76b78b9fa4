"""Maps as pages ask for them: where on its strongest pictures the value of a neuron was collected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medsae import geometry
from medsae.runs import decode
from medsae.store.artifacts import Artifact
from medsae.store.reader import Frame, Reader

NOT_THEN = "maps were not computed then: score again with another --seed"


@dataclass(frozen=True)
class Grid:
    """How the network sees a picture."""

    rows: int
    columns: int
    first_px: float
    step_px: float
    reach_px: int
    size_px: int

    @staticmethod
    def of(row: dict[str, Any]) -> Grid:
        """From a row of the table `cell_grid`."""
        return Grid(**{name: row[name] for name in Grid.__dataclass_fields__})

    def spread(self, map_c: np.ndarray, picture: tuple[int, int], longest: int) -> np.ndarray:
        """The map over a picture of (height, width) px; NaN beyond the outermost cells."""
        y, x = geometry.centres((self.rows, self.columns), self.first_px, self.step_px, self.size_px, picture)
        return geometry.spread(map_c.reshape(self.rows, self.columns), y, x, picture, longest)

    @property
    def reach(self) -> float:
        """Share of the picture's longer side that one cell can see, at most 1."""
        return min(1.0, self.reach_px / self.size_px)


def missing(scores: Artifact) -> str:
    """Why these scores have no maps; "" where they have."""
    made = scores.facts.get("maps")
    return "" if made == "exact" else str(made or NOT_THEN)


def grid(reader: Reader, scores: Artifact) -> Grid:
    """Of scores that have maps."""
    row = reader.query("SELECT * FROM {s}.cell_grid", s=scores).to_dict("records")[0]
    return Grid.of(row)


def of_neuron(reader: Reader, scores: Artifact, neuron: int) -> dict[int, tuple[np.ndarray, float]]:
    """image -> (map float32 [cells], constant): their sum is the pre-activation."""
    rows = reader.query("SELECT image, map, scale, constant FROM {s}.cell WHERE neuron = ?", [neuron], s=scores)
    return {
        int(image): (np.frombuffer(bytes(packed), np.int8).astype(np.float32) * scale, float(constant))
        for image, packed, scale, constant in rows.itertuples(index=False)
    }


def sizes(reader: Reader, cohort: Artifact, images: list[int]) -> dict[int, tuple[int, int]]:
    """image -> (height, width) of those whose size is known."""
    numbers = ", ".join(str(int(i)) for i in images) or "-1"
    rows = reader.query(f"SELECT image, height, width FROM {{c}}.image WHERE image IN ({numbers})", c=cohort).dropna()
    return {int(i): (int(h), int(w)) for i, h, w in rows.itertuples(index=False)}


def masks(
    reader: Reader, cohort: Artifact, size_of: dict[int, tuple[int, int]], findings: set[str] | None
) -> dict[int, np.ndarray]:
    """image -> bool [h, w]: where one of `findings` (None: any) was planted."""
    numbers = ", ".join(str(i) for i in size_of) or "-1"
    rows = reader.query(f"SELECT image, finding, runs FROM {{c}}.mask WHERE image IN ({numbers})", c=cohort)
    found: dict[int, np.ndarray] = {}
    for image, finding, runs in rows.itertuples(index=False):
        if findings is None or finding in findings:
            mask = decode(list(runs), size_of[int(image)])
            found[int(image)] = found[int(image)] | mask if int(image) in found else mask
    return found


def localisation(reader: Reader, scores: Artifact, neuron: int | None = None) -> Frame:
    """The table `localisation`, of one neuron or of all; empty where nothing was planted or maps are missing."""
    if missing(scores):
        return pd.DataFrame()
    where = "" if neuron is None else f" WHERE representation <> 'random' AND neuron = {int(neuron)}"
    return reader.query(f"SELECT * FROM {{s}}.localisation{where} ORDER BY hit DESC NULLS LAST", s=scores)
