"""Naming neurons: explain, then judge the name and its controls on the same pictures, and write down everything.

Neurons are taken in portions: all of a portion are explained first, so that another neuron's name is at hand as a
control, then all their pictures are judged, several neurons in flight at once (`agenda`). Every reply is written when
it arrives.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from medsae.naming import controls, prompts
from medsae.naming.agenda import Agenda, Step
from medsae.naming.asking import Asker
from medsae.naming.backends import Backend, Picture, Question, Reply
from medsae.naming.memory import Known, Memory, Outcome, Row, Setup
from medsae.naming.replies import FINAL, RAW_LIMIT, Explanation, Verdict, fault, parse_explanation
from medsae.naming.result import Control
from medsae.naming.selection import Plan
from medsae.naming.states import Alone, Ask, Claims, Neuron, Surroundings
from medsae.naming.tally import Tally
from medsae.naming.testing import way_of
from medsae.progress import Task

PORTION = 64
"""Neurons explained before their names are judged."""
_FAULTS = {"empty": "it was empty", "cut off": "it was cut off by the limit of tokens",
           "only thinking": "the model thought and did not answer"}  # fmt: skip
_ABOUTS: dict[Step, tuple[str, ...]] = {
    "judge": ("name", "shuffled", "random"),
    "judge but shuffled": ("name", "random"),
    "judge shuffled": ("shuffled",),
}
_LOOK_SECONDS = 0.2
"""Between two looks for what other commands have answered."""
_EXPLAIN_TOKENS = 300


class Namer:
    """Names neurons and puts the names to the test."""

    def __init__(self, setup: Setup, backend: Backend, memory: Memory, around: Surroundings):
        self.setup, self.backend, self.memory = setup, backend, memory
        self.plan, self.picture, self.append = around.plan, around.picture, around.write
        self.other_name = around.other_name
        self.claims: Claims = around.claims or Alone()
        self.news = around.news
        self.test = way_of(setup.test, setup.protocol, setup.seed)
        self.status: dict[int, str] = {}
        self.asked = self.reused = 0
        self.states: dict[int, Neuron] = {}
        self.waiting: dict[str, list[Ask]] = {}
        """Key of a question in flight -> others that wait for the same answer."""
        self.elsewhere: list[tuple[Ask, Question]] = []
        """Questions that another command asks just now."""
        self.alone = False
        """One of several commands on different neurons: names that others have given are no controls here, so that the
        choice does not depend on who was first."""
        self.left_to_others: list[int] = []
        """Neurons that another command names just now."""
        self.looked = 0.0
        self.to_release: list[str] = []
        self.tally = Tally()

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
        questions: deque[tuple[Ask, Question]] = deque()
        drawn: deque[tuple[Ask, Question]] = deque()

        def more() -> tuple[Ask, Question] | None:
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

        def on_replies(replies: list[tuple[Ask, Reply]]) -> None:
            questions.extendleft(self._take(replies, agenda, task))

        with Asker(self.backend) as asker:
            asker.run(questions, on_replies, more, stop, lambda: bool(self.elsewhere))

    def _mine(self, ask: Ask, agenda: Agenda, task: Task) -> bool:
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

    def _answered(self, ask: Ask, agenda: Agenda, task: Task) -> bool:
        """Take over the answer to a question that the memory has by now; False when it has none."""
        state, rows = self.states[ask.neuron], []
        if ask.about == "explanation":
            known = self.memory.explanations.get(self.explanation_key(ask))
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

    def _look_elsewhere(self, drawn: deque[tuple[Ask, Question]], agenda: Agenda, task: Task) -> None:
        """Now and then: take over what other commands have answered; what they have let go of is ours to ask."""
        if not self.elsewhere or time.monotonic() - self.looked < _LOOK_SECONDS:
            return
        self.news()
        still: list[tuple[Ask, Question]] = []
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
                    (free if self.claims.take(self.neuron_key(neuron)) else still).append(neuron)
            self.left_to_others = still
            if free:
                return free
            if still:
                time.sleep(_LOOK_SECONDS)
        return []

    def explain_text(self, plan: Plan) -> tuple[str, tuple[Picture, ...]]:
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

    def _step(self, neuron: int, step: Step, agenda: Agenda, task: Task) -> list[tuple[Ask, Question]]:
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

    def _take(self, replies: list[tuple[Ask, Reply]], agenda: Agenda, task: Task) -> list[tuple[Ask, Question]]:
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
        self.tally.stop_early(self.backend.model)
        return repairs

    # --- explaining

    def _explanation(self, neuron: int, agenda: Agenda, task: Task) -> list[tuple[Ask, Question]]:
        """The question for a neuron's name; none when it is answered already, cannot be asked, or another command
        names the neuron."""
        if not self.claims.take(self.neuron_key(neuron)):
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
        state = self.states[neuron] = Neuron(plan, Explanation("unparsable"))
        if not self.test.needs_a_name:
            state.explanation = Explanation("ok")
            agenda.explained(neuron, True)
            return []
        text, pictures = self.explain_text(plan)
        ask = Ask(neuron, "explanation", pictures, self.key(text, pictures))
        known = self.memory.explanations.get(self.explanation_key(ask))
        if known is None:
            return [(ask, self.explain_question(ask, text))]
        self._take_explained(state, ask, known, rows)
        self._write(rows)
        self._settle_explanation(state, agenda, task)
        return []

    def _take_explained(self, state: Neuron, ask: Ask, known: Row, rows: list[Row]) -> None:
        """Take over a name, or the reason for none, that the ledger has."""
        self.reused += 1
        texts = (known.get(k) or "" for k in ("concept", "description", "note"))
        self._explained(state, ask, Explanation(known["status"], *texts), known.get("raw"), rows)

    def _take_explanation(self, state: Neuron, ask: Ask, reply: Reply, rows: list[Row]) -> tuple[Ask, Question] | None:
        """Write down the name of a reply, or return the repair question when it deserves one."""
        explanation = Explanation(reply.status, reason=reply.text[:200])
        if reply.status == "ok":
            explanation = parse_explanation(reply.text)
            why = fault(reply.thought, reply.cut, not reply.text.strip())
            if explanation.status != "ok" and why is not None:
                explanation = Explanation(why, reason=_FAULTS[why])
        if explanation.status != "ok" and reply.status == "ok" and not ask.repair:
            text, _ = self.explain_text(state.plan)
            text = prompts.REPAIR_EXPLAIN.format(prompt=text, reason=explanation.reason)
            again = replace(ask, repair=True, first=reply.text)
            return again, self.explain_question(again, text)
        self.tally.note("explain", explanation.status, reply.text)
        raw = f"{ask.first[: RAW_LIMIT // 2]}\n--- second try ---\n{reply.text}" if ask.repair else reply.text
        self._explained(state, ask, explanation, raw, rows)
        return None

    def _settle_explanation(self, state: Neuron, agenda: Agenda, task: Task) -> None:
        named = state.explanation.status == "ok"
        agenda.explained(state.plan.neuron, named)
        task.advance(1 if named else self.calls_a_neuron())
        if not named:
            del self.states[state.plan.neuron]

    def explain_question(self, ask: Ask, text: str) -> Question:
        return Question("explain", ask.pictures, prompts.SYSTEM, text, prompts.EXPLAIN_SCHEMA, _EXPLAIN_TOKENS,
                        ask.neuron)  # fmt: skip

    def _explained(self, state: Neuron, ask: Ask, explanation: Explanation, raw: str | None, rows: list[Row]) -> None:
        neuron = ask.neuron
        state.explanation, state.raw = explanation, (raw or "")[:RAW_LIMIT]
        rows.append(self._row(
            "explanation", neuron, key=self.explanation_key(ask), concept=explanation.concept,
            description=explanation.description, status=explanation.status, note=explanation.reason, raw=state.raw,
            naming=list(state.plan.naming), top=state.plan.top,
        ))  # fmt: skip
        self.to_release.append(self._claim(ask))
        if explanation.status in FINAL:
            self.memory.explanations[self.explanation_key(ask)] = rows[-1]
        if explanation.status == "ok":
            self.memory.explained[neuron] = (explanation.concept, explanation.description)
            return
        retry = int(explanation.status not in FINAL)
        rows.append(self._row("name", neuron, status=explanation.status, note=explanation.reason, raw=state.raw,
                              firing=state.plan.firing, naming=list(state.plan.naming), retry=retry))  # fmt: skip
        self.memory.outcomes[neuron] = Outcome.of(rows[-1])
        self._settle(neuron, explanation.status, retry)

    # --- judging

    def _choose_controls(self, state: Neuron, abouts: Sequence[str], agenda: Agenda) -> None:
        neuron, own = state.plan.neuron, state.explanation
        rows: list[Row] = []
        for about in abouts:
            if about == "name":
                state.concepts["name"] = (own.concept, own.description, None)
                continue
            chosen = self.memory.controls.get((neuron, about))
            if chosen is None:
                found = self._control(about, neuron, own.concept, agenda.others)
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

    def _control(self, about: str, neuron: int, own: str, others: set[int]) -> Control | None:
        if about == "random":
            return controls.random(neuron, own, self.setup.seed)
        found = controls.shuffled(neuron, own, self.memory.explained, others, self.setup.seed)
        return found or controls.borrowed(own, self.other_name(neuron))

    def _judgements(self, state: Neuron, abouts: Sequence[str], task: Task) -> list[tuple[Ask, Question]]:
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
                ask = Ask(plan.neuron, about, pictures, self.key(text, pictures), shown.truths)
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

    def _take_judgement(self, state: Neuron, ask: Ask, reply: Reply, rows: list[Row]) -> tuple[Ask, Question] | None:
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
            self.tally.note("judge", verdict.status, reply.text)
        for image, verdict in zip(ask.truths, verdicts, strict=True):
            rows.append(self._verdict_row(state, ask, image, verdict, reply.mass, raw))
            if verdict.status in FINAL:
                self.memory.verdicts[ask.key, image] = state.verdicts[ask.about][image]
        return None

    def _settle_judgement(self, ask: Ask, rows: list[Row], task: Task) -> list[Neuron]:
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

    def _take_known(self, state: Neuron, ask: Ask, known: list[Known], rows: list[Row]) -> None:
        for image, old in zip(ask.truths, known, strict=True):
            verdict = Verdict(old.status, old.yes, old.p)
            new = self._verdict_row(state, ask, image, verdict, old.mass, old.raw)
            if (ask.neuron, ask.about, image, ask.key) not in self.memory.written:
                rows.append(new)

    def _verdict_row(
        self, state: Neuron, ask: Ask, image: int, verdict: Verdict, mass: float | None, raw: str | None
    ) -> Row:
        self.tally.verdicts[verdict.status] += 1
        tested = next(t for t in state.plan.tested if t.image == image)
        state.verdicts[ask.about][image] = Known(verdict.status, verdict.yes, verdict.p, mass, raw)
        return self._row(
            "verdict", ask.neuron, about=ask.about, image=image, fires=tested.fires, value=tested.value,
            quantile=tested.quantile, hard_one=tested.hard or None, yes=verdict.yes, p=verdict.p, mass=mass,
            status=verdict.status, raw=raw, key=ask.key,
            shown=None if self.test.name == "detection" else [p.image for p in ask.pictures],
        )  # fmt: skip

    # --- the result of a neuron

    def _finish(self, state: Neuron) -> None:
        neuron = state.plan.neuron
        retry = sum(v.status not in FINAL for found in state.verdicts.values() for v in found.values())
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
        self.to_release.append(self.neuron_key(neuron))

    def _write(self, rows: list[Row]) -> None:
        """Rows to the ledger; then others may ask what was claimed for them."""
        self.append(rows)
        self._flush()

    def _flush(self) -> None:
        for key in self.to_release:
            self.claims.release(key)
        self.to_release.clear()

    def _claim(self, ask: Ask) -> str:
        return self.explanation_key(ask) if ask.about == "explanation" else ask.key

    def neuron_key(self, neuron: int) -> str:
        """What is claimed for naming a neuron in this run."""
        return f"{self.setup.run} {self.setup.take} {neuron}"

    def _count(self, state: Neuron, reply: Reply) -> None:
        self.asked += 1
        state.calls += 1
        state.seconds += reply.seconds

    def key(self, text: str, pictures: Sequence[Picture]) -> str:
        """The same question has the same key: model, prompt version, pictures and text (which holds the concept)."""
        parts = [self.backend.name, self.backend.model, prompts.VERSION, str(self.setup.take), text]
        parts += [p.sha256 for p in pictures]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def explanation_key(self, ask: Ask) -> str:
        # The labels, for one, look at the neuron and not at its pictures.
        return f"{ask.key}-{ask.neuron}" if self.backend.by_neuron else ask.key
