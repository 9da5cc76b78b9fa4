"""The panels of the Overview page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from medsae.store import concepts, planted_pairs, queries, query_images, trained
from medsae.store.artifacts import Artifact
from medsae.store.filter import FIRING_LEAST, LEAST
from medsae.ui import bars, cards, export, format, links, look, naming_panel, verdict
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


def in_words(study: Study, scores: Artifact) -> None:
    """What this study found, in a few sentences that follow from its numbers by rule."""
    spoken = {"SAE": "the SAE", "raw": "the raw embedding"}
    versus, titles = study.versus, [spoken.get(title, f"“{title}”") for title in studies.short_titles(study)]
    best = queries.best_of_labels(study.reader, scores)
    best = best[~best["label"].isin(list(study.scarce))]
    first = verdict.Side(titles[0], queries.summary(study.reader, scores), best.set_index("label")["auroc_other_half"])
    second, difference = None, None
    if versus is not None:
        other = queries.best_of_labels(study.reader, versus).set_index("label")["auroc_other_half"]
        second = verdict.Side(titles[1], queries.summary(study.reader, versus), other)
        difference = queries.difference(study.reader, scores, versus)
    words = verdict.sentences(first, second, difference)
    st.html(f'<p class="ms-verdict">{" ".join(format.escape(w) for w in words)}</p>')


SHOWN = 6


def neurons(study: Study, scores: Artifact, cohort: Artifact) -> None:
    """Six neurons as pictures: the one that follows each label best, strongest first."""
    chosen = queries.Filter(show="selective", sort="-rho", least=links.least())
    rows = queries.neurons(study.reader, scores, chosen, 400)
    few = rows["active"].lt(FIRING_LEAST)  # such ones come last in a list; here, none leads
    rows = rows[~rows["top_label"].isin(list(study.scarce)) & ~few]
    first = rows.drop_duplicates("top_label")
    rows = pd.concat([first, rows.drop(first.index)]).head(SHOWN)
    title = {SHOWN: "Six neurons", 0: "Neurons"}.get(len(rows), format.plural(len(rows), "neuron"))
    which = "it fire most; open it" if len(rows) == 1 else "each fire most; open one"
    look.section(title, f"the radiographs that make {which} to see what else it does")
    if 0 < len(rows) < SHOWN:
        st.caption("No others go with a label more than shuffled labels would let them and fire on enough images.")
    if rows.empty:
        look.empty(
            "No neuron follows a label",
            "None goes with a label more than shuffled labels would let it. See all of them on Neurons.",
        )
        return
    cards.show(f'<div class="ms-six">{cards.neuron_cards(study, scores, cohort, rows)}</div>')


def first_steps(study: Study, scores: Artifact) -> None:
    """Three steps for who sees this for the first time."""
    first = queries.neurons(study.reader, scores, queries.Filter(sort="q", least=links.least()), 1)
    neuron = int(first["neuron"].iloc[0]) if len(first) else 0
    what = (
        "A neuron is one of the numbers that the model gives every radiograph."
        if studies.is_raw(scores)
        else "A sparse autoencoder splits what the model sees in a radiograph into many neurons, few of them active at "
        "a time, so that each can be looked at alone."
    )
    steps = (
        (f"{what} Look at one: its strongest radiographs tell what it answers to.", f"Open neuron {neuron}",
         links.neuron_url(neuron)),
        ("Ask whether it is about one finding: which labels does it go with, and would shuffled labels do the same?",
         "See all correlations", links.url("correlations")),
        ("Ask whether to believe it: names are tested (by the strict protocol on other patients' pictures than they "
         "were made from), and the SAE stands against the model without it.",
         "Compare the two" if study.versus else "See the names",
         links.url("compare" if study.versus else "concepts")),
    )  # fmt: skip
    items = "".join(f"<li>{format.escape(text)}<br>{look.chip(word, to)}</li>" for text, word, to in steps)
    st.html(f'<ol class="ms-steps">{items}</ol>')


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
        ("images", format.count(counts["images"])),
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
    badge = studies.trained_badge(study.artifacts, scores)
    rows = [[a, f"{b} {badge}" if a == "SAE" else b, c] for a, b, c in rows]
    named = len(study.names)
    names_of = look.link(format.plural(named, "neuron"), links.url("concepts")) if named else "none yet"
    rows.append(["names", names_of, '<span class="ms-good">✓</span>' if named else ""])
    st.html(look.table([("", False), ("", False), ("", True)], rows))


def report(study: Study, scores: Artifact) -> None:
    """Figures, tables and pages of this study for a paper, made when the button is pressed."""
    versus = study.versus.id if study.versus else None

    def make() -> bytes:
        from medsae.paper import report  # plotly and matplotlib: not before somebody asks

        return report.zipped(report.open_study(study.store, scores.id, versus=versus))

    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Report for a paper", make, f"{scores.id}-report.zip", "application/zip", key="_report", on_click="ignore"
        )
        st.caption(
            "Figures for print, tables in LaTeX and Markdown, methods, and one page of HTML; takes some seconds."
        )


def names(study: Study, scores: Artifact) -> None:
    """What the newest run of naming came to."""
    known = studies.named(study.store, scores)
    runs = concepts.runs(known)
    # The first clause: what naming and testing share, which differs between protocols and backends.
    look.section("Names", runs[0].overlap.split("; ")[0] if runs else "")
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
    """The neuron of each label, by correlation and by AUROC; labels with too few images grey and last."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        look.section("Best neuron of each label", "the last AUROC is over patients who did not choose the neuron")
        links.choose(
            st.selectbox, "Images a label needs, present and absent", "least", links.LEASTS, str(LEAST), width=170
        )
    frame = queries.best_of_labels(study.reader, scores)
    frame = frame.assign(few=frame["label"].isin(list(study.scarce))).sort_values("few", kind="stable")
    control = trained.control(study.artifacts, scores)
    beside = queries.best_of_labels(study.reader, control).set_index("label") if control else None
    rows = []
    for row in frame.to_dict("records"):
        n = f"{format.count(row['positives'])} of {format.count(row['used'])}"
        if row["few"]:
            why = f"too few images to say ({study.scarce[str(row['label'])]})"
            cells = [format.escape(str(row["label"])), n, "", why, "", "", "", *([""] if control else [])]
            rows.append([f'<span class="ms-soft">{cell}</span>' for cell in cells])
            continue
        rows.append(
            [
                format.escape(str(row["label"])),
                n,
                _neuron(row["best_neuron_rho"]),
                f"{format.signed(row['rho'])} {_soft(row['rho_low'], row['rho_high'])}",
                _neuron(row["best_neuron_auroc"]),
                f"{format.number(row['auroc'])} {_soft(row['low'], row['high'])}",
                f"{format.number(row['auroc_other_half'])} {_soft(row['other_half_low'], row['other_half_high'])}",
                *([] if beside is None else [format.number(beside["auroc_other_half"].get(row["label"]))]),
            ]
        )
    columns = ["images with it", "strongest ρ", "ρ", "best AUROC", "AUROC, all patients", "AUROC, other patients"]
    columns += ["untrained control"] if control else []
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
    pairs = planted_pairs.of(study.artifacts, scores)
    if pairs is not None:
        known = planted_pairs.by_factor(study.reader, pairs, planted_pairs.representation(scores))
        known = known.rename(columns={"neuron": "pairs_neuron", "recovery": "pairs"})
        recovered = recovered.merge(known, "left", "factor")
    with st.container(border=True):
        look.section(
            "Planted truth",
            "AUROC of the best neuron, chosen on half of the patients, measured on the other; lines: 95 % intervals",
        )
        parts = links.switch("Sides and lobes apart", "parts", False)
        shown = recovered if parts else recovered[~recovered["factor"].str.contains(":")]
        st.html(bars.recovery(shown, _neuron))
        if pairs is not None:
            words = "By pairs: the same patients with and without a factor; 1 moves with it always, with nothing else."
            st.html(f'<p class="ms-soft">{words} {look.chip("on Compare", links.url("compare"))}</p>')
        with st.container(horizontal=True):
            export.menu({"Recovery of planted factors": lambda: recovered}, scores.id, label="Export recovery")
            export.plots({"AUROC of planted factors": lambda: _plot_of_recovery(shown)}, scores.id, "recovery")
