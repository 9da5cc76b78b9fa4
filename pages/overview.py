"""What this study is, the headline comparison, and which step is next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from medsae.store import concepts, queries, query_images
from medsae.ui import bars, export, format, links, look, naming_panel
from medsae.ui import study as studies

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from medsae.store.reader import Frame

study, scores, cohort = studies.ready()
first = queries.summary(study.reader, scores)
second = queries.summary(study.reader, study.versus) if study.versus else {}
title = studies.title(study.artifacts, scores)
other = studies.title(study.artifacts, study.versus) if study.versus else ""

look.heading(
    "What do these neurons encode?",
    studies.cohort_title(cohort),
    tools=[look.copy_link(links.url("", scores=scores.id))],
)


def mean(summary: dict[str, queries.Measure], name: str) -> str:
    """Mean entropy's caption: interval, null, how many neurons."""
    m, null = summary.get("mean_entropy"), summary.get("null_mean_entropy")
    if m is None:
        return f"{name}: not computed"
    luck = f" · null {format.scaled(null, study.scale)}" if null else ""
    ends = format.interval(m.low, m.high, 2, study.scale)
    return f"{name}, mean entropy\n{ends}{luck} · {format.count(m.n)} neurons"


items: list[tuple[str, str, str]] = [
    (
        f"{format.scaled(first.get('mean_entropy'), study.scale)} {study.unit_name}",
        mean(first, title),
        study.tone(scores),
    )
]
if study.versus:
    difference = queries.difference(study.reader, scores, study.versus)
    shift = None if difference.value is None else difference.value * study.scale
    items += [
        (
            f"{format.scaled(second.get('mean_entropy'), study.scale)} {study.unit_name}",
            mean(second, other),
            study.tone(study.versus),
        ),
        (f"{format.signed(shift)} {study.unit_name}", f"difference\n{look.difference(difference, study.scale)}", ""),
    ]
look.figures(items)
if study.state == "partial":
    look.empty(
        "Nothing to compare with yet",
        "Score the raw embedding with the same labels, and every page shows both.",
        f"python -m medsae score --embeddings {scores.parents.get('embeddings')} --representation raw",
    )

ROWS = (
    ("mean_entropy_strong", "mean entropy, max |ρ| > 0.2", "unit"),
    ("null_mean_entropy_strong", "its null, labels shuffled", "unit"),
    ("selective_share", "selective neurons", "share"),
    ("median_max_rho", "median strongest |ρ|", "number"),
    ("null_median_max_rho", "its null, labels shuffled", "number"),
    ("dead_share", "dead neurons", "share"),
    ("active_neurons", "active neurons an image (L0)", "one"),
)


def cell(summary: dict[str, queries.Measure], measure: str, kind: str) -> str:
    """One measure with its interval, or that it was not computed."""
    m = summary.get(measure)
    if m is None or m.value is None:
        return '<span class="ms-soft">not computed</span>'
    scale = study.scale if kind == "unit" else 1.0
    text = (
        format.percent(m.value, 2 if measure == "l0" else 1)
        if kind == "share"
        else format.number(m.value * scale, 3 if kind == "number" else 2)
    )
    extra = format.interval(m.low, m.high, 2, scale) if kind == "unit" else ""
    n = f"n = {format.count(m.n)}" if m.n else ""
    return f'{text} <span class="ms-soft">{format.escape(" ".join([extra, n]).strip())}</span>'


def neuron_link(neuron: object) -> str:
    """The number of a neuron as a link to it."""
    return format.NOTHING if format.missing(neuron) else look.link(int(neuron), links.neuron_url(int(neuron)))  # type: ignore[call-overload]


def soft(low: float | None, high: float | None) -> str:
    """An interval in soft text."""
    return f'<span class="ms-soft">{format.interval(low, high)}</span>'


left, right = st.columns([3, 2], gap="medium")
with left, st.container(border=True):
    look.section("Measures", "each with the number of neurons it is over")
    columns = [("", False), (title, False)] + ([(other, False)] if study.versus else [])
    rows = [
        [format.escape(name), cell(first, m, kind), *([cell(second, m, kind)] if study.versus else [])]
        for m, name, kind in ROWS
    ]
    sae = study.parent(scores, "sae")
    fve = format.number(sae.facts.get("fve"), 3) if sae else "–"
    rows.append(["variance explained (FVE)", fve, *(["–"] if study.versus else [])])
    st.html(look.table(columns, rows))
    st.caption(
        "Mean entropy is a blunt measure: read it beside its null (labels shuffled between patients) "
        "and the share of selective neurons."
    )
