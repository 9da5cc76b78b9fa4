"""What the SAE behind scores has seen (were the scored images among its training images?), and its untrained control.

Artifacts of an older version lack facts: what is not written down is called unknown, never "kept apart".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medsae.store.artifacts import Artifact
from medsae.store.titles import is_raw


@dataclass(frozen=True)
class TrainedOn:
    """A badge: what the SAE was trained on, and what that means for its scores."""

    text: str
    """Such as `unknown`; what follows "trained on:"."""
    help: str
    apart: bool
    """Whether no scored image was among the training images."""


UNKNOWN = TrainedOn(
    "unknown",
    "This SAE comes from another program. The images scored here may be among those that it was trained on, and then "
    "its scores flatter it.",
    False,
)
SCORED = TrainedOn(
    "scored images too",
    "Images that are scored here were among the training images of this SAE: its scores may flatter it.",
    False,
)
OTHERS = TrainedOn("other patients", "No patient of the scored images was among the training images of this SAE.", True)
NOTHING = TrainedOn(
    "nothing", "The untrained control: random directions, with the norms and the activity of a trained SAE.", True
)


def trained_on(artifacts: Sequence[Artifact], scores: Artifact) -> TrainedOn | None:
    """The badge of scores; None for a raw embedding, which is not trained here."""
    if is_raw(scores):
        return None
    sae = _get(artifacts, scores.parents.get("sae"))
    cohort = _get(artifacts, scores.parents.get("cohort"))
    if sae is None or cohort is None or sae.facts.get("origin") is not None:
        return UNKNOWN
    if sae.facts.get("untrained"):
        return NOTHING
    apart = (sae.config.get("images") == "train" and scores.config.get("images") in ("evaluation", "holdout")
             and cohort.config.get("protocol") == "strict")  # fmt: skip
    return OTHERS if apart else SCORED


def control(artifacts: Sequence[Artifact], scores: Artifact | None) -> Artifact | None:
    """Scores of the untrained control of this SAE, made as these were; None where there are none, and for raw."""
    if scores is None or is_raw(scores):
        return None
    saes = {a.id for a in artifacts if a.kind == "sae" and a.facts.get("control_of") == scores.parents["sae"]}
    asked = _asked(scores)
    return next(
        (a for a in artifacts if a.kind == "scores" and a.parents.get("sae") in saes and _asked(a) == asked), None
    )


def _asked(scores: Artifact) -> dict[str, object]:
    return {k: v for k, v in scores.config.items() if k not in ("sae", "versus")}


def _get(artifacts: Sequence[Artifact], id: str | None) -> Artifact | None:
    return next((a for a in artifacts if a.id == id), None)
