"""A config as it is saved and hashed, and as the command line that gives it again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from medsae import files, shards
from medsae.config.kept import List, Show
from medsae.config.reading import ReadingCreate
from medsae.config.runs import RunDemo, RunPaper


def record(config: Any) -> dict[str, Any]:
    """The config without its runtime fields, as plain JSON values with sorted keys: what is saved and hashed.

    An `added` field at its default is left out: the question is the one that was asked before the field existed.
    """
    values = {
        f.name: _recorded(f, getattr(config, f.name))
        for f in fields(config)
        if not f.metadata.get("runtime") and not (f.metadata.get("added") and getattr(config, f.name) == f.default)
    }
    step = {k: getattr(config, k) for k in ("step", "source") if hasattr(config, k)}
    return json.loads(json.dumps({**step, **values}, sort_keys=True, default=str))


def _recorded(option: dataclasses.Field[Any], value: Any) -> Any:
    if option.metadata.get("repeated") and len(value) < 2:
        return value[0] if value else None
    return value


def identity(slug: str, config: Any, parents: list[str], inputs: dict[str, str]) -> str:
    """`slug` + 8 hex digits of sha256 over record, parents and the sha256 of outside files."""
    return identified(slug, record(config), parents, inputs)


def identified(slug: str, recorded: dict[str, Any], parents: list[str], inputs: dict[str, str]) -> str:
    """The same from a record as it was saved: an artifact's id can be checked against its manifest."""
    text = json.dumps([recorded, sorted(parents), inputs], sort_keys=True, separators=(",", ":"))
    return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def command_line(config: Any) -> list[str]:
    """The arguments after `python -m medsae` that give this config again (fields at their default are left out)."""
    words = {RunDemo: ["run", "demo"], RunPaper: ["run", "paper"], List: ["list"], Show: ["show"],
             ReadingCreate: ["reading", "create"]}.get(type(config))  # fmt: skip
    words = words or [config.step, *([config.source] if hasattr(config, "source") else [])]
    merges = getattr(config, "shard", None) == shards.MERGE
    words = ["merge", *words] if merges else words
    for f in fields(config):
        value = getattr(config, f.name)
        if f.name == "shard" and merges:
            continue
        if f.default is not dataclasses.MISSING and value == f.default:
            continue
        flag = f.name.rstrip("_").replace("_", "-")
        if f.name in ("id", "picture"):
            words.append(str(value))
        elif isinstance(value, bool) and f.default is None:  # three values: said by name
            words += [f"--{flag}", str(value)]
        elif isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif f.metadata.get("repeated"):
            words += [word for one in value for word in (f"--{flag}", str(one))]
        else:
            words += [f"--{flag}", files.shown(value) if isinstance(value, Path) else str(value)]
    return words
