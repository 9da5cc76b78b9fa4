"""Intervals and the false-discovery rate: what a number could have been, and which of many tests to believe.

The one home of these formulas, on the ground floor: `scoring`, `naming`, `store` and the pages take them from here.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def _z(level: float) -> float:
    """Half the width of the interval of a standard normal variable."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def _t(freedom: float, level: float) -> float:
    """The same of Student's t with `freedom` degrees of freedom, which may be endless."""
    if not np.isfinite(freedom):
        return _z(level)
    from scipy.special import stdtrit  # a sixth of the app's first page is spent on this import

    return float(stdtrit(freedom, 0.5 + level / 2))


def wilson(successes: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Interval of a share: `successes` of `n` trials, any shapes that broadcast. Both ends lie in [0, 1].

    NaN where n = 0. Unlike p +- z * se it stays inside [0, 1] and is honest at 0 and at n (Wilson 1927, JASA 22:209).
    """
    s, n = np.asarray(successes, float), np.asarray(n, float)
    assert np.all((s >= 0) & (s <= n)), "successes must lie between 0 and n"
    z = _z(level)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = s / n
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def rho_interval(rho: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Interval of a Pearson correlation by Fisher's z = atanh(rho), se = 1 / sqrt(n - 3). NaN where n < 4.

    Exact only for two normal variables; with 0/1 labels and sparse activations it is a guide to the size of the
    error, not a test (the permutation null is the test). Images of one patient are counted as independent.
    """
    rho, n = np.asarray(rho, float), np.asarray(n, float)
    z = _z(level)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = np.arctanh(np.clip(rho, -1, 1))
        half = np.where(n > 3, z / np.sqrt(np.where(n > 3, n - 3, 1)), np.nan)
        return np.tanh(centre - half), np.tanh(centre + half)


def mean_interval(value_pk: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Student's interval of the mean over the first axis (patients) -> two arrays of the other axes.

    NaN for fewer than two values. Values that do not vary give an interval of no width.
    """
    values = np.asarray(value_pk)
    n = len(values)
    middle = values.mean(0, dtype=np.float64)
    if n < 2:
        return np.full_like(middle, np.nan), np.full_like(middle, np.nan)
    half = _t(n - 1, level) * values.std(0, ddof=1, dtype=np.float64) / n**0.5
    return middle - half, middle + half


def centred_interval(value: float, draws: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Interval of `value` from bootstrap `draws`: their quantiles, moved so that their mean falls on `value`.

    A resample holds about 63 % of the patients, hence noisier correlations, hence entropies that are shifted as a
    whole; the shift is an artefact of resampling and says nothing about the spread (docs/decisions/042). NaN draws are
    left out; (NaN, NaN) with fewer than two draws.
    """
    draws = np.asarray(draws, float)
    draws = draws[np.isfinite(draws)]
    if len(draws) < 2 or not np.isfinite(value):
        return float("nan"), float("nan")
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2]) - draws.mean() + value
    return float(low), float(high)


def trainings_interval(value: float, draws: ArrayLike, *sides: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Interval of a difference `value` of means over trainings, over other patients and other trainings.

    `draws`: the difference in each resample of the patients; `sides`: the values of each side's trainings. The variance
    over patients plus, of each side with several, that of its trainings by their number, with Satterthwaite's degrees
    of freedom (1946, Biometrics Bull. 2:110). One training each: `centred_interval`, which says nothing of other ones.
    """
    draws = np.asarray(draws, float)
    draws = draws[np.isfinite(draws)]
    several = [side for side in (np.asarray(side, float) for side in sides) if len(side) > 1]
    if not several or len(draws) < 2 or not np.isfinite(value):
        return centred_interval(value, draws, level)
    trained = [side.var(ddof=1) / len(side) for side in several]
    total = float(draws.var(ddof=1) + sum(trained))
    unsure = sum(v**2 / (len(side) - 1) for v, side in zip(trained, several, strict=True))
    freedom = total**2 / unsure if unsure > 0 else np.inf
    half = _t(freedom, level) * total**0.5
    return value - half, value + half


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """q-values of the p-values `p` (any order, NaN = not tested, stays NaN and does not count as a test).

    Calling significant what has q <= f keeps the expected share of false ones among the called at f or below, for
    independent or positively dependent tests (Benjamini and Hochberg 1995, JRSS B 57:289).
    """
    p = np.asarray(p, float)
    assert p.ndim == 1 and np.all((p >= 0) & (p <= 1) | np.isnan(p)), "p-values lie in [0, 1]"
    q = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested])]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    q[order] = np.minimum(1, np.minimum.accumulate(scaled[::-1])[::-1])
    return q


def endless(size: ArrayLike, value: ArrayLike) -> float:
    """Value at endless size of a + b / sqrt(size) + c / size through three sizes (of more: least squares); else NaN."""
    size, value = np.asarray(size, float), np.asarray(value, float)
    good = np.isfinite(value) & (size > 0)
    if good.sum() < 3:
        return float("nan")
    root = 1 / np.sqrt(size[good] / size[good].max())
    terms = np.stack([np.ones_like(root), root, root**2], axis=1)
    return float(np.linalg.lstsq(terms, value[good], rcond=None)[0][0])


def jackknife(value: float, left_out: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Interval of `value` from the same number with each of g groups of patients left out (g - 1 degrees of freedom).

    NaN with fewer than three groups (Quenouille 1956, Biometrika 43:353; Tukey's variance).
    """
    left_out = np.asarray(left_out, float)
    g = len(left_out)
    if g < 3 or not np.isfinite(left_out).all() or not np.isfinite(value):
        return float("nan"), float("nan")
    se = np.sqrt((g - 1) / g * np.sum((left_out - left_out.mean()) ** 2))
    half = _t(g - 1, level) * se
    return value - half, value + half
