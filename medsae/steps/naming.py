"""name: scores + someone who sees -> names, put to the test; results go to the ledger, not into an artifact."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from medsae import config as c
from medsae.naming import prompts
from medsae.naming.backends import Backend
from medsae.naming.backends.labels import Labels, concept_of
from medsae.naming.cost import Cost, estimate
from medsae.naming.memory import Known, Memory, Setup
from medsae.naming.replies import FINAL
from medsae.naming.run import Namer
from medsae.naming.selection import firing_least
from medsae.progress import Progress, Task, UserError
from medsae.steps.naming_study import StudyOfScores
from medsae.store.artifacts import Artifact, Store
from medsae.store.ledger import Ledger, Writer
from medsae.store.requests import Requests

_ORDERS = {"entropy": "entropy ASC", "correlation": "max_abs_rho DESC", "density": "density DESC"}
_POLL_SECONDS = 0.1


def name(config: c.Name, store: Store, progress: Progress) -> dict[str, Any]:
    """Name the chosen neurons of some scores; returns the scores' id, the run, counts of statuses and facts."""
    scores = store.parent(config.scores, "scores")
    config = c.replace(config, scores=scores.id)
    with contextlib.closing(StudyOfScores(store, scores, config.seed)) as study:
        if not config.watch:
            return _name(config, store, study, progress)
        requests = Requests(store, config)
        with requests.serving():
            return _watch(config, store, study, requests, progress)


def _name(config: c.Name, store: Store, study: StudyOfScores, progress: Progress) -> dict[str, Any]:
    neurons = choose(config, study)
    ledger, began = Ledger(store, study.scores.id), time.monotonic()
    with contextlib.closing(make_backend(config, study, progress)) as backend, ledger.writer() as writer:
        setup = make_setup(config, study.scores, backend)
        memory = remember(ledger, setup, backend)
        setup = _asking_anew(config, setup, ledger, memory)
        namer = _namer(config, study, setup, backend, memory, writer)
        cost = _cost(config, study, namer, neurons, memory)
        progress.say(cost.text())
        if config.cost:
            return {"id": study.scores.id, "run": setup.run, "cost": cost.record()}
        writer.append([_run_row(config, study, setup, backend)])
        with progress.task(f"naming {len(neurons):,} neurons", cost.planned, "questions") as task:
            namer.name(neurons, task)
        facts = backend.facts()
    if facts.get("note"):
        progress.say(str(facts["note"]))
    counts = Counter(namer.status.values())
    said = ", ".join(f"{n:,} {status}" for status, n in counts.most_common()) or "nothing new"
    progress.say(f"{said}; {namer.asked:,} questions asked, {namer.reused:,} answers known")
    return {"id": study.scores.id, "run": setup.run, "statuses": dict(counts), "asked": namer.asked,
            "reused": namer.reused, "seconds": round(time.monotonic() - began, 3), "backend": facts}  # fmt: skip


def choose(config: c.Name, study: StudyOfScores) -> list[int]:
    """The neurons that the config names; UserError for one that is not there."""
    m = study.m
    if config.neurons is not None:
        wanted = config.neuron_list()
        beyond = [n for n in wanted if n >= m]
        c.check(not beyond, f"there is no neuron {', '.join(map(str, beyond[:5]))}", study.scores.id,
                f"neurons go from 0 to {m - 1}")  # fmt: skip
        return wanted
    if config.all:
        return list(range(m))
    assert config.top is not None
    least = firing_least(config.protocol, config.pictures)
    able = study.ordered(_ORDERS[config.by], least)
    c.check(bool(able), f"no neuron fires on {least} of {len(study.scored):,} scored pictures", study.scores.id,
            "fewer --pictures, or scores of more images (score --images all)")  # fmt: skip
    return able[: config.top]


