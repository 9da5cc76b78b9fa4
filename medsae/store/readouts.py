"""What if: labels' read-outs as pages ask for them. Scores made before have none (`missing` says so)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from medsae.store.artifacts import NOT_THEN, Artifact
from medsae.store.reader import Frame, Reader

LOGITS_FILE = "readout.npy"
SETS = 20
"""Sets of other neurons that a set is compared with."""
MOST = 20_000
"""Scored images on which differences of AUROC are computed at most."""


def missing(scores: Artifact) -> str:
    """Why these scores have no read-outs; "" where they have."""
    made = scores.facts.get("effects")
    return "" if made == "computed" else str(made or NOT_THEN)


def readouts(reader: Reader, scores: Artifact) -> Frame:
    """The table `readout`."""
    return reader.query("SELECT * FROM {s}.readout ORDER BY position", s=scores)


def of_neuron(reader: Reader, scores: Artifact, neuron: int, kind: str) -> Frame:
    """label, effect, typical, low, high, fall, null_fall, null_most, alone, auroc: largest |typical| first."""
    return reader.query(
        """SELECT label, position, effect, typical, e.low, e.high, fall, null_fall, null_most, alone, auroc, r.low
                  AS auroc_low, r.high AS auroc_high
           FROM {s}.effect e JOIN {s}.readout r USING (position) WHERE neuron = ? AND kind = ?
           ORDER BY abs(typical) DESC, position""",
        [neuron, kind], s=scores,
    )  # fmt: skip


def with_intervals(reader: Reader, scores: Artifact, about: Judged, neuron: int, kind: str, most: int = 8) -> Frame:
    """The first `most` rows of `of_neuron` with 95 % intervals by patient: typical_low, typical_high (from the spread
    of the neuron's activation, and from fitting a probe) and change_low, change_high of -fall on the images of `about`.
    """
    from medsae.effects.falls import difference

    frame = of_neuron(reader, scores, neuron, kind).head(most)
    if frame.empty:
        return frame
    fired = reader.query("SELECT image, value FROM {s}.activation WHERE neuron = ? AND value > 0", [neuron], s=scores)
    at, known = _places(about, fired["image"].to_numpy())
    error = _error_of_mean(fired["value"].to_numpy(float)[known], about.patient[at[known]])
    fit = ((frame["high"] - frame["low"]) / (2 * _WIDE)).fillna(0).to_numpy(float)
    half = _WIDE * np.sqrt((frame["effect"].to_numpy(float) * error) ** 2 + fit**2)
    typical = frame["typical"].to_numpy(float)
    frame = frame.assign(typical_low=typical - half, typical_high=typical + half)
    positions = frame["position"].to_numpy()
    part_nr = _contributions(reader, scores, about, [[neuron]], positions)[0]
    logit, ends = _logits(scores), []
    for r, (label, position) in enumerate(zip(frame["label"], positions, strict=True)):
        j = about.labels.index(label)
        use = about.mask_nk[:, j]
        score = np.asarray(logit[about.place, position], float)[use]
        ends.append(difference(score, score - part_nr[use, r], about.y_nk[use, j], about.patient[use])[3:])
    low, high = zip(*ends, strict=True)
    return frame.assign(change_low=low, change_high=high)


_WIDE = 1.959964


def _error_of_mean(value_n: np.ndarray, patient_n: np.ndarray) -> float:
    """Standard error of a mean, by patient; NaN with fewer than two patients."""
    sums = np.bincount(np.unique(patient_n, return_inverse=True)[1], value_n - value_n.mean()) if len(value_n) else []
    count = len(sums)
    return float(np.sqrt((np.square(sums)).sum() * count / (count - 1)) / len(value_n)) if count > 1 else float("nan")


@dataclass(frozen=True)
class Explained:
    """One image's score as a sum: total = constant + neurons + not_rebuilt."""

    total: float
    constant: float
    neurons: pd.DataFrame
    """neuron, value (activation), effect, part (value times effect), top_label, top_rho; largest |part| first."""

    @property
    def not_rebuilt(self) -> float:
        """What the SAE leaves out of the embedding."""
        return self.total - self.constant - float(self.neurons["part"].sum())

    def changed(self, neurons: Sequence[int], strength: float = 0.0) -> float:
        """The score with these neurons at `strength` times their activation, all else as it is."""
        mine = self.neurons["neuron"].isin(list(neurons))
        return self.total + (strength - 1) * float(self.neurons.loc[mine, "part"].sum())


def explain(reader: Reader, scores: Artifact, image: int, position: int) -> Explained | None:
    """None for an image that was not scored, and for a read-out that could not be fitted."""
    place = reader.query(
        "SELECT rowid AS place FROM {s}.scored WHERE image = ?",
        [image], s=scores,
    )["place"]  # fmt: skip
    row = reader.query("SELECT constant FROM {s}.readout WHERE position = ?", [position], s=scores)["constant"]
    if not len(place) or not len(row) or pd.isna(row[0]):
        return None
    total = float(_logits(scores)[int(place[0]), position])
    parts = reader.query(
        """SELECT neuron, value, effect, value * effect AS part, top_label, top_rho FROM {s}.activation
           JOIN {s}.effect USING (neuron) JOIN {s}.neuron USING (neuron) WHERE image = ? AND position = ?
           ORDER BY abs(part) DESC, neuron""",
        [image, position], s=scores,
    )  # fmt: skip
    return Explained(total, float(row[0]), parts)


def totals(reader: Reader, scores: Artifact, image: int) -> np.ndarray | None:
    """Every read-out's score of an image, by position (NaN: none); None for an image that was not scored."""
    place = reader.query("SELECT rowid AS place FROM {s}.scored WHERE image = ?", [image], s=scores)["place"]
    return np.asarray(_logits(scores)[int(place[0])], float) if len(place) else None


def _logits(scores: Artifact) -> np.ndarray:
    return np.load(scores.file(LOGITS_FILE), mmap_mode="r")


@dataclass(frozen=True)
class Judged:
    """The images on which sets are judged: places among the scored, labels, patients."""

    image: np.ndarray
    place: np.ndarray
    patient: np.ndarray
    labels: list[str]
    y_nk: np.ndarray
    mask_nk: np.ndarray


def judged(reader: Reader, scores: Artifact, cohort: Artifact) -> Judged:
    """At most `MOST` scored images, evenly spread, with their labels by the policy of the scores; worth keeping."""
    from medsae.scoring.labels import label_matrix
    from medsae.store.query_images import label_table

    frame = reader.query(
        """SELECT s.image, s.rowid AS place, patient FROM {s}.scored s JOIN {c}.image i ON i.image = s.image
           ORDER BY place""",
        s=scores, c=cohort,
    )  # fmt: skip
    frame = frame.iloc[:: max(1, len(frame) // MOST)]
    table = label_table(reader, cohort)
    uncertain, unstated = (scores.config.get(k) or "missing" for k in ("uncertain", "unstated"))
    y_nk, mask_nk = label_matrix(table.value_nk[frame["image"]], cast(Any, uncertain), cast(Any, unstated))
    patient = pd.factorize(frame["patient"])[0]
    return Judged(frame["image"].to_numpy(), frame["place"].to_numpy(), patient, list(table.names), y_nk, mask_nk)


def without(reader: Reader, scores: Artifact, about: Judged, neurons: Sequence[int], kind: str = "probe") -> Frame:
    """One row a read-out of this kind with these neurons set to 0 together: label, auroc, after, change, low, high, and
    the largest and the median fall of `SETS` sets of other neurons that fire about as often (null_most, null_fall)."""
    from medsae.effects.falls import Ranked, difference

    table = readouts(reader, scores)
    table = table[(table["kind"] == kind) & table["auroc"].notna()]
    sets = [list(neurons), *_like(reader, scores, neurons)]
    parts = _contributions(reader, scores, about, sets, table["position"].to_numpy())
    logit = _logits(scores)
    rows = []
    for r, (label, position) in enumerate(zip(table["label"], table["position"], strict=True)):
        j = about.labels.index(label)
        use = about.mask_nk[:, j]
        score, y = np.asarray(logit[about.place, position], float), about.y_nk[:, j]
        found = difference(score[use], score[use] - parts[0][use, r], y[use], about.patient[use])
        ranked = Ranked.of(score, y, use)
        every = np.arange(len(score))
        null = [ranked.fall(every, -part[:, r]) for part in parts[1:]]
        numbers = dict(zip(("auroc", "after", "change", "low", "high"), found, strict=True))
        null_fall = np.median(null) if null else np.nan
        rows.append({"label": label, **numbers, "null_fall": null_fall, "null_most": max(null, default=np.nan)})
    return pd.DataFrame(rows).sort_values("change", ignore_index=True)


def _like(reader: Reader, scores: Artifact, neurons: Sequence[int]) -> list[list[int]]:
    """Sets of other neurons: for each neuron one of the 20 that fire on the most similar number of images."""
    active = reader.query("SELECT neuron, active FROM {s}.neuron WHERE active > 0 ORDER BY neuron", s=scores)
    others = active[~active["neuron"].isin(list(neurons))]
    known = active.set_index("neuron")["active"]
    rng = np.random.default_rng(sorted(int(n) for n in neurons))
    pools = [
        others["neuron"].to_numpy()[np.argsort(np.abs(others["active"].to_numpy() - known[n]), kind="stable")[:20]]
        for n in neurons if n in known.index
    ]  # fmt: skip
    if not pools or not len(others):
        return []
    return [sorted({int(rng.choice(pool)) for pool in pools}) for _ in range(SETS)]


def _contributions(
    reader: Reader, scores: Artifact, about: Judged, sets: list[list[int]], positions: np.ndarray
) -> list[np.ndarray]:
    """For each set what it adds to the scores of the judged images, [n, r]."""
    wanted = sorted({n for one in sets for n in one})
    numbers = ", ".join(map(str, wanted)) or "-1"
    fired = reader.query(f"SELECT neuron, image, value FROM {{s}}.activation WHERE neuron IN ({numbers})", s=scores)
    effect = reader.query(f"SELECT neuron, position, effect FROM {{s}}.effect WHERE neuron IN ({numbers})", s=scores)
    wide = effect.pivot(index="neuron", columns="position", values="effect")
    wide = wide.reindex(index=wanted, columns=positions).fillna(0.0)
    at, known = _places(about, fired["image"].to_numpy())
    fired = fired[known].assign(at=at[known])
    parts = []
    for one in sets:
        mine = fired[fired["neuron"].isin(one)]
        of = wide.to_numpy()[np.searchsorted(wanted, mine["neuron"].to_numpy())] * mine["value"].to_numpy()[:, None]
        part = np.zeros((len(about.image), len(positions)))
        np.add.at(part, mine["at"].to_numpy(), of)
        parts.append(part)
    return parts


def _places(about: Judged, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of each image among those that are judged, and whether it is one of them."""
    order = np.argsort(about.image)
    at = order[np.minimum(np.searchsorted(about.image[order], image), len(order) - 1)]
    return at, about.image[at] == image
