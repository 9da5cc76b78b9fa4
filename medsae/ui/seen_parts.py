"""Where neurons look on one image: maps that were kept, and maps made when asked by the service with the models."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import streamlit as st

from medsae.store import maps as stored
from medsae.store import pictures, query_images
from medsae.store.artifacts import Artifact
from medsae.store.looks import Looks
from medsae.ui import cards, effect_parts, format, links, look, maps, own_parts
from medsae.ui.study import Study

IMAGE = (*links.STUDY, *effect_parts.KEPT)
"""Parameters that the address of an image keeps when maps are shown or taken away."""
SHOWN, ASKED = 12, 40
"""Neurons that are drawn, and that are asked for at most."""
_KEPT = 200
"""Answers that one session holds."""


@dataclass(frozen=True)
class Maps:
    """Maps of some neurons on one image."""

    grid: stored.Grid | None
    how: str
    of: dict[int, tuple[np.ndarray, float]]
    """neuron -> (map [cells], constant)."""


def known(study: Study, scores: Artifact, image: int) -> Maps:
    """The maps of an image that are there: kept with the scores, else made in this session."""
    made = _made().get((scores.id, image), Maps(None, "", {}))
    if stored.missing(scores):
        return made
    kept, grid = stored.of_image(study.reader, scores, image), stored.grid(study.reader, scores)
    return Maps(grid, grid.how if grid.approximate else "", {**made.of, **kept})


def _made() -> dict[tuple[str, int], Maps]:
    return st.session_state.setdefault("_made-maps", {})


def panel(study: Study, scores: Artifact, cohort: Artifact, image: int, fires: Any) -> None:
    """The image under each neuron that fires most, with its map; a click shows that map on the large picture."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        look.section("Where its neurons look", "a click lays the map over the large picture")
        mapped = maps.toggle("where neurons look (m)", "image", IMAGE)
    numbers = [int(n) for n in fires["neuron"]][:ASKED]
    if mapped:
        there = known(study, scores, image)
        cards.show(_tiles(study, cohort, image, fires, there))
        if there.how:
            st.caption(format.sentence(there.how))
        elif there.of:
            maps.legend(study, scores, cohort, own=True, grid=there.grid)
    missing = [n for n in numbers if n not in known(study, scores, image).of]
    if missing and mapped and _can(study, scores):
        on_demand(study, scores, [image], missing, "Make the maps of the others")


def large(study: Study, scores: Artifact, cohort: Artifact, image: int, neuron: int | None) -> dict[str, Any]:
    """What the viewer draws over the image: the map of the chosen neuron; {} where there is none."""
    if neuron is None:
        return {}
    there = known(study, scores, image)
    size_of = stored.sizes(study.reader, cohort, [image])
    if there.grid is None or neuron not in there.of or not size_of:
        return {}
    map_c, constant = there.of[neuron]
    marks = stored.outlines(study.reader, cohort, size_of, None, maps.LARGE).get(image)
    most = float(np.abs(map_c).max()) or 1.0
    value = there.grid.spread(map_c / most, size_of[image], maps.LARGE)
    said = there.how or maps.adds_up(scores, float(map_c.sum()), constant)
    over = {"over": maps.drawn(value, marks), "over_said": f"neuron {neuron}: {said}"}
    return {**over, "mapped": True, "asked": f"{image} {neuron}"}


def _tiles(study: Study, cohort: Artifact, image: int, fires: Any, there: Maps) -> str:
    """HTML: the image under each of the strongest neurons that have a map."""
    size_of = stored.sizes(study.reader, cohort, [image])
    thumb = query_images.thumbnails(study.reader, cohort, [image]).get(image)
    if there.grid is None or not size_of or thumb is None:
        return ""
    src, size = pictures.data_uri(thumb), size_of[image]
    marks = stored.outlines(study.reader, cohort, size_of, None, maps.LONGEST).get(image)
    cells = []
    for row in fires.to_dict("records"):
        neuron = int(row["neuron"])
        if neuron not in there.of or len(cells) == SHOWN:
            continue
        map_c = there.of[neuron][0]
        most = float(np.abs(map_c).max()) or 1.0
        over = maps.drawn(there.grid.spread(map_c / most, size, maps.LONGEST), marks)
        words = escape(str(study.shown_names.get(neuron) or row["top_label"] or ""))
        href = escape(links.url("image", IMAGE, seen=neuron))
        cells.append(
            f'<a class="ms-pic" data-go href="{href}" title="neuron {neuron} · {words}"><span class="ms-box">'
            f'<img src="{src}" alt="This image under neuron {neuron}"><img class="ms-over" src="{over}" alt=""></span>'
            f'<span class="ms-cap"><i>{neuron} {words}</i><em>{format.percent(row["share"], 0)}</em></span></a>'
        )
    return f'<div class="ms-grid" style="--cell:132px">{"".join(cells)}</div>' if cells else ""


