"""reading: names and images of some neurons -> a plan for people to read; and what a reading came to, in a terminal."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from medsae import config as c
from medsae import files
from medsae.progress import Progress
from medsae.reading import plan, results
from medsae.reading.plan import Reading, Shown, Task
from medsae.steps.naming_study import StudyOfScores
from medsae.store import spreadsheet
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger
from medsae.store.readings import Readings

LEAST_IMAGES = 3
"""A neuron with fewer images on a side is not read."""


def create(config: c.ReadingCreate, store: Store, progress: Progress) -> dict[str, Any]:
    """Choose neurons, names and images; write the plan. The same question again finds the reading that is there."""
    scores = store.parent(config.scores, "scores")
    with contextlib.closing(StudyOfScores(store, scores, config.seed)) as study:
        ledger = Ledger(store, scores.id)
        given = _given(store, config.of, scores.id) if config.of else {}
        source = _Source(study, ledger, _run(config, ledger, scores.id), config, given)
        tasks, notes = [], []
        for neuron in source.neurons():
            found, why = source.tasks(neuron)
            tasks += found
            notes += [f"neuron {neuron} is left out: {why}"] if why else []
        for note in notes:
            progress.say(note)
        c.check(bool(tasks), "no neuron is left to read", scores.id, "choose other --neurons, or fewer --images")
        made = Reading(
            id="", scores=scores.id, cohort=study.cohort.id, names=config.names, tasks=tuple(tasks),
            readers=tuple(config.reader_list()), each=config.each if config.readers else 0, seed=config.seed,
            title=config.title, judge=source.judge, notes=tuple(notes),
        )  # fmt: skip
    made = replace(made, id=_id(made))
    if not Readings(store).make(made.record()):
        progress.say(f"reading {made.id} is already there: the same question has the same id")
    images = sum(len(task.images) for task in tasks)
    progress.say(f"{len({t.neuron for t in tasks})} neurons, {len(tasks)} names, {images:,} images "
                 f"a reader who reads all; open the page Read (?reading={made.id})")  # fmt: skip
    return {"id": made.id, "tasks": len(tasks), "images": images}


def _id(made: Reading) -> str:
    text = json.dumps({**made.record(), "created": 0}, sort_keys=True)
    return f"{files.slug(made.title) or f'reading-{made.names}'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _run(config: c.ReadingCreate, ledger: Ledger, scores: str) -> dict[str, Any] | None:
    """The run of names whose names and images are read: run, backend, model; None where none is needed or there."""
    runs = list(ledger.dicts(
        "SELECT run, any_value(backend) AS backend, any_value(model) AS model FROM {lines} WHERE kind = 'run' "
        "AND coalesce(test, 'detection') = 'detection' GROUP BY run "
        "ORDER BY max(counter) DESC NULLS LAST, max(time) DESC"
    ))  # fmt: skip
    if config.run is not None:
        runs = [run for run in runs if str(run["run"]).startswith(config.run)]
        c.check(bool(runs), f"these scores have no run of names {config.run!r}", scores, "medsae list names")
    c.check(bool(runs) or config.names in ("none", "readers"), "no neuron of these scores has a name to read", scores,
            f"python -m medsae name --scores {scores} --top 50, or --names none")  # fmt: skip
    return runs[0] if runs else None


def _given(store: Store, id: str, scores: str) -> dict[int, list[str]]:
    """neuron -> the names that readers gave it in a reading of the same scores, each once."""
    reading, stands = plan.opened(Readings(store), id)
    c.check(reading.scores == scores, f"the reading {id} is of other scores", reading.scores, "choose another --of")
    found: dict[int, list[str]] = {}
    for standing in stands.values():
        for task, name in sorted(standing.names.items()):
            mine = found.setdefault(reading.tasks[task].neuron, [])
            if name.lower() not in [other.lower() for other in mine]:
                mine.append(name)
    c.check(bool(found), f"no reader gave a name in the reading {id}", None, "it must be one of --names none")
    return found


class _Source:
    """Where names, images and the model's verdicts come from."""

    def __init__(
        self, study: StudyOfScores, ledger: Ledger, run: dict[str, Any] | None, config: c.ReadingCreate,
        given: dict[int, list[str]],
    ):  # fmt: skip
        self.study, self.ledger, self.run, self.config, self.given = study, ledger, run, config, given
        words = (str(run["backend"]), str(run["model"] or "")) if run else ()
        self.judge = " ".join(dict.fromkeys(word for word in words if word))
        self.names: dict[int, dict[str, Any]] = {}
        if run:
            rows = ledger.dicts(
                "SELECT neuron, concept, description, accuracy, shuffled_concept, shuffled_other FROM {lines} "
                "WHERE kind = 'name' AND status = 'ok' AND run = ? AND concept IS NOT NULL "
                "ORDER BY counter ASC NULLS FIRST, time", [run["run"]],
            )  # fmt: skip
            self.names = {int(row["neuron"]): row for row in rows}

    def neurons(self) -> list[int]:
        """The neurons that are asked for, or the best."""
        if self.config.neurons is not None:
            wanted = self.config.neuron_list()
            beyond = [n for n in wanted if n >= self.study.m]
            c.check(not beyond, f"there is no neuron {', '.join(map(str, beyond[:5]))}", self.study.scores.id,
                    f"neurons go from 0 to {self.study.m - 1}")  # fmt: skip
            return wanted
        if self.given:
            return list(self.given)
        if not self.names:
            return self.study.ordered("max_abs_rho DESC", 2 * sum(self.config.sides()))[: self.config.top]
        best = sorted(self.names.values(), key=lambda row: -(row["accuracy"] or 0.0))
        return [int(row["neuron"]) for row in best[: self.config.top]]

    def tasks(self, neuron: int) -> tuple[list[Task], str]:
        """The tasks of one neuron, or why there are none."""
        named = self.names.get(neuron)
        if self.config.names in ("own", "rival") and named is None:
            return [], "it has no name in this run"
        if self.config.names == "readers" and neuron not in self.given:
            return [], "no reader gave it a name"
        if self.config.names == "rival" and (named is None or named["shuffled_concept"] is None):
            return [], "its run has no other neuron's name to set against its own"
        shown = self._images(neuron)
        least = min(sum(s.fires for s in shown), sum(not s.fires for s in shown)) if shown else 0
        if least < LEAST_IMAGES:
            return [], f"it has {least} images on a side that can be shown"
        if self.config.names == "none":
            return [Task(neuron, "none", "", "", shown, self._naming(neuron))], ""
        if self.config.names == "readers":
            theirs = [Task(neuron, "readers", name, "", _unjudged(shown)) for name in self.given[neuron]]
            mine = [Task(neuron, "own", str(named["concept"]), "", shown)] if named else []
            return theirs + mine, ""
        assert named is not None
        # What the labels' or the reports' baseline says beside its name tells how the neuron correlates.
        plain = self.run is not None and self.run["backend"] in ("labels", "reports")
        own = Task(neuron, "own", str(named["concept"]), "" if plain else str(named["description"] or ""), shown)
        if self.config.names == "own":
            return [own], ""
        return [replace(own, description=""), self._rival(neuron, named, shown)], ""

    def _rival(self, neuron: int, named: dict[str, Any], shown: tuple[Shown, ...]) -> Task:
        """The task of another neuron's name; neither has a description, as one without it would be told apart."""
        assert self.run is not None
        verdicts = self.ledger.verdicts(self.run["run"], neuron).query("about == 'shuffled' and status == 'ok'")
        yes = {int(i): bool(y) for i, y in zip(verdicts["image"], verdicts["yes"], strict=True) if y is not None}
        images = tuple(replace(one, model=yes.get(one.image)) for one in shown)
        return Task(neuron, "rival", str(named["shuffled_concept"]), "", images)

    def _images(self, neuron: int) -> tuple[Shown, ...]:
        """The images of a neuron: those that the model judged, else a choice by the same rule (strict)."""
        firing, silent = self.config.sides()
        code, rng = self.study.patients.code_n, np.random.default_rng([self.config.seed, neuron])
        judged = self._judged(neuron)
        if judged:
            all_images = [Shown(i, fires, int(code[i]), yes) for i, (fires, yes) in judged.items()]
        else:
            chosen = self.study.plan(neuron, "strict", max(firing, silent), 0.0)
            all_images = [Shown(t.image, t.fires, int(code[t.image])) for t in chosen.tested]
        kept: list[Shown] = []
        for fires, wanted in ((True, firing), (False, silent)):
            side = sorted((s for s in all_images if s.fires == fires), key=lambda s: s.image)
            kept += [side[int(i)] for i in rng.permutation(len(side))[:wanted]]
        return tuple(kept)

    def _judged(self, neuron: int) -> dict[int, tuple[bool, bool | None]]:
        """image -> fires, the model's verdict on the neuron's own name; empty without a run."""
        if self.run is None:
            return {}
        found = self.ledger.verdicts(self.run["run"], neuron).query("about == 'name'")
        ok = (found["status"] == "ok").to_numpy()
        return {int(i): (bool(f), bool(y) if good and y is not None else None)
                for i, f, y, good in zip(found["image"], found["fires"], found["yes"], ok, strict=True)}  # fmt: skip

    def _naming(self, neuron: int) -> tuple[int, ...]:
        """Images that a name is made from: those the model saw, else by the same rule."""
        if self.run is not None:
            told = self.ledger.explanation(self.run["run"], neuron)
            if told and told.get("naming"):
                return tuple(int(i) for i in told["naming"])
        return self.study.plan(neuron, "strict", max(self.config.sides()), 0.0).naming


