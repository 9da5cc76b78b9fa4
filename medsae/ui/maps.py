"""Maps over radiographs: red where a cell raises the neuron, blue where it lowers it, yellow what was planted."""

from __future__ import annotations

import io
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from medsae.store import maps, pictures
from medsae.store.artifacts import Artifact
from medsae.ui import format, links, look
from medsae.ui.study import Study

LONGEST = 132
"""Longer side of an overlay in px: that of a thumbnail, so an outline stays sharp."""
_RAISES, _LOWERS, _PLANTED = (255, 86, 60), (70, 140, 255), (255, 224, 70)


@dataclass(frozen=True)
class Overlays:
    """What lies over the radiographs of one neuron."""

    src: dict[int, str]
    """image -> data URI of a transparent picture with the radiograph's proportions."""
    words: dict[int, str]
    """image -> how the value adds up."""


def switch(study: Study, scores: Artifact) -> bool:
    """The toggle of the maps (with an unseen link that the key m follows), or why there is none."""
    why = maps.missing(scores)
    if why:
        st.caption(f"No maps: {why}.")
        return False
    shown = links.switch("where it looks (m)", "map", False)
    keep = (*links.STUDY, *links.FILTER, "neuron", "which", "one", "by")
    href = escape(links.url("neuron", keep, map=None if shown else 1))
    st.html(f'<a data-go data-key="m" href="{href}" hidden tabindex="-1">maps</a>', width="content")
    return shown


def overlays(study: Study, scores: Artifact, cohort: Artifact, neuron: int, images: list[int]) -> Overlays:
    """Of those images that have a map of the neuron; one scale for all of them."""
    found = maps.of_neuron(study.reader, scores, neuron)
    size_of = maps.sizes(study.reader, cohort, [i for i in images if i in found])
    if not size_of:
        return Overlays({}, {})
    grid = maps.grid(study.reader, scores)
    planted = maps.masks(study.reader, cohort, size_of, _told(study, scores, neuron))
    most = max(float(np.abs(found[i][0]).max()) for i in size_of) or 1.0
    src, words = {}, {}
    for image, size in size_of.items():
        map_c, constant = found[image]
        src[image] = drawn(grid.spread(map_c / most, size, LONGEST), planted.get(image))
        words[image] = (
            "the activation of each token"
            if scores.facts.get("tokens")
            else (
                f"before the cut {format.number(map_c.sum() + constant)} = picture {format.signed(map_c.sum())} "
                f"+ reference {format.number(constant)}"
            )
        )
    return Overlays(src, words)


def _told(study: Study, scores: Artifact, neuron: int) -> set[str] | None:
    """The planted findings that this neuron tells best; None (all of them) where there is none."""
    rows = maps.localisation(study.reader, scores, neuron)
    return {str(f).partition(":")[0] for f in rows["finding"]} if len(rows) else None


def drawn(value_hw: np.ndarray, mask: np.ndarray | None) -> str:
    """-1 .. 1 (NaN: nothing known) and an outline as a WebP with transparency."""
    known = np.nan_to_num(value_hw)
    rgba = np.zeros((*known.shape, 4), np.uint8)
    rgba[..., :3] = np.where(known[..., None] >= 0, _RAISES, _LOWERS)
    rgba[..., 3] = (255 * np.abs(known).clip(0, 1) ** 0.7).astype(np.uint8)
    if mask is not None:
        small = np.asarray(Image.fromarray(mask).resize(known.shape[::-1], Image.Resampling.NEAREST))
        rgba[_edge(small)] = (*_PLANTED, 255)
    out = io.BytesIO()
    Image.fromarray(rgba).save(out, "WEBP", quality=70, method=2)
    return pictures.data_uri(out.getvalue())


def _edge(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask that touch what is outside it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def legend(study: Study, scores: Artifact, planted: bool) -> None:
    """What the colours mean and how far a cell sees."""
    grid = maps.grid(study.reader, scores)
    outline = " Yellow: outlines of what was planted." if planted else ""
    if scores.facts.get("tokens"):
        fires = f"Red: how strongly the neuron fires on each of {grid.rows} × {grid.columns} tokens"
        st.caption(f"{fires}; one scale for all pictures of this neuron.{outline}")
        return
    st.caption(
        "Red: cells that raise the neuron above the cohort's mean map; blue: cells that lower it; one scale for all "
        f"pictures of this neuron.{outline} A map says where the value was collected, not what caused it: a cell of "
        f"these {grid.rows} × {grid.columns} sees {format.percent(grid.reach, 0)} of the picture's side."
    )


def localisation(study: Study, scores: Artifact, neuron: int) -> None:
    """For a neuron that tells a planted finding best: whether it looks at it. Nothing for any other."""
    rows = maps.localisation(study.reader, scores, neuron)
    if not len(rows):
        return
    with st.container(border=True):
        _localisation(rows)


def _localisation(rows: Any) -> None:
    look.section("Does it look where the finding is?", "strongest cell inside the planted mask, other patients")
    st.html(table(rows.to_dict("records"), ("finding",)))
    st.caption(
        "Exchanged: the same maps on other pictures of the finding; where that is as high, the map knows the usual "
        "place and not this picture. Another neuron: any other neuron that fires on the same picture."
    )


def table(rows: list[dict[str, Any]], names: tuple[str, ...]) -> str:
    """HTML of rows of the table `localisation`."""
    columns = [*((name, False) for name in names), ("pictures", True), ("inside", True), ("95 %", True)]
    columns += [("exchanged", True), ("p", True), ("another neuron", True), ("usual place", True), ("area", True)]
    cells = []
    for row in rows:
        if format.missing(row["hit"]):
            numbers = [format.NOTHING] * 7
        else:
            numbers = [
                format.percent(row["hit"], 0),
                f"{format.percent(row['low'], 0)} to {format.percent(row['high'], 0)}",
                format.percent(row["exchanged"], 0),
                "< 0.001" if row["p"] <= 0.001 else f"{row['p']:.3f}",
                *(format.percent(row[k], 0) for k in ("place", "mean_mask", "area")),
            ]
        first = [format.escape(str(row[name])) for name in names]
        cells.append([*first, format.count(row["n"]), *numbers])
    return look.table(columns, cells)
