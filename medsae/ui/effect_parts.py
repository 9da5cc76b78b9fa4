"""What if: what a neuron, or a set of them, does to the encoder's read-out of a label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from medsae.store import followed, maps, queries, readouts
from medsae.store.artifacts import Artifact
from medsae.ui import cards, export, format, links, look
from medsae.ui.study import Study

KINDS = {"probe": "probe", "text": "zero-shot text"}
"""Kinds of read-out as pages call them."""
STRENGTHS = [f"{quarter / 4:g}" for quarter in range(13)]
"""From switched off to three times its activation."""
KEPT = ("image", "seen", "of", "readout", "off", "strength")
"""Parameters of an image that a link to a map of it keeps."""
_BARS = 14
_MOST_SET = 400


def _missing(scores: Artifact) -> bool:
    why = readouts.missing(scores)
    if why:
        st.caption(look.literal(f"What if: {why}."))
    return bool(why)


def _kind(table: pd.DataFrame) -> str:
    """The chosen kind of read-out; without a choice where there is one kind only."""
    kinds = {k: KINDS[k] for k in KINDS if (table["kind"] == k).any()}
    if len(kinds) < 2:
        return next(iter(kinds), "probe")
    return links.choose(st.segmented_control, "Read-out", "readout", kinds, "probe", label_visibility="collapsed")


@st.fragment
def neuron(study: Study, scores: Artifact, number: int) -> None:
    """Labels ordered by what this neuron does to their read-out; its choice draws this panel alone."""
    look.section("What if it were off?", "read-outs of the labels, on the scored images")
    if _missing(scores):
        return
    kind = _kind(readouts.readouts(study.reader, scores))
    assert study.cohort is not None
    frame = readouts.with_intervals(study.reader, scores, judged(study, scores, study.cohort), number, kind)
    if frame.empty:
        look.empty("Nothing to show", "This neuron fires on none of the scored images, or no read-out could be fitted.")
        return
    rows = []
    for r in frame.to_dict("records"):
        ends = format.interval(r["typical_low"], r["typical_high"])
        rows.append([
            format.escape(str(r["label"])), f"{format.signed(r['typical'])} {_soft(ends)}",
            f"{format.number(r['auroc'], 3)} → {format.number(r['auroc'] - r['fall'], 3)}",
            f"{format.signed(-r['fall'], 3)} {_soft(format.interval(r['change_low'], r['change_high'], 3))}"
            f"<br>{_others(r)}",
            format.number(r["alone"]),
        ])  # fmt: skip
    unit = "log odds" if kind == "probe" else "cosine"
    st.html(look.table([("label", False), (f"when it fires, {unit}", True), ("AUROC → without", True),
                        ("change, 95 %", True), ("alone", True)], rows))  # fmt: skip
    st.caption(
        "When it fires: what its mean activation adds to the score, largest first (95 %: by patient, and from fitting "
        "the probe). Without: set to 0, or to its maximum, on every image, which is the same AUROC (95 % by patient). "
        "Others: 20 neurons that fire about as often. Alone: AUROC of what this neuron adds by itself. An effect on "
        "this read-out of the encoder, not on a patient."
    )
    export.menu({f"Effects of neuron {number}": lambda: frame}, scores.id)


def _soft(text: str) -> str:
    return f'<span class="ms-soft">{format.escape(text)}</span>' if text else ""


def _others(row: dict[str, Any]) -> str:
    middle, most = (format.signed(-row[k], 3) for k in ("null_fall", "null_most"))
    return _soft(f"others {middle}, at most {most}")


@st.fragment
def image(study: Study, scores: Artifact, number: int) -> None:
    """Why this score? A sum over neurons that adds up, and switches, which draw this panel alone."""
    look.section("Why this score?", "the read-out of a label as a sum over neurons")
    if _missing(scores):
        return
    table = readouts.readouts(study.reader, scores)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = _kind(table)
        mine = table[(table["kind"] == kind) & table["constant"].notna()]
        if mine.empty:
            st.caption("No read-out could be fitted.")
            return
        first = _highest(study, scores, number, mine)
        label = links.choose(st.selectbox, "Label", "of", {x: x for x in mine["label"]}, first)
    position = int(mine.set_index("label")["position"][label])
    found = readouts.explain(study.reader, scores, number, position)
    if found is None:
        look.empty("Nothing to add up", "These scores were not taken over this image.")
        return
    off, strength = _switches(study, found)
    _said(found, kind, label, off, strength)
    st.html(_sum(study, found, off, strength, mapped=not maps.missing(scores)))
    st.caption(
        "Constant: the score of what the SAE rebuilds of no neuron. Not rebuilt: what it leaves out of the embedding, "
        "held as it is when neurons are switched. " + _quality(mine, label)
    )
    export.menu({f"Score of image {number}, {label}": lambda: found.neurons}, scores.id)


def _highest(study: Study, scores: Artifact, image: int, mine: pd.DataFrame) -> str:
    """The label with the largest score against what it is on other images is not known here: the most probable one."""
    totals = readouts.totals(study.reader, scores, image)
    if totals is None:
        return str(mine["label"].iloc[0])
    usual = mine[mine["label"].str.lower() != "no finding"]
    usual = mine if usual.empty else usual
    return str(usual["label"].iloc[int(totals[usual["position"].to_numpy()].argmax())])


def _quality(mine: pd.DataFrame, label: str) -> str:
    row = mine.set_index("label").loc[label]
    fitted = "" if format.missing(row["n"]) else f", fitted on {int(row['n']):,} training images"
    area = f"{format.number(row['auroc'], 3)} {format.interval(row['low'], row['high'], 3)}"
    null = row.get("null_high")  # not in older scores
    beside = "" if format.missing(null) else f"; 95 % of random directions stay below {format.number(null, 3)}"
    return f"AUROC of this read-out on the scored images: {area}{fitted}{beside}."


def _switches(study: Study, found: readouts.Explained) -> tuple[list[int], float]:
    """Neurons that are switched (in the address), and at which strength."""
    shown = [int(n) for n in found.neurons["neuron"].head(_BARS)]
    named = {str(n): _short(study, found, n) for n in shown}
    off = links.several(st.pills, "Switch neurons", "off", list(named), [], selection_mode="multi",
                        format_func=lambda n: named[n])  # fmt: skip
    strength = links.choose(st.select_slider, "Their strength", "strength", {x: f"{x} ×" for x in STRENGTHS}, "0")
    return [int(n) for n in off], float(strength)


def _short(study: Study, found: readouts.Explained, neuron: int) -> str:
    name = study.names.get(neuron)
    label = found.neurons.set_index("neuron")["top_label"].get(neuron)
    return f"{neuron} {format.shortened(name or (label if isinstance(label, str) else ''), 22)}".strip()


def _score(value: float, kind: str) -> str:
    return (
        format.number(1 / (1 + math.exp(-max(-700.0, min(700.0, value)))))
        if kind == "probe"
        else format.number(value, 3)
    )


def _said(found: readouts.Explained, kind: str, label: str, off: Sequence[int], strength: float) -> None:
    what = f"probability of {label}" if kind == "probe" else f"cosine with “{label}”"
    items = [(_score(found.total, kind), f"{what}\nscore {format.signed(found.total)}", "")]
    if off:
        now = found.changed(off, strength)
        how = "switched off" if strength == 0 else f"at {strength:g} times"
        items.append(
            (_score(now, kind), f"with {format.plural(len(off), 'neuron')} {how}\nscore {format.signed(now)}", "sae")
        )
    look.figures(items)


def _sum(study: Study, found: readouts.Explained, off: Sequence[int], strength: float, mapped: bool) -> str:
    """HTML: bars that add up to the score; a link lays a neuron's map over the image."""
    head = found.neurons.head(_BARS).to_dict("records")
    rest = found.neurons.iloc[_BARS:]
    lines: list[tuple[str, str, str, float]] = [("", "constant", "", found.constant)]
    for r in head:
        number = int(r["neuron"])
        factor = strength if number in off else 1.0
        link = look.link(number, links.url("neuron", neuron=number))
        where = look.link("map", links.url("image", (*links.STUDY, *KEPT), seen=number, map=1)) if mapped else ""
        lines.append((link, cards.name_or_label(study, r), where, factor * r["part"]))
    if len(rest):
        lines.append(("", f"{len(rest):,} other neurons", "", float(rest["part"].sum())))
    lines.append(("", "not rebuilt", "", found.not_rebuilt))
    total = sum(value for *_, value in lines)
    most = max(max(abs(v) for *_, v in lines), 1e-9)
    rows = [[link, text, where, bar(value / most), format.signed(value)] for link, text, where, value in lines]
    rows.append(["", "<b>score</b>", "", "", f"<b>{format.signed(total)}</b>"])
    return look.table([("neuron", True), *((("", False),) * 3), ("adds", True)], rows)


