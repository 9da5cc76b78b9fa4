"""What a neuron may follow instead of its label: attributes of the cohort, and correlations within and given them.

Scores made before this was computed have no table `confounded`: `has` says so, and rows are empty. What a reader
chooses (another label, other attributes) is computed from the stored activations, which are all there for an SAE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from medsae.arrays import texts
from medsae.store import entropies
from medsae.store.artifacts import Artifact
from medsae.store.query_images import LabelTable
from medsae.store.reader import Frame, Reader

DEFAULT = ("view", "age", "sex", "devices", "site")
"""What is held where nobody says otherwise, of what the cohort has."""
DEVICES = ("support devices", "device")
"""Labels that say whether there is a device."""
SITES = ("site", "institution", "hospital", "center", "centre", "source")
"""Columns that say where an image was taken; the first that a cohort has is its site."""
MOST_VALUES = 12
"""An attribute of words with more values than this sorts images too finely to be held."""
MOST = 60
"""Attributes that a cohort offers at most, in alphabetical order."""
_PREFIXES = ("factor:", "truth:", "severity:")


@dataclass(frozen=True)
class Attributes:
    """Attributes of the images of a cohort: name -> value an image, float (NaN unknown) or text (None unknown)."""

    image: np.ndarray
    values: dict[str, np.ndarray]

    def of(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The same for these images, in their order."""
        at = np.searchsorted(self.image, image)
        return {name: value[at] for name, value in self.values.items()}


def attributes(reader: Reader, cohort: Artifact) -> Attributes:
    """Everything that sorts the images of a cohort, whichever column it came from; worth keeping.

    `view`, `sex`, `age` of the table `image`; `devices` from the label of devices; `site`; then the source's other
    columns that are numbers or have 2 to `MOST_VALUES` values. Left out: splits, what was planted (it is the truth of a
    label), other labellers' labels ("negbio: Edema"), and columns that repeat a label's name.
    """
    frame = reader.query(
        """SELECT i.image, view, sex, age, i.source, d.value AS devices FROM {c}.image i LEFT JOIN
           (SELECT image, max(value) AS value FROM {c}.label WHERE lower(label) IN ('support devices', 'device')
            GROUP BY 1) d USING (image) ORDER BY i.image""",
        c=cohort,
    )  # fmt: skip
    words = {1.0: "with", 0.0: "without", -1.0: "uncertain"}
    columns: dict[str, Any] = {
        "view": texts(frame["view"]), "sex": texts(frame["sex"]), "age": frame["age"].to_numpy(float, na_value=np.nan),
        "devices": texts(frame["devices"].map(words)),
    }  # fmt: skip
    image = frame["image"].to_numpy()
    others = {name: _other(reader, cohort, name, number, image) for name, number in _names(reader, cohort).items()}
    site = next((name for name in others if name.lower() in SITES), None)
    if site is not None:
        columns["site"] = others.pop(site)
    elif frame["source"].nunique() > 1:
        columns["site"] = texts(frame["source"])
    return Attributes(image, {name: value for name, value in {**columns, **others}.items() if _varies(value)})


def _varies(value_n: np.ndarray) -> bool:
    return pd.Series(value_n).nunique() > 1


def _names(reader: Reader, cohort: Artifact) -> dict[str, bool]:
    """Other attributes that can be held, and whether they are numbers ("0.9 mm" is one)."""
    frame = reader.query(
        f"""SELECT attribute, count(DISTINCT value) AS words,
                   bool_and(try_cast(regexp_extract(value, '^[-+]?[0-9.]+') AS DOUBLE) IS NOT NULL) AS number
            FROM {{c}}.attribute WHERE value IS NOT NULL AND NOT contains(attribute, ': ')
              AND NOT ({" OR ".join(f"starts_with(attribute, '{p}')" for p in _PREFIXES)})
              AND lower(attribute) NOT IN ('split', 'view', 'sex', 'age')
              AND lower(attribute) NOT IN (SELECT lower(label) FROM {{c}}.label_name)
            GROUP BY 1 HAVING words > 1 AND (words <= {MOST_VALUES} OR (number AND words > {MOST_VALUES}
              AND NOT regexp_matches(lower(attribute), '(^|[ _])(id|date|time|uid)$')))
            ORDER BY 1 LIMIT {MOST}""",
        c=cohort,
    )  # fmt: skip
    return {str(a): bool(n) and int(w) > MOST_VALUES for a, w, n in frame.itertuples(index=False)}


def _other(reader: Reader, cohort: Artifact, name: str, number: bool, image: np.ndarray) -> np.ndarray:
    value = "try_cast(regexp_extract(value, '^[-+]?[0-9.]+') AS DOUBLE)" if number else "value"
    rows = reader.query(
        f"SELECT image, any_value({value}) AS value FROM {{c}}.attribute WHERE attribute = ? GROUP BY 1",
        [name],
        c=cohort,
    )
    column = rows.set_index("image")["value"].reindex(image)
    return column.to_numpy(float, na_value=np.nan) if number else texts(column)


def has(reader: Reader, scores: Artifact) -> bool:
    """Whether these scores say what is left of correlations."""
    return entropies.has(reader, scores, "confounded")


