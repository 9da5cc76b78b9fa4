"""The panels of the Compare page."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from medsae.progress import UserError
from medsae.store import housekeeping, queries, trained
from medsae.store.artifacts import Artifact
from medsae.store.reader import Frame, Reader
from medsae.ui import charts, export, format, links, located_parts, look
from medsae.ui import study as studies
from medsae.ui.study import Study


def across(study: Study, scores: Artifact) -> Artifact | None:
    """The scores of another study that the reader chose to compare with; None: what the sidebar says."""
    theirs = [
        a for a in study.artifacts if a.kind == "scores" and a.parents.get("cohort") != scores.parents.get("cohort")
    ]
    theirs = [a for a in theirs if study.parent(a, "cohort") is not None and not housekeeping.of(a).archived]
    if not theirs:
        return None
    options = {"": "this study, as chosen at the left"} | {a.id: _whole_title(study, a) for a in theirs}
    if len(set(options.values())) < len(options):
        options = {id: f"{text} · {id[-4:]}" if id else text for id, text in options.items()}
    chosen = links.choose(st.selectbox, "Compare with a representation of", "against", options, "", width=520)
    return next((a for a in theirs if a.id == chosen), None)


def _whole_title(study: Study, scores: Artifact) -> str:
    cohort = study.parent(scores, "cohort")
    return f"{studies.cohort_title(cohort) if cohort else '?'} · {studies.title(study.artifacts, scores)}"


def two_titles(study: Study, scores: Artifact, other: Artifact) -> tuple[str, str]:
    """How both sides are called; with their studies where these are two."""
    if scores.parents.get("cohort") != other.parents.get("cohort"):
        return _whole_title(study, scores), _whole_title(study, other)
    return studies.title(study.artifacts, scores), studies.title(study.artifacts, other)


def shift(study: Study, scores: Artifact, other: Artifact) -> None:
    """Mean entropies of both (all neurons, and those with max |rho| > 0.2), their difference, and their nulls."""
    first, second = queries.summary(study.reader, scores), queries.summary(study.reader, other)
    beside = [_beside(study, one) for one in (scores, other)]
    items: list[tuple[str, str, str]] = []
    for key, strong, name in (
        ("mean_entropy", False, "all defined neurons"),
        ("mean_entropy_strong", True, "max |ρ| > 0.2"),
    ):
        d = queries.difference(study.reader, scores, other, strong)
        pair = f"{format.scaled(first.get(key), study.scale)} against {format.scaled(second.get(key), study.scale)}"
        value = None if d.value is None else d.value * study.scale
        items.append(
            (
                f"{format.signed(value)} {study.unit_name}",
                f"{name}: {pair}\n{look.difference(d, study.scale)}"
                + _untrained([format.scaled(s.get(key), study.scale) if s else None for s in beside]),
                "",
            )
        )
    for key, name in (("selective_share", "selective neurons"), ("median_max_rho", "median strongest |ρ|")):
        a, b = first.get(key), second.get(key)
        show = format.percent if key == "selective_share" else format.number
        both = f"{show(a.value if a else None)} / {show(b.value if b else None)}"
        control = _untrained([show(s[key].value if key in s else None) if s else None for s in beside])
        items.append((both, f"{name}\n{' / '.join(_short(study, scores, other))}{control}", ""))
    studies.figures(items)


def _short(study: Study, scores: Artifact, other: Artifact) -> tuple[str, str]:
    return studies.short_titles(study) if other is study.versus else two_titles(study, scores, other)


def _beside(study: Study, scores: Artifact) -> dict[str, queries.Measure] | None:
    """The measures of the untrained control of these scores; None where it was not scored alike."""
    control = trained.control(study.artifacts, scores)
    return queries.summary(study.reader, control) if control else None


def _untrained(values: list[str | None]) -> str:
    """A line with what the untrained controls have; nothing where there is none."""
    if not any(values):
        return ""
    return f"\nuntrained control {' / '.join(value or format.NOTHING for value in values)}"


def best_neurons(study: Study, scores: Artifact, other: Artifact) -> None:
    """Per label the AUROC of the best neuron of both, measured on the half of patients it was not chosen on."""
    look.section("Best neuron of each label", "AUROC on the other half of the patients")
    frame = queries.best_of_labels(study.reader, scores).merge(
        queries.best_of_labels(study.reader, other), on="label", suffixes=("", "_other")
    )
    frame = frame[frame["auroc_other_half"].notna() & frame["auroc_other_half_other"].notna()]
    few = frame["label"].isin([*study.scarce, *queries.scarce_labels(study.reader, other, links.least())])
    if few.any():
        st.caption(look.literal(f"Left out, too few images: {', '.join(sorted(frame['label'][few]))}."))
    frame = frame[~few]
    if frame.empty:
        look.empty("No label to compare by", "No label has enough images, and an AUROC, on both sides.")
        return
    charts.show(
        charts.pairs(
            frame,
            ("auroc_other_half", "auroc_other_half_other"),
            two_titles(study, scores, other),
            studies.colours(study, other),
        ),
        "best-of-labels",
        "AUROC of the best neuron of each label in both representations",
    )


def matched(study: Study, scores: Artifact, other: Artifact) -> None:
    """Each neuron's closest neuron in the other representation, by correlation of activations; entropy over entropy."""
    look.section(
        "Matched neurons", "each with the other side's neuron that goes with it most; a point opens the neuron"
    )
    if scores.parents.get("cohort") != other.parents.get("cohort"):
        look.empty(
            "Not between two studies",
            "Neurons are matched by their activations on the same images, and these two have none in common.",
        )
        return
    mine, theirs = study.parent(scores, "embeddings"), study.parent(other, "embeddings")
    if mine is None or theirs is None:
        look.empty("Nothing to match by", "The embeddings that these scores were made from are not here.")
        return
    for side, embeddings in ((scores, mine), (other, theirs)):
        if studies.is_raw(side) and not embeddings.has("x.npy"):
            look.empty(
                "Matches are not available",
                f"A neuron of a raw embedding is matched by its numbers on every image, and {embeddings.id} is here "
                "without them (x.npy).",
            )
            return
    key = (scores.id, other.id, scores.manifest["created"], other.manifest["created"])
    try:
        frame = _matches(study.reader, scores, other, (mine, theirs), key)
    except UserError as error:
        look.empty("Nothing to match by", f"{error.what}; {error.do}.")
        return
    if frame.empty:
        look.empty("No neuron has a match", "The two were scored on different images.")
        return
    shown = frame[frame["entropy"].notna() & frame["other_entropy"].notna()].head(3000)
    shown = shown.assign(
        x=shown["entropy"] * study.scale,
        y=shown["other_entropy"] * study.scale,
        text=[
            f"{r['neuron']} ~ {r['other']}: ρ {r['rho']:+.2f}<br>{r['top_label']} / {r['other_label']}"
            for r in shown.to_dict("records")
        ],
    )
    st.caption(
        f"Pearson correlation of activations over {format.count(frame['n'].iloc[0])} images: "
        f"{(frame['rho'].abs() >= 0.7).sum():,} of {len(frame):,} firing neurons have a match with |ρ| at least 0.7; "
        f"median |ρ| {frame['rho'].abs().median():.2f}."
    )
    closer = format.percent((shown["x"] < shown["y"]).mean(), 0)
    st.caption(
        "How to read it: a point is one neuron here and its match over there; on the diagonal both are about equally "
        f"many labels. Below it the match is about fewer, above it the neuron here: so it is for {closer} of these."
    )
    titles = (f"entropy here ({study.unit_name})", f"entropy of the match ({study.unit_name})")
    event = charts.show(
        charts.scatter(shown, "x", "y", "text", look.SAE, titles),
        f"matched-{links.clicks()}",
        "Entropy of matched neurons",
        on_select="rerun",
        selection_mode=["points"],
    )
    export.menu({"Matched neurons": lambda: frame}, f"{scores.id} · {other.id}", label="Export matches")
    point = charts.clicked(event)
    if point:
        links.go(links.url("neuron", neuron=int(point[0])))


