"""Names on the pages: the naming panel of the Neuron page, and the parts of the Concepts page.

Everything a model wrote is escaped. The panel asks a service that keeps its model loaded (`name --watch`), started as
a job on the first request; results come from the ledger, so they are there after a restart of the app.
"""

from __future__ import annotations

from html import escape
from typing import Any, get_args

import pandas as pd
import streamlit as st

from medsae import reports
from medsae.config import NO_MODEL, Name, Protocol
from medsae.jobs import Jobs
from medsae.plugins import backends
from medsae.progress import UserError
from medsae.store import concepts, queries, query_images
from medsae.store.artifacts import Artifact, Store
from medsae.store.concepts import RunOfNames
from medsae.store.requests import Requests
from medsae.ui import cards, format, links, look, maps
from medsae.ui import study as studies
from medsae.ui.study import Study

ROWS = 50
"""Names on one page of the Concepts table."""
THRESHOLDS = {"0": "any", "0.6": "0.60", "0.7": "0.70 (paper)", "0.8": "0.80", "0.9": "0.90"}
ABOUT = {"name": "its name", "shuffled": "another neuron's name", "random": "a random description"}
_POLL_SECONDS = 0.5


def audits(store: Store, scores: Artifact, run: RunOfNames) -> pd.DataFrame:
    """How well the judge of a run tells each label (`Ledger.audits`); empty where it was not audited."""
    ledger = studies.ledger(store, scores)
    found = _audits(ledger, str(ledger.folder), ledger.stamp())
    return found[(found["backend"] == run.backend) & (found["model"] == run.model)]


@st.cache_resource(show_spinner=False, max_entries=8)
def _audits(_ledger: Any, folder: str, stamp: tuple[int, int]) -> pd.DataFrame:
    return _ledger.audits()


def truths(store: Store, scores: Artifact) -> pd.DataFrame:
    """What the neurons of a simulated cohort follow, and whether their names say it (`Ledger.truths`)."""
    ledger = studies.ledger(store, scores)
    return _truths(ledger, str(ledger.folder), ledger.stamp())


@st.cache_resource(show_spinner=False, max_entries=8)
def _truths(_ledger: Any, folder: str, stamp: tuple[int, int]) -> pd.DataFrame:
    return _ledger.truths()


def truth_of(found: pd.DataFrame, run: str, neuron: int) -> dict[str, Any] | None:
    """The line of a neuron in a run."""
    mine = found[(found["run"] == run) & (found["neuron"] == neuron)].to_dict("records")
    return mine[0] if mine else None


def judge(found: pd.DataFrame) -> None:
    """What the judge can see, under the names that it judged: a line and, on demand, the table."""
    known = found[found["auroc"].notna()]
    if known.empty:
        return
    said = ", ".join(f"{row['label']} at {row['auroc']:.2f}" for row in known.to_dict("records"))
    st.caption(look.literal(
        f"On the cohort's own labels this judge tells {said} (AUROC). A low accuracy of a name that says what "
        "the judge cannot see is the judge's, not the neuron's."
    ))  # fmt: skip
    with st.expander("The audit of the judge"):
        rows = [[escape(str(r["label"])), f"<b>{format.number(r['auroc'])}</b>", format.interval(r["low"], r["high"]),
                 format.number(r["accuracy"]), f"{int(r['judged'])} of {int(r['asked'])}"]
                for r in found.to_dict("records")]  # fmt: skip
        columns = [("label", False), ("AUROC", True), ("95 % interval", True), ("balanced accuracy", True),
                   ("verdicts usable", True)]  # fmt: skip
        cards.show(look.table(columns, rows))


# --- the Neuron page


