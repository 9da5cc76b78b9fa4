"""Forms that are the config dataclasses: a field is a widget, its docstring the help, its check the message."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import types
import typing
from dataclasses import MISSING, Field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import streamlit as st

from medsae import jobs
from medsae.config import OnCluster
from medsae.progress import UserError
from medsae.store.artifacts import Artifact
from medsae.ui import look

_CLUSTER = tuple(f.name for f in fields(OnCluster))
_HIDDEN = ("data", "json", "shard", *_CLUSTER, "watch", "cost", "again", "idle_minutes", *jobs.ONLY_IN_A_SHELL)
_KINDS = {"cohort": "cohort", "embeddings": "embeddings", "sae": "sae", "scores": "scores"}
_FIRST = ("encoder", "preset", "kind", "root")
"""Fields that stand above More settings though they have a default."""
_BAD = object()


def form(config: type, artifacts: tuple[Artifact, ...], key: str, fixed: dict[str, Any] | None = None) -> Any:
    """Draw the form of a config class; the config when it was sent and is sound, else None (with what is wrong).

    `fixed`: fields that were chosen before the form and have no widget in it.
    """
    fixed = fixed or {}
    hints, helps = typing.get_type_hints(config), docs(config)
    shown = [f for f in fields(config) if f.name not in _HIDDEN and f.name not in fixed]
    first = [f for f in shown if f.default is MISSING or f.name in _KINDS or f.name in _FIRST]
    with st.form(key, border=False, width=720):
        values = {f.name: _widget(f, hints[f.name], helps.get(f.name, ""), artifacts, key) for f in first}
        rest = [f for f in shown if f not in first]
        if rest:
            with st.expander("More settings"):
                for f in rest:
                    values[f.name] = _widget(f, hints[f.name], helps.get(f.name, ""), artifacts, key)
        sent = st.form_submit_button("Start", type="primary")
    if not sent:
        return None
    bad = [name for name, value in values.items() if value is _BAD]
    lacking = [f.name for f in first if f.default is MISSING and values[f.name] in (None, "", Path(""))]
    if bad or lacking:
        st.error(f"Not started: missing, or not a number: {', '.join(bad + lacking)}.")
        return None
    try:
        return config(**values, **fixed)
    except UserError as error:
        st.error(look.literal(f"Not started: {error.what}" + (f" — {error.do}" if error.do else "")))
        return None


@cache
def docs(config: type) -> dict[str, str]:
    """Field -> the docstring that stands under it, of a config class and what it inherits."""
    found: dict[str, str] = {}
    for cls in reversed(config.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        body = ast.parse(inspect.getsource(cls)).body[0]
        assert isinstance(body, ast.ClassDef)
        for one, two in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(one, ast.AnnAssign)
                and isinstance(one.target, ast.Name)
                and isinstance(two, ast.Expr)
                and isinstance(two.value, ast.Constant)
            ):
                found[one.target.id] = " ".join(str(two.value.value).split())
    return found


def plain(hint: Any) -> tuple[Any, bool]:
    """(type without None, whether None is allowed)."""
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [a for a in get_args(hint) if a is not type(None)]
        return (kinds[0] if len(kinds) == 1 else str), len(kinds) < len(get_args(hint))
    return hint, False


def _widget(f: Field[Any], hint: Any, help: str, artifacts: tuple[Artifact, ...], key: str) -> Any:
    kind, optional = plain(hint)
    label, name = f.name.rstrip("_").replace("_", " "), f"{key}-{f.name}"
    default = None if f.default is MISSING else f.default
    if f.name in _KINDS and kind is str:
        ids = [a.id for a in artifacts if a.kind == _KINDS[f.name]]
        at = 1 if optional and f.name == "sae" and ids else 0
        choices = [None, *ids] if optional else ids
        return st.selectbox(label, choices, at, key=name, help=help, format_func=lambda i: i or "none")
    if get_origin(kind) is Literal:
        options = ([None] if optional else []) + list(get_args(kind))
        at = options.index(default) if default in options else 0
        return st.selectbox(
            label, options, at, key=name, help=help, format_func=lambda o: "default" if o is None else str(o)
        )
    if kind is bool:
        return st.toggle(label, bool(default), key=name, help=help)
    several = get_origin(kind) is tuple
    shown = "" if default is None or several else str(default)
    text = (st.text_input(label, shown, key=name, help=help) or "").strip()
    if several:
        return tuple(text.split())
    if text == "":
        return default if not optional else None
    try:
        return Path(text).expanduser() if kind is Path else kind(text)
    except ValueError:
        return _BAD
