"""Does a neuron follow its label, or what goes with the label? Correlations within strata and given attributes.

The *partial* correlation of a neuron z and a label y given attributes A is the correlation of what is left of both when
a constant and A are regressed out. One-hot columns stand for an attribute of words (unknown is a value of its own), the
number and its square for one of numbers. It is linear: what a neuron shares with A in another shape stays.

Intervals are by patient: the influence of each image on the correlation, summed by patient before squaring, on Fisher's
scale. To first order the coefficients of the regressions add nothing to it (the residuals are orthogonal to A).
What *shuffled attributes* take away stands beside what the real ones take away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from medsae.progress import Progress
from medsae.scoring.activity import Held
from medsae.scoring.auroc import GROUP_BYTES, auroc_interval, columns_of
from medsae.scoring.draws import Patients, Permutations
from medsae.scoring.labels import one_hot

LEAST = 10
"""Images with the label, and without it, that a correlation needs to be compared; a neuron must fire on as many."""
DRAWS = 20
"""Shuffles of the attributes between patients."""
HOLDS, LOST = 0.75, 0.5
"""Share of a correlation that is left: from `HOLDS` on it holds, below `LOST` the neuron follows something else."""
PIECE = 2**23
"""Numbers of a residual that are held at a time (64 MiB)."""
BANDS = 3
"""Strata of an attribute of numbers, of like size."""


@dataclass(frozen=True)
class Attribute:
    """One attribute of n images."""

    name: str
    columns_nc: NDArray[np.float64]
    """What is regressed out."""
    values: tuple[str, ...]
    stratum_n: NDArray[np.intp]
    """Index into `values`, -1 where the attribute is unknown."""

    @staticmethod
    def of(name: str, values: ArrayLike) -> Attribute | None:
        """From a value an image (None or NaN: unknown), numbers or words; None where there is nothing to tell apart."""
        column = np.asarray(values)
        found = _of_numbers(name, column.astype(float)) if column.dtype.kind in "fiu" else _of_words(name, column)
        return found if len(found.values) > 1 else None


def _of_words(name: str, values: NDArray[np.generic]) -> Attribute:
    hot, _, words = one_hot(values)
    known = np.array([v is not None and v == v for v in values], bool)
    stratum = np.where(hot.any(1), hot.argmax(1), -1) if words else np.full(len(values), -1)
    # The first value is what all others are compared with; values too rare for a column share one, unknown has one.
    columns = [hot[:, 1:], ~known, known & (stratum < 0)]
    return Attribute(name, np.column_stack(columns).astype(float), tuple(words), stratum)


def _of_numbers(name: str, value_n: NDArray[np.float64]) -> Attribute:
    known = np.isfinite(value_n)
    if not known.any() or np.ptp(value_n[known]) == 0:
        return Attribute(name, np.zeros((len(value_n), 0)), (), np.full(len(value_n), -1))
    standard = np.where(known, (value_n - value_n[known].mean()) / value_n[known].std(), 0)
    square = np.where(known, standard**2, 0)
    ends = np.unique(np.quantile(value_n[known], np.linspace(0, 1, BANDS + 1)[1:-1]))
    stratum = np.where(known, np.searchsorted(ends, value_n, "right"), -1)
    edges = [value_n[known].min(), *ends, value_n[known].max()]
    words = tuple(f"{a:.4g} to {b:.4g}" for a, b in pairwise(edges))
    return Attribute(name, np.column_stack([standard, square, ~known]).astype(float), words, stratum)


def basis(attributes: Sequence[Attribute], use_n: NDArray[np.bool_] | NDArray[np.integer]) -> NDArray[np.float64]:
    """Orthonormal columns [used, c] that span a constant and the attributes over the images `use_n` (mask or rows)."""
    columns = [one.columns_nc[use_n] for one in attributes]
    count = len(columns[0]) if columns else len(np.arange(len(use_n))[use_n])
    left, size, _ = np.linalg.svd(np.column_stack([np.ones(count), *columns]), full_matrices=False)
    return left[:, size > 1e-8 * max(size.max(initial=0), 1)]


@dataclass(frozen=True)
class Given:
    """Correlations [m] of neurons with one label, given some attributes; NaN where nothing varies any more."""

    rho_m: NDArray[np.float64]
    influence_nm: NDArray[np.float64]
    """What each image adds to rho, times n."""
    freedom: int
    """Images less what was regressed out."""

    def error(self, patients: Patients, less: Given | None = None) -> NDArray[np.float64]:
        """Standard error [m] of rho, or of rho minus the rho of `less`, by patient."""
        influence = self.influence_nm - (less.influence_nm if less else 0)
        count, n = len(patients.size_p), len(influence)
        ordered = influence[patients.order_n]
        sums = np.add.reduceat(ordered, patients.start_p, axis=0)
        lost = n / max(min(self.freedom, less.freedom if less else self.freedom), 1)
        return np.sqrt((sums**2).sum(0) * count / max(count - 1, 1) * lost) / n

    def interval(self, patients: Patients) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """95 % on Fisher's scale."""
        with np.errstate(invalid="ignore", divide="ignore"):
            centre = np.arctanh(np.clip(self.rho_m, -1, 1))
            half = ndtri(0.975) * self.error(patients) / np.maximum(1 - self.rho_m**2, 1e-12)
            return np.tanh(centre - half), np.tanh(centre + half)