def bar(share: float) -> str:
    """HTML of a bar about a middle line, -1 .. 1."""
    width = 50 * min(1.0, abs(share))
    left = 50 if share >= 0 else 50 - width
    tone = "up" if share >= 0 else "down"
    return f'<span class="ms-sum"><i class="ms-{tone}" style="left:{left:.1f}%;width:{width:.1f}%"></i></span>'


def sets(study: Study, scores: Artifact) -> list[int]:
    """The set of neurons that the address (or the reader) chooses."""
    options = {"follow": "follow a label", "else": "follow something else", "starred": "starred", "named": "by name",
               "list": "by number"}  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom"):
        how = links.choose(st.segmented_control, "Neurons that", "set", options, "follow")
        if how == "follow":
            labels = list(readouts.readouts(study.reader, scores)["label"].unique())
            label = links.choose(st.selectbox, "Label", "label", {x: x for x in labels}, labels[-1], width=220)
            least = float(links.choose(st.selectbox, "ρ at least", "from", {x: x for x in ("0.1", "0.2", "0.3", "0.5")},
                                       "0.2", width=110))  # fmt: skip
            frame = queries.neurons(study.reader, scores, queries.Filter(label=label, sort="-rho"), None)
            return [int(n) for n in frame["neuron"][frame["top_rho"] >= least]]
        if how == "else":
            return followed.who_follow(study.reader, scores)
        if how == "starred":
            return sorted(n for n, note in study.notes.items() if note.star)
        text = links.text("Search", "q", "a word of the name" if how == "named" else "3, 14, 15")
    if how == "named":
        return sorted(n for n, name in study.names.items() if text and text.lower() in name.lower())
    return _numbers(text, int(scores.facts.get("m") or 0))


