"""Labels of embedded images, in the order of their rows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medsae.progress import UserError
from medsae.store.artifacts import Artifact


def labels_of(
    embeddings: Artifact, cohort: Artifact, rows: np.ndarray, only: list[str]
) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Images of the rows (in their order), label values float64 [n, k] with NaN for blank, label names.

    `only`: some of the labels by name (any case); all where it is empty.
    """
    with embeddings.connect() as connection:
        image = connection.execute('SELECT image FROM embedding_row ORDER BY "row"').df()["image"].to_numpy()[rows]
    with cohort.connect() as connection:
        labels = [r[0] for r in connection.execute("SELECT label FROM label_name ORDER BY position").fetchall()]
        by_name = {name.lower(): name for name in labels}
        strange = [name for name in only if name.lower() not in by_name]
        if strange:
            raise UserError(f"the cohort has no label {', '.join(strange)}", cohort.id,
                            f"its labels are {', '.join(labels)}")  # fmt: skip
        labels = [by_name[name.lower()] for name in only] or labels
        columns = ", ".join(f"max(value) FILTER (label = ${i + 1}) AS c{i}" for i in range(len(labels)))
        table = connection.execute(f"SELECT image, {columns} FROM label GROUP BY image ORDER BY image", labels).df()
        images = connection.execute("SELECT image, patient, view, sex, age FROM image ORDER BY image").df()
    values_nk = table.set_index("image").loc[image].to_numpy(float, na_value=np.nan)
    return images.set_index("image").loc[image].reset_index(), values_nk, labels