def given(z_nm: NDArray[np.floating], y_n: NDArray[np.floating], basis_nc: NDArray[np.float64]) -> Given:
    """Partial correlations of neurons [n, m] with a label [n], `basis_nc` regressed out of both."""
    y = np.asarray(y_n, float)
    y = y - basis_nc @ (basis_nc.T @ y)
    z = np.asarray(z_nm, float)
    before = np.einsum("nm,nm->m", z, z)
    z = z - basis_nc @ (basis_nc.T @ z)
    n = len(y)
    zz, yy = np.einsum("nm,nm->m", z, z), float(y @ y)
    # What is left of a variable that the basis explains wholly is rounding.
    good = (zz > 1e-10 * np.maximum(before, 1e-300)) & (yy > 1e-10 * n) & (n > basis_nc.shape[1] + 1)
    z *= np.where(good, np.sqrt(n / np.where(good, zz, 1)), np.nan)
    y *= np.sqrt(n / yy) if yy > 0 else np.nan
    rho = (z * y[:, None]).mean(0) if n else np.full(z.shape[1], np.nan)
    influence = z * y[:, None] - rho / 2 * (z**2 + (y**2)[:, None])
    return Given(rho, influence, n - basis_nc.shape[1])


def _only_rho(
    z_nm: NDArray[np.floating], y_n: NDArray[np.floating], basis_nc: NDArray[np.floating],
    square_m: NDArray[np.floating],
) -> NDArray[np.floating]:  # fmt: skip
    """`given(...).rho_m` without a residual of every neuron: sums only; `square_m`: sums of z^2."""
    y = y_n - basis_nc @ (basis_nc.T @ y_n)
    zz = square_m - ((basis_nc.T @ z_nm) ** 2).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (y @ z_nm) / np.sqrt(np.where(zz > 0, zz, np.nan) * (y @ y))


def strata(
    z_n: NDArray[np.floating], y_n: NDArray[np.floating], use_n: NDArray[np.bool_], attribute: Attribute,
    patient_n: NDArray[np.generic],
) -> pd.DataFrame:  # fmt: skip
    """One row a value of the attribute: value, n, positives, rho, low, high, auroc, auroc_low, auroc_high, reason.

    NULL with a reason where fewer than `LEAST` images have the label, or lack it, or where the neuron does not vary.
    """
    rows = []
    for index, value in enumerate(attribute.values):
        inside = use_n & (attribute.stratum_n == index)
        y, z = y_n[inside], np.asarray(z_n[inside], float)
        row = {"value": value, "n": int(inside.sum()), "positives": int((y > 0).sum()), "reason": ""}
        reason = _too_few(y > 0) or ("the neuron does not vary" if np.ptp(z) == 0 else "")
        if reason:
            rows.append(row | {"reason": reason})
            continue
        patients = Patients.of(patient_n[inside])
        found = given(z[:, None], y, basis([], np.ones(len(y), bool)))
        low, high = found.interval(patients)
        area = auroc_interval(z, y, patients.code_n)
        rows.append(row | {"rho": found.rho_m[0], "low": low[0], "high": high[0], "auroc": area.value,
                           "auroc_low": area.low, "auroc_high": area.high})  # fmt: skip
    columns = ["value", "n", "positives", "rho", "low", "high", "auroc", "auroc_low", "auroc_high", "reason"]
    return pd.DataFrame(rows, columns=columns)


