"""Keeps a backend busy: the configured number of requests is always in flight, and replies come back as they arrive."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from medsae.naming.backends import Backend, Question, Reply

Tag = TypeVar("Tag")
_AHEAD = 2  # batches waiting for each worker, so that none ever waits for us
_PATIENCE_SECONDS = 2.0
_PAUSE_SECONDS = 0.1


class Asker(Generic[Tag]):
    """Puts questions to a backend from `backend.concurrency` threads. Use as a context manager.

    The threads are daemons: Ctrl-C lets questions in flight end for at most `_PATIENCE_SECONDS`, and never waits for a
    server that hangs.
    """

    def __init__(self, backend: Backend):
        self.backend = backend
        self.todo: queue.SimpleQueue[list[tuple[Tag, Question]] | None] = queue.SimpleQueue()
        self.done: queue.SimpleQueue[list[tuple[Tag, Reply]] | BaseException] = queue.SimpleQueue()

    def __enter__(self) -> Asker[Tag]:
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self.backend.concurrency)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        while not self.todo.empty():
            try:
                self.todo.get_nowait()
            except queue.Empty:
                break
        for _ in self.threads:
            self.todo.put(None)
        end = time.monotonic() + _PATIENCE_SECONDS
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))

    def run(
        self,
        questions: deque[tuple[Tag, Question]],
        on_replies: Callable[[list[tuple[Tag, Reply]]], None],
        more: Callable[[], tuple[Tag, Question] | None] = lambda: None,
        stop: Callable[[], bool] = lambda: False,
        waits: Callable[[], bool] = lambda: False,
    ) -> None:
        """Ask until `questions` is empty, `more` has nothing and every reply has come; `on_replies` may add questions.

        `more` gives one further question, or None when there is none before another reply; it is called only when a
        worker would wait otherwise, so that choosing pictures costs no time of ours.

        on_replies runs in this thread, with every reply that has arrived meanwhile. What has arrived is handed over
        before a UserError of the backend is raised. `stop` true: what is not yet asked is dropped. `waits` true: the
        answer to something comes from elsewhere, so `more` is asked again though nothing is in flight.
        """
        flying, stopped = 0, False
        failed: BaseException | None = None
        while True:
            while not stopped and flying < _AHEAD * self.backend.concurrency:
                while len(questions) < self.backend.batch and (found := more()) is not None:
                    questions.append(found)
                if not questions:
                    break
                batch = [questions.popleft() for _ in range(min(self.backend.batch, len(questions)))]
                self.todo.put(batch)
                flying += 1
            if not flying:
                if stopped or stop() or not waits():
                    break
                time.sleep(_PAUSE_SECONDS)
                continue
            arrived, results = [], [self._next()]
            while not self.done.empty():
                results.append(self.done.get())
            for result in results:
                flying -= 1
                if isinstance(result, BaseException):
                    failed = failed or result
                else:
                    arrived += result
            if arrived:
                on_replies(arrived)
            if failed is not None or stop():
                questions.clear()
                stopped = True
                flying -= self._drop()
        if failed is not None:
            raise failed

    def _drop(self) -> int:
        """Take back the batches that no worker has begun; returns how many."""
        taken = 0
        while True:
            try:
                self.todo.get_nowait()
                taken += 1
            except queue.Empty:
                return taken

    def _next(self) -> list[tuple[Tag, Reply]] | BaseException:
        while True:
            try:
                return self.done.get(timeout=0.5)  # a wait without end would not let Ctrl-C in on every system
            except queue.Empty:
                continue

    def _work(self) -> None:
        while (batch := self.todo.get()) is not None:
            try:
                replies = self.backend.ask([question for _, question in batch])
                self.done.put([(tag, reply) for (tag, _), reply in zip(batch, replies, strict=True)])
            except BaseException as error:  # raised by `run`, in its own thread
                self.done.put(error)
