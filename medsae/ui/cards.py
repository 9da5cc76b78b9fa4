"""Pictures: the grid of radiographs and the cards of neurons, each drawn as one block of HTML with inline pictures.

Everything that is text is escaped; pictures come from artifacts as data URIs. A page of pictures stays below 1.5 MB.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import streamlit as st

from medsae.store import query_images
from medsae.store.artifacts import Artifact
from medsae.store.filter import FIRING_LEAST
from medsae.store.pictures import data_uri
from medsae.store.reader import Frame
from medsae.ui import format, links
from medsae.ui import study as studies
from medsae.ui.study import Study

A_PAGE = 24
"""Neurons on one page of a gallery."""
MOST = 48
"""Pictures in one grid."""


def img(thumbnail: bytes | None, alt: str) -> str:
    """An <img> with its alternative text, or words where there is no picture."""
    if thumbnail is None:
        return f'<span role="img" aria-label="{escape(alt)}">no picture</span>'
    return f'<img src="{data_uri(thumbnail)}" alt="{escape(alt)}" loading="lazy">'


def layer(over: dict[int, str] | None, image: int) -> str:
    """What lies over the picture of an image (`over`: image -> data URI), "" where there is nothing."""
    return f'<img class="ms-over" src="{over[image]}" alt="">' if over and image in over else ""


def alt_text(image: int, caption: dict[str, Any] | None) -> str:
    """What a screen reader says of a radiograph."""
    if caption is None:
        return f"Radiograph {image}"
    parts = [
        f"{caption['view']} view" if not format.missing(caption.get("view")) else "",
        caption.get("labels") or "no label present",
    ]
    return f"Radiograph {image}: " + ", ".join(p for p in parts if p)


def grid(
    study: Study,
    cohort: Artifact,
    rows: Frame,
    href: Callable[[int], str],
    cell_px: int = 132,
    digits: int = 2,
    over: dict[int, str] | None = None,
    words: dict[int, str] | None = None,
) -> str:
    """HTML of a grid of radiographs: `rows` has image and, where they are of a neuron, value (NULL: silent). `over`:
    data URIs that lie over a picture; `words`: what is said of it beside its title."""
    images = [int(i) for i in rows["image"]][:MOST]
    thumbs = query_images.thumbnails(study.reader, cohort, images)
    rows_of = query_images.captions(study.reader, cohort, images, studies.labels(study, cohort)).to_dict("records")
    captions = {int(c["image"]): c for c in rows_of}
    cells = []
    plain = "value" not in rows
    for image, value in zip(images, images if plain else rows["value"], strict=False):
        caption = captions.get(image)
        alt = alt_text(image, caption)
        labels = escape(str(caption["labels"])) if caption else ""
        shown = "" if plain else format.number(value, digits) if not format.missing(value) else "silent"
        title = escape(" · ".join(filter(None, [_title(study, image, caption), (words or {}).get(image)])))
        cells.append(
            f'<a class="ms-pic" data-go href="{escape(href(image))}" title="{title}">'
            f'<span class="ms-box">{img(thumbs.get(image), alt)}{layer(over, image)}</span>'
            f'<span class="ms-cap"><i>{labels}</i><em>{shown}</em></span></a>'
        )
    return f'<div class="ms-grid" style="--cell:{cell_px}px">{"".join(cells)}</div>'


def _title(study: Study, image: int, caption: dict[str, Any] | None) -> str:
    if caption is None:
        return f"image {image}"
    sex = "" if format.missing(caption["sex"]) else str(caption["sex"])[0]
    age = "" if format.missing(caption["age"]) else f"{caption['age']:.0f}"
    uncertain = f"uncertain: {caption['uncertain']}" if caption["uncertain"] else ""
    who = f"patient {study.patient(str(caption['patient']))}"
    view = "" if format.missing(caption["view"]) else str(caption["view"])
    parts = [f"image {image}", who, f"{sex}{age}", view, str(caption["labels"]), uncertain]
    return " · ".join(p for p in parts if p)


def neuron_cards(study: Study, scores: Artifact, cohort: Artifact, rows: Frame, boxes: bool = False) -> str:
    """HTML of one card a neuron: its three strongest radiographs, number, entropy, name or strongest label, density;
    with `boxes` a box on each that chooses it (`picking.boxes` makes them work)."""
    numbers = [int(n) for n in rows["neuron"]]
    top = query_images.top_images(study.reader, scores, numbers)
    thumbs = query_images.thumbnails(study.reader, cohort, [int(i) for i in top["image"]])
    of: dict[int, list[int]] = {}
    for neuron, image in zip(top["neuron"], top["image"], strict=True):
        of.setdefault(int(neuron), []).append(int(image))
    cards = []
    for row in rows.to_dict("records"):
        neuron = int(row["neuron"])
        mine = of.get(neuron, [])
        strip = "".join(
            f"<span>{img(thumbs.get(i), f'Radiograph {i}, among the strongest of neuron {neuron}')}</span>"
            for i in mine
        ) + "<span></span>" * (3 - len(mine))
        note = study.notes.get(neuron)
        star = ' <span class="ms-raw" title="starred">★</span>' if note and note.star else ""
        cards.append(
            f'{_box(neuron) if boxes else ""}<a class="ms-card" data-go href="{escape(links.neuron_url(neuron))}">'
            f'<div class="ms-strip">{strip}</div>'
            f'<div class="ms-row"><b>{neuron}{star}</b><span class="ms-soft">{entropy_text(study, row)}</span></div>'
            f'<div class="ms-text">{name_or_label(study, row)}</div>'
            f'<div class="ms-row ms-soft"><span>{escape(density_text(row))}</span></div></a>{"</div>" if boxes else ""}'
        )
    return f'<div class="ms-cards">{"".join(cards)}</div>'


def _box(neuron: int) -> str:
    """The beginning of a cell with a box over its card: no link may hold another control."""
    box = f'<input type="checkbox" class="ms-pick" data-neuron="{neuron}" aria-label="Choose neuron {neuron}">'
    return f'<div class="ms-cell">{box}'


def entropy_text(study: Study, row: dict[str, Any]) -> str:
    """`1.42 bits`, or why there is none."""
    if format.missing(row["entropy"]):
        return escape(str(row.get("reason") or "undefined").split(":")[0])
    return f"{format.number(row['entropy'] * study.scale)} {escape(study.unit_name)}"


def name_or_label(study: Study, row: dict[str, Any]) -> str:
    """What people call the neuron and beside it the model's name, else the label it follows most with rho; escaped."""
    called, name = study.called.get(int(row["neuron"])), study.names.get(int(row["neuron"]))
    if called:
        both = f' <span class="ms-soft">· model: {escape(name)}</span>' if name else ""
        return f"<b>{escape(called)}</b>{both}"
    if name:
        return escape(name)
    if format.missing(row.get("top_label")):
        return '<span class="ms-soft">no correlation</span>'
    label = str(row["top_label"])
    if label in study.scarce:
        return f'<span class="ms-soft">{escape(label)}: only {format.plural(study.scarce[label], "image")}</span>'
    return f'<span class="ms-soft">{escape(label)} ρ {format.signed(row["top_rho"])}</span>'


