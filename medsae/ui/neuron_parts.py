"""The panels of the Neuron page; each takes the study, the scores and one row of `neuron`."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from medsae.store import queries, query_images
from medsae.store.artifacts import Artifact
from medsae.ui import cards, charts, format, links, look
from medsae.ui import study as studies
from medsae.ui.study import Study

Row = dict[str, Any]
WHICH = {"top": "top", "slices": "slices", "random": "random", "silent": "nearest silent"}
WHICH_DENSE = {"top": "highest", "bottom": "lowest"}


def header(study: Study, scores: Artifact, chosen: queries.Filter, row: Row) -> None:
    """Number, name, previous and next within the filter, link."""
    number = int(row["neuron"])
    beside = queries.beside(study.reader, scores, chosen, number)
    previous, following, position = beside["previous"], beside["next"], beside["position"]
    where = f"{position:,} of {beside['total']:,}" if position else f"outside the filter of {beside['total'] or 0:,}"
    tools = [
        look.chip(
            f"← {previous}" if previous is not None else "←",
            None if previous is None else links.neuron_url(previous),
            "ArrowLeft",
            "previous neuron (←)",
        ),
        f'<span class="ms-chip ms-soft">{where}</span>',
        look.chip(
            f"{following} →" if following is not None else "→",
            None if following is None else links.neuron_url(following),
            "ArrowRight",
            "next neuron (→)",
        ),
        look.copy_link(links.neuron_url(number, scores=scores.id)),
    ]
    look.heading(f"Neuron {number}", studies.title(study.artifacts, scores), study.names.get(number, ""), tools)


def headline(study: Study, row: Row, tone: look.Tone) -> None:
    """Entropy with its null, strongest correlation, density, selectivity."""
    if row["entropy"] is None:
        look.figures(
            [
                ("–", f"entropy: {row['reason'] or 'undefined'}", ""),
                (format.percent(row["density"]), "of images fire", ""),
            ]
        )
        return
    null = f"null {format.number(_times(row['entropy_null_mean'], study.scale))} ± {format.number(_times(row['entropy_null_sd'], study.scale))}"
    selective = "selective" if row["selective"] else "not selective"
    look.figures(
        [
            (f"{format.number(row['entropy'] * study.scale)} {study.unit_name}", f"entropy · {null}", tone),
            (format.signed(row["top_rho"]), f"strongest ρ: {row['top_label']}", ""),
            (format.percent(row["density"]), "of images fire" if tone == "sae" else "of images above 0", ""),
            (f"q {_small(row['q'])}", f"against shuffled labels: {selective}", ""),
            (format.number(row["max"]), "largest activation", ""),
        ]
    )


def _times(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _small(value: float | None) -> str:
    return format.NOTHING if value is None else "< 0.001" if value < 0.001 else f"= {value:.3f}"


def pictures(study: Study, scores: Artifact, cohort: Artifact, row: Row) -> list[int]:
    """The grid of radiographs with its switches; returns the images shown."""
    number = int(row["neuron"])
    options = WHICH_DENSE if studies.is_raw(scores) else WHICH
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        which = links.choose(st.segmented_control, "Radiographs", "which", options, "top", label_visibility="collapsed")
        one = links.switch("one a patient", "one", True)
    rows = query_images.images_of(study.reader, scores, cohort, number, which, one, 24)  # type: ignore[arg-type]
    if rows.empty:
        why = {"silent": "No silent picture shares its code."}.get(which, "It fires on none of the scored pictures.")
        look.empty("No radiograph to show", f"{why} {row['reason'] or ''}".strip())
        return []

    def href(image: int) -> str:
        return links.url(
            "neuron", (*links.STUDY, *links.FILTER, "neuron", "which", "one", "by"), neuron=number, view=image
        )

    if which == "slices":
        for part, mine in rows.groupby("slice"):
            low, high = format.number(mine["value"].min()), format.number(mine["value"].max())
            look.section(f"Slice {int(str(part))} of {query_images.SLICES}", f"activation {low} to {high}")
            cards.show(cards.grid(study, cohort, mine, href))
    else:
        cards.show(cards.grid(study, cohort, rows, href))
    return [int(i) for i in rows["image"]]


def activations(
    study: Study, scores: Artifact, cohort: Artifact, row: Row, correlated: pd.DataFrame, colour: str
) -> None:
    """Histogram of activations; for an SAE with and without the label the reader chooses."""
    number = int(row["neuron"])
    frame = queries.histogram(study.reader, scores, number)
    known = list(correlated["label"][correlated["rho"].notna()])
    if frame.empty:
        look.section("Activations")
        look.empty("Nothing to draw", str(row["reason"] or "This neuron has no activation."))
        return
    label = None
    if known and not studies.is_raw(scores):
        options = {x: x for x in known}
        label = links.choose(st.selectbox, "Activations with and without", "by", options, known[0])
        frame = queries.histogram_of_label(study.reader, scores, cohort, number, label)
    else:
        look.section("Activations")
    charts.show(
        charts.activations(frame, label, colour),
        f"act-{scores.id}-{number}-{label}",
        f"Histogram of activations of neuron {number}",
    )
    zero = (
        ""
        if studies.is_raw(scores) or row["density"] is None
        else f"{format.percent(1 - row['density'])} of images are silent and not drawn."
    )
    if zero:
        st.caption(zero)


def confounders(study: Study, scores: Artifact, cohort: Artifact, number: int) -> None:
    """Firing rates by view, sex, age and devices."""
    raw = studies.is_raw(scores)
    look.section(
        "Could it be something else?",
        "share among its strongest stored pictures" if raw else "firing rate, 95 % interval",
    )
    frame = query_images.confounders(study.reader, scores, cohort, number)
    if frame.empty:
        look.empty("Nothing is known of these pictures", "The cohort has no view, sex, age or devices.")
        return
    rows = [
        [
            format.escape(f"{r['what']}: {r['group']}"),
            format.percent(r["rate"]),
            f'<span class="ms-soft">{format.percent(r["low"])} to {format.percent(r["high"])}</span>',
            f"{int(r['n']):,}",
        ]
        for r in frame.to_dict("records")
    ]
    st.html(look.table([("", False), ("fires on", True), ("", True), ("n", True)], rows))
