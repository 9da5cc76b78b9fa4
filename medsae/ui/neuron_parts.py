"""The panels of the Neuron page; each takes the study, the scores and one row of `neuron`."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from medsae.store import maps as stored
from medsae.store import queries, query_images
from medsae.store.artifacts import Artifact
from medsae.store.reader import Frame
from medsae.ui import (
    bars,
    cards,
    charts,
    export,
    followed_parts,
    format,
    links,
    look,
    maps,
    naming_panel,
    report,
    seen_parts,
)
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
        look.chip(
            "beside …", links.url("pair", (*links.STUDY, *links.FILTER), neuron=number), "", "side by side with another"
        ),
    ]
    look.heading(f"Neuron {number}", studies.title(study.artifacts, scores), _both_names(study, number), tools)


def _both_names(study: Study, number: int) -> str:
    """What people call a neuron, and what a model called it where that is something else."""
    called, name = study.called.get(number, ""), study.names.get(number, "")
    return f"{called} (model: {name})" if called and name and called != name else called or name


def headline(study: Study, row: Row, tone: look.Tone) -> None:
    """Entropy with its null, strongest correlation, density, selectivity."""
    if row["entropy"] is None:
        look.figures(
            [
                ("–", f"entropy: {row['reason'] or 'undefined'}", ""),
                _fires(row),
            ]
        )
        return
    luck = [format.number(_times(row[f"entropy_null_{part}"], study.scale)) for part in ("mean", "sd")]
    assert study.scores is not None
    floor = queries.floors(study.reader, study.scores).get(str(row["top_label"]))
    null = f"null {luck[0]} ± {luck[1]}"
    null += f"\nfloor of {row['top_label']} {format.number(floor * study.scale)}" if floor is not None else ""
    selective = "selective" if row["selective"] else "not selective"
    rho, label, n = _strongest(study, row)
    studies.figures(
        [
            (f"{format.number(row['entropy'] * study.scale)} {study.unit_name}", f"entropy · {null}", tone),
            (format.signed(rho), f"strongest ρ: {label}\nn = {format.count(n)} images", ""),
            *([_fires(row)] if tone == "sae" else []),
            (f"q {_small(row['q'])}", f"against shuffled labels: {selective}", ""),
            (format.number(row["max"]), "largest activation", ""),
        ]
    )


def _strongest(study: Study, row: Row) -> tuple[float | None, str, int | None]:
    """rho, label and n of the strongest correlation with a label that has enough images on both sides."""
    assert study.scores is not None
    frame = queries.correlations(study.reader, study.scores, int(row["neuron"]))
    frame = frame[frame["rho"].notna() & ~frame["label"].isin(list(study.scarce))]
    if frame.empty:
        return None, "no label has enough images", None
    best = frame.iloc[0]  # strongest first
    return float(best["rho"]), str(best["label"]), int(best["n"])


def _fires(row: Row) -> tuple[str, str, look.Tone]:
    """How often it fires, and whether that is too seldom to say much."""
    images = f"of images fire it ({format.count(row['active'])})"
    return format.percent(row["density"]), images + ("\ntoo few to say much" if cards.is_few(row) else ""), ""


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
        mapped = maps.toggle("where it looks (m)")
    rows = query_images.images_of(study.reader, scores, cohort, number, which, one, 24)  # type: ignore[arg-type]
    if rows.empty:
        why = {"silent": "No silent image shares its code."}.get(which, "It fires on none of the scored images.")
        look.empty("No radiograph to show", why)
        return []

    def href(image: int) -> str:
        return links.url(
            "neuron", (*links.STUDY, *links.FILTER, "neuron", "which", "one", "by"), neuron=number, view=image
        )

    over = _over(study, scores, cohort, number, list(rows["image"])) if mapped else maps.Overlays({}, {})
    if which == "slices":
        for part, mine in rows.groupby("slice"):
            low, high = format.number(mine["value"].min()), format.number(mine["value"].max())
            look.section(f"Slice {int(str(part))} of {query_images.SLICES}", f"activation {low} to {high}")
            cards.show(cards.grid(study, cohort, mine, href, over=over.src, words=over.words))
    else:
        cards.show(cards.grid(study, cohort, rows, href, over=over.src, words=over.words))
    if mapped:
        _about_maps(study, scores, cohort, number, list(rows["image"]), over)
    return [int(i) for i in rows["image"]]


def _over(study: Study, scores: Artifact, cohort: Artifact, number: int, images: list[int]) -> maps.Overlays:
    """Maps that the scores keep, and those that were made in this session."""
    made = seen_parts.beside_neuron(study, scores, cohort, number, images)
    kept = maps.Overlays({}, {})
    if not stored.missing(scores):
        kept = maps.overlays(study, scores, cohort, number, images)
    return maps.Overlays({**made.src, **kept.src}, {**made.words, **kept.words})


def _about_maps(
    study: Study, scores: Artifact, cohort: Artifact, number: int, images: list[int], over: maps.Overlays
) -> None:
    """What the colours mean, the neuron's average maps, and a button for maps that are missing."""
    why = stored.missing(scores)
    if why:
        st.caption(f"No maps: {why}.")
        said = next(iter(over.words.values()), "")
        st.caption(f"Shown here, {said}." if said else "")
    elif over.src:
        maps.legend(study, scores, cohort)
        maps.averages(study, scores, cohort, number, images)
    seen_parts.neuron_panel(study, scores, cohort, number, images)


