"""The panels of the page for a picture of one's own; the models are in a service, not in this process."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from medsae import config as configs
from medsae.cohorts.checking import decode_apart
from medsae.cohorts.pictures import PictureError
from medsae.jobs import Job
from medsae.progress import UserError
from medsae.store import maps as stored
from medsae.store import pictures
from medsae.store.artifacts import Artifact
from medsae.store.looks import Looks
from medsae.ui import cards, format, job_words, links, look, maps
from medsae.ui.study import Study

Found = dict[str, Any]
WAIT_SECONDS, OCCLUSION_SECONDS = 60.0, 1800.0
"""Longest wait for an answer: a warm service needs less than one second; 65 runs of a large encoder take minutes."""
MOST_BYTES = 200 * 2**20
_SHOWN = 12
_KEY = "own-picture"


def service(study: Study, scores: Artifact) -> bool:
    """Whether the models are loaded; else what is going on, and a button that starts them."""
    looks = Looks(study.store.data, scores.id)
    alive, phase = looks.alive(), looks.state().get("phase")
    if alive and phase == "ready":
        _unload(scores)
        return True
    job_words.say_stopped()
    if alive or st.session_state.get("_own-started") == scores.id:
        _waiting(study, scores)
        return False
    with st.container(border=True):
        look.section("The models are not loaded")
        st.caption("A service on this machine holds the encoder and the SAE; it ends by itself when nobody asks.")
        if st.button("Load the models", type="primary"):
            job_words.jobs().start(configs.Look(scores=scores.id, watch=True))
            st.session_state["_own-started"] = scores.id
            st.rerun()
        st.caption(f"In a terminal: python -m medsae look --scores {scores.id} --watch")
    return False


def _jobs_of(scores: Artifact) -> list[Job]:
    """The jobs that hold, or held, the models of these scores; newest first."""
    return [j for j in job_words.jobs().list() if j.step == "look" and scores.id in j.command]


def _unload(scores: Artifact) -> None:
    """That the models are loaded, and a button that stops their service."""
    job = next((j for j in _jobs_of(scores) if j.state == "running"), None)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("The encoder and the SAE are loaded; their service ends by itself when nobody asks.")
        if job is not None and st.button("Stop the service", type="tertiary"):
            job_words.stop(job)
            st.session_state.pop("_own-started", None)
            deadline = time.monotonic() + 10
            while job_words.jobs().get(job.id).state == "running" and time.monotonic() < deadline:
                time.sleep(0.1)
            st.rerun()


@st.fragment(run_every=0.5)
def _waiting(study: Study, scores: Artifact) -> None:
    looks = Looks(study.store.data, scores.id)
    if looks.alive() and looks.state().get("phase") == "ready":
        st.rerun()
    mine = _jobs_of(scores)
    if mine and mine[0].state in ("failed", "interrupted", "cancelled"):
        st.session_state.pop("_own-started", None)
        st.error(look.literal(f"The models were not loaded: {mine[0].error or job_words.state_in_words(mine[0])}"))
        st.html(look.chip("what it printed", links.url("runs", tab="jobs", job=mine[0].id)))
        if st.button("Try again"):
            st.rerun(scope="app")
        return
    st.caption("Loading the encoder and the SAE …")


def asked(study: Study, scores: Artifact) -> Found | None:
    """What the service says of the picture that the reader gave; None where there is none, or no answer."""
    given = st.file_uploader("Picture", label_visibility="collapsed", max_upload_size=MOST_BYTES // 2**20)
    if given is None:
        st.session_state.pop(_KEY, None)
        return None
    occlude = _occlusion(scores)
    key = (scores.id, given.file_id, occlude)
    known = st.session_state.get(_KEY)
    if known and known[0] == key:
        return known[1]
    data = given.getvalue()
    place = st.empty()
    with st.spinner("Looking"):
        found = answer(Looks(study.store.data, scores.id), data, place.caption, occlude=occlude)
    place.empty()
    if "error" in found:
        st.error(look.literal(str(found["error"])))
        return None
    found["thumbnail"] = _small(data)
    st.session_state[_KEY] = (key, found)
    return found


def _occlusion(scores: Artifact) -> bool:
    """Whether the reader wants approximate maps, where the encoder has no exact ones."""
    if not stored.approximate(scores):
        return False
    return links.switch("approximate maps by occlusion: the encoder runs 65 times", "occlude", False)


def answer(looks: Looks, data: bytes = b"", say: Callable[[str], object] | None = None, **what: Any) -> Found:
    """What the service says of a question (`Looks.ask`); an answer with "error" where it says nothing. `say` is told
    how far a map by occlusion is."""
    try:
        token = looks.ask(data, **what)
    except UserError as error:
        return {"error": error.what}
    wait, told = OCCLUSION_SECONDS if what.get("occlude") else WAIT_SECONDS, None
    end = time.monotonic() + wait
    while time.monotonic() < end:
        found = looks.fetch(token)
        if found is not None:
            return found
        if not looks.alive():
            return {"error": "the service has ended; load the models again"}
        state = looks.state() if say and what.get("occlude") else {}
        if say and state.get("passes") and state["passes"] != told:
            told = state["passes"]
            say(f"occlusion: the encoder has run {told} of {state.get('of')} times")
        time.sleep(0.02)
    return {"error": f"no answer within {wait:.0f} s"}


def _small(data: bytes) -> bytes:
    """The decoded picture for a grid, WebP; never the file itself (a header may name people)."""
    try:
        grey = Image.fromarray(decode_apart(data))
    except PictureError as error:
        raise UserError(f"this picture cannot be shown: {error}") from error
    grey.thumbnail((480, 480))
    out = io.BytesIO()
    grey.save(out, "WEBP", quality=85)
    return out.getvalue()


def verdict(found: Found) -> None:
    """One sentence on how far the picture lies from what the SAE was trained on, and the numbers behind it."""
    far = found["distance"]
    share = f"further from the training images than {format.percent(far['quantile'], 0)} of the held-out ones"
    if far["quantile"] == 0:
        share = "nearer to the training images than every held-out one"
    if far["unlike_training"]:
        st.warning(f"Unlike anything the SAE was trained on: {share}. What follows may mean nothing.")
    else:
        st.caption(f"Like the pictures that the SAE was trained on: {share}.")
    look.figures(
        [
            (format.count(found["fires"]), "neurons fire", "sae"),
            (format.number(far["value"]), "distance to the nearest training image", ""),
            (format.number(far["median_of_held_out"]), "the same, median of held-out pictures", ""),
        ]
    )


def switch() -> bool:
    """The toggle of the maps, with an unseen link that the key m follows; they are shown from the first."""
    shown = links.switch("where they look (m)", "maps", True)
    href = escape(links.url("own", (*links.STUDY, "occlude"), maps=0 if shown else None))
    st.html(f'<a data-go data-key="m" href="{href}" hidden tabindex="-1">maps</a>', width="content")
    return shown


def neurons(study: Study, found: Found, mapped: bool) -> None:
    """The strongest neurons: as pictures with maps, then as a table."""
    look.section("Neurons that fire", f"{found['fires']:,}, strongest share of their own maximum first")
    if not found["neurons"]:
        look.empty("No neuron fires", "The SAE has nothing to say of this picture.")
        return
    cards.show(_grid(found, mapped))
    if found["no_maps"]:
        st.caption(f"No maps: {found['no_maps']}.")
    elif mapped:
        st.caption(f"Maps: {found['grid']['how']}; each has its own scale.")
    rows = [
        [
            look.link(n["neuron"], links.url("neuron", neuron=n["neuron"])),
            escape(str(n["name"] or n["label"] or format.NOTHING)),
            format.number(n["activation"]),
            format.NOTHING if n["share_of_max"] is None else format.percent(n["share_of_max"], 0),
        ]
        for n in found["neurons"]
    ]
    st.html(look.table([("neuron", True), ("name or label", False), ("activation", True), ("of max", True)], rows))


def _grid(found: Found, mapped: bool) -> str:
    src = pictures.data_uri(found["thumbnail"])
    size = (found["height"], found["width"])
    grid = stored.Grid.of(found["grid"]) if found["grid"] else None
    cells = []
    for n in found["neurons"][:_SHOWN]:
        over = ""
        if mapped and grid and n["map"]:
            map_c = np.array(n["map"], float).ravel()
            most = float(np.abs(map_c).max()) or 1.0
            drawn = maps.drawn(grid.spread(map_c / most, size, maps.LONGEST), None)
            over = f'<img class="ms-over" src="{drawn}" alt="">'
        words = escape(str(n["name"] or n["label"] or ""))
        share = format.NOTHING if n["share_of_max"] is None else format.percent(n["share_of_max"], 0)
        href = escape(links.url("neuron", neuron=n["neuron"]))
        cells.append(
            f'<a class="ms-pic" data-go href="{href}" title="neuron {n["neuron"]} · {words}"><span class="ms-box">'
            f'<img src="{src}" alt="Your picture under neuron {n["neuron"]}">{over}</span>'
            f'<span class="ms-cap"><i>{n["neuron"]} {words}</i><em>{share}</em></span></a>'
        )
    return f'<div class="ms-grid" style="--cell:150px">{"".join(cells)}</div>'


def nearest(study: Study, cohort: Artifact, found: Found) -> None:
    """The most similar pictures of the cohort."""
    look.section("Nearest pictures of the cohort", "cosine of embeddings, one a patient")
    rows = pd.DataFrame([{"image": n["image"], "value": n["cosine"]} for n in found["nearest"]])
    cards.show(cards.grid(study, cohort, rows, lambda i: links.url("image", image=i), 110))
