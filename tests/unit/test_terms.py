"""Every word that a page explains stands in the glossary, or is a measure's own name."""

import re
from pathlib import Path

from medsae.ui.terms import TERMS

ROOT = Path(__file__).parents[2]
OWN = {"AUROC", "FVE", "interval", "expansion", "before the cut", "co-occurrence", "q", "L0"}
"""Names of numbers, which docs/statistics.md and docs/encoders.md define."""


def test_words_of_pages_are_words_of_the_glossary():
    text = (ROOT / "docs/glossary.md").read_text()
    known = {w.strip() for cell in re.findall(r"\*\*(.+?)\*\*", text) for w in (*cell.split(","), cell)} | set(
        re.findall(r"`(\w+)`", text)
    )
    for word in set(TERMS) - OWN:
        assert word in known, word


def test_every_page_explains_words_that_there_are():
    for page in (ROOT / "pages").glob("*.py"):
        for call in re.findall(r"terms\.explain\(([^)]*)\)", page.read_text()):
            assert set(re.findall(r'"([^"]+)"', call)) <= set(TERMS), page.name
