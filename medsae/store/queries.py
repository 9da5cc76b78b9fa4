"""What pages ask about scores: every function takes a Reader and artifacts and returns a data frame (or one row).

Entropies are in bits. A neuron is named by its number. All SQL about neurons lives here, all SQL about pictures in
`query_images`; a page only formats.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from medsae.store.artifacts import Artifact
from medsae.store.filter import FEW_LAST, FIRING_LEAST, Filter
from medsae.store.filter import SORTS as SORTS
from medsae.store.reader import Frame, Reader

BIN_BITS = 0.05
"""Width of an entropy bin."""


@dataclass(frozen=True)
class Measure:
    """One row of `summary`; low and high are a 95 % interval or None."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    note: str = ""


def summary(reader: Reader, scores: Artifact) -> dict[str, Measure]:
    """Measure name -> Measure; what was not computed is absent."""
    frame = reader.query("SELECT measure, value, low, high, n, note FROM {s}.summary", s=scores)
    return {row["measure"]: Measure(*[_none(row[c]) for c in ("value", "low", "high", "n")], note=row["note"] or "")
            for row in frame.to_dict("records")}  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """One mean entropy minus another (bits): 95 % interval over patients, and 95 % of it under shuffled labels."""

    value: float | None
    low: float | None = None
    high: float | None = None
    null_low: float | None = None
    null_high: float | None = None
    note: str = ""


def difference(reader: Reader, first: Artifact, second: Artifact, strong: bool = False) -> Difference:
    """Mean entropy of `first` minus `second`, with paired draws: draw t of both resampled the same patients.

    The bootstrap quantiles are moved so that their mean falls on the value (docs/decisions/042). Value None when
    either mean is undefined; no intervals when the draws do not pair (other images, seed or number of draws).
    """
    column = "mean_entropy_strong" if strong else "mean_entropy"
    row = reader.query(
        f"""WITH d AS (
               SELECT a.kind, a.{column} - b.{column} AS d FROM {{a}}.draw a JOIN {{b}}.draw b USING (kind, draw)
               WHERE isfinite(a.{column}) AND isfinite(b.{column})),
             boot AS (SELECT count(d) AS n, quantile_cont(d, 0.025) - avg(d) AS low, quantile_cont(d, 0.975) - avg(d)
                      AS high FROM d WHERE kind = 'bootstrap'),
             luck AS (SELECT quantile_cont(d, 0.025) AS null_low, quantile_cont(d, 0.975) AS null_high
                      FROM d WHERE kind = 'permutation'),
             point AS (SELECT (SELECT value FROM {{a}}.summary WHERE measure = '{column}')
                            - (SELECT value FROM {{b}}.summary WHERE measure = '{column}') AS value)
            SELECT value, value + low AS low, value + high AS high, null_low, null_high, n FROM point, boot, luck""",
        a=first,
        b=second,
    ).iloc[0]
    if first.parents.get("cohort") != second.parents.get("cohort"):
        return Difference(_none(row["value"]), note="two studies: no image is in both, so no draw pairs")
    same = all(first.config.get(k) == second.config.get(k) for k in ("images", "seed", "bootstraps", "draws"))
    if not same or row["n"] < 2:
        return Difference(_none(row["value"]), note="draws do not pair: other images, seed or number of draws")
    return Difference(*[_none(row[c]) for c in ("value", "low", "high", "null_low", "null_high")])


def entropy_histogram(reader: Reader, scores: Artifact, filter: Filter, label: str | None = None) -> Frame:
    """low (bits), count, share (of the neurons counted), cumulative share; bins of BIN_BITS."""
    where, values = replace(filter, label=label or filter.label).where()
    return reader.query(
        f"""WITH bin AS (SELECT floor(entropy / {BIN_BITS}) * {BIN_BITS} AS low, count(*) AS count
                FROM {{s}}.neuron WHERE entropy IS NOT NULL AND {where} GROUP BY 1)
            SELECT low, count, count / sum(count) OVER () AS share,
                   sum(count) OVER (ORDER BY low) / sum(count) OVER () AS cumulative FROM bin ORDER BY low""",
        values, s=scores,
    )  # fmt: skip


def null_histogram(reader: Reader, scores: Artifact) -> Frame:
    """low, high (bits), mean, low_share, high_share as shares of a bin of BIN_BITS, cumulative share."""
    return reader.query(
        f"""SELECT low, high, mean * {BIN_BITS} / (high - low) AS mean,
                   low_share * {BIN_BITS} / (high - low) AS low_share,
                   high_share * {BIN_BITS} / (high - low) AS high_share, sum(mean) OVER (ORDER BY low) AS cumulative
            FROM {{s}}.null_histogram ORDER BY low""",
        s=scores,
    )


