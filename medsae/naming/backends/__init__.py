"""Who can be asked: one small protocol, three backends (labels, endpoint, medgemma)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from medsae.naming.replies import Status

Task = Literal["explain", "judge", "judge many"]
Load = Callable[[int], bytes]
"""image -> the picture as JPEG bytes, longest side at most 896 px; raises PictureGone(reason)."""


class PictureGone(Exception):
    """A picture that cannot be read now; the message is the reason."""


@dataclass(frozen=True)
class Picture:
    """A picture of the cohort: its number, and the sha256 that names its content in the cache of answers."""

    image: int
    sha256: str


@dataclass(frozen=True)
class Question:
    """Pictures first, then text, and what the answer should look like."""

    task: Task
    pictures: tuple[Picture, ...]
    system: str
    text: str
    schema: dict[str, Any] | None
    """JSON schema of the answer; None for a free or one-word answer."""
    max_tokens: int
    neuron: int
    concept: str = ""
    """The concept to be judged; only `labels` looks at it, models read the text."""


@dataclass(frozen=True)
class Reply:
    """What came back. `status` "ok": the backend answered at all; whether the text is usable is up to `replies`."""

    status: Status
    text: str = ""
    p_yes: float | None = None
    """P(yes) / (P(yes) + P(no)), 0 .. 1, where the backend knows probabilities."""
    mass: float | None = None
    """P(yes) + P(no), 0 .. 1: near 0, the model wants to say something else."""
    seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    attempts: int = 1


class Backend(Protocol):
    """Answers questions. `ask` never raises for a bad reply; UserError is for what stops the whole run."""

    name: str
    """labels, endpoint or medgemma."""
    model: str
    """What answers, as it is recorded."""
    concurrency: int
    """Calls of `ask` that may run at once."""
    batch: int
    """Questions that one call of `ask` takes at most."""

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """One reply a question, in order."""
        ...

    def facts(self) -> dict[str, Any]:
        """What is worth knowing after a run: encodings, retries, missing features."""
        ...

    def close(self) -> None:
        """Let go of connections and memory."""
        ...
