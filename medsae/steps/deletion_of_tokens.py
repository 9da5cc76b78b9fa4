"""Deletion where the tokens of a picture are scored: the map of a neuron is its activation on each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from medsae import encoders
from medsae.progress import Progress, UserError
from medsae.steps import located
from medsae.steps import tokens as token_rows
from medsae.steps.deletion import Deleted
from medsae.steps.eyes import encoder_of, pictures_of, sampled
from medsae.store.artifacts import Artifact, Store

if TYPE_CHECKING:
    from medsae.sae.model import Sae


@dataclass(frozen=True)
class OfTokens:
    """Of the tokens of a picture: where its value is the largest token's, the largest pre-activation falls without a
    step; a mean or a share is taken of activations."""

    encoder: encoders.TokenEncoder
    sae: Sae | None
    """None for raw tokens."""
    pooled: token_rows.Pooled
    places: located.Cells

    def maps(self, picture: np.ndarray, neurons: np.ndarray) -> np.ndarray:
        return self._activations(self._tokens(picture))[:, neurons].T

    def values(self, pictures: Sequence[np.ndarray], neurons: np.ndarray) -> np.ndarray:
        if self.pooled != "max" or self.sae is None:
            found = [token_rows.pool(self._activations(self._tokens(p))[None], self.pooled)[0] for p in pictures]
        else:
            found = [self.sae.pre_activations(self._tokens(p)).max(0) for p in pictures]
        return np.stack(found)[:, neurons]

    def fires(self, pictures: Sequence[np.ndarray], neurons: np.ndarray) -> np.ndarray:
        return np.stack([self._activations(self._tokens(p))[:, neurons].max(0) > 0 for p in pictures])

    def _tokens(self, picture: np.ndarray) -> np.ndarray:
        """In half precision, as tokens lie on disk."""
        x_td = encoders.tokens(self.encoder, self.encoder.prepare(picture)[None])[0]
        return x_td.astype(np.float16).astype(np.float32)

    def _activations(self, x_td: np.ndarray) -> np.ndarray:
        return self.sae.encode(x_td) if self.sae else x_td


@dataclass(frozen=True)
class AskedOfTokens:
    """Deletion of scored tokens, as it is asked for when scores are made."""

    scored: token_rows.Scored
    embeddings: Artifact
    sae: Sae | None
    most: int
    always: tuple[int, ...]

    def tables(self, store: Store, progress: Progress) -> dict[str, pd.DataFrame]:
        """As `Deleted.tables`; {} where the encoder or the pictures are not here, which is said."""
        pictures = pictures_of(self.scored.cohort)
        sample = sampled(pictures)
        try:
            encoder = encoders.tokens_of(encoder_of(self.embeddings, store, progress))
        except UserError as error:
            progress.say(f"no deletion: {error.what}")
            return {}
        if not sample:
            progress.say("no deletion: no picture of the cohort can be read here")
            return {}
        tells = OfTokens(encoder, self.sae, self.scored.source.pooled, self.scored.cells)
        return Deleted(self.scored, tells, pictures, self.most, self.always).tables(sample, progress)