@st.cache_resource(show_spinner="Matching neurons …", max_entries=8)
def _matches(
    _reader: Reader,
    _first: Artifact,
    _second: Artifact,
    _embeddings: tuple[Artifact, Artifact],
    key: tuple[str, str, float, float],
) -> Frame:
    from medsae.store import matching  # scipy: not before somebody compares

    return matching.matches(_reader, _first, _second, _embeddings)


def located(study: Study, scores: Artifact, other: Artifact | None) -> None:
    """Whether neurons of both sides, of their untrained controls and of tokens look where the findings are."""
    sides = [_titled(study, scores), *([_titled(study, other)] if other else [])]
    control = trained.control(study.artifacts, scores)
    sides += [("untrained control", control)] if control else []
    tokens = [
        a for a in study.artifacts if a.kind == "scores" and a.facts.get("tokens")
        and a.parents.get("cohort") == scores.parents.get("cohort") and a.facts.get("representation") == "sae"
    ]  # fmt: skip
    if tokens and not any(s.facts.get("tokens") for _, s in sides):
        sides.append(_titled(study, tokens[0]))
    located_parts.compared(study, sides)


def _titled(study: Study, scores: Artifact) -> tuple[str, Artifact]:
    return studies.title(study.artifacts, scores), scores


def all_saes(study: Study, cohort: Artifact) -> Frame:
    """One row a scored SAE of the cohort: its settings, L0, FVE, silent, entropy, selective."""
    mine = [a for a in study.artifacts if a.kind == "scores" and a.parents.get("cohort") == cohort.id]
    mine = [a for a in mine if not studies.is_raw(a)]
    titles = studies.titles(study.artifacts, mine)
    rows = []
    for scores in mine:
        sae = study.parent(scores, "sae")
        if sae is None:
            continue
        summary = queries.summary(study.reader, scores)
        facts = sae.facts

        def value(name: str, summary: dict[str, queries.Measure] = summary) -> float | None:
            return summary[name].value if name in summary else None

        rows.append(
            {
                "scores": scores.id,
                "sae": titles[scores.id],
                "kind": facts.get("kind"),
                "neurons": facts.get("m"),
                "l1": facts.get("l1"),
                "k": facts.get("k"),
                "expansion": facts.get("expansion"),
                "seed": facts.get("seed"),
                "active": value("active_neurons"),
                "fve": facts.get("fve"),
                "silent": value("dead_share"),
                "entropy_bits": value("mean_entropy"),
                "null_bits": value("null_mean_entropy"),
                "selective": value("selective_share"),
                "trained_on": found.text if (found := trained.trained_on(study.artifacts, scores)) else "",
            }
        )
    return pd.DataFrame(rows)


