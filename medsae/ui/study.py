"""The study that the sidebar chose: which scores are looked at, what they are compared with, in which unit.

`choose` runs once in app.py and draws the sidebar; a page takes `current()`. A page has four states: no data, working
(steps are missing or running), partial (no second scores to compare with), ready.
"""

from __future__ import annotations

import atexit
import gc
import math
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from medsae.jobs import Jobs
from medsae.progress import UserError
from medsae.store import concepts, followed, housekeeping, pictures, queries, query_images, trained
from medsae.store.artifacts import KINDS, Artifact, Store
from medsae.store.ledger import Ledger
from medsae.store.notes import Note, Notes, representation
from medsae.store.reader import Frame, Reader
from medsae.store.titles import cohort_title, is_raw, newest, title, titles
from medsae.ui import format, links, look, unfinished

State = Literal["no data", "working", "partial", "ready"]


_run = threading.local()
"""The study of the run in this thread: one script run is one thread from its first line to its last."""


@dataclass(frozen=True)
class Study:
    """What a page needs to know; `scores` is None in the states `no data` and `working`."""

    store: Store
    reader: Reader
    artifacts: tuple[Artifact, ...]
    problems: tuple[UserError, ...]
    cohort: Artifact | None
    scores: Artifact | None
    versus: Artifact | None
    unit: format.Unit
    patients: bool
    gone: str | None = None
    """What the address asks for and is not here: `the scores x`, `the cohort y`."""

    @property
    def state(self) -> State:
        if not self.artifacts:
            return "no data"
        if self.scores is None:
            return "working"
        return "ready" if self.versus is not None else "partial"

    def get(self, id: str | None) -> Artifact | None:
        """The artifact of an id, if it is there and whole."""
        return next((a for a in self.artifacts if a.id == id), None)

    def parent(self, artifact: Artifact | None, kind: str) -> Artifact | None:
        """The parent of a kind."""
        return self.get(artifact.parents.get(kind)) if artifact else None

    @cached_property
    def k(self) -> int:
        """Labels with a defined correlation: what entropy is normalised by."""
        assert self.scores is not None
        return _defined_labels(str(self.store.data), self.scores.id, self.scores.manifest["created"])

    @property
    def scale(self) -> float:
        """What bits are multiplied by on this page."""
        return format.factor(self.unit, self.k)

    @property
    def unit_name(self) -> str:
        return format.UNIT_NAMES[self.unit]

    @cached_property
    def names(self) -> dict[int, str]:
        """neuron -> its current name, from the ledger; empty while nothing is named."""
        if self.scores is None:
            return {}
        return _names(str(self.store.data), self.scores.id, ledger(self.store, self.scores).stamp())

    @cached_property
    def notes(self) -> dict[int, Note]:
        """neuron -> people's note."""
        return Notes(self.store, representation(self.scores)).all() if self.scores else {}

    @cached_property
    def called(self) -> dict[int, str]:
        """neuron -> what people call it, of those that people named."""
        return {n: note.called for n, note in self.notes.items() if note.called}

    @cached_property
    def shown_names(self) -> dict[int, str]:
        """neuron -> the name that stands for it in lists: people's, else the model's."""
        return {**self.names, **self.called}

    @cached_property
    def scarce(self) -> dict[str, int]:
        """label -> images on its scarcer side, of the labels that have too few to say much."""
        return queries.scarce_labels(self.reader, self.scores, links.least()) if self.scores else {}

    @property
    def maximum_bits(self) -> float:
        """log2 k: the entropy of a neuron that follows all labels alike."""
        return math.log2(max(2, self.k))

    def patient(self, patient: str) -> str:
        """A patient as this page may show it."""
        return patient if self.patients else pictures.hashed(patient, _salt(str(self.store.data)))

    def tone(self, scores: Artifact | None) -> Literal["sae", "raw"]:
        """The colour of meaning of scores."""
        return "raw" if scores is not None and is_raw(scores) else "sae"


def colours(study: Study, other: Artifact | None = None) -> tuple[str, str]:
    """Chart colours of the two representations (`other`: in the place of the one compared with); violet for a second
    one of the same kind."""
    assert study.scores is not None
    raw = [is_raw(s) if s is not None else None for s in (study.scores, other or study.versus)]
    first = look.RAW if raw[0] else look.SAE
    return first, look.SECOND if raw[0] == raw[1] else look.RAW if raw[1] else look.SAE


