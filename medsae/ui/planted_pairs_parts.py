"""Pairs that differ in one planted factor: the heat map, the best neuron of each factor, and the pictures."""

from __future__ import annotations

from typing import Any

import streamlit as st

from medsae import config as configs
from medsae.store import pictures, planted_pairs, queries
from medsae.store.artifacts import Artifact
from medsae.store.reader import Frame
from medsae.ui import charts, export, format, links, look
from medsae.ui import study as studies
from medsae.ui.study import Study

SORTS = {
    "drawn": "in the order of the simulator",
    "recovered": "best recovered first",
    "ahead": "furthest ahead of the untrained control",
    "auroc": "best AUROC first",
}


MOVERS = 6
"""Factors that are shown of one neuron."""


def panel(study: Study, scores: Artifact, cohort: Artifact) -> None:
    """Everything about pairs of these scores; nothing for a cohort whose pictures were not drawn here."""
    if not planted_pairs.can_be(cohort):
        return
    with st.container(border=True):
        look.section("One factor at a time", "simulated patients drawn with and without it, all else being equal")
        pairs = planted_pairs.of(study.artifacts, scores)
        if pairs is None:
            parents = scores.parents
            asked = configs.Pairs(embeddings=parents.get("embeddings")) if studies.is_raw(scores) else configs.Pairs(
                sae=parents.get("sae"))  # fmt: skip
            command = " ".join(["python -m medsae", *configs.command_line(asked)])
            look.empty("No pairs yet", "About a minute: 40 patients are drawn and embedded anew.", command)
            return
        _shown(study, scores, pairs)


def neuron(study: Study, scores: Artifact, number: int) -> None:
    """What moves one neuron, where pairs were drawn; nothing else."""
    pairs = planted_pairs.of(study.artifacts, scores)
    if pairs is None:
        return
    with st.container(border=True):
        look.section("What moves it", "one planted factor at a time, all else being equal")
        frame = planted_pairs.of_neuron(study.reader, pairs, planted_pairs.representation(scores), number)
        if frame.empty:
            look.empty("Nothing does", f"No factor changes it in {format.count(pairs.facts.get('n'))} pictures.")
            return
        rows = [
            [
                format.escape(str(row["factor"])),
                format.signed(row["change"]),
                f'<span class="ms-soft">{format.interval(row["low"], row["high"])}</span>',
                format.percent(row["specificity"], 0),
            ]
            for row in frame.head(MOVERS).to_dict("records")
        ]
        columns = [("factor", False), ("change", True), ("95 %, by patient", True), ("share of all", True)]
        st.html(look.table(columns, rows))
        if len(frame) > len(rows):
            rest = 1 - float(frame["specificity"].head(MOVERS).sum())
            st.caption(f"The other {len(frame) - len(rows)} factors share {format.percent(max(rest, 0), 0)}.")


def _shown(study: Study, scores: Artifact, pairs: Artifact) -> None:
    which = planted_pairs.representation(scores)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        parts = links.switch("Sides and lobes apart", "facts", False)
        order = links.choose(st.selectbox, "Order of factors", "factors", SORTS, "drawn", width=300)
    _overall(study, pairs, parts)
    frame = _ordered(_table(study, scores, pairs, parts), order)
    if frame["neuron"].notna().any():
        _map(study, pairs, frame, parts, which)
    else:
        look.empty("No factor moves a neuron for certain", "More patients may settle it: --patients 100.")
    st.caption(
        f"{format.count(pairs.facts.get('patients'))} patients of the evaluation split; {pairs.facts.get('factors')} "
        "factors with sides and lobes apart. Blue: the neuron rises with the factor, orange: it falls; a full cell is "
        "a neuron that nothing else moves. Recovery is specificity times the share of pairs that follow, less those "
        "that move the other way; the neuron is chosen on half of the patients and judged on the others."
    )
    st.html(_rows(study, pairs, frame, parts, which))
    export.menu({"Best neuron of each factor, by pairs": lambda: frame}, pairs.id, label="Export pairs")
    with st.expander("Look at pairs"):
        _pictures(study, pairs, frame)


def _overall(study: Study, pairs: Artifact, parts: bool) -> None:
    """Mean recovery by the best neurons of everything that was measured."""
    known = planted_pairs.overall(study.reader, pairs, parts).set_index("representation")
    items = []
    for name, words in planted_pairs.REPRESENTATIONS.items():
        if name in known.index:
            row = known.loc[name]
            ends = format.interval(row["low"], row["high"])
            what = f"{words}: mean recovery\n{ends} · {int(row['found'])} of {int(row['factors'])} factors"
            items.append((format.number(row["recovery"]), what, {"sae": "sae", "raw": "raw"}.get(name, "")))
    look.figures(items)


def _table(study: Study, scores: Artifact, pairs: Artifact, parts: bool) -> Frame:
    """The best neuron of each factor with what the others reach, and the AUROC of these scores beside it."""
    frame = planted_pairs.best(study.reader, pairs, parts, planted_pairs.representation(scores))
    known = queries.recovery(study.reader, scores)[["factor", "activation", "neuron"]]
    return frame.merge(known.rename(columns={"activation": "auroc", "neuron": "auroc_neuron"}), "left", "factor")