def _too_few(y_n: NDArray[np.bool_]) -> str:
    present, absent = int(y_n.sum()), int((~y_n).sum())
    return "" if min(present, absent) >= LEAST else f"{present} present, {absent} absent; {LEAST} of each are needed"


def verdict(rho: float, rho_low: float, rho_high: float, alone: Mapping[str, float], together: float) -> str:
    """One line by rule, "" where rho or what is left of it is undefined.

    `alone`: what is left given each attribute by itself, `together` given all of them.
    """
    if not np.isfinite([rho, together]).all():
        return ""
    if rho_low <= 0 <= rho_high:
        return "no settled correlation"
    left = together / rho
    if left >= HOLDS or not alone:
        return "holds"
    named = min((name for name in alone if np.isfinite(alone[name])), key=lambda name: alone[name] / rho, default="")
    if left >= LOST:
        return f"partly {named}"
    # One attribute is named where it alone takes the greater part of what all of them take.
    takes = (rho - alone[named]) / (rho - together)
    return f"follows {named}" if takes >= 0.6 else f"follows {', '.join(alone)} together"


@dataclass(frozen=True)
class Cohort:
    """What every neuron is held against."""

    y_nk: NDArray[np.floating]
    mask_nk: NDArray[np.bool_]
    labels: Sequence[str]
    attributes: Sequence[Attribute]
    """Those that are held; the first one gives the stratum that is shown."""
    patients: Patients
    seed: int

    def attributes_of(self, label: str) -> list[Attribute]:
        """Without the attribute that is the label itself: `devices` is read off the label of devices."""
        same = {label.lower(), *(("devices",) if "device" in label.lower() else ())}
        return [one for one in self.attributes if one.name.lower() not in same]