def _settings(row: dict[str, Any]) -> str:
    """A few words that tell an SAE from the others of its plot: `topk 16 × 4`."""
    size = next((row[name] for name in ("k", "l1") if not format.missing(row[name])), None)
    words = [str(row["kind"] or ""), "" if size is None else f"{size:g}"]
    return " ".join(filter(None, words)) + f" × {row['expansion'] or '?'}"


def pareto(study: Study, frame: Frame) -> None:
    """FVE over L0 of every SAE, the one that is looked at among them, and the table behind it."""
    assert study.scores is not None
    points = frame.assign(
        text=[
            f"{escape(r['sae'])}<br>L0 {format.number(r['active'], 1)} · FVE {format.number(r['fve'], 3)}"
            for r in frame.to_dict("records")
        ],
        here=frame["scores"] == study.scores.id,
        label=[format.shortened(_settings(r), 22) for r in frame.to_dict("records")],
    )
    left, right = st.columns([2, 3], gap="medium")
    with left:
        event = charts.show(
            charts.pareto(points),
            f"pareto-{links.clicks()}",
            "FVE over L0 of every SAE",
            on_select="rerun",
            selection_mode=["points"],
        )
    with right:
        rows = [
            [
                look.link(r["sae"], links.url("overview", (), scores=r["scores"])),
                format.count(r["neurons"]),
                format.number(r["active"], 1),
                format.number(r["fve"], 3),
                format.percent(r["silent"]),
                f"{format.number(r['entropy_bits'])} <span class=ms-soft>({format.number(r['null_bits'])})</span>",
                format.percent(r["selective"]),
                format.escape(r["trained_on"]),
            ]
            for r in frame.to_dict("records")
        ]
        columns = [("SAE", False), ("neurons", True), ("L0", True), ("FVE", True), ("silent", True)]
        st.html(look.table([*columns, ("bits (null)", True), ("selective", True), ("trained on", False)], rows))
    point = charts.clicked(event)
    if point:
        links.go(links.url("overview", (), scores=point[0]))
