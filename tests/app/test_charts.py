"""Scales of the charts where the data alone would give an odd one."""

import re

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from medsae.ui import bars, charts

LOOKS = ("#2f7ed8", "#d98b3a")


def rhos(*rho: float, interval: float = np.nan) -> pd.DataFrame:
    """A frame of correlations; intervals of half-width `interval`, or none."""
    rho_l = np.array(rho)
    return pd.DataFrame({
        "label": [f"label {i}" for i in range(len(rho))], "rho": rho_l, "low": rho_l - interval,
        "high": rho_l + interval, "n": 20, "reason": None,
    })  # fmt: skip


@pytest.mark.parametrize("interval", [np.nan, 0.1])
def test_bars_stay_in_their_box_with_and_without_intervals(interval):
    html = bars.correlations(rhos(0.77, -0.4, np.nan, interval=interval), "sae")
    found = [tuple(map(float, each)) for each in re.findall(r"left:([-\d.]+)%;width:([\d.]+)%", html)]
    assert len(found) == (2 if np.isnan(interval) else 4)
    assert all(left >= 0 and left + width <= 100.1 for left, width in found)
    scale = 0.77 if np.isnan(interval) else 0.87
    assert found[0][1] == pytest.approx(50 * 0.77 / scale, abs=0.06)
    low, high = charts.correlations(rhos(0.77, -0.4, np.nan, interval=interval), "#000000").layout["xaxis"].range
    assert high == -low == pytest.approx(1.05 * scale)


@pytest.mark.parametrize(
    ("values", "least"), [((0.496, 0.5), 0.4), ((0.2, 0.9), 0.2), ((np.nan, 0.7), 0.4), ((np.nan, np.nan), 0.4)]
)
def test_axis_of_aurocs_shows_at_least_04_to_1(values, least):
    frame = pd.DataFrame({"label": ["Edema"], "a": values[:1], "b": values[1:]})
    low, high = charts.pairs(frame, ("a", "b"), ("one", "other"), LOOKS).layout["xaxis"].range
    assert least - 0.05 <= low < least and 1 < high < 1.05


@pytest.mark.parametrize(
    ("l0", "fve", "right", "points"),
    [
        ([31.0], [0.8], 34.1, 1),
        ([31.0, 10.0], [-0.5, 0.9], 34.1, 2),
        ([np.nan], [np.nan], 1.0, 0),
        ([5.0], [1.0], 5.5, 1),
    ],
)
def test_axes_of_the_pareto_plot_hold_every_point(l0, fve, right, points):
    frame = pd.DataFrame({"active": l0, "fve": fve, "text": "an SAE", "scores": "scores-1", "here": True})
    figure = charts.pareto(frame)
    assert isinstance(figure, go.Figure) and len(figure.data[0].x) == points
    assert figure.layout["xaxis"].range == (0, pytest.approx(right))
    low, high = figure.layout["yaxis"].range
    assert all(low < y <= 1 < high for y in figure.data[0].y) and 1 < high < 1.05
