"""Which neuron of one representation is which of another: Pearson correlation of activations over the same images.

Cosine of decoders would need one space: an SAE against raw, or two encoders, have none. Activations need only the same
images. Of an SAE they are stored whole; of a raw embedding only extremes are, so its columns are read from `x.npy`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import sparse

from medsae.store.artifacts import Artifact
from medsae.store.reader import Frame, Reader

Matrix: TypeAlias = Any
"""np.ndarray or scipy.sparse.csc_array [images, neurons]; the type checker knows no common type of the two."""
CHUNK = 512
"""Neurons correlated at a time: 512 x 8,192 correlations are 16 MiB."""
FEWEST = 3
"""A neuron that fires on fewer of the images than this is not matched: its correlation would be chance."""


def matches(
    reader: Reader, first: Artifact, second: Artifact, embeddings: tuple[Artifact, Artifact], images: int = 3000
) -> Frame:
    """For each neuron of `first` the neuron of `second` that goes with it most, by |rho|: neuron, other, rho (signed),
    n (images), entropy, other_entropy (bits), top_label, other_label; strongest first.

    embeddings: of `first` and of `second`. Over at most `images` images scored in both (the same ones each time).
    Empty when there are fewer than FEWEST common images. Raises UserError when the embeddings' array is not there.
    """
    common = reader.query(
        f"SELECT image FROM {{a}}.scored WHERE image IN (FROM {{b}}.scored) ORDER BY hash(image) LIMIT {int(images)}",
        a=first,
        b=second,
    )["image"].to_numpy()
    columns = ["neuron", "other", "rho", "n"]
    if len(common) < FEWEST:
        found = pd.DataFrame(columns=columns)
    else:
        a_nm = _activations(reader, first, embeddings[0], common)
        b_nm = a_nm if first.id == second.id else _activations(reader, second, embeddings[1], common)
        other, rho = best(a_nm, b_nm)
        found = pd.DataFrame({"neuron": np.arange(len(other)), "other": other, "rho": rho, "n": len(common)})
        found = found[found["other"] >= 0]
    for role, scores in (("neuron", first), ("other", second)):
        about = reader.query("SELECT neuron, entropy, top_label FROM {s}.neuron", s=scores)
        names = {"neuron": role, "entropy": "entropy", "top_label": "top_label"}
        if role == "other":
            names |= {"entropy": "other_entropy", "top_label": "other_label"}
        found = found.merge(about.rename(columns=names), on=role, how="left")
    return found.sort_values("rho", key=lambda r: -r.abs(), kind="stable").reset_index(drop=True)


def best(a_nm: Matrix, b_nm: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """For each column of `a_nm` the column of `b_nm` with the largest |rho|, and that rho in -1..1.

    -1 and NaN where a column is constant, has fewer than FEWEST values other than 0, or meets only such columns.
    """
    n = a_nm.shape[0]
    (a_mean, a_sd), (b_mean, b_sd) = _moments(a_nm), _moments(b_nm)
    other, rho = np.full(a_nm.shape[1], -1), np.full(a_nm.shape[1], np.nan)
    for start in range(0, a_nm.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        product = a_nm[:, part].T @ b_nm
        dot = product.toarray() if isinstance(product, sparse.sparray) else np.asarray(product)
        found = (dot / n - np.outer(a_mean[part], b_mean)) / np.outer(a_sd[part], b_sd)
        known = np.isfinite(found)
        at = np.where(known, np.abs(found), -1.0).argmax(axis=1)
        some = known.any(axis=1)
        other[part] = np.where(some, at, -1)
        rho[part] = np.where(some, np.clip(found[np.arange(len(at)), at], -1, 1), np.nan)
    return other, rho


def _moments(z_nm: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (NaN where it cannot be divided by) of each column."""
    if isinstance(z_nm, sparse.csc_array):
        mean = np.asarray(z_nm.mean(axis=0)).ravel()
        square = np.asarray(z_nm.multiply(z_nm).mean(axis=0)).ravel()
        few = np.diff(z_nm.indptr) < FEWEST
    else:
        mean, square, few = z_nm.mean(axis=0), (z_nm * z_nm).mean(axis=0), np.count_nonzero(z_nm, axis=0) < FEWEST
    variance = square - mean**2
    return mean, np.where(few | (variance <= 1e-12 * np.maximum(square, 1e-300)), np.nan, np.sqrt(np.abs(variance)))


def _activations(reader: Reader, scores: Artifact, embeddings: Artifact, images: np.ndarray) -> Matrix:
    """Activations [n, m] on these images (float64): sparse of an SAE, the embedding itself of raw."""
    order = pd.DataFrame({"image": images, "at": np.arange(len(images))})
    numbers = images.tolist()
    if "sae" not in scores.parents:
        rows = reader.query("SELECT row, image FROM {e}.embedding_row WHERE image IN (SELECT unnest(?::BIGINT[]))",
                            [numbers], e=embeddings)  # fmt: skip
        x_nd = np.load(embeddings.checked("x.npy"), mmap_mode="r")
        at = order.merge(rows, on="image").sort_values("at")["row"].to_numpy()
        return x_nd[np.sort(at)][np.argsort(np.argsort(at))].astype(np.float64)
    m = int(reader.query("SELECT max(neuron) + 1 AS m FROM {s}.neuron", s=scores)["m"][0])
    cells = reader.query("SELECT neuron, image, value FROM {s}.activation WHERE image IN (SELECT unnest(?::BIGINT[]))",
                         [numbers], s=scores).merge(order, on="image")  # fmt: skip
    return sparse.csc_array((cells["value"].astype(np.float64), (cells["at"], cells["neuron"])), shape=(len(images), m))
