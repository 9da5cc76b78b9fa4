"""name: scores + someone who sees -> names, put to the test; results go to the ledger, not into an artifact."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from medsae import config as c
from medsae.naming import audit, planted, prompts
from medsae.naming.backends import Backend
from medsae.naming.backends.divided import Divided
from medsae.naming.backends.labels import concept_of
from medsae.naming.cost import Cost, estimate
from medsae.naming.memory import LASTING, Memory, Outcome, Setup
from medsae.naming.rehearsal import rehearse
from medsae.naming.run import PORTION, Namer
from medsae.naming.selection import firing_least
from medsae.naming.states import Surroundings
from medsae.plugins import backends
from medsae.progress import Progress, Task, UserError
from medsae.shards import Part
from medsae.steps import together
from medsae.steps.cohort_pictures import new_cohort
from medsae.steps.naming_study import MOST_PICTURES, StudyOfScores
from medsae.store.artifacts import Artifact, Store
from medsae.store.claims import Claims
from medsae.store.ledger import OLDEST, Ledger, Writer
from medsae.store.requests import Requests

_ORDERS = {"entropy": "entropy ASC", "correlation": "max_abs_rho DESC", "density": "density DESC"}
_POLL_SECONDS = 0.1
_USUAL = ("detection", "ordinary")


def name(config: c.Name, store: Store, progress: Progress) -> dict[str, Any]:
    """Name the chosen neurons of some scores; returns the scores' id, the run, counts of statuses, facts, and `exit`:
    0 when every neuron has a usable result or a lasting reason, 3 when some have not, 2 when none has; `left` says then
    how many are left and why."""
    scores = store.parent(config.scores, "scores")
    backends.get(config.backend)
    config = replace(config, scores=scores.id)
    with contextlib.closing(StudyOfScores(store, scores, config.seed)) as study:
        _refuse_unknown_pictures(config, study)
        _tell_weakness(config, progress)
        if not config.watch:
            return _name(_with_pictures(config, study, progress), store, study, progress)
        requests = Requests(store, config)
        with requests.serving():
            return _watch(_with_pictures(config, study, progress), store, study, requests, progress)


def _refuse_unknown_pictures(config: c.Name, study: StudyOfScores) -> None:
    """UserError when the model has seen pictures of another source only, unless it is forced."""
    known = dict(backends.get(config.backend).knows).get(config.model or "")
    c.check(known is None or not config.in_words, f"{config.model} has learned a few questions; --in-words is none",
            do="leave --in-words out, or choose another --model")  # fmt: skip
    source = study.cohort.facts.get("source")
    if known is None or known == source or config.force:
        return
    raise UserError(
        f"{config.model} has seen {known} radiographs only: what it says of {source or 'other'} pictures means nothing",
        study.cohort.id, "choose another --model or --backend; --force uses it all the same",
    )  # fmt: skip


def _tell_weakness(config: c.Name, progress: Progress) -> None:
    """What the record of a model that comes with the program says of a test that asks it to choose among pictures."""
    known = dict(backends.get(config.backend).knows).get(config.model or "")
    share = planted.rightly(config.test) if known else None
    if share is not None:
        progress.say(
            f"{config.model} answers {100 * share:.0f} % of such questions about known findings rightly, by chance it"
            f" were 20 %: a low result of --test {config.test} is the model's, not the neuron's"
        )


def _with_pictures(config: c.Name, study: StudyOfScores, progress: Progress) -> c.Name:
    """The config with a number of pictures: the largest that these scores allow where none was asked for."""
    if config.pictures is not None:
        return config
    pictures = study.pictures_allowed(config.protocol)
    if pictures < MOST_PICTURES:
        progress.say(f"{pictures} firing and {pictures} silent pictures a name: the largest number that the "
                     f"{len(study.scored):,} scored images allow (usual: {MOST_PICTURES}); "
                     "more: score --images all, or a larger evaluation set")  # fmt: skip
    return replace(config, pictures=pictures)


def _name(config: c.Name, store: Store, study: StudyOfScores, progress: Progress) -> dict[str, Any]:
    neurons = choose(config, study)
    if config.top is not None and len(neurons) < config.top:
        progress.say(f"--top {config.top}: only {len(neurons):,} neurons fire on enough pictures to be tested")
    ledger, began = Ledger(store, study.scores.id), time.monotonic()
    with _asking(config, study, ledger, progress) as (backend, writer, claims):
        setup = make_setup(config, study.scores, backend)
        memory, news = remember(ledger, setup, backend, writer)
        setup = _asking_anew(config, setup, ledger, memory)
        namer = _namer(config, study, setup, backend, memory, writer, claims, news)
        part = together(store, config, [setup.run, *map(str, neurons)], progress)
        if part is not None:
            neurons = _part(part, neurons, namer)
        cost = _cost(config, study, namer, neurons, memory)
        progress.say(cost.text())
        if config.cost:
            return {"id": study.scores.id, "run": setup.run, "cost": cost.record()}
        before = dict(memory.outcomes)
        rehearse(namer, neurons, progress.say)
        writer.append([_run_row(config, study, setup, backend)])
        try:
            _audit(config, study, ledger, namer, progress)
            with progress.task(f"naming {len(neurons):,} neurons", cost.planned, "questions") as task:
                namer.name(neurons, task)
            _compare(namer, neurons, study)
        except UserError:
            _tell_end(namer, neurons, before, progress)
            raise
        facts = backend.facts()
    if facts.get("note"):
        progress.say(str(facts["note"]))
    if study.unlike:
        progress.say(f"{len(study.unlike):,} pictures changed or went missing since the cohort was made and were not"
                     f" shown: {new_cohort(study.cohort)}")  # fmt: skip
    status, left = _tell_end(namer, neurons, before, progress)
    return {"id": study.scores.id, "run": setup.run, "statuses": dict(Counter(namer.status.values())),
            "asked": namer.asked, "reused": namer.reused, "exit": status, "left": left,
            "seconds": round(time.monotonic() - began, 3), "backend": facts}  # fmt: skip


def _audit(
    config: c.Name, study: StudyOfScores, ledger: Ledger, namer: Namer, progress: Progress,
    stop: Callable[[], bool] = lambda: False,
) -> None:  # fmt: skip
    """Ask a judge that these scores have not met about the cohort's own labels."""
    backend = namer.backend
    if not backend.is_model or not config.audit:
        return
    model = [backend.name, backend.model, prompts.VERSION]
    met = ledger.rows(
        "SELECT 1 FROM {lines} WHERE kind = 'audit' AND 2 * judged >= asked AND run IN (SELECT run FROM {lines} "
        "WHERE kind = 'run' AND backend = ? AND model = ? AND prompts = ?) LIMIT 1", model,
    )  # fmt: skip
    if met:
        return
    samples = study.audit_samples()
    n = audit.questions(samples)
    if not n:
        return
    progress.say(f"a judge that these scores have not met: {n:,} questions about the cohort's own labels first "
                 "(--no-audit leaves them out)")  # fmt: skip
    claim = f"audit {' '.join(model)}"
    if not namer.claims.take(claim):
        return  # another command does it just now
    with progress.task(f"auditing the judge on {len(samples)} labels", n, "questions") as task:
        rows = audit.audit(namer, samples, task, stop)
    namer.claims.release(claim)
    if rows:
        progress.say(audit.sentence(rows))


