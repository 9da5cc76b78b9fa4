"""Several servers of one model as one backend: the least busy is asked, and one that dies is left out and said.

What is not covered: two servers that name the same model and hold other weights, unless they say so (`root`) or answer
the rehearsal's question the other way round.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from medsae.naming.backends import Backend, Question, Reply
from medsae.progress import UserError

if TYPE_CHECKING:
    from medsae.naming.backends.endpoint import Endpoint

_LOST = ("unreachable", "timeout", "broken reply", "server error")
"""Replies after which it is asked whether the server is there at all."""
_OTHER_WEIGHTS, _TOLD = 0.5, 0.1
"""P(yes) of one question at two servers: so far apart, they hold other weights; so far apart, it is said."""


class Several(Backend):
    """Servers of one model. Each has its own number of requests in flight; a question goes to the server with fewest.

    A server that loses a question and then does not answer at all is left out for the rest of the run, and its question
    goes to another. The last one is never left out: it ends the run as a single server does.
    """

    name, batch = "endpoint", 1

    def __init__(self, endpoints: Sequence[Endpoint], say: Callable[[str], None] = lambda line: None):
        """endpoints: prepared, at least two; UserError where they serve different models."""
        for one, other in pairwise(endpoints):
            _same_model(one, other)
        self.endpoints, self.alive, self.say = tuple(endpoints), list(endpoints), say
        self.model = endpoints[0].model
        self.concurrency = sum(endpoint.concurrency for endpoint in endpoints)
        self.lock = threading.Lock()
        self.flying: Counter[str] = Counter()
        """Address -> questions that are with it now."""
        self.answered: Counter[str] = Counter()
        self.lost: dict[str, str] = {}
        """Address -> why it was left out."""
        self.closed = False

    def rehearse(
        self, explain: Question | None, judge: Callable[[str, str], Question | None], say: Callable[[str], None],
        known: tuple[str, str] | None = None,
    ) -> None:  # fmt: skip
        """The rehearsal of each server; UserError where two of them give opposite answers to the same question."""
        for endpoint in self.endpoints:
            endpoint.rehearse(explain, judge, endpoint.say, known)
        for one, other in pairwise(self.endpoints):
            for question in one.rehearsed.keys() & other.rehearsed.keys():
                self._same_answer(one, other, one.rehearsed[question].p_yes, other.rehearsed[question].p_yes)

    def _same_answer(self, one: Endpoint, other: Endpoint, p: float | None, q: float | None) -> None:
        if p is None or q is None or abs(p - q) <= _TOLD:
            return
        what = f"two servers of {self.model!r} answer the same question with P(yes) {p:.2f} and {q:.2f}"
        where = f"{one.address} and {other.address}"
        if abs(p - q) > _OTHER_WEIGHTS:
            raise UserError(f"{what}: they hold other weights", where, "serve the same weights at every --endpoint")
        self.say(f"{what} ({where}): results depend on which of them is asked")

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        return [self._ask(question) for question in questions]

    def _ask(self, question: Question) -> Reply:
        for endpoint in self.endpoints:
            known = endpoint.known(question)
            if known is not None:
                return known
        while True:
            endpoint = self._least_busy()
            try:
                reply = endpoint.ask([question])[0]
            except UserError as gone:
                if not self._leave_out(endpoint, gone.what):
                    raise
                continue
            finally:
                with self.lock:
                    self.flying[endpoint.address] -= 1
            lost = reply.status in _LOST and not self.closed and not self._there(endpoint)
            if not lost or not self._leave_out(endpoint, f"{reply.status}: {reply.text[:200]}"):
                with self.lock:
                    self.answered[endpoint.address] += 1
                return reply

    def _least_busy(self) -> Endpoint:
        with self.lock:
            chosen = min(self.alive, key=lambda e: (self.flying[e.address], self.answered[e.address]))
            self.flying[chosen.address] += 1
        return chosen

    def _there(self, endpoint: Endpoint) -> bool:
        """The last server is not looked at: it has nobody to hand its questions to."""
        return self.alive == [endpoint] or endpoint.answers()

    def _leave_out(self, endpoint: Endpoint, why: str) -> bool:
        """Ask this server no more; False for the last one, which stays."""
        with self.lock:
            if endpoint not in self.alive:
                return True
            if len(self.alive) == 1:
                return False
            self.alive.remove(endpoint)
            self.lost[endpoint.address] = why
            left = len(self.alive)
        self.say(f"{endpoint.address} is gone and left out ({why}); {left} of {len(self.endpoints)} servers go on, and "
                 "its questions are asked there")  # fmt: skip
        return True

    def facts(self) -> dict[str, Any]:
        each = [endpoint.facts() for endpoint in self.endpoints]
        facts: dict[str, Any] = {}
        for theirs in reversed(each):
            facts |= theirs
        facts["retries"] = sum(theirs["retries"] for theirs in each)
        judged, bare = (sum(getattr(e, name) for e in self.endpoints) for name in ("judged", "without_logprobs"))
        if bare:
            facts["without_probability"] = bare
            facts["note"] = f"{bare} of {judged} verdicts came without logprobs: yes or no alone"
        facts["answered"] = {endpoint.address: self.answered[endpoint.address] for endpoint in self.endpoints}
        return facts | ({"gone": self.lost} if self.lost else {})

    def close(self) -> None:
        self.closed = True
        for endpoint in self.endpoints:
            endpoint.close()


def _same_model(one: Endpoint, other: Endpoint) -> None:
    names = [one.model, other.model]
    if names[0] == names[1] and one.root is not None and other.root is not None:
        names = [one.root, other.root]
    if names[0] != names[1]:
        raise UserError(f"the servers serve different models: {names[0]} and {names[1]}",
                        f"{one.address} and {other.address}", "give the address of servers of one model")  # fmt: skip
