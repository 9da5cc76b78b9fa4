"""Pictures of one's own on their way to the service that holds the models, and what it says of them.

A folder `data/jobs/look/<scores id>/`: `lock` (held while the service lives), `state.json`, and for each question
`<token>.picture` (a line of JSON that says what is asked, then the picture's bytes; gone as soon as it was read) and
`<token>.json` (gone as soon as it was fetched). Nothing is kept: a
service that starts removes what an earlier one left.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medsae import files, seals
from medsae.progress import UserError

_TOKEN = re.compile(r"[0-9a-f]{16}")


class Looks:
    """The questions about one set of scores."""

    def __init__(self, data: Path, scores: str):
        self.folder = data / "jobs" / "look" / scores

    # --- the app's side

    def alive(self) -> bool:
        """A service holds the lock."""
        return files.locked(self.folder / "lock")

    def state(self) -> dict[str, Any]:
        """What the service says of itself: phase (loading, ready, stopped)."""
        try:
            return seals.read(self.folder / "state.json")
        except (OSError, ValueError):
            return {}

    def ask(self, picture: bytes = b"", **what: Any) -> str:
        """Hand a question over (`steps.look.Looker.answer`): a picture, or image=, neurons= of the cohort; the token of
        its answer. UserError where the folder is not writable."""
        token = secrets.token_hex(8)
        try:
            files.make_folder(self.folder)
            files.write(self.folder / f"{token}.picture", json.dumps(what).encode() + b"\n" + picture)
        except OSError as error:
            raise UserError(f"the picture cannot be handed to the service: {error.strerror}", self.folder) from error
        return token

    def fetch(self, token: str) -> dict[str, Any] | None:
        """The answer, once; None while there is none."""
        if not _TOKEN.fullmatch(token):
            return None
        path = self.folder / f"{token}.json"
        try:
            text = path.read_text()
        except OSError:
            return None
        path.unlink(missing_ok=True)
        return json.loads(text)

    # --- the service's side

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Hold the lock; UserError when another service has it."""
        files.make_folder(self.folder)
        lock = files.take_lock(self.folder / "lock")
        if lock is None:
            raise UserError("this service runs already", self.folder, "use it, or cancel its job first")
        try:
            for path in [*self.folder.glob("*.picture"), *self.folder.glob("*.json")]:
                path.unlink(missing_ok=True)
            self.tell(phase="loading")
            yield
        finally:
            os.close(lock)

    def take(self) -> tuple[str, dict[str, Any], bytes] | None:
        """The oldest question, what it asks, and its picture, which is removed; None where nobody asks."""
        waiting = []
        for path in self.folder.glob("*.picture"):
            with contextlib.suppress(OSError):
                waiting.append((path.stat().st_mtime_ns, path))
        for _, path in sorted(waiting):
            with contextlib.suppress(OSError):
                head, _, data = path.read_bytes().partition(b"\n")
                path.unlink()
                return path.stem, _question(head), data
        return None

    def answer(self, token: str, text: str) -> None:
        """Write the answer (JSON)."""
        files.write(self.folder / f"{token}.json", text)

    def tell(self, **state: Any) -> None:
        """Write state.json."""
        files.write(self.folder / "state.json", seals.text(state))


def _question(head: bytes) -> dict[str, Any]:
    """What the first line of a question asks; a line that is none asks nothing."""
    try:
        found = json.loads(head)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
