"""Panels about what the numbers claim: measures beside floor and null, more pictures, more trainings."""

from __future__ import annotations

import streamlit as st

from medsae import plugins
from medsae.store import entropies, queries, trained
from medsae.store.artifacts import Artifact
from medsae.ui import format, look
from medsae.ui import study as studies
from medsae.ui.study import Study

Summary = dict[str, queries.Measure]
_UNTRAINED = (
    '<span class="ms-soft" title="random directions with the norms and the activity of the trained SAE: what a measure'
    ' is worth is what it has above this">&emsp;untrained control</span>'
)
"""The name of a row beside a measure (train --untrained, docs/decisions/107)."""
THEN = '<span class="ms-soft">not computed then</span>'
"""In place of a measure that these scores are older than."""


def _soft(text: str) -> str:
    return f'<span class="ms-soft">{format.escape(text)}</span>' if text else ""


def declared(page: str) -> list[plugins.Measure]:
    """The measures that a page has a row for, in their order."""
    return sorted((one for one in plugins.measures.all().values() if page in one.shown), key=lambda one: one.order)


def _value(study: Study, one: plugins.Measure, value: float | None) -> str:
    if value is None:
        return format.NOTHING
    if one.unit == "share":
        return format.percent(value, one.digits)
    return format.number(value * (study.scale if one.unit == "bits" else 1), one.digits)


def _cell(study: Study, summary: Summary, one: plugins.Measure) -> str:
    """A measure with its interval, its null and p, and over how many it is; or why it is not there."""
    m = summary.get(one.name)
    if m is None:
        return THEN
    if m.value is None:
        return _soft(f"undefined{': ' + m.note.rsplit('; ', 1)[-1] if m.note else ''}")
    said = []
    if m.low is not None and m.high is not None:
        said.append(f"{_value(study, one, m.low)} to {_value(study, one, m.high)}")
    null = summary.get(one.null_measure or "")
    if null is not None and null.value is not None:
        p = summary.get(f"{one.name}_p_two_sided")
        few = null.low is None and "too few draws" in null.note
        tail = " (few draws)" if few else f", p {p.value:.2g}" if p and p.value is not None else ""
        said.append(f"null {_value(study, one, null.value)}{tail}")
    if m.n:
        said.append(f"n {format.count(m.n)}")
    return f"{_value(study, one, m.value)} {_soft(' · '.join(said))}"


def _name(study: Study, one: plugins.Measure) -> str:
    unit = study.unit_name if one.unit == "bits" else "nats" if one.unit == "nats" else ""
    text = f"{one.label}, {unit}" if unit else one.label
    return f'<span title="{format.escape(one.help)}">{format.escape(text)}</span>'


def measures(study: Study, scores: Artifact) -> None:
    """Every declared measure of both representations, and what the mean entropies say."""
    look.section("Measures", "interval over patients · what shuffled labels give, two-sided p · n")
    sides = [one for one in (scores, study.versus) if one is not None]
    summaries = [queries.summary(study.reader, one) | _of_sae(study.parent(one, "sae")) for one in sides]
    controls = [trained.control(study.artifacts, one) for one in sides]
    beside = [
        queries.summary(study.reader, one) | _of_sae(study.parent(one, "sae")) if one else None for one in controls
    ]
    rows = []
    for one in declared("overview"):
        rows.append([_name(study, one), *[_cell(study, s, one) for s in summaries]])
        if any(beside):
            rows.append([_UNTRAINED, *[_soft("–") if s is None else _cell(study, s, one) for s in beside]])
    titles = [studies.title(study.artifacts, one) for one in sides]
    st.html(look.table([("", False), *[(title, False) for title in titles]], rows))
    sentences(list(zip(titles, summaries, strict=True)))
    st.caption(
        "Intervals are of the mean at this number of pictures. Selective is not the same as about one thing: a neuron "
        "that follows five labels is selective."
    )