# --- maps that are made when asked


def on_demand(study: Study, scores: Artifact, images: list[int], neurons: list[int], words: str) -> None:
    """A button that lets the service make maps of these neurons on these images; what it made stays in this session."""
    key = f"_maps-wanted-{scores.id}"
    how = (
        " by occlusion (approximate; the encoder runs 65 times for each picture)" if stored.approximate(scores) else ""
    )
    if st.button(f"{words}{how}", type="tertiary", key=f"_make-{images[0]}-{neurons[0]}"):
        st.session_state[key] = (tuple(images), tuple(neurons))
    if st.session_state.get(key) != (tuple(images), tuple(neurons)):
        return
    if not own_parts.service(study, scores):
        return
    st.session_state.pop(key)
    looks = Looks(study.store.data, scores.id)
    bar = st.progress(0.0, text="looking")
    for done, image in enumerate(images):

        def say(text: str, done: int = done) -> None:
            bar.progress(done / len(images), text=f"{done + 1} of {len(images)} pictures; {text}")

        found = own_parts.answer(looks, say=say, image=image, neurons=neurons, occlude=stored.approximate(scores))
        why = found.get("error") or found.get("no_maps")
        if why:
            st.error(look.literal(str(why)))
            return
        _keep(scores, found)
        bar.progress((done + 1) / len(images), text=f"{done + 1} of {len(images)} pictures")
    st.rerun()


def _keep(scores: Artifact, found: dict[str, Any]) -> None:
    made, key = _made(), (scores.id, int(found["image"]))
    grid = stored.Grid.of(found["grid"])
    how = grid.how if grid.approximate else ""
    maps_of = {int(n): (np.array(m["map"], float).ravel(), float(m["constant"])) for n, m in found["maps"].items()}
    before = made.get(key, Maps(None, "", {})).of
    made[key] = Maps(grid, how, {**before, **maps_of})
    while len(made) > _KEPT:
        made.pop(next(iter(made)))


def of_neuron(scores: Artifact, neuron: int, images: list[int]) -> dict[int, Maps]:
    """image -> maps made in this session that hold this neuron."""
    found = {i: _made().get((scores.id, i)) for i in images}
    return {i: m for i, m in found.items() if m is not None and neuron in m.of}


def beside_neuron(study: Study, scores: Artifact, cohort: Artifact, neuron: int, images: list[int]) -> maps.Overlays:
    """Overlays of a neuron on those of these images whose maps were made in this session; one scale for all."""
    made = of_neuron(scores, neuron, images)
    size_of = stored.sizes(study.reader, cohort, list(made))
    most = max((float(np.abs(made[i].of[neuron][0]).max()) for i in size_of), default=1.0) or 1.0
    marks = stored.outlines(study.reader, cohort, size_of, None, maps.LONGEST)
    src: dict[int, str] = {}
    for image, size in size_of.items():
        grid = made[image].grid
        if grid is not None:
            src[image] = maps.drawn(grid.spread(made[image].of[neuron][0] / most, size, maps.LONGEST), marks.get(image))
    return maps.Overlays(src, {i: made[i].how for i in src})


def neuron_panel(study: Study, scores: Artifact, cohort: Artifact, neuron: int, images: list[int]) -> None:
    """Under a neuron's radiographs: maps of those that have none, made when asked."""
    if not maps.asked_for() or not images or scores.facts.get("tokens"):
        return
    kept = {} if stored.missing(scores) else stored.of_neuron(study.reader, scores, neuron)
    missing = [i for i in images if i not in kept and i not in of_neuron(scores, neuron, images)]
    if missing and _can(study, scores):
        on_demand(
            study, scores, missing[:SHOWN], [neuron], f"Make maps of {format.plural(len(missing[:SHOWN]), 'picture')}"
        )


def _can(study: Study, scores: Artifact) -> bool:
    """Whether an encoder made these embeddings here, so that it can be asked."""
    embeddings = study.parent(scores, "embeddings")
    return embeddings is not None and bool(embeddings.config.get("encoder"))
