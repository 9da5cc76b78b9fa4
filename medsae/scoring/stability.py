"""Do two trainings find the same neurons? Each neuron of one SAE is matched with at most one of the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


@dataclass(frozen=True)
class Stability:
    """Matched pairs, best first; as many as the smaller SAE has (live) neurons."""

    a: NDArray[np.int64]
    """Neuron of the first SAE."""
    b: NDArray[np.int64]
    """Its partner in the second."""
    cosine: NDArray[np.float64]
    """Cosine of their decoder rows, sorted from highest to lowest."""
    mean: float
    quantiles: NDArray[np.float64]
    """5, 25, 50, 75 and 95 % of the cosines."""
    random_mean: float
    """The mean that directions drawn at random, with the second moments of the second decoder, would give."""
    random_quantiles: NDArray[np.float64]


QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def stability(
    decoder_a_md: NDArray[np.floating],
    decoder_b_md: NDArray[np.floating],
    seed: int = 0,
    live_a_m: NDArray[np.bool_] | None = None,
    live_b_m: NDArray[np.bool_] | None = None,
) -> Stability:
    """One-to-one matching of decoder rows [m, d] with the largest total cosine (Hungarian method).

    The decoders may differ in m but not in d, and belong to the same embeddings. `live_*` leaves dead neurons out: a
    dead row kept its random start, and equal seeds would match it. High cosines are bound to occur when m is large
    against d or when rows crowd into few dimensions: compare with `random_mean`. Two matchings; at m = 4096 about 4 s
    each and 0.3 GiB, growing with m^3 and m^2.
    """
    assert decoder_a_md.shape[1] == decoder_b_md.shape[1], "decoders of embeddings of one dimension"
    a_index = np.flatnonzero(_live(decoder_a_md, live_a_m))
    b_index = np.flatnonzero(_live(decoder_b_md, live_b_m))
    a, b = _unit(decoder_a_md[a_index]), _unit(decoder_b_md[b_index])
    left, right, cosine = _match(a, b)
    rng = np.random.default_rng([seed, 4])
    # Gaussian mixtures of b's own rows have b's second moments and none of its directions.
    random = _unit(rng.standard_normal((len(b), len(b)), dtype=np.float32) @ b) if len(b) else b
    _, _, by_luck = _match(a, random)
    order = np.argsort(-cosine, kind="stable")
    return Stability(
        a_index[left[order]], b_index[right[order]], cosine[order], _mean(cosine), _quantiles(cosine),
        _mean(by_luck), _quantiles(by_luck),
    )  # fmt: skip


def _live(decoder_md: NDArray[np.floating], live_m: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Rows that take part: live and not zero."""
    nonzero = np.linalg.norm(decoder_md, axis=1) > 0
    return nonzero if live_m is None else nonzero & live_m


def _unit(rows_md: NDArray[np.floating]) -> NDArray[np.float32]:
    rows = np.asarray(rows_md, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _match(
    a: NDArray[np.float32], b: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    cosine = (a @ b.T).astype(np.float64)
    left, right = linear_sum_assignment(cosine, maximize=True)
    return left, right, cosine[left, right]


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _quantiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.quantile(values, QUANTILES) if len(values) else np.full(len(QUANTILES), np.nan)