def confounded(
    held: Held, cohort: Cohort, top_m: NDArray[np.integer], report: Progress
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables `confounded` (a row a neuron, against the label it follows most, `top_m`) and `given` (a row a neuron and
    attribute): see their comments in the schema. As many passes over the activations as AUROC takes."""
    order = np.argsort(top_m, kind="stable")
    width = max(1, GROUP_BYTES // (4 * held.n))
    parts: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    with report.task("what else neurons follow", held.m, "neurons") as task:
        for first in range(0, held.m, width):
            chunk = order[first : first + width]
            z_nc = columns_of(held, chunk)
            for label in np.unique(top_m[chunk]):
                mine = top_m[chunk] == label
                parts += _of_label(z_nc[:, mine], chunk[mine], int(label), cohort)
            task.advance(len(chunk))
    table, alone = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    return table.sort_values("neuron", ignore_index=True), alone.sort_values(["neuron", "attribute"], ignore_index=True)


@dataclass(frozen=True)
class _Label:
    """One label over the images where it is known, and what its neurons are held against."""

    name: str
    y_n: NDArray[np.float64]
    use_n: NDArray[np.bool_]
    held: Sequence[Attribute]
    patients: Patients
    bases: Mapping[str, NDArray[np.float64]]
    """Of nothing (""), of each attribute, of all of them ("*")."""

    @staticmethod
    def of(cohort: Cohort, label: int) -> _Label:
        use, name = cohort.mask_nk[:, label], cohort.labels[label]
        held = cohort.attributes_of(name)
        sets = {"": [], **{one.name: [one] for one in held}, "*": held}
        bases = {key: basis(some, use) for key, some in sets.items()}
        y = cohort.y_nk[use, label].astype(float)
        return _Label(name, y, use, held, Patients.of(cohort.patients.code_n[use]), bases)

    @property
    def reason(self) -> str:
        """Why no correlation with it can be held against anything."""
        return _too_few(self.y_n > 0) or ("" if self.held else "the cohort has no other attribute that is asked for")


def _of_label(
    z_nc: NDArray[np.float32], neurons: NDArray[np.integer], label: int, cohort: Cohort
) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    nothing = pd.DataFrame(columns=["neuron", "attribute", "label", "rho", "low", "high"])
    if label < 0:
        return [(pd.DataFrame({"neuron": neurons, "n": 0, "reason": "no defined correlation"}), nothing)]
    one = _Label.of(cohort, label)
    if one.reason:
        base = {"neuron": neurons, "label": one.name, "n": len(one.y_n), "reason": one.reason}
        return [(pd.DataFrame(base), nothing)]
    z = z_nc[one.use_n]
    null = _null_fall(z, one, cohort)
    few = max(1, PIECE // len(z))
    pieces = [slice(k, k + few) for k in range(0, len(neurons), few)]
    return [_held(z[:, part].astype(float), neurons[part], null[part], one) for part in pieces]


def _held(
    z: NDArray[np.float64], neurons: NDArray[np.integer], null_fall_m: NDArray[np.float64], one: _Label
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of both tables of some neurons that follow one label."""
    found = {key: given(z, one.y_n, of) for key, of in one.bases.items()}
    plain, together, alone = found[""], found["*"], {a.name: found[a.name] for a in one.held}
    fall = np.sign(plain.rho_m) * (plain.rho_m - together.rho_m)
    half = ndtri(0.975) * plain.error(one.patients, together)
    numbers = {
        "rho": plain.rho_m, **_ends("", plain, one.patients), "given": together.rho_m,
        **_ends("given_", together, one.patients), "fall": fall, "fall_low": fall - half, "fall_high": fall + half,
        "null_fall": null_fall_m,
    }  # fmt: skip
    where, inside, rho = _within(z, one)
    reason = _reasons(z, plain.rho_m)
    told = reason == ""
    table = pd.DataFrame({
        "neuron": neurons, "label": one.name, "n": len(z), "within": where, "within_n": inside,
        "attributes": ", ".join(alone), "reason": [str(r) or None for r in reason],
        **{name: np.where(told, value, np.nan) for name, value in {**numbers, "within_rho": rho}.items()},
    })  # fmt: skip
    table["verdict"] = [
        verdict(r.rho, r.low, r.high, {a: float(g.rho_m[i]) for a, g in alone.items()}, r.given) or None
        for i, r in enumerate(table.itertuples())
    ]
    rows = [
        pd.DataFrame(
            {"neuron": neurons, "attribute": a, "label": one.name, "rho": g.rho_m, **_ends("", g, one.patients)}
        )
        for a, g in alone.items()
    ]
    return table, pd.concat([r[told] for r in rows], ignore_index=True)


def _reasons(z: NDArray[np.float64], rho_m: NDArray[np.float64]) -> NDArray[np.str_]:
    """Why nothing is said of a neuron; a dense one fires everywhere."""
    fires = np.where((z == 0).any(0), np.count_nonzero(z, axis=0), len(z))
    few = np.where(fires < LEAST, f"fires on fewer than {LEAST} of them", "")
    return np.where(np.isfinite(rho_m), few, "the neuron does not vary")


def _ends(prefix: str, found: Given, patients: Patients) -> dict[str, NDArray[np.float64]]:
    low, high = found.interval(patients)
    return {f"{prefix}low": low, f"{prefix}high": high}


def _within(z: NDArray[np.float64], label: _Label) -> tuple[str, int, NDArray[np.float64]]:
    """The largest stratum of the first attribute: its name, its images, the correlations there."""
    first = label.held[0]
    stratum = first.stratum_n[label.use_n]
    largest = int(np.bincount(stratum[stratum >= 0], minlength=len(first.values)).argmax())
    inside = stratum == largest
    rho = np.full(z.shape[1], np.nan)
    if not _too_few(label.y_n[inside] > 0):
        rho = given(z[inside], label.y_n[inside], basis([], np.ones(int(inside.sum()), bool))).rho_m
    return f"{first.name} {first.values[largest]}", int(inside.sum()), rho


def _null_fall(z: NDArray[np.float32], label: _Label, cohort: Cohort) -> NDArray[np.float64]:
    """The largest fall [m] of `DRAWS` shuffles of the attributes between patients."""
    most = np.full(z.shape[1], -np.inf)
    y = label.y_n.astype(np.float32)
    square_m = np.einsum("nm,nm->m", z, z)
    rho_m = _only_rho(z, y, label.bases[""].astype(np.float32), square_m)
    permutations = Permutations(cohort.patients, DRAWS, cohort.seed)
    for draw in range(DRAWS):
        of = basis(label.held, permutations.rows(draw)[label.use_n]).astype(np.float32)
        most = np.fmax(most, np.sign(rho_m) * (rho_m - _only_rho(z, y, of, square_m)))
    return np.where(np.isfinite(most), most, np.nan)
