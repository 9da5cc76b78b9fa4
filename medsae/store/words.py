"""Words of neurons as pages ask for them: the text lens, and search by meaning. No model is needed: what was embedded
when the scores were made is kept."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medsae.store.artifacts import NOT_THEN, Artifact
from medsae.store.reader import Frame, Reader

LENS_FILE = "lens.npy"
PLAIN = {
    "fluid": "effusion", "water": "effusion", "air": "pneumothorax", "base": "lower", "bottom": "lower",
    "basal": "lower", "top": "upper", "apex": "upper", "big": "enlarged", "large": "enlarged", "broken": "fracture",
    "collapse": "atelectasis", "collapsed": "atelectasis", "wire": "wires", "drain": "tube", "spot": "nodule",
    "cancer": "mass", "tumour": "mass", "tumor": "mass", "catheter": "line", "congestion": "edema", "oedema": "edema",
    "stimulator": "pacemaker", "cardiac": "heart", "shadow": "opacity", "white": "opacity", "both": "bilateral",
    "frontal": "view", "healthy": "normal",
}  # fmt: skip
"""Everyday words, and the word of the vocabulary that they stand for."""
_SMALL = frozenset(("the", "a", "an", "of", "at", "in", "on", "with", "and", "or", "to", "is"))


def missing(scores: Artifact) -> str:
    """Why these scores have no text lens; "" where they have."""
    made = scores.facts.get("words")
    return "" if made == "computed" else str(made or NOT_THEN)


def of_neuron(reader: Reader, scores: Artifact, neuron: int) -> Frame:
    """term, kind, cosine, p, null_high, null_most: the nearest terms, nearest first."""
    return reader.query(
        """SELECT term, kind, cosine, p, null_high, null_most FROM {s}.lens JOIN {s}.term USING (position)
           WHERE neuron = ? ORDER BY rank""",
        [neuron], s=scores,
    )  # fmt: skip


def terms(reader: Reader, scores: Artifact) -> Frame:
    """The table `term`."""
    return reader.query("SELECT * FROM {s}.term ORDER BY position", s=scores)


def meant(known: pd.DataFrame, text: str, most: int = 6) -> list[int]:
    """Positions of the terms that share most words with a text, best first; everyday words count as those of the
    vocabulary (`PLAIN`). A term that says more than was asked comes after one that does not."""
    asked = _words(text)
    scored = []
    for position, term in zip(known["position"], known["term"], strict=True):
        mine = _words(term)
        shared = len(asked & mine)
        if shared:
            scored.append((-shared / max(len(asked), 1), len(mine - asked), int(position)))
    return [position for _, _, position in sorted(scored)[:most]]


def _words(text: str) -> set[str]:
    plain = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return {PLAIN.get(word, word.removesuffix("s") if len(word) > 4 else word) for word in plain if word not in _SMALL}


def nearest(reader: Reader, scores: Artifact, position: int, limit: int = 12) -> Frame:
    """neuron, cosine, density, top_label, top_rho, entropy: live neurons nearest to a term, nearest first."""
    column = np.load(scores.file(LENS_FILE), mmap_mode="r")[:, position].astype(np.float32)
    rows = reader.query(
        "SELECT neuron, density, top_label, top_rho, entropy FROM {s}.neuron WHERE active > 0", s=scores
    )
    rows = rows.assign(cosine=column[rows["neuron"].to_numpy()])
    return rows.sort_values(["cosine", "neuron"], ascending=[False, True]).head(limit).reset_index(drop=True)