@st.cache_resource(show_spinner=False)
def _reader() -> Reader:
    return Reader()


@st.cache_resource(show_spinner=False)
def _salt(data: str) -> bytes:
    return pictures.salt(Store(Path(data)))


@st.cache_data(show_spinner=False, max_entries=64)
def _defined_labels(data: str, id: str, created: float) -> int:
    return queries.defined_labels(_reader(), Store(Path(data)).get(id, "scores"))


def ledger(store: Store, scores: Artifact) -> Ledger:
    """The ledger of names of these scores."""
    return _ledger(str(store.data), scores.id)


def named(store: Store, scores: Artifact) -> Frame:
    """`Ledger.names` of these scores, read again only when the ledger has grown; shared, so never changed."""
    return _named(str(store.data), scores.id, ledger(store, scores).stamp())


def named_of(store: Store, scores: Artifact, neuron: int) -> Frame:
    """The rows of `named` of one neuron; its own, and found without looking through all of them."""
    key = (str(store.data), scores.id, ledger(store, scores).stamp())
    return _named(*key).iloc[_rows_of_neurons(*key).get(neuron, [])]


def runs_of_names(store: Store, scores: Artifact) -> list[concepts.RunOfNames]:
    """`concepts.runs` of these scores, counted again only when the ledger has grown; shared, so never changed."""
    return _runs_of_names(str(store.data), scores.id, ledger(store, scores).stamp())