def activations(
    study: Study, scores: Artifact, cohort: Artifact, row: Row, correlated: pd.DataFrame
) -> tuple[Frame, str | None]:
    """Histogram of activations; for an SAE with and without the label the reader chooses. Returns frame and label."""
    number, tone = int(row["neuron"]), study.tone(scores)
    frame = queries.histogram(study.reader, scores, number)
    known = list(correlated["label"][correlated["rho"].notna()])
    if frame.empty:
        look.section("Activations")
        look.empty("Nothing to draw", str(row["reason"] or "This neuron has no activation."))
        return frame, None
    label = None
    if known and not studies.is_raw(scores):
        label = links.choose(st.selectbox, "Activations with and without", "by", {x: x for x in known}, known[0])
        every = studies.labels(study, cohort)
        frame = queries.histogram_of_label(study.reader, scores, number, every.value_nk[:, every.names.index(label)])
    else:
        look.section("Activations")
    cards.show(bars.histogram(frame, label, tone))
    if not studies.is_raw(scores) and row["density"] is not None:
        st.caption(f"{format.percent(1 - row['density'])} of images are silent and not drawn.")
    return frame, label


def confounders(study: Study, scores: Artifact, cohort: Artifact, number: int) -> None:
    """What else it may follow: firing rates by view, sex, age and devices; of a dense neuron correlations with them."""
    look.section("Could it be something else?")
    followed_parts.verdict(study, scores, number)
    if studies.is_raw(scores):
        frame = query_images.attributes_followed(study.reader, scores, number)
        rows = [
            [
                format.escape(f"{r['attribute']}: {r['value']}"),
                format.signed(r["rho"]),
                f'<span class="ms-soft">{format.interval(r["low"], r["high"])}</span>',
                f"{int(r['n']):,}",
            ]
            for r in frame.to_dict("records")
        ]
        columns = [("", False), ("ρ", True), ("95 % interval", True), ("images", True)]
    else:
        frame = query_images.confounders(study.reader, scores, number, studies.groups(study, scores, cohort))
        rows = [
            [
                format.escape(f"{r['what']}: {r['group']}"),
                format.percent(r["rate"]),
                f'<span class="ms-soft">{format.number(100 * r["low"], 1)} to {format.percent(r["high"])}</span>',
                f"{int(r['n']):,}",
            ]
            for r in frame.to_dict("records")
        ]
        columns = [("", False), ("fires on", True), ("95 % interval", True), ("images", True)]
    if frame.empty:
        look.empty("Nothing is known of these images", "The cohort has no view, sex, age or devices.")
        return
    st.html(look.table(columns, rows))


def neighbours(study: Study, scores: Artifact, number: int) -> None:
    """The nearest neurons by decoder direction and by firing together."""
    look.section("Neighbours")
    frame = queries.neighbours(study.reader, scores, number)
    if frame.empty:
        look.empty("No neighbour", "Neighbours are computed for neurons of an SAE that fire.")
        return
    titles = {"coactivation": "fires together with", "decoder": "points the same way (decoder)"}
    places = st.columns(2, gap="medium")
    for place, (measure, title) in zip(places, titles.items(), strict=True):
        rows = [
            [
                look.link(int(r["neuron"]), links.neuron_url(int(r["neuron"]))),
                cards.name_or_label(study, r),
                format.number(r["value"]),
            ]
            for r in frame[frame["measure"] == measure].to_dict("records")
        ]
        with place:
            st.html(look.table([("neuron", True), (title, False), ("cosine", True)], rows))


def correlations(study: Study, scores: Artifact, row: Row) -> Frame:
    """Bars of the correlations with labels; returns their frame."""
    look.section("Correlation with labels", "95 % interval")
    frame = queries.correlations(study.reader, scores, int(row["neuron"]))
    if frame["rho"].notna().any():
        cards.show(bars.correlations(frame, study.tone(scores), study.scarce))
    else:
        look.empty("No correlation", str(row["reason"] or "undefined"))
    return frame


def naming(scores: Artifact, number: int) -> None:
    """The naming panel."""
    with st.container(border=True):
        naming_panel.render(scores, number)


def exports(
    study: Study,
    scores: Artifact,
    cohort: Artifact,
    row: Row,
    frame: Frame,
    drawn: tuple[Frame, str | None],
) -> None:
    """Tables and plots of this neuron, and its one-page report."""
    number = int(row["neuron"])
    colour = look.RAW if studies.is_raw(scores) else look.SAE

    def images() -> Frame:
        found = query_images.images_of(study.reader, scores, cohort, number, "top", False, 500)
        return found.assign(patient=[study.patient(str(p)) for p in found["patient"]])

    ids = f"{scores.id}, neuron {number}"
    with st.container(horizontal=True):
        export.menu(
            {f"Correlations of neuron {number}": lambda: frame, f"Images of neuron {number}": images},
            ids,
            files={f"neuron-{number}-report.html": (lambda: report.html(study, scores, cohort, row), "text/html")},
        )
        export.plots(
            {
                "Correlation with labels": lambda: charts.correlations(frame, colour),
                "Activations": lambda: charts.activations(*drawn, colour),
            },
            ids,
            f"neuron-{number}",
            "save plots",
        )
