"""What `score` reads out of the neurons of an SAE beside their statistics, a piece each: effects on read-outs, words.

Both rest on embeddings and labels alone and not on draws, so that of several commands each makes one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medsae import config as c
from medsae.arrays import Rows
from medsae.progress import Progress
from medsae.scoring.labels import label_matrix
from medsae.scoring.pieces import Arrays, Kept
from medsae.scoring.profile import Activations
from medsae.steps import effects, words
from medsae.store.artifacts import Artifact, Store


@dataclass(frozen=True)
class Beside:
    """The scored images and what their neurons belong to."""

    embeddings: Artifact
    cohort: Artifact
    sae: Artifact
    decoder_md: np.ndarray
    x_nd: np.ndarray | Rows
    images: pd.DataFrame
    """image, patient of each scored row."""
    rows: np.ndarray
    """Row of x.npy of each scored image."""
    labels: list[str]
    values_nk: np.ndarray
    config: c.Score
    vocabulary_file: Path | None

    def make(self, active: Callable[[], Activations], kept: Kept, store: Store, progress: Progress) -> None:
        """Those pieces that are this command's."""
        for _ in self._pieces(active, kept, store, progress):
            pass

    def made(
        self, active: Activations, kept: Kept, store: Store, progress: Progress
    ) -> tuple[effects.Made | None, words.Made]:
        """All of it; no effects where there are so many activations that not all are kept."""
        kept.expect("beside", 2)
        affected, lens = self._pieces(lambda: active, kept, store, progress)
        assert affected is not None and lens is not None, "whoever puts scores together has all pieces"
        return effects.Made.of(affected) if affected else None, words.Made.of(lens)

    def _pieces(
        self, active: Callable[[], Activations], kept: Kept, store: Store, progress: Progress
    ) -> Iterator[Arrays | None]:
        asked = self.vocabulary_file, self.config.seed
        yield kept.group("beside", 0, lambda: self._affected(active(), store, progress))
        yield kept.group(
            "beside", 1,
            lambda: words.at_score(self.embeddings, self.decoder_md, self.x_nd, asked, store, progress).kept(),
        )  # fmt: skip

    def _affected(self, active: Activations, store: Store, progress: Progress) -> Arrays:
        if not active.complete:
            return {}
        uncertain, unstated = self.config.uncertain, self.config.unstated
        assert uncertain and unstated
        y_nk, mask_nk = label_matrix(self.values_nk, uncertain, unstated)
        fired = pd.DataFrame({"neuron": active.neuron, "value": active.value, "row": active.image}, copy=False)
        told = effects.Scored(self.embeddings, self.cohort, self.images, self.rows, self.labels, y_nk, mask_nk, fired,
                              self.sae, self.config)  # fmt: skip
        return effects.at_score(told, store, progress).kept()
