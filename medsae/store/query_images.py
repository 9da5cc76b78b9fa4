"""What pages ask about pictures: which images a neuron answers to, and everything about one image.

Functions return data frames with a column `image`. Patients are returned as the cohort has them; `pictures.hashed`
makes them showable.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from medsae.store import queries
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
    if which == "silent":
        sql, parameters = _SILENT, {"neuron": neuron}
    else:
        # Of the extremes only as many are read as could be needed; slices and random look at all that fire.
        few = f"ORDER BY {'value DESC' if which == 'top' else 'value'} LIMIT {limit * 20}"
        sql, parameters = _FIRED.format(few=few if which in ("top", "bottom") else ""), {"neuron": neuron}
    frame = reader.query(sql, parameters, s=scores)
    # Patients are looked up in memory: joined in the database they were most of the answer's time.
    known = image_table(reader, cohort)
    frame = frame[known.has(frame["image"].to_numpy())]
    patient = known.patient_n[frame["image"].to_numpy()]
    image, nearest = frame["image"].to_numpy(), -frame["nearness"].to_numpy(np.float64)
    value, pick, part = frame["value"].to_numpy(), frame["pick"].to_numpy(), frame["slice"].to_numpy()
    if one_a_patient:
        strongest = {"top": -value, "bottom": value, "silent": nearest}.get(which, pick)
        at = _first_of_each(np.lexsort((image, strongest)), patient)
    else:
        at = np.arange(len(image))
    if which == "slices":
        at = at[np.lexsort((pick[at], part[at]))]
        at = _first_of_each(at, part, max(1, limit // SLICES))
    keys = {"top": (image, -value), "bottom": (image, value), "slices": (image, pick, part), "random": (image, pick),
            "silent": (image, nearest)}[which]  # fmt: skip
    at = at[np.lexsort([key[at] for key in keys])][: int(limit)]
    found = frame[["image", "value", "slice"]].iloc[at].reset_index(drop=True)
    return found.assign(patient=known.patients(found["image"].to_numpy()))


_FIRED = f"""SELECT image, value, ntile({SLICES}) OVER (ORDER BY value DESC) AS slice, 0 AS nearness,
                    hash(image * 8191 + $neuron) AS pick
             FROM {{{{s}}}}.activation WHERE neuron = $neuron {{few}}"""
_SILENT = """
    WITH best AS (SELECT image, value FROM {s}.activation WHERE neuron = $neuron AND value > 0
                  ORDER BY value DESC LIMIT 20),
    code AS (SELECT neuron, avg(value) AS weight FROM {s}.activation
             WHERE image IN (SELECT image FROM best) AND neuron <> $neuron
             GROUP BY 1 HAVING count(*) >= 2 ORDER BY sum(value) DESC LIMIT 40),
    near AS (SELECT image, sum(value * weight) AS nearness FROM {s}.activation JOIN code USING (neuron)
             WHERE image NOT IN (SELECT image FROM {s}.activation WHERE neuron = $neuron AND value > 0)
             GROUP BY 1 ORDER BY nearness DESC LIMIT 400)
    SELECT image, NULL::FLOAT AS value, 0 AS slice, nearness, 0 AS pick FROM near"""


def _first_of_each(at: np.ndarray, group_n: np.ndarray, most: int = 1) -> np.ndarray:
    """Of the rows `at`, in their order, the first `most` of every group."""
    seen: Counter[int] = Counter()
    kept = []
    for row, group in zip(at.tolist(), group_n[at].tolist(), strict=True):
        seen[group] += 1
        if seen[group] <= most:
            kept.append(row)
    return np.array(kept, dtype=np.int64)


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


@dataclass(frozen=True)
class ImageTable:
    """What captions say of every image of a cohort, by its number: some thirty bytes an image, so that a page need not
    scan the table for 24 of them. A number that no image has holds nothing (`has`)."""

    there_n: np.ndarray
    width_n: np.ndarray
    height_n: np.ndarray
    age_n: np.ndarray
    words: dict[str, tuple[np.ndarray, list[str]]]
    """sex, view, patient: code of every image (-1: not known), and the words by their code."""

    @property
    def patient_n(self) -> np.ndarray:
        """The code of every image's patient."""
        return self.words["patient"][0]

    def has(self, image_n: np.ndarray) -> np.ndarray:
        """Whether there is such an image."""
        inside = (image_n >= 0) & (image_n < len(self.there_n))
        return inside & self.there_n[np.where(inside, image_n, 0)] if len(self.there_n) else inside

    def text(self, column: str, image_n: np.ndarray) -> list[str | None]:
        """sex, view or patient of these images; None where it is not known."""
        code_n, words = self.words[column]
        return [None if code < 0 else words[code] for code in code_n[image_n].tolist()]

    def patients(self, image_n: np.ndarray) -> list[str | None]:
        """The patients of these images."""
        return self.text("patient", image_n)


