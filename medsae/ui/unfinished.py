"""What a page says where something is not made yet: what is there, what runs, the next command."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NoReturn

import streamlit as st

from medsae import config as configs
from medsae.store import titles
from medsae.store.artifacts import KINDS, Artifact
from medsae.ui import job_words, links, look

if TYPE_CHECKING:
    from medsae.ui.study import Study

_FIRST = "start a step here, without a terminal"
_CALLED = {"cohort": "a cohort", "embeddings": "embeddings", "sae": "an SAE", "scores": "scores"}


def tell(study: Study) -> NoReturn:
    """The states `no data` and `working`: what is there, what runs, the next command; ends the page."""
    running = [j for j in job_words.jobs().list() if j.state == "running"]
    look.heading("MedSAE Explorer", "what the neurons of a sparse autoencoder of chest radiographs answer to")
    if study.gone is not None:
        _say_gone(study, study.gone)
    elif study.state == "no data" and not running:
        look.empty(
            "No study yet",
            "Make one from simulated radiographs: a small cohort, its encoder, a sparse "
            "autoencoder, scores. It takes some minutes and needs no network. Or of your own: radiographs with a table "
            "of labels (python -m medsae ingest --root FOLDER says what a folder holds).",
            "python -m medsae run demo",
        )
        _begin(_FIRST)
    else:
        look.empty("The study is not finished", " ".join(missing(study)), next_command(study))
        _begin("what runs, and its log" if running else _FIRST)
    for job in running:
        job_words.show_job(job)
    look.footer()
    st.stop()


def _begin(words: str) -> None:
    """Where steps are started and watched, and what all this is."""
    tab = "start" if words == _FIRST else "jobs"
    st.html(
        look.chip(words, links.url("runs", (), tab=tab)) + " " + look.chip("what this program does", links.url("about"))
    )


def _say_gone(study: Study, gone: str) -> None:
    """Nothing else is shown under an address whose scores are gone: it would pass for what was meant."""
    look.empty(
        "What this address shows is not here",
        f"It asks for {gone}: deleted, damaged, or made on another machine. No other study is shown in its place.",
    )
    latest = titles.newest([a for a in study.artifacts if a.kind == "scores"])
    if latest is not None and latest is not study.scores:
        st.html(look.chip("open the newest study", links.url("overview", (), scores=latest.id)))


def alone(study: Study, scores: Artifact) -> None:
    """The state `partial`: what these scores could be compared with."""
    cohort, embeddings = scores.parents.get("cohort"), scores.parents.get("embeddings", "")
    if any(a.kind == "scores" and a.id != scores.id and a.parents.get("cohort") == cohort for a in study.artifacts):
        look.empty("Nothing is compared", "Choose other scores under Compared with at the left.")
        return
    sae = next((a.id for a in study.artifacts if a.kind == "sae" and a.parents.get("embeddings") == embeddings), None)
    if not titles.is_raw(scores):
        what, command = "Score the raw embedding", configs.Score(embeddings=embeddings, representation="raw")
    elif sae:
        what, command = "Score its SAE", configs.Score(sae=sae)
    else:
        what, command = "Train an SAE on this embedding and score it", configs.Train(embeddings=embeddings)
    look.empty(
        "Nothing to compare with yet", f"{what} with the same labels, and every page shows both.", _line(command)
    )


def missing(study: Study) -> list[str]:
    """Which steps are there and which are not, in words."""
    there = {a.kind for a in study.artifacts}
    have = [words for kind, words in _CALLED.items() if kind in there]
    lack = [words for kind, words in _CALLED.items() if kind not in there]
    unfinished = [id for k in KINDS for id, _ in study.store.unfinished(k)]
    return [
        f"There is {', '.join(have) or 'nothing yet'}; still missing: {', '.join(lack) or 'nothing'}.",
        *([f"Being made, or interrupted: {', '.join(unfinished)}."] if unfinished else []),
    ]


def next_step(study: Study) -> configs.Command:
    """The config of the step that is missing first."""
    newest = {k: next((a for a in study.artifacts if a.kind == k), None) for k in KINDS}
    if (cohort := newest["cohort"]) is None:
        return configs.RunDemo()
    if (embeddings := newest["embeddings"]) is None:
        simulated = cohort.facts.get("source") == "simulated"
        return configs.Embed(cohort=cohort.id, encoder="simclip" if simulated else "medclip-resnet")
    if (sae := newest["sae"]) is None:
        return configs.Train(embeddings=embeddings.id)
    return configs.Score(sae=sae.id)


def next_command(study: Study) -> str:
    """The command line of the step that is missing first."""
    return _line(next_step(study))


def _line(command: configs.Command) -> str:
    return shlex.join(["python", "-m", "medsae", *configs.command_line(command)])
