"""From a model's text to a name or a verdict, or to the reason why it is neither. Nothing here trusts the text.

What is not covered: a fluent English answer that is wrong. That is what detection is for.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from medsae.naming.completion import ECHO

Status: TypeAlias = Literal[
    "ok",
    # the model answered, and asking the same again would give the same
    "unparsable", "wrong shape", "refusal", "wrong language", "too long", "bad probability", "not stated",
    # nothing usable arrived: asking again, or another setting of the server, may help
    "empty", "cut off", "only thinking", "timeout", "server error", "broken reply", "rejected", "unreachable",
    "unreadable picture",
]  # fmt: skip
FINAL: frozenset[str] = frozenset(
    ("ok", "unparsable", "wrong shape", "refusal", "wrong language", "too long", "bad probability", "not stated")
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
_PREFACE = re.compile(r"\A[\s\W_]*(?:(?:the |my |final )*answer(?: is)?\W*)", re.IGNORECASE)
_ENGLISH_WORDS = "the of with and in is are on at by to from this that which an a or no not without"
_OTHER_WORDS = """le les des une est avec dans pour sur gauche droit el los las del con una en por para der die das und
 mit ist im il lo gli della nel sono um uma com dos não na och med av het een van met links rechts
 derrame derecho derecha izquierdo izquierda opacidad corazón sin hallazgos pulmón marcapasos cardiomegalia neumotórax
 esquerdo esquerda direito direita coração sem pulmão achados pneumotórax épanchement droite cœur coeur opacité sans
 poumon cardiomégalie erguss pleuraerguss herz verschattung lunge ohne befund rechte linke rechter linker stauung
 versamento pleurico destro destra sinistro sinistra cuore opacità senza polmone zonder hart"""
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
    """{"concept", "description"} out of a reply; a code fence or prose around the JSON object is tolerated, so are
    trailing commas, single quotes, and keys in any letter case."""
    if not text.strip():
        return Explanation("empty", reason="it was empty")
    if len(text) > TEXT_LIMIT:
        return Explanation("too long", reason="it was too long")
    found = _object(text, ("concept", "description"))
    if found is None:
        if _REFUSAL.search(text):
            return Explanation("refusal", reason="it was a refusal")
        return Explanation("unparsable", reason="it was not JSON")
    concept, description = found.get("concept"), found.get("description")
    if not (isinstance(concept, str) and isinstance(description, str)):
        return Explanation("wrong shape", reason='it lacked "concept" or "description" as text')
    concept, description = _clean(concept), _clean(description)
    if not re.search(r"[^\W\d_]{2}", concept):
        return Explanation("wrong shape", reason="the concept was empty")
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
    """Yes or no from the beginning of a reply, after the last "Answer:", or from {"answer": ...}; what says both, or
    neither, is no verdict. Where one word is all that is answered, true and false, present and absent count
    (1 and 0 in JSON).

    The probability stays None: a word is not a probability.
    """
    if not text.strip():
        return Verdict("empty")
    if len(text) > TEXT_LIMIT:
        return Verdict("too long")
    found = _object(text, ("answer",))
    if found is not None:
        answer = found.get("answer")
        if isinstance(answer, bool | int) and answer in (0, 1):  # of JSON
            answer = "yes" if answer else "no"
        if not isinstance(answer, str):
            return Verdict("wrong shape")
        text = answer
    text = ECHO.sub(" ", text)
    alone = _ALONE.get(text.strip(" \t\r\n*_.!'\"").lower())
    if alone is not None:
        return Verdict("ok", alone)
    begins = re.match(r"[\s\W_]*(yes|no)\b", _PREFACE.sub("", text), re.IGNORECASE)
    after = list(re.finditer(r"\banswer\W*(?:is\W*)?(?=(?:yes|no)\b)", text, re.IGNORECASE))
    text = _PREFACE.sub("", text) if begins or not after else text[after[-1].end() :]
    word = re.match(r"[\s\W_]*(yes|no)\b", text, re.IGNORECASE)
    if word is None:
        return Verdict("refusal" if _REFUSAL.search(text) else "unparsable")
    said = word[1].lower()
    if (_AND_NO if said == "yes" else _AND_YES).search(text[:60]):
        return Verdict("unparsable")
    return Verdict("ok", said == "yes")


_ALONE = {"true": True, "present": True, "false": False, "absent": False, "not present": False}
_AND_YES = re.compile(r"\byes\b", re.IGNORECASE)
_AND_NO = re.compile(r"\bno\b(?=\W*\Z|\s*[^\w\s])|\b(?:or|and)\W+no\b|/\s*no\b", re.IGNORECASE)
"""A "no" that stands for itself; that of "yes, there is no fracture" belongs to its noun."""


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
    found = next((v for v in reversed(list(_values(text, "["))) if isinstance(v, list)), None)
    if found is None:
        return [Verdict("refusal" if _REFUSAL.search(text) else "unparsable")] * pictures
    bits = [int(v) if isinstance(v, (int, float)) and v in (0, 1) else None for v in found]
    if len(bits) != pictures or None in bits:
        return [Verdict("wrong shape")] * pictures
    return [Verdict("ok", bit == 1) for bit in bits]


def parse_choice(text: str, pictures: int) -> int | None:
    """The number 1 .. `pictures` that a reply names, from {"answer": 3} or as its only number; or None."""
    if not text.strip() or len(text) > TEXT_LIMIT:
        return None
    found = _object(text, ("answer",))
    if found is not None:
        text = str(found.get("answer", ""))
    numbers = {int(n) for n in re.findall(r"(?<![\d.])\d{1,3}(?![\d]|\.\d)", text)}
    return numbers.pop() if len(numbers) == 1 and max(numbers) <= pictures and min(numbers) >= 1 else None


def _object(text: str, keys: tuple[str, ...]) -> dict[str, Any] | None:
    """The last JSON object in `text` that has all of `keys` (in any letter case; given back in lower case), else the
    first one that has any of them, else the first; None where none can be decoded."""
    best: tuple[int, dict[str, Any]] | None = None
    for value in _values(text, "{"):
        if not isinstance(value, dict):
            continue
        lower = {k.strip().lower(): v for k, v in value.items() if isinstance(k, str)}
        fit = sum(k in lower for k in keys)
        if best is None or fit > best[0] or fit == best[0] == len(keys):
            best = fit, lower
    if best is None or not best[0]:
        lines = {key: m[1] for key in keys if (m := re.search(_LINE.format(key), text, re.IGNORECASE | re.MULTILINE))}
        if len(lines) == len(keys) > 1:  # a model that writes headings instead of an object
            return lines
    return None if best is None else best[1]


_DECODER = json.JSONDecoder(strict=False)
_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
"""A string (kept), or a comment."""
_LINE = r"^[\s*#>\-\d.]*{}[\s*]*:[\s*]*(\S.*?)[\s*]*$"
"""A line "**Concept:** ..." """
_QUOTES = str.maketrans("\u201c\u201d\u201e\u00ab\u00bb\u2018\u2019", '"""""' + "''")
_TRIES = 200
"""Brackets at which a value is looked for."""


