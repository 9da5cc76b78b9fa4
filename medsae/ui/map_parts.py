"""The panels of the page Map."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medsae import config as configs
from medsae.store.artifacts import Artifact
from medsae.store.reader import Frame
from medsae.ui import charts, format, links, look
from medsae.ui import study as studies
from medsae.ui.study import Study

COLOURS = {"label": "label", "entropy": "entropy", "density": "density", "tag": "tag"}


def none(study: Study, scores: Artifact, places: Frame | None) -> None:
    """Why there is no map, and what makes one."""
    if studies.is_raw(scores):
        look.empty("Only an SAE has a map", "The directions of a raw embedding are its axes: none is like another. "
                   "Choose an SAE at the left.")  # fmt: skip
    elif places is None:
        data = [a for a in (study.parent(scores, "sae"),) if a]
        command = " ".join(["python -m medsae", *configs.command_line(configs.Score(sae=data[0].id))]) if data else None
        look.empty("The map was not computed then", "These scores were made by an older version of the program. "
                   "Remove them and score the SAE again to have one.", command)  # fmt: skip
    else:
        look.empty("There is no map", "Fewer than eight neurons fire on the scored images.")


def draw(study: Study, scores: Artifact, places: Frame, colour: str, passing: set[int]) -> None:
    """The map; an area drawn in it goes into the address, a click on a point to the neuron."""
    frame = coloured(study, places, colour, passing)
    titles = {"entropy": f"entropy ({study.unit_name})", "density": "density (log10)"}
    figure = charts.neuron_map(frame, "colour", titles.get(colour, colour))
    event = charts.show(
        figure, f"map-{scores.id}-{colour}-{links.clicks()}", "Map of neurons: decoder directions by t-SNE", roam=True,
        on_select="rerun", selection_mode=("points", "box", "lasso"),
    )  # fmt: skip
    area = charts.lassoed(event)
    if area is not None:
        links.go(links.url("map", (*links.STUDY, *links.FILTER, "colour"), area=area))
    clicked = charts.clicked(event)
    if clicked:
        links.go(links.neuron_url(int(clicked[0])))


def coloured(study: Study, places: Frame, colour: str, passing: set[int]) -> Frame:
    """The places with `colour` (words or numbers), `passes` and `text`, what is said under the mouse."""
    if colour == "entropy":
        values: object = places["entropy"].to_numpy(float) * study.scale
    elif colour == "density":
        values = np.log10(places["density"].to_numpy(float))
    elif colour == "tag":
        values = [_tag(study, int(n)) for n in places["neuron"]]
    else:
        known = places["selective"].fillna(False).to_numpy(bool)
        values = [str(label) if s else "not selective" for label, s in zip(places["top_label"], known, strict=True)]
    return places.assign(
        colour=pd.Series(values, index=places.index), passes=[int(n) in passing for n in places["neuron"]],
        text=_texts(study, places),
    )  # fmt: skip


def _tag(study: Study, neuron: int) -> str:
    note = study.notes.get(neuron)
    if note is None:
        return "no tag"
    return note.tags[0] if note.tags else "starred" if note.star else "no tag"


def _texts(study: Study, places: Frame) -> list[str]:
    """What is said of each neuron under the mouse: its number, its name, the label it follows most."""
    assert study.scores is not None
    plain = study.reader.once("texts of the map", lambda: _plain(places), study.scores)
    names = study.names
    return [
        f"{number}<br>{look.escape(names[neuron][:80])}{follows}" if neuron in names else number + follows
        for neuron, number, follows in plain
    ]


def _plain(places: Frame) -> list[tuple[int, str, str]]:
    """neuron, its number in words, and the label it follows: what is the same under every name."""
    label_of = {label: look.escape(str(label)) for label in places["top_label"].dropna().unique()}
    return [
        (neuron, f"neuron {neuron}", f"<br>{label_of[label]} ρ {format.signed(rho)}" if label in label_of else "")
        for neuron, label, rho in zip(
            places["neuron"].tolist(), places["top_label"].tolist(), places["top_rho"].tolist(), strict=True
        )
    ]
