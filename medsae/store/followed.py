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

from medsae.store import coded, entropies
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
    """Attributes of the images of a cohort, name by name."""

    image: np.ndarray
    values: dict[str, coded.Values]

    def of(self, image: np.ndarray) -> dict[str, coded.Values]:
        """The same for these images, in their order."""
        at = np.searchsorted(self.image, image)
        return {name: value[at] for name, value in self.values.items()}


def attributes(reader: Reader, cohort: Artifact) -> Attributes:
    """Everything that sorts the images of a cohort, whichever column it came from; worth keeping.

    `view`, `sex`, `age` of the table `image`; `devices` from the label of devices; `site`; then the source's other
    columns that are numbers or have 2 to `MOST_VALUES` values. Left out: splits, what was planted (it is the truth of a
    label), other labellers' labels ("negbio: Edema"), and columns that repeat a label's name.
    """
    of = {name: coded.codes("{c}.image", name) for name in ("view", "sex", "source")}
    frame = reader.query(
        f"""SELECT i.image, age, coalesce(v.code, -1) AS view, coalesce(s.code, -1) AS sex,
                   coalesce(f.code, -1) AS source, coalesce(d.code, -1) AS devices
            FROM {{c}}.image i LEFT JOIN {of["view"]} v ON v.word = i.view LEFT JOIN {of["sex"]} s ON s.word = i.sex
            LEFT JOIN {of["source"]} f ON f.word = i.source LEFT JOIN
            (SELECT image, CASE max(value) WHEN 1 THEN 0 WHEN 0 THEN 1 WHEN -1 THEN 2 END AS code FROM {{c}}.label
             WHERE lower(label) IN ('support devices', 'device') GROUP BY 1) d USING (image) ORDER BY i.image""",
        c=cohort,
    )  # fmt: skip
    words = {name: reader.query(coded.words(codes), c=cohort)["word"] for name, codes in of.items()}
    words["devices"] = pd.Series(["with", "without", "uncertain"])
    image, age = frame["image"].to_numpy(), frame["age"].to_numpy(float, na_value=np.nan)
    held = {name: coded.held(frame[name].to_numpy(), words[name]) for name in words}
    del frame
    columns: dict[str, coded.Values] = {name: held[name] for name in ("view", "sex")}
    columns |= {"age": age, "devices": held["devices"]}
    others = {name: _other(reader, cohort, name, number, image) for name, number in _names(reader, cohort).items()}
    site = next((name for name in others if name.lower() in SITES), None)
    if site is not None:
        columns["site"] = others.pop(site)
    elif len(words["source"]) > 1:
        columns["site"] = held["source"]
    return Attributes(image, {name: value for name, value in {**columns, **others}.items() if _varies(value)})


def _varies(value_n: coded.Values) -> bool:
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


def _other(reader: Reader, cohort: Artifact, name: str, number: bool, image: np.ndarray) -> coded.Values:
    asked, codes = {"name": name}, coded.codes("{c}.attribute", "value", "attribute = $name")
    if number:
        value, joined = "try_cast(regexp_extract(value, '^[-+]?[0-9.]+') AS DOUBLE)", ""
    else:
        value, joined = "code", f"JOIN {codes} ON word = value"
    rows = reader.query(
        f"SELECT image, any_value({value}) AS value FROM {{c}}.attribute {joined} WHERE attribute = $name GROUP BY 1",
        asked,
        c=cohort,
    )
    column = rows.set_index("image")["value"].reindex(image)
    if number:
        return column.to_numpy(float, na_value=np.nan)
    return coded.held(column.fillna(-1).to_numpy(np.int32), reader.query(coded.words(codes), asked, c=cohort)["word"])


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
    attributes: dict[str, coded.Values]
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