def make_backend(config: c.Name, study: StudyOfScores, progress: Progress) -> Backend:
    """The backend of a config, ready to answer; UserError says what is missing and what works meanwhile."""
    if config.backend == "labels":
        return Labels(study.rho, study.labels_of)
    if config.backend == "endpoint":
        from medsae.naming.backends.endpoint import KEY_VARIABLE, Endpoint, refuse_remote

        assert config.endpoint is not None
        refuse_remote(config.endpoint, config.allow_remote, progress.say)
        endpoint = Endpoint(
            config.endpoint, config.model, study.jpeg, concurrency=config.concurrency,
            timeout_seconds=config.timeout_seconds, seed=config.seed, key=os.environ.get(KEY_VARIABLE),
        )  # fmt: skip
        endpoint.prepare()
        return endpoint
    from medsae.naming.backends.medgemma import MedGemma

    return MedGemma(config.model, study.jpeg, batch=config.batch, device=config.device, four_bit=config.four_bit,
                    seed=config.seed, progress=progress)  # fmt: skip


def make_setup(config: c.Name, scores: Artifact, backend: Backend) -> Setup:
    """The run that results belong to: 8 hex digits over everything that changes an answer."""
    what = [scores.id, scores.manifest["created"], backend.name, backend.model, prompts.VERSION, config.protocol,
            config.pictures, config.hard, config.controls, config.seed]  # fmt: skip
    run = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:8]
    return Setup(run, config.protocol, config.controls, config.seed, config.pictures)


def remember(ledger: Ledger, setup: Setup, backend: Backend) -> Memory:
    """What the ledger knows: answers of this model to these prompts, and what this run has written."""
    memory = Memory()
    same = [backend.name, backend.model, prompts.VERSION]
    runs = "SELECT run FROM {lines} WHERE kind = 'run' AND backend = ? AND model = ? AND prompts = ?"
    for run, neuron, about, image, key, status, yes, p, mass, raw in ledger.rows(
        "SELECT run, neuron, about, image, key, status, yes, p, mass, raw FROM {verdicts} WHERE kind = 'verdict' "
        f"AND key IS NOT NULL AND image IS NOT NULL AND run IN ({runs}) ORDER BY time",
        same,
    ):
        if run == setup.run:
            memory.written.add((neuron, about, image, key))
        if status in FINAL:
            memory.verdicts[key, image] = Known(status, yes, p, mass, raw)
    for run, neuron, key, *told in ledger.rows(
        "SELECT run, neuron, key, concept, description, status, note, raw FROM {lines} "
        f"WHERE kind = 'explanation' AND run IN ({runs}) ORDER BY time",
        same,
    ):
        row: dict[str, Any] = dict(zip(("concept", "description", "status", "note", "raw"), told, strict=True))
        if row["status"] in FINAL and key:
            memory.explanations[key] = row
        if row["status"] == "ok" and run == setup.run:
            memory.explained[neuron] = (row["concept"], row["description"])
    for neuron, about, concept, description, other in ledger.rows(
        "SELECT neuron, about, concept, description, other FROM {lines} WHERE kind = 'control' AND run = ? "
        "ORDER BY time", [setup.run],
    ):  # fmt: skip
        memory.controls[neuron, about] = {"concept": concept, "description": description, "other": other}
    memory.done = {neuron for neuron, retry in ledger.rows(
        "SELECT neuron, coalesce(retry, 0) FROM {lines} WHERE kind = 'name' AND run = ? "
        "QUALIFY row_number() OVER (PARTITION BY neuron ORDER BY time DESC) = 1",
        [setup.run],
    ) if not retry}  # fmt: skip
    return memory


def _asking_anew(config: c.Name, setup: Setup, ledger: Ledger, memory: Memory) -> Setup:
    if not config.again:
        return setup
    found = ledger.rows("SELECT coalesce(max(take), 0) FROM {lines} WHERE run = ?", [setup.run])
    memory.done.clear()
    return c.replace(setup, take=found[0][0] + 1 if found else 1)


