"""What the viewer shows of one radiograph: the picture, its labels and facts, the neurons that fire on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from medsae.store import find_images, pictures, query_images
from medsae.store.artifacts import Artifact
from medsae.store.reader import Frame
from medsae.store.titles import titles
from medsae.ui import cards, format, full_picture, links, look
from medsae.ui import study as studies
from medsae.ui.study import Study


def data(
    study: Study,
    scores: Artifact | None,
    cohort: Artifact,
    image: int,
    close: str | None = None,
    among: list[int] | None = None,
    link: str | None = None,
    on: tuple[str, Sequence[str]] | None = None,
) -> dict[str, Any] | None:
    """The viewer's data; None when the cohort has no such image. `among`: images to step through, by parameter view of
    the page `on` (with the parameters to keep; None: that of a neuron)."""
    row = query_images.image(study.reader, cohort, image)
    if row is None:
        return None
    picture, what = full_picture.full_size(study.reader, cohort, image)
    caption = query_images.captions(study.reader, cohort, [image], studies.labels(study, cohort)).to_dict("records")[0]
    fires = query_images.firing(study.reader, scores, image, 12) if scores else pd.DataFrame()
    at = among.index(image) if among and image in among else None
    page, keep = on or ("neuron", (*links.STUDY, *links.FILTER, "neuron", "which", "one", "by", "beside"))
    steps = [links.url(page, keep, view=each) for each in among or []]
    return {
        "image": image,
        "src": pictures.data_uri(picture) if picture else None,
        "alt": cards.alt_text(image, caption),
        "title": f"Image {image}",
        "what": what,
        "facts": facts(study, cohort, row, caption),
        "neurons": [
            {
                "href": links.url("neuron", neuron=int(n["neuron"])),
                "value": format.percent(n["share"], 0),
                "text": f"{int(n['neuron'])} {study.shown_names.get(int(n['neuron'])) or n['top_label'] or ''}",
            }
            for n in fires.to_dict("records")
        ],
        "page": link,
        "steps": steps,
        "at": at,
        "close": close,
    }


def beside(study: Study, scores: Artifact, cohort: Artifact, neuron: int, image: int) -> dict[str, Any]:
    """What the viewer needs to show a second picture: the one the address names, and links that put one there."""
    keep = (*links.STUDY, *links.FILTER, "neuron", "which", "one", "by", "view")
    other = links.whole("beside")
    found: dict[str, Any] = {"name": study.names.get(neuron, ""), "called": study.called.get(neuron, "")}
    silent = None
    if not studies.is_raw(scores):
        rows = query_images.images_of(study.reader, scores, cohort, neuron, "silent", True, 1)
        silent = int(rows["image"].iloc[0]) if len(rows) else None
    found["side"] = [
        *([["beside nearest silent (c)", links.url("neuron", keep, beside=silent), "c"]] if silent is not None else []),
        ["keep beside the next (b)", links.url("neuron", keep, beside=image), "b"],
        *([["one picture (o)", links.url("neuron", keep), "o"]] if other is not None else []),
    ]
    row = None if other is None else query_images.image(study.reader, cohort, other)
    if row is not None and other is not None:
        picture, _ = full_picture.full_size(study.reader, cohort, other)
        words = query_images.captions(study.reader, cohort, [other], studies.labels(study, cohort)).to_dict("records")
        found["beside"] = {
            "src": pictures.data_uri(picture) if picture else None,
            "alt": cards.alt_text(other, words[0]),
            "title": f"Image {other}",
            "said": "neuron silent here" if other == silent else str(words[0]["labels"]),
        }
    return found


SCOPES = {"evaluation": "the evaluation set", "holdout": "the hold-out images", "train": "the training images"}
"""What `score --images` takes, in words."""


def not_scored(study: Study, scores: Artifact, cohort: Artifact, image: int) -> None:
    """Say that these scores do not know an image, why, and what would: there is nothing else to show of it."""
    row = query_images.image(study.reader, cohort, image) or {}
    scope = str(scores.config.get("images"))
    if scope in SCOPES:
        why = f"These scores were taken over {SCOPES[scope]}; this image is of the split “{row.get('split')}”"
        why += " and was not drawn into that set." if row.get("split") == scope else "."
    else:
        why = "It has no embedding: the encoder left it out."
    others = [
        s for s in study.artifacts
        if s.kind == "scores" and s.parents.get("cohort") == cohort.id and s.id != scores.id
        and query_images.is_scored(study.reader, s, image)
    ]  # fmt: skip
    command = None
    if scope in SCOPES and not others:
        sae, embeddings = scores.parents.get("sae"), scores.parents.get("embeddings")
        of = f"--sae {sae}" if sae else f"--embeddings {embeddings} --representation raw"
        command = f"python -m medsae score {of} --images all"
    look.empty("This image was not scored", f"{why} So nothing is known here of the neurons on it.", command)
    if others:
        named = titles(study.artifacts, others)
        st.html("Scores that hold it: " + " ".join(
            look.chip(named[s.id], links.url("image", (), scores=s.id, image=image)) for s in others[:4]
        ))  # fmt: skip


def facts(study: Study, cohort: Artifact, row: dict[str, Any], caption: dict[str, Any]) -> list[list[str]]:
    """Name and value of what is known of an image; the patient as a hash unless switched on."""
    age = format.NOTHING if format.missing(row["age"]) else f"{row['age']:.0f}"
    known = [
        ["present", str(caption["labels"] or format.NOTHING)],
        ["uncertain", str(caption["uncertain"] or format.NOTHING)],
        ["patient", study.patient(str(row["patient"]))],
        ["sex, age", f"{row['sex'] or format.NOTHING}, {age}"],
        ["view", str(row["view"] or format.NOTHING)],
        [
            "split",
            str(row["split"])
            + (", in the evaluation set" if row["evaluation"] and row["split"] != "evaluation" else ""),
        ],
    ]
    if row["width"] is not None:
        known.append(["size", f"{int(row['width'])} × {int(row['height'])} px"])
    if study.patients:
        known.append(["path", str(row["path"])])
    return known


def table(study: Study, scores: Artifact, cohort: Artifact, search: find_images.Search) -> Frame:
    """All images of a search with what may be shown of them: no path, the patient as a hash unless switched on."""
    found = find_images.find(study.reader, scores, cohort, search, LARGEST_TABLE).rows
    numbers = [int(i) for i in found["image"]]
    frame = query_images.captions(study.reader, cohort, numbers, studies.labels(study, cohort))
    frame = found.merge(frame, on="image", how="left")
    return frame.assign(patient=[study.patient(str(p)) for p in frame["patient"]])


LARGEST_TABLE = 100_000
"""Images of a search that are exported at most."""
