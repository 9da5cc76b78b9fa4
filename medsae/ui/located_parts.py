"""Whether neurons look where the finding is: on Neuron, Overview and Compare."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from medsae.store import maps, queries
from medsae.store.artifacts import Artifact
from medsae.ui import export, format, links, look
from medsae.ui.study import Study


def localisation(study: Study, scores: Artifact, neuron: int) -> None:
    """Whether a neuron looks where the finding is that it tells best, and whether its maps are what it rests on;
    nothing where neither was asked of it."""
    rows, deleted = maps.localisation(study.reader, scores, neuron), maps.deletion(study.reader, scores, neuron)
    if not len(rows) and deleted is None:
        return
    with st.container(border=True):
        if len(rows):
            _localisation(study, scores, rows)
        if deleted is not None:
            _deletion(deleted)


def _localisation(study: Study, scores: Artifact, rows: Any) -> None:
    look.section("Does it look where the finding is?", f"strongest cell inside the {_mask(rows)}, other patients")
    st.html(table(rows.to_dict("records"), ("finding",)))
    nowhere = _nowhere(study, scores, set(rows["finding"]))
    if nowhere:
        st.caption(look.literal(
            f"This encoder does not look there: {', '.join(map(format.fact, nowhere))}. Neither this neuron nor the "
            "best raw neuron or random direction hits more often than another neuron that fires on the same picture."
        ))  # fmt: skip
    st.caption(
        "Exchanged: the same maps on other pictures of the finding; where that is as high, the map knows the usual "
        "place and not this picture. Another neuron: any other neuron that fires on the same picture. Usual place: the "
        "mean mask of other patients, which knows the truth but not the picture."
    )


def _mask(rows: Any) -> str:
    return "planted mask" if (rows["source"] == "planted").all() else "readers' boxes or masks"


def _nowhere(study: Study, scores: Artifact, findings: set[str]) -> list[str]:
    """Findings at which no representation of this encoder looks."""
    every = maps.localisation(study.reader, scores)
    found = maps.encoder_verdicts(every[every["finding"].isin(findings)])
    return sorted(f for f, verdict in found.items() if verdict == "no")


def _deletion(row: dict[str, Any]) -> None:
    look.section("Does its value fall when that part is replaced?", "an eighth of the picture, filled with the mean of "
                 "pictures on which it is silent")  # fmt: skip
    if format.missing(row["fall"]):
        st.caption(look.literal(f"Not known: {row['reason']}."))
        return
    ends = f"{format.percent(row['low'], 0)} to {format.percent(row['high'], 0)}"
    more = f"{100 * row['minus_low']:+.0f} to {100 * row['minus_high']:+.0f}".replace("-", "−")
    look.figures([
        (format.percent(row["fall"], 0), f"fall, its own map's region\n{ends}, {int(row['n'])} pictures", ""),
        (format.percent(row["other"], 0), "another neuron's region", ""),
        (format.percent(row["random"], 0), "a region at random", ""),
        (f"{100 * row['minus_other']:+.0f} points".replace("-", "−"), f"more than another neuron's\n95 % {more}", ""),
    ])  # fmt: skip


def table(rows: list[dict[str, Any]], names: tuple[str, ...]) -> str:
    """HTML of rows of the table `localisation`."""
    columns = [*((name, False) for name in names), ("pictures", True), ("inside", True), ("exchanged", True)]
    columns += [("another neuron", True), ("usual place", True), ("area", True)]
    cells = []
    for row in rows:
        if format.missing(row["hit"]):
            numbers = [format.NOTHING] * 5
        else:
            ends = f"{format.percent(row['low'], 0)} to {format.percent(row['high'], 0)}"
            numbers = [
                f'{format.percent(row["hit"], 0)} <span class="ms-soft">{ends}</span>',
                f'{format.percent(row["exchanged"], 0)} <span class="ms-soft">p {_small(row["p"])}</span>',
                *(format.percent(row[k], 0) for k in ("place", "mean_mask", "area")),
            ]
        first = [format.escape(format.fact(str(row[name]))) for name in names]
        first[0] += _said(maps.VERDICTS[str(row["verdict"])])
        cells.append([*first, format.count(row["n"]), *numbers])
    return look.table(columns, cells)


def _small(p: float) -> str:
    return "< 0.001" if p <= 0.001 else f"{p:.3f}"


def overview(study: Study, scores: Artifact) -> None:
    """Which findings neurons look at, in three lines by rule; nothing where nothing was planted or marked."""
    rows = maps.localisation(study.reader, scores)
    if not len(rows):
        return
    rows = rows[~rows["finding"].str.contains(":", regex=False) | (rows["source"] != "planted")]
    found = maps.encoder_verdicts(rows)
    own = rows[(rows["representation"] == scores.facts.get("representation")) & rows["hit"].notna()]
    with st.container(border=True):
        look.section("Do neurons look where the finding is?", f"strongest cell inside the {_mask(rows)}")
        lines = [
            [f"<b>{word}</b>", format.escape(", ".join(format.fact(f) for f, v in found.items() if v == verdict))]
            for verdict, word in maps.VERDICTS.items() if verdict in found.values()
        ]  # fmt: skip
        st.html(look.table([("", False), ("", False)], lines))
        if len(own):
            inside, beside = (format.percent(own[k].mean(), 0) for k in ("hit", "place"))
            st.caption(
                f"Best neuron of each finding, other patients than chose it: {inside} of pictures on average; another "
                f"neuron that fires there {beside}. By finding, beside raw and random directions: on Compare."
            )


REPRESENTATIONS = {"sae": "SAE", "raw": "raw", "random": "random direction"}
"""Whose best neuron a row of `localisation` is of."""


def compared(study: Study, sides: list[tuple[str, Artifact]]) -> None:
    """Hit rates of every finding, one column a representation: the best neurons of the SAE, of raw, of random
    directions, and of other scores (title, scores): tokens, the untrained control. Nothing where no side was judged."""
    columns = _columns(study, sides)
    if not columns:
        return
    with st.container(border=True):
        who = maps.who_marked(study.reader, study.cohort) if study.cohort else ""
        inside = "the planted mask" if who == "planted" else "what readers marked"
        look.section("Do neurons look where the finding is?", f"pictures whose strongest cell lies inside {inside}")
        parts = links.switch("Sides and lobes apart", "parts", False)
        wide = pd.DataFrame({name: rows.set_index("finding")["hit"] for name, rows in columns.items()})
        wide = wide if parts else wide[~wide.index.str.contains(":", regex=False)]
        st.html(look.table([("finding", False), *((c, True) for c in columns), ("another neuron", True),
                            ("usual place", True)], _compared_rows(wide, columns)))  # fmt: skip
        st.caption(
            "Means are over the findings that every column has. Another neuron, usual place: of the first column. Does "
            "not look there: no column hits more often than another neuron that fires on the same picture."
        )
        _deletions(study, sides)
        export.menu({"Localisation": lambda: pd.concat([r.assign(column=c) for c, r in columns.items()])},
                    " · ".join(a.id for _, a in sides))  # fmt: skip


_DELETION = {
    "deletion_fall": "its own map's region",
    "deletion_other": "another neuron's region",
    "deletion_random": "a region at random",
    "deletion_minus_other": "own minus another's",
}


def _deletions(study: Study, sides: list[tuple[str, Artifact]]) -> None:
    """How much values fall when parts of pictures are replaced, over neurons drawn by chance; of sides that know."""
    known = {title: queries.summary(study.reader, scores) for title, scores in sides}
    known = {title: found for title, found in known.items() if "deletion_fall" in found}
    if not known:
        return
    look.section("Does the value fall when that part is replaced?", "an eighth of the picture; neurons drawn by chance")
    rows = [
        [words, *(_share(found.get(measure)) for found in known.values())] for measure, words in _DELETION.items()
    ]  # fmt: skip
    st.html(look.table([("replaced", False), *((title, True) for title in known)], rows))


def _share(measure: queries.Measure | None) -> str:
    """A share with its interval in per cent."""
    if measure is None or measure.value is None:
        return format.NOTHING
    ends = format.interval(measure.low, measure.high, 0, 100.0)
    return f'{format.percent(measure.value, 0)} <span class="ms-soft">{ends}</span>'


def _columns(study: Study, sides: list[tuple[str, Artifact]]) -> dict[str, Any]:
    """Heading -> rows of `localisation` with one representation each."""
    columns: dict[str, Any] = {}
    for title, scores in sides:
        rows = maps.localisation(study.reader, scores)
        for representation, name in REPRESENTATIONS.items():
            mine = rows[rows["representation"] == representation] if len(rows) else rows
            own = representation == str(scores.facts.get("representation")) and representation != "raw"
            heading = f"{name}, tokens" if scores.facts.get("tokens") else title if own else name
            if len(mine) and heading not in columns:
                columns[heading] = mine
    return columns


def _compared_rows(wide: Any, columns: dict[str, Any]) -> list[list[str]]:
    first = next(iter(columns.values())).set_index("finding")
    verdicts = maps.encoder_verdicts(pd.concat(list(columns.values())))
    both = wide.dropna()
    means = [*both.mean()], [first.loc[both.index, k].mean() for k in ("place", "mean_mask")]
    name = f"<b>mean</b>{_said(format.plural(len(both), 'finding'))}"
    rows = [[name, *(f"<b>{_percent(v)}</b>" for v in means[0]), *map(_percent, means[1])]]
    for finding, hits in wide.iterrows():
        beside = [first[k].get(finding) for k in ("place", "mean_mask")]
        name = format.escape(format.fact(str(finding))) + _said(maps.VERDICTS[verdicts[str(finding)]])
        rows.append([name, *(_percent(v) for v in (*hits, *beside))])
    return rows


def _said(text: str) -> str:
    return f'<br><span class="ms-soft">{format.escape(text)}</span>'


def _percent(value: Any) -> str:
    return format.NOTHING if format.missing(value) else format.percent(float(value), 0)