def _tell_end(
    namer: Namer, neurons: list[int], before: dict[int, Outcome], progress: Progress
) -> tuple[int, str | None]:
    """The last lines of a run: neurons named, verdicts asked and usable, and why not; returns the exit status, and
    where it is not 0 how many are left and why."""
    outcomes = {n: namer.memory.outcomes[n] for n in neurons if n in namer.memory.outcomes}
    usable = sum(o.usable for o in outcomes.values())
    lasting, failed = Counter[str](), Counter[str]()
    for outcome in outcomes.values():
        if outcome.status == "ok" and not outcome.usable:
            # Labels and reports will not say more when they are asked again.
            (failed if namer.backend.is_model else lasting)["without enough usable verdicts"] += 1
        elif not outcome.usable:
            (lasting if outcome.status in LASTING else failed)[outcome.status] += 1
    failed["not finished"] += len(neurons) - len(outcomes)
    rest = [f"{n:,} {status}" for status, n in (*lasting.most_common(), *failed.most_common()) if n]
    ended = f"{usable:,} of {len(neurons):,} neurons named and tested" + (f"; {', '.join(rest)}" if rest else "")
    progress.say(ended)
    verdicts = Counter(namer.tally.verdicts)
    for neuron in outcomes.keys() - namer.status.keys():
        if (old := before.get(neuron)) is not None:
            verdicts.update({"ok": old.judged, "failed earlier": old.asked - old.judged})
    asked, good = verdicts.total(), verdicts["ok"]
    why = [f"{n:,} {status}" for status, n in verdicts.most_common() if status != "ok" and n]
    line = f"{asked:,} verdicts, {good:,} usable" + (f"; not: {', '.join(why)}" if why else "")
    progress.say(f"{line}; {namer.asked:,} questions asked, {namer.reused:,} answers known")
    if namer.tally.said and namer.backend.is_model:
        (status, said), n = namer.tally.said.most_common(1)[0]
        progress.say(f"what most replies that could not be used were ({n:,}): {status}" + (f": {said}" if said else ""))
    if not failed.total():
        return 0, None
    progress.say(
        "the same command asks again for what a server or a lost reply kept from us; --again asks everything anew"
    )
    return (3 if usable else 2), ended


