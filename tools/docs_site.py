"""What MkDocs builds beside the files of docs/: the reference, made from the code, so that it cannot differ from it.

A hook of mkdocs.yml. It adds the home page (README.md), commands and options (config's dataclasses and the registries),
tables (schema.sql), measures, the Python API, the list of decisions and the notebooks as pages, and the navigation.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]

FIRST = ["tutorial.md"]
HOW_TO = ["ingest.md", "encoders.md", "exchange.md", "naming.md", "simulated.md"]
EXPLAINED = ["statistics.md", "glossary.md", "performance.md", "scale.md", "licences.md"]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "docs/notebooks").glob("*.ipynb"))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Navigation: what has its place is where it belongs; any other page of docs/ is a how-to page."""
    if str(ROOT) not in sys.path:  # MkDocs gives the path back as it was when it has loaded a hook
        sys.path.insert(0, str(ROOT))
    docs = ROOT / "docs"
    there = [str(path.relative_to(docs)) for path in sorted([*docs.glob("*.md"), *docs.glob("how-to/*.md")])]
    others = [name for name in there if name not in (*FIRST, *HOW_TO, *EXPLAINED, "protocol.md")]
    reference = ["reference/commands.md", "reference/extensions.md", "reference/measures.md", "reference/api.md",
                 "protocol.md", "reference/tables.md"]  # fmt: skip
    config.nav = [
        {"Home": "index.md"},
        {"Tutorial": [*FIRST, *[f"notebooks/{name}.md" for name in NOTEBOOKS]]},
        {"How to": [*HOW_TO, *others]},
        {"What it means": EXPLAINED},
        {"Reference": reference},
        {"Decisions": ["decisions/index.md", *[f"decisions/{path.name}" for path in decisions()]]},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    made = {
        "index.md": home(),
        "reference/commands.md": commands(),
        "reference/extensions.md": extensions(),
        "reference/measures.md": measures(),
        "reference/tables.md": tables(),
        "reference/api.md": "# Python API\n\n::: medsae.api\n",
        "decisions/index.md": "# Decisions\n\n" + "".join(f"- [{title(p)}]({p.name})\n" for p in decisions()),
        **{f"notebooks/{name}.md": notebook(ROOT / f"docs/notebooks/{name}.ipynb") for name in NOTEBOOKS},
    }
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def home() -> str:
    """README.md, whose links are those of the repository."""
    text = (ROOT / "README.md").read_text().replace("](docs/decisions/)", "](decisions/index.md)")
    text = text.replace("](docs/notebooks/)", "](notebooks/neurons.md)")
    return text.replace("](docs/", "](")


def decisions() -> list[Path]:
    return sorted((ROOT / "docs/decisions").glob("*.md"))


def title(path: Path) -> str:
    return path.read_text().splitlines()[0].lstrip("# ")


def notebook(path: Path) -> str:
    """The cells of a notebook: text as it is, code as code."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join(parts) + f"\n\n[The notebook]({path.name})\n"


def commands() -> str:
    """Every command with its options, their values, defaults and meaning."""
    from medsae import cli

    parts = [f"# Commands\n\n```\n{cli.USAGE}\n```\n\n`--data DIR` and `--json` belong to every command.\n"]
    for name, config in cli.COMMANDS.items():
        for words, cls in members(name, config):
            parts.append(f"\n## {words}\n\n{doc(cls)}\n\n{options(cls, skip=('data', 'json'))}")
    return "".join(parts)


def members(name: str, config: Any) -> list[tuple[str, type]]:
    """(words of the command line, config class) of each member of a union of subcommands."""
    parts = [config] if isinstance(config, type) else list(get_args(config))
    if isinstance(config, type):
        return [(name, config)]
    found = []
    for part in parts:
        cls, *marks = getattr(part, "__args__", (part,)) + getattr(part, "__metadata__", ())
        own = next((mark.name for mark in marks if getattr(mark, "name", None)), None)
        found.append((f"{name} {own}" if own else name, cls))
    return found


def options(cls: type, skip: tuple[str, ...] = ()) -> str:
    """A table of the fields of a config class."""
    from medsae.ui.forms import docs

    said, rows, hints = docs(cls), [], get_type_hints(cls)
    for field in fields(cls):
        if field.name in skip:
            continue
        flag = field.name.rstrip("_").replace("_", "-")
        flag = flag if field.name == "id" else f"--{flag}"
        default = "needed" if field.default is MISSING else "" if field.default is None else f"`{field.default}`"
        how = " (says how, not what: no part of the identity)" if field.metadata.get("runtime") else ""
        rows.append(
            f"| `{flag}` | `{kind(hints[field.name])}` | {default} | {cell(said.get(field.name, '') + how)} |\n"
        )
    return "| option | values | default | meaning |\n|---|---|---|---|\n" + "".join(rows) if rows else "No options.\n"


def kind(annotation: Any) -> str:
    """The values of an option as people read them."""
    if get_origin(annotation) is Literal:
        return cell(", ".join(map(str, get_args(annotation))))
    if get_origin(annotation) in (Union, UnionType):
        return ", ".join(kind(one) for one in get_args(annotation) if one is not type(None))
    return cell(getattr(annotation, "__name__", str(annotation)))


def extensions() -> str:
    """What is registered: encoders, sources, backends, formats."""
    from medsae import plugins

    parts = ["# What can be added\n\n", doc(plugins), "\n"]
    for registry in (plugins.encoders, plugins.sources, plugins.backends, plugins.formats):
        if not (ROOT / registry.package.replace(".", "/")).is_dir():
            continue
        parts.append(f"\n## {registry.group}\n\n| name | | what it is |\n|---|---|---|\n")
        for name, offer in registry.all().items():
            parts.append(f"| `{name}` | {cell(offer.label)} | {cell(offer.help)} |\n")
        for name, offer in registry.all().items():
            if offer.options is not None:
                parts.append(f"\n### Options of {name}\n\n{options(offer.options, skip=('data', 'json'))}")
    return "".join(parts)


def measures() -> str:
    """The numbers that stand for a representation, as they are declared."""
    from medsae.scoring.measures import declared

    rows = "".join(
        f"| `{row['measure']}` | {cell(row['label'])} | {row['unit']} | {cell(row['meaning'])} |\n"
        for row in declared().to_dict("records")
    )
    return "# Measures\n\n| measure | | unit | meaning |\n|---|---|---|---|\n" + rows


def tables() -> str:
    """Every table and column of schema.sql with its comment."""
    parts = ["# Tables\n\nThe tables of each kind of artifact, in its `tables.duckdb`.\n"]
    for line in (ROOT / "medsae/store/schema.sql").read_text().splitlines():
        if line.startswith("-- @"):
            parts.append(f"\n## {line.removeprefix('-- @')}\n")
        elif found := re.match(r"CREATE TABLE (\w+)", line):
            parts.append(f"\n### {found.group(1)}\n\n| column | type | meaning |\n|---|---|---|\n")
        elif found := re.match(r' +("?\w+"?) ([^,-]+?),? *(?:-- (.*))?$', line):
            column, sql, meaning = found.groups()
            parts.append(
                f"| `{column.strip(chr(34))}` | {sql.strip().rstrip(',')} | {cell(meaning or 'see above')} |\n"
            )
    return "".join(parts)


def doc(thing: Any) -> str:
    """The docstring of a class or module; its indented lines are code already."""
    lines = (thing.__doc__ or "").strip().splitlines()
    return "\n".join(line.removeprefix("    ") if isinstance(thing, type) else line for line in lines)


def cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
