"""Colours: text of both themes has 4.5:1 on every ground it stands on, chart colours 3:1."""

import re
import tomllib
from pathlib import Path

import pytest

from medsae.ui import look

ROOT = Path(__file__).parents[2]
THEME = tomllib.loads((ROOT / ".streamlit/config.toml").read_text())["theme"]
CSS = (ROOT / "medsae/ui/style.css").read_text()


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2) of #rrggbb."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_by_hand():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_the_theme_can_be_read(scheme):
    theme = THEME[scheme]
    own = {n: pair[scheme == "dark"] for n, *pair in re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", CSS)}
    assert {"sae", "raw", "null", "good", "bad", "soft", "panel"} <= set(own)
    grounds = [theme["backgroundColor"], theme["secondaryBackgroundColor"], own["panel"]]
    grounds += [theme["sidebar"][k] for k in ("backgroundColor", "secondaryBackgroundColor")]
    texts = {k: v for k, v in theme.items() if k.endswith("TextColor") or k in ("textColor", "linkColor")}
    texts |= {k: own[k] for k in ("sae", "raw", "null", "good", "bad", "soft")}
    for name, colour in texts.items():
        for ground in grounds:
            assert contrast(colour, ground) >= 4.5, (scheme, name, colour, ground)
    for colour in (look.SAE, look.RAW, look.NULL, look.SECOND):
        assert contrast(colour, theme["backgroundColor"]) >= 3, (scheme, colour)
