"""Naming neurons: explain, then judge the name and its controls on the same pictures, and write down everything.

Neurons are taken in portions: all of a portion are explained first, so that another neuron's name is at hand as a
control, then all their pictures are judged, several neurons in flight at once (`agenda`). Every reply is written when
it arrives.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from medsae.naming import diagnosis, prompts
from medsae.naming.agenda import Agenda, Step
from medsae.naming.asking import Asker
from medsae.naming.backends import Backend, Picture, Question, Reply
from medsae.naming.memory import Known, Memory, Outcome, Row, Setup
from medsae.naming.replies import (
    FINAL,
    RAW_LIMIT,
    Explanation,
    Verdict,
    fault,
    parse_explanation,
)
from medsae.naming.result import Control
from medsae.naming.selection import Plan
from medsae.naming.testing import way_of
from medsae.progress import Task, UserError

PORTION = 64
"""Neurons explained before their names are judged."""
_FAULTS = {"empty": "it was empty", "cut off": "it was cut off by the limit of tokens",
           "only thinking": "the model thought and did not answer"}  # fmt: skip
_MEND = {
    "only thinking": diagnosis.NO_THINKING, "cut off": diagnosis.NO_THINKING,
    "empty": "look at the server's log and its chat template",
    "server error": "look at the server's log", "timeout": "--timeout-seconds raises the wait",
    "refusal": "the model refuses medical pictures: serve another one",
    "unreadable picture": "look whether the cohort's pictures are still where they were",
}  # fmt: skip
"""Status -> what to do when it is all that comes."""
_ABOUTS: dict[Step, tuple[str, ...]] = {
    "judge": ("name", "shuffled", "random"),
    "judge but shuffled": ("name", "random"),
    "judge shuffled": ("shuffled",),
}
ALIKE = {"explain": 5, "judge": 30}
"""So many names, or verdicts, that all fail alike from the beginning on stop a run."""
_LOOK_SECONDS = 0.2
"""Between two looks for what other commands have answered."""
_EXPLAIN_TOKENS = 300


@dataclass
class _Neuron:
    plan: Plan
    explanation: Explanation
    raw: str = ""
    concepts: dict[str, Control] = field(default_factory=dict)
    """About -> what is judged."""
    verdicts: dict[str, dict[int, Known]] = field(default_factory=dict)
    """about -> image -> verdict."""
    whole: bool = False
    """Every question about the neuron is drawn; the neuron is finished when none of them is open."""
    open: int = 0
    calls: int = 0
    seconds: float = 0.0


@dataclass
class _Ask:
    """What a question in flight is about."""

    neuron: int
    about: str
    pictures: tuple[Picture, ...]
    key: str
    truths: tuple[int, ...] = ()
    """Images that a verdict is written down for."""
    repair: bool = False
    first: str = ""
    """The raw first reply, when this is the repair."""
    settled: bool = False
    """The answer came from another command."""


class Claims(Protocol):
    """Keeps several commands from asking the same at once (`store.claims`)."""

    def take(self, key: str) -> bool:
        """True when nobody else holds `key`; it is held from now on."""
        ...

    def release(self, key: str) -> None: ...

    def release_all(self) -> None: ...


class _Alone:
    """Claims of a command that is alone."""

    def take(self, key: str) -> bool:
        return True

    def release(self, key: str) -> None: ...

    def release_all(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a namer needs of the study, the ledger and other commands."""

    plan: Callable[[int], Plan]
    """Of a neuron."""
    picture: Callable[[int], Picture]
    """Of an image."""
    write: Callable[[list[Row]], None]
    """Rows to the ledger, durable when it returns."""
    other_name: Callable[[int], tuple[str, str] | None] = lambda neuron: None
    """Concept and description for a neuron's shuffled control when no other neuron of the run is named yet."""
    claims: Claims | None = None
    """What this command asks, others do not; None: it is alone."""
    news: Callable[[], None] = lambda: None
    """Takes what others have written into the memory."""