def entropy_by_label(reader: Reader, scores: Artifact, filter: Filter) -> Frame:
    """label, neurons, and quantiles q05 q25 q50 q75 q95 (bits) of the neurons that follow each label."""
    where, values = filter.where()
    return reader.query(
        f"""SELECT top_label AS label, count(*) AS neurons, quantile_cont(entropy, 0.05) AS q05,
                   quantile_cont(entropy, 0.25) AS q25, quantile_cont(entropy, 0.5) AS q50,
                   quantile_cont(entropy, 0.75) AS q75, quantile_cont(entropy, 0.95) AS q95
            FROM {{s}}.neuron WHERE entropy IS NOT NULL AND {where} GROUP BY 1 ORDER BY q50, label""",
        values, s=scores,
    )  # fmt: skip


def count(reader: Reader, scores: Artifact, filter: Filter) -> int:
    """Neurons that pass the filter."""
    where, values = filter.where()
    return int(reader.query(f"SELECT count(*) AS n FROM {{s}}.neuron WHERE {where}", values, s=scores)["n"][0])


def few(reader: Reader, scores: Artifact, filter: Filter) -> int:
    """Neurons of the filter that its order puts last because they fire on 1 to FIRING_LEAST - 1 pictures."""
    if filter.sort not in FEW_LAST:
        return 0
    where, values = filter.where()
    return int(
        reader.query(
            f"SELECT count(*) AS n FROM {{s}}.neuron WHERE active BETWEEN 1 AND {FIRING_LEAST - 1} AND {where}",
            values,
            s=scores,
        )["n"][0]
    )


def neurons(reader: Reader, scores: Artifact, filter: Filter, limit: int | None = 24, offset: int = 0) -> Frame:
    """Rows of `neuron` that pass the filter, in its order."""
    where, values = filter.where()
    page = "" if limit is None else f"LIMIT {int(limit)} OFFSET {int(offset)}"
    return reader.query(f"SELECT * FROM {{s}}.neuron WHERE {where} ORDER BY {filter.order()} {page}", values, s=scores)


def neuron(reader: Reader, scores: Artifact, neuron: int) -> dict[str, Any] | None:
    """One row of `neuron` with None for NULL; None when there is no such neuron."""
    rows = reader.rows("SELECT * FROM {s}.neuron WHERE neuron = ?", [neuron], s=scores)
    return {name: _none(value) for name, value in rows[0].items()} if rows else None


def order(reader: Reader, scores: Artifact, filter: Filter) -> np.ndarray:
    """int32: the neurons that pass the filter, in its order. One answer serves every step through a list."""
    where, values = filter.where()
    sql = f"SELECT neuron FROM {{s}}.neuron WHERE {where} ORDER BY {filter.order()}"
    return reader.query(sql, values, s=scores)["neuron"].to_numpy(np.int32)


def beside(reader: Reader, scores: Artifact, filter: Filter, neuron: int) -> dict[str, int | None]:
    """previous and next neuron, position (from 1) and total within the filter; position None when it is outside: the
    first neuron is next then."""
    order_m = order(reader, scores, filter)
    found = np.flatnonzero(order_m == neuron)
    at = int(found[0]) if len(found) else -1
    previous = int(order_m[at - 1]) if at > 0 else None
    following = int(order_m[at + 1]) if at + 1 < len(order_m) else None
    return {"previous": previous, "next": following, "position": at + 1 if at >= 0 else None, "total": len(order_m)}


def correlations(reader: Reader, scores: Artifact, neuron: int | None) -> Frame:
    """label, rho, n, low, high, reason of one neuron, strongest first; of all of them with `neuron` in front."""
    if neuron is None:
        return reader.query(
            "SELECT neuron, label, rho, n, low, high, reason FROM {s}.correlation ORDER BY neuron, label", s=scores
        )
    return reader.query(
        "SELECT label, rho, n, low, high, reason FROM {s}.correlation WHERE neuron = ? "
        "ORDER BY abs(rho) DESC NULLS LAST, label",
        [neuron], s=scores,
    )  # fmt: skip


def heat_map(reader: Reader, scores: Artifact, filter: Filter, top: int) -> Frame:
    """neuron, rank (from 0), label, rho, n, low, high, entropy of the `top` first neurons in the filter's order."""
    where, values = filter.where()
    return reader.query(
        f"""WITH chosen AS (SELECT neuron, entropy, top_label,
                   row_number() OVER (ORDER BY {filter.order()}) - 1 AS rank
                FROM {{s}}.neuron WHERE entropy IS NOT NULL AND {where} ORDER BY rank LIMIT {int(top)})
            SELECT c.neuron, rank, label, rho, n, low, high, entropy, top_label
            FROM chosen c JOIN {{s}}.correlation USING (neuron) ORDER BY rank, label""",
        values, s=scores,
    )  # fmt: skip


def top_labels(reader: Reader, scores: Artifact) -> pd.Series:
    """neuron -> the label it follows most."""
    return reader.query("SELECT neuron, top_label FROM {scores}.neuron", scores=scores).set_index("neuron")["top_label"]


def best_of_labels(reader: Reader, scores: Artifact) -> Frame:
    """`label_summary` as it stands."""
    return reader.query("SELECT * FROM {s}.label_summary", s=scores)


