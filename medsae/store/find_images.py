"""Which images of a cohort: by label, attribute, view, sex, age, split, and by the neurons that fire on them.

A `Search` is what a link of the page Images says; `find` answers it with one page of image numbers and their total.
Conditions are joined by AND. Everything is one query over the artifacts' own tables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import pandas as pd

from medsae.store.artifacts import Artifact
from medsae.store.entropies import has
from medsae.store.reader import Frame, Reader

State: TypeAlias = Literal["present", "absent", "uncertain", "unstated"]
STATES: dict[str, int | None] = {"present": 1, "absent": 0, "uncertain": -1, "unstated": None}
Order: TypeAlias = Literal["number", "strongest", "youngest", "oldest", "random"]
ORDERS: dict[str, str] = {
    "number": "image",
    "strongest": "strength DESC, image",
    "youngest": "age ASC NULLS LAST, image",
    "oldest": "age DESC NULLS LAST, image",
    "random": "hash(image::BIGINT * 8191 + 17), image",
}
MOST_VALUES = 200
"""Values of an attribute that are offered to choose from; one with more is searched by its text."""
FEW_VALUES = 12
"""An attribute of numbers with at most so many different ones is chosen from, not asked for as a range."""


@dataclass(frozen=True)
class Attribute:
    """One kept column of the cohort's source: `number` has a range, `category` values (commonest first), `text` is
    searched."""

    name: str
    kind: Literal["number", "category", "text"]
    values: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Search:
    """What an image must be. Empty and None ask nothing; bounds are inclusive."""

    labels: tuple[tuple[str, State], ...] = ()
    attribute: str | None = None
    value: str | None = None
    """The attribute's value; of one of kind text, a part of it in any case."""
    attribute_low: float | None = None
    attribute_high: float | None = None
    attribute_kind: Literal["number", "category", "text"] = "category"
    view: str | None = None
    sex: str | None = None
    age_low: float | None = None
    age_high: float | None = None
    split: str | None = None
    scored: bool = False
    """Only images that the scores were taken over."""
    neurons: tuple[int, ...] | None = None
    """At least one of these neurons fires; None asks nothing, and no neuron at all finds nothing."""
    order: Order = "number"


@dataclass(frozen=True)
class Found:
    """One page of an answer: `rows` has image and strength (largest share of its own maximum that one of the asked
    neurons reaches on the image; NULL where none was asked), and the neuron that reaches it."""

    rows: Frame
    total: int


def find(reader: Reader, scores: Artifact, cohort: Artifact, search: Search, limit: int = 48, offset: int = 0) -> Found:
    """One page of the images that pass, in the order that was asked for.

    Of a dense representation only the stored extremes of a neuron are known, so `neurons` finds among those.
    """
    fires, join = _fires(search)
    images, rest, values = _images(search)
    where, asked = _where(rest)
    values += asked
    order = ORDERS["number" if search.order == "strongest" and search.neurons is None else search.order]
    where = f"{'neuron IS NOT NULL AND ' if search.neurons is not None else ''}{where}"
    ask: Any = dict(s=scores, c=cohort)
    source = f"FROM {images} {join} WHERE {where}"
    shown = "strength, neuron" if join else "NULL::DOUBLE AS strength, NULL::INTEGER AS neuron"
    # Where all are found they are counted apart: a window over every image would be most of the time.
    plain = not join and where == "TRUE"
    total = f"(SELECT count(*) FROM {images})" if plain else "count(*) OVER ()"
    rows = reader.query(
        f"{fires} SELECT image, {shown}, {total} AS total {source} "
        f"ORDER BY {order} LIMIT {int(limit)} OFFSET {int(offset)}",
        values * 2 if plain else values, **ask,
    )  # fmt: skip
    if len(rows) or not offset:
        return Found(rows.drop(columns="total"), int(rows["total"].iloc[0]) if len(rows) else 0)
    beyond = reader.query(f"{fires} SELECT count(*) AS n {source}", values, **ask)["n"][0]
    return Found(rows.drop(columns="total"), int(beyond))


def _images(search: Search) -> tuple[str, Search, list[Any]]:
    """Where image numbers come from, what is left to ask of them, and parameters: where nothing of the table `image` is
    asked they are those of a stated label, which lie together, and not every image is asked whether it is one."""
    of_table = (search.view, search.sex, search.age_low, search.age_high, search.split)
    stated = [label for label in search.labels if STATES[label[1]] is not None]
    if not stated or search.order in ("youngest", "oldest") or any(asked is not None for asked in of_table):
        return "{c}.image", search, []
    label, state = stated[0]
    rest = tuple(one for one in search.labels if one != stated[0])
    images = f"(SELECT image FROM {{c}}.label WHERE label = ? AND value = {STATES[state]})"
    return images, replace(search, labels=rest), [label]


def _fires(search: Search) -> tuple[str, str]:
    """WITH and JOIN of the images on which the asked neurons fire."""
    if search.neurons is None:
        return "", ""
    numbers = ", ".join(str(int(n)) for n in search.neurons) or "-1"
    fires = f"""WITH top AS (SELECT neuron, max FROM {{s}}.neuron WHERE neuron IN ({numbers}) AND max > 0),
        fires AS (SELECT image, least(1.0, max(value / max)) AS strength, arg_max(neuron, value / max) AS neuron
                  FROM {{s}}.activation JOIN top USING (neuron)
                  WHERE neuron IN ({numbers}) AND value > 0 GROUP BY image)"""
    return fires, "JOIN fires USING (image)"


