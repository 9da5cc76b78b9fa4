"""How far mean entropies move when other patients had come: the bootstrap by patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsae.progress import Progress, Silent
from medsae.rates import centred_interval
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


@dataclass(frozen=True)
class Difference:
    """One representation minus another, with a 95 % interval over patients and the chance of it under the null."""

    value: float
    low: float
    high: float
    null_low: float
    null_high: float
    """2.5 % and 97.5 % of the same difference under shuffled labels."""
    p: float
    """Two-sided: share of null differences at least as far from their mean."""


def paired_difference(
    value_a: float, draws_a: NDArray[np.float64], null_a: NDArray[np.float64],
    value_b: float, draws_b: NDArray[np.float64], null_b: NDArray[np.float64],
) -> Difference:  # fmt: skip
    """a - b, for two representations scored on the same images with the same seed: draw t of both is the same draw.

    `draws_*` are bootstrap draws, `null_*` permutation draws of the same mean. Pairing takes out what both share, so
    the interval is narrower than two intervals side by side suggest.
    """
    assert len(draws_a) == len(draws_b) and len(null_a) == len(null_b), "paired draws have one length"
    value, null = value_a - value_b, null_a - null_b
    low, high = centred_interval(value, draws_a - draws_b)
    null = null[np.isfinite(null)]
    if not len(null) or not np.isfinite(value):
        return Difference(value, low, high, np.nan, np.nan, np.nan)
    null_low, null_high = np.quantile(null, [0.025, 0.975])
    far = np.abs(null - null.mean()) >= abs(value - null.mean())
    return Difference(value, low, high, float(null_low), float(null_high), float((1 + far.sum()) / (1 + len(null))))