class Namer:
    """Names neurons and puts the names to the test."""

    def __init__(self, setup: Setup, backend: Backend, memory: Memory, around: Surroundings):
        self.setup, self.backend, self.memory = setup, backend, memory
        self.plan, self.picture, self.append = around.plan, around.picture, around.write
        self.other_name = around.other_name
        self.claims: Claims = around.claims or _Alone()
        self.news = around.news
        self.test = way_of(setup.test, setup.protocol, setup.seed)
        self.status: dict[int, str] = {}
        self.asked = self.reused = 0
        self.states: dict[int, _Neuron] = {}
        self.waiting: dict[str, list[_Ask]] = {}
        """Key of a question in flight -> others that wait for the same answer."""
        self.elsewhere: list[tuple[_Ask, Question]] = []
        """Questions that another command asks just now."""
        self.alone = False
        """One of several commands on different neurons: names that others have given are no controls here, so that the
        choice does not depend on who was first."""
        self.left_to_others: list[int] = []
        """Neurons that another command names just now."""
        self.looked = 0.0
        self.to_release: list[str] = []
        self.verdicts: Counter[str] = Counter()
        """status -> verdicts of this command."""
        self.said: Counter[tuple[str, str]] = Counter()
        """(status, what the server or the model said) -> replies that could not be used."""
        self.alike: dict[str, list[str]] = {"explain": [], "judge": []}
        self.fine: set[str] = set()
        """Tasks of which one reply could be used."""

    def name(self, neurons: Sequence[int], task: Task, stop: Callable[[], bool] = lambda: False) -> None:
        """Name every neuron that is not done; `task` advances by one a neuron's share of calls."""
        todo = [n for n in neurons if n not in self.memory.done]
        task.advance((len(neurons) - len(todo)) * self.calls_a_neuron())
        try:
            while todo and not stop():
                self._round(todo, task, stop)
                todo = self._free_again(task, stop)
        finally:
            self.claims.release_all()

    def _round(self, todo: Sequence[int], task: Task, stop: Callable[[], bool]) -> None:
        """Name the neurons of `todo`; those that another command names just now are left to it."""
        agenda = Agenda(todo, PORTION, () if self.alone else self.memory.explained)
        questions: deque[tuple[_Ask, Question]] = deque()
        drawn: deque[tuple[_Ask, Question]] = deque()

        def more() -> tuple[_Ask, Question] | None:
            while True:
                self._look_elsewhere(drawn, agenda, task)
                while not drawn:
                    step = agenda.next()
                    if step is None:
                        return None
                    drawn.extend(self._step(*step, agenda, task))
                ask, question = drawn.popleft()
                if self._mine(ask, agenda, task):
                    return ask, question
                if not ask.settled:
                    self.elsewhere.append((ask, question))

        def on_replies(replies: list[tuple[_Ask, Reply]]) -> None:
            questions.extendleft(self._take(replies, agenda, task))

        with Asker(self.backend) as asker:
            asker.run(questions, on_replies, more, stop, lambda: bool(self.elsewhere))

    def _mine(self, ask: _Ask, agenda: Agenda, task: Task) -> bool:
        """Whether a question is ours to ask; what another command has answered meanwhile is taken over."""
        if not self.backend.is_model:
            return True
        if not self.claims.take(self._claim(ask)):
            return False
        self.news()
        if self._answered(ask, agenda, task):
            self.claims.release(self._claim(ask))
            return False
        return True

    def _answered(self, ask: _Ask, agenda: Agenda, task: Task) -> bool:
        """Take over the answer to a question that the memory has by now; False when it has none."""
        state, rows = self.states[ask.neuron], []
        if ask.about == "explanation":
            known = self.memory.explanations.get(self._explanation_key(ask))
            if known is None:
                return False
            self._take_explained(state, ask, known, rows)
            self._write(rows)
            self._settle_explanation(state, agenda, task)
        else:
            found = [self.memory.verdicts.get((ask.key, image)) for image in ask.truths]
            if None in found:
                return False
            self.reused += 1
            self._take_known(state, ask, [k for k in found if k is not None], rows)
            finished = self._settle_judgement(ask, rows, task)
            self._write(rows)
            for each in finished:
                self._finish(each)
        ask.settled = True
        return True

    def _look_elsewhere(self, drawn: deque[tuple[_Ask, Question]], agenda: Agenda, task: Task) -> None:
        """Now and then: take over what other commands have answered; what they have let go of is ours to ask."""
        if not self.elsewhere or time.monotonic() - self.looked < _LOOK_SECONDS:
            return
        self.news()
        still: list[tuple[_Ask, Question]] = []
        for ask, question in self.elsewhere:
            if self._answered(ask, agenda, task):
                continue
            if self.claims.take(self._claim(ask)):
                drawn.append((ask, question))
            else:
                still.append((ask, question))
        self.elsewhere, self.looked = still, time.monotonic()

    def _free_again(self, task: Task, stop: Callable[[], bool]) -> list[int]:
        """Wait for the neurons that other commands name; returns those that they let go of without a result."""
        while self.left_to_others and not stop():
            self.news()
            free, still = [], []
            for neuron in self.left_to_others:
                if neuron in self.memory.done:
                    self.status[neuron] = self.memory.outcomes[neuron].status
                    task.advance(self.calls_a_neuron())
                else:
                    (free if self.claims.take(self._neuron_key(neuron)) else still).append(neuron)
            self.left_to_others = still
            if free:
                return free
            if still:
                time.sleep(_LOOK_SECONDS)
        return []

    def rehearse(self, neurons: Sequence[int], say: Callable[[str], None]) -> None:
        """Have a backend that wants it tried out with the first questions that will be asked; see `Backend`."""
        rehearse = getattr(self.backend, "rehearse", None)
        if rehearse is None:
            return
        for neuron in neurons:
            if neuron in self.memory.done or (plan := self.plan(neuron)).status != "ok":
                continue
            if not self.claims.take(self._neuron_key(neuron)):
                continue
            self.news()
            if neuron in self.memory.done:
                self.claims.release(self._neuron_key(neuron))
                continue
            self._rehearse(plan, rehearse, say)
            return

    def _rehearse(self, plan: Plan, rehearse: Callable[..., None], say: Callable[[str], None]) -> None:
        explain, known = self._first_explanation(plan)
        if explain is not None and not self.claims.take(explain[1]):
            return

        def judge(concept: str, description: str) -> Question | None:
            for shown in self.test.shown(plan):
                pictures = tuple(self.picture(image) for image in shown.images)
                text = self.test.text(concept, description, len(pictures))
                key = self.key(text, pictures)
                if (key, shown.truths[0]) not in self.memory.verdicts and self.claims.take(key):
                    return self.test.question(plan.neuron, pictures, text, concept, False)
            return None

        rehearse(explain and explain[0], judge, say, known)

    def _first_explanation(self, plan: Plan) -> tuple[tuple[Question, str] | None, tuple[str, str] | None]:
        """The naming question of a plan with its key, or None and the name that is known."""
        if not self.test.needs_a_name:
            return None, ("", "")
        text, pictures = self._explain_text(plan)
        ask = _Ask(plan.neuron, "explanation", pictures, self.key(text, pictures))
        known = self.memory.explanations.get(self._explanation_key(ask))
        if known is None:
            return (self._explain_question(ask, text), self._claim(ask)), None
        return None, (known["concept"], known["description"]) if known["status"] == "ok" else None

    def _explain_text(self, plan: Plan) -> tuple[str, tuple[Picture, ...]]:
        """The naming question and its pictures."""
        pictures = tuple(self.picture(image) for image in (*plan.naming, *plan.contrast))
        return prompts.explain(self.setup.protocol, len(plan.naming), plan.top, len(plan.contrast)), pictures

    def calls_a_neuron(self) -> int:
        """Questions for one neuron without repairs: one to name it, the rest to test it."""
        asked = self.test.count(self.setup.pictures)
        return int(self.test.needs_a_name) + asked * (1 + self._controls())

    def _controls(self) -> int:
        if not (self.setup.controls and self.test.needs_a_name):
            return 0
        return 2 if self.backend.is_model else 1

    def _step(self, neuron: int, step: Step, agenda: Agenda, task: Task) -> list[tuple[_Ask, Question]]:
        """The questions of one step; what the ledger answers is taken over on the way."""
        if step == "explain":
            return self._explanation(neuron, agenda, task)
        state = self.states[neuron]
        asked_for = ("name", "shuffled", "random")[: 1 + self._controls()]
        abouts = [about for about in _ABOUTS[step] if about in asked_for]
        self._choose_controls(state, abouts, agenda)
        state.whole = step != "judge but shuffled"
        questions = self._judgements(state, abouts, task)
        if state.whole and state.open == 0:
            self._finish(state)
        return questions

    def _take(self, replies: list[tuple[_Ask, Reply]], agenda: Agenda, task: Task) -> list[tuple[_Ask, Question]]:
        """Write down what has arrived; returns the repairs that are to be asked."""
        rows: list[Row] = []
        repairs, finished = [], []
        for ask, reply in replies:
            state = self.states[ask.neuron]
            self._count(state, reply)
            take = self._take_explanation if ask.about == "explanation" else self._take_judgement
            again = take(state, ask, reply, rows)
            if again is not None:
                repairs.append(again)
            elif ask.about == "explanation":
                self._settle_explanation(state, agenda, task)
            else:
                finished += self._settle_judgement(ask, rows, task)
        self._write(rows)
        for state in finished:
            self._finish(state)
        self.stop_early()
        return repairs

    # --- explaining

    def _explanation(self, neuron: int, agenda: Agenda, task: Task) -> list[tuple[_Ask, Question]]:
        """The question for a neuron's name; none when it is answered already, cannot be asked, or another command
        names the neuron."""
        if not self.claims.take(self._neuron_key(neuron)):
            self.left_to_others.append(neuron)
            agenda.explained(neuron, False)
            return []
        self.news()
        plan, rows = self.plan(neuron), []
        if neuron in self.memory.done or plan.status != "ok":
            if neuron not in self.memory.done:
                row = self._row("name", neuron, status=plan.status, note=plan.note, firing=plan.firing)
                self._write([row])
                self.memory.outcomes[neuron] = Outcome.of(row)
            self._settle(neuron, self.memory.outcomes[neuron].status)
            self._flush()
            agenda.explained(neuron, False)
            task.advance(self.calls_a_neuron())
            return []
        state = self.states[neuron] = _Neuron(plan, Explanation("unparsable"))
        if not self.test.needs_a_name:
            state.explanation = Explanation("ok")
            agenda.explained(neuron, True)
            return []
        text, pictures = self._explain_text(plan)
        ask = _Ask(neuron, "explanation", pictures, self.key(text, pictures))
        known = self.memory.explanations.get(self._explanation_key(ask))
        if known is None:
            return [(ask, self._explain_question(ask, text))]
        self._take_explained(state, ask, known, rows)
        self._write(rows)
        self._settle_explanation(state, agenda, task)
        return []

    def _take_explained(self, state: _Neuron, ask: _Ask, known: Row, rows: list[Row]) -> None:
        """Take over a name, or the reason for none, that the ledger has."""
        self.reused += 1
        texts = (known.get(k) or "" for k in ("concept", "description", "note"))
        self._explained(state, ask, Explanation(known["status"], *texts), known.get("raw"), rows)

    def _take_explanation(
        self, state: _Neuron, ask: _Ask, reply: Reply, rows: list[Row]
    ) -> tuple[_Ask, Question] | None:
        """Write down the name of a reply, or return the repair question when it deserves one."""
        explanation = Explanation(reply.status, reason=reply.text[:200])
        if reply.status == "ok":
            explanation = parse_explanation(reply.text)
            why = fault(reply.thought, reply.cut, not reply.text.strip())
            if explanation.status != "ok" and why is not None:
                explanation = Explanation(why, reason=_FAULTS[why])
        if explanation.status != "ok" and reply.status == "ok" and not ask.repair:
            text, _ = self._explain_text(state.plan)
            text = prompts.REPAIR_EXPLAIN.format(prompt=text, reason=explanation.reason)
            again = replace(ask, repair=True, first=reply.text)
            return again, self._explain_question(again, text)
        self.note("explain", explanation.status, reply.text)
        raw = f"{ask.first[: RAW_LIMIT // 2]}\n--- second try ---\n{reply.text}" if ask.repair else reply.text
        self._explained(state, ask, explanation, raw, rows)
        return None

    def _settle_explanation(self, state: _Neuron, agenda: Agenda, task: Task) -> None:
        named = state.explanation.status == "ok"
        agenda.explained(state.plan.neuron, named)
        task.advance(1 if named else self.calls_a_neuron())
        if not named:
            del self.states[state.plan.neuron]

    def _explain_question(self, ask: _Ask, text: str) -> Question:
        return Question("explain", ask.pictures, prompts.SYSTEM, text, prompts.EXPLAIN_SCHEMA, _EXPLAIN_TOKENS,
                        ask.neuron)  # fmt: skip

    def _explained(self, state: _Neuron, ask: _Ask, explanation: Explanation, raw: str | None, rows: list[Row]) -> None:
        neuron = ask.neuron
        state.explanation, state.raw = explanation, (raw or "")[:RAW_LIMIT]
        rows.append(self._row(
            "explanation", neuron, key=self._explanation_key(ask), concept=explanation.concept,
            description=explanation.description, status=explanation.status, note=explanation.reason, raw=state.raw,
            naming=list(state.plan.naming), top=state.plan.top,
        ))  # fmt: skip
        self.to_release.append(self._claim(ask))
        if explanation.status in FINAL:
            self.memory.explanations[self._explanation_key(ask)] = rows[-1]
        if explanation.status == "ok":
            self.memory.explained[neuron] = (explanation.concept, explanation.description)
            return
        retry = int(explanation.status not in FINAL)
        rows.append(self._row("name", neuron, status=explanation.status, note=explanation.reason, raw=state.raw,
                              firing=state.plan.firing, naming=list(state.plan.naming), retry=retry))  # fmt: skip
        self.memory.outcomes[neuron] = Outcome.of(rows[-1])
        self._settle(neuron, explanation.status, retry)

    # --- judging

    def _choose_controls(self, state: _Neuron, abouts: Sequence[str], agenda: Agenda) -> None:
        neuron, own = state.plan.neuron, state.explanation
        rows: list[Row] = []
        for about in abouts:
            if about == "name":
                state.concepts["name"] = (own.concept, own.description, None)
                continue
            chosen = self.memory.controls.get((neuron, about))
            if chosen is None:
                found = self._shuffled(neuron, own, agenda.others) if about == "shuffled" else self._random(neuron, own)
                if found is None:
                    continue
                concept, description, other = found
                chosen = self._row(
                    "control", neuron, about=about, concept=concept, description=description, other=other
                )
                self.memory.controls[neuron, about] = chosen
                rows.append(chosen)
            state.concepts[about] = (chosen["concept"], chosen["description"], chosen.get("other"))
        if rows:
            self._write(rows)

    def _shuffled(self, neuron: int, own: Explanation, others: set[int]) -> Control | None:
        """Another neuron's name that says something else; a label's name while no other neuron is named."""
        key = prompts.group_key(own.concept)
        found = sorted(others - {neuron})
        for i in np.random.default_rng([self.setup.seed, neuron, 1]).permutation(len(found)):
            concept, description = self.memory.explained[found[i]]
            if prompts.group_key(concept) != key:
                return concept, description, found[i]
        other = self.other_name(neuron)
        if other is None or prompts.group_key(other[0]) == key:
            return None
        return other[0], other[1], None

    def _random(self, neuron: int, own: Explanation) -> Control:
        choices = [c for c in prompts.RANDOM_CONCEPTS if prompts.group_key(c[0]) != prompts.group_key(own.concept)]
        concept, description = choices[np.random.default_rng([self.setup.seed, neuron, 2]).integers(len(choices))]
        return concept, description, None

    def _judgements(self, state: _Neuron, abouts: Sequence[str], task: Task) -> list[tuple[_Ask, Question]]:
        """The questions about a neuron that neither the ledger answers nor another neuron asks just now.

        Known answers are taken over on the way; who shares a question waits for its answer in `waiting`.
        """
        plan, questions, rows = state.plan, [], []
        for about in (a for a in abouts if a in state.concepts):
            concept, description, _ = state.concepts[about]
            state.verdicts[about] = {}
            texts: dict[int, str] = {}
            for shown in self.test.shown(plan):
                pictures = tuple(self.picture(image) for image in shown.images)
                n = len(pictures)
                text = texts.get(n) or texts.setdefault(n, self.test.text(concept, description, n))
                ask = _Ask(plan.neuron, about, pictures, self.key(text, pictures), shown.truths)
                known = [self.memory.verdicts.get((ask.key, image)) for image in shown.truths]
                if None not in known:
                    self.reused += 1
                    task.advance()
                    self._take_known(state, ask, [k for k in known if k is not None], rows)
                    continue
                state.open += 1
                if ask.key in self.waiting:
                    self.reused += 1
                    self.waiting[ask.key].append(ask)
                    continue
                self.waiting[ask.key] = []
                questions.append((ask, self.test.question(plan.neuron, pictures, text, concept, False)))
        self._write(rows)
        return questions

    def _take_judgement(self, state: _Neuron, ask: _Ask, reply: Reply, rows: list[Row]) -> tuple[_Ask, Question] | None:
        """Write down the verdicts of a reply, or return the repair question when it deserves one."""
        n, images = len(ask.pictures), [p.image for p in ask.pictures]
        if reply.status == "ok":
            verdicts = self.test.read(reply, images, ask.truths)
        else:
            verdicts = [Verdict(reply.status)] * len(ask.truths)
        why = fault(reply.thought, reply.cut, not reply.text.strip())
        if reply.status == "ok" and why is not None and verdicts[0].status in ("empty", "unparsable", "wrong shape"):
            verdicts = [Verdict(why)] * len(ask.truths)
        repairable = ("empty", "unparsable", "wrong shape", "cut off", "only thinking")
        if reply.status == "ok" and verdicts[0].status in repairable and not ask.repair:
            concept, description, _ = state.concepts[ask.about]
            text = self.test.again(self.test.text(concept, description, n), n)
            again = replace(ask, repair=True, first=reply.text)
            return again, self.test.question(ask.neuron, ask.pictures, text, concept, True)
        raw = reply.text[:RAW_LIMIT] or None
        for verdict in verdicts:
            self.note("judge", verdict.status, reply.text)
        for image, verdict in zip(ask.truths, verdicts, strict=True):
            rows.append(self._verdict_row(state, ask, image, verdict, reply.mass, raw))
            if verdict.status in FINAL:
                self.memory.verdicts[ask.key, image] = state.verdicts[ask.about][image]
        return None

    def _settle_judgement(self, ask: _Ask, rows: list[Row], task: Task) -> list[_Neuron]:
        """Hand the verdicts of a question to all who wait for them; returns the neurons that are finished by it."""
        finished = []
        known = [self.states[ask.neuron].verdicts[ask.about][image] for image in ask.truths]
        self.to_release.append(self._claim(ask))
        for other in [ask, *self.waiting.pop(ask.key)]:
            theirs = self.states[other.neuron]
            if other is not ask:
                self._take_known(theirs, other, known, rows)
            task.advance()
            theirs.open -= 1
            if theirs.whole and theirs.open == 0:
                finished.append(theirs)
        return finished

    def _take_known(self, state: _Neuron, ask: _Ask, known: list[Known], rows: list[Row]) -> None:
        for image, old in zip(ask.truths, known, strict=True):
            verdict = Verdict(old.status, old.yes, old.p)
            new = self._verdict_row(state, ask, image, verdict, old.mass, old.raw)
            if (ask.neuron, ask.about, image, ask.key) not in self.memory.written:
                rows.append(new)

    def _verdict_row(
        self, state: _Neuron, ask: _Ask, image: int, verdict: Verdict, mass: float | None, raw: str | None
    ) -> Row:
        self.verdicts[verdict.status] += 1
        tested = next(t for t in state.plan.tested if t.image == image)
        state.verdicts[ask.about][image] = Known(verdict.status, verdict.yes, verdict.p, mass, raw)
        return self._row(
            "verdict", ask.neuron, about=ask.about, image=image, fires=tested.fires, value=tested.value,
            quantile=tested.quantile, hard_one=tested.hard or None, yes=verdict.yes, p=verdict.p, mass=mass,
            status=verdict.status, raw=raw, key=ask.key,
            shown=None if self.test.name == "detection" else [p.image for p in ask.pictures],
        )  # fmt: skip

    # --- the result of a neuron

    def _finish(self, state: _Neuron) -> None:
        neuron, retry = (
            state.plan.neuron,
            sum(v.status not in FINAL for f in state.verdicts.values() for v in f.values()),
        )
        values = self.test.result(state.plan, state.explanation, state.concepts, state.verdicts)
        row = self._row("name", neuron, retry=retry, calls=state.calls, seconds=state.seconds, **values)
        self._write([row])
        self.memory.outcomes[neuron] = Outcome.of(row)
        self._settle(neuron, "ok", retry)
        self._flush()
        del self.states[neuron]

    # --- small things

    def _row(self, kind: str, neuron: int, **values: Any) -> Row:
        return self.row(kind, neuron=neuron, **values)

    def row(self, kind: str, **values: Any) -> Row:
        """A line of the ledger that belongs to this run."""
        return {"kind": kind, "run": self.setup.run, "take": self.setup.take, **values}

    def _settle(self, neuron: int, status: str, retry: int = 0) -> None:
        self.status[neuron] = status
        if not retry:
            self.memory.done.add(neuron)
        self.to_release.append(self._neuron_key(neuron))

    def _write(self, rows: list[Row]) -> None:
        """Rows to the ledger; then others may ask what was claimed for them."""
        self.append(rows)
        self._flush()

    def _flush(self) -> None:
        for key in self.to_release:
            self.claims.release(key)
        self.to_release.clear()

    def _claim(self, ask: _Ask) -> str:
        return self._explanation_key(ask) if ask.about == "explanation" else ask.key

    def _neuron_key(self, neuron: int) -> str:
        return f"{self.setup.run} {self.setup.take} {neuron}"

    def note(self, task: str, status: str, said: str) -> None:
        """Count what a reply was good for: the end of the run tells it, and a run in which nothing works stops."""
        if status == "ok":
            self.fine.add(task)
            return
        self.said[status, " ".join(said.split())[:160]] += 1
        if task not in self.fine:
            self.alike[task].append(status)

    def stop_early(self) -> None:
        """UserError when the first names, or the first verdicts, all failed alike."""
        for task, statuses in self.alike.items():
            if task not in self.fine and len(statuses) >= ALIKE[task] and len(set(statuses)) == 1:
                what = "names" if task == "explain" else "verdicts"
                (status, said), _ = self.said.most_common(1)[0]
                raise UserError(
                    f"the first {len(statuses)} {what} all failed alike: {status}" + (f" ({said})" if said else ""),
                    self.backend.model, _MEND.get(statuses[0], "look at what it wrote, and at the server's log")
                    + "; answers so far are kept",
                )  # fmt: skip

    def _count(self, state: _Neuron, reply: Reply) -> None:
        self.asked += 1
        state.calls += 1
        state.seconds += reply.seconds

    def key(self, text: str, pictures: Sequence[Picture]) -> str:
        """The same question has the same key: model, prompt version, pictures and text (which holds the concept)."""
        parts = [self.backend.name, self.backend.model, prompts.VERSION, str(self.setup.take), text]
        parts += [p.sha256 for p in pictures]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def _explanation_key(self, ask: _Ask) -> str:
        # The labels, for one, look at the neuron and not at its pictures.
        return f"{ask.key}-{ask.neuron}" if self.backend.by_neuron else ask.key
