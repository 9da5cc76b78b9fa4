"""What is read: tasks of one name and its images, who reads which, in which order; and how a reader stands.

A task is one name (or none: the reader gives it) and the images it is tested on. Its own name and a rival's are two
tasks, which a reader cannot tell apart. Nothing here knows files; `store.readings` keeps plans and answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, cast

import numpy as np

from medsae.progress import UserError

About: TypeAlias = Literal["own", "rival", "none", "readers"]
"""Whose name: the model's, another neuron's, the reader's own, or one that a reader gave in an earlier reading."""
ABOUTS: tuple[About, ...] = ("own", "rival", "none", "readers")
Said: TypeAlias = Literal["yes", "no", "unsure"]
SAID: tuple[Said, ...] = ("yes", "no", "unsure")
Item: TypeAlias = tuple[int, int]
"""Task and image."""
LONGEST_NAME = 200
"""Characters of a name that a reader gives."""


@dataclass(frozen=True)
class Shown:
    """One image of a task and what is known of it, none of which a reader sees."""

    image: int
    fires: bool
    patient: int
    """Equal for images of one patient, within a reading."""
    model: bool | None = None
    """The model's verdict on the same name and image; None where there is none."""


@dataclass(frozen=True)
class Task:
    """One name of one neuron and its images. `concept` is empty where the reader gives it (`about` none); `naming`
    are then the images that it is made from."""

    neuron: int
    about: About
    concept: str
    description: str
    images: tuple[Shown, ...]
    naming: tuple[int, ...] = ()


@dataclass(frozen=True)
class Reading:
    """The plan of a reading, as it was made once and stays."""

    id: str
    scores: str
    cohort: str
    names: About
    tasks: tuple[Task, ...]
    readers: tuple[str, ...] = ()
    """Who reads; empty: whoever comes, and everybody reads everything."""
    each: int = 2
    """Readers of every neuron, where there is a list of readers."""
    seed: int = 0
    title: str = ""
    judge: str = ""
    """Whose verdicts `Shown.model` are."""
    created: float = 0.0
    notes: tuple[str, ...] = field(default=())
    """What was left out, and why."""

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def parse(found: Mapping[str, Any]) -> Reading:
    """The reading of a record; ValueError, KeyError or TypeError where it is none."""
    tasks = tuple(_task(task) for task in found["tasks"])
    if not tasks or found["names"] not in ABOUTS:
        raise ValueError("no tasks")
    plain = {name: str(found[name]) for name in ("id", "scores", "cohort", "title", "judge")}
    return Reading(
        **plain, names=found["names"], tasks=tasks, readers=tuple(str(r) for r in found["readers"]),
        each=int(found["each"]), seed=int(found["seed"]), created=float(found["created"]),
        notes=tuple(str(n) for n in found["notes"]),
    )  # fmt: skip


def _task(found: Mapping[str, Any]) -> Task:
    images = tuple(
        Shown(int(s["image"]), bool(s["fires"]), int(s["patient"]), None if s["model"] is None else bool(s["model"]))
        for s in found["images"]
    )
    if found["about"] not in ABOUTS:
        raise ValueError("a task of no kind")
    return Task(int(found["neuron"]), found["about"], str(found["concept"]), str(found["description"]), images,
                tuple(int(i) for i in found["naming"]))  # fmt: skip


def assignments(neurons: Sequence[int], readers: Sequence[str], each: int, seed: int) -> dict[str, list[int]]:
    """reader -> neurons: every neuron has `each` different readers, and no reader has more than one neuron more than
    another times `each`. ValueError for fewer readers than `each`."""
    if len(set(readers)) < each or each < 1:
        raise ValueError(f"{len(set(readers))} readers cannot read every neuron {each} times")
    found: dict[str, list[int]] = {reader: [] for reader in readers}
    order = np.random.default_rng(seed).permutation(len(neurons))
    for place, at in enumerate(order):
        for k in range(each):
            found[readers[(place * each + k) % len(readers)]].append(neurons[at])
    return found


def tasks_of(reading: Reading, reader: str) -> list[int]:
    """The tasks (places in `Reading.tasks`) of a reader, in an order of this reader's own; empty for one who is not on
    the list."""
    mine = set(range(len(reading.tasks)))
    if reading.readers:
        neurons = list(dict.fromkeys(task.neuron for task in reading.tasks))
        given = assignments(neurons, reading.readers, reading.each, reading.seed).get(reader, [])
        mine = {i for i in mine if reading.tasks[i].neuron in given}
    return [int(i) for i in _order(reading, reader, "tasks").permutation(len(reading.tasks)) if int(i) in mine]


