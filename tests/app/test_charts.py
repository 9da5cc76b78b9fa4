"""Scales of the charts where the data alone would give an odd one."""

import re

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from medsae.paper import colours, printed
from medsae.ui import bars, charts, heat

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


def test_a_heat_map_of_html_has_a_cell_a_pair_says_what_it_is_and_leads_there():
    values = np.array([[0.6, np.nan], [-0.3, 0.0]])
    html = heat.table(["4 <b>fluid", "7"], ["Edema", "استرواح الصدر"], values, lambda r, c: f"<{r},{c}>",
                      lambda r, c: f"neuron?neuron={r}&by={c}", 0.6)  # fmt: skip
    cells = re.findall(r'<a data-go tabindex="-1" href="([^"]+)" aria-label="([^"]+)" style="background:([^"]+)"', html)
    assert [(href, said) for href, said, _ in cells] == [
        (f"neuron?neuron={r}&amp;by={c}", f"&lt;{r},{c}&gt;") for r, c in ((0, 0), (1, 0), (1, 1))]  # fmt: skip
    ends = (colours.LIGHT[-1][1], colours.DARK[-1][1]), (colours.LIGHT[2][1], colours.DARK[2][1])
    assert [c for *_, c in (cells[0], cells[2])] == [f"light-dark({a},{b})" for a, b in ends]
    assert "<b>fluid" not in html and html.count("<span></span>") == 2, "the corner, and the cell without a number"
    assert heat.scale(0.6, "ρ").count("light-dark") == 9 and "−0.60" in heat.scale(0.6, "ρ")


def test_the_page_of_correlations_needs_no_library_of_plots(app, ids):
    opened = app.open("correlations", scores=ids.scores)
    assert not opened.get("plotly_chart"), "1,400 marks of plotly took a second to draw (docs/decisions/202)"


def test_over_one_label_the_legend_and_the_axis_have_room():
    frame = pd.DataFrame({"label": ["Edema"], "a": [0.7], "b": [0.6]})
    assert charts.pairs(frame, ("a", "b"), ("one", "other"), LOOKS).layout["height"] >= 150


def test_names_in_plots_are_shown_letter_by_letter_and_leave_room():
    names = [
        "<b>bold</b> & more",
        "استرواح الصدر",
        "Support devices, lines and tubes including central venous catheters",
    ]
    frame = pd.DataFrame({"label": names, "a": [0.7, 0.8, 0.9], "b": 0.6})
    figure = charts.pairs(frame, ("a", "b"), ("one", "other"), LOOKS)
    assert list(figure.layout["yaxis"].ticktext) == [
        "&lt;b>bold&lt;/b> &amp; more", "\u2068استرواح الصدر\u2069", "Support devices, lines and tube…"]  # fmt: skip
    assert figure.data[1].customdata[2][0] == names[2], "under the mouse the whole"
    places = pd.DataFrame({"neuron": [1, 2], "x": 0.0, "y": 0.0, "text": "", "passes": True, "colour": names[:2]})
    drawn = {trace.name for trace in charts.neuron_map(places, "colour", "").data}
    assert drawn == {"&lt;b>bold&lt;/b> &amp; more (1)", "\u2068استرواح الصدر\u2069 (1)"}
    assert printed._plain("\u2068&lt;b> &amp; x\u2069") == "<b> & x", "print takes no tags"