with right, st.container(border=True):
    look.section("Cohort")
    counts = query_images.cohort_counts(study.reader, cohort)
    embeddings = study.parent(scores, "embeddings")
    facts = [
        ("pictures", format.count(counts["images"])),
        ("patients", format.count(counts["patients"])),
        ("training / hold-out / evaluation", f"{counts['train']:,} / {counts['holdout']:,} / {counts['evaluation']:,}"),
        ("refused", format.count(counts["refused"])),
        (
            "encoder",
            f"{embeddings.facts.get('encoder')} · d = {embeddings.facts.get('d')}" if embeddings else "not found",
        ),
        ("protocol", f"{scores.config.get('protocol')}, {scores.config.get('images')} images"),
    ]
    st.html(look.table([("", False), ("", True)], [[format.escape(a), format.escape(str(b))] for a, b in facts]))

names = naming_panel.names(study.store, scores)
runs = concepts.runs(names)
with right, st.container(border=True):
    look.section("Steps", "what this page is made from")
    sae = study.parent(scores, "sae")
    done = [("cohort", cohort), ("embeddings", embeddings), *([("SAE", sae)] if sae else []), ("scores", scores)]
    steps = [
        [format.escape(step), look.link(made.id, links.url("runs", id=made.id)), '<span class="ms-good">✓</span>']
        for step, made in done
        if made
    ]
    named = len(study.names)
    names_of = look.link(format.plural(named, "neuron"), links.url("concepts")) if named else "none yet"
    steps.append(["names", names_of, '<span class="ms-good">✓</span>' if named else ""])
    st.html(look.table([("", False), ("", False), ("", True)], steps))
with st.container(border=True):
    look.section("Names", "tested on pictures they were not made from")
    if runs:
        naming_panel.headlines(study, scores, names, runs[0], concepts.THRESHOLD)
    else:
        look.empty(
            "No neuron has a name yet",
            "The last step. Without a model the labels name and judge; press Name it on a neuron's page, or:",
            f"python -m medsae name --scores {scores.id} --top 50",
        )
with st.container(border=True):
    look.section("Best neuron of each label", "the last AUROC is over patients who did not choose the neuron")
    best = queries.best_of_labels(study.reader, scores)
    body = []
    for row in best.to_dict("records"):
        body.append(
            [
                format.escape(str(row["label"])),
                format.count(row["positives"]),
                neuron_link(row["best_neuron_rho"]),
                f"{format.signed(row['rho'])} {soft(row['rho_low'], row['rho_high'])}",
                neuron_link(row["best_neuron_auroc"]),
                f"{format.number(row['auroc'])} {soft(row['low'], row['high'])}",
                f"{format.number(row['auroc_other_half'])} {soft(row['other_half_low'], row['other_half_high'])}",
            ]
        )
    columns = ["images with it", "strongest ρ", "ρ", "best AUROC", "AUROC, all patients", "AUROC, other patients"]
    st.html(look.table([("label", False), *((c, True) for c in columns)], body))
recovered = queries.recovery(study.reader, scores)


def plot_of_recovery(shown: Frame) -> go.Figure:
    """The planted factors as a plot, when somebody saves it: the page itself opens without the library of plots."""
    from medsae.ui import charts

    return charts.recovery(shown)


if len(recovered):
    with st.container(border=True):
        look.section(
            "Planted truth",
            "AUROC of the best neuron, chosen on half of the patients, measured on the other; lines: 95 % intervals",
        )
        parts = links.switch("Sides and lobes apart", "parts", False)
        shown = recovered if parts else recovered[~recovered["factor"].str.contains(":")]
        st.html(bars.recovery(shown, neuron_link))
        export.menu(
            {"Recovery of planted factors": lambda: recovered},
            scores.id,
            plots={"Plot of the recovery of planted factors": lambda: plot_of_recovery(shown)},
            label="Export recovery",
        )
studies.foot(cohort.id)