def image_table(reader: Reader, cohort: Artifact) -> ImageTable:
    """The images of a cohort; read once."""
    return reader.once("image table", lambda: _image_table(reader, cohort), cohort)


def _image_table(reader: Reader, cohort: Artifact) -> ImageTable:
    frame = reader.query("SELECT image, width, height, sex, age, view, patient FROM {c}.image", c=cohort)
    image = frame["image"].to_numpy()
    rows = int(image.max()) + 1 if len(image) else 0

    def placed(values: np.ndarray, empty: float) -> np.ndarray:
        found = np.full(rows, empty, dtype=values.dtype)
        found[image] = values
        return found

    words = {}
    for column in ("sex", "view", "patient"):
        code, known = pd.factorize(frame[column])
        small = np.int8 if len(known) < 100 else np.int32
        words[column] = placed(code.astype(small), -1), [str(word) for word in known]

    def numbers(column: str, kind: type) -> np.ndarray:
        return placed(frame[column].to_numpy(kind, na_value=np.nan), np.nan)

    return ImageTable(
        placed(np.ones(len(image), dtype=bool), False),
        numbers("width", np.float32),
        numbers("height", np.float32),
        numbers("age", np.float64),
        words,
    )


def captions(reader: Reader, cohort: Artifact, images: list[int], labels: LabelTable) -> Frame:
    """image, labels (present, joined), uncertain (joined), width, height, sex, age, view, patient of each image."""
    known = image_table(reader, cohort)
    image_n = np.array(sorted(set(images)), dtype=np.int64)
    image_n = image_n[known.has(image_n)]
    columns: dict[str, Any] = {
        "image": image_n,
        "width": known.width_n[image_n],
        "height": known.height_n[image_n],
        **{column: known.text(column, image_n) for column in ("sex", "view", "patient")},
        "age": known.age_n[image_n],
        "labels": [labels.words(image, 1) for image in image_n.tolist()],
        "uncertain": [labels.words(image, -1) for image in image_n.tolist()],
    }
    return pd.DataFrame(columns)


def images(reader: Reader, cohort: Artifact) -> Frame:
    """Every row of `image` in order."""
    return reader.query("SELECT * FROM {c}.image ORDER BY image", c=cohort)


def image(reader: Reader, cohort: Artifact, image: int) -> dict[str, Any] | None:
    """One row of `image` with None for NULL; None when the cohort has no such image."""
    rows = reader.rows("SELECT * FROM {c}.image WHERE image = ?", [image], c=cohort)
    return {name: None if value != value else value for name, value in rows[0].items()} if rows else None


def full_picture(reader: Reader, cohort: Artifact, image: int) -> bytes | None:
    """The JPEG that the cohort itself carries, or None."""
    frame = reader.query("SELECT jpeg FROM {c}.picture WHERE image = ?", [image], c=cohort)
    return bytes(frame["jpeg"][0]) if len(frame) else None


def firing(reader: Reader, scores: Artifact, image: int, limit: int = 30) -> Frame:
    """neuron, value, share (of the neuron's maximum), entropy, top_label, top_rho, density: strongest share first.

    For a dense representation these are the neurons that have the image among their stored extremes.
    """
    return _firing(reader, scores, image).head(limit)


def _firing(reader: Reader, scores: Artifact, image: int) -> Frame:
    # Activations lie by neuron: asked by image all of them are read, so one answer serves the whole page.
    return reader.query(
        """SELECT neuron, value, value / nullif(max, 0) AS share, entropy, top_label, top_rho, density
            FROM {s}.activation JOIN {s}.neuron USING (neuron) WHERE image = ? AND value > 0
            ORDER BY share DESC, neuron""",
        [image], s=scores,
    )  # fmt: skip