def render(scores: Artifact, neuron: int) -> None:
    """The naming panel: ask for a name, follow the asking, read the result with the evidence for and against it."""
    study = studies.current()
    look.section("Name", "made by a model or by the labels, then tested on images it has not seen")
    config = chosen(scores)
    if config is not None:
        waiting = Requests(study.store, config).waiting(neuron)
        # A fragment polls only while something is under way; the whole page runs once more when the answer is there.
        st.fragment(_asking, run_every=_POLL_SECONDS if waiting else None)(study.store, config, neuron, waiting)
    mine = studies.named_of(study.store, scores, neuron)
    mine = mine.sort_values(["counter", "time"], ascending=False, na_position="last")
    known = {r.run: r for r in studies.runs_of_names(study.store, scores)}
    mine = mine[mine["run"].isin(list(known))]
    if mine.empty:
        look.empty("This neuron has no name yet", "Press Name it; from a shell, for many neurons:",
                   f"python -m medsae name --scores {scores.id} --top 50")  # fmt: skip
        return
    options = {str(run): known[str(run)].title for run in mine["run"]}
    run = known[links.choose(st.selectbox, "Result of", "named", options, next(iter(options)))]
    row = mine[mine["run"] == run.run].iloc[0].to_dict()
    _result(study, scores, run, row)


def _known(backend: str) -> str | None:
    """The model of a backend that comes with the program and knows the pictures of this cohort."""
    cohort = studies.current().cohort
    source = None if cohort is None else cohort.facts.get("source")
    return next((model for model, of in backends.get(backend).knows if of == source), None)


def _usual() -> str:
    """The backend that is asked where nobody chooses."""
    return next((name for name, offer in backends.all().items() if offer.first and _known(name)), "labels")


def asked_of() -> dict[str, str]:
    """The backends there are: name -> what people read."""
    return {name: offer.label for name, offer in backends.all().items()}


