"""The map of neurons: decoder directions in two dimensions, so that directions that are alike lie side by side.

t-SNE of scikit-learn from a PCA start (docs/decisions/131): a picture to look around in and to choose neurons from, and
no measure. Distances between far groups, their sizes and their order mean nothing.
"""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

from medsae.scoring.neighbours import unit_rows

LEAST = 8
"""Fewer directions than this make no map."""
PERPLEXITY, ANGLE = 15.0, 0.8
"""About so many neighbours hold a point; how coarsely far groups are taken together (Barnes-Hut)."""
DIMENSIONS = 50
"""Directions of a larger d are first turned to their 50 strongest principal axes."""
STEPS = 400


def places(decoder_md: np.ndarray, shown_m: np.ndarray, seed: int) -> np.ndarray:
    """x and y in [-1, 1], float32 [m, 2], of the neurons with `shown_m` (bool); NaN for the others.

    The angle between directions is what counts, not their length. The same input gives the same bits, on any number of
    cores: one thread computes. All NaN where fewer than `LEAST` are shown.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    found = np.full((len(decoder_md), 2), np.nan, np.float32)
    x_nd = unit_rows(decoder_md[shown_m])
    n = len(x_nd)
    if n < LEAST:
        return found
    with threadpool_limits(1):
        if min(x_nd.shape) > DIMENSIONS:
            x_nd = PCA(DIMENSIONS, svd_solver="covariance_eigh").fit_transform(x_nd)
        tsne = TSNE(2, init="pca", perplexity=min(PERPLEXITY, (n - 1) / 3), angle=ANGLE, max_iter=STEPS,
                    random_state=seed)  # fmt: skip
        y_n2 = tsne.fit_transform(x_nd)
    y_n2 = y_n2 - (y_n2.min(0) + y_n2.max(0)) / 2
    found[shown_m] = y_n2 / max(float(np.abs(y_n2).max()), 1e-12)
    return found
