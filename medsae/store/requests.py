"""Requests from the app to a `name --watch` that has its model loaded: files that appear by one rename.

A service is a folder `data/jobs/watch/<service>/`; its id follows from the config alone, so the app finds it again
after a restart. In it: `lock` (held while the service lives), `state.json` (what it is doing), and one file a request,
`<neuron>.ask` -> `<neuron>.taken` -> gone, or `<neuron>.cancel`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medsae import config as configs
from medsae import files, seals
from medsae.progress import UserError
from medsae.store.artifacts import Store
from medsae.store.looks import Looks
from medsae.store.troubles import explained


class Requests:
    """The requests of one service."""

    def __init__(self, store: Store, config: configs.Name):
        """`config.scores` is a full id; which neurons the config names does not matter."""
        plain = replace(config, neurons=None, top=None, all=False, watch=True, again=False)
        text = json.dumps(configs.record(plain), sort_keys=True)
        self.id = hashlib.sha256(text.encode()).hexdigest()[:12]
        self.folder = store.data / "jobs" / "watch" / self.id

    # --- the app's side

    def alive(self) -> bool:
        """A service holds the lock."""
        return files.locked(self.folder / "lock")

    def ask(self, neuron: int, again: bool = False) -> None:
        """Ask for a neuron; a request that waits already is left as it is. UserError where the folder is not writable
        or the disk is full."""
        with _mended(self.folder):
            files.make_folder(self.folder)
            (self.folder / f"{neuron}.cancel").unlink(missing_ok=True)
            _write(self.folder / f"{neuron}.ask", {"neuron": neuron, "again": again, "time": time.time()})

    def cancel(self, neuron: int) -> None:
        """Withdraw a request; what it has asked so far stays in the ledger. UserError as `ask`."""
        with _mended(self.folder):
            (self.folder / f"{neuron}.ask").unlink(missing_ok=True)
            if (self.folder / f"{neuron}.taken").exists():
                _write(self.folder / f"{neuron}.cancel", {"neuron": neuron})

    def waiting(self, neuron: int) -> bool:
        """Asked for and not answered yet."""
        return any((self.folder / f"{neuron}.{state}").exists() for state in ("ask", "taken"))

    def state(self) -> dict[str, Any]:
        """What the service says of itself: phase (loading, ready, working, stopped), neuron, done, total, error."""
        try:
            return seals.read(self.folder / "state.json")
        except (OSError, ValueError):
            return {}

    def started(self, job: str) -> None:
        """Remember the job that runs the service."""
        _write(self.folder / "job.json", {"job": job})

    def job(self) -> str | None:
        """The job that ran the service last; None when the app never started one (or it is gone)."""
        try:
            return str(seals.read(self.folder / "job.json")["job"])
        except (OSError, ValueError, KeyError):
            return None

    # --- the service's side

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Hold the lock; UserError when another service has it. Requests taken by an earlier service wait again."""
        files.make_folder(self.folder)
        lock = self._lock()
        try:
            for path in self.folder.glob("*.taken"):
                os.replace(path, path.with_suffix(".ask"))
            for path in self.folder.glob("*.cancel"):
                path.unlink(missing_ok=True)
            yield
        finally:
            os.close(lock)

    def _lock(self) -> int:
        for _ in range(10):
            lock = files.take_lock(self.folder / "lock")
            if lock is not None:
                return lock
            time.sleep(0.02)  # `alive` of an app holds the lock for an instant; a service holds it for good
        raise UserError("this service runs already", self.folder, "use it, or cancel its job first")

    def take(self) -> tuple[int, bool] | None:
        """The oldest request as (neuron, again), or None."""
        found = []
        for path in self.folder.glob("*.ask"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                request = seals.read(path)
                found.append((float(request["time"]), int(request["neuron"]), bool(request["again"]), path))
        for _, neuron, again, path in sorted(found):
            with contextlib.suppress(FileNotFoundError):
                os.replace(path, self.folder / f"{neuron}.taken")
                return neuron, again
        return None

    def any(self) -> bool:
        """Somebody waits to be taken."""
        return next(self.folder.glob("*.ask"), None) is not None

    def cancelled(self, neuron: int) -> bool:
        """The app has withdrawn the request that is being answered."""
        return (self.folder / f"{neuron}.cancel").exists()

    def done(self, neuron: int) -> None:
        """The request is answered, one way or another."""
        for state in ("taken", "cancel"):
            (self.folder / f"{neuron}.{state}").unlink(missing_ok=True)

    def tell(self, **state: Any) -> None:
        """Write state.json."""
        _write(self.folder / "state.json", {**state, "time": time.time()})


def service_state(data: Path, step: str, job: str, command: Sequence[str]) -> dict[str, Any]:
    """What the service that a job runs says of itself: `phase` and more; empty where it has said nothing.

    A service of names is found by the job that it remembers; one of pictures by the scores in its command.
    """
    if step == "look":
        at = list(command).index("--scores") + 1 if "--scores" in command else len(command)
        return Looks(data, command[at]).state() if at < len(command) else {}
    for path in (data / "jobs" / "watch").glob("*/job.json"):
        if _json(path).get("job") == job:
            return _json(path.with_name("state.json"))
    return {}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, value: dict[str, Any]) -> None:
    with _mended(path):
        files.write(path, seals.text(value))


@contextlib.contextmanager
def _mended(path: Path) -> Iterator[None]:
    """What the disk refuses is told as what a user can mend."""
    try:
        yield
    except OSError as error:
        raise explained(error, path) or error from error
