"""How evenly a neuron's correlations are spread over the labels (paper, Eq. 4-5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_LABEL = "no label has a defined correlation with this neuron"
ALL_ZERO = "every correlation of this neuron is zero"


@dataclass(frozen=True)
class Entropy:
    """Entropy of each neuron; `bits_m` is NaN exactly where `reason_m` is not empty."""

    bits_m: NDArray[np.float64]
    """H in bits, in [0, log2 k_defined]."""
    labels_m: NDArray[np.int64]
    """k_defined: over how many labels, those with a defined correlation."""
    reason_m: NDArray[np.object_]
    """Why it is undefined; empty where it is defined."""

    @property
    def normalised_m(self) -> NDArray[np.float64]:
        """H / log2 k_defined, in [0, 1]; NaN where fewer than two labels are defined."""
        return np.divide(
            self.bits_m,
            np.log2(np.maximum(self.labels_m, 1)),
            out=np.full(len(self.bits_m), np.nan),
            where=self.labels_m >= 2,
        )


def entropy_bits(rho_mk: NDArray[np.floating]) -> NDArray[np.float64]:
    """H in bits of each row of correlations [m, k]; NaN labels are left out; NaN where nothing or only zeros are left.

    p = |rho| / sum |rho| (Eq. 4), H = -sum p log2 p (Eq. 5), written as log2 S - sum |rho| log2 |rho| / S.
    """
    size = np.fmax(np.abs(rho_mk, dtype=np.float64), 0.0)  # NaN becomes 0
    total = size.sum(1)
    # The scale of |rho| does not matter: divide first, so that tiny correlations do not underflow.
    p = size / np.where(total > 0, total, 1.0)[:, None]
    # p log p is 0 at p = 0, and below 1e-297 for what is lifted to the floor.
    bits = -np.einsum("mk,mk->m", p, np.log2(np.maximum(p, 1e-300)))
    # -0.0 of a one-label neuron is 0; a rounding error below zero is 0 too.
    return np.where(total > 0, np.maximum(bits, 0.0), np.nan)


def entropy(rho_mk: NDArray[np.floating]) -> Entropy:
    """Entropy of every neuron from its correlations [m, k] (NaN = undefined), with the reason where there is none.

    It says how peaked the profile of |rho| is, not how strong: a neuron of pure noise has a profile too (about
    3.42 bits of 3.81 over 14 labels). Read it beside its permutation null.
    """
    bits = entropy_bits(rho_mk)
    defined = np.isfinite(rho_mk).sum(1)
    reason = np.where(defined == 0, NO_LABEL, np.where(np.isnan(bits), ALL_ZERO, "")).astype(object)
    return Entropy(bits, defined.astype(np.int64), reason)
