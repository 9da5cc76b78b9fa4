"""Maps as pages ask for them: where on its strongest pictures the value of a neuron was collected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medsae import geometry
from medsae.runs import decode
from medsae.scoring.verdicts import of_encoder, verdict
from medsae.store.artifacts import NOT_THEN, Artifact
from medsae.store.reader import Frame, Reader


@dataclass(frozen=True)
class Grid:
    """How the network sees a picture."""

    rows: int
    columns: int
    first_px: float
    step_px: float
    reach_px: int
    size_px: int
    how: str
    """What the maps are."""

    @property
    def approximate(self) -> bool:
        """By occlusion."""
        return self.how.startswith("occlusion")

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
    return "" if made in ("exact", OCCLUSION) else str(made or f"maps were {NOT_THEN}")


OCCLUSION = "occlusion"
"""What scores say of maps that are kept and approximate."""


def approximate(scores: Artifact) -> bool:
    """Whether maps of these scores can only be made by occlusion: the embedding is no sum over cells."""
    made = str(scores.facts.get("maps"))
    return made == OCCLUSION or "no sum over cells" in made


def grid(reader: Reader, scores: Artifact) -> Grid:
    """Of scores that have maps."""
    row = reader.query("SELECT * FROM {s}.cell_grid", s=scores).to_dict("records")[0]
    return Grid.of(row)


def of_neuron(reader: Reader, scores: Artifact, neuron: int) -> dict[int, tuple[np.ndarray, float]]:
    """image -> (map float32 [cells], constant): their sum is the pre-activation."""
    rows = reader.query("SELECT image, map, scale, constant FROM {s}.cell WHERE neuron = ?", [neuron], s=scores)
    return {
        int(image): (_unpacked(packed, scale), float(constant))
        for image, packed, scale, constant in rows.itertuples(index=False)
    }


def sizes(reader: Reader, cohort: Artifact, images: list[int]) -> dict[int, tuple[int, int]]:
    """image -> (height, width) of those whose size is known."""
    numbers = ", ".join(str(int(i)) for i in images) or "-1"
    rows = reader.query(f"SELECT image, height, width FROM {{c}}.image WHERE image IN ({numbers})", c=cohort).dropna()
    return {int(i): (int(h), int(w)) for i, h, w in rows.itertuples(index=False)}


def of_image(reader: Reader, scores: Artifact, image: int) -> dict[int, tuple[np.ndarray, float]]:
    """neuron -> (map float32 [cells], constant) of those neurons that have this image among their strongest."""
    rows = reader.query("SELECT neuron, map, scale, constant FROM {s}.cell WHERE image = ?", [image], s=scores)
    return {int(n): (_unpacked(packed, scale), float(k)) for n, packed, scale, k in rows.itertuples(index=False)}


def _unpacked(packed: bytes, scale: float) -> np.ndarray:
    return np.frombuffer(bytes(packed), np.int8).astype(np.float32) * scale


def average(reader: Reader, scores: Artifact, neuron: int) -> np.ndarray | None:
    """The neuron's mean map over the cohort, which is taken off its maps, float32 [cells]; None in older scores and of
    tokens."""
    if not _has(reader, scores, "cell_average"):
        return None
    rows = reader.query("SELECT map, scale FROM {s}.cell_average WHERE neuron = ?", [neuron], s=scores)
    return _unpacked(rows["map"][0], float(rows["scale"][0])) if len(rows) else None


def _has(reader: Reader, artifact: Artifact, table: str) -> bool:
    """Whether an artifact, maybe of an older version, has a table."""
    known = reader.query(
        "SELECT 1 AS one FROM duckdb_tables() WHERE database_name = ? AND table_name = ?",
        [reader.alias(artifact).strip('"'), table], a=artifact,
    )  # fmt: skip
    return bool(len(known))


def outlines(
    reader: Reader, cohort: Artifact, size_of: dict[int, tuple[int, int]], findings: set[str] | None, longest: int
) -> dict[int, np.ndarray]:
    """image -> bool [h, w], its longer side `longest` px: where one of `findings` (None: any) was planted, or marked by
    readers with a mask or a box."""
    numbers = ", ".join(str(i) for i in size_of) or "-1"
    shapes: list[tuple[int, str, Any, bool]] = []
    rows = reader.query(f"SELECT image, finding, runs FROM {{c}}.mask WHERE image IN ({numbers})", c=cohort)
    shapes += [(int(i), str(f), runs, True) for i, f, runs in rows.itertuples(index=False)]
    if _has(reader, cohort, "box"):
        rows = reader.query(
            f"SELECT image, label, [x, y, width, height] AS box FROM {{c}}.box WHERE image IN ({numbers})", c=cohort
        )
        shapes += [(int(i), str(f), box, False) for i, f, box in rows.itertuples(index=False)]
    found: dict[int, np.ndarray] = {}
    for image, finding, shape, outlined in shapes:
        if findings is not None and finding not in findings:
            continue
        small = _small(shape, size_of[image], longest, outlined)
        if small is not None:
            found[image] = found[image] | small if image in found else small
    return found


def _small(shape: Any, size: tuple[int, int], longest: int, outlined: bool) -> np.ndarray | None:
    """A mask (run lengths) or a box of a picture of `size`, made smaller; None for a box of another picture."""
    shrink = longest / max(size)
    rows, columns = (max(1, round(side * shrink)) for side in size)
    if outlined:
        y, x = (((np.arange(n) + 0.5) * side / n).astype(int) for n, side in ((rows, size[0]), (columns, size[1])))
        return decode(list(shape), size)[np.ix_(y, x)]
    if geometry.box_mask(tuple(shape), size) is None:
        return None
    left, top, width, height = (float(v) * shrink for v in shape)
    return geometry.box_mask((left, top, width, height), (rows, columns))


def who_marked(reader: Reader, cohort: Artifact) -> str:
    """Who knows where findings of this cohort are: planted, readers, or "" where nobody does."""
    if cohort.facts.get("source") == "simulated":
        return "planted"
    marks = reader.query("SELECT 1 AS one FROM {c}.mask LIMIT 1", c=cohort)
    if not len(marks) and _has(reader, cohort, "box"):
        marks = reader.query("SELECT 1 AS one FROM {c}.box LIMIT 1", c=cohort)
    return "readers" if len(marks) else ""


def localisation(reader: Reader, scores: Artifact, neuron: int | None = None) -> Frame:
    """The table `localisation` with `verdict` (`scoring.localisation.verdict`), of one neuron or of all; empty where
    nothing was planted or marked, or maps are missing."""
    if missing(scores):
        return pd.DataFrame()
    where = "" if neuron is None else f" WHERE representation <> 'random' AND neuron = {int(neuron)}"
    if neuron is not None and scores.facts.get("representation") == "sae":
        where = f" WHERE representation = 'sae' AND neuron = {int(neuron)}"
    rows = reader.query(f"SELECT * FROM {{s}}.localisation{where} ORDER BY hit DESC NULLS LAST", s=scores)
    if "source" not in rows:
        rows = rows.assign(source="planted")
    four = (rows[name] for name in ("hit", "low", "place", "p"))
    return rows.assign(
        verdict=[verdict(*(None if pd.isna(v) else float(v) for v in r)) for r in zip(*four, strict=True)]
    )


def told(reader: Reader, scores: Artifact, neuron: int) -> set[str] | None:
    """The findings with masks that this neuron tells best, as masks are named; None (all of them) without any."""
    rows = localisation(reader, scores, neuron)
    if not len(rows):
        return None
    return {
        str(f).partition(":")[0] if source == "planted" else str(f)
        for f, source in zip(rows["finding"], rows["source"], strict=True)
    }


VERDICTS = {
    "follows": "looks there",
    "place": "knows the usual place",
    "no": "does not look there",
    "few": "too few pictures",
}
"""What a verdict of localisation is called."""


def encoder_verdicts(rows: Frame) -> dict[str, str]:
    """finding -> what all representations of one encoder say together, from rows of `localisation`: "no" means that
    none of its best neurons, SAE, raw or random direction, looks there."""
    return {str(f): of_encoder(list(mine["verdict"])) for f, mine in rows.groupby("finding", sort=False)}


def deletion(reader: Reader, scores: Artifact, neuron: int) -> dict[str, Any] | None:
    """The row of the table `deletion` of a neuron; None where it was not among those that were tried."""
    if missing(scores) or not _has(reader, scores, "deletion"):
        return None
    rows = reader.query("SELECT * FROM {s}.deletion WHERE neuron = ?", [neuron], s=scores).to_dict("records")
    return rows[0] if rows else None
