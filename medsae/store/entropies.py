"""What can be claimed of a mean entropy: against its null, with other patients and trainings, with more pictures.

Scores made before a measure existed lack its rows or tables: every function then answers None or an empty frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medsae.rates import endless, jackknife, trainings_interval
from medsae.store.artifacts import Artifact
from medsae.store.queries import Measure
from medsae.store.reader import Frame, Reader

LEVEL = 0.05
"""Two-sided p at or below which a mean entropy is told from its null."""
SAID = {
    "above": "above its null: these neurons follow several labels that occur together",
    "below": "below its null: these neurons are more peaked than chance makes them",
    "within": "not told from its null: this mean entropy is what shuffled labels give",
    "unknown": "no null was computed for it",
}
"""What a mean entropy says, by `side`."""
ALL = -1
"""`left_out` in the rows of `entropy_curve` where nobody is left out."""


def side(summary: dict[str, Measure], measure: str = "mean_entropy") -> str:
    """above, below or within its null, by the two-sided p; unknown where it was not computed then."""
    value, null, p = (summary.get(name) for name in (measure, f"null_{measure}", f"{measure}_p_two_sided"))
    if any(one is None or one.value is None for one in (value, null, p)):
        return "unknown"
    assert value and null and p and value.value is not None and null.value is not None and p.value is not None
    if p.value > LEVEL:
        return "within"
    return "above" if value.value > null.value else "below"


def has(reader: Reader, artifact: Artifact, table: str) -> bool:
    """Whether an artifact has a table; older ones may lack it."""
    name = reader.alias(artifact).strip('"')
    return bool(reader.rows("SELECT 1 AS one FROM duckdb_tables() WHERE database_name = ? AND table_name = ?",
                            [name, table]))  # fmt: skip


def neuron_measures(reader: Reader, scores: Artifact, neuron: int) -> dict[str, float | None]:
    """Declared measures of one neuron by name; empty where none was computed then."""
    if not has(reader, scores, "neuron_measure"):
        return {}
    rows = reader.rows("SELECT measure, value FROM {s}.neuron_measure WHERE neuron = ?", [neuron], s=scores)
    return {row["measure"]: None if pd.isna(row["value"]) else float(row["value"]) for row in rows}


@dataclass(frozen=True)
class Shift:
    """One representation minus another (bits); low and high are a 95 % interval, or None."""

    value: float | None
    low: float | None = None
    high: float | None = None
    seeds: int = 1
    """Trainings that the value is the mean of; the interval then covers other seeds as well as other patients."""
    spread: float | None = None
    """Standard deviation over the trainings; None for one."""
    note: str = ""


def family(artifacts: Sequence[Artifact], scores: Artifact) -> list[Artifact]:
    """Scores of the same configuration under every seed of the SAE, these among them, in the order of seeds."""
    saes = {a.id: a for a in artifacts if a.kind == "sae"}
    own = saes.get(scores.parents.get("sae", ""))
    if own is None:
        return [scores]

    def asked(one: Artifact) -> tuple[Any, ...]:
        sae = saes.get(one.parents.get("sae", ""))
        if sae is None:
            return ()
        kept = {k: v for k, v in one.config.items() if k not in ("sae", "versus")}
        return ({k: v for k, v in sae.config.items() if k != "seed"}, kept, sae.parents)

    found = [a for a in artifacts if a.kind == "scores" and asked(a) == asked(scores)]
    seeds: dict[Any, Artifact] = {}
    for one in found:  # of one SAE scored twice (with and without --versus) one is enough
        seed = saes[one.parents["sae"]].config.get("seed")
        seeds[seed] = scores if scores.id in (one.id, getattr(seeds.get(seed), "id", "")) else one
    return [seeds[seed] for seed in sorted(seeds, key=str)]


def shift(
    reader: Reader, first: Sequence[Artifact], second: Sequence[Artifact], measure: str = "mean_entropy"
) -> Shift:
    """Mean over the trainings of `first` minus mean over those of `second` of a measure that is taken of draws.

    The draws pair (draw t resampled the same patients for all), so what all share cancels. Several trainings: the
    variance over patients plus that of the trainings by their number, with Satterthwaite's degrees of freedom.
    """
    sides = []
    for scores in (first, second):
        values, draws = [], []
        for one in scores:
            found = reader.query("SELECT value FROM {s}.summary WHERE measure = ?", [measure], s=one)["value"]
            if not len(found) or pd.isna(found[0]) or not has(reader, one, "draw_measure"):
                return Shift(None, note="not computed then")
            values.append(float(found[0]))
            draws.append(reader.query(
                "SELECT value FROM {s}.draw_measure WHERE measure = ? AND kind = 'bootstrap' ORDER BY draw",
                [measure], s=one)["value"].to_numpy(float))  # fmt: skip
        sides.append((np.array(values), draws))
    (a, drawn_a), (b, drawn_b) = sides
    value = float(a.mean() - b.mean())
    spread = float(a.std(ddof=1)) if len(a) > 1 else None
    keys = ("images", "seed", "bootstraps", "labels", "uncertain", "unstated")
    same = {tuple(str(one.config.get(k)) for k in keys) for one in (*first, *second)}
    if len(same) > 1 or len({len(d) for d in (*drawn_a, *drawn_b)}) > 1:
        return Shift(value, seeds=len(a), spread=spread, note="draws do not pair: other images, labels, seed or number")
    moved = np.mean(drawn_a, axis=0) - np.mean(drawn_b, axis=0)
    low, high = trainings_interval(value, moved, a, b)
    known = np.isfinite(low)
    return Shift(value, float(low) if known else None, float(high) if known else None, len(a), spread)


@dataclass(frozen=True)
class Sizes:
    """Mean entropy (bits) by number of pictures, of neurons that fire on ten pictures or more."""

    table: Frame
    """images, first, second, difference; the largest size first. `second` and `difference` NaN without a second."""
    endless: tuple[Shift, Shift | None, Shift | None]
    """Where first, second and their difference would end with endless pictures."""

    @property
    def settled(self) -> bool:
        """Whether the difference has one sign at every size and at the end, and its last interval leaves out 0."""
        end = self.endless[2]
        if end is None or end.value is None or end.low is None or end.high is None:
            return False
        signs = set(np.sign([*self.table["difference"], end.value]))
        return len(signs) == 1 and (end.low > 0 or end.high < 0)


def sizes(reader: Reader, first: Artifact, second: Artifact | None) -> Sizes | None:
    """The curves of `entropy_curve`; None where they were not computed then (or there are too few patients)."""
    curves = []
    for one in (first, second):
        if one is None:
            continue
        if not has(reader, one, "entropy_curve"):
            return None
        rows = reader.query("SELECT left_out, parts, images, mean_entropy FROM {s}.entropy_curve", s=one)
        if rows.empty or rows["mean_entropy"].isna().any():
            return None
        curves.append(rows.set_index(["left_out", "parts"]).sort_index())
    size = curves[0]["images"]
    values = [c["mean_entropy"] for c in curves]
    paired = len(curves) == 2 and len(values[0]) == len(values[1]) and np.allclose(size, curves[1]["images"])
    difference = values[0] - values[1] if paired else None
    whole = size.loc[ALL]
    table = pd.DataFrame({"images": whole, "first": values[0].loc[ALL]})
    table["second"] = values[1].loc[ALL] if len(values) == 2 else np.nan
    table["difference"] = difference.loc[ALL] if difference is not None else np.nan
    ends = [_end(size, v) for v in values] + ([_end(size, difference)] if difference is not None else [])
    ends += [None] * (3 - len(ends))
    assert ends[0] is not None
    return Sizes(table.sort_values("images", ascending=False).reset_index(drop=True), (ends[0], ends[1], ends[2]))


def _end(size: pd.Series[Any], value: pd.Series[Any]) -> Shift:
    left = sorted({int(g) for g, _ in value.index})
    ends = {g: endless(size.loc[g], value.loc[g]) for g in left}
    low, high = jackknife(ends[ALL], [ends[g] for g in left if g != ALL])
    known = np.isfinite(low)
    return Shift(ends[ALL], float(low) if known else None, float(high) if known else None)
