"""Labels of embedded images, in the order of their rows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medsae.progress import UserError
from medsae.scoring.labels import BLANK
from medsae.store import coded
from medsae.store.artifacts import Artifact

VECTORS = 256
"""Vectors of the database (2,048 values each) that are read at a time."""


def labels_of(
    embeddings: Artifact, cohort: Artifact, rows: np.ndarray, only: list[str]
) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Images of the rows (in their order), label values int8 [n, k] with `BLANK` where none is stated, label names.

    `only`: some of the labels by name (any case); all where it is empty. Labels are read piece by piece into a byte
    each, and a word is held once: of very many images their table would be the largest thing in memory.
    """
    with embeddings.connect() as connection:
        read = connection.execute('SELECT image FROM embedding_row ORDER BY "row"').fetchnumpy()["image"]
        image = np.asarray(read)[rows]
    with cohort.connect() as connection:
        labels = [r[0] for r in connection.execute("SELECT label FROM label_name ORDER BY position").fetchall()]
        by_name = {name.lower(): name for name in labels}
        strange = [name for name in only if name.lower() not in by_name]
        if strange:
            raise UserError(f"the cohort has no label {', '.join(strange)}", cohort.id,
                            f"its labels are {', '.join(labels)}")  # fmt: skip
        labels = [by_name[name.lower()] for name in only] or labels
        of = {name: coded.codes("image", name) for name in ("patient", "view", "sex")}
        images = connection.execute(
            f"""SELECT image, p.code AS patient, coalesce(v.code, -1) AS view, coalesce(s.code, -1) AS sex, age
                FROM image JOIN {of["patient"]} p ON p.word = patient LEFT JOIN {of["view"]} v ON v.word = view
                LEFT JOIN {of["sex"]} s ON s.word = sex ORDER BY image"""
        ).df()
        for name, codes in of.items():
            words = connection.execute(coded.words(codes)).fetchnumpy()["word"]
            images[name] = coded.held(images[name].to_numpy(), words)
        at = np.searchsorted(images["image"].to_numpy(), image)
        place = np.full(int(images["image"].max()) + 1 if len(images) else 0, -1, np.int64)
        place[image] = np.arange(len(image))
        values_nk = np.full((len(image), len(labels)), BLANK, np.int8)
        stated = connection.execute(
            "SELECT image, position, value FROM label JOIN (SELECT unnest($1) AS label,"
            " unnest(range(len($1))) AS position) USING (label) WHERE value IS NOT NULL",
            [labels],
        )
        while len(some := stated.fetch_df_chunk(VECTORS)):
            row = place[some["image"].to_numpy()]
            values_nk[row[row >= 0], some["position"].to_numpy()[row >= 0]] = some["value"].to_numpy()[row >= 0]
    return images.iloc[at].reset_index(drop=True), values_nk, labels