def _unjudged(shown: tuple[Shown, ...]) -> tuple[Shown, ...]:
    """The same images without the model's verdicts, which were on another name."""
    return tuple(replace(one, model=None) for one in shown)


def listed(store: Store, as_json: bool) -> str:
    """One line a reading: id, scores, neurons, and each reader with the images answered."""
    rows = []
    for id in Readings(store).ids():
        reading, stands = plan.opened(Readings(store), id)
        done = {r: f"{len(s.answers)}/{len(plan.items_of(reading, r))}" for r, s in stands.items()}
        rows.append({"id": id, "scores": reading.scores, "names": reading.names,
                     "neurons": len({t.neuron for t in reading.tasks}), "readers": done})  # fmt: skip
    if as_json:
        return json.dumps(rows, indent=1, sort_keys=True)
    return "\n".join(f"{r['id']}  {r['scores']}  names={r['names']}  neurons={r['neurons']}  "
                     + "  ".join(f"{name} {n}" for name, n in r["readers"].items()) for r in rows)  # fmt: skip


def told(store: Store, id: str, to: Path | None, as_json: bool) -> str:
    """What a reading came to, as text or JSON; every answer as CSV in the file `to`."""
    reading, stands = plan.opened(Readings(store), id)
    if to is not None:
        files.write(to, spreadsheet.csv(results.answers(reading, stands)))
    found, agreed = results.readers(reading, stands), results.agree(reading, stands)
    if as_json:
        kappas = {f"{a} / {b}": asdict(k) for (a, b), k in agreed.kappas.items()} if agreed else {}
        return json.dumps({"reading": id, "readers": [asdict(one) for one in found], "kappa": kappas,
                           "alpha": asdict(agreed.alpha) if agreed else None}, indent=1, sort_keys=True)  # fmt: skip
    lines = [_line(one) for one in found]
    if agreed:
        lines.append(f"Krippendorff's alpha {_number(agreed.alpha)} over {agreed.alpha.n} images")
        lines += [f"Cohen's kappa {a} / {b} {_number(k)} over {k.n} images" for (a, b), k in agreed.kappas.items()]
    return "\n".join([*lines, "", results.methods(reading, stands)])


def _line(one: results.OfReader) -> str:
    time = "" if one.seconds is None else f", {one.seconds:.1f} s an image"
    numbers = ((words, _number(getattr(one, words))) for words in ("accuracy", "model", "difference"))
    said = ", ".join(f"{words} {number}" for words, number in numbers)
    return f"{one.reader} ({one.about} names): {one.done} of {one.total} images, {said}, cannot tell {one.unsure}{time}"


def _number(found: Any) -> str:
    if found.value is None:
        return "-"
    low, high = (("-" if v is None else f"{v:.2f}") for v in (found.low, found.high))
    return f"{found.value:.2f} [{low}, {high}]"
