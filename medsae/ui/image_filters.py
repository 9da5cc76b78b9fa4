"""The search of images: its controls, whose values live in the address, and what they ask of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import streamlit as st

from medsae.store import find_images, queries
from medsae.store.artifacts import Artifact
from medsae.store.find_images import Attribute, Choices, Order, Search, State
from medsae.store.reader import Frame
from medsae.ui import links
from medsae.ui.study import Study

PARAMETERS = ("has", "lacks", "unsure", "blank", "attr", "is", "from", "to", "proj", "sex", "agelo", "agehi", "split",
              "in", "fires", "order")  # fmt: skip
"""Parameters of a search: links within the page Images carry them."""
LABELS: dict[str, tuple[str, State]] = {
    "has": ("Present", "present"),
    "lacks": ("Absent", "absent"),
    "unsure": ("Uncertain", "uncertain"),
    "blank": ("Not stated", "unstated"),
}
ORDER = {
    "number": "number",
    "strongest": "strongest firing",
    "youngest": "youngest",
    "oldest": "oldest",
    "random": "at random",
}


def bar(study: Study, scores: Artifact, cohort: Artifact) -> Search:
    """Draw the controls and give the search."""
    known = queries.labels(study.reader, cohort)
    there = find_images.choices(study.reader, cohort)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        labels = _labels("has", known, 250) + _labels("lacks", known, 250)
        view = _one("View", "proj", there.views, 120)
        sex = _one("Sex", "sex", there.sexes, 90)
        text = links.text("Neurons that fire on it", "fires", "name, label or number", ("page",), width=220)
        default: Order = "strongest" if text else "number"
        order = links.choose(st.selectbox, "Order", "order", ORDER, default, ("page",), width=150)
        with st.popover(_more()):
            labels += _labels("unsure", known, None) + _labels("blank", known, None)
            split = _one("Split", "split", (*there.splits, "evaluation set"), None)
            scored = links.choose(st.selectbox, "Among", "in", {"": "all images", "scored": "scored images"}, "",
                                  ("page",))  # fmt: skip
            ages = _ages(there)
            search = _attribute(study, cohort)
    return Search(
        labels=tuple(labels), view=view, sex=sex, age_low=ages[0], age_high=ages[1], split=split,
        scored=scored == "scored", neurons=neurons(study, scores, text), order=cast(Order, order), **search,
    )  # fmt: skip


def _more() -> str:
    used = [p for p in ("unsure", "blank", "attr", "split", "in", "agelo", "agehi") if p in st.query_params]
    return f"More ({len(used)})" if used else "More"


def _labels(parameter: str, known: Sequence[str], width: int | None) -> list[tuple[str, State]]:
    words, state = LABELS[parameter]
    more: dict[str, Any] = {"width": width} if width else {}
    chosen = links.several(st.multiselect, words, parameter, known, resets=("page",), placeholder="any", **more)
    return [(label, state) for label in chosen]


def _one(label: str, parameter: str, values: Sequence[str], width: int | None) -> str | None:
    """One of some values, or any; nothing is drawn where there is no choice."""
    if len(values) < 2 and parameter not in st.query_params:
        return None
    shown = {"": "any", **{v: v for v in values}}
    more = {"width": width} if width else {}
    return links.choose(st.selectbox, label, parameter, shown, "", ("page",), **more) or None


def _ages(there: Choices) -> tuple[float | None, float | None]:
    if there.age_low is None or there.age_high is None or there.age_low == there.age_high:
        return None, None
    links.bounds("Age (years)", "agelo", "agehi", float(int(there.age_low)), float(int(there.age_high + 1)),
                 resets=("page",))  # fmt: skip
    return links.real("agelo"), links.real("agehi")


def _attribute(study: Study, cohort: Artifact) -> dict[str, Any]:
    """The controls of one kept column, as fields of `Search`."""
    names = find_images.attributes(study.reader, cohort)
    if not names:
        return {}
    shown = {"": "none", **{name: name for name in names}}
    name = links.choose(st.selectbox, "Attribute", "attr", shown, "", ("page", "is", "from", "to"))
    if not name:
        return {}
    found = find_images.attribute(study.reader, cohort, name)
    asked: dict[str, Any] = {"attribute": name, "attribute_kind": found.kind}
    return asked | _value(found)


def _value(found: Attribute) -> dict[str, Any]:
    if found.kind == "number" and found.low is not None and found.high is not None:
        links.bounds(found.name, "from", "to", found.low, found.high, resets=("page",))
        return {"attribute_low": links.real("from"), "attribute_high": links.real("to")}
    if found.kind == "text":
        return {"value": links.text(f"{found.name} has", "is", "some words", ("page",)) or None}
    return {"value": _one(f"{found.name} is", "is", found.values, None)}


def neurons(study: Study, scores: Artifact, text: str) -> tuple[int, ...] | None:
    """The neurons meant by a text: those whose name, note or tag has it, selective ones whose label has it, or the one
    with this number; None where there is no text."""
    words = text.strip().lower()
    if not words:
        return None
    if words.isascii() and words.isdigit() and len(words) < 10:
        return (int(words),)
    found = {n for n, name in study.names.items() if words in name.lower()}
    found |= {n for n, note in study.notes.items() if words in f"{note.text} {' '.join(note.tags)}".lower()}
    found |= find_images.neurons_of_label_text(study.reader, scores, words)
    return tuple(sorted(found))


def strongest(rows: Frame) -> dict[int, str]:
    """image -> the asked neuron that fires most strongly on it, in words."""
    known = rows.dropna(subset=["neuron"])
    return {int(i): f"neuron {int(n)}" for i, n in zip(known["image"], known["neuron"], strict=True)}