def items_of(reading: Reading, reader: str) -> list[Item]:
    """Every image that a reader is shown, task by task, in random order within a task."""
    items: list[Item] = []
    for task in tasks_of(reading, reader):
        images = reading.tasks[task].images
        order = _order(reading, reader, str(task)).permutation(len(images))
        items += [(task, images[int(i)].image) for i in order]
    return items


def _order(reading: Reading, reader: str, what: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{reading.id}\n{reader}\n{what}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


@dataclass(frozen=True)
class Answer:
    """What a reader said of one item, in seconds with the image in view; `key` is the browser's name of the answer."""

    task: int
    image: int
    said: Said
    seconds: float
    time: float = 0.0
    key: str = ""


@dataclass(frozen=True)
class Line:
    """One line of a reader's file: an answer, an answer taken back, or a name given to a task."""

    kind: Literal["answer", "back", "name"]
    task: int
    image: int = -1
    said: str = ""
    seconds: float = 0.0
    time: float = 0.0
    key: str = ""
    by: str = ""


def line(row: Mapping[str, Any]) -> Line | None:
    """A row of a reader's file; None for one that is none."""
    try:
        kind, said = row["kind"], str(row.get("said", ""))
        if kind not in ("answer", "back", "name") or (kind == "answer" and said not in SAID):
            return None
        return Line(kind, int(row["task"]), int(row.get("image", -1)), said[:LONGEST_NAME],
                    float(row.get("seconds", 0.0)), float(row.get("time", 0.0)), str(row.get("key", "")),
                    str(row.get("by", "")))  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


@dataclass(frozen=True)
class Standing:
    """How a reader stands: answers that count, names given (task -> text), and how many answers came too late."""

    answers: dict[Item, Answer]
    names: dict[int, str]
    repeated: int = 0
    """Answers to what was answered already, as a second tab gives them: kept, not counted."""


def standing(rows: Iterable[Mapping[str, Any]]) -> Standing:
    """What the rows of a reader's file say, oldest first. The first answer to an item counts, as a second look is not a
    blind one, until the reader takes it back; the newest name of a task counts."""
    answers: dict[Item, Answer] = {}
    names: dict[int, str] = {}
    repeated, seen = 0, set[str]()
    for found in filter(None, map(line, rows)):
        item = (found.task, found.image)
        if found.key and found.key in seen:
            continue  # the same answer, sent twice
        seen.add(found.key)
        if found.kind == "name":
            names[found.task] = found.said
        elif found.kind == "back":
            answers.pop(item, None)
        elif item in answers:
            repeated += 1
        else:
            answers[item] = Answer(*item, cast(Said, found.said), found.seconds, found.time, found.key)
    return Standing(answers, names, repeated)


@dataclass(frozen=True)
class Next:
    """What a reader does next: `name` is a task to be named first, `items` are images to answer; neither: finished."""

    items: tuple[Item, ...]
    name: int | None
    done: int
    total: int


def following(reading: Reading, reader: str, stands: Standing, ahead: int = 4) -> Next:
    """The next items of a reader, `ahead` at most, of one task; done and total count images."""
    items = items_of(reading, reader)
    left = [item for item in items if item not in stands.answers]
    done = len(items) - len(left)
    if not left:
        return Next((), None, done, len(items))
    task = left[0][0]
    if reading.tasks[task].about == "none" and task not in stands.names:
        return Next((), task, done, len(items))
    ready = [i for i in left if i[0] == task or reading.tasks[i[0]].about != "none" or i[0] in stands.names]
    return Next(tuple(ready[:ahead]), None, done, len(items))


class Rows(Protocol):
    """The kept lines of one reader."""

    def rows(self) -> list[dict[str, Any]]: ...


class Kept(Protocol):
    """Where readings are kept (`store.readings.Readings`)."""

    folder: Path

    def plan(self, id: str) -> dict[str, Any]: ...

    def readers(self, id: str) -> list[str]: ...

    def answers(self, id: str, reader: str) -> Rows: ...


def opened(kept: Kept, id: str) -> tuple[Reading, dict[str, Standing]]:
    """A reading, and how everybody stands who is on its list or has answered; UserError where it cannot be used."""
    try:
        reading = parse(kept.plan(id))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the reading {id} is damaged: {error}", kept.folder / id,
                        "its answers are kept beside it") from error  # fmt: skip
    names = dict.fromkeys([*reading.readers, *kept.readers(id)])
    return reading, {name: standing(kept.answers(id, name).rows()) for name in names}
