"""Do two SAEs find the same neurons? Trained with another seed, a neuron that is found again is about the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from medsae.progress import UserError
from medsae.sae.model import Sae


@dataclass(frozen=True)
class Match:
    """The one-to-one matching of neurons that makes the sum of decoder cosines largest."""

    neuron: np.ndarray
    """int64 [p]: neurons of the first SAE, ascending; p is the smaller number of neurons."""
    other: np.ndarray
    """int64 [p]: the matched neuron of the second SAE."""
    cosine: np.ndarray
    """float32 [p], in [-1, 1]; NaN where a decoder row is 0."""

    @property
    def stability(self) -> float:
        """Mean cosine over the pairs, those of NaN left out; NaN if there is no other."""
        known = self.cosine[np.isfinite(self.cosine)]
        return float(known.mean()) if len(known) else float("nan")


def match(first: Sae, second: Sae, among: np.ndarray | None = None, among_second: np.ndarray | None = None) -> Match:
    """Match neurons by the cosine of their decoder rows (Hungarian method; Fel et al., Archetypal SAE, 2025, call the
    mean cosine stability). `among`: bool [m], neurons to take (the live ones: random rows of dead neurons would lower
    every mean). Time grows with the cube of m: some minutes for 8,192. UserError for SAEs of different d."""
    if first.d != second.d:
        raise UserError(f"SAEs on {first.d} and on {second.d} dimensions have no neurons to match",
                        do="choose two SAEs of the same embeddings")  # fmt: skip
    rows, other_rows = (np.arange(s.m) if a is None else np.flatnonzero(a)
                        for s, a in ((first, among), (second, among_second)))  # fmt: skip
    a, b = (_unit(s.weights["W_dec"].cpu().numpy()[r]) for s, r in ((first, rows), (second, other_rows)))
    cosine = a @ b.T
    i, j = linear_sum_assignment(np.nan_to_num(cosine, nan=-1.0), maximize=True)
    return Match(rows[i], other_rows[j], np.clip(cosine[i, j], -1, 1))


def _unit(w_md: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(w_md, axis=1, keepdims=True)
    return w_md / np.where(norm > 0, norm, np.nan)