@st.cache_resource(show_spinner=False, max_entries=16)
def _rows_of_neurons(data: str, scores: str, stamp: tuple[int, int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row, neuron in enumerate(_named(data, scores, stamp)["neuron"].tolist()):
        found.setdefault(int(neuron), []).append(row)
    return found


@st.cache_resource(show_spinner=False, max_entries=16)
def _runs_of_names(data: str, scores: str, stamp: tuple[int, int]) -> list[concepts.RunOfNames]:
    return concepts.runs(_named(data, scores, stamp))


@st.cache_resource(show_spinner=False, max_entries=16)
def _ledger(data: str, scores: str) -> Ledger:
    return Ledger(Store(Path(data)), scores)


@st.cache_resource(show_spinner=False, max_entries=16)
def _named(data: str, scores: str, stamp: tuple[int, int]) -> Frame:
    return _ledger(data, scores).names()


@st.cache_resource(show_spinner=False, max_entries=16)
def _names(data: str, scores: str, stamp: tuple[int, int]) -> dict[int, str]:
    if stamp == (0, 0):
        return {}
    frame = _named(data, scores, stamp)
    frame = frame[frame["concept"].notna() & (frame["status"] == "ok")]
    frame = frame.sort_values(["counter", "time"], na_position="first")
    return {int(n): str(c) for n, c in zip(frame["neuron"], frame["concept"], strict=True)}


def groups(study: Study, scores: Artifact, cohort: Artifact) -> Frame:
    """The groups of every scored image, read once for these scores; shared, so never changed."""
    return _groups(study.reader, scores, cohort, (str(study.store.data), scores.id, scores.manifest["created"]))


@st.cache_resource(show_spinner=False, max_entries=4)
def _groups(_reader: Reader, _scores: Artifact, _cohort: Artifact, key: tuple[str, str, float]) -> Frame:
    return query_images.groups(_reader, _scores, _cohort)


def scored_images(study: Study, scores: Artifact, cohort: Artifact) -> followed.Images:
    """The scored images with attributes and labels, read once for these scores; shared, so never changed."""
    known = labels(study, cohort)
    key = (str(study.store.data), scores.id, scores.manifest["created"])
    return _scored_images(study.reader, scores, cohort, known, key)


@st.cache_resource(show_spinner=False, max_entries=4)
def _scored_images(
    _reader: Reader, _scores: Artifact, _cohort: Artifact, _labels: query_images.LabelTable, key: tuple[str, str, float]
) -> followed.Images:
    return followed.images(_reader, _scores, _cohort, followed.attributes(_reader, _cohort), _labels)


def labels(study: Study, cohort: Artifact) -> query_images.LabelTable:
    """The labels of every image, read once for this cohort; shared, so never changed."""
    return _labels(study.reader, cohort, (str(study.store.data), cohort.id, cohort.manifest["created"]))


@st.cache_resource(show_spinner=False, max_entries=4)
def _labels(_reader: Reader, _cohort: Artifact, key: tuple[str, str, float]) -> query_images.LabelTable:
    return query_images.label_table(_reader, _cohort)


def short_titles(study: Study) -> tuple[str, str]:
    """`SAE` and `raw` where that tells the two representations apart, else their titles; empty without a second."""
    assert study.scores is not None
    if study.versus is None:
        return ("raw" if is_raw(study.scores) else "SAE"), ""
    if is_raw(study.scores) != is_raw(study.versus):
        return ("raw", "SAE") if is_raw(study.scores) else ("SAE", "raw")
    return title(study.artifacts, study.scores), title(study.artifacts, study.versus)


def troubles(study: Study) -> list[UserError]:
    """What is wrong with the names and notes of what is looked at: what is damaged is left out of the page."""
    found = []
    for scores in dict.fromkeys(a.id for a in (study.scores, study.versus) if a is not None):
        found += _ledger(str(study.store.data), scores).troubles()
    return found + (Notes(study.store, representation(study.scores)).troubles() if study.scores else [])


def _default_versus(scores: Artifact, others: list[Artifact]) -> Artifact | None:
    """The raw scores of the same embeddings and label policy, else of the same embeddings, else any other."""

    def closeness(other: Artifact) -> tuple[bool, bool, bool]:
        same = all(other.config.get(k) == scores.config.get(k) for k in ("images", "uncertain", "unstated", "seed"))
        return (
            is_raw(other) != is_raw(scores),
            other.parents.get("embeddings") == scores.parents.get("embeddings"),
            same,
        )

    return max(others, key=closeness, default=None)


def scan() -> tuple[Store, tuple[Artifact, ...], tuple[UserError, ...]]:
    """Every artifact that can be read, and what is wrong with the others."""
    store = Store()
    stamps = tuple(_stamp(store.artifacts / kind) for kind in KINDS)
    artifacts, problems = _scan(str(store.data), stamps)
    return store, artifacts, problems


def forget_scan() -> None:
    """Look at the data folder anew: something was named, removed or taken back."""
    _scan.clear()


def _stamp(folder: Path) -> int:
    return folder.stat().st_mtime_ns if folder.is_dir() else 0


@st.cache_resource(show_spinner=False, max_entries=4, ttl=20)
def _scan(data: str, stamps: tuple[int, ...]) -> tuple[tuple[Artifact, ...], tuple[UserError, ...]]:
    found, problems = Store(Path(data)).scan()
    return tuple(found), (*problems, *Jobs(Path(data)).troubles(), *housekeeping.troubles(Path(data)))


def choose() -> Study:
    """Draw the sidebar's choosers and remember the study for the page."""
    store, artifacts, problems = scan()
    wanted = st.query_params.get("scores")
    archived = {id for id, card in housekeeping.cards(store.data).items() if card.archived}
    # An address finds what was archived; a chooser does not offer it, nor anything of an archived cohort.
    shown = [a for a in artifacts if not archived & {a.id, a.parents.get("cohort"), a.parents.get("sae")}]
    every = [a for a in artifacts if a.kind == "scores"]
    scored = [a for a in every if a in shown or a.id == wanted]
    cohorts = [a for a in artifacts if a.kind == "cohort"]
    bar = st.sidebar
    links.forget()
    scores = newest(scored) if wanted is None else next((s for s in scored if s.id == wanted), None)
    gone = f"the scores {wanted}" if scores is None and wanted is not None else None
    cohort = next((c for c in cohorts if scores and c.id == scores.parents.get("cohort")), None)
    if scores is not None and cohort is None:
        gone = f"the cohort {scores.parents.get('cohort')} of {scores.id}"
    versus = None
    with bar:
        with_scores = {s.parents.get("cohort") for s in scored}
        shown = [c for c in cohorts if c.id in with_scores]
        if cohort and shown:
            _choose_cohort(shown, cohort, scored)
        if scores:
            mine = [s for s in scored if s.parents.get("cohort") == scores.parents.get("cohort")]
            st.session_state["_scores"] = scores.id
            named = titles(artifacts, mine)
            st.selectbox(
                "Representation",
                list(named),
                key="_scores",
                format_func=lambda i: named.get(i, str(i)),
                on_change=lambda: links.put(scores=st.session_state["_scores"], versus=None, neuron=None),
            )
            others = [s for s in mine if s.id != scores.id]
            if others:
                default = cast(Artifact, _default_versus(scores, others))
                ids = {s.id: named[s.id] for s in others} | {"none": "nothing"}
                chosen = links.choose(st.selectbox, "Compared with", "versus", ids, default.id)
                versus = next((s for s in others if s.id == chosen), None)
            policy = f"uncertain as {scores.config.get('uncertain')}, blank as {scores.config.get('unstated')}"
            defined = cohort.facts.get("labels_defined") if cohort else None
            st.caption(
                f"{scores.config.get('protocol')} protocol · {scores.config.get('images')} images · {policy}",
                help=f"Labels were {defined}." if defined else None,
            )
            badge = trained_badge(artifacts, scores)
            if badge:
                st.html(badge)
            links.found(scores=scores.id, versus=versus.id if versus else "none" if others else None)
        patients = (
            links.switch(
                "Show patient numbers", "patients", False, help="Off: a patient is shown as a short salted hash."
            )
            if cohort
            else False
        )
        if cohort and not patients and not pictures.keeps_salt(store):
            st.caption("The data folder cannot be written: the hashes of patients change when the server starts again.")
    unit = st.query_params.get("unit", "bits")
    unit = cast(format.Unit, unit if unit in format.UNIT_NAMES else "bits")
    study = Study(store, _reader(), artifacts, problems, cohort, scores, versus, unit, patients, gone)
    _run.study = study
    return study


def trained_badge(artifacts: Sequence[Artifact], scores: Artifact) -> str:
    """HTML of what the SAE of these scores was trained on; empty for a raw embedding."""
    found = trained.trained_on(artifacts, scores)
    return look.badge(f"trained on: {found.text}", found.help, found.apart) if found else ""


def figures(items: Sequence[tuple[str, str, str]]) -> None:
    """A row of figures with entropies among them (see `look.figures`), and the switch of their unit."""
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="top"):
        look.figures(items)
        unit_switch()


def unit_switch() -> None:
    """The unit of entropies; stands where entropies do."""
    links.choose(
        st.segmented_control, "Unit of entropy", "unit", format.UNIT_NAMES, "bits", label_visibility="collapsed"
    )


def _choose_cohort(shown: list[Artifact], cohort: Artifact, scored: list[Artifact]) -> None:
    texts = {c.id: cohort_title(c) for c in shown}
    texts = {i: f"{t} · {i[-4:]}" if list(texts.values()).count(t) > 1 else t for i, t in texts.items()}
    st.session_state["_cohort"] = cohort.id

    def changed() -> None:
        mine = [s for s in scored if s.parents.get("cohort") == st.session_state["_cohort"]]
        first = next((s for s in mine if not is_raw(s)), mine[0])
        links.put(scores=first.id, versus=None, neuron=None, image=None)

    st.selectbox("Study", list(texts), key="_cohort", format_func=lambda i: texts.get(i, str(i)), on_change=changed)


def current() -> Study:
    """The study of this run."""
    if not hasattr(_run, "study"):
        # The first request of a fresh server was a link to a page. Until st.navigation was called once, Streamlit takes
        # pages/ for its old automatic discovery and runs the page without app.py: switch that off and run again.
        PagesManager.uses_pages_directory = False
        st.rerun()
    return _run.study


def ready() -> tuple[Study, Artifact, Artifact]:
    """(study, scores, cohort) for a page about scores; in the states without any it says what to do and stops."""
    study = current()
    if study.scores is None or study.cohort is None:
        unfinished.tell(study)
    return study, study.scores, study.cohort


def foot(*more: str) -> None:
    """The footer of a page: research use, and the artifacts it was made from."""
    study = current()
    about = "simulated radiographs" if study.cohort and study.cohort.facts.get("source") == "simulated" else ""
    look.footer(*[a.id for a in (study.scores, study.versus) if a], *more, about)
    links.whole_address()
    _settle()


def _settle() -> None:
    """Take what was imported out of the garbage collector's sight.

    Streamlit collects all garbage after every run: 80 ms over the objects of pandas and plotly, which never become
    garbage, and as long as that no other reader's page goes on. Done again only when a page has imported more.
    """
    if _modules[0] != len(sys.modules):
        _modules[0] = len(sys.modules)
        gc.freeze()


_modules = [0]
atexit.register(gc.unfreeze)
