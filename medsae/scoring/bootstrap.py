"""How far mean entropies move when other patients had come: the bootstrap by patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsae.progress import Progress, Silent
from medsae.scoring.activity import Held
from medsae.scoring.draws import Resamples, correlations_of_draws
from medsae.scoring.entropy import entropy_bits
from medsae.scoring.null import STRONG, largest


@dataclass(frozen=True)
class Bootstrap:
    """One value a draw; draw t resamples the same patients for every representation of the same images and seed."""

    mean_t: NDArray[np.float64]
    """Mean entropy over all neurons where it is defined in that draw, bits."""
    strong_mean_t: NDArray[np.float64]
    """The same over neurons with max |rho| > 0.2 in that draw."""


def bootstrap_mean_entropy(
    held: Held,
    y_nk: NDArray[np.float32],
    mask_nk: NDArray[np.bool_],
    resamples: Resamples,
    progress: Progress | None = None,
) -> Bootstrap:
    """Mean entropies of resampled patients (images of one patient stay together, counted as often as it is drawn)."""
    mean_t, strong_t = np.full(resamples.draws, np.nan), np.full(resamples.draws, np.nan)
    with (progress or Silent()).task("bootstrap by patient", resamples.draws, "draws") as task:
        for t, (rho_mk, _) in enumerate(correlations_of_draws(held, y_nk, mask_nk, resamples)):
            bits = entropy_bits(rho_mk)
            good = np.isfinite(bits)
            strong = good & (largest(np.abs(rho_mk))[0] > STRONG)
            mean_t[t] = bits[good].mean() if good.any() else np.nan
            strong_t[t] = bits[strong].mean() if strong.any() else np.nan
            task.advance()
    return Bootstrap(mean_t, strong_t)