def _compare(namer: Namer, neurons: list[int], study: StudyOfScores) -> None:
    """Where the truth is known, write down for every new name what its neuron follows, and whether the name says it."""
    rows = []
    for neuron in neurons:
        if neuron not in namer.status or neuron not in namer.memory.explained:
            continue
        concept, _ = namer.memory.explained[neuron]
        followed = study.follows(neuron)
        if followed is not None:
            rows.append(namer.row("truth", neuron=neuron, concept=concept, fact=followed.fact, follows=followed.rho,
                                  match=planted.match(concept, followed)))  # fmt: skip
    if rows:
        namer.append(rows)


def choose(config: c.Name, study: StudyOfScores) -> list[int]:
    """The neurons that the config names; UserError for one that is not there. `--top N` gives N that can be named and
    tested, where there are so many."""
    m = study.m
    if config.neurons is not None:
        wanted = config.neuron_list()
        beyond = [n for n in wanted if n >= m]
        c.check(not beyond, f"there is no neuron {', '.join(map(str, beyond[:5]))}", study.scores.id,
                f"neurons go from 0 to {m - 1}")  # fmt: skip
        return wanted
    if config.all:
        return list(range(m))
    assert config.top is not None and config.pictures is not None
    least = firing_least(config.protocol, config.pictures)
    able = study.ordered(_ORDERS[config.by], least)
    do = "fewer --pictures, or scores of more images (score --images all)"
    if config.protocol == "paper":
        do = "scores of more images (score --images all); --protocol strict needs fewer"
    c.check(bool(able), f"no neuron fires on {least} of {len(study.scored):,} scored images", study.scores.id, do)
    found: list[int] = []
    for neuron in able:
        if len(found) == config.top:
            break
        if study.plan(neuron, config.protocol, config.pictures, config.hard, config.against == "hard").status == "ok":
            found.append(neuron)
    what = f"no neuron has {config.pictures} firing and {config.pictures} silent pictures to be tested on"
    c.check(bool(found), what, study.scores.id, do)
    return found