def floors(reader: Reader, scores: Artifact) -> dict[str, float]:
    """label -> entropy (bits) of the detector that is never wrong about it; empty where none was computed then."""
    frame = best_of_labels(reader, scores)
    if "floor" not in frame:
        return {}
    known = frame[frame["floor"].notna()]
    return dict(zip(known["label"].astype(str), known["floor"].astype(float), strict=True))


def scarce_labels(reader: Reader, scores: Artifact, least: int) -> dict[str, int]:
    """label -> images on its scarcer side (present or absent), of labels that have fewer than `least` there."""
    frame = reader.query(
        """SELECT label, least(positives, used - positives) AS n FROM {s}.label_summary
           WHERE n < ? ORDER BY n, label""",
        [least], s=scores,
    )  # fmt: skip
    return {str(label): int(n) for label, n in zip(frame["label"], frame["n"], strict=True)}


def defined_labels(reader: Reader, scores: Artifact) -> int:
    """Labels with a correlation to at least one neuron: the k of H / log2 k."""
    return int(
        reader.query("SELECT count(DISTINCT label) AS k FROM {s}.correlation WHERE rho IS NOT NULL", s=scores)["k"][0]
    )


def labels(reader: Reader, cohort: Artifact) -> list[str]:
    """Names of the labels in the source's order."""
    return list(reader.query("SELECT label FROM {c}.label_name ORDER BY position", c=cohort)["label"])


def cooccurrence(reader: Reader, scores: Artifact, cohort: Artifact) -> Frame:
    """a, b, both, share: among scored images with label a present, the share with label b present."""
    return reader.query(
        """WITH present AS (SELECT image, label FROM {c}.label JOIN {s}.scored USING (image) WHERE value = 1),
                total AS (SELECT label, count(*) AS n FROM present GROUP BY 1)
           SELECT x.label AS a, y.label AS b, count(*) AS both, count(*) / any_value(t.n) AS share
           FROM present x JOIN present y USING (image) JOIN total t ON t.label = x.label GROUP BY 1, 2""",
        s=scores, c=cohort,
    )  # fmt: skip


def histogram(reader: Reader, scores: Artifact, neuron: int) -> Frame:
    """low, high, count of one neuron's activations (zeros of an SAE are not counted)."""
    return reader.query("SELECT low, high, count FROM {s}.histogram WHERE neuron = ? ORDER BY bin", [neuron], s=scores)


def activations(reader: Reader, scores: Artifact, neuron: int) -> Frame:
    """image, value of the stored activations of one neuron, largest first."""
    return reader.query(
        "SELECT image, value FROM {s}.activation WHERE neuron = ? ORDER BY value DESC, image", [neuron], s=scores
    )


def histogram_of_label(reader: Reader, scores: Artifact, neuron: int, value_n: np.ndarray) -> Frame:
    """low, high, present, absent, unknown: stored activations of one neuron in its bins, by one label.

    value_n: the label of every image of the cohort (a column of `query_images.LabelTable`).
    """
    bins = histogram(reader, scores, neuron).drop(columns="count")
    fired = activations(reader, scores, neuron)
    activation, known = fired["value"].to_numpy(np.float64), value_n[fired["image"].to_numpy()]
    low, high = bins["low"].to_numpy(), bins["high"].to_numpy()
    at = np.searchsorted(low, activation, side="right") - 1
    inside = (at >= 0) & ((activation < high[at]) | ((activation == high[at]) & (at == len(bins) - 1)))
    for name, mine in (("present", known == 1), ("absent", known == 0), ("unknown", (known != 1) & (known != 0))):
        bins[name] = np.bincount(at[mine & inside], minlength=len(bins))
    return bins


def neighbours(reader: Reader, scores: Artifact, neuron: int, limit: int = 6) -> Frame:
    """measure, rank, neuron, value, top_label, entropy of the nearest neurons."""
    return reader.query(
        """SELECT measure, rank, other AS neuron, value, top_label, top_rho, entropy FROM {s}.neighbour b
           JOIN {s}.neuron n ON n.neuron = b.other WHERE b.neuron = ? AND rank <= ? ORDER BY measure, rank""",
        [neuron, limit], s=scores,
    )  # fmt: skip


def recovery(reader: Reader, scores: Artifact) -> Frame:
    """`recovery` as it stands: planted factors of a simulated cohort."""
    return reader.query("SELECT * FROM {s}.recovery ORDER BY factor", s=scores)


def embedding_images(reader: Reader, embeddings: Artifact) -> np.ndarray:
    """int64 [n]: the image of each row of x.npy."""
    frame = reader.query('SELECT image FROM {e}.embedding_row ORDER BY "row"', e=embeddings)
    return frame["image"].to_numpy(np.int64)


def history(reader: Reader, sae: Artifact) -> Frame:
    """Training history of an SAE; older ones call the share of active neurons `l0`."""
    return reader.query("SELECT * FROM {s}.history ORDER BY step", s=sae).rename(columns={"l0": "active_share"})


def _none(value: Any) -> Any:
    return (
        None if value is None or value is pd.NA or value != value else value.item() if hasattr(value, "item") else value
    )
