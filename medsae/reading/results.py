"""What a reading came to: one row an answer, each reader beside the model, agreement, time, and words for a paper."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medsae.reading import agreement
from medsae.reading.agreement import Number
from medsae.reading.plan import Reading, Standing, items_of

MODEL = "model"
"""The name of the model's column beside the readers'."""
LONGEST_SECONDS = 300.0
"""An answer that took longer had an interruption in it: its time is left out of the times, not its answer."""
COLUMNS = ("reader", "task", "neuron", "about", "name", "image", "patient", "fires", "said", "yes", "right", "seconds",
           "time", "model")  # fmt: skip

Stands = Mapping[str, Standing]
"""reader -> how the reader stands."""


def answers(reading: Reading, stands: Stands) -> pd.DataFrame:
    """One row an answer that counts, columns COLUMNS: `name` is the task's, or what the reader gave; `yes` 1, 0 or NaN
    (cannot tell), `right` whether it says what the neuron does, `model` the model's verdict (1, 0, NaN)."""
    rows = []
    for reader, standing in stands.items():
        for (task, image), answer in standing.answers.items():
            if task >= len(reading.tasks):
                continue
            asked = reading.tasks[task]
            shown = next((s for s in asked.images if s.image == image), None)
            if shown is None:
                continue
            yes = {"yes": 1.0, "no": 0.0}.get(answer.said, np.nan)
            right = np.nan if np.isnan(yes) else float(bool(yes) == shown.fires)
            model = np.nan if shown.model is None else float(shown.model)
            name = asked.concept or standing.names.get(task, "")
            rows.append((reader, task, asked.neuron, asked.about, name, image, shown.patient, shown.fires, answer.said,
                         yes, right, answer.seconds, answer.time, model))  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype({"yes": float, "right": float, "seconds": float, "model": float, "fires": bool})


@dataclass(frozen=True)
class OfReader:
    """One reader (or the model) under one kind of name."""

    reader: str
    about: str
    done: int
    total: int
    unsure: int
    accuracy: Number
    model: Number
    """The model on the images that this reader answered."""
    difference: Number
    """The reader's accuracy minus the model's, on the images that both answered."""
    seconds: float | None
    """Median of an answer."""
    names: int
    """Names that the reader gave."""


def readers(reading: Reading, stands: Stands) -> list[OfReader]:
    """Every reader, and under each kind of name that was read."""
    frame = answers(reading, stands)
    found = []
    for reader in stands:
        items = items_of(reading, reader)
        for about in dict.fromkeys(task.about for task in reading.tasks):
            total = sum(reading.tasks[task].about == about for task, _ in items)
            mine = frame[(frame["reader"] == reader) & (frame["about"] == about)]
            found.append(_of(reader, about, total, mine, len(stands[reader].names)))
    return found


def _of(reader: str, about: str, total: int, mine: pd.DataFrame, names: int) -> OfReader:
    fires, yes = mine["fires"].to_numpy(bool), mine["yes"].to_numpy(float)
    model, patient = mine["model"].to_numpy(float), mine["patient"].to_numpy(int)
    usual = mine["seconds"][(mine["seconds"] > 0) & (mine["seconds"] <= LONGEST_SECONDS)]
    answered = np.where(np.isfinite(yes), model, np.nan)
    return OfReader(
        reader, about, len(mine), total, int(np.isnan(yes).sum()), agreement.accuracy(fires, yes),
        agreement.accuracy(fires, answered), agreement.difference(fires, yes, model, patient),
        float(usual.median()) if len(usual) else None, names if about == "none" else 0,
    )  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """Agreement of the readers, and of each pair (the model among them)."""

    alpha: Number
    kappas: dict[tuple[str, str], Number]


def agree(reading: Reading, stands: Stands) -> Agreement | None:
    """Krippendorff's alpha over readers and Cohen's kappa of each pair, over all tasks whose name was given; None where
    readers gave the names themselves, as each then answered another question."""
    if reading.names == "none":
        return None
    frame = answers(reading, stands)
    wide = frame.pivot_table(index=["task", "image", "patient"], columns="reader", values="yes", dropna=False)
    wide = wide.reindex(columns=list(stands)).dropna(how="all")
    patient = wide.index.get_level_values("patient").to_numpy(int)
    known = frame.drop_duplicates(["task", "image"]).set_index(["task", "image"])["model"]
    model = known.reindex(wide.index.droplevel("patient")).to_numpy(float)
    columns = {reader: wide[reader].to_numpy(float) for reader in stands}
    alpha = agreement.alpha(np.array(list(columns.values())).reshape(len(columns), len(wide)), patient)
    if np.isfinite(model).any():
        columns[MODEL] = model
    pairs = itertools.combinations(columns, 2)
    return Agreement(alpha, {(a, b): agreement.kappa(columns[a], columns[b], patient) for a, b in pairs})


def disagreements(reading: Reading, stands: Stands) -> pd.DataFrame:
    """task, neuron, name, image, fires, yes (readers who said so), no: images on which readers differ, most divided
    first."""
    frame = answers(reading, stands)
    keys = ["task", "neuron", "name", "image", "fires"]
    said = frame[frame["said"] != "unsure"].pivot_table(
        index=keys, columns="said", values="reader", aggfunc=lambda names: ", ".join(sorted(names)), observed=True
    )
    said = said.reindex(columns=["yes", "no"]).dropna().reset_index()
    divided = [-min(row.yes.count(","), row.no.count(",")) for row in said.itertuples()]
    return (
        said.assign(divided=divided)
        .sort_values(["divided", "task", "image"], ignore_index=True)
        .drop(columns="divided")
    )


def methods(reading: Reading, stands: Stands) -> str:
    """A paragraph for the methods of a paper, with every number that was chosen."""
    tasks = reading.tasks
    neurons = len({task.neuron for task in tasks})
    sides = [(sum(s.fires for s in t.images), sum(not s.fires for s in t.images)) for t in tasks]
    firing, silent = (sorted({side[k] for side in sides}) for k in (0, 1))
    question = {
        "own": "the model's name of the neuron was shown",
        "rival": "the model's name and another neuron's name were shown in separate, unmarked tasks",
        "readers": "names that other readers had given and the model's name were shown in separate, unmarked tasks",
        "none": "the reader first named the neuron from images on which it fires, and was then asked about that name",
    }[reading.names]
    who = (f"Each neuron was assigned to {reading.each} of {len(reading.readers)} readers" if reading.readers
           else f"{len(stands)} reader{'s' if len(stands) != 1 else ''} read every neuron")  # fmt: skip
    beside = f" The same images had been judged by {reading.judge}." if reading.judge else ""
    return (
        f"{neurons} neurons were read. For each, {_several(firing)} images on which it fires and {_several(silent)} on "
        f"which it does not, of different patients, were shown one by one in random order; {question}, and readers "
        "answered whether the image shows it (yes, no, cannot tell). Readers were blind to activations, to the "
        f"model's verdicts and to each other. {who}.{beside} Accuracy is balanced (mean of the shares of firing and of "
        "silent images answered right), with Wilson's 95 % interval; images that a reader could not tell are left out "
        "and counted. Differences from the model are on the same images; their intervals, and those of Krippendorff's "
        f"alpha (nominal) and Cohen's kappa, are bootstrap intervals over patients ({agreement.DRAWS:,} draws). "
        f"Reading {reading.id}, seed {reading.seed}, scores {reading.scores}."
    )


def _several(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
