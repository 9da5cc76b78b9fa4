"""The panels of the Entropy page."""

from __future__ import annotations

import math
from dataclasses import replace

import streamlit as st

from medsae.store import queries
from medsae.store.artifacts import Artifact
from medsae.ui import cards, charts, filters, format, links, look, statistics_panels
from medsae.ui import study as studies
from medsae.ui.study import Study

VIEWS = {"share": "share", "count": "count", "cumulative": "cumulative", "label": "per label"}
ANY = {"": "any label"}
# The address means the same here as on the Neurons page: its words are those of `filters`.
SHOWN = {"all": "all defined", "selective": filters.SHOW["selective"]}
SORTED = {sort: filters.ORDER[sort] for sort in ("q", "entropy", "-rho", "-density", "neuron")}


def means(study: Study, scores: Artifact) -> None:
    """Mean entropy of both representations beside its null, their difference, their shares of selective neurons."""
    titles, versus, scale = studies.short_titles(study), study.versus, study.scale
    first = queries.summary(study.reader, scores)
    second = queries.summary(study.reader, versus) if versus else {}
    items: list[tuple[str, str, str]] = []
    for summary, name, tone in ((first, titles[0], study.tone(scores)), (second, titles[1], study.tone(versus))):
        m, null = summary.get("mean_entropy"), summary.get("null_mean_entropy")
        if m is not None:
            interval, luck = format.interval(m.low, m.high, 2, scale), format.scaled(null, scale)
            floor = summary.get("entropy_floor")
            low = f" · floor {format.scaled(floor, scale)}" if floor else ""
            what = f"{name} mean\n{interval} · null {luck}{low} · {format.count(m.n)} neurons"
            items.append((f"{format.scaled(m, scale)} {study.unit_name}", what, tone))
    if versus:
        d = queries.difference(study.reader, scores, versus)
        shift = format.signed(None if d.value is None else d.value * scale)
        items.append((f"{shift} {study.unit_name}", f"difference\n{look.difference(d, scale)}", ""))
        a, b = first.get("selective_share"), second.get("selective_share")
        both = f"{format.percent(a.value if a else None)} / {format.percent(b.value if b else None)}"
        items.append(
            (both, f"selective neurons, {titles[0]} / {titles[1]}\nfollow at least one label, not only one", "")
        )
    studies.figures(items)
    statistics_panels.sentences([(titles[0], first), *([(titles[1], second)] if versus else [])])


def controls(study: Study, cohort: Artifact, chosen: queries.Filter) -> tuple[str, queries.Filter]:
    """The view and the filter of neurons, without a range of entropy."""
    with st.container(horizontal=True, vertical_alignment="center"):
        view = links.choose(st.segmented_control, "View", "view", VIEWS, "share", label_visibility="collapsed")
        show = links.choose(
            st.segmented_control, "Neurons", "show", SHOWN, "all", resets=("page",), label_visibility="collapsed"
        )
        active = [x for x in (chosen.label, chosen.rho, chosen.density_low) if x]
        with st.popover(f"Filter ({len(active)})" if active else "Filter"):
            labels = ANY | {x: x for x in queries.labels(study.reader, cohort)}
            label = links.choose(st.selectbox, "Following the label", "label", labels, "", resets=("page",))
            rho = links.choose(st.selectbox, "Strongest |ρ| at least", "rho", filters.RHO, "", resets=("page",))
            density = links.choose(st.selectbox, "Fires on at least", "dlo", filters.DENSITY, "", resets=("page",))
    return view, replace(
        chosen, show="defined" if show == "all" else show, label=label or None, rho=float(rho) if rho else None,
        density_low=float(density) if density else None, low=None, high=None,
    )  # fmt: skip


def by_label(study: Study, scores: Artifact, base: queries.Filter) -> None:
    """Entropies of the neurons that follow each label."""
    frame = queries.entropy_by_label(study.reader, scores, base)
    other = queries.entropy_by_label(study.reader, study.versus, base) if study.versus else None
    look.section(
        "Neurons by the label they follow most",
        "median, middle half, 5 to 95 % · upright mark: floor, the entropy of a detector that is never wrong about it",
    )
    titles, colours = studies.short_titles(study), studies.colours(study)
    floors = queries.floors(study.reader, scores)
    charts.show(
        charts.by_label(frame, other, study.scale, study.unit_name, titles, colours, floors),
        "entropy-by-label",
        "Entropy of the neurons that follow each label",
    )


def histogram(study: Study, scores: Artifact, base: queries.Filter, chosen: queries.Filter, view: str) -> None:
    """Histograms of both representations over the null; a box drawn over a range writes it into the address."""
    scale = study.scale
    one = queries.entropy_histogram(study.reader, scores, base)
    two = queries.entropy_histogram(study.reader, study.versus, base) if study.versus else None
    null = queries.null_histogram(study.reader, scores)
    brush = (chosen.low * scale, chosen.high * scale) if chosen.low is not None and chosen.high is not None else None
    shown = charts.Histograms(one, two, null, studies.short_titles(study), studies.colours(study))
    axis = charts.BitsAxis(scale, study.unit_name, study.maximum_bits, queries.BIN_BITS)
    figure = charts.entropies(shown, axis, view, brush)
    look.section("Neurons by entropy", "draw a box over a range to list its neurons")
    if one.empty:
        look.empty("No neuron passes", "Loosen the filters above: every neuron is silent or below the bounds.")
    event = charts.show(
        figure,
        f"entropy-{view}-{study.unit}",
        "Histograms of entropy of both representations with the permutation null",
        on_select="rerun",
        selection_mode=["box"],
    )
    box = charts.brushed(event)
    mark = f"{scores.id}{view}{study.unit}{box}"
    if box and st.session_state.get("_brush") != mark:
        st.session_state["_brush"] = mark
        links.put(lo=f"{max(0.0, box[0] / scale):.4f}", hi=f"{box[1] / scale:.4f}", page=None)
        st.rerun()


def listed(study: Study, scores: Artifact, cohort: Artifact, base: queries.Filter, chosen: queries.Filter) -> None:
    """The neurons of the range as cards."""
    low, high = (0.0, study.maximum_bits) if None in (chosen.low, chosen.high) else (chosen.low, chosen.high)
    narrow = replace(base, low=chosen.low, high=chosen.high)
    total = queries.count(study.reader, scores, narrow)
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        with st.container():
            ends = [format.number((end or 0.0) * study.scale) for end in (low, high)]
            look.section(f"{format.plural(total, 'neuron')} between {ends[0]} and {ends[1]} {study.unit_name}")
        links.choose(
            st.segmented_control,
            "Order",
            "sort",
            SORTED,
            links.DEFAULT_SORT,
            resets=("page",),
            label_visibility="collapsed",
        )
        if chosen.low is not None:
            whole = links.url("entropy", (*links.STUDY, "show", "label", "rho", "dlo", "sort", "view"))
            st.html(look.chip("whole range ×", whole, "Escape"))
    if not total:
        look.empty("No neuron in this range", "Choose another range, or loosen the filters.")
        return
    pages = math.ceil(total / cards.A_PAGE)
    page = min(pages, links.whole("page", 1, 1) or 1)
    cards.few_last(queries.few(study.reader, scores, narrow), total)
    rows = queries.neurons(study.reader, scores, narrow, cards.A_PAGE, cards.A_PAGE * (page - 1))
    cards.show(cards.neuron_cards(study, scores, cohort, rows))
    links.pager(pages)