def chosen(scores: Artifact) -> Name | None:
    """The config that the panel's choosers describe; None (said on the page) while it is not complete."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        backend = links.choose(st.segmented_control, "Asked of", "backend", asked_of(), _usual())
        protocols = {p: p for p in get_args(Protocol)}
        protocol = links.choose(st.segmented_control, "Protocol", "protocol", protocols, "strict")
        pictures = links.choose(st.segmented_control, "Pictures a side", "pictures", ["most", "30", "20", "10"], "most")
    # "most": as many as these scores allow, 30 at most.
    fields: dict[str, Any] = {"backend": backend, "protocol": protocol}
    fields["pictures"] = None if pictures == "most" else int(pictures)
    if backend == "endpoint":
        address = links.text("Address of the server on this machine (several: with spaces between)", "endpoint",
                             "http://127.0.0.1:8000/v1")  # fmt: skip
        fields["endpoint"] = tuple(address.split()) if address else ()
        if not fields["endpoint"]:
            st.caption("An OpenAI-compatible server with vision: vLLM, llama.cpp, LM Studio, Ollama.")
            return None
    if backend not in NO_MODEL:
        own = _known(backend)
        placeholder = f"{own}, google/medgemma-4b-it, or a folder" if own else "google/medgemma-4b-it, or a folder"
        if backend == "endpoint":
            placeholder = "the only one served"
        fields["model"] = links.text("Model", "model", placeholder) or own
        if fields["model"] == own and own is not None:
            st.caption(f"{own} is a small model that comes with the program. It has seen simulated radiographs only.")
    try:
        return Name(scores=scores.id, watch=True, **fields)
    except UserError as error:
        look.problem(error)
        return None


def _asking(store: Store, config: Name, neuron: int, waiting: bool) -> None:
    requests = Requests(store, config)
    if waiting and not requests.waiting(neuron):
        st.rerun(scope="app")
    alive = requests.alive()
    starting = not alive and _runs(store, requests.job())
    with st.container(horizontal=True, vertical_alignment="center"):
        if not waiting:
            pressed = st.button("Name it", type="primary", key="_name-it")
            if pressed and look.done(lambda: _ask(store, config, requests, neuron, alive or starting)):
                st.rerun(scope="app")
            ready = "its model is loaded" if alive else "the first request starts it"
            st.caption(f"{asked_of()[config.backend]}, {config.protocol}: {ready}")
            return
        if st.button("Cancel", key="_name-cancel") and look.done(lambda: requests.cancel(neuron)):
            st.rerun(scope="app")
        state = requests.state()
        if not alive and not starting:
            error = state.get("error") or "it ended without an answer; its log is on the Runs page"
            st.error(look.literal(f"The naming service stopped: {error}"))
            pressed = st.button("Try again", key="_name-again")
            if pressed and look.done(lambda: _ask(store, config, requests, neuron, False)):
                st.rerun(scope="app")
        elif state.get("phase") == "working" and state.get("neuron") == neuron:
            done, total = int(state.get("done") or 0), max(1, int(state.get("total") or 1))
            st.progress(min(1.0, done / total), text=f"{done:,} of {total:,} questions answered")
        else:
            st.progress(0.0, text="loading the model" if starting or state.get("phase") == "loading" else "waiting")


def _ask(store: Store, config: Name, requests: Requests, neuron: int, running: bool) -> None:
    requests.ask(neuron)
    if not running:
        requests.started(Jobs(store.data).start(config).id)


def _runs(store: Store, job: str | None) -> bool:
    try:
        return job is not None and Jobs(store.data).get(job).state == "running"
    except UserError:
        return False  # its folder was removed


def _result(study: Study, scores: Artifact, run: RunOfNames, row: dict[str, Any]) -> None:
    neuron = int(row["neuron"])
    ledger = studies.ledger(study.store, scores)
    if row["status"] != "ok":
        raw = (ledger.explanation(run.run, neuron) or {}).get("raw")
        look.empty(f"No name: {row['status']}", str(row["note"] or "the reply could not be used"))
        if isinstance(raw, str) and raw:
            with st.expander("What the model wrote"):
                st.code(raw, language=None, wrap_lines=True)
        return
    mark = '<span class="ms-chip">labels only, no model</span>' if run.backend == "labels" else ""
    cards.show(
        f'<div class="ms-head"><span class="ms-name"><b>{escape(str(row["concept"] or "(tested without a name)"))}</b>'
        f"</span>{mark}</div>"
        f'<div class="ms-soft">{escape(str(row["description"] or ""))}</div>'
    )
    label = (queries.neuron(study.reader, scores, neuron) or {}).get("top_label")
    known = audits(study.store, scores, run)
    figures(row, run, known[known["label"] == label], truth_of(truths(study.store, scores), run.run, neuron))
    if run.overlap:
        st.caption(look.literal(format.sentence(run.overlap)))
    verdicts = ledger.verdicts(run.run, neuron)
    there = [a for a in ABOUT if (verdicts["about"] == a).any()]
    if there:
        first = "name" if "name" in there else there[0]  # lines of the ledger may be gone
        about = links.choose(st.segmented_control, "Pictures judged for", "about", {a: ABOUT[a] for a in there}, first)
        if about != "name":
            cards.show(f'<div class="ms-soft">judged: <b>{escape(str(row[f"{about}_concept"]))}</b></div>')
        judged = verdicts[verdicts["about"] == about]
        over = _mapped(study, scores, neuron, judged)
        cards.show(verdict_grid(study, judged, run.test != "detection", over))
    _sentences(study, run, row, verdicts)
    naming = row.get("naming")
    if naming is not None and len(naming):
        with st.expander(f"The {len(naming)} pictures that led to the name"):
            rows = pd.DataFrame({"image": [int(i) for i in naming], "value": None})
            rows = rows.assign(status="", fires=True, yes=None, p=None)
            cards.show(verdict_grid(study, rows, over=_mapped(study, scores, neuron, rows)))


def _mapped(study: Study, scores: Artifact, neuron: int, rows: pd.DataFrame) -> dict[int, str]:
    """image -> where the neuron looks on it, of those with a kept map, while the page shows maps."""
    if study.cohort is None or not maps.chosen(scores):
        return {}
    return maps.overlays(study, scores, study.cohort, neuron, [int(i) for i in rows["image"]]).src


SENTENCES = 12
"""Sentences of reports that are shown under a name."""


def _sentences(study: Study, run: RunOfNames, row: dict[str, Any], verdicts: pd.DataFrame) -> None:
    """What the reports of this neuron's pictures say of a name that came from reports."""
    column = run.model.partition("reports: ")[2]
    if not column or study.cohort is None:
        return
    fired = verdicts[(verdicts["about"] == "name") & verdicts["fires"].astype(bool)]["image"]
    naming = row.get("naming")
    images = [int(i) for i in (*(() if naming is None else naming), *fired)]
    told = query_images.texts(study.reader, study.cohort, column, images)
    phrase = str(row["concept"])
    found = [(i, s) for i in dict.fromkeys(images) for s in reports.sentences(told.get(i, ""), phrase)]
    with st.expander(f"Sentences with it in the reports of these pictures: {len(found)}"):
        if not study.patients:
            st.caption("Reports may name people: they are shown while “Show patient numbers” is on.")
            return
        rows = [[f'<a data-go href="{escape(links.url("image", image=i))}">{i}</a>', escape(s)]
                for i, s in found[:SENTENCES]]  # fmt: skip
        cards.show(look.table([("image", True), ("sentence", False)], rows))


