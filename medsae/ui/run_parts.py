"""The panels of the Runs page: artifacts with their provenance, jobs with log and progress, forms that start a step."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pandas as pd
import streamlit as st

from medsae import config as configs
from medsae import plugins
from medsae.jobs import AGAIN, Job
from medsae.progress import UserError
from medsae.store import housekeeping, queries, query_images
from medsae.store.artifacts import KINDS, Artifact, Store
from medsae.store.reader import Frame
from medsae.ui import advice, charts, export, format, forms, hiding, job_words, keeping_parts, links, look, unfinished
from medsae.ui import study as studies
from medsae.ui.study import Study

STEPS: dict[str, type] = {
    "run demo": configs.RunDemo,
    "ingest": configs.FromFiles,
    "embed": configs.Embed,
    "train": configs.Train,
    "score": configs.Score,
    "name": configs.Name,
    "pairs": configs.Pairs,
}


def live(study: Study) -> None:
    """Running jobs, refreshed every second while there are any."""
    running = {j.id for j in job_words.jobs().list() if j.state == "running"}
    if running:
        _live(study.store, study.patients, running)
    else:
        job_words.say_stopped()
    for kind in KINDS:
        for id, _ in study.store.unfinished(kind):
            st.caption(f"Being built, or interrupted: {id}. The same command goes on from what is finished.")


@st.fragment(run_every=1.0)
def _live(store: Store, patients: bool, before: set[str]) -> None:
    running = [j for j in job_words.jobs().list() if j.state == "running"]
    if before != {j.id for j in running}:
        st.rerun()  # the list below says how one has ended
    job_words.say_stopped()
    for job in running:
        with st.container(border=True):
            look.section(
                hiding.command(job.command, patients), f"running for {format.duration(time.time() - job.started)}"
            )
            job_words.show_job(job)
            facts = job.progress.get("facts") or {}
            if facts:
                st.caption(" · ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items()))
            word, why = ("Cancel", "What is finished stays; the same command goes on.")
            if job_words.serves(job):
                word, why = ("Stop the service", "Its answers stay; the next question starts it again.")
            st.button(word, key=f"cancel-{job.id}", help=why, on_click=job_words.stop, args=(job,))
    if any(job.step in ("train", "run") for job in running):
        _curves(store, min(job.started for job in running))


def _curves(store: Store, since: float) -> None:
    """The loss of every training under way, from its first epoch on (what has not grown since then is not drawn)."""
    for id, shards in store.unfinished("sae")[:_MOST_CURVES]:
        path = shards / "history.jsonl"
        try:
            lines = path.read_text().splitlines() if path.stat().st_mtime >= since else []
        except OSError:
            continue  # it was published between the two looks
        rows = []
        for line in lines[:: max(1, len(lines) // 300)]:
            with contextlib.suppress(ValueError):  # the last line may be half written
                rows.append(json.loads(line))
        if len(rows) > 2:
            look.section(id, f"{len(lines):,} epochs so far")
            figure = charts.lines(pd.DataFrame(rows), "epoch", {"loss": look.SAE}, 180)
            charts.show(figure, f"curve-{id}", "Loss over epochs so far", save=False)


_MOST_CURVES = 4


def artifacts(study: Study) -> None:
    """The table of artifacts and the details of the one in the URL."""
    if not study.artifacts:
        return
    wanted = st.query_params.get("id")
    rows = [
        [
            format.escape(a.kind),
            look.link(a.id, links.url("runs", id=a.id)),
            format.escape(_about(study, a) + (" (archived)" if housekeeping.of(a).archived else "")),
            format.escape(_when(a.manifest["created"])),
            format.duration(a.manifest.get("seconds")),
            f"{sum(f['bytes'] for f in a.manifest['files'].values()) / 2**20:,.1f} MiB",
        ]
        for kind in KINDS
        for a in study.artifacts
        if a.kind == kind
    ]
    left, right = st.columns([2, 3], gap="medium") if wanted else (st.container(), None)
    with left, st.container(border=True):
        columns = [("kind", False), ("id", False), ("what", False), ("made", True), ("took", True), ("size", True)]
        if wanted:  # beside the details of one there is room for no more
            columns, rows = columns[:2], [row[:2] for row in rows]
        st.html(look.table(columns, rows))
        export.menu({"Artifacts": lambda: _frame(study)}, "all artifacts")
        keeping_parts.disk(study)
    if right is not None:
        with right, st.container(border=True):
            artifact = study.get(wanted)
            if artifact is None:
                look.empty("There is no such artifact", f"The link names {wanted}; it is not here, or it is damaged.")
            else:
                details(study, artifact)


def _about(study: Study, artifact: Artifact) -> str:
    facts, own = artifact.facts, housekeeping.of(artifact).title
    if own and artifact.kind in ("embeddings", "sae"):
        return own
    if artifact.kind == "cohort" and own:
        return studies.cohort_title(artifact)
    if artifact.kind == "cohort":
        patients = format.count(facts.get("patients"))
        return f"{facts.get('source')}, {format.count(facts.get('n'))} images, {patients} patients"
    if artifact.kind == "embeddings":
        return f"{facts.get('encoder')}, {format.count(facts.get('n'))} × {facts.get('d')}"
    if artifact.kind == "sae":
        return f"{facts.get('kind')}, {format.count(facts.get('m'))} neurons, FVE {format.number(facts.get('fve'), 3)}"
    if artifact.kind == "pairs":
        return f"{format.count(facts.get('patients'))} patients, {format.count(facts.get('n'))} pictures drawn"
    return studies.title(study.artifacts, artifact)


def _when(created: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(created))


def _frame(study: Study) -> Frame:
    return pd.DataFrame(
        [
            {
                "kind": a.kind,
                "id": a.id,
                "created": _when(a.manifest["created"]),
                "seconds": a.manifest.get("seconds"),
                "parents": json.dumps(a.parents),
                "config": json.dumps(hiding.values(a.config, study.patients)),
                "facts": json.dumps(hiding.values(a.facts, study.patients)),
            }
            for a in study.artifacts
        ]
    )


def details(study: Study, artifact: Artifact) -> None:
    """Provenance of one artifact, and the curves of a training."""
    manifest = artifact.manifest
    look.section(artifact.id, artifact.kind)
    keeping_parts.name(study, artifact)
    st.caption("The command that makes it again")
    st.code(hiding.command(manifest["command"], study.patients), language=None, wrap_lines=True)
    if not artifact.sealed:
        st.caption("Not sealed: made by an older version; nothing covers the facts below.")
    if artifact.kind == "sae":
        advice.show(artifact)
        history = queries.history(study.reader, artifact)
        if len(history):
            for columns in ({"loss": look.SAE, "mse": look.NULL}, {"fve": look.SAE, "dead": look.NULL}):
                figure = charts.lines(history, "epoch", columns, 190)
                charts.show(figure, f"history-{artifact.id}-{'-'.join(columns)}", "Training history")
    parents = [[format.escape(role), look.link(i, links.url("runs", id=i))] for role, i in artifact.parents.items()]
    if parents:
        st.html(look.table([("parent", False), ("", False)], parents))
    if artifact.kind == "cohort":
        _understood(study, artifact)
    for name, values in (
        ("facts", artifact.facts),
        ("config", artifact.config),
        ("versions", manifest.get("versions", {})),
        ("machine", manifest.get("hardware", {})),
    ):
        with st.expander(name, expanded=name == "facts"):
            shown = hiding.values(values, study.patients)
            rows = [
                [format.escape(str(k)), format.escape(_short(v))] for k, v in sorted(shown.items()) if v is not None
            ]
            st.html(look.table([("", False), ("", False)], rows))
    with st.expander("files and their sha256"):
        rows = [
            [f'{format.escape(n)}<br><span class="ms-hash">{format.escape(f["sha256"])}</span>', f"{f['bytes']:,} B"]
            for n, f in manifest["files"].items()
        ]
        st.html(look.table([("file, sha256", False), ("size", True)], rows))
    keeping_parts.remove(study, artifact)


def _understood(study: Study, cohort: Artifact) -> None:
    """What ingest understood of the source, and what it refused and why."""
    refused = query_images.refused(study.reader, cohort)
    if len(refused):
        rows = [[format.escape(str(r["reason"])), format.count(r["pictures"])] for r in refused.to_dict("records")]
        st.html(look.table([("refused because", False), ("pictures", True)], rows))
    notes = "\n".join(query_images.notes(study.reader, cohort))
    if notes:
        notes = hiding.text(notes, study.patients, [str(cohort.facts.get("root") or "")])
        with st.expander("what ingest understood"):
            st.code(notes, language=None)


def _short(value: object) -> str:
    text = (
        f"{value:.6g}"
        if isinstance(value, float)
        else ", ".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )
    return format.shortened(text, 200)


def jobs(study: Study) -> None:
    """Every job with its state, log, and resume."""
    found = job_words.jobs().list()
    wanted = st.query_params.get("job")
    if wanted and wanted not in [j.id for j in found]:
        look.empty("There is no such job", f"The link names {wanted}.")
    if not found:
        look.empty("No job yet", "Steps that are started here or in a terminal are listed with progress and log.")
        return
    rows = [
        [
            look.link(_command(j, study.patients, 90), links.url("runs", tab="jobs", job=j.id)),
            _state(j, study.patients),
            format.escape(_when(j.started)) if j.started else format.NOTHING,
            _took(j),
            look.link(j.result, links.url("runs", id=j.result)) if j.result else "",
        ]
        for j in found[:60]
    ]
    with st.container(border=True):
        columns = [("command", False), ("state", False), ("started", False), ("took", True), ("result", False)]
        st.html(look.table(columns, rows))


_LAST_LINES = 12
"""Lines of a log that are shown at once."""


def chosen_job(study: Study) -> None:
    """The job of the address, above everything else: who asks for one wants to read why it failed."""
    wanted = st.query_params.get("job")
    job = next((j for j in job_words.jobs().list() if j.id == wanted), None)
    if job is not None:
        with st.container(border=True):
            _job(study, job)


def _command(job: Job, patients: bool, longest: int = 10_000) -> str:
    """What was started; the id of a job whose record is damaged."""
    return format.shortened(hiding.command(job.command, patients), longest) or job.id


def _took(job: Job) -> str:
    known = job.started and (job.ended or job.state == "running")
    return format.duration((job.ended or time.time()) - job.started) if known else format.NOTHING


def _state(job: Job, patients: bool) -> str:
    """How a job stands; of one that failed in part also what is left."""
    said = f'<span class="{_TONES.get(job.state, "")}">{job_words.state_in_words(job)}</span>'
    if job.state != "part failed" or not job.error:
        return said
    return f'{said}<br><span class="ms-soft">{format.escape(hiding.text(job.error, patients, []))}</span>'


def _job(study: Study, job: Job) -> None:
    """What one job said, and how to go on with it."""
    look.section(_command(job, study.patients), job_words.state_in_words(job))
    known = [word for word in job.command if "/" in word]
    if job.error:
        tell = st.warning if job.state == "part failed" else st.error
        tell(look.literal(hiding.text(job.error, study.patients, known)))
    if job.command and job.state in AGAIN and st.button("Resume", key=f"resume-{job.id}", help=_RESUME):
        job_words.begin(lambda: job_words.jobs().resume(job.id))
    _log(study, job, known)
    if job.state != "running":
        keeping_parts.remove_job(study, job.id)


def _log(study: Study, job: Job, known: list[str]) -> None:
    """The last lines of what a job printed, which say why it ended; all of it for who opens it."""
    log = hiding.text(job_words.jobs().log(job.id), study.patients, known).rstrip()
    lines = log.splitlines()
    if log:
        st.code("\n".join(lines[-_LAST_LINES:])[-6000:], language=None, wrap_lines=True)
    elif (job_words.jobs().folder / job.id / "log.txt").is_file():
        st.caption("It has printed nothing yet." if job.state == "running" else "It printed nothing.")
    else:
        st.caption("It was started in a terminal: what it printed stands there.")
    if len(lines) > _LAST_LINES:
        with st.expander(f"All that it printed ({format.plural(len(lines), 'line')})"):
            st.code(log, language=None, wrap_lines=True, height=400)


_RESUME = "The same command: it does what is left, and keeps what is finished."
_TONES = {"done": "ms-good", "failed": "ms-bad", "part failed": "ms-bad", "damaged": "ms-bad", "running": "ms-sae",
          "cancelled": "ms-soft", "interrupted": "ms-raw"}  # fmt: skip


def start(study: Study) -> None:
    """Choose a step, fill its form, start it as a job."""
    missing = type(unfinished.next_step(study))
    default = next(name for name, config in STEPS.items() if config is missing)
    step = links.choose(st.segmented_control, "Step", "step", {s: s for s in STEPS}, default)
    with st.container(border=True):
        if step == "ingest":
            look.section(step, "Read radiographs with their labels, check every picture once, divide the patients.")
            kind, fixed = _source(), {}
        else:
            look.section(step, (STEPS[step].__doc__ or "").strip().splitlines()[0].replace("`", ""))
            kind, fixed = _chosen(study, step)
        key = f"form-{step}-{kind.__name__}-{'-'.join(map(str, fixed.values()))}"
        config = forms.form(kind, study.artifacts, key, fixed)
    if config is not None:
        job_words.begin(lambda: job_words.jobs().start(config))


_ELSEWHERE = "embeddings made elsewhere"
_CHOICES: dict[str, tuple[str, plugins.Registry[Any], str | None]] = {
    "embed": ("encoder", plugins.encoders, _ELSEWHERE),
    "name": ("backend", plugins.backends, None),
}
"""Steps whose form follows from what is chosen from a registry: the field, and words for choosing nothing."""


def _source() -> type:
    """The config class of the source of radiographs that the reader chooses."""
    offers = {offer.name: offer for offer in plugins.sources.all().values() if offer.options is not None}
    names = sorted(offers, key=lambda name: (offers[name].order, name))
    chosen = links.choose(st.selectbox, "source", "source", {name: offers[name].label for name in names}, names[0])
    st.caption(offers[chosen].help)
    return offers[chosen].options or configs.FromFiles


def _chosen(study: Study, step: str) -> tuple[type, dict[str, Any]]:
    """The config class of a step with the options of what the reader chooses from a registry, and that choice."""
    if step not in _CHOICES:
        return STEPS[step], {}
    name, registry, nothing = _CHOICES[step]
    offers = registry.all()
    families = [f"{n}..." for n, offer in offers.items() if getattr(offer, "prefix", False)]
    names = [n for n, offer in offers.items() if not getattr(offer, "prefix", False)] + ([nothing] if nothing else [])
    simulated = any(a.facts.get("source") == "simulated" for a in study.artifacts if a.kind == "cohort")
    first = "simclip" if simulated and "simclip" in names else "labels" if "labels" in names else names[0]
    typed = f" Or type {', '.join(families)}." if families else ""
    chosen = st.selectbox(
        name, names, names.index(first), key=f"form-{step}-{name}", accept_new_options=bool(families),
        format_func=lambda n: offers[n].label if n in offers else n, help=f"What is offered.{typed}",
    )  # fmt: skip
    if chosen == nothing or chosen is None:
        return STEPS[step], {name: None}
    try:
        offer = registry.get(chosen)
    except UserError as error:
        st.error(look.literal(f"{error.what}; {error.do}"))
        return STEPS[step], {}
    st.caption(offer.help)
    return configs.joined(STEPS[step], offer.options), {name: chosen}
