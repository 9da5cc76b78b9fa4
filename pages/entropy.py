"""Is a neuron about one thing? Entropy of SAE and raw over each other, against what luck gives."""

import math
from dataclasses import replace

import streamlit as st

from medsae.store import queries
from medsae.ui import cards, charts, format, links, look
from medsae.ui import study as studies

study, scores, cohort = studies.ready()
chosen = links.filter_of_url()
unit, scale = study.unit_name, study.scale
maximum = math.log2(max(2, study.k)) * scale
look.heading(
    "Is a neuron about one thing?",
    f"entropy of its correlations over {study.k} labels: 0 is one label, {maximum:.2f} is all alike",
    tools=[look.copy_link(links.url("entropy", (*links.STUDY, *links.FILTER, "view"), scores=scores.id))],
)

titles = studies.short_titles(study)
colours = studies.colours(study)
labels = queries.labels(study.reader, cohort)
VIEWS = {"share": "share", "count": "count", "cumulative": "cumulative", "label": "per label"}
ANY = {"": "any label"}
RHO = {"0": "any", "0.1": "0.1", "0.2": "0.2 (paper)", "0.3": "0.3", "0.5": "0.5"}
DENSITY = {"0": "any", "0.001": "0.1 %", "0.01": "1 %", "0.05": "5 %"}
SHOWN = {"defined": "all defined", "selective": "selective only"}

first, second = (
    queries.summary(study.reader, scores),
    queries.summary(study.reader, study.versus) if study.versus else {},
)
items: list[tuple[str, str, str]] = []
for summary, name, tone in ((first, titles[0], study.tone(scores)), (second, titles[1], study.tone(study.versus))):
    m, null = summary.get("mean_entropy"), summary.get("null_mean_entropy")
    if m is not None:
        items.append(
            (
                f"{format.scaled(m, scale)} {unit}",
                f"{name} mean\n{format.interval(m.low, m.high, 2, scale)} · null {format.scaled(null, scale)}"
                f" · {format.count(m.n)} neurons",
                tone,
            )
        )
if study.versus:
    d = queries.difference(study.reader, scores, study.versus)
    items.append(
        (
            f"{format.signed(None if d.value is None else d.value * scale)} {unit}",
            f"difference\n{look.difference(d, scale)}",
            "",
        )
    )
    a, b = first.get("selective_share"), second.get("selective_share")
    items.append(
        (
            f"{format.percent(a.value if a else None, 0)} / {format.percent(b.value if b else None, 0)}",
            f"selective neurons, {titles[0]} / {titles[1]}\nfalse-discovery rate 5 %",
            "",
        )
    )
look.figures(items)

with st.container(border=True):
    with st.container(horizontal=True, vertical_alignment="center"):
        view = links.choose(st.segmented_control, "View", "view", VIEWS, "share", label_visibility="collapsed")
        show = links.choose(
            st.segmented_control, "Neurons", "show", SHOWN, "defined", resets=("page",), label_visibility="collapsed"
        )
        active = [x for x in (chosen.label, chosen.rho, chosen.density_low) if x]
        with st.popover(f"Filter ({len(active)})" if active else "Filter"):
            label = links.choose(
                st.selectbox, "Following the label", "label", ANY | {x: x for x in labels}, "", resets=("page",)
            )
            rho = links.choose(st.selectbox, "Strongest |ρ| at least", "rho", RHO, "0", resets=("page",))
            density = links.choose(st.selectbox, "Fires on at least", "dlo", DENSITY, "0", resets=("page",))
    base = replace(
        chosen,
        show=show,
        label=label or None,
        rho=float(rho) or None,
        density_low=float(density) or None,
        low=None,
        high=None,
    )
    if view == "label":
        frame = queries.entropy_by_label(study.reader, scores, base)
        other = queries.entropy_by_label(study.reader, study.versus, base) if study.versus else None
        look.section("Neurons by the label they follow most", "median, middle half, 5 to 95 %")
        charts.show(
            charts.by_label(frame, other, scale, unit, titles, colours),
            "entropy-by-label",
            "Entropy of the neurons that follow each label",
        )
    else:
        one = queries.entropy_histogram(study.reader, scores, base)
        two = queries.entropy_histogram(study.reader, study.versus, base) if study.versus else None
        null = queries.null_histogram(study.reader, scores)
        brush = (
            (chosen.low * scale, chosen.high * scale) if chosen.low is not None and chosen.high is not None else None
        )
        figure = charts.entropies(one, two, null, scale, unit, titles, colours, view, brush, maximum, queries.BIN_BITS)
        look.section("Neurons by entropy", "draw a box over a range to list its neurons")
        if one.empty:
            look.empty("No neuron passes", "Loosen the filters above: every neuron is dead or below the bounds.")
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

if chosen.low is None or chosen.high is None:
    low, high = 0.0, math.log2(max(2, study.k))
else:
    low, high = chosen.low, chosen.high
narrow = replace(base, low=chosen.low, high=chosen.high)
total = queries.count(study.reader, scores, narrow)
SORTED = {
    "q": "most selective",
    "entropy": "lowest first",
    "-rho": "strongest ρ",
    "-density": "most active",
    "neuron": "number",
}
with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
    with st.container():
        look.section(
            f"{format.plural(total, 'neuron')} between {format.number(low * scale)} and "
            f"{format.number(high * scale)} {unit}"
        )
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
        st.html(
            look.chip(
                "whole range ×",
                links.url("entropy", (*links.STUDY, "show", "label", "rho", "dlo", "sort", "view")),
                "Escape",
            )
        )
if total:
    pages = math.ceil(total / 24)
    page = min(pages, links.whole("page", 1, 1) or 1)
    cards.few_last(queries.few(study.reader, scores, narrow))
    cards.show(
        cards.neuron_cards(study, scores, cohort, queries.neurons(study.reader, scores, narrow, 24, 24 * (page - 1)))
    )
    links.pager(pages)
else:
    look.empty("No neuron in this range", "Choose another range, or loosen the filters.")
studies.foot()