RIGHT = {"same": ("right", "good"), "finding": ("right finding", ""), "other": ("another fact", "bad"),
         "nothing": ("nothing said", "bad")}  # fmt: skip
"""How a name compares with what its neuron follows: words and tone."""


def figures(
    row: dict[str, Any], run: RunOfNames, audit: pd.DataFrame | None = None, truth: dict[str, Any] | None = None
) -> None:
    """Accuracy with interval, AUROC, what controls score, coverage; audit: how the judge tells the label
    that the neuron follows, one row or none; truth: what it follows in a simulated cohort."""
    what = "balanced accuracy" if run.protocol == "strict" else "accuracy"
    if run.test != "detection":
        what = f"{run.test}: share of {int(row['asked'])} sets of five answered rightly (without looking: 0.20)"
    q = f"q {small(row['q'])} over {int(row['tests'])} neurons" if not format.missing(row["q"]) else ""
    accuracy, tone = row["accuracy"], ""
    if not format.missing(row["q"]):
        tone = "good" if row["q"] <= concepts.FDR and accuracy >= concepts.THRESHOLD else ""
    items: list[tuple[str, str, Any]] = [
        (format.number(accuracy), f"{what} {format.interval(row['low'], row['high'])} · {q}", tone),
        (format.number(row["auroc"]), "AUROC" if not format.missing(row["auroc"]) else "AUROC (no probabilities)", ""),
    ]
    for about in ("shuffled", "random"):
        if not format.missing(row[f"{about}_accuracy"]):
            ends = format.interval(row[f"{about}_low"], row[f"{about}_high"])
            items.append((format.number(row[f"{about}_accuracy"]), f"{ABOUT[about]} {ends}", "null"))
    if not format.missing(row.get("specific_q")):
        specific = row["specific_q"] <= concepts.FDR
        pairs = "; ".join(
            f"right where {ABOUT[about]} was wrong: {int(row[f'{about}_more'])} pictures, the reverse: "
            f"{int(row[f'{about}_less'])}"
            for about in ("shuffled", "random") if not format.missing(row[f"{about}_more"])
        )  # fmt: skip
        items.insert(1, ("specific" if specific else "not specific", f"q {small(row['specific_q'])} over "
                         f"{int(row['specific_tests'])} neurons · {pairs}", "good" if specific else ""))  # fmt: skip
    if truth is not None:
        said, tone = RIGHT.get(str(truth["match"]), ("not compared", ""))
        items.append((said, f"it follows the planted {format.fact(truth['fact'])}: ρ {truth['follows']:.2f}", tone))
    judged, asked = int(row["judged"]), int(row["asked"])
    items.append((f"{judged} of {asked}", "verdicts usable", "" if judged == asked else "bad"))
    if audit is not None and len(audit) and not format.missing(audit.iloc[0]["auroc"]):
        told = audit.iloc[0]
        ends = format.interval(told["low"], told["high"])
        items.append((format.number(told["auroc"]), f"how this judge tells {told['label']}, the label that the neuron "
                      f"follows {ends}", "bad" if told["low"] <= 0.5 else ""))  # fmt: skip
    if not format.missing(row["mass"]) and row["mass"] < 0.5:
        items.append((format.number(row["mass"]), "P(yes) + P(no): the model wants to say something else", "bad"))
    look.figures(items)


