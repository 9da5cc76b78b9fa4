"""Who can be asked: one small protocol. What is built in is offered by `naming/offered`; a package of its own adds a
backend by an entry point of the group `medsae.backends` (`medsae.plugins`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from medsae.naming.replies import Status

Task = Literal["explain", "judge", "judge many", "choose"]
"""A name; yes or no for one picture; a list of 0 and 1 for several; the number of one picture among several."""
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
    thought: bool = False
    """The model thought before it answered; `text` is the answer alone."""
    cut: bool = False
    """The limit of tokens ended the reply."""
    code: int = 0
    """HTTP status of a refusal; 0: none."""


class Study(Protocol):
    """What a backend may read of a study; safe to call from its threads."""

    def jpeg(self, image: int) -> bytes:
        """The picture as grey JPEG, longest side at most 896 px; raises PictureGone."""
        ...

    def rho(self, neuron: int) -> dict[str, float]:
        """label -> correlation of a neuron, where it is defined."""
        ...

    def labels_of(self, image: int) -> dict[str, int | None]:
        """label -> 1 present, 0 absent, -1 uncertain, None not stated."""
        ...

    def reports(self, column: str | None) -> tuple[str, dict[int, str]]:
        """The attribute that holds report text, and image -> text; UserError without one, or when it is not clear."""
        ...

    def terms(self, neuron: int) -> list[tuple[str, float]]:
        """Terms of the vocabulary nearest to a neuron's direction, with cosines; UserError for scores without words."""
        ...

    def nearness(self) -> Callable[[int, str], bool | None]:
        """(image, term) -> whether the image is among the quarter that lies nearest to the term; None: not known."""
        ...

    def naming_evidence(self, neuron: int) -> tuple[list[int], list[int]]:
        """Pictures of naming patients, one a patient: those on which the neuron fires, and silent ones."""
        ...


class Backend(Protocol):
    """Answers questions. `ask` never raises for a bad reply; UserError is for what stops the whole run.

    A backend may have `rehearse(explain, judge, say, known)`: it is called before a run with the first questions that
    will be asked, and raises UserError when they cannot be answered (see `endpoint.Endpoint.rehearse`).
    """

    name: str
    """The word of `--backend`."""
    model: str
    """What answers, as it is recorded."""
    concurrency: int
    """Calls of `ask` that may run at once."""
    batch: int
    """Questions that one call of `ask` takes at most."""
    is_model: bool = True
    """A model looks at the pictures; False: no model is asked, and nothing costs tokens."""
    by_neuron: bool = False
    """A name depends on the neuron and not on its pictures alone."""

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """One reply a question, in order."""
        ...

    def facts(self) -> dict[str, Any]:
        """What is worth knowing after a run: encodings, retries, missing features."""
        ...

    def close(self) -> None:
        """Let go of connections and memory."""
        ...
