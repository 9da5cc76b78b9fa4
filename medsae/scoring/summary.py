"""The rows of `summary`: every declared measure, each with what shuffled labels or other patients would have given."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsae.rates import centred_interval
from medsae.scoring.measures import FEW_DRAWS, Scored, Statistic, Value, number, ordered


def summary(scored: Scored, statistics: dict[str, Statistic]) -> pd.DataFrame:
    """measure, value, low, high, n, note; also put into `scored.values`, so that one measure can rest on another."""
    values = scored.values
    for declared in ordered("profiles"):
        value, n = number(statistics[declared.name](scored.profiles))
        low, high = centred_interval(value, scored.resampled[declared.name])
        note = (
            f"{declared.unit}; {declared.help}; n: {declared.over}; 95 % interval by bootstrap over patients, at this n"
        )
        values[declared.name] = Value(value, low, high, n, note)
        _against_shuffled(values, declared.name, declared.unit, scored.null.values[declared.name])
    for declared in ordered("scored"):
        found: Value = declared.loaded()(scored)
        note = "; ".join(
            filter(None, [declared.unit, declared.help, declared.over and f"n: {declared.over}", found.note])
        )
        values[declared.name] = Value(found.value, found.low, found.high, found.n, note)
        if found.null_t is not None:
            _against_shuffled(values, declared.name, declared.unit, found.null_t, found.shuffled)
    rows = [
        dict(measure=name, value=v.value, low=v.low, high=v.high, n=0 if v.n is None else v.n, note=v.note)
        for name, v in values.items()
    ]
    return pd.DataFrame(rows)


def _against_shuffled(
    values: dict[str, Value], name: str, unit: str, draw_t: NDArray[np.float64], shuffled: str = "label rows"
) -> None:
    """null_NAME, null_NAME_sd and NAME_p_two_sided."""
    null = draw_t[np.isfinite(draw_t)]
    n, draws = len(null), len(draw_t)
    about = f"{unit}; mean of the draws with {shuffled} shuffled between patients"
    mean = float(null.mean()) if n else float("nan")
    # Where every draw is defined there are as many as were asked for; where few are, a band says nothing.
    if n >= min(FEW_DRAWS, draws) and n > 1:
        low, high = (float(end) for end in np.quantile(null, [0.025, 0.975]))
        about += "; interval: their 2.5 % and 97.5 %"
    else:
        low = high = float("nan")
        about += f"; too few draws for an interval: defined in {n} of {draws}"
    values[f"null_{name}"] = Value(mean, low, high, n, about)
    sd = float(null.std(ddof=1)) if n > 1 else float("nan")
    values[f"null_{name}_sd"] = Value(sd, n=n, note=f"{unit}; spread of these draws")
    p = two_sided(values[name].value, null)
    values[f"{name}_p_two_sided"] = Value(p, n=n, note="two-sided p against these draws")


def two_sided(value: float, null: NDArray[np.float64]) -> float:
    """Twice the smaller of two shares of draws, as low or lower and as high or higher: (1 + count) / (1 + draws)."""
    if not len(null) or not np.isfinite(value):
        return float("nan")
    low, high = (1 + (null <= value).sum()) / (1 + len(null)), (1 + (null >= value).sum()) / (1 + len(null))
    return float(min(1.0, 2 * min(low, high)))
