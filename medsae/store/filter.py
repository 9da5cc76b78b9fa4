"""Which neurons, in which order: what a link says of a gallery."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

Show: TypeAlias = Literal[
    "all", "defined", "selective", "named", "called", "unjudged", "agree", "disagree", "starred", "dead"
]
Sort: TypeAlias = Literal["entropy", "-entropy", "-rho", "-density", "density", "neuron", "q", "-fall", "name"]
FIRING_LEAST = 10
"""A neuron that fires on fewer pictures than this says too little to lead a list (docs/decisions/054)."""
_OFTEN = f"least(coalesce(active, 0), {FIRING_LEAST}) DESC"
"""Those that fire on enough pictures first; of the others the ones with fewer come later."""
LEAST = 10
"""A label with fewer images on its scarcer side than this says too little to lead a list (docs/decisions/111)."""
SURE = 0.001
"""Pages say "q < 0.001" below this; neurons there are alike, and the strongest correlation comes first."""
SORTS: dict[str, str] = {
    "entropy": f"{_OFTEN}, entropy ASC NULLS LAST, neuron",
    "-entropy": "entropy DESC NULLS LAST, neuron",
    "-rho": f"{_OFTEN}, max_abs_rho DESC NULLS LAST, neuron",
    "-density": "density DESC NULLS LAST, neuron",
    "density": "density ASC NULLS LAST, neuron",
    "neuron": "neuron",
    "-fall": "(SELECT f.fall FROM {s}.confounded f WHERE f.neuron = neuron.neuron) DESC NULLS LAST, neuron",
    "q": f"{_OFTEN}, CASE WHEN q < {SURE} THEN {SURE} ELSE q END ASC NULLS LAST, max_abs_rho DESC, neuron",
    "name": "neuron",  # after those that have a name, see `Filter.order`
}
FEW_LAST = frozenset(sort for sort, order in SORTS.items() if order.startswith(_OFTEN))
"""The orders that put neurons of few pictures last; a page that uses one says so."""


@dataclass(frozen=True)
class Filter:
    """Which neurons, in which order. Bounds are inclusive; None is no bound. `ids` restricts to these neurons."""

    show: Show = "all"
    label: str | None = None
    low: float | None = None
    high: float | None = None
    density_low: float | None = None
    density_high: float | None = None
    rho: float | None = None
    search: str = ""
    sort: Sort = "entropy"
    ids: tuple[int, ...] | None = None
    least: int = LEAST
    by_name: tuple[int, ...] = ()
    """The neurons that have a name, in the order of their names: what the order `name` begins with."""

    def order(self) -> str:
        """SQL of ORDER BY over `neuron`, in a query whose scores are {s}. In the orders of `FEW_LAST` neurons whose
        label has fewer than `least` images on its scarcer side come last: the correlation is of those few."""
        if self.sort == "name" and self.by_name:
            return f"list_position([{', '.join(str(int(n)) for n in self.by_name)}], neuron) NULLS LAST, neuron"
        if self.sort not in FEW_LAST:
            return SORTS[self.sort]
        scarce = f"SELECT label FROM {{s}}.label_summary WHERE least(positives, used - positives) < {int(self.least)}"
        return f"coalesce(top_label IN ({scarce}), false), {SORTS[self.sort]}"

    def among(self, ids: set[int] | None) -> Filter:
        """The same filter restricted further to `ids` (None: not restricted)."""
        if ids is None:
            return self
        return replace(self, ids=tuple(sorted(ids if self.ids is None else ids & set(self.ids))))

    def where(self) -> tuple[str, list[Any]]:
        """SQL condition over `neuron` and its parameters."""
        parts: list[str] = []
        values: list[Any] = []
        shown = {"defined": "entropy IS NOT NULL", "selective": "selective", "dead": "entropy IS NULL"}
        if self.show in shown:
            parts.append(shown[self.show])
        for test, value in (
            ("top_label = ?", self.label), ("entropy >= ?", self.low), ("entropy <= ?", self.high),
            ("density >= ?", self.density_low), ("density <= ?", self.density_high), ("max_abs_rho >= ?", self.rho),
        ):  # fmt: skip
            if value is not None:
                parts.append(test)
                values.append(value)
        if self.ids is not None:
            parts.append("neuron IN (SELECT unnest(?::INTEGER[]))")
            values.append(list(self.ids))
        return " AND ".join(parts) or "TRUE", values
