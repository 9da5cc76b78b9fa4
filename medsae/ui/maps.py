"""Maps over radiographs, and a neuron's average maps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from medsae.paper import overlay
from medsae.store import maps, pictures, query_images
from medsae.store.artifacts import Artifact
from medsae.ui import format, links
from medsae.ui.study import Study

LONGEST, LARGE = overlay.LONGEST, 640
"""Longer side of an overlay in px: over a thumbnail, and over a whole picture; so an outline stays sharp."""
NEURON = (*links.STUDY, *links.FILTER, "neuron", "which", "one", "by", "about")
"""Parameters that the address of a neuron's page keeps when its maps are shown or taken away."""


@dataclass(frozen=True)
class Overlays:
    """What lies over the radiographs of one neuron."""

    src: dict[int, str]
    """image -> data URI of a transparent picture with the radiograph's proportions."""
    words: dict[int, str]
    """image -> how the value adds up."""


def toggle(words: str, page: str = "neuron", keep: Sequence[str] = NEURON) -> bool:
    """The toggle of the maps, with an unseen link that the key m follows."""
    shown = links.switch(words, "map", False)
    href = escape(links.url(page, keep, map=None if shown else 1))
    st.html(f'<a data-go data-key="m" href="{href}" hidden tabindex="-1">maps</a>', width="content")
    return shown


def asked_for() -> bool:
    """Whether the address asks for maps."""
    return st.query_params.get("map") == "1"


def chosen(scores: Artifact) -> bool:
    """Whether the address asks for maps, and these scores keep some."""
    return asked_for() and not maps.missing(scores)


def overlays(study: Study, scores: Artifact, cohort: Artifact, neuron: int, images: list[int]) -> Overlays:
    """Of those images that have a map of the neuron; one scale for all of them."""
    made = overlay.layers(study.reader, scores, cohort, neuron, images)
    return Overlays(
        {i: pictures.data_uri(layer.webp) for i, layer in made.items()},
        {i: adds_up(scores, layer.total, layer.constant) for i, layer in made.items()},
    )


def adds_up(scores: Artifact, total: float, constant: float) -> str:
    """How the value before the cut is made of the sum of a map and its reference."""
    if scores.facts.get("tokens"):
        return "the activation of each token"
    if maps.approximate(scores):
        return f"before the cut {format.number(total + constant)}; by occlusion, approximate"
    return (
        f"before the cut {format.number(total + constant)} = picture {format.signed(total)} "
        f"+ reference {format.number(constant)}"
    )


def large(study: Study, scores: Artifact, cohort: Artifact, neuron: int, image: int) -> dict[str, Any] | None:
    """A neuron's map for the viewer: over (data URI), over_said, mapped; None where this image has none."""
    if maps.missing(scores):
        return None
    found = maps.of_image(study.reader, scores, image).get(neuron)
    size_of = maps.sizes(study.reader, cohort, [image])
    if found is None or not size_of:
        return None
    marks = maps.outlines(study.reader, cohort, size_of, maps.told(study.reader, scores, neuron), LARGE).get(image)
    most = float(np.abs(found[0]).max()) or 1.0
    value = maps.grid(study.reader, scores).spread(found[0] / most, size_of[image], LARGE)
    said = f"where neuron {neuron} looks: {adds_up(scores, float(found[0].sum()), found[1])}"
    return {"over": drawn(value, marks), "over_said": said, "mapped": chosen(scores)}


def drawn(value_hw: np.ndarray, mask: np.ndarray | None) -> str:
    """A map and an outline as a data URI."""
    return pictures.data_uri(overlay.drawn(value_hw, mask))


def legend(study: Study, scores: Artifact, cohort: Artifact, own: bool = False, grid: maps.Grid | None = None) -> None:
    """What the colours mean and how far a cell sees. own: each map has a scale of its own; grid: of maps that were not
    kept with the scores."""
    scale = "each map has its own scale" if own else "one scale for all pictures of this neuron"
    grid = grid or maps.grid(study.reader, scores)
    outline = {
        "planted": " Yellow: outlines of what was planted.",
        "readers": " Yellow: what readers marked (boxes and masks of the publisher).",
        "": "",
    }[maps.who_marked(study.reader, cohort)]
    if scores.facts.get("tokens"):
        fires = f"Red: how strongly the neuron fires on each of {grid.rows} × {grid.columns} tokens"
        st.caption(f"{fires}; {scale}.{outline}")
        return
    if grid.approximate:
        st.caption(
            f"Approximate, by occlusion: each of {grid.rows} × {grid.columns} overlapping squares, a quarter of the "
            "picture's side wide, is filled with the cohort's mean picture. Red: the neuron falls without it; blue: it "
            f"rises; {scale}.{outline} Falls do not add up to the value."
        )
        return
    st.caption(
        f"Red: cells that raise the neuron above the cohort's mean map; blue: cells that lower it; {scale}.{outline} A "
        "map says where the value was collected, not what caused it: a cell of "
        f"these {grid.rows} × {grid.columns} sees {format.percent(grid.reach, 0)} of the picture's side."
    )


# --- the neuron's average maps


_MEAN = 12
"""Radiographs whose mean lies under the average maps."""


def averages(study: Study, scores: Artifact, cohort: Artifact, neuron: int, images: list[int]) -> None:
    """Beside its maps: what is the same on every picture (taken off), and the mean of its maps on these pictures."""
    found = maps.of_neuron(study.reader, scores, neuron)
    mine = [i for i in images if i in found]
    if not mine:
        return
    ground = _mean_picture(list(query_images.thumbnails(study.reader, cohort, mine[:_MEAN]).values()))
    tiles = [("mean of maps", np.mean([found[i][0] for i in mine], axis=0))]
    usual = maps.average(study.reader, scores, neuron)
    if usual is not None:
        tiles.append(("cohort average", usual))
    grid = maps.grid(study.reader, scores)
    square = (grid.size_px, grid.size_px)
    cells = []
    for words, map_c in tiles:
        most = float(np.abs(map_c).max()) or 1.0
        over = drawn(grid.spread(map_c / most, square, LONGEST), None)
        sums = "" if scores.facts.get("tokens") else f"<em>{format.signed(map_c.sum())}</em>"
        cells.append(
            f'<div class="ms-pic"><span class="ms-box"><img src="{ground}" alt="Mean of its radiographs">'
            f'<img class="ms-over" src="{over}" alt=""></span>'
            f'<span class="ms-cap"><i title="{words}">{words}</i>{sums}</span></div>'
        )
    st.html(f'<div class="ms-grid" style="--cell:132px">{"".join(cells)}</div>')
    if usual is None:
        st.caption("The mean of its maps on these pictures, over the mean of the pictures.")
    else:
        st.caption(
            "Left: the mean of its maps on these pictures, over the mean of the pictures. Right: its average over the "
            "cohort, which is taken off every map: positive and negative parts of the anatomy that nearly cancel. Each "
            "has its own scale; the numbers are sums."
        )


def _mean_picture(thumbs: list[bytes], side: int = 160) -> str:
    """Data URI of the mean of radiographs, each centred on a black square as the network sees it."""
    total = np.zeros((side, side), np.float64)
    for data in thumbs:
        picture = Image.open(io.BytesIO(data)).convert("L")
        picture.thumbnail((side, side))
        x, y = (side - picture.width) // 2, (side - picture.height) // 2
        total[y : y + picture.height, x : x + picture.width] += np.asarray(picture)
    out = io.BytesIO()
    Image.fromarray((total / max(1, len(thumbs))).astype(np.uint8)).save(out, "WEBP", quality=80)
    return pictures.data_uri(out.getvalue())