def _numbers(text: str, m: int) -> list[int]:
    words = text.replace(",", " ").split()
    good = sorted({int(w) for w in words if w.isascii() and w.isdigit() and len(w) < 10 and int(w) < m})
    strange = [w for w in words if not (w.isascii() and w.isdigit() and len(w) < 10 and int(w) < m)]
    if strange:
        st.warning(look.literal(f"No such neuron: {', '.join(strange)[:80]}. They are numbered from 0 to {m - 1:,}."))
    return good


def removed(study: Study, scores: Artifact, cohort: Artifact, neurons: list[int]) -> None:
    """What remains of every read-out when a set of neurons is set to 0."""
    shown = ", ".join(map(str, neurons[:12])) + (" …" if len(neurons) > 12 else "")
    look.section(f"{format.plural(len(neurons), 'neuron')} set to 0 together", shown)
    if not neurons:
        look.empty("No neuron is in this set", "Choose another set, or a lower ρ.")
        return
    if len(neurons) > _MOST_SET:
        look.empty("Too many neurons", f"A set holds at most {_MOST_SET}; ask for a higher ρ.")
        return
    kind = _kind(readouts.readouts(study.reader, scores))
    frame = readouts.without(study.reader, scores, judged(study, scores, cohort), neurons, kind)
    rows = [
        [format.escape(str(r["label"])), format.number(r["auroc"], 3), format.number(r["after"], 3),
         f"{format.signed(r['change'], 3)} {_soft(format.interval(r['low'], r['high'], 3))}",
         format.signed(-r["null_fall"], 3) + _soft(" at most " + format.signed(-r["null_most"], 3))]
        for r in frame.to_dict("records")
    ]  # fmt: skip
    st.html(look.table([("read-out", False), ("AUROC", True), ("without them", True), ("change, 95 %", True),
                        (f"{readouts.SETS} sets of others", True)], rows))  # fmt: skip
    st.caption(
        "AUROC on the scored images, intervals by patient. Sets of others: as many neurons that fire about as often, "
        "drawn by chance. What the SAE does not rebuild is held as it is, so a read-out may find a label there too."
    )
    export.menu({"Without these neurons": lambda: frame}, scores.id)


def judged(study: Study, scores: Artifact, cohort: Artifact) -> readouts.Judged:
    """The images that sets are judged on, read once for these scores."""
    return _judged(study.reader, scores, cohort, (str(study.store.data), scores.id, scores.manifest["created"]))


@st.cache_resource(show_spinner=False, max_entries=4)
def _judged(_reader: Any, _scores: Artifact, _cohort: Artifact, key: tuple[str, str, float]) -> readouts.Judged:
    return readouts.judged(_reader, _scores, _cohort)