def density_text(row: dict[str, Any]) -> str:
    """How often it fires; in pictures where they are too few for a share."""
    if format.missing(row.get("density")):
        return ""
    if row["density"] == 0:
        return "never fires"
    if is_few(row):
        return f"fires on {format.plural(int(row['active']), 'image')} only"
    return f"fires on {format.percent(row['density'])}"


def is_few(row: dict[str, Any]) -> bool:
    """Whether a neuron (a row of `neuron`) fires, but on too few pictures to say much."""
    return not format.missing(row.get("active")) and 0 < row["active"] < FIRING_LEAST


def few_last(few: int, total: int) -> None:
    """Say that an order puts neurons of few pictures last, where there are any: `few` of the `total` of a list."""
    if few and few == total:
        all_ = "It fires" if few == 1 else f"All {few:,} neurons fire"
        st.caption(f"{all_} on fewer than {FIRING_LEAST} images: a correlation over so few says little.")
    elif few:
        fire, come = ("fires", "comes") if few == 1 else ("fire", "come")
        st.caption(
            f"{format.plural(few, 'neuron')} of these {fire} on fewer than {FIRING_LEAST} images and {come} last: "
            "a correlation over so few says little."
        )


def show(html: str) -> None:
    """Draw a block of HTML that may be empty."""
    st.html(html or "<span></span>")
