"""The panels of the page for two neurons side by side."""

from __future__ import annotations

from html import escape
from typing import Any

import streamlit as st

from medsae.store import pairs, queries, query_images
from medsae.store.artifacts import Artifact
from medsae.store.reader import Frame
from medsae.ui import bars, cards, format, links, look
from medsae.ui import study as studies
from medsae.ui.study import Study

Row = dict[str, Any]
WITH = (*links.STUDY, *links.FILTER, "neuron", "other")


def others(study: Study, scores: Artifact, neuron: int) -> list[int]:
    """Neurons that one would look at beside this one: its neighbours, else the one after it (or before the last)."""
    frame = queries.neighbours(study.reader, scores, neuron)
    found = [int(n) for n in frame["neuron"]]
    if found:
        return list(dict.fromkeys(found))
    return [neuron + 1 if neuron + 1 < int(scores.facts.get("m") or 0) else max(0, neuron - 1)]


def common(study: Study, scores: Artifact, pair: tuple[int, int]) -> None:
    """How much the two go together."""
    items: list[tuple[str, str, str]] = []
    if not studies.is_raw(scores):
        t = pairs.together(study.reader, scores, *pair)
        items = [
            (format.signed(t.rho), f"ρ of their activations\nover {format.count(t.n)} images", "sae"),
            (format.count(t.both), "images fire both", ""),
            (format.count(t.only_first), f"fire {pair[0]} alone", ""),
            (format.count(t.only_second), f"fire {pair[1]} alone", ""),
        ]
    frame = queries.neighbours(study.reader, scores, pair[0], 1000)
    for measure, words in (
        ("decoder", "cosine of their decoder directions"),
        ("coactivation", "cosine of activations"),
    ):
        value = frame["value"][(frame["measure"] == measure) & (frame["neuron"] == pair[1])]
        if len(value):
            items.append((format.signed(float(value.iloc[0])), words, ""))
    if items:
        look.figures(items)


def one(study: Study, scores: Artifact, cohort: Artifact, row: Row, tone: str) -> None:
    """One side: number, what it is called, its headline and its strongest radiographs."""
    number = int(row["neuron"])
    head = f'<a class="ms-{tone}" data-go href="{escape(links.neuron_url(number))}">Neuron {number}</a>'
    cards.show(f'<h2 class="ms-section">{head} <span class="ms-soft">{cards.name_or_label(study, row)}</span></h2>')
    look.figures(
        [
            (cards.entropy_text(study, row), "entropy", ""),
            (format.signed(row["top_rho"]), f"strongest ρ: {row['top_label'] or 'none'}", ""),
            (format.percent(row["density"]), f"of images fire it ({format.count(row['active'])})", ""),
        ]
    )
    rows = query_images.images_of(study.reader, scores, cohort, number, "top", True, 12)
    if rows.empty:
        look.empty("No radiograph to show", "It fires on none of the scored images.")
        return
    cards.show(cards.grid(study, cohort, rows, lambda i: links.url("neuron", WITH, neuron=number, view=i), 104))


def profiles(study: Study, scores: Artifact, pair: tuple[int, int]) -> Frame:
    """Both correlations with every label on one scale, the labels on which they differ most first; their frame."""
    look.section("Correlation with labels", "95 % intervals; the largest difference on top")
    first, second = (queries.correlations(study.reader, scores, n) for n in pair)
    frame = first.merge(second, on="label", suffixes=("_first", "_second"))
    frame = frame[frame["rho_first"].notna() & frame["rho_second"].notna() & ~frame["label"].isin(list(study.scarce))]
    frame = frame.assign(gap=(frame["rho_first"] - frame["rho_second"]).abs()).sort_values("gap", ascending=False)
    if frame.empty:
        look.empty("No label to compare by", "No label has a correlation with both.")
    else:
        cards.show(bars.pair(frame, (str(pair[0]), str(pair[1]))))
    return frame


def fired(study: Study, scores: Artifact, cohort: Artifact, pair: tuple[int, int]) -> None:
    """Radiographs on which both fire, and those on which only one does."""
    titles = {"both": "Both fire", "first": f"Only {pair[0]} fires", "second": f"Only {pair[1]} fires"}
    for place, (which, title) in zip(st.columns(3, gap="medium"), titles.items(), strict=True):
        rows = pairs.images(study.reader, scores, pair, which)
        with place, st.container(border=True):
            look.section(
                title, "the weaker of the two, as a share of its largest" if which == "both" else "its activation"
            )
            if rows.empty:
                look.empty("No image", "There is none among the scored images.")
            else:
                cards.show(cards.grid(study, cohort, rows, lambda i: links.url("image", image=i), 96))
