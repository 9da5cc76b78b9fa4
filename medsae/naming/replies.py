"""From a model's text to a name or a verdict, or to the reason why it is neither. Nothing here trusts the text.

What is not covered: a fluent English answer that is wrong. That is what detection is for.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Status: TypeAlias = Literal[
    "ok",
    # the model answered, and asking the same again would give the same
    "empty", "unparsable", "wrong shape", "refusal", "wrong language", "too long", "bad probability", "not stated",
    # nothing usable arrived: asking again may help
    "timeout", "server error", "broken reply", "rejected", "unreachable", "unreadable picture",
]  # fmt: skip
FINAL: frozenset[str] = frozenset(
    ("ok", "empty", "unparsable", "wrong shape", "refusal", "wrong language", "too long", "bad probability",
     "not stated")
)  # fmt: skip
"""Statuses with which a question counts as answered; with any other it is asked again by the next run."""

RAW_LIMIT = 2_000
"""Characters of a raw reply that are kept."""
CONCEPT_LIMIT, DESCRIPTION_LIMIT, TEXT_LIMIT = 200, 1_500, 20_000

_REFUSAL = re.compile(
    r"\b(i('m| am) (sorry|unable|not able)|i (can ?not|can't|won't)|unable to (assist|help|identify|determine|comply)"
    r"|as an ai\b|cannot (assist|help|provide|identify|determine|comply)|not able to (assist|help|provide))",
    re.IGNORECASE,
)
_ENGLISH_WORDS = "the of with and in is are on at by to from this that which an a or no not without"
_OTHER_WORDS = """le les des une est avec dans pour sur gauche droit el los las del con una en por para der die das und
 mit ist im il lo gli della nel sono um uma com dos não na och med av het een van met links rechts"""
_ENGLISH, _OTHER = frozenset(_ENGLISH_WORDS.split()), frozenset(_OTHER_WORDS.split())


@dataclass(frozen=True)
class Explanation:
    """A name, or why there is none: concept and description are empty unless the status is ok."""

    status: Status
    concept: str = ""
    description: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the judge said of one picture: `yes` and `p` (probability of yes, 0 .. 1) are None unless ok."""

    status: Status
    yes: bool | None = None
    p: float | None = None


def parse_explanation(text: str) -> Explanation:
    """{"concept", "description"} out of a reply; a code fence or prose around one JSON object is tolerated."""
    if not text.strip():
        return Explanation("empty", reason="it was empty")
    if len(text) > TEXT_LIMIT:
        return Explanation("too long", reason="it was too long")
    found = _json_in(text, "{", "}")
    if not isinstance(found, dict):
        if _REFUSAL.search(text):
            return Explanation("refusal", reason="it was a refusal")
        return Explanation("unparsable", reason="it was not JSON")
    concept, description = found.get("concept"), found.get("description")
    if not (isinstance(concept, str) and isinstance(description, str)):
        return Explanation("wrong shape", reason='it lacked "concept" or "description" as text')
    concept, description = _clean(concept), _clean(description)
    if not re.search(r"[^\W\d_]{2}", concept):
        return Explanation("empty", reason="the concept was empty")
    if len(concept) > CONCEPT_LIMIT or len(description) > DESCRIPTION_LIMIT:
        return Explanation("too long", reason="the concept or the description was too long")
    if _REFUSAL.search(concept) or _REFUSAL.search(description):
        return Explanation("refusal", reason="it was a refusal")
    if concept.lower().startswith("5 to 10 words"):
        return Explanation("wrong shape", reason="it repeated the example")
    if not _english(f"{concept} {description}"):
        return Explanation("wrong language", reason="it was not English")
    return Explanation("ok", concept, description)


def parse_verdict(text: str) -> Verdict:
    """Yes or no from the beginning of a reply or from {"answer": ...}; what says both, or neither, is no verdict.

    The probability stays None: a word is not a probability.
    """
    if not text.strip():
        return Verdict("empty")
    if len(text) > TEXT_LIMIT:
        return Verdict("too long")
    found = _json_in(text, "{", "}")
    if isinstance(found, dict):
        answer = found.get("answer")
        if not isinstance(answer, str):
            return Verdict("wrong shape")
        text = answer
    word = re.match(r"[\s\W_]*(yes|no)\b", text, re.IGNORECASE)
    if word is None:
        return Verdict("refusal" if _REFUSAL.search(text) else "unparsable")
    said = word[1].lower()
    if re.search(rf"\b{'no' if said == 'yes' else 'yes'}\b", text[:60], re.IGNORECASE):
        return Verdict("unparsable")
    return Verdict("ok", said == "yes")


def with_probability(p: float, mass: float | None) -> Verdict:
    """A verdict from P(yes) / (P(yes) + P(no)); yes at 0.5 and above. NaN or outside 0 .. 1 is no verdict."""
    good = math.isfinite(p) and 0 <= p <= 1 and (mass is None or (math.isfinite(mass) and 0 <= mass <= 1 + 1e-3))
    return Verdict("ok", p >= 0.5, p) if good else Verdict("bad probability")


def parse_verdicts(text: str, pictures: int) -> list[Verdict]:
    """One verdict a picture from a JSON list of 0 and 1; a list of another length or content fails for all of them."""
    if not text.strip():
        return [Verdict("empty")] * pictures
    if len(text) > TEXT_LIMIT:
        return [Verdict("too long")] * pictures
    found = _json_in(text, "[", "]")
    if not isinstance(found, list):
        return [Verdict("refusal" if _REFUSAL.search(text) else "unparsable")] * pictures
    bits = [int(v) if isinstance(v, (int, float)) and v in (0, 1) else None for v in found]
    if len(bits) != pictures or None in bits:
        return [Verdict("wrong shape")] * pictures
    return [Verdict("ok", bit == 1) for bit in bits]


def _json_in(text: str, opening: str, closing: str) -> Any:
    """The JSON value between the first `opening` and the last `closing`, or None."""
    start, end = text.find(opening), text.rfind(closing)
    if start < 0 or end < start:
        return None
    try:
        return json.loads(text[start : end + 1], strict=False)
    except (ValueError, RecursionError):
        return None


def _clean(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _english(text: str) -> bool:
    letters = [c for c in text if c.isalpha()]
    if not letters or sum(c.isascii() for c in letters) < 0.9 * len(letters):
        return False
    words = re.findall(r"[^\W\d_]+", text.lower())
    other = sum(w in _OTHER for w in words)
    return other < 2 or other <= sum(w in _ENGLISH for w in words)


def judged(text: str, p_yes: float | None, mass: float | None) -> Verdict:
    """The verdict of one picture from a reply's text and probability.

    With a probability and no text (logits) the probability decides. A text must say yes or no for itself, so that a
    refusal whose second most likely word is "no" is no verdict; then the probability decides, where there is one.
    """
    if p_yes is not None and not text.strip():
        return with_probability(p_yes, mass)
    said = parse_verdict(text)
    return said if said.status != "ok" or p_yes is None else with_probability(p_yes, mass)
