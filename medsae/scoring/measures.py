"""What a measure is given and what it gives back (declared in `plugins.Measure`, offered in `scoring/offered`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsae.plugins import Measure, measures
from medsae.scoring.design import Design, Profiles

if TYPE_CHECKING:
    from medsae.scoring.curve import Curve
    from medsae.scoring.matched import Matched
    from medsae.scoring.monosemantic import Similarity
    from medsae.scoring.null import Null
    from medsae.scoring.profile import Profile

Statistic: TypeAlias = Callable[[Profiles], "float | tuple[float, int]"]

KINDS = ("profiles", "scored", "neurons", "sae")
"""Of what measures are taken (`plugins.Measure.of`), in the order of the tables."""
FEW_DRAWS = 100
"""A band of draws is printed only where this many of them are defined: 2.5 % of fewer is less than three draws."""


@dataclass(frozen=True)
class Value:
    """One row of `summary`; NaN is NULL, and the note says why."""

    value: float
    low: float = float("nan")
    high: float = float("nan")
    n: int | None = None
    note: str = ""
    null_t: NDArray[np.float64] | None = None
    """The same under shuffled labels, draw by draw, where a `scored` measure has draws of its own."""
    shuffled: str = "label rows"
    """What these draws shuffle."""


@dataclass(frozen=True)
class Scored:
    """Everything that was computed of one representation."""

    profiles: Profiles
    design: Design
    profile: Profile
    null: Null
    resampled: Mapping[str, NDArray[np.float64]]
    """Every `profiles` measure in each resample of the patients."""
    selective_t: NDArray[np.float64]
    """Share of neurons in each resample that reach what the selective ones reached."""
    curve: Curve
    matched: Matched | None
    """Raw neurons cut to fire as often; None where there is nothing to cut."""
    images: int
    fdr: float
    values: dict[str, Value] = field(default_factory=dict)
    """Rows of `summary` so far, in the order of the measures."""
    similarity: Similarity | None = None
    """Likeness of what neurons fire on, by another encoder; None where none was given."""


def statistics() -> dict[str, Statistic]:
    """The function of each measure that is taken of every draw."""
    return {name: one.loaded() for name, one in measures.all().items() if one.of == "profiles"}


def number(found: float | tuple[float, int]) -> tuple[float, int | None]:
    """(value, n) of what a statistic gave."""
    return (float(found[0]), int(found[1])) if isinstance(found, tuple) else (float(found), None)


def ordered(of: str) -> list[Measure]:
    """The measures of one kind in their order."""
    return sorted((one for one in measures.all().values() if one.of == of), key=lambda one: one.order)


def mean_over(values: NDArray[np.float64], use: NDArray[np.bool_] | None = None) -> tuple[float, int]:
    """Mean of what is defined (and chosen), and over how many; NaN over none."""
    good = np.isfinite(values) if use is None else np.isfinite(values) & use
    n = int(good.sum())
    return (float(values[good].mean()) if n else float("nan")), n


def declared() -> pd.DataFrame:
    """Every measure as a row of the table `measure`: scores carry the meaning of their numbers with them."""
    rows = [
        dict(measure=one.name, label=one.label, unit=one.unit, meaning=one.help, of=one.of, over=one.over or None,
             null_measure=one.null_measure, null_value=np.nan if one.null_value is None else one.null_value)
        for kind in KINDS for one in ordered(kind)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def table() -> str:
    """The measures as a Markdown table: what stands in docs/statistics.md between its marks."""
    lines = [
        "| measure | unit | what it is | taken over | under shuffled labels | shown |",
        "|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        for one in ordered(kind):
            null = (
                f"`{one.null_measure}`" if one.null_measure else "" if one.null_value is None else f"{one.null_value:g}"
            )
            over = one.over or ("each neuron" if kind == "neurons" else "")
            meaning = one.help.replace("|", "\\|")
            lines.append(f"| `{one.name}` | {one.unit} | {meaning} | {over} | {null} | {', '.join(one.shown)} |")
    return "\n".join(lines)
