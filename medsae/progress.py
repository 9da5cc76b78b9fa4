"""What a step says while it works (progress) and when it cannot (UserError).

One small protocol with three voices: `Silent` (tests, libraries), `Terminal` (a bar with time left on stderr; stdout
stays machine-readable) and `File` (a JSON state file that `jobs` and the app read).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from medsae import files, seals


class UserError(Exception):
    """Something a user can cause and mend: what is wrong, where, and what to do. The command line exits with 2."""

    def __init__(self, what: str, where: object = None, do: str | None = None):
        self.what, self.where, self.do = what, None if where is None else str(where), do
        lines = [what, f"  where: {where}" if where is not None else "", f"  what to do: {do}" if do else ""]
        super().__init__("\n".join(line for line in lines if line))


def first_line(error: BaseException, longest: int = 200) -> str:
    """The line of an exception that says what is wrong, cut to `longest`. torch's advice to read a pickle that may run
    code is left out; the line that names what was found in it stands instead."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith("Weights only load failed"):
        found = [line.split(" was not ")[0] for line in lines[1:] if "unsupported" in line.lower()]
        lines = found or ["it holds more than tensors"]
    return (lines or [type(error).__name__])[0][:longest]


class Task(Protocol):
    """One counted piece of work inside a step."""

    def advance(self, n: int = 1, **facts: float | int | str) -> None:
        """Count `n` more units as done; `facts` (loss=0.31, rate="212/s") are shown beside the count."""
        ...


class Progress(Protocol):
    """Where a step reports."""

    def task(self, what: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Task]:
        """A context manager that yields a `Task`; `total` None means that the end is not known."""
        ...

    def say(self, message: str) -> None:
        """One line of plain text for the person who waits."""
        ...


class _Quiet:
    def advance(self, n: int = 1, **facts: float | int | str) -> None: ...


class Silent:
    """Says nothing."""

    @contextmanager
    def task(self, what: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        yield _Quiet()

    def say(self, message: str) -> None: ...


class Terminal:
    """A rich progress bar with rate and time left on stderr; plain lines where stderr is not a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)

    def say(self, message: str) -> None:
        with suppress(OSError):  # stderr may lie on a full disk, and what is said here stops no work
            self.console.print(message, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, what: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        if not sys.stderr.isatty():
            self.say(f"{what} ..." if total is None else f"{what}: {total:,} {unit} ...")
            began, counter = time.monotonic(), _Counter()
            yield counter
            seconds = time.monotonic() - began
            self.say(f"{what}: {counter.done:,} {unit} in {seconds:.1f} s ({counter.done / max(seconds, 1e-9):,.0f}/s)")
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[facts]}"),
        )
        with Bar(*columns, console=self.console) as bar:
            handle = bar.add_task(what, total=total, rate="", facts="")
            began, counter = time.monotonic(), _Counter()

            class Shown:
                def advance(self, n: int = 1, **facts: float | int | str) -> None:
                    counter.advance(n)
                    rate = f"{counter.done / max(time.monotonic() - began, 1e-9):,.0f}/s"
                    bar.update(handle, advance=n, rate=rate, facts=_facts_text(facts))

            yield Shown()


class _Counter:
    done = 0

    def advance(self, n: int = 1, **facts: float | int | str) -> None:
        self.done += n


def _facts_text(facts: dict[str, float | int | str]) -> str:
    return "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items())


class File:
    """Writes the state of the running task to a JSON file, replaced atomically at most every `every_seconds`.

    Keys: what, done, total, unit, seconds, seconds_left (None while unknown), facts, messages (the last 50).
    """

    def __init__(self, path: Path, inner: Progress | None = None, every_seconds: float = 0.25):
        self.path, self.inner, self.every = path, inner or Silent(), every_seconds
        self.messages: list[str] = []
        self.state: dict[str, object] = {}
        self.written = 0.0

    def say(self, message: str) -> None:
        self.messages = [*self.messages[-49:], message]
        self._write(force=True)
        self.inner.say(message)

    @contextmanager
    def task(self, what: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        file, began, counter = self, time.monotonic(), _Counter()
        with self.inner.task(what, total, unit) as inner:

            def show(facts: dict[str, float | int | str], force: bool) -> None:
                seconds = time.monotonic() - began
                left = seconds / counter.done * (total - counter.done) if total and counter.done else None
                file.state = dict(what=what, done=counter.done, total=total, unit=unit, seconds=seconds,
                                  seconds_left=left, facts=facts)  # fmt: skip
                file._write(force)

            class Shown:
                def advance(self, n: int = 1, **facts: float | int | str) -> None:
                    counter.advance(n)
                    inner.advance(n, **facts)
                    show(facts, force=False)

            show({}, force=True)
            yield Shown()
            show({}, force=True)

    def _write(self, force: bool) -> None:
        now = time.monotonic()
        if not force and now - self.written < self.every:
            return
        self.written = now
        with suppress(OSError):  # a full disk is told by the work itself, which needs the space
            files.write(self.path, seals.text({**self.state, "messages": self.messages}), durable=False)