def _ordered(frame: Frame, order: str) -> Frame:
    keys = {
        "recovered": frame["recovery"],
        "ahead": frame["recovery"] - frame["untrained"].astype(float).fillna(0.0),
        "auroc": frame["auroc"],
    }
    if order not in keys:
        return frame
    return frame.assign(key=keys[order]).sort_values("key", ascending=False, kind="stable").drop(columns="key")


def _map(study: Study, pairs: Artifact, frame: Frame, parts: bool, which: str) -> None:
    neurons = [int(n) for n in dict.fromkeys(frame["neuron"].dropna())]
    factors = list(frame["factor"])
    cells = planted_pairs.cells(study.reader, pairs, parts, which, neurons)
    event = charts.show(
        charts.factor_map(cells, factors, neurons),
        f"factors-{pairs.id}-{parts}-{links.clicks()}",
        f"Heat map of {len(factors)} planted factors by {len(neurons)} neurons",
        on_select="rerun",
        selection_mode=["points"],
    )
    cell = charts.clicked(event)
    if cell:
        links.go(links.neuron_url(int(cell[0])))


def _rows(study: Study, pairs: Artifact, frame: Frame, parts: bool, which: str) -> str:
    """HTML of the table."""
    doses = planted_pairs.doses(study.reader, pairs, parts, which)
    curves = {str(factor): list(part["mean"]) for factor, part in doses.groupby("factor")}
    beside = [name for name in planted_pairs.REPRESENTATIONS if name != which and frame[name].notna().any()]
    rows = []
    for row in frame.to_dict("records"):
        head = [format.escape(str(row["factor"]).replace(":", ", "))]
        if format.missing(row["neuron"]):
            cells = ["", f'<span class="ms-soft">{format.escape(str(row["reason"]))}</span>', "", "", "", ""]
        else:
            number = int(row["neuron"])
            cells = [
                look.link(number, links.neuron_url(number)),
                f'{format.number(row["recovery"])} <span class="ms-soft">'
                f"{format.interval(row['low'], row['high'])}</span>",
                format.number(row["specificity"]),
                format.percent(row["follows"], 0),
                format.signed(row["change"]),
                _curve(curves.get(str(row["factor"]), []), row["monotone"]),
            ]
        others = [format.number(row[name]) for name in beside]
        rows.append([*head, *cells, *others, _auroc(row)])
    columns = [("factor", False), ("neuron", True), ("recovery", True), ("specificity", True), ("follows", True)]
    columns += [
        ("change", True),
        ("over severity", False),
        *((planted_pairs.REPRESENTATIONS[name], True) for name in beside),
    ]
    return look.table([*columns, ("AUROC", True)], rows)


def _auroc(row: dict[str, Any]) -> str:
    """AUROC of the best neuron by it, and which one where it is another."""
    if format.missing(row["auroc"]):
        return format.NOTHING
    if format.missing(row["auroc_neuron"]) or row["auroc_neuron"] == row["neuron"]:
        return format.number(row["auroc"])
    other = int(row["auroc_neuron"])
    return f'{format.number(row["auroc"])} <span class="ms-soft">{look.link(other, links.neuron_url(other))}</span>'


def _curve(means: list[float], monotone: float | None) -> str:
    """Columns of the mean activation without the factor and at each severity; how steadily it goes in words."""
    if len(means) < 3 or max(means) == min(means):
        return ""
    low, most = min(0.0, *means), max(0.0, *means)
    words = f"{', '.join(format.number(v) for v in means)}: {format.percent(monotone, 0)} steady"
    columns = "".join(f'<i style="height:{8 + 92 * (v - low) / (most - low):.0f}%"></i>' for v in means)
    title = format.escape(words)
    return f'<span class="ms-dose" role="img" aria-label="{title}" title="{title}">{columns}</span>'


def _pictures(study: Study, pairs: Artifact, frame: Frame) -> None:
    """Three patients without a factor and with it."""
    factors = {str(name): str(name).replace(":", ", ") for name in frame["factor"]}
    chosen = links.choose(st.selectbox, "Factor", "pair", factors, next(iter(factors)), width=320)
    examples = planted_pairs.examples(study.reader, pairs, chosen)
    cells = []
    for row in examples.to_dict("records"):
        if format.missing(row["severity"]):
            words = f"image {int(row['image'])} without"
            cells.append("<br>" if cells else "")
        else:
            graded = frame.set_index("factor")["severities"][chosen] > 1
            words = f"with, severity {row['severity']:g}" if graded else "with"
        picture = pictures.data_uri(bytes(row["webp"]))
        alt = f"Simulated radiograph: {chosen}, {words}"
        cells.append(f'<figure class="ms-pairs"><img src="{picture}" alt="{format.escape(alt)}" loading="lazy">'
                     f"<figcaption>{format.escape(words)}</figcaption></figure>")  # fmt: skip
    st.html("".join(cells))
