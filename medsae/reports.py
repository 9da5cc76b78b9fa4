"""Reports as evidence: which words and phrases are enriched in the reports of the pictures on which a neuron fires.

Log-odds with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, Political Analysis 16:372): the words of
all reports are the prior, so a rare word needs more evidence than a common one. A text counts once for each phrase.

Negation by a stated rule, no library: what follows "no", "without", "free of", "negative for", "absence of" and so on
(a few German, Spanish and French ones too) is negated up to the end of the clause: "no pleural effusion" does not say
"pleural effusion". What is not covered: "effusion has resolved", doubt ("possible"), words of other languages.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medsae.rates import benjamini_hochberg

LONGEST = 3
"""Words of a phrase at most."""
LEAST = 3
"""Firing reports that a phrase must stand in."""
PRIOR = 10.0
"""Weight of the prior: so many texts' worth."""
_CLAUSE = re.compile(
    r"[.;:!?\n]+|\bbut\b|\bhowever\b|\balthough\b|\bexcept\b|\baber\b|\bpero\b|\bmais\b", re.IGNORECASE
)
_NEGATION = re.compile(
    r"\b(?:no|not|without|free of|negative for|absence of|absent|neither|nor|never|rule out|ruled out|unremarkable for"
    r"|kein|keine|keinen|ohne|nicht|sin|ausencia de|sans|pas de|absence d)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_COMMON_WORDS = """the of and in is are was were with to on at for from by as an or this that there be been has have it
 its which than el la los las de del en con por una un se le les des du et est dans der die das und im mit ist"""
_COMMON = frozenset(_COMMON_WORDS.split())


@dataclass(frozen=True)
class Phrase:
    """A phrase that stands more often in the reports of firing pictures."""

    text: str
    firing: int
    """Reports of firing pictures with it, not negated."""
    others: int
    """Other reports with it."""
    log_odds: float
    z: float
    """log_odds over its standard error."""
    q: float
    """Benjamini-Hochberg over all phrases that were looked at (one-sided)."""


def clauses(text: str) -> list[tuple[str, bool]]:
    """The clauses of a text as (words, negated); a clause with a negation is cut before it."""
    found = []
    for clause in _CLAUSE.split(text):
        sign = _NEGATION.search(clause)
        parts = [(clause, False)] if sign is None else [(clause[: sign.start()], False), (clause[sign.end() :], True)]
        found += [(part, negated) for part, negated in parts if part.strip()]
    return found


def phrases(text: str, negated: bool = False) -> set[str]:
    """Phrases of one to `LONGEST` words in a text, those that are negated left out (or, `negated`, those alone); none
    begins or ends with a word like "of"."""
    found = set()
    for clause, no in clauses(text):
        if no != negated:
            continue
        words = [w.lower() for w in _WORD.findall(clause)]
        for n in range(1, LONGEST + 1):
            for i in range(len(words) - n + 1):
                part = words[i : i + n]
                if part[0] not in _COMMON and part[-1] not in _COMMON:
                    found.add(" ".join(part))
    return found


def says(text: str, phrase: str) -> bool | None:
    """Whether a text says a phrase, in that order of words and not negated; None for a text without words."""
    if not _WORD.search(text):
        return None
    return phrase in phrases(text)


def enriched(texts: Sequence[str], fires: Sequence[bool], most: int = 20) -> list[Phrase]:
    """Phrases enriched among the texts of firing pictures, the most certain first; of a phrase and a longer one that
    stand in the same texts the longer one is kept. Empty with fewer than `LEAST` texts on a side."""
    from scipy.special import ndtr  # not before reports are read: the app's first page has none

    firing, others = Counter[str](), Counter[str]()
    n_firing = n_others = 0
    for text, fire in zip(texts, fires, strict=True):
        if not _WORD.search(text):
            continue
        (firing if fire else others).update(phrases(text))
        n_firing, n_others = n_firing + fire, n_others + (not fire)
    if min(n_firing, n_others) < LEAST:
        return []
    wanted = sorted(p for p, n in firing.items() if n >= LEAST)
    if not wanted:
        return []
    a, b = np.array([firing[p] for p in wanted], float), np.array([others[p] for p in wanted], float)
    prior = PRIOR * (a + b) / (n_firing + n_others + 1)  # below PRIOR where a phrase stands in every text
    odds = np.log((a + prior) / (n_firing + PRIOR - a - prior)) - np.log((b + prior) / (n_others + PRIOR - b - prior))
    z = odds / np.sqrt(1 / (a + prior) + 1 / (b + prior))
    q = benjamini_hochberg(ndtr(-z))
    ranked = sorted(range(len(wanted)), key=lambda i: (-z[i], -len(wanted[i]), wanted[i]))
    found: list[Phrase] = []
    for i in ranked:
        if z[i] <= 0 or len(found) == most:
            break
        new = Phrase(wanted[i], int(a[i]), int(b[i]), float(odds[i]), float(z[i]), float(q[i]))
        for j, old in enumerate(found):
            if _within(new.text, old.text) and new.firing <= 1.1 * old.firing:
                break  # "effusion" after "pleural effusion"
            if _within(old.text, new.text) and new.firing >= 0.9 * old.firing:
                found[j] = new
                break
        else:
            found.append(new)
    return found


def sentences(text: str, phrase: str) -> list[str]:
    """The sentences of a text that say a phrase, not negated, as they stand."""
    parts = re.split(r"(?<=[.!?])\s+|\n+", text)
    return [part.strip() for part in parts if phrase in phrases(part)]


def language(texts: Sequence[str]) -> str:
    """ "english", "other" or "none": whether the rules for negation were made for most of these texts."""
    words = Counter(w.lower() for text in texts for w in re.findall(r"[^\W\d_]+", text))
    if not words:
        return "none"
    english = sum(words[w] for w in ("the", "no", "is", "of", "and", "are", "with", "there"))
    return "english" if english >= 0.05 * words.total() else "other"


def bit(text: str | None, concept: str) -> int | None:
    """1 the report says the concept, 0 it does not, None there is no report."""
    said = None if text is None else says(text, concept.lower())
    return None if said is None else int(said)


def chosen(texts: Mapping[int, str], firing: Sequence[int], silent: Sequence[int]) -> list[Phrase]:
    """Enriched phrases of the firing images' reports against the silent ones'. texts: image -> text, where known."""
    known = [(texts[i], fires) for images, fires in ((firing, True), (silent, False)) for i in images if i in texts]
    return enriched([t for t, _ in known], [f for _, f in known])


def _within(short: str, long: str) -> bool:
    return f" {short} " in f" {long} "