def of_neuron(reader: Reader, scores: Artifact, neuron: int) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The neuron's row of `confounded` (None for NULL; None as a whole where it was not computed then), and its rows
    of `given`: attribute, rho, low, high."""
    if not has(reader, scores):
        return None, []
    rows = reader.rows("SELECT * FROM {s}.confounded WHERE neuron = ?", [neuron], s=scores)
    held = reader.rows("SELECT attribute, rho, low, high FROM {s}.given WHERE neuron = ?", [neuron], s=scores)
    return ({name: None if pd.isna(v) else v for name, v in rows[0].items()} if rows else None), held


def falls(reader: Reader, scores: Artifact, limit: int = 12) -> Frame:
    """Neurons that fall most when the attributes are held: rows of `confounded` whose fall is settled (its interval
    above 0 and above what shuffled attributes take), largest first."""
    if not has(reader, scores):
        return pd.DataFrame()
    return reader.query(
        "SELECT * FROM {s}.confounded WHERE fall_low > 0 AND fall > null_fall ORDER BY fall DESC LIMIT ?",
        [limit], s=scores,
    )  # fmt: skip


def who_follow(reader: Reader, scores: Artifact) -> list[int]:
    """Neurons whose correlation is wholly or partly that of an attribute."""
    if not has(reader, scores):
        return []
    rows = reader.query(
        "SELECT neuron FROM {s}.confounded WHERE verdict LIKE 'follows %' OR verdict LIKE 'partly %' ORDER BY neuron",
        s=scores,
    )
    return [int(n) for n in rows["neuron"]]


def verdicts(reader: Reader, scores: Artifact) -> dict[str, int]:
    """How many neurons have each kind of verdict: holds, partly, follows, no settled correlation."""
    if not has(reader, scores):
        return {}
    frame = reader.query(
        """SELECT CASE WHEN verdict LIKE 'follows %' THEN 'follows something else' WHEN verdict LIKE 'partly %'
                  THEN 'partly' ELSE verdict END AS kind, count(*) AS n FROM {s}.confounded
           WHERE verdict IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1""",
        s=scores,
    )
    return {str(k): int(n) for k, n in frame.itertuples(index=False)}


@dataclass(frozen=True)
class Images:
    """The scored images with what is known of them."""

    image: np.ndarray
    patient: np.ndarray
    attributes: dict[str, np.ndarray]
    labels: list[str]
    value_nk: np.ndarray
    """float, NaN for what is not stated; -1 uncertain."""


def images(reader: Reader, scores: Artifact, cohort: Artifact, known: Attributes, labels: LabelTable) -> Images:
    """Of these scores; worth keeping."""
    frame = reader.query(
        "SELECT image, patient FROM {s}.scored JOIN {c}.image USING (image) ORDER BY image", s=scores, c=cohort
    )
    image = frame["image"].to_numpy()
    value = labels.value_nk[image].astype(float)
    value[labels.value_nk[image] == -128] = np.nan
    return Images(image, frame["patient"].to_numpy(object), known.of(image), list(labels.names), value)


@dataclass(frozen=True)
class Chosen:
    """What a reader asks: against which label, in the strata of which attribute, given which others."""

    label: str
    within: str
    given: tuple[str, ...]


def closer(reader: Reader, scores: Artifact, neuron: int, about: Images, chosen: Chosen) -> tuple[Frame, Frame]:
    """Rows of strata (`scoring.confounded.strata` and `fires`, the share of its images that fire), and rows (what,
    rho, low, high): the correlation as it is, given each chosen attribute, given all."""
    from medsae.scoring import confounded
    from medsae.scoring.draws import Patients
    from medsae.scoring.labels import label_matrix

    z_n = _activations(reader, scores, neuron, about.image)
    j = about.labels.index(chosen.label)
    uncertain, unstated = (scores.config.get(k) or "missing" for k in ("uncertain", "unstated"))
    y_nk, mask_nk = label_matrix(about.value_nk[:, [j]], cast(Any, uncertain), cast(Any, unstated))
    y_n, use = y_nk[:, 0], mask_nk[:, 0]
    within = confounded.Attribute.of(chosen.within, about.attributes[chosen.within])
    strata = pd.DataFrame()
    if within is not None:
        strata = confounded.strata(z_n, y_n, use, within, about.patient)
        strata["fires"] = [float((z_n[within.stratum_n == i] != 0).mean()) for i in range(len(within.values))]
    held = [one for name in chosen.given if (one := confounded.Attribute.of(name, about.attributes[name]))]
    return strata, _partials(z_n, y_n, use, held, Patients.of(about.patient[use]))


def _activations(reader: Reader, scores: Artifact, neuron: int, image: np.ndarray) -> np.ndarray:
    rows = reader.query("SELECT image, value FROM {s}.activation WHERE neuron = ?", [neuron], s=scores)
    z_n = np.zeros(len(image))
    z_n[np.searchsorted(image, rows["image"].to_numpy())] = rows["value"].to_numpy()
    return z_n


def _partials(z_n: np.ndarray, y_n: np.ndarray, use: np.ndarray, held: Sequence[Any], patients: Any) -> Frame:
    from medsae.scoring import confounded

    sets = [("as it is", []), *((one.name, [one]) for one in held)]
    if len(held) > 1:
        sets.append(("all of them", list(held)))
    rows = []
    for name, some in sets:
        found = confounded.given(z_n[use][:, None], y_n[use], confounded.basis(some, use))
        low, high = found.interval(patients)
        rows.append({"what": name, "rho": found.rho_m[0], "low": low[0], "high": high[0]})
    return pd.DataFrame(rows)
