"""What pages ask about pictures: which images a neuron answers to, and everything about one image.

Functions return data frames with a column `image`. Patients are returned as the cohort has them; `pictures.hashed`
makes them showable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from medsae.store.artifacts import Artifact
from medsae.store.reader import Frame, Reader

Which: TypeAlias = Literal["top", "slices", "random", "silent", "bottom"]
SLICES = 6
"""Quantile slices of the images that fire."""


def images_of(
    reader: Reader,
    scores: Artifact,
    cohort: Artifact,
    neuron: int,
    which: Which = "top",
    one_a_patient: bool = True,
    limit: int = 24,
) -> Frame:
    """image, value (activation, NULL when silent), slice (from 1), patient, of one neuron.

    top, bottom: largest, smallest stored activations. slices: an even number from each of SLICES quantiles of the
    images that fire. random: firing images in an order fixed by the neuron. silent: scored images that do not fire but
    share most of the code of the strongest twenty (nothing for a dense representation, whose zeros mean nothing).
    one_a_patient keeps the strongest image of each patient.
    """
    order = {"top": "value DESC", "bottom": "value", "slices": "slice, pick", "random": "pick",
             "silent": "nearness DESC"}[which]  # fmt: skip
    one = "QUALIFY row_number() OVER (PARTITION BY patient ORDER BY {}, image) = 1" if one_a_patient else ""
    if which == "silent":
        source = """
            WITH best AS (SELECT image, value FROM {s}.activation WHERE neuron = $neuron AND value > 0
                          ORDER BY value DESC LIMIT 20),
            code AS (SELECT neuron, avg(value) AS weight FROM {s}.activation
                     WHERE image IN (SELECT image FROM best) AND neuron <> $neuron
                     GROUP BY 1 HAVING count(*) >= 2 ORDER BY sum(value) DESC LIMIT 40),
            near AS (SELECT image, sum(value * weight) AS nearness FROM {s}.activation JOIN code USING (neuron)
                     WHERE image NOT IN (SELECT image FROM {s}.activation WHERE neuron = $neuron AND value > 0)
                     GROUP BY 1 ORDER BY nearness DESC LIMIT 400)
            SELECT image, NULL::FLOAT AS value, 0 AS slice, nearness, 0 AS pick, patient
            FROM near JOIN {c}.image USING (image) """
        one = one.format("nearness DESC")
    else:
        # The strongest first, so that the join with patients stays small; slices and random look at all that fire.
        few = f"ORDER BY {order} LIMIT {limit * 20}" if which in ("top", "bottom") else ""
        source = f"""
            WITH fired AS (SELECT image, value, ntile({SLICES}) OVER (ORDER BY value DESC) AS slice,
                               hash(image * 8191 + $neuron) AS pick
                           FROM {{s}}.activation WHERE neuron = $neuron {few})
            SELECT image, value, slice, 0 AS nearness, pick, patient FROM fired JOIN {{c}}.image USING (image) """
        one = one.format({"top": "value DESC", "bottom": "value", "slices": "pick", "random": "pick"}[which])
    rows = f"({source} {one})"
    if which == "slices":
        each = max(1, limit // SLICES)
        rows = f"(SELECT * FROM {rows} QUALIFY row_number() OVER (PARTITION BY slice ORDER BY pick) <= {each})"
    return reader.query(
        f"SELECT image, value, slice, patient FROM {rows} ORDER BY {order}, image LIMIT {int(limit)}",
        {"neuron": neuron}, s=scores, c=cohort,
    )  # fmt: skip


def top_images(reader: Reader, scores: Artifact, neurons: list[int], each: int = 3) -> Frame:
    """neuron, image, value: the `each` strongest images of every neuron asked for."""
    if not neurons:
        return pd.DataFrame({"neuron": [], "image": [], "value": []})
    numbers = ", ".join(str(int(n)) for n in neurons)
    return reader.query(
        f"""SELECT neuron, image, value FROM {{s}}.activation WHERE neuron IN ({numbers})
            QUALIFY row_number() OVER (PARTITION BY neuron ORDER BY value DESC, image) <= {int(each)}
            ORDER BY neuron, value DESC""",
        s=scores,
    )


def thumbnails(reader: Reader, cohort: Artifact, images: list[int]) -> dict[int, bytes]:
    """image -> WebP of 160 px, of those that have one."""
    if not images:
        return {}
    numbers = ", ".join(str(int(i)) for i in set(images))
    frame = reader.query(f"SELECT image, webp FROM {{c}}.thumbnail WHERE image IN ({numbers})", c=cohort)
    return {int(i): bytes(w) for i, w in zip(frame["image"], frame["webp"], strict=True)}


def texts(reader: Reader, cohort: Artifact, attribute: str, images: list[int]) -> dict[int, str]:
    """image -> text of an attribute, such as the report, of those that have one."""
    if not images:
        return {}
    numbers = ", ".join(str(int(i)) for i in set(images))
    frame = reader.query(
        f"SELECT image, value FROM {{c}}.attribute WHERE attribute = ? AND value IS NOT NULL AND image IN ({numbers})",
        [attribute], c=cohort,
    )  # fmt: skip
    return {int(i): str(t) for i, t in zip(frame["image"], frame["value"], strict=True)}


@dataclass(frozen=True)
class LabelTable:
    """Every label of every image of a cohort: names in the source's order, value_nk int8 [images, labels] (1 present,
    0 absent, -1 uncertain, UNSTATED). Fourteen bytes an image, so a page need not scan the table for 24 captions."""

    names: list[str]
    value_nk: np.ndarray

    def words(self, image: int, value: int) -> str:
        """The labels of an image that have this value, joined."""
        return " · ".join(self.names[j] for j in np.flatnonzero(self.value_nk[image] == value))


UNSTATED = -128
"""A label that the source does not state, in `LabelTable`."""


def label_table(reader: Reader, cohort: Artifact) -> LabelTable:
    """The labels of a cohort; read once and kept by the caller."""
    names = list(reader.query("SELECT label FROM {c}.label_name ORDER BY position", c=cohort)["label"])
    last = reader.query("SELECT max(image) AS image FROM {c}.image", c=cohort)["image"][0]
    value_nk = np.full((0 if pd.isna(last) else int(last) + 1, len(names)), UNSTATED, dtype=np.int8)
    for j, name in enumerate(names):  # one at a time: a frame of all of them would be larger than what is kept
        rows = reader.query(
            "SELECT image, value FROM {c}.label WHERE label = ? AND value IS NOT NULL", [name], c=cohort
        )
        value_nk[rows["image"].to_numpy(), j] = rows["value"].to_numpy()
    return LabelTable(names, value_nk)


def captions(reader: Reader, cohort: Artifact, images: list[int], labels: LabelTable) -> Frame:
    """image, labels (present, joined), uncertain (joined), width, height, sex, age, view, patient of each image."""
    numbers = ", ".join(str(int(i)) for i in set(images)) or "-1"
    frame = reader.query(
        f"SELECT image, width, height, sex, age, view, patient FROM {{c}}.image WHERE image IN ({numbers})", c=cohort
    )
    return frame.assign(
        labels=[labels.words(int(i), 1) for i in frame["image"]],
        uncertain=[labels.words(int(i), -1) for i in frame["image"]],
    )


def images(reader: Reader, cohort: Artifact) -> Frame:
    """Every row of `image` in order."""
    return reader.query("SELECT * FROM {c}.image ORDER BY image", c=cohort)


def image(reader: Reader, cohort: Artifact, image: int) -> dict[str, Any] | None:
    """One row of `image` with None for NULL; None when the cohort has no such image."""
    rows = reader.query("SELECT * FROM {c}.image WHERE image = ?", [image], c=cohort).to_dict("records")
    return {str(k): None if v is pd.NA or v != v else v for k, v in rows[0].items()} if rows else None


def full_picture(reader: Reader, cohort: Artifact, image: int) -> bytes | None:
    """The JPEG that the cohort itself carries, or None."""
    frame = reader.query("SELECT jpeg FROM {c}.picture WHERE image = ?", [image], c=cohort)
    return bytes(frame["jpeg"][0]) if len(frame) else None


def firing(reader: Reader, scores: Artifact, image: int, limit: int = 30) -> Frame:
    """neuron, value, share (of the neuron's maximum), entropy, top_label, top_rho, density: strongest share first.

    For a dense representation these are the neurons that have the image among their stored extremes.
    """
    return reader.query(
        f"""SELECT neuron, value, value / nullif(max, 0) AS share, entropy, top_label, top_rho, density
            FROM {{s}}.activation JOIN {{s}}.neuron USING (neuron) WHERE image = ? AND value > 0
            ORDER BY share DESC, neuron LIMIT {int(limit)}""",
        [image], s=scores,
    )  # fmt: skip


def is_scored(reader: Reader, scores: Artifact, image: int) -> bool:
    """Whether the scores were taken over this image."""
    return bool(len(reader.query("SELECT 1 AS one FROM {s}.scored WHERE image = ?", [image], s=scores)))


def similar(reader: Reader, scores: Artifact, cohort: Artifact, image: int, limit: int = 12) -> Frame:
    """image, value (cosine of neuron codes), patient: other patients' images most like this one."""
    return reader.query(
        f"""WITH q AS (SELECT neuron, value FROM {{s}}.activation WHERE image = $image AND value > 0),
             near AS (SELECT a.image, sum(a.value * q.value) AS dot FROM {{s}}.activation a JOIN q USING (neuron)
                      WHERE a.value > 0 AND a.image <> $image GROUP BY 1 ORDER BY dot DESC LIMIT 500),
             norm AS (SELECT image, sqrt(sum(value * value)) AS norm FROM {{s}}.activation
                      WHERE image IN (SELECT image FROM near) AND value > 0 GROUP BY 1)
            SELECT image, dot / norm / (SELECT sqrt(sum(value * value)) FROM q) AS value, patient
            FROM near JOIN norm USING (image) JOIN {{c}}.image USING (image)
            WHERE patient <> (SELECT patient FROM {{c}}.image WHERE image = $image)
            QUALIFY row_number() OVER (PARTITION BY patient ORDER BY value DESC, image) = 1
            ORDER BY value DESC, image LIMIT {int(limit)}""",
        {"image": image}, s=scores, c=cohort,
    )  # fmt: skip


def groups(reader: Reader, scores: Artifact, cohort: Artifact) -> Frame:
    """One row a scored image (the index), columns view, sex, age, devices: the group it is in, or missing.

    The same for every neuron and a scan of all labels, so worth keeping.
    """
    frame = reader.query(
        """SELECT i.image, view, sex, CASE WHEN age < 40 THEN 'under 40' WHEN age < 60 THEN '40 to 59'
                  WHEN age < 75 THEN '60 to 74' WHEN age >= 75 THEN '75 and over' END AS age,
                  CASE d.value WHEN 1 THEN 'with' WHEN 0 THEN 'without' END AS devices
           FROM {c}.image i JOIN {s}.scored USING (image)
           LEFT JOIN (SELECT image, max(value) AS value FROM {c}.label
                      WHERE label IN ('Support Devices', 'Device') GROUP BY 1) d USING (image)""",
        s=scores, c=cohort,
    ).set_index("image")  # fmt: skip
    frame["age"] = pd.Categorical(frame["age"], ["under 40", "40 to 59", "60 to 74", "75 and over"])
    return frame.astype({"view": "category", "sex": "category", "devices": "category"})


def confounders(reader: Reader, scores: Artifact, neuron: int, groups: Frame) -> Frame:
    """what, group, n, fired, rate, low, high (Wilson 95 %): how often the neuron fires in each group of `groups`.

    `fired` counts stored activations above 0: all of an SAE's; for a dense neuron its strongest stored images.
    """
    images = reader.query(
        "SELECT DISTINCT image FROM {s}.activation WHERE neuron = ? AND value > 0", [neuron], s=scores
    )
    at = groups.index.get_indexer(images["image"].to_numpy())
    parts = []
    for what in groups.columns:
        # Codes of a category are counted as they are: a hundred times faster than counting its words.
        codes, words = groups[what].cat.codes.to_numpy(), groups[what].cat.categories
        n, fired = (np.bincount(c[c >= 0], minlength=len(words)) for c in (codes, codes[at]))
        parts.append(pd.DataFrame({"what": what, "group": words.astype(object), "n": n, "fired": fired}))
    frame = pd.concat(parts, ignore_index=True)
    frame = frame[frame["n"] > 0]
    n, rate = frame["n"], frame["fired"] / frame["n"]
    half = 1.96 * (rate * (1 - rate) / n + 0.9604 / n**2) ** 0.5
    low, high = (rate + 1.9208 / n - half) / (1 + 3.8416 / n), (rate + 1.9208 / n + half) / (1 + 3.8416 / n)
    frame = frame.assign(rate=rate, low=low.clip(lower=0), high=high.clip(upper=1))
    return frame[["what", "group", "n", "fired", "rate", "low", "high"]]


def attributes_followed(reader: Reader, scores: Artifact, neuron: int) -> Frame:
    """attribute, value, rho, low, high, n: what a neuron may follow instead of a finding, strongest first."""
    return reader.query(
        """SELECT attribute, value, rho, low, high, n FROM {s}.attribute_correlation
           WHERE neuron = ? AND rho IS NOT NULL
           ORDER BY abs(rho) DESC LIMIT 12""",
        [neuron],
        s=scores,
    )


def cohort_counts(reader: Reader, cohort: Artifact) -> dict[str, int]:
    """images, patients, refused, train, holdout, evaluation of a cohort."""
    row = reader.query(
        """SELECT count(*) AS images, count(DISTINCT patient) AS patients, count(*) FILTER (split = 'train') AS train,
                  count(*) FILTER (split = 'holdout') AS holdout, count(*) FILTER (evaluation) AS evaluation,
                  (SELECT count(*) FROM {c}.refused) AS refused FROM {c}.image""",
        c=cohort,
    ).iloc[0]
    return {str(k): int(v) for k, v in row.items()}


def notes(reader: Reader, cohort: Artifact) -> list[str]:
    """What ingest understood, guessed and could not reach."""
    return list(reader.query("SELECT note FROM {c}.note", c=cohort)["note"])


def refused(reader: Reader, cohort: Artifact) -> Frame:
    """reason, pictures: why pictures were refused (paths are left out: they may carry patient numbers)."""
    return reader.query("SELECT reason, count(*) AS pictures FROM {c}.refused GROUP BY 1 ORDER BY 2 DESC, 1", c=cohort)


def first_image(reader: Reader, scores: Artifact) -> int | None:
    """The first scored image, or None."""
    value = reader.query("SELECT min(image) AS image FROM {s}.scored", s=scores)["image"][0]
    return None if pd.isna(value) else int(value)


def beside(reader: Reader, scores: Artifact, image: int) -> tuple[int | None, int | None]:
    """The scored images before and after an image."""
    row = reader.query(
        "SELECT max(image) FILTER (image < $i) AS a, min(image) FILTER (image > $i) AS b FROM {s}.scored",
        {"i": image},
        s=scores,
    ).iloc[0]
    return tuple(None if pd.isna(v) else int(v) for v in (row["a"], row["b"]))  # type: ignore[return-value]
