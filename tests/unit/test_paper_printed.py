"""What is printed is whole, on white, at the widths of journals, with its fonts, whatever the window looks like."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medsae.paper import colours, plots, printed


def histograms():
    bins = pd.DataFrame(
        {"low": [0.0, 0.5, 1.0], "count": [2, 5, 3], "share": [0.2, 0.5, 0.3], "cumulative": [0.2, 0.7, 1.0]}
    )
    null = pd.DataFrame({"low": [0.0, 1.0], "high": [1.0, 2.0], "mean": [0.3, 0.7], "low_share": [0.1, 0.2],
                         "high_share": [0.4, 0.5], "cumulative": [0.3, 1.0]})  # fmt: skip
    return bins, null


def entropies(view):
    bins, null = histograms()
    shown = plots.Histograms(bins, bins, null, ("SAE", "raw"), (colours.SAE, colours.RAW))
    return plots.entropies(shown, plots.BitsAxis(1.0, "bits", 2.0, 0.5), view, (0.2, 0.9))


def heat_map():
    frame = pd.DataFrame([(n, label, rho, rho - 0.1, rho + 0.1, 90) for n in (4, 7) for label, rho in (("Edema", 0.5), ("Enlarged Cardiomediastinum", -0.3))],
                         columns=["neuron", "label", "rho", "low", "high", "n"])  # fmt: skip
    return plots.heat_map(frame, ["Edema", "Enlarged Cardiomediastinum"], [4, 7], 0.6, {4: "4 fluid", 7: "7"})


def correlations():
    return plots.correlations(
        pd.DataFrame(
            {
                "label": ["Edema", "Fracture"],
                "rho": [0.5, -0.2],
                "low": [0.3, np.nan],
                "high": [0.6, np.nan],
                "n": [50, 9],
            }
        ),
        colours.SAE,
    )


def others():
    frame = pd.DataFrame({"a": ["Edema", "Edema"], "b": ["Edema", "Fracture"], "share": [1.0, 0.2]})
    pairs = pd.DataFrame({"label": ["Edema", "Fracture"], "one": [0.8, np.nan], "two": [0.7, 0.6]})
    recovery = pd.DataFrame(
        {
            "factor": ["device", "side:left"],
            "activation": [0.9, np.nan],
            "preactivation": [0.8, 0.7],
            "raw": [0.7, 0.6],
            "random": [0.6, 0.55],
        }
    )
    saes = pd.DataFrame(
        {"active": [8.0, 16.0], "fve": [0.8, 0.9], "scores": ["a", "b"], "text": ["a", "b"], "here": [True, False]}
    )
    curve = pd.DataFrame({"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.5]})
    return {
        "square": plots.square(frame, ["Edema", "Fracture"]),
        "pairs": plots.pairs(pairs, ("one", "two"), ("SAE", "raw"), (colours.SAE, colours.RAW)),
        "recovery": plots.recovery(recovery),
        "pareto": plots.pareto(saes),
        "lines": plots.lines(curve, "epoch", {"loss": colours.SAE}),
    }


@pytest.mark.parametrize("width", printed.WIDTHS.values())
def test_a_png_has_the_journal_s_width_at_300_dots_an_inch_on_white(width):
    image = Image.open(io.BytesIO(printed.draw(entropies("share"), width, "png", "Research use only · scores-1")))
    assert image.width == pytest.approx(width / 25.4 * 300, abs=2) and image.info["dpi"][0] == pytest.approx(
        300, abs=0.1
    )
    assert "scores-1" in image.info["Description"]
    grey = np.asarray(image.convert("L"))
    assert grey[0, 0] == 255
    # Nothing is cut: no ink touches the edge of the page.
    assert min(grey[0].min(), grey[-1].min(), grey[:, 0].min(), grey[:, -1].min()) == 255


def words(svg: bytes) -> set[str]:
    """The texts of an SVG whose letters are outlines: each stands in a comment."""
    return {t.strip() for t in re.findall(r"<!--(.*?)-->", svg.decode())}


def test_an_svg_names_its_axes_and_its_whole_legend_and_has_no_dark_ground():
    svg = printed.draw(entropies("share"), 89, "svg", "Research use only")
    assert {
        "SAE",
        "raw",
        "labels shuffled (95 %)",
        "share of neurons",
        "entropy over labels (bits); 2.00 is all labels alike",
    } <= words(svg)
    assert b"Research use only" in svg and b"#0d1117" not in svg and b"#ffffff" in svg
    assert {"4 fluid", "Enlarged Cardiomediastinum", "ρ"} <= words(printed.draw(heat_map(), 183, "svg", ""))
    assert {"+0.50", "−0.20", "ρ", "Fracture"} <= words(printed.draw(correlations(), 89, "svg", ""))


def test_a_pdf_carries_its_fonts():
    pdf = printed.draw(heat_map(), 183, "pdf", "Research use only")
    assert pdf.startswith(b"%PDF") and b"/FontFile2" in pdf and b"Research use only" in pdf


@pytest.mark.parametrize("view", ["count", "cumulative"])
def test_other_views_of_entropy(view):
    assert "SAE" in words(printed.draw(entropies(view), 89, "svg", ""))


def test_every_other_kind_of_plot_is_drawn_with_what_it_says():
    said = {name: words(printed.draw(figure, 89, "svg", "")) for name, figure in others().items()}
    assert {"Edema", "Fracture", "100 %"} <= said["square"]
    assert {"SAE", "raw", "Edema", "Fracture"} <= said["pairs"]
    assert {"device", "side, left", "best of as many random directions"} <= said["recovery"]
    assert "variance explained (FVE)" in said["pareto"] and "1.5" in said["lines"]


def test_shuffled_labels_lie_behind_the_bars():
    figure = entropies("share")
    band = [t.zorder for t in figure.data if t.type == "scatter"]
    assert band and max(band) < min(t.zorder or 0 for t in figure.data if t.type == "bar")
