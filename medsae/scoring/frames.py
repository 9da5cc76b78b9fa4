"""The measures as tables. Undefined numbers are NaN, undefined texts and neurons are None or NA: all NULL on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsae.rates import rho_interval
from medsae.scoring.best import Best
from medsae.scoring.entropy import Entropy
from medsae.scoring.labels import BLANK
from medsae.scoring.measures import Scored, ordered
from medsae.scoring.null import EntropyHistogram
from medsae.scoring.profile import BINS, Profile
from medsae.scoring.recovery import REPRESENTATIONS, Recovery
from medsae.scoring.sufficient import REASONS, Correlations

DEAD = "never fires on the images scored"
CONSTANT = "the same on every image scored"


def _texts(names: Sequence[str], index: NDArray[np.integer]) -> NDArray[np.object_]:
    """names[index] with None for -1."""
    return np.array([*names, None], object)[index]


def neurons(
    correlations: Correlations,
    entropies: Entropy,
    strongest: tuple[NDArray[np.float64], NDArray[np.int64]],
    scored: Scored,
) -> pd.DataFrame:
    """One row a neuron. `strongest`: max |rho| of each and its label. `selective` is NA where there was nothing to
    test; `reason` says why `entropy` is NULL."""
    (max_rho_m, top_m), profile, null = strongest, scored.profile, scored.null
    labels, images, m = scored.design.labels, scored.images, len(max_rho_m)
    top_rho = np.where(top_m >= 0, correlations.rho_mk[np.arange(m), np.maximum(top_m, 0)], np.nan)
    defined = np.isfinite(entropies.bits_m)
    flat = np.where(profile.active_m == 0, DEAD, np.where(profile.high_m == profile.low_m, CONSTANT, ""))
    reason = np.where(flat != "", flat.astype(object), entropies.reason_m)
    reason[defined] = None
    tested = np.isfinite(null.q_m)
    selective = pd.arrays.BooleanArray(np.where(tested, null.q_m <= scored.fdr, False), ~tested)
    return pd.DataFrame(
        dict(
            neuron=np.arange(m, dtype=np.int32),
            active=profile.active_m,
            density=profile.active_m / images,
            mean=correlations.mean_m,
            std=correlations.std_m,
            min=profile.low_m,
            max=profile.high_m,
            entropy=entropies.bits_m,
            entropy_normalised=entropies.normalised_m,
            labels_defined=entropies.labels_m,
            entropy_null_mean=null.entropy_mean_m,
            entropy_null_sd=null.entropy_sd_m,
            max_abs_rho=max_rho_m,
            top_label=_texts(labels, top_m),
            top_rho=top_rho,
            p=null.p_m,
            q=null.q_m,
            selective=selective,
            selective_label=_texts(labels, null.label_m),
            reason=reason,
        )
    )


def correlations(found: Correlations, labels: Sequence[str]) -> pd.DataFrame:
    """One row a neuron and label, neuron by neuron; `low`, `high`: Fisher's 95 % interval."""
    m, k = found.rho_mk.shape
    rho, n = found.rho_mk.ravel(), np.tile(found.n_k, m)
    low, high = rho_interval(rho, n)
    reasons = np.array([None, *REASONS[1:]], object)
    return pd.DataFrame(
        dict(
            neuron=np.repeat(np.arange(m, dtype=np.int32), k),
            label=pd.Categorical.from_codes(np.tile(np.arange(k), m), categories=list(labels)),
            rho=rho,
            n=n,
            low=low,
            high=high,
            reason=reasons[found.reason_mk.ravel()],
        )
    )


def attribute_correlations(found: Mapping[str, tuple[list[str], Correlations]]) -> pd.DataFrame:
    """One row a neuron, attribute and value: a confounder that a neuron may follow instead of a finding."""
    parts = [pd.DataFrame(dict(neuron=[], attribute=[], value=[], rho=[], n=[], low=[], high=[], reason=[]))]
    for name, (values, result) in found.items():
        table = correlations(result, values).rename(columns={"label": "value"})
        table["value"] = table["value"].astype(object)
        table.insert(1, "attribute", name)
        parts.append(table)
    return pd.concat(parts[1:], ignore_index=True) if found else parts[0]


def histograms(profile: Profile) -> pd.DataFrame:
    """All bins of every neuron that varies; of a sparse neuron the zeros are not in them."""
    shown = np.flatnonzero(profile.counts_mb.any(1))
    return pd.DataFrame(
        dict(
            neuron=np.repeat(shown.astype(np.int32), BINS),
            bin=np.tile(np.arange(BINS, dtype=np.int16), len(shown)),
            low=profile.edges_mb[shown, :-1].ravel(),
            high=profile.edges_mb[shown, 1:].ravel(),
            count=profile.counts_mb[shown].ravel(),
        )
    )


