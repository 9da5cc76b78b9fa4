"""Truth recovery: where factors are planted, does any neuron find them, and better than what costs nothing?

Only for cohorts whose truth is known (the simulated one). Rivals: the raw neurons, and as many random directions of the
embedding space as the SAE has neurons. An SAE neuron is judged by its activation and, if it can be had, by its
pre-activation, because ranking among images where it does not fire is lost in the activation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medsae.scoring.activity import Held, Source
from medsae.scoring.best import Best, best_neurons
from medsae.scoring.draws import Patients

REPRESENTATIONS = ("activation", "preactivation", "raw", "random")
"""What truth recovery is told of, by these names."""


@dataclass(frozen=True)
class Recovery:
    """`best[representation][j]`: how well its best neuron tells factor j."""

    best: dict[str, list[Best]]

    def mean(self, representation: str, factors: NDArray[np.bool_] | None = None) -> tuple[float, int]:
        """Mean AUROC on the judging half over the factors that every representation was judged on, and their number."""
        judged = self.judged() if factors is None else self.judged() & factors
        values = [b.other.value for b, use in zip(self.best[representation], judged, strict=True) if use]
        return (float(np.mean(values)) if values else float("nan")), len(values)

    def judged(self) -> NDArray[np.bool_]:
        """Factors with an AUROC in every representation."""
        rows = [[bool(np.isfinite(b.other.value)) for b in row] for row in self.best.values()]
        return np.array([all(column) for column in zip(*rows, strict=True)], bool)


def truth_recovery(
    representations: Mapping[str, Source | Held],
    factors_nf: NDArray[np.bool_],
    patients: ArrayLike,
    seed: int = 0,
    mask_nf: NDArray[np.bool_] | None = None,
) -> Recovery:
    """Best-neuron AUROC of every planted factor [n, f] in every representation.

    Representations by the names of `REPRESENTATIONS` (`random`: `RandomDirections(raw, m, seed)`), all of the same
    images in the same order. The neuron is chosen on one half of the patients and judged on the other;
    the same halves for all. `mask_nf`: where a factor is defined at all (a side only among those with the finding).
    """
    assert set(representations) <= set(REPRESENTATIONS), f"names are among {REPRESENTATIONS}"
    n = len(factors_nf)
    mask = np.ones(factors_nf.shape, bool) if mask_nf is None else mask_nf
    grouped = Patients.of(patients)
    best = {}
    for name, source in representations.items():
        held = source
        if not isinstance(held, Held):
            held = Held(held, n)
            for _ in held.first_pass() if held.held is not None else ():
                pass  # a sparse source is held by its first pass; a dense one is read when it is sorted
        best[name] = best_neurons(held, factors_nf.astype(np.float32), mask, grouped, seed)
    return Recovery(best)