def _values(text: str, opening: str) -> Iterator[Any]:
    """Every value that can be decoded at an `opening` bracket, from left to right, values within it left out."""
    bare = _COMMENT.sub(lambda m: m[1] or "", text)
    for mended in (text, _COMMA.sub(lambda m: m[1] or "", bare), text.translate(_QUOTES)):
        at, found = -1, False
        for _ in range(_TRIES):
            at = mended.find(opening, at + 1)
            if at < 0:
                break
            try:
                value, end = _DECODER.raw_decode(mended, at)
            except (ValueError, RecursionError):
                continue
            found = True
            yield value
            yield from _within(value, opening)
            at = end - 1
        if found:
            return
    closing = "}" if opening == "{" else "]"
    start, end = text.find(opening), text.rfind(closing)
    if 0 <= start < end:  # single quotes: a model that writes Python
        try:
            yield ast.literal_eval(text[start : end + 1])
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            return


def _within(value: Any, opening: str) -> Iterator[Any]:
    """Objects one level within a decoded object: {"answer": {...}}."""
    if opening == "{" and isinstance(value, dict):
        yield from (inner for inner in value.values() if isinstance(inner, dict))


def _clean(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _english(text: str) -> bool:
    letters = [c for c in text if c.isalpha()]
    if not letters or sum(c.isascii() for c in letters) < 0.9 * len(letters):
        return False
    words = re.findall(r"[^\W\d_]+", text.lower())
    other = sum(w in _OTHER or not w.isascii() for w in words)
    return other < 2 or other <= sum(w in _ENGLISH for w in words)


def fault(thought: bool, cut: bool, empty: bool) -> Status | None:
    """What kept a model from answering, when its reply could not be used: None when it did answer, only badly."""
    if empty and thought:
        return "only thinking"
    return "cut off" if cut else "empty" if empty else None


def judged(text: str, p_yes: float | None, mass: float | None) -> Verdict:
    """The verdict of one picture from a reply's text and probability; where there is a probability, it decides.

    Two things outweigh it: a refusal whose second most likely word is "no" is no verdict, and where yes and no together
    have less than half of the probability the text must say one of them itself.
    """
    if p_yes is None:
        return parse_verdict(text)
    if text.strip():
        said = parse_verdict(text)
        if said.status == "refusal" or (said.status != "ok" and (mass is None or not mass >= 0.5)):
            return said
    return with_probability(p_yes, mass)