def _part(part: Part, neurons: list[int], namer: Namer) -> list[int]:
    """The neurons of one of several commands: whole portions, whose names serve each other as controls. The merging
    command gets all; UserError while some have no result."""
    portions = [neurons[i : i + PORTION] for i in range(0, len(neurons), PORTION)]
    part.mine([k for k, portion in enumerate(portions) if any(n not in namer.memory.done for n in portion)])
    if not part.merges:
        namer.alone = True
    return [n for k, portion in enumerate(portions) if part.makes(k) for n in portion]


@contextlib.contextmanager
def _asking(
    config: c.Name, study: StudyOfScores, ledger: Ledger, progress: Progress
) -> Iterator[tuple[Backend, Writer, Claims]]:
    """A backend that is ready to answer, where its answers go, and the claims on what it is asked."""

    def load(config: c.Name, study: StudyOfScores, progress: Progress) -> Backend:
        judge = backends.get(config.backend).loaded()(config, study, progress)
        if config.namer is None:
            return judge
        plain = replace(config, backend=config.namer, namer=None, in_words=False, endpoint=(), model=None,
                        test="detection", against="ordinary")  # fmt: skip
        try:
            return Divided(backends.get(config.namer).loaded()(plain, study, progress), judge, config.in_words)
        except BaseException:
            judge.close()
            raise

    for trouble in ledger.troubles():
        progress.say(str(trouble))
    with (
        contextlib.closing(load(config, study, progress)) as backend,
        ledger.writer() as writer,
        contextlib.closing(Claims(ledger.folder)) as claims,
    ):
        yield backend, writer, claims


def make_setup(config: c.Name, scores: Artifact, backend: Backend) -> Setup:
    """The run that results belong to: 8 hex digits over everything that changes an answer."""
    assert config.pictures is not None
    what = [scores.id, scores.manifest["created"], backend.name, backend.model, prompts.VERSION, config.protocol,
            config.pictures, config.hard, config.controls, config.seed]  # fmt: skip
    # A run keeps the name that it had before there were other tests.
    what += [{"test": config.test, "against": config.against}] if (config.test, config.against) != _USUAL else []
    run = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:8]
    return Setup(run, config.protocol, config.controls, config.seed, config.pictures, config.test)


def remember(
    ledger: Ledger, setup: Setup, backend: Backend, writer: Writer | None = None
) -> tuple[Memory, Callable[[], None]]:
    """What the ledger knows: answers of this model to these prompts, and what this run has written; and a function that
    takes in what other commands have written since."""
    memory = Memory()
    follower = ledger.follow()  # before the reading: a line that comes meanwhile is read twice, never not at all
    same = [backend.name, backend.model, prompts.VERSION]
    runs = "SELECT run FROM {lines} WHERE kind = 'run' AND backend = ? AND model = ? AND prompts = ?"
    for row in ledger.dicts(
        "SELECT kind, run, neuron, about, image, key, status, yes, p, mass, raw FROM {verdicts} WHERE kind = 'verdict' "
        f"AND key IS NOT NULL AND image IS NOT NULL AND run IN ({runs}) ORDER BY {OLDEST}",
        same,
    ):
        memory.learn(row, setup.run)
    for row in ledger.dicts(
        "SELECT kind, run, neuron, key, about, concept, description, other, status, note, raw, retry, take, "
        f"asked, judged, accuracy FROM {{lines}} WHERE kind IN ('explanation', 'control', 'name') AND run IN ({runs}) "
        f"ORDER BY {OLDEST}",
        same,
    ):
        memory.learn(row, setup.run)
    if writer is None:
        return memory, lambda: None
    own, seen = (writer.path, writer.verdicts), -1

    def news() -> None:
        nonlocal seen
        now = writer.counter.peek()
        if now != seen:
            seen = now
            for row in follower.new(own):
                memory.learn(row, setup.run)

    return memory, news


