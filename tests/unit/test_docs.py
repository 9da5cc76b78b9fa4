"""The docs are built without a warning, tell every option and column, and keep to the words of the glossary."""

import ast
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from medsae import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("docs/how-to/*.md"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site: a folder of HTML."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=quiet)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def configs():
    for name, config in cli.COMMANDS.items():
        for part in get_args(config) or (config,):
            yield name, next(iter(get_args(part)), part)


@pytest.mark.long
def test_every_page_is_there_and_nothing_is_loaded_from_elsewhere(site):
    start = (site / "index.html").read_text()
    for page in PAGES[1:]:
        name = page.relative_to(ROOT / "docs").with_suffix(".html")
        assert (site / name).is_file() and f'href="{name}"' in start, f"{page} is not in the navigation"
    assert (site / "index.html").is_file() and len(list(site.glob("decisions/*.html"))) > 30
    for page in site.rglob("*.html"):
        elsewhere = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)', page.read_text())
        assert not elsewhere, f"{page.name}: {elsewhere}"


@pytest.mark.long
def test_the_reference_tells_every_option_and_column(site):
    text = (site / "reference/commands.html").read_text()
    for name, config in configs():
        for field in dataclasses.fields(config):
            flag = "id" if field.name == "id" else "--" + field.name.rstrip("_").replace("_", "-")
            assert f"<code>{flag}</code>" in text or flag in ("--data", "--json"), f"{name}: {flag} is not told"
    tables = (site / "reference/tables.html").read_text()
    for column in re.findall(r'^    "?(\w+)"? [A-Z]', (ROOT / "medsae/store/schema.sql").read_text(), re.M):
        assert f"<code>{column}</code>" in tables, column
    api = (site / "reference/api.html").read_text()
    assert all(f'id="medsae.api.Scores.{name}"' in api for name in ("neurons", "correlations", "top_images", "names"))


@pytest.mark.long
def test_every_option_has_its_meaning(site):
    text = (site / "reference/commands.html").read_text()
    empty = re.findall(r"<code>(--[\w-]+)</code></td>\s*<td>.*</td>\s*<td>.*</td>\s*<td></td>", text)
    assert not empty, f"without a docstring: {empty}"


def avoided():
    rows = (ROOT / "docs/glossary.md").read_text().partition("## Words that are not used")[2]
    return [
        found.strip()
        for found in re.findall(r"^\| ([^|]+) \|", rows, re.M)
        if found.strip() not in ("instead of", "---")
    ]


def said(path):
    """What a reader sees of a file: text, comments of tables, strings of code that are no docstrings."""
    text = path.read_text()
    if path.suffix == ".md":
        return text.partition("## Words that are not used")[0]
    if path.suffix == ".sql":
        return "\n".join(re.findall(r"-- (.*)", text))
    tree = ast.parse(text)
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    if path.parent.name == "config" or path.name == "cli.py":
        silent = set()  # docstrings of the configs are the command line's help
    return "\n".join(node.value for node in ast.walk(tree)
                     if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent)  # fmt: skip


SAID = [*PAGES, ROOT / "medsae/store/schema.sql", *sorted(ROOT.glob("medsae/config/*.py")), ROOT / "medsae/cli.py",
        *sorted(ROOT.glob("medsae/ui/*.py")), *sorted(ROOT.glob("pages/*.py"))]  # fmt: skip


@pytest.mark.parametrize("path", SAID, ids=lambda path: path.name)
def test_words_of_the_glossary_are_used(path):
    words = avoided()
    assert "luck" in words
    text = re.sub(r"ChestX-ray|null_\w+|\bluck\b(?= = | AS)", "", said(path))
    for word in words:
        hit = re.search(rf".*\b{re.escape(word)}s?\b.*", text, re.IGNORECASE)
        assert hit is None, f"{word!r}: {hit and hit.group()[:200]} (docs/glossary.md says what to write)"


def test_every_word_of_the_glossary_has_a_meaning():
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.*?) \| (.*?) ?\|$", (ROOT / "docs/glossary.md").read_text(), re.M)
    assert len(rows) > 20 and all(len(meaning) > 20 for _, meaning, _ in rows)
    names = [word for row in rows for word in row[0].split(", ")]
    assert len(names) == len(set(names)), "a word stands twice"


def test_every_item_of_the_explorer_names_a_test_that_there_is():
    rows = [row for row in (ROOT / "docs/explorer.md").read_text().splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`((?:unit|app|browser)/test_\w+\.py)`", row.split("|")[-2])
        assert named and all((ROOT / "tests" / name).is_file() for name in named), row


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-nodeps.txt", "requirements-test.txt"])
def test_every_package_has_its_licence(name):
    listed = re.findall(r"^\| (.+?) \| ", (ROOT / "docs/licences.md").read_text(), re.M)
    known = {package for row in listed for package in row.split(", ")}
    wanted = set(re.findall(r"^([\w.-]+)(?:\[.*\])?==", (ROOT / name).read_text(), re.M))
    assert wanted and wanted <= known, sorted(wanted - known)
