"""Does a neuron follow its label, or what goes with the label? Correlations within strata and given attributes.

The *partial* correlation of a neuron z and a label y given attributes A is the correlation of what is left of both when
a constant and A are regressed out. One-hot columns stand for an attribute of words (unknown is a value of its own), the
number and its square for one of numbers. It is linear: what a neuron shares with A in another shape stays.

Intervals are by patient: the influence of each image on the correlation, summed by patient before squaring, on Fisher's
scale. To first order the coefficients of the regressions add nothing to it (the residuals are orthogonal to A).
What *shuffled attributes* take away stands beside what the real ones take away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from medsae.progress import Progress
from medsae.scoring import firing
from medsae.scoring.activity import Held
from medsae.scoring.auroc import GROUP_BYTES, auroc_interval, columns_of
from medsae.scoring.draws import Patients, Permutations
from medsae.scoring.firing import Basis, Firing
from medsae.scoring.labels import RARE, coded
from medsae.scoring.pieces import NOWHERE, Arrays, Kept, packed, unpacked

LEAST = 10
"""Images with the label, and without it, that a correlation needs to be compared; a neuron must fire on as many."""
DRAWS = 20
"""Shuffles of the attributes between patients."""
HOLDS, LOST = 0.75, 0.5
"""Share of a correlation that is left: from `HOLDS` on it holds, below `LOST` the neuron follows something else."""
NEURONS = 512
"""Neurons of a piece of the work on non-zeros."""
PIECE = 2**23
"""Numbers of a residual that are held at a time (64 MiB)."""
BANDS = 3
"""Strata of an attribute of numbers, of like size."""


@dataclass(frozen=True)
class Attribute:
    """One attribute of n images."""

    name: str
    table_vc: NDArray[np.float64]
    """What is regressed out, a row a kind of image; ..."""
    kind_n: NDArray[np.int32]
    """... and the kind of each image."""
    values: tuple[str, ...]
    stratum_n: NDArray[np.int32]
    """Index into `values`, -1 where the attribute is unknown."""

    @property
    def columns_nc(self) -> NDArray[np.float64]:
        """What is regressed out, image by image."""
        return self.table_vc[self.kind_n]

    @staticmethod
    def of(name: str, values: ArrayLike) -> Attribute | None:
        """From a value an image (None or NaN: unknown), numbers or words; None where there is nothing to tell apart."""
        if isinstance(values, pd.Categorical):
            found = _of_words(name, values)
            return found if len(found.values) > 1 else None
        column = np.asarray(values)
        found = _of_numbers(name, column.astype(float)) if column.dtype.kind in "fiu" else _of_words(name, column)
        return found if len(found.values) > 1 else None


def _of_words(name: str, values: ArrayLike) -> Attribute:
    code, words = coded(values)
    # The first value is what all others are compared with; values too rare for a column share one, unknown has one.
    table = np.eye(len(words) + 2)[:, [*range(1, len(words)), len(words) + 1, len(words)]]
    kind = np.where(code >= 0, code, np.where(code == RARE, len(words), len(words) + 1))
    return Attribute(name, table, kind.astype(np.int32), tuple(words), np.maximum(code, -1))


def _of_numbers(name: str, value_n: NDArray[np.float64]) -> Attribute:
    known = np.isfinite(value_n)
    if not known.any() or np.ptp(value_n[known]) == 0:
        nothing = np.zeros(len(value_n), np.int32)
        return Attribute(name, np.zeros((1, 0)), nothing, (), nothing - 1)
    number, kind = np.unique(np.where(known, value_n, np.nan), return_inverse=True)
    standard = np.where(np.isfinite(number), (number - value_n[known].mean()) / value_n[known].std(), 0)
    ends = np.unique(np.quantile(value_n[known], np.linspace(0, 1, BANDS + 1)[1:-1]))
    stratum = np.where(known, np.searchsorted(ends, value_n, "right"), -1)
    edges = [value_n[known].min(), *ends, value_n[known].max()]
    words = tuple(f"{a:.4g} to {b:.4g}" for a, b in pairwise(edges))
    table = np.column_stack([standard, standard**2, ~np.isfinite(number)]).astype(float)
    return Attribute(name, table, kind.astype(np.int32), words, stratum.astype(np.int32))


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
        return on_fishers_scale(self.rho_m, self.error(patients))


def on_fishers_scale(
    rho_m: NDArray[np.float64], error_m: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % interval of correlations whose standard errors are known."""
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = np.arctanh(np.clip(rho_m, -1, 1))
        half = ndtri(0.975) * error_m / np.maximum(1 - rho_m**2, 1e-12)
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
    held: Held, cohort: Cohort, top_m: NDArray[np.integer], report: Progress, kept: Kept = NOWHERE
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables `confounded` (a row a neuron, against the label it follows most, `top_m`) and `given` (a row a neuron and
    attribute): see their comments in the schema. Held non-zeros are read once (`scoring.firing`); of a dense
    representation as many passes as AUROC takes."""
    made = [one for one in followed(held, cohort, top_m, report, kept) if one is not None]
    table, alone = (pd.concat([unpacked(one, of) for one in made], ignore_index=True) for of in ("table", "alone"))
    return table.sort_values("neuron", ignore_index=True), alone.sort_values(["neuron", "attribute"], ignore_index=True)


def followed(
    held: Held, cohort: Cohort, top_m: NDArray[np.integer], report: Progress, kept: Kept = NOWHERE
) -> Iterator[Arrays | None]:
    """The same piece by piece, some neurons each; None for pieces of another command (`kept`)."""
    order = np.argsort(top_m, kind="stable")
    sparse = held.held is not None
    width = NEURONS if sparse else max(1, GROUP_BYTES // (4 * held.n))
    work = [order[first : first + width] for first in range(0, held.m, width)]
    told = _Sparse(held, cohort, top_m, kept) if sparse else _Dense(held, cohort, top_m)
    with report.task("what else neurons follow", held.m, "neurons") as task:
        kept.expect("followed", len(work))
        for k, neurons in enumerate(work):
            yield kept.group("followed", k, lambda neurons=neurons: _kept(told.of(neurons)))
            task.advance(len(neurons))


Tables: TypeAlias = "tuple[pd.DataFrame, pd.DataFrame]"


def _kept(tables: Tables) -> Arrays:
    return packed(table=tables[0], alone=tables[1])


def _joined(parts: list[Tables]) -> Tables:
    tables, alone = zip(*parts, strict=True)
    return pd.concat(tables, ignore_index=True), pd.concat(alone, ignore_index=True)


@dataclass(frozen=True)
class _Dense:
    """From whole columns of neurons."""

    held: Held
    cohort: Cohort
    top_m: NDArray[np.integer]

    def of(self, neurons: NDArray[np.integer]) -> Tables:
        z_nc, top = columns_of(self.held, neurons), self.top_m[neurons]
        parts: list[Tables] = []
        for label in np.unique(top):
            mine = top == label
            parts += _of_label(z_nc[:, mine], neurons[mine], int(label), self.cohort)
        return _joined(parts)


class _Sparse:
    """From their non-zeros."""

    def __init__(self, held: Held, cohort: Cohort, top_m: NDArray[np.integer], kept: Kept = NOWHERE):
        self.held, self.cohort, self.top_m, self.kept = held, cohort, top_m, kept
        self.last: tuple[int, _Stated] | None = None

    def of(self, neurons: NDArray[np.integer]) -> Tables:
        parts: list[Tables] = []
        for label in np.unique(self.top_m[neurons]):
            for some in self.held.groups(neurons[self.top_m[neurons] == label]):
                parts.append(self._of_label(some, int(label)))
        return _joined(parts)

    def _of_label(self, neurons: NDArray[np.integer], label: int) -> Tables:
        if label < 0:
            return _nothing(neurons, None, 0, "no defined correlation")
        stated = self._stated(label)
        if stated.reason:
            return _nothing(neurons, stated.name, len(stated.label.y_n), stated.reason)
        return stated.tables(neurons, Firing.of(self.held.columns(neurons), stated.use_n))

    def _stated(self, label: int) -> _Stated:
        """Of the label asked for last it is kept: neurons come label by label."""
        if self.last is None or self.last[0] != label:
            self.last = label, _Stated(self.cohort, label, self._shuffled)
        return self.last[1]

    @cached_property
    def _shuffled(self) -> NDArray[np.int32]:
        permutations = Permutations(self.cohort.patients, DRAWS, self.cohort.seed)
        rows = self.kept.room((DRAWS, len(self.cohort.y_nk)), np.int32)
        for draw in range(DRAWS):
            rows[draw] = permutations.rows(draw)
        return rows


def _nothing(neurons: NDArray[np.integer], label: str | None, n: int, reason: str) -> Tables:
    base = {"neuron": neurons, **({} if label is None else {"label": label}), "n": n, "reason": reason}
    types = {"neuron": neurons.dtype, "attribute": object, "label": object, "rho": float, "low": float, "high": float}
    return pd.DataFrame(base), pd.DataFrame({name: np.zeros(0, kind) for name, kind in types.items()})


class _Stated:
    """One label over the images where it is known, as `firing` needs it."""

    def __init__(self, cohort: Cohort, label: int, shuffled: NDArray[np.int32]):
        self.use_n, self.name, self.shuffled = cohort.mask_nk[:, label], cohort.labels[label], shuffled
        self.held = cohort.attributes_of(self.name)
        y_n = cohort.y_nk[self.use_n, label].astype(float)
        self.label = firing.Label(y_n, Patients.of(cohort.patients.code_n[self.use_n]))
        self.reason = _too_few(y_n > 0) or ("" if self.held else "the cohort has no other attribute that is asked for")

    @cached_property
    def _all(self) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Every combination of the attributes that there is, and that of each image of the cohort."""
        table, kind = self.held[0].table_vc, self.held[0].kind_n.astype(np.int64)
        for one in self.held[1:]:
            seen, kind = np.unique(kind * len(one.table_vc) + one.kind_n, return_inverse=True)
            first, second = np.divmod(seen, len(one.table_vc))
            table = np.column_stack([table[first], one.table_vc[second]])
        return table, kind.astype(np.int32)

    @cached_property
    def bases(self) -> dict[str, Basis]:
        """Of nothing (""), of each attribute, of all of them ("*")."""
        table, kind = self._all
        alone = {one.name: Basis.of(one.table_vc, one.kind_n[self.use_n]) for one in self.held}
        return {"": self._constant(self.use_n), **alone, "*": Basis.of(table, kind[self.use_n])}

    @staticmethod
    def _constant(use_n: NDArray[np.bool_]) -> Basis:
        return Basis.of(np.zeros((1, 0)), np.zeros(int(use_n.sum()), np.int32))

    @cached_property
    def _squares(self) -> dict[str, NDArray[np.float64]]:
        """What silent images add, by attribute; of nothing and all together, and of their difference."""
        nobody = Firing(np.zeros(0, int), np.zeros(0, int), np.zeros(0), 0, len(self.label.y_n))
        sides = {key: firing.Given.of(self.label, basis, nobody) for key, basis in self.bases.items()}
        both = firing.silent_squares(self.label, [sides[""], sides["*"]])
        width = 3  # of the features of a constant alone
        alone = {one.name: firing.silent_squares(self.label, [sides[one.name]]) for one in self.held}
        return {**alone, "": both[:width, :width], "*": both[width:, width:], "fall": both}

    def tables(self, neurons: NDArray[np.integer], fired: Firing) -> Tables:
        """Rows of both tables of some neurons that follow this label."""
        found = {key: firing.Given.of(self.label, basis, fired) for key, basis in self.bases.items()}
        pairs = firing.Pairs.of(fired, self.label.patients)
        error = {key: firing.error([one], pairs, self._squares[key]) for key, one in found.items()}
        rho = {key: one.rho_m for key, one in found.items()}
        told = _Told(rho, error, firing.error([found[""], found["*"]], pairs, self._squares["fall"]))
        where, inside, within = self._within(fired)
        few = np.where(fired.fires_m < LEAST, f"fires on fewer than {LEAST} of them", "")
        reason = np.where(np.isfinite(rho[""]), few, "the neuron does not vary")
        about = _About(self.name, len(self.label.y_n), where, inside, [one.name for one in self.held])
        return told.tables(neurons, about, self._null_fall(fired, rho[""]), within, reason)

    def _within(self, fired: Firing) -> tuple[str, int, NDArray[np.float64]]:
        """The largest stratum of the first attribute: its name, its images, the correlations there."""
        first = self.held[0]
        where, inside = _largest(first, first.stratum_n[self.use_n])
        rho = np.full(fired.count, np.nan)
        y_n = self.label.y_n[inside]
        if not _too_few(y_n > 0):
            nobody = firing.Label(y_n, Patients.of(np.zeros(len(y_n), int)))
            rho = firing.Given.of(nobody, self._constant(inside), fired.inside(inside)).rho_m
        return where, int(inside.sum()), rho

    def _null_fall(self, fired: Firing, rho_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """The largest fall [m] of `DRAWS` shuffles of the attributes between patients."""
        table, kind = self._all
        most = np.full(fired.count, -np.inf)
        for rows in self.shuffled:
            of = firing.only_rho(fired, self.label.y_n, Basis.of(table, kind[rows[self.use_n]]))
            most = np.fmax(most, np.sign(rho_m) * (rho_m - of))
        return np.where(np.isfinite(most), most, np.nan)


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


def _of_label(z_nc: NDArray[np.float32], neurons: NDArray[np.integer], label: int, cohort: Cohort) -> list[Tables]:
    if label < 0:
        return [_nothing(neurons, None, 0, "no defined correlation")]
    one = _Label.of(cohort, label)
    if one.reason:
        return [_nothing(neurons, one.name, len(one.y_n), one.reason)]
    z = z_nc[one.use_n]
    null = _null_fall(z, one, cohort)
    few = max(1, PIECE // len(z))
    pieces = [slice(k, k + few) for k in range(0, len(neurons), few)]
    return [_held(z[:, part].astype(float), neurons[part], null[part], one) for part in pieces]


def _held(
    z: NDArray[np.float64], neurons: NDArray[np.integer], null_fall_m: NDArray[np.float64], one: _Label
) -> Tables:
    """Rows of both tables of some neurons that follow one label."""
    found = {key: given(z, one.y_n, of) for key, of in one.bases.items()}
    rho = {key: f.rho_m for key, f in found.items()}
    error = {key: f.error(one.patients) for key, f in found.items()}
    told = _Told(rho, error, found[""].error(one.patients, found["*"]))
    where, inside, within = _within(z, one)
    about = _About(one.name, len(z), where, inside, [a.name for a in one.held])
    return told.tables(neurons, about, null_fall_m, within, _reasons(z, rho[""]))


@dataclass(frozen=True)
class _About:
    """What is the same for all neurons that follow one label."""

    label: str
    n: int
    within: str
    inside: int
    attributes: list[str]


@dataclass(frozen=True)
class _Told:
    """Correlations and their errors, given nothing (""), each attribute, all of them ("*")."""

    rho: Mapping[str, NDArray[np.float64]]
    error: Mapping[str, NDArray[np.float64]]
    fall_error: NDArray[np.float64]

    def _ends(self, key: str, prefix: str = "") -> dict[str, NDArray[np.float64]]:
        low, high = on_fishers_scale(self.rho[key], self.error[key])
        return {f"{prefix}low": low, f"{prefix}high": high}

    def tables(
        self, neurons: NDArray[np.integer], about: _About, null_fall_m: NDArray[np.float64],
        within_m: NDArray[np.float64], reason: NDArray[np.str_],
    ) -> Tables:  # fmt: skip
        """Rows of both tables."""
        plain, together, half = self.rho[""], self.rho["*"], ndtri(0.975) * self.fall_error
        fall = np.sign(plain) * (plain - together)
        numbers = {
            "rho": plain, **self._ends(""), "given": together, **self._ends("*", "given_"), "fall": fall,
            "fall_low": fall - half, "fall_high": fall + half, "null_fall": null_fall_m, "within_rho": within_m,
        }  # fmt: skip
        told = reason == ""
        table = pd.DataFrame({
            "neuron": neurons, "label": about.label, "n": about.n, "within": about.within, "within_n": about.inside,
            "attributes": ", ".join(about.attributes), "reason": [str(r) or None for r in reason],
            **{name: np.where(told, value, np.nan) for name, value in numbers.items()},
        })  # fmt: skip
        table["verdict"] = [
            verdict(r.rho, r.low, r.high, {a: float(self.rho[a][i]) for a in about.attributes}, r.given) or None
            for i, r in enumerate(table.itertuples())
        ]
        rows = [
            pd.DataFrame({"neuron": neurons, "attribute": a, "label": about.label, "rho": self.rho[a], **self._ends(a)})
            for a in about.attributes
        ]
        return table, pd.concat([r[told] for r in rows], ignore_index=True)


def _reasons(z: NDArray[np.float64], rho_m: NDArray[np.float64]) -> NDArray[np.str_]:
    """Why nothing is said of a neuron; a dense one fires everywhere."""
    fires = np.where((z == 0).any(0), np.count_nonzero(z, axis=0), len(z))
    few = np.where(fires < LEAST, f"fires on fewer than {LEAST} of them", "")
    return np.where(np.isfinite(rho_m), few, "the neuron does not vary")


def _within(z: NDArray[np.float64], label: _Label) -> tuple[str, int, NDArray[np.float64]]:
    """The largest stratum of the first attribute: its name, its images, the correlations there."""
    first = label.held[0]
    where, inside = _largest(first, first.stratum_n[label.use_n])
    rho = np.full(z.shape[1], np.nan)
    if not _too_few(label.y_n[inside] > 0):
        rho = given(z[inside], label.y_n[inside], basis([], np.ones(int(inside.sum()), bool))).rho_m
    return where, int(inside.sum()), rho


def _largest(attribute: Attribute, stratum_n: NDArray[np.integer]) -> tuple[str, NDArray[np.bool_]]:
    """The stratum with the most images: its name, and which images are in it."""
    largest = int(np.bincount(stratum_n[stratum_n >= 0], minlength=len(attribute.values)).argmax())
    return f"{attribute.name} {attribute.values[largest]}", stratum_n == largest


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
