"""The text lens at score time, where the encoder has a text tower: terms, their cosines with every neuron, the null."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medsae.arrays import Rows
from medsae.progress import Progress, UserError
from medsae.scoring.pieces import Arrays, packed, unpacked
from medsae.steps.effects import text_tower
from medsae.store.artifacts import Artifact, Store

LENS_FILE, TERMS_FILE = "lens.npy", "terms.npy"
"""Cosines float16 [m, t]; texts float32 [t, d] of unit length."""
KEPT = 5
"""Terms of a neuron that the table holds."""
SAMPLE = 4096
"""Embeddings whose second moments the random directions have."""


@dataclass(frozen=True)
class Made:
    """Tables `term` and `lens`, cosines [m, t], texts [t, d]; empty with a reason."""

    tables: dict[str, pd.DataFrame]
    cosine_mt: np.ndarray
    term_td: np.ndarray
    why: str = ""

    def kept(self) -> Arrays:
        """As arrays that can be kept."""
        return packed(**self.tables) | {
            "cosine": self.cosine_mt, "terms": self.term_td, "why": np.array(self.why, np.str_)
        }  # fmt: skip

    @staticmethod
    def of(arrays: Arrays) -> Made:
        """What was kept."""
        why = str(arrays["why"])
        tables = {} if why else {name: unpacked(arrays, name) for name in ("term", "lens")}
        return Made(tables, arrays["cosine"], arrays["terms"], why)


def at_score(
    embeddings: Artifact, row_md: np.ndarray, x_nd: np.ndarray | Rows, asked: tuple[Path | None, int], store: Store,
    progress: Progress,
) -> Made:  # fmt: skip
    """`row_md`: decoder rows; `x_nd`: the scored embeddings; `asked`: the vocabulary's file and the seed. UserError for
    a vocabulary that cannot be used; an encoder without text is a reason."""
    from medsae.naming import vocabulary
    from medsae.scoring import words

    path, seed = asked
    terms = vocabulary.read(path)
    try:
        tower = text_tower(embeddings, store, progress)
    except UserError as error:
        progress.say(f"no text lens: {error.what}")
        why = error.what + (f" ({error.do})" if error.do else "")
        return Made({}, np.zeros((0, 0)), np.zeros((0, 0)), why)
    knows = getattr(tower, "knows", None)
    if knows is not None:  # a tower of few words would take a term for the part of it that it knows
        terms = [term for term in terms if knows(term.text)]
    if not terms:
        return Made({}, np.zeros((0, 0)), np.zeros((0, 0)), "the text tower knows the words of none of the terms")
    with progress.task("text of terms", len(terms), "terms") as task:
        text = tower.embed_text([term.text for term in terms])
        task.advance(len(terms))
    if text.shape[1] != row_md.shape[1]:
        why = f"its text has {text.shape[1]} dimensions, the embeddings have {row_md.shape[1]}"
        return Made({}, np.zeros((0, 0)), np.zeros((0, 0)), why)
    kept = words.told_apart(text)
    found = words.lens(row_md, text[kept], x_nd[:: max(1, len(x_nd) // SAMPLE)], seed)
    term = pd.DataFrame({
        "position": range(len(kept)), "kind": [terms[i].kind for i in kept], "term": [terms[i].text for i in kept],
        "null_high": found.null_high_t, "null_most": found.null_most_t,
    })  # fmt: skip
    return Made({"term": term, "lens": _nearest(found)}, found.cosine_mt.astype(np.float16), text[kept])


def _nearest(found: object) -> pd.DataFrame:
    from medsae.scoring.words import Lens

    assert isinstance(found, Lens)
    m, t = found.cosine_mt.shape
    most = min(KEPT, t)
    order = np.argsort(-found.cosine_mt, axis=1, kind="stable")[:, :most]
    live = np.isfinite(found.p_m)
    table = pd.DataFrame({
        "neuron": np.repeat(np.arange(m, dtype=np.int32), most), "rank": np.tile(np.arange(1, most + 1), m),
        "position": order.ravel(), "cosine": np.take_along_axis(found.cosine_mt, order, 1).ravel(),
        "p": np.repeat(found.p_m, most),
    })  # fmt: skip
    return table[np.repeat(live, most)]