def is_scored(reader: Reader, scores: Artifact, image: int) -> bool:
    """Whether the scores were taken over this image."""
    return bool(reader.rows("SELECT 1 AS one FROM {s}.scored WHERE image = ?", [image], s=scores))


def similar(reader: Reader, scores: Artifact, cohort: Artifact, image: int, limit: int = 12) -> Frame:
    """image, value (cosine of neuron codes), patient: other patients' images most like this one."""
    code, known = _firing(reader, scores, image), image_table(reader, cohort)
    norm_n = reader.once("norms of codes", lambda: _norms(reader, scores), scores)
    # The neurons are named in so many words: only then is the rest of the table passed over.
    numbers = ", ".join(str(int(n)) for n in code["neuron"]) or "-1"
    near = reader.query(
        f"""SELECT a.image, sum(a.value * q.value) AS dot
            FROM {{s}}.activation a JOIN (SELECT unnest(?::INTEGER[]) AS neuron, unnest(?::FLOAT[]) AS value) q
                 USING (neuron)
            WHERE a.neuron IN ({numbers}) AND a.value > 0 AND a.image <> ? GROUP BY 1 ORDER BY dot DESC LIMIT 500""",
        [code["neuron"].tolist(), code["value"].tolist(), image], s=scores,
    )  # fmt: skip
    other = near["image"].to_numpy()
    value = near["dot"].to_numpy() / norm_n[other] / norm_n[image] if len(other) else np.zeros(0)
    keep = known.has(other)
    keep[keep] = known.patient_n[other[keep]] != known.patient_n[image]
    other, value = other[keep], value[keep]
    at = _first_of_each(np.lexsort((other, -value)), known.patient_n[other])[: int(limit)]
    return pd.DataFrame({"image": other[at], "value": value[at], "patient": known.patients(other[at])})


def _norms(reader: Reader, scores: Artifact) -> np.ndarray:
    """float32: the length of every image's code, 0 where none fires."""
    frame = reader.query(
        "SELECT image, sqrt(sum(value * value)) AS norm FROM {s}.activation WHERE value > 0 GROUP BY 1", s=scores
    )
    norm_n = np.zeros(int(frame["image"].max()) + 1 if len(frame) else 0, dtype=np.float32)
    norm_n[frame["image"].to_numpy()] = frame["norm"].to_numpy()
    return norm_n


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
    fired = queries.activations(reader, scores, neuron)
    at = groups.index.get_indexer(np.unique(fired["image"].to_numpy()[fired["value"].to_numpy() > 0]))
    parts: dict[str, list[Any]] = {"what": [], "group": [], "n": [], "fired": []}
    for what in groups.columns:
        # Codes of a category are counted as they are: a hundred times faster than counting its words.
        codes, words = groups[what].cat.codes.to_numpy(), groups[what].cat.categories
        n, firing = (np.bincount(c[c >= 0], minlength=len(words)) for c in (codes, codes[at[at >= 0]]))
        parts["what"] += [what] * len(words)
        parts["group"] += list(words)
        parts["n"] += n.tolist()
        parts["fired"] += firing.tolist()
    n, fires = np.array(parts["n"], dtype=float), np.array(parts["fired"], dtype=float)
    keep = n > 0
    n, rate = n[keep], fires[keep] / n[keep]
    half = 1.96 * (rate * (1 - rate) / n + 0.9604 / n**2) ** 0.5
    low, high = (rate + 1.9208 / n - half) / (1 + 3.8416 / n), (rate + 1.9208 / n + half) / (1 + 3.8416 / n)
    frame = pd.DataFrame(parts)[keep].reset_index(drop=True)
    return frame.assign(rate=rate, low=low.clip(min=0), high=high.clip(max=1))


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
    row = reader.rows(
        "SELECT max(image) FILTER (image < $i) AS a, min(image) FILTER (image > $i) AS b FROM {s}.scored",
        {"i": image},
        s=scores,
    )[0]
    return row["a"], row["b"]
