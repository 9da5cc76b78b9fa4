"""Could it be something else? What is left of a neuron's correlation within strata and given attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from medsae.store import followed
from medsae.store.artifacts import Artifact
from medsae.ui import export, format, links, look
from medsae.ui import study as studies
from medsae.ui.statistics_panels import THEN
from medsae.ui.study import Study


def verdict(study: Study, scores: Artifact, number: int) -> None:
    """The verdict by rule, and what is left given each attribute; computed when the scores were made."""
    row, held = followed.of_neuron(study.reader, scores, number)
    if row is None:
        st.html(f"Given attributes: {THEN}")
        return
    if row["rho"] is None:
        what = f"{row['label']} (n = {format.count(row['n'])}) is not held" if row["label"] else "Not held"
        st.caption(look.literal(f"{what} against attributes: {row['reason']}."))
        return
    st.html(f"<p><b>{format.escape(str(row['label']))}</b>: {sentence(row, held)}</p>")
    rows = [_line("as it is", row["rho"], row["low"], row["high"])]
    rows += [_line(f"given {r['attribute']}", r["rho"], r["low"], r["high"]) for r in held]
    rows.append(_line("given all of them", row["given"], row["given_low"], row["given_high"]))
    st.html(look.table([("", False), ("ρ", True), ("95 %, by patient", True)], rows))
    fell = f"{format.signed(-row['fall'])} [{format.number(-row['fall_high'])}, {format.number(-row['fall_low'])}]"
    st.caption(
        f"Given all: {fell}; shuffled attributes change it by at most {format.number(max(row['null_fall'], 0), 3)} "
        f"downwards. n = {format.count(row['n'])} images."
    )


def _line(what: str, rho: float, low: float, high: float) -> list[str]:
    return [format.escape(what), format.signed(rho), f'<span class="ms-soft">{format.interval(low, high)}</span>']


def sentence(row: dict[str, Any], held: Sequence[dict[str, Any]]) -> str:
    """HTML of the verdict in one line: "0.52, within view AP 0.48, given devices 0.11: follows devices"."""
    parts = [format.signed(row["rho"])]
    if not format.missing(row["within_rho"]):
        parts.append(f"within {row['within']} {format.signed(row['within_rho'])}")
    known = [r for r in held if not format.missing(r["rho"])]
    least = sorted(known, key=lambda r: r["rho"] / row["rho"])[:1]
    parts += [f"given {r['attribute']} {format.signed(r['rho'])}" for r in least]
    if len(held) > 1:
        parts.append(f"given {row['attributes']} {format.signed(row['given'])}")
    return f"{format.escape(', '.join(parts))}: <b>{format.escape(str(row['verdict'] or 'undefined'))}</b>"


def closer(study: Study, scores: Artifact, cohort: Artifact, number: int) -> None:
    """Any attribute, any label, chosen by the reader and computed now; only for an SAE, whose activations are kept."""
    look.section("Held against other attributes", "any label, any attribute of the cohort")
    if not links.switch("compute it", "closer", False):
        return
    if not scores.facts.get("activations_complete", True):
        st.caption("Not all activations of these scores are kept: only what was computed then can be shown.")
        return
    about = studies.scored_images(study, scores, cohort)
    if not about.attributes:
        look.empty("Nothing to hold", "The cohort has no attribute that sorts its images.")
        return
    chosen = _chosen(study, scores, number, about)
    strata, left = followed.closer(study.reader, scores, number, about, chosen)
    if strata.empty:
        st.caption("The scored images have one value of it only.")
    else:
        st.html(_strata(strata))
    st.html(look.table([("", False), ("ρ", True), ("95 %, by patient", True)],
                       [_line(r["what"] if r["what"] in ("as it is",) else f"given {r['what']}", r["rho"], r["low"],
                              r["high"]) for r in left.to_dict("records")]))  # fmt: skip
    export.menu({f"Neuron {number} within {chosen.within}": lambda: strata, f"Neuron {number} given": lambda: left},
                f"{scores.id}, {chosen.label}")  # fmt: skip


def _chosen(study: Study, scores: Artifact, number: int, about: followed.Images) -> followed.Chosen:
    names = {name: name for name in about.attributes}
    row, _ = followed.of_neuron(study.reader, scores, number)
    first = row["label"] if row and row["label"] in about.labels else about.labels[0]
    label = links.choose(st.selectbox, "Label", "follows", {x: x for x in about.labels}, first)
    within = links.choose(st.selectbox, "Within the values of", "within", names, next(iter(names)))
    usual = [name for name in names if name in followed.DEFAULT and name != "devices"]
    usual += ["devices"] if "devices" in names and "device" not in label.lower() else []
    given = links.several(st.multiselect, "Given", "held", list(names), usual)
    return followed.Chosen(label, within, tuple(given))


def _strata(strata: pd.DataFrame) -> str:
    rows = []
    for r in strata.to_dict("records"):
        numbers = [format.escape(r["reason"]), ""] if r["reason"] else [
            f"{format.signed(r['rho'])} {_soft(r['low'], r['high'])}",
            f"{format.number(r['auroc'])} {_soft(r['auroc_low'], r['auroc_high'])}"]  # fmt: skip
        rows.append([format.escape(str(r["value"])), f"{format.count(r['positives'])} of {format.count(r['n'])}",
                     format.percent(r["fires"]), *numbers])  # fmt: skip
    return look.table([("", False), ("label", True), ("fires on", True), ("ρ", True), ("AUROC", True)], rows)


def _soft(low: float, high: float) -> str:
    return f'<span class="ms-soft">{format.interval(low, high)}</span>'


def falls(study: Study, scores: Artifact) -> None:
    """The neurons whose strongest correlation falls most when attributes are held, and how many hold."""
    look.section("What is left given other attributes", "of each neuron's strongest correlation")
    if not followed.has(study.reader, scores):
        st.html(THEN)
        return
    counts = followed.verdicts(study.reader, scores)
    if counts:
        st.caption(" · ".join(f"{format.count(n)} {kind}" for kind, n in counts.items()))
    frame = followed.falls(study.reader, scores)
    if frame.empty:
        look.empty("No correlation falls", "None falls by more than shuffled attributes take away.")
        return
    rows = []
    for row in frame.to_dict("records"):
        number = int(row["neuron"])
        _, held = followed.of_neuron(study.reader, scores, number)
        fall = f"{format.number(row['fall'])} {_soft(row['fall_low'], row['fall_high'])}"
        rows.append([look.link(number, links.neuron_url(number)), format.escape(str(row["label"])),
                     fall, sentence(row, held)])  # fmt: skip
    st.html(look.table([("neuron", True), ("label", False), ("falls by", True), ("verdict", False)], rows))
    st.html(look.chip("all neurons in this order", links.url("neurons", sort="-fall")))