def _where(search: Search) -> tuple[str, list[Any]]:
    """SQL condition over `image` and its parameters."""
    parts: list[str] = []
    values: list[Any] = []

    def add(part: str, *given: Any) -> None:
        parts.append(part)
        values.extend(given)

    for label, state in search.labels:
        known = "SELECT image FROM {c}.label WHERE label = ? AND value"
        if STATES[state] is None:
            add(f"image NOT IN ({known} IS NOT NULL)", label)
        else:
            add(f"image IN ({known} = {STATES[state]})", label)
    for test, value in (("view = ?", search.view), ("sex = ?", search.sex), ("age >= ?", search.age_low),
                        ("age <= ?", search.age_high)):  # fmt: skip
        if value is not None:
            add(test, value)
    if search.split == "evaluation set":
        add("evaluation")
    elif search.split is not None:
        add("split = ?", search.split)
    if search.scored:
        add("image IN (SELECT image FROM {s}.scored)")
    if search.attribute is not None:
        _attribute(search, add)
    return " AND ".join(parts) or "TRUE", values


def _attribute(search: Search, add: Any) -> None:
    of = "image IN (SELECT image FROM {c}.attribute WHERE attribute = ? AND "
    if search.attribute_kind == "number":
        if search.attribute_low is not None:
            add(of + "try_cast(value AS DOUBLE) >= ?)", search.attribute, search.attribute_low)
        if search.attribute_high is not None:
            add(of + "try_cast(value AS DOUBLE) <= ?)", search.attribute, search.attribute_high)
    elif search.value is not None and search.attribute_kind == "text":
        add(of + "contains(lower(value), lower(?)))", search.attribute, search.value)
    elif search.value is not None:
        add(of + "value = ?)", search.attribute, search.value)


def attributes(reader: Reader, cohort: Artifact) -> list[str]:
    """Names of the kept columns, planted factors included, in the order of the source where it is known."""
    order = "first(position)" if has(reader, cohort, "attribute_name") else "NULL"
    join = "LEFT JOIN {c}.attribute_name USING (attribute)" if has(reader, cohort, "attribute_name") else ""
    frame = reader.query(
        f"SELECT attribute FROM (SELECT DISTINCT attribute FROM {{c}}.attribute) {join} "
        f"GROUP BY 1 ORDER BY {order} NULLS LAST, attribute",
        c=cohort,
    )
    return [str(name) for name in frame["attribute"]]


def attribute(reader: Reader, cohort: Artifact, name: str) -> Attribute:
    """What can be asked of one kept column: its kind as ingest understood it, else as its values tell."""
    row = reader.query(
        """SELECT count(DISTINCT value) AS n, count(value) AS filled, count(try_cast(value AS DOUBLE)) AS numbers,
                  min(try_cast(value AS DOUBLE)) AS low, max(try_cast(value AS DOUBLE)) AS high
           FROM {c}.attribute WHERE attribute = ?""",
        [name], c=cohort,
    ).iloc[0]  # fmt: skip
    said = ""
    if has(reader, cohort, "attribute_name"):
        types = reader.query("SELECT type FROM {c}.attribute_name WHERE attribute = ?", [name], c=cohort)["type"]
        said = str(types.iloc[0]) if len(types) else ""
    numbers = row["filled"] > 0 and row["numbers"] == row["filled"] and said in ("", "number")
    if numbers and row["n"] > FEW_VALUES:
        return Attribute(name, "number", low=float(row["low"]), high=float(row["high"]))
    if row["n"] > MOST_VALUES or said in ("text", "date"):
        return Attribute(name, "text")
    values = reader.query(
        """SELECT value FROM {c}.attribute WHERE attribute = ? AND value IS NOT NULL
           GROUP BY 1 ORDER BY count(*) DESC, 1""",
        [name], c=cohort,
    )  # fmt: skip
    return Attribute(name, "category", tuple(str(v) for v in values["value"]))


@dataclass(frozen=True)
class Choices:
    """What there is to choose from in a cohort; ages in years, None where none is known."""

    views: tuple[str, ...]
    sexes: tuple[str, ...]
    splits: tuple[str, ...]
    age_low: float | None
    age_high: float | None


def choices(reader: Reader, cohort: Artifact) -> Choices:
    """Views, sexes and splits of a cohort (commonest first), and its youngest and oldest."""

    def of(column: str) -> tuple[str, ...]:
        frame = reader.query(
            f"SELECT {column} AS v FROM {{c}}.image WHERE {column} IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC, 1",
            c=cohort,
        )
        return tuple(str(v) for v in frame["v"])

    row = reader.query("SELECT min(age) AS low, max(age) AS high FROM {c}.image", c=cohort).iloc[0]
    low, high = (None if pd.isna(row[k]) else float(row[k]) for k in ("low", "high"))
    return Choices(of("view"), of("sex"), of("split"), low, high)


def neurons_of_label_text(reader: Reader, scores: Artifact, text: str) -> set[int]:
    """Selective neurons whose label has `text` in it, in any case."""
    frame = reader.query(
        "SELECT neuron FROM {s}.neuron WHERE selective AND contains(lower(selective_label), lower(?))", [text],
        s=scores,
    )  # fmt: skip
    return {int(n) for n in frame["neuron"]}
