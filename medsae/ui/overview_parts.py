"""The panels of the Overview page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from medsae.store import concepts, queries, query_images
from medsae.store.artifacts import Artifact
from medsae.ui import bars, export, format, links, look, naming_panel
from medsae.ui import study as studies
from medsae.ui.study import Study

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from medsae.store.reader import Frame

Summary = dict[str, queries.Measure]


def _mean(study: Study, summary: Summary, name: str) -> str:
    """Mean entropy's caption: interval, null, how many neurons."""
    m, null = summary.get("mean_entropy"), summary.get("null_mean_entropy")
    if m is None:
        return f"{name}: not computed"
    luck = f" · null {format.scaled(null, study.scale)}" if null else ""
    floor = summary.get("entropy_floor")
    luck += f" · floor {format.scaled(floor, study.scale)}" if floor else ""
    ends = format.interval(m.low, m.high, 2, study.scale)
    return f"{name}, mean entropy\n{ends}{luck} · {format.count(m.n)} neurons"


def figures(study: Study, scores: Artifact) -> None:
    """Mean entropies of both representations and their difference."""
    items: list[tuple[str, str, str]] = []
    for each in (scores, study.versus):
        if each is not None:
            summary, title = queries.summary(study.reader, each), studies.title(study.artifacts, each)
            value = f"{format.scaled(summary.get('mean_entropy'), study.scale)} {study.unit_name}"
            items.append((value, _mean(study, summary, title), study.tone(each)))
    if study.versus:
        difference = queries.difference(study.reader, scores, study.versus)
        shift = None if difference.value is None else difference.value * study.scale
        said = f"difference\n{look.difference(difference, study.scale)}"
        items.append((f"{format.signed(shift)} {study.unit_name}", said, ""))
    studies.figures(items)


def cohort_facts(study: Study, scores: Artifact, cohort: Artifact) -> None:
    """How many pictures and patients, which encoder, which protocol."""
    look.section("Cohort")
    counts = query_images.cohort_counts(study.reader, cohort)
    embeddings = study.parent(scores, "embeddings")
    encoder = f"{embeddings.facts.get('encoder')} · d = {embeddings.facts.get('d')}" if embeddings else "not found"
    facts = [
        ("pictures", format.count(counts["images"])),
        ("patients", format.count(counts["patients"])),
        ("training / hold-out / evaluation", f"{counts['train']:,} / {counts['holdout']:,} / {counts['evaluation']:,}"),
        ("refused", format.count(counts["refused"])),
        ("encoder", encoder),
        ("protocol", f"{scores.config.get('protocol')}, {scores.config.get('images')} images"),
    ]
    st.html(look.table([("", False), ("", True)], [[format.escape(a), format.escape(str(b))] for a, b in facts]))


def steps(study: Study, scores: Artifact, cohort: Artifact) -> None:
    """The artifacts that this page was made from."""
    look.section("Steps", "what this page is made from")
    made = [("cohort", cohort), ("embeddings", study.parent(scores, "embeddings"))]
    made += [("SAE", study.parent(scores, "sae")), ("scores", scores)]
    rows = [
        [format.escape(step), look.link(each.id, links.url("runs", id=each.id)), '<span class="ms-good">✓</span>']
        for step, each in made
        if each
    ]
    named = len(study.names)
    names_of = look.link(format.plural(named, "neuron"), links.url("concepts")) if named else "none yet"
    rows.append(["names", names_of, '<span class="ms-good">✓</span>' if named else ""])
    st.html(look.table([("", False), ("", False), ("", True)], rows))


def names(study: Study, scores: Artifact) -> None:
    """What the newest run of naming came to."""
    look.section("Names", "tested on pictures they were not made from")
    known = studies.named(study.store, scores)
    runs = concepts.runs(known)
    if runs:
        naming_panel.headlines(study, scores, known, runs[0], concepts.THRESHOLD)
    else:
        look.empty(
            "No neuron has a name yet",
            "The last step. Without a model the labels name and judge; press Name it on a neuron's page, or:",
            f"python -m medsae name --scores {scores.id} --top 50",
        )


def _neuron(neuron: object) -> str:
    """The number of a neuron as a link to it."""
    return format.NOTHING if format.missing(neuron) else look.link(int(neuron), links.neuron_url(int(neuron)))  # type: ignore[call-overload]


def _soft(low: float | None, high: float | None) -> str:
    return f'<span class="ms-soft">{format.interval(low, high)}</span>'


def best_of_labels(study: Study, scores: Artifact) -> None:
    """The neuron of each label, by correlation and by AUROC."""
    look.section("Best neuron of each label", "the last AUROC is over patients who did not choose the neuron")
    rows = [
        [
            format.escape(str(row["label"])),
            format.count(row["positives"]),
            _neuron(row["best_neuron_rho"]),
            f"{format.signed(row['rho'])} {_soft(row['rho_low'], row['rho_high'])}",
            _neuron(row["best_neuron_auroc"]),
            f"{format.number(row['auroc'])} {_soft(row['low'], row['high'])}",
            f"{format.number(row['auroc_other_half'])} {_soft(row['other_half_low'], row['other_half_high'])}",
        ]
        for row in queries.best_of_labels(study.reader, scores).to_dict("records")
    ]
    columns = ["images with it", "strongest ρ", "ρ", "best AUROC", "AUROC, all patients", "AUROC, other patients"]
    st.html(look.table([("label", False), *((c, True) for c in columns)], rows))


def _plot_of_recovery(shown: Frame) -> go.Figure:
    """The planted factors as a plot, when somebody saves it: the page itself opens without the library of plots."""
    from medsae.paper import plots

    return plots.recovery(shown)


def planted(study: Study, scores: Artifact) -> None:
    """How well neurons tell the planted factors of a simulated cohort; nothing for other cohorts."""
    recovered = queries.recovery(study.reader, scores)
    if not len(recovered):
        return
    with st.container(border=True):
        look.section(
            "Planted truth",
            "AUROC of the best neuron, chosen on half of the patients, measured on the other; lines: 95 % intervals",
        )
        parts = links.switch("Sides and lobes apart", "parts", False)
        shown = recovered if parts else recovered[~recovered["factor"].str.contains(":")]
        st.html(bars.recovery(shown, _neuron))
        with st.container(horizontal=True):
            export.menu({"Recovery of planted factors": lambda: recovered}, scores.id, label="Export recovery")
            export.plots(
                {"AUROC of planted factors": lambda: _plot_of_recovery(shown)}, scores.id, "recovery", "Save plot"
            )