def _namer(
    config: c.Name, study: StudyOfScores, setup: Setup, backend: Backend, memory: Memory, writer: Writer
) -> Namer:
    def other_name(neuron: int) -> tuple[str, str] | None:
        found = study.other_label(neuron)
        return None if found is None else (concept_of(*found), "")

    def plan(neuron: int) -> Any:
        return study.plan(neuron, config.protocol, config.pictures, config.hard)

    return Namer(setup, backend, memory, plan=plan, picture=study.picture, write=writer.append, other_name=other_name)


def _cost(config: c.Name, study: StudyOfScores, namer: Namer, neurons: list[int], memory: Memory) -> Cost:
    return estimate(
        neurons, done=memory.done, plan=namer.plan, calls_a_neuron=namer.calls_a_neuron(), protocol=config.protocol,
        backend=namer.backend.name, controls=config.controls, scored=len(study.scored),
    )  # fmt: skip


def _run_row(config: c.Name, study: StudyOfScores, setup: Setup, backend: Backend) -> dict[str, Any]:
    return {"kind": "run", "run": setup.run, "take": setup.take, "scores": study.scores.id, "backend": backend.name,
            "protocol": config.protocol, "model": backend.model, "prompts": prompts.VERSION,
            "pictures": config.pictures, "hard": config.hard, "controls": config.controls, "seed": config.seed,
            "overlap": study.overlap(config.protocol, config.backend)}  # fmt: skip


def _watch(
    config: c.Name, store: Store, study: StudyOfScores, requests: Requests, progress: Progress
) -> dict[str, Any]:
    """Answer requests of the app until nobody asks for `idle_minutes`, or Ctrl-C."""
    requests.tell(phase="loading")
    ledger, answered, error = Ledger(store, study.scores.id), 0, None
    try:
        with contextlib.closing(make_backend(config, study, progress)) as backend, ledger.writer() as writer:
            setup = make_setup(config, study.scores, backend)
            memory = remember(ledger, setup, backend)
            writer.append([_run_row(config, study, setup, backend)])
            progress.say("ready: the model is loaded; requests come from the app")
            quiet_since = time.monotonic()
            requests.tell(phase="ready", run=setup.run)
            while time.monotonic() - quiet_since < config.idle_minutes * 60:
                request = requests.take()
                if request is None:
                    time.sleep(_POLL_SECONDS)
                    continue
                neuron, again = request
                now = _asking_anew(c.replace(config, again=again), setup, ledger, memory)
                _answer(neuron, _namer(config, study, now, backend, memory, writer), study, requests, progress)
                answered += 1
                requests.tell(phase="ready", run=setup.run)
                quiet_since = time.monotonic()
            facts = backend.facts()
    except UserError as stopped:
        error = str(stopped)
        raise
    finally:
        requests.tell(phase="stopped", error=error)
    return {"id": study.scores.id, "run": setup.run, "answered": answered, "backend": facts}


def _answer(neuron: int, namer: Namer, study: StudyOfScores, requests: Requests, progress: Progress) -> None:
    total = namer.calls_a_neuron()
    if not 0 <= neuron < study.m:
        requests.done(neuron)
        return
    with progress.task(f"naming neuron {neuron}", total, "questions") as inner:
        told = _Told(inner, lambda n: requests.tell(phase="working", neuron=neuron, done=n, total=total,
                                                    run=namer.setup.run))  # fmt: skip
        told.advance(0)
        namer.name([neuron], told, stop=lambda: requests.cancelled(neuron))
    requests.done(neuron)


class _Told:
    """A task that also tells the app, at most ten times a second."""

    def __init__(self, inner: Task, tell: Callable[[int], None]):
        self.inner, self.tell, self.count, self.last = inner, tell, 0, 0.0

    def advance(self, n: int = 1, **facts: float | int | str) -> None:
        self.count += n
        self.inner.advance(n, **facts)
        if time.monotonic() - self.last > 0.1:
            self.last = time.monotonic()
            self.tell(self.count)