def small(value: float) -> str:
    """A q-value: three decimals, or below 0.001."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def verdict_grid(study: Study, rows: pd.DataFrame, choice: bool = False, over: dict[int, str] | None = None) -> str:
    """HTML of one grid: every judged picture with its verdict (right, wrong, failed), in words and as an edge. choice:
    every picture is the right one of five, and the verdict says whether it was chosen. over: see `cards.layer`."""
    assert study.cohort is not None
    images = [int(i) for i in rows["image"]]
    thumbs = query_images.thumbnails(study.reader, study.cohort, images)
    cells = []
    for row in rows.to_dict("records"):
        image, yes, fires = int(row["image"]), row["yes"], bool(row["fires"])
        truth = f"fires {format.number(row['value'])}" if fires and not format.missing(row["value"]) else ""
        truth = truth or ("fires" if fires else "silent")
        if row["status"] == "":
            tone, said = "", ""
        elif row["status"] != "ok" or format.missing(yes):
            tone, said = " ms-failed", f"failed: {row['status']}"
        else:
            p = "" if format.missing(row["p"]) or row["p"] in (0, 1) else f" {row['p']:.2f}"
            right = bool(yes) if choice else bool(yes) == fires
            words = ("chosen" if yes else "another chosen") if choice else f"{'yes' if yes else 'no'}{p}"
            tone = " ms-right" if right else " ms-wrong"
            said = f"{'✓' if right else '✗'} {words}"
        alt = f"Radiograph {image}: {truth}" + (f", judged {said}" if said else "")
        href = links.url("image", image=image)
        cells.append(
            f'<a class="ms-pic{tone}" data-go href="{escape(href)}" title="{escape(alt)}">'
            f'<span class="ms-box">{cards.img(thumbs.get(image), alt)}{cards.layer(over, image)}</span>'
            f'<span class="ms-cap"><i>{escape(truth)}</i><em>{escape(said)}</em></span></a>'
        )
    return f'<div class="ms-grid" style="--cell:96px">{"".join(cells)}</div>'


# --- the Concepts page


def headlines(study: Study, scores: Artifact, found: pd.DataFrame, run: RunOfNames, threshold: float) -> None:
    """ "N of M tested at >= t, of which K survive", for these scores and for those they are compared with."""
    bar = threshold or concepts.THRESHOLD
    items = _headline(
        concepts.headline(found, run.run, bar), bar, studies.title(study.artifacts, scores), study.tone(scores)
    )
    right = concepts.right(truths(study.store, scores), run.run)
    if right.compared:
        items.append((
            f"{right.same} of {right.compared}",
            "names are right: they say the planted fact that the neuron follows best, with its side; "
            f"{right.finding} say the right finding or device", study.tone(scores),
        ))  # fmt: skip
    if study.versus is not None:
        theirs = studies.named(study.store, study.versus)
        other = concepts.counterpart(run, theirs)
        title = studies.title(study.artifacts, study.versus)
        if other is None:
            items.append(("–", f"{title}: not named in this way yet", study.tone(study.versus)))
        else:
            note = "" if concepts.same_pictures(scores, study.versus) else " (over other pictures)"
            head = concepts.headline(theirs, other.run, bar)
            items += _headline(head, bar, title + note, study.tone(study.versus))
    look.figures(items)


def _headline(head: concepts.Headline, bar: float, title: str, tone: look.Tone) -> list[tuple[str, str, look.Tone]]:
    rest = ", ".join(f"{n:,} {status}" for status, n in head.unnamed.items())
    items: list[tuple[str, str, look.Tone]] = []
    if head.compared:
        items.append((
            f"{head.specific:,} of {head.compared:,}",
            f"{title}: specific, the name tells this neuron's pictures better than other names do (paired exact test "
            "on the same pictures, false-discovery rate of 5 %)", tone,
        ))  # fmt: skip
    items.append((
        f"{head.above:,} of {head.tested:,}",
        f"{title}: tested at ≥ {bar:.2f}, of which {head.survive:,} survive the false-discovery rate of 5 % against "
        f"chance; {format.plural(head.concepts, 'different concept')}" + (f" · without a test: {rest}" if rest else ""),
        tone,
    ))  # fmt: skip
    return items


def concepts_table(frame: pd.DataFrame, run: RunOfNames, known: pd.DataFrame | None = None) -> str:
    """HTML of the Concepts table of a run; every text escaped. known: see `truths`."""
    mine = {} if known is None else {int(r["neuron"]): r for r in known[known["run"] == run.run].to_dict("records")}
    columns = [("neuron", True), ("concept", False), ("specific", True), ("accuracy", True), ("95 % interval", True),
               ("q against chance", True), ("AUROC", True), ("other's name", True),
               ("follows", False), *([("planted", False)] if mine else []), ("also neurons", False)]  # fmt: skip
    rows = []
    for row in frame.to_dict("records"):
        neuron = int(row["neuron"])
        concept = f"<b>{escape(str(row['concept']))}</b>"
        if isinstance(row["description"], str) and row["description"]:
            # The labels say the same preface of every neuron; what follows the colon is its own.
            said = row["description"].partition(": ")[2] if run.backend == "labels" else ""
            concept += f'<br><span class="ms-soft">{escape(said or row["description"])}</span>'
        others = [int(n) for n in str(row["others"] or "").split(", ") if n]
        also = ", ".join(_link(n) for n in others[:6]) + (f" and {len(others) - 6} more" if len(others) > 6 else "")
        label = "" if format.missing(row["label"]) else escape(str(row["label"]))
        rows.append([
            _link(neuron), f'<div class="ms-said">{concept}</div>', _specific(row),
            f"<b>{format.number(row['accuracy'])}</b>", format.interval(row["low"], row["high"]),
            "–" if format.missing(row["q"]) else escape(small(row["q"])), format.number(row["auroc"]),
            format.number(row["shuffled"]), label, *([_planted(mine.get(neuron))] if mine else []), also,
        ])  # fmt: skip
    return look.table(columns, rows)


def _planted(truth: dict[str, Any] | None) -> str:
    """The planted fact that a neuron follows, and whether its name says it."""
    if truth is None:
        return "–"
    mark = {"same": "✓ ", "finding": "≈ "}.get(str(truth["match"]), "")
    return f"{mark}{escape(format.fact(truth['fact']))}"


def _specific(row: dict[str, Any]) -> str:
    """Whether a name is better than the control names, with the q of that test."""
    if format.missing(row["specific_q"]):
        return "–"
    mark = "✓ " if row["specific_q"] <= concepts.FDR else ""
    return f"{mark}q {escape(small(row['specific_q']))}"


def _link(neuron: int) -> str:
    return f'<a data-go href="{escape(links.neuron_url(neuron))}">{neuron}</a>'
