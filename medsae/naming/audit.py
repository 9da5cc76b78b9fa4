"""Can the judge see it? Before names are judged, the judge is asked about labels whose truth the cohort knows.

A low accuracy of a name that says "fracture" is the judge's fault and not the neuron's when the judge cannot tell
fractures at all: how well it tells each label stands beside every accuracy.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri

from medsae.naming import prompts
from medsae.naming.asking import Asker
from medsae.naming.backends import Picture, Question, Reply
from medsae.naming.detection import auroc, detect
from medsae.naming.memory import Known, Row
from medsae.naming.replies import FINAL, RAW_LIMIT, Verdict, fault, judged
from medsae.naming.run import Namer
from medsae.naming.testing import JUDGE_TOKENS
from medsae.progress import Task

PICTURES = 20
"""Pictures with and without a label, each of another patient."""
LEAST = 5
"""A label with fewer pictures on a side is not asked about."""
ABOUT = "audit"
_DESCRIPTION = "As radiologists and their reports use the word."


@dataclass(frozen=True)
class Sample:
    """Pictures on which the truth about a label is known: image -> whether it is present."""

    label: str
    present: dict[int, bool]


def choose(
    value_n: dict[int, int], patient_n: Callable[[int], int], label: str, seed: int, pictures: int = PICTURES
) -> Sample | None:
    """A balanced sample: as many pictures with as without the label, at most `pictures` each, one a patient; None when
    a side has fewer than `LEAST`. value_n: image -> 1 present, 0 absent."""
    rng = np.random.default_rng([seed, *label.encode()])
    taken: set[int] = set()
    sides: dict[int, list[int]] = {1: [], 0: []}
    for image in rng.permutation(sorted(value_n)).tolist():
        side = sides[value_n[image]]
        patient = patient_n(image)
        if len(side) < pictures and patient not in taken:
            taken.add(patient)
            side.append(image)
    n = min(len(side) for side in sides.values())
    if n < LEAST:
        return None
    chosen = [(image, bool(value)) for value, side in sides.items() for image in side[:n]]
    return Sample(label, dict(chosen[i] for i in rng.permutation(len(chosen))))


def interval(area: float, positives: int, negatives: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of an area under the ROC curve that is honest at 1 as well: the values whose own standard error (Hanley
    and McNeil 1982) reaches to `area` (Newcombe 2006, Stat Med 25:559, method 5)."""
    z = float(ndtri(0.5 + level / 2))
    half = (positives + negatives) / 2 - 1

    def error(t: float) -> float:
        spread = t * (1 - t) * (1 + half * ((1 - t) / (2 - t) + t / (1 + t))) / (positives * negatives)
        return z * math.sqrt(max(spread, 0.0))

    low = 0.0 if area <= 0 else float(brentq(lambda t: area - t - error(t), 0.0, area - 1e-9))
    high = 1.0 if area >= 1 else float(brentq(lambda t: t - area - error(t), area + 1e-9, 1.0))
    return low, high


def questions(samples: Sequence[Sample]) -> int:
    """Questions that an audit asks at most."""
    return sum(len(sample.present) for sample in samples)


def audit(namer: Namer, samples: Sequence[Sample], task: Task, stop: Callable[[], bool] = lambda: False) -> list[Row]:
    """Ask the judge about each label's pictures and write one line `audit` a label; returns those lines.

    What the ledger knows is not asked again, nor what another command asks just now: that is left out of this audit.
    """
    texts = {s.label: prompts.judge("strict", s.label, _DESCRIPTION) for s in samples}
    found: dict[str, dict[int, Known]] = {s.label: {} for s in samples}
    todo: deque[tuple[tuple[str, Picture, str], Question]] = deque()
    for sample in samples:
        for image in sample.present:
            picture = namer.picture(image)
            key = namer.key(texts[sample.label], (picture,))
            known = namer.memory.verdicts.get((key, image))
            if known is not None:
                found[sample.label][image] = known
                task.advance()
                continue
            ask = Question(
                "judge", (picture,), prompts.SYSTEM, texts[sample.label], None, JUDGE_TOKENS, -1, sample.label
            )
            todo.append(((sample.label, picture, key), ask))

    def more() -> tuple[tuple[str, Picture, str], Question] | None:
        while todo:
            tag, question = todo.popleft()
            if namer.claims.take(tag[2]):
                return tag, question
            task.advance()
        return None

    def on_replies(replies: list[tuple[tuple[str, Picture, str], Reply]]) -> None:
        rows: list[Row] = []
        for (label, picture, key), reply in replies:
            verdict = Verdict(reply.status)
            if reply.status == "ok":
                verdict = judged(reply.text, reply.p_yes, reply.mass)
                why = fault(reply.thought, reply.cut, not reply.text.strip())
                if why is not None and verdict.status in ("empty", "unparsable", "wrong shape"):
                    verdict = Verdict(why)
            raw = reply.text[:RAW_LIMIT] or None
            known = Known(verdict.status, verdict.yes, verdict.p, reply.mass, raw)
            found[label][picture.image] = known
            if verdict.status in FINAL:
                namer.memory.verdicts[key, picture.image] = known
            said = {"yes": verdict.yes, "p": verdict.p, "mass": reply.mass, "status": verdict.status, "raw": raw}
            rows.append(namer.row("verdict", about=ABOUT, label=label, image=picture.image, key=key, **said))
            namer.tally.note("judge", verdict.status, reply.text)
            task.advance()
        namer.asked += len(replies)
        namer.append(rows)
        for (_, _, key), _ in replies:
            namer.claims.release(key)
        namer.tally.stop_early(namer.backend.model)

    with Asker(namer.backend) as asker:
        asker.run(deque(), on_replies, more, stop)
    if stop():
        return []
    rows = [namer.row("audit", label=s.label, **result(s, found[s.label])) for s in samples]
    namer.append(rows)
    return rows


def result(sample: Sample, found: dict[int, Known]) -> dict[str, Any]:
    """Columns of a line `audit`: asked, judged, accuracy (balanced), auroc with its 95 % interval (low, high); the
    numbers are left out where a side has no usable verdict. Without probabilities yes is 1 and no is 0."""
    images = list(sample.present)
    present = np.array([sample.present[i] for i in images])
    said = [found.get(i) for i in images]
    yes_n = np.array([np.nan if k is None or k.yes is None else float(k.yes) for k in said])
    p_n = np.array([np.nan if k is None or k.p is None else k.p for k in said])
    p_n = np.where(np.isfinite(p_n), p_n, yes_n)
    score = detect(present, yes_n, p_n, True)
    area = auroc(present, p_n)
    row: dict[str, Any] = {"asked": score.asked, "judged": score.judged, "accuracy": score.accuracy, "auroc": area}
    if area is not None:
        good = np.isfinite(p_n)
        row["low"], row["high"] = interval(area, int((present & good).sum()), int((~present & good).sum()))
    return row


def sentence(rows: Sequence[Row]) -> str:
    """ "this judge tells Effusion at 0.91, Fracture at 0.55", best first."""
    known = sorted((r for r in rows if r.get("auroc") is not None), key=lambda r: -r["auroc"])
    said = ", ".join(f"{r['label']} at {r['auroc']:.2f}" for r in known)
    return (
        f"this judge tells {said} (AUROC over about {PICTURES} pictures a side)"
        if said
        else "no label could be audited"
    )