def sentences(sides: list[tuple[str, Summary]]) -> None:
    """What each mean entropy says, by rule; nothing for scores made before its two-sided p was computed."""
    for title, summary in sides:
        side = entropies.side(summary)
        if side != "unknown":
            st.caption(f"{title}: mean entropy is {entropies.SAID[side]}.")


def _known(study: Study, scores: Artifact) -> Summary:
    """Every measure of some scores and of their SAE."""
    return queries.summary(study.reader, scores) | _of_sae(study.parent(scores, "sae"))


def _of_sae(sae: Artifact | None) -> Summary:
    """Measures that are facts of the SAE; undefined without one."""
    known = [one.name for one in plugins.measures.all().values() if one.of == "sae"]
    if sae is None:
        return {name: queries.Measure(None, note="there is no SAE") for name in known}
    return {name: queries.Measure(sae.facts[name]) for name in known if name in sae.facts}


def _shift(study: Study, found: entropies.Shift | None) -> str:
    if found is None or found.value is None:
        return THEN
    ends = f"{format.signed(found.low * study.scale)} to {format.signed(found.high * study.scale)}" \
        if found.low is not None and found.high is not None else found.note  # fmt: skip
    trained = f" · {found.seeds} trainings" if found.seeds > 1 else ""
    return f"{format.signed(found.value * study.scale)} {_soft(ends + trained)}"


def difference(study: Study, scores: Artifact) -> None:
    """The two representations at several numbers of pictures and under several trainings, and whether it is settled."""
    other = study.versus
    if other is None:
        return
    titles = [studies.title(study.artifacts, one) for one in (scores, other)]
    look.section("Is the difference settled?", f"{titles[0]} minus {titles[1]}, {study.unit_name}")
    families = [entropies.family(study.artifacts, one) for one in (scores, other)]
    rows = []
    for measure in ("mean_entropy", "partial_mean_entropy", "unique_mean_entropy"):
        one = plugins.measures.get(measure)
        rows.append(
            [_name(study, one), _shift(study, entropies.shift(study.reader, families[0], families[1], measure))]
        )
    curve = entropies.sizes(study.reader, scores, other)
    if curve is not None:
        for row in curve.table.to_dict("records"):
            both = " and ".join(format.number(float(row[c]) * study.scale, 2) for c in ("first", "second"))
            rows.append([f"at {format.count(row['images'])} images, neurons on 10 images or more",
                         f"{format.signed(float(row['difference']) * study.scale)} {_soft(both)}"])  # fmt: skip
        rows.append(["with endless images, estimated", _shift(study, curve.endless[2])])
    else:
        rows.append(["at fewer pictures", THEN])
    st.html(look.table([("", False), ("", False)], rows))
    many = max(len(each) for each in families)
    stable = [m.value for each in families for one in each
              if (m := queries.summary(study.reader, one).get("stability")) and m.value is not None]  # fmt: skip
    said = "One sign at every size, and 0 is left out at the end: settled." if curve and curve.settled else \
        "Not settled at this n: with more pictures the difference may change its sign."  # fmt: skip
    trained = f"{many} trainings: the interval covers other seeds too." if many > 1 else \
        "One training each: another seed gives other neurons, and the intervals do not cover that."  # fmt: skip
    alike = f" Stability between trainings: mean cosine {sum(stable) / len(stable):.2f}." if stable else ""
    st.caption(f"{said} {trained}{alike}")


def neuron(study: Study, scores: Artifact, number: int) -> None:
    """The declared measures of one neuron."""
    look.section("Measures")
    found = entropies.neuron_measures(study.reader, scores, number)
    rows = []
    for one in declared("neuron"):
        cell = _value(study, one, found[one.name]) if one.name in found else THEN
        if one.null_value is not None and found.get(one.name) is not None:
            cell += _soft(f" · shuffled labels {_value(study, one, one.null_value)}")
        rows.append([_name(study, one), cell])
    st.html(look.table([("", False), ("", True)], rows))