def _asking_anew(config: c.Name, setup: Setup, ledger: Ledger, memory: Memory) -> Setup:
    if config.again:
        found = ledger.rows("SELECT coalesce(max(take), 0) FROM {lines} WHERE run = ?", [setup.run])
        memory.done.clear()
        setup = replace(setup, take=found[0][0] + 1 if found else 1)
    memory.take = setup.take
    return setup


def _namer(
    config: c.Name, study: StudyOfScores, setup: Setup, backend: Backend, memory: Memory, writer: Writer,
    claims: Claims | None = None, news: Callable[[], None] = lambda: None,
) -> Namer:  # fmt: skip
    def other_name(neuron: int) -> tuple[str, str] | None:
        found = study.other_label(neuron)
        return None if found is None else (concept_of(*found), "")

    def plan(neuron: int) -> Any:
        return study.plan(neuron, config.protocol, config.pictures, config.hard, config.against == "hard")

    return Namer(setup, backend, memory, Surroundings(
        plan=plan, picture=study.picture, write=writer.append, other_name=other_name, claims=claims, news=news,
    ))  # fmt: skip


def _cost(config: c.Name, study: StudyOfScores, namer: Namer, neurons: list[int], memory: Memory) -> Cost:
    return estimate(
        neurons, done=memory.done, plan=namer.plan, calls_a_neuron=namer.calls_a_neuron(), protocol=config.protocol,
        is_model=namer.backend.is_model, controls=config.controls, scored=len(study.scored),
    )  # fmt: skip


def _run_row(config: c.Name, study: StudyOfScores, setup: Setup, backend: Backend) -> dict[str, Any]:
    return {"kind": "run", "run": setup.run, "take": setup.take, "scores": study.scores.id, "backend": backend.name,
            "protocol": config.protocol, "model": backend.model, "prompts": prompts.VERSION,
            "pictures": config.pictures, "hard": config.hard, "controls": config.controls,
            "test": config.test, "against": config.against, "seed": config.seed,
            "overlap": study.overlap(config.protocol, backend.name)}  # fmt: skip


def _watch(
    config: c.Name, store: Store, study: StudyOfScores, requests: Requests, progress: Progress
) -> dict[str, Any]:
    """Answer requests of the app until nobody asks for `idle_minutes`, or Ctrl-C."""
    requests.tell(phase="loading")
    ledger, answered, error = Ledger(store, study.scores.id), 0, None
    try:
        with _asking(config, study, ledger, progress) as (backend, writer, claims):
            setup = make_setup(config, study.scores, backend)
            memory, news = remember(ledger, setup, backend, writer)
            writer.append([_run_row(config, study, setup, backend)])
            progress.say("ready: the model is loaded; requests come from the app")
            quiet_since, audited = time.monotonic(), False
            requests.tell(phase="ready", run=setup.run)
            while time.monotonic() - quiet_since < config.idle_minutes * 60:
                request = requests.take()
                if request is None:
                    if answered and audited is False:
                        # The judge is asked about the labels while nobody waits; a request ends it for now.
                        namer = _namer(config, study, setup, backend, memory, writer, claims, news)
                        try:
                            _audit(config, study, ledger, namer, progress, requests.any)
                            audited = not requests.any()
                        except UserError as failed:
                            progress.say(f"no audit of the judge: {failed.what}")
                            audited = True
                    time.sleep(_POLL_SECONDS)
                    continue
                neuron, again = request
                news()
                now = _asking_anew(replace(config, again=again), setup, ledger, memory)
                namer = _namer(config, study, now, backend, memory, writer, claims, news)
                _answer(neuron, namer, study, requests, progress)
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
        if not namer.memory.explanations:
            rehearse(namer, [neuron], progress.say)
        namer.name([neuron], told, stop=lambda: requests.cancelled(neuron))
        _compare(namer, [neuron], study)
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
