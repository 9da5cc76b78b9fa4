"""The text lens: how near each neuron's direction lies to words, beside directions drawn at random.

In few dimensions some word is near every direction, so a cosine alone says nothing. The null: directions drawn at
random with the second moments of the embeddings, as neurons of a useless representation of the same encoder would lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RANDOM = 1000
"""Directions drawn at random."""
SAME = 0.9999
"""Terms whose texts are nearer than this are one term to the encoder; the first of them stands for all."""


@dataclass(frozen=True)
class Lens:
    """Neurons against terms."""

    cosine_mt: NDArray[np.float32]
    p_m: NDArray[np.float64]
    """Share of random directions whose nearest term is as near as the neuron's, (1 + count) / (1 + RANDOM)."""
    null_high_t: NDArray[np.float64]
    """95 % of random directions lie below this cosine with the term."""
    null_most_t: NDArray[np.float64]
    """The largest of them."""


def unit(x_nd: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows of length 1; a row of zeros stays."""
    x = np.asarray(x_nd, float)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def lens(row_md: NDArray[np.floating], term_td: NDArray[np.floating], x_nd: NDArray[np.floating], seed: int) -> Lens:
    """Cosines of decoder rows [m, d] with terms [t, d]; `x_nd`: embeddings whose second moments (about their mean) the
    random directions have. NaN p for a row of zeros."""
    row, term = unit(row_md), unit(term_td)
    cosine = row @ term.T
    null = random_with_spread(x_nd, RANDOM, np.random.default_rng([seed, 31])) @ term.T
    best = np.sort(null.max(1))
    above = RANDOM - np.searchsorted(best, cosine.max(1) - 1e-12, "left")
    p = np.where(np.abs(row).sum(1) > 0, (1 + above) / (1 + RANDOM), np.nan)
    return Lens(cosine.astype(np.float32), p, np.quantile(null, 0.95, axis=0), null.max(0))


def random_with_spread(x_nd: NDArray[np.floating], count: int, rng: np.random.Generator) -> NDArray[np.floating]:
    """Directions [count, d] of unit length drawn with the second moments of embeddings about their mean."""
    centred = np.asarray(x_nd, float) - np.mean(x_nd, axis=0, dtype=float)
    # A random mixture of centred embeddings has their second moments without a root of the matrix being taken.
    return unit(rng.standard_normal((count, len(centred))) @ centred / np.sqrt(max(len(centred), 1)))


def told_apart(term_td: NDArray[np.floating]) -> NDArray[np.intp]:
    """Positions of the terms that the encoder tells from all earlier ones."""
    term = unit(term_td)
    kept: list[int] = []
    for i in range(len(term)):
        if not kept or float((term[kept] @ term[i]).max()) < SAME:
            kept.append(i)
    return np.array(kept, np.intp)