def null_histogram(histogram: EntropyHistogram) -> pd.DataFrame:
    """Share of the defined neurons in each entropy bin (bits): observed, and mean and 95 % band of the null."""
    return pd.DataFrame(
        dict(
            bin=np.arange(len(histogram.observed), dtype=np.int16),
            low=histogram.edges[:-1],
            high=histogram.edges[1:],
            observed=histogram.observed,
            mean=histogram.mean,
            low_share=histogram.low,
            high_share=histogram.high,
        )
    )


def label_summary(
    values_nk: NDArray[np.generic],
    mask_nk: NDArray[np.bool_],
    labels: Sequence[str],
    best: Sequence[Best],
    found: Correlations,
) -> pd.DataFrame:
    """One row a label: what is stated, its best neurons. Believe `auroc_other_half`; `auroc` is its own judge."""
    rows = []
    for j, (label, one) in enumerate(zip(labels, best, strict=True)):
        value_n = np.asarray(values_nk[:, j], float)
        rho_m = found.rho_mk[:, j]
        strongest = int(np.nanargmax(np.abs(rho_m))) if np.isfinite(rho_m).any() else None
        rho = float(rho_m[strongest]) if strongest is not None else np.nan
        rho_low, rho_high = rho_interval(rho, found.n_k[j])
        rows.append(
            dict(
                label=label,
                positives=int((value_n == 1).sum()),
                negatives=int((value_n == 0).sum()),
                uncertain=int((value_n == -1).sum()),
                unstated=int((np.isnan(value_n) | (value_n == BLANK)).sum()),
                used=int(mask_nk[:, j].sum()),
                best_neuron_auroc=one.whole_neuron,
                auroc=one.whole.value,
                low=one.whole.low,
                high=one.whole.high,
                direction=one.whole_direction,
                half_neuron=one.neuron,
                half_direction=one.direction,
                auroc_choosing_half=one.chosen,
                auroc_other_half=one.other.value,
                other_half_low=one.other.low,
                other_half_high=one.other.high,
                best_neuron_rho=strongest,
                rho=rho,
                rho_low=float(rho_low),
                rho_high=float(rho_high),
                reason=one.reason or None,
            )
        )
    table = pd.DataFrame(rows)
    return table.astype({c: "Int32" for c in ("best_neuron_auroc", "half_neuron", "best_neuron_rho")})


def recovery(
    found: Recovery | None, factors: Sequence[str], factors_nf: NDArray[np.bool_], mask_nf: NDArray[np.bool_]
) -> pd.DataFrame:
    """One row a planted factor. For each representation r: `r`, the AUROC of its best neuron on the patients that did
    not choose it, with `r_low`, `r_high`, `r_neuron`; NaN where r was not tried or has too few images (`reason`)."""
    table = pd.DataFrame(dict(factor=np.array(factors, object)))
    table["positives"] = (factors_nf & mask_nf).sum(0)
    table["negatives"] = (~factors_nf & mask_nf).sum(0)
    for name in REPRESENTATIONS:
        row = found.best.get(name) if found else None
        areas = [(b.other.value, b.other.low, b.other.high) for b in row] if row else [(np.nan,) * 3] * len(factors)
        neuron = [b.neuron for b in row] if row else [None] * len(factors)
        table["neuron" if name == "activation" else f"{name}_neuron"] = pd.array(neuron, dtype="Int32")
        for column, values in zip((name, f"{name}_low", f"{name}_high"), zip(*areas, strict=True), strict=False):
            table[column] = np.array(values, float)
    first = next(iter(found.best.values())) if found and found.best else []
    table["reason"] = pd.Series([one.reason or None for one in first], dtype=object)
    return table


def neuron_measures(scored: Scored) -> pd.DataFrame:
    """neuron, measure, value of every declared measure of single neurons."""
    parts = [
        pd.DataFrame(dict(neuron=np.arange(len(scored.profiles.rho_mk), dtype=np.int32), measure=declared.name,
                          value=np.asarray(declared.loaded()(scored), float)))
        for declared in ordered("neurons")
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def draw_measures(
    permuted: Mapping[str, NDArray[np.float64]], resampled: Mapping[str, NDArray[np.float64]]
) -> pd.DataFrame:
    """kind, draw, measure, value of every measure that is taken of draws."""
    parts = [
        pd.DataFrame(dict(kind=kind, draw=np.arange(len(values), dtype=np.int32), measure=name, value=values))
        for kind, of_measure in (("permutation", permuted), ("bootstrap", resampled))
        for name, values in of_measure.items()
    ]
    return pd.concat(parts, ignore_index=True)
