"""A linear probe for each label: logistic regression on embeddings of training patients, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from medsae.arrays import Rows

PENALTIES = (1e-3, 1e-2, 1e-1)
"""Ridge penalties that are tried, on standardised embeddings and the mean log loss."""
MOST = 10_000
"""Images that a probe is fitted on at most, drawn by patient."""
CHOOSING = 3_000
"""Of them, images that choose the penalty."""
LEAST = 20
"""Images with the label, and without it, that a probe needs."""


@dataclass(frozen=True)
class Probe:
    """One label's read-out: logit = weight . x + bias."""

    weight_d: NDArray[np.float64]
    bias: float
    covariance_dd: NDArray[np.float64]
    """Of the weights, by patient (sandwich). The ridge's own bias is not in it."""
    n: int
    positives: int
    penalty: float


def fit(
    x_nd: NDArray[np.floating] | Rows, y_n: NDArray[np.floating], patient_n: NDArray[np.integer], seed: int = 0
) -> Probe | str:
    """The probe of one label (1 present, 0 absent) over images where it is known, or why there is none.

    The penalty is the one of `PENALTIES` with the smallest log loss on a fifth of the patients; then all are fitted.
    """
    rng = np.random.default_rng([seed, 21])
    order_p = rng.permutation(int(patient_n.max(initial=0)) + 1)
    place_n = np.argsort(order_p)[patient_n]
    kept = np.sort(np.argsort(place_n, kind="stable")[:MOST])
    x, y, patient, place = np.asarray(x_nd[kept], np.float64), y_n[kept] > 0, patient_n[kept], place_n[kept]
    if min(y.sum(), (~y).sum()) < LEAST:
        return f"{int(y.sum())} present, {int((~y).sum())} absent among the training images; {LEAST} of each are needed"
    mean, spread = x.mean(0), x.std(0)
    spread = np.where(spread > 1e-12, spread, np.inf)  # a constant coordinate tells nothing
    x = ((x - mean) / spread).astype(np.float32)
    some = place <= np.sort(place)[min(len(place), CHOOSING) - 1]
    penalty = _chosen(x[some], y[some], place[some] >= np.quantile(place[some], 0.8))
    weight, bias = logistic(x, y, penalty)
    covariance = _sandwich(x, y, weight, bias, (penalty, patient)) / np.outer(spread, spread)
    raw = weight / spread
    return Probe(raw, float(bias - raw @ mean), covariance, len(y), int(y.sum()), penalty)


def _chosen(x: NDArray[np.floating], y: NDArray[np.bool_], judges: NDArray[np.bool_]) -> float:
    if min(y[judges].sum(), (~y[judges]).sum(), y[~judges].sum(), (~y[~judges]).sum()) < 5:
        return PENALTIES[-1]
    losses = []
    for penalty in PENALTIES:
        weight, bias = logistic(x[~judges], y[~judges], penalty)
        losses.append(float(np.logaddexp(0, np.where(y[judges], -1, 1) * (x[judges] @ weight + bias)).mean()))
    return PENALTIES[int(np.argmin(losses))]


def logistic(x_nd: NDArray[np.floating], y_n: NDArray[np.bool_], penalty: float) -> tuple[NDArray[np.float64], float]:
    """Weights [d] and bias with the smallest mean log loss + penalty / 2 |weights|^2; the bias is free."""
    n, d = x_nd.shape
    # In these coordinates the loss curves about equally in every direction: a tenth of the steps.
    size, turn = np.linalg.eigh(x_nd.T @ x_nd / n)
    turn = turn.astype(np.float64) / np.sqrt(np.maximum(size, 0) / 4 + penalty + 1e-9)
    u_nd = x_nd @ turn.astype(x_nd.dtype)
    stiff = penalty * (turn.T @ turn)

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logit = (u_nd @ theta[:d].astype(u_nd.dtype)).astype(np.float64) + theta[d]
        pull = stiff @ theta[:d]
        value = np.logaddexp(0, np.where(y_n, -logit, logit)).mean() + theta[:d] @ pull / 2
        miss = (expit(logit) - y_n) / n
        return float(value), np.append(u_nd.T @ miss.astype(u_nd.dtype) + pull, miss.sum())

    found = minimize(loss, np.zeros(d + 1), jac=True, method="L-BFGS-B", options={"maxiter": 200, "ftol": 1e-9})
    return turn @ found.x[:d], float(found.x[d])


def _sandwich(
    x: NDArray[np.floating], y: NDArray[np.bool_], weight: NDArray[np.float64], bias: float,
    how: tuple[float, NDArray[np.integer]],
) -> NDArray[np.float64]:  # fmt: skip
    penalty, patient = how
    n, d = x.shape
    p = expit(x @ weight + bias)
    whole = np.column_stack([x, np.ones(n)])
    hessian = (whole * (p * (1 - p))[:, None]).T @ whole / n + penalty * np.diag(np.append(np.ones(d), 0))
    _, code = np.unique(patient, return_inverse=True)
    sums = np.zeros((int(code.max()) + 1, d + 1))
    np.add.at(sums, code, whole * (p - y)[:, None])
    inverse = np.linalg.pinv(hessian)
    return (inverse @ (sums.T @ sums) @ inverse / n**2)[:d, :d]
