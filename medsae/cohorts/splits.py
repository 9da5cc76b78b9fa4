"""Who is trained on, who is held out, and the balanced evaluation set (paper, section 4.1: CheXpert 14 x 200).

`strict` keeps patients apart; `paper` repeats what the published code does, which draws the evaluation set from the
training table. Both are described with their reasons in docs/decisions/032.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from medsae.cohorts.tabular import label_matrix
from medsae.config import Splitting

_NAMED = 8
"""Patients or classes named in a note before it says "and n more"."""


def assign_splits(
    images: pd.DataFrame, labels: pd.DataFrame, config: Splitting
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(split str [n] of "train", "holdout", "evaluation"; in the evaluation set bool [n]; notes) for `images` in order.

    `images` has the columns image, path, patient, source; `labels` is long (image, label, value), where image is the
    value in `images["image"]`. Notes are plain lines: sizes, shortfalls by class, what the protocol implies. A class
    without positives is reported, not an error; so is a split that stays empty.
    """
    names = tuple(map(str, pd.Categorical(labels["label"]).categories))
    order = pd.Series(np.arange(len(images)), index=images["image"].to_numpy())
    own = labels[labels["image"].isin(images["image"])]
    values_nk = label_matrix(own.assign(image=order.loc[own["image"]].to_numpy()), names, len(images))
    rule = _strict if config.protocol == "strict" else _paper
    split, evaluation, notes = rule(images, values_nk, config, names)
    patients = images["patient"].to_numpy(object)
    sizes = [
        f"{name} {int((split == name).sum()):,} pictures of {len(set(patients[split == name])):,} patients"
        for name in ("train", "holdout", "evaluation")
    ]
    told = [
        f"split ({config.protocol}): {', '.join(sizes)}",
        *notes,
        *_shortfalls(values_nk, names, evaluation, config),
    ]
    return split, evaluation, told


# --- strict -----------------------------------------------------------------------------------------------------------


def share_of_patient(patient: str, seed: int) -> float:
    """A number in [0, 1) that depends on the patient and the seed alone: new rows never move an old patient."""
    return _hash(f"{seed}|patient|{patient}") / 2**64


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


_ORDER = ("evaluation", "holdout", "train")


def _strict(
    images: pd.DataFrame, values_nk: np.ndarray, config: Splitting, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    code, patients = pd.factorize(images["patient"])
    share = np.array([share_of_patient(str(p), config.seed) for p in patients])
    shares = (config.evaluation_share, config.holdout_share, 1 - config.evaluation_share - config.holdout_share)
    positive_pk = np.zeros((len(patients), values_nk.shape[1]), dtype=bool)
    np.logical_or.at(positive_pk, code, values_nk == 1)
    if config.division == "stratified":
        side = stratified(positive_pk, shares, share)
    else:
        side = np.digitize(share, np.cumsum(shares[:2]))
    split = np.array(_ORDER, dtype=object)[side][code]
    evaluation = np.zeros(len(images), dtype=bool)
    evaluation[balanced(images, values_nk, split == "evaluation", config)] = True
    notes = [
        f"no patient fell into {name}: the cohort is too small for a share of {share:g} (another --seed may do)"
        for name, share in (("evaluation", config.evaluation_share), ("holdout", config.holdout_share))
        if share > 0 and not (split == name).any()
    ]
    if not (split == "train").any():
        notes.append("no patient fell into train: the cohort is too small")
    return split, evaluation, [*notes, *_without(positive_pk, side, shares, names)]


def stratified(positive_pk: np.ndarray, shares: tuple[float, ...], order: np.ndarray) -> np.ndarray:
    """The subset of every patient, int [p], so that each subset has its share of the patients with each label.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011, algorithm 1) over patients: the label with the fewest
    patients left is divided first; each of its patients goes to the subset that wants this label most, then to the one
    that wants patients most. `positive_pk` bool [p, k]; `shares` add up to 1; `order` [p] decides among equals, so that
    the result does not depend on the order of the rows. A label with so few patients that a subset wants less than
    one may miss there.
    """
    n, k = positive_pk.shape
    labels_of: list[list[int]] = [[] for _ in range(n)]
    for p, j in zip(*(axis.tolist() for axis in np.nonzero(positive_pk)), strict=True):
        labels_of[p].append(j)
    left = positive_pk.sum(axis=0).tolist()
    want = [[share * count for count in left] for share in shares]
    room = [share * n for share in shares]
    side = np.full(n, -1)
    by_order = np.lexsort((np.arange(n), order))
    while any(left):
        rarest = min((j for j in range(k) if left[j]), key=lambda j: (left[j], j))
        for p in by_order[positive_pk[by_order, rarest]]:
            if side[p] >= 0:
                continue
            subset = max(range(len(shares)), key=lambda s: (shares[s] > 0, want[s][rarest], room[s]))
            side[p] = subset
            room[subset] -= 1
            for j in labels_of[p]:
                want[subset][j] -= 1
                left[j] -= 1
    rest = by_order[side[by_order] < 0]
    if len(rest):
        # Patients without a positive label fill what room is left, in whole patients.
        free = np.maximum(room, 0) * (np.array(shares) > 0)
        exact = free / free.sum() * len(rest) if free.sum() else np.array(shares) * len(rest)
        whole = np.floor(exact).astype(int)
        for s in np.argsort(whole - exact, kind="stable")[: len(rest) - whole.sum()]:
            whole[s] += 1
        side[rest] = np.repeat(np.arange(len(shares)), whole)
    _repair(positive_pk, side, np.array(shares), by_order)
    return side


def _repair(positive_pk: np.ndarray, side: np.ndarray, shares: np.ndarray, by_order: np.ndarray) -> None:
    """Move single patients, in place, where a subset wants one or more of a label and the greedy walk gave it none
    (about one subset in a thousand); never so that another subset loses its last."""
    want = shares[:, None] * positive_pk.sum(axis=0)
    count = np.stack([positive_pk[side == s].sum(axis=0) for s in range(len(shares))])
    for s, j in zip(*np.nonzero((want >= 1) & (count == 0)), strict=True):
        if count[s, j]:
            continue  # a patient moved before has this label too
        for p in by_order[positive_pk[by_order, j]]:
            own = positive_pk[p]
            if not ((count[side[p]][own] <= 1) & (want[side[p]][own] >= 1)).any():
                count[side[p]] -= own
                count[s] += own
                side[p] = s
                break


def _without(positive_pk: np.ndarray, side: np.ndarray, shares: tuple[float, ...], names: tuple[str, ...]) -> list[str]:
    """A line for each split in which labels have no patient, though other splits have some."""
    total = positive_pk.sum(axis=0)
    told = []
    for s, name in enumerate(_ORDER):
        if not shares[s] or not (side == s).any():
            continue
        none = np.flatnonzero((total > 0) & (positive_pk[side == s].sum(axis=0) == 0))
        if len(none):
            listed = ", ".join(f"{names[j]} ({total[j]} in all)" for j in none[:_NAMED])
            more = f" and {len(none) - _NAMED} more" if len(none) > _NAMED else ""
            told.append(f"{name} has no patient with {listed}{more}")
    return told


def balanced(images: pd.DataFrame, values_nk: np.ndarray, among: np.ndarray, config: Splitting) -> np.ndarray:
    """Rows of the strict evaluation set: one picture a patient, at most `per_class` positives of every class.

    Greedy, rarest class first (by patients that have it), pictures in an order given by the hash of their path, so that
    the order of the rows does not matter. A picture that would take any class beyond `per_class` is skipped. Then every
    class with fewer than `per_class` stated negatives gets more under the same rules.
    """
    rows = np.flatnonzero(among)
    order = np.argsort([_hash(f"{config.seed}|picture|{path}") for path in images["path"].iloc[rows]], kind="stable")
    rows = rows[order]
    patient = pd.factorize(images["patient"].iloc[rows])[0]
    values = values_nk[rows]
    positive = values == 1
    # Classes as bits of one integer: "is any class of this picture full" is one `and`.
    bits = [int.from_bytes(row.tobytes(), "little") for row in np.packbits(positive, axis=1, bitorder="little")]
    count = np.zeros(values.shape[1], dtype=np.int64)
    full, used, chosen = 0, set[int](), list[int]()

    def take(i: int) -> bool:
        nonlocal full
        if patient[i] in used or bits[i] & full:
            return False
        used.add(int(patient[i]))
        chosen.append(i)
        count[positive[i]] += 1
        for j in np.flatnonzero(positive[i] & (count >= config.per_class)):
            full |= 1 << int(j)
        return True

    def rarest_first(stated: np.ndarray) -> list[int]:
        n_patients = [len(np.unique(patient[stated[:, j]])) for j in range(stated.shape[1])]
        return [int(j) for j in np.argsort(n_patients, kind="stable")]

    for j in rarest_first(positive):
        for i in np.flatnonzero(positive[:, j]):
            if count[j] >= config.per_class:
                break
            take(int(i))
    negative = values == 0
    for j in rarest_first(negative):
        missing = config.per_class - int(negative[chosen, j].sum())
        for i in np.flatnonzero(negative[:, j]):
            if missing <= 0:
                break
            missing -= take(int(i))
    return np.sort(rows[chosen])


# --- paper ------------------------------------------------------------------------------------------------------------


def _paper(
    images: pd.DataFrame, values_nk: np.ndarray, config: Splitting, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    source = images["source"].to_numpy(object)
    split = np.array([{"valid": "holdout", "test": "evaluation"}.get(s, "train") for s in source], dtype=object)
    notes = []
    if not (source == "train").any():
        notes.append("the table names no published split: every picture is taken as training")
    elif not (source == "valid").any():
        notes.append("the table has no published validation rows: nothing is held out")
    order = np.random.default_rng(config.seed).permutation(len(values_nk)) if config.shuffled else None
    evaluation = walk(values_nk, split == "train", config.per_class, order)
    notes.append(
        "the evaluation set is drawn from the training images, as published: "
        f"{int(evaluation.sum()):,} pictures that the SAE is also trained on (leakage; --protocol strict avoids it)"
    )
    shared = set(images["patient"][split == "train"]) & set(images["patient"][split != "train"])
    if shared:
        named = ", ".join(sorted(map(str, shared))[:_NAMED])
        notes.append(f"{len(shared):,} patients have pictures in train and outside it ({named})")
    return split, evaluation, notes


def walk(values_nk: np.ndarray, among: np.ndarray, per_class: int, order: np.ndarray | None = None) -> np.ndarray:
    """The published draw, bool [n]: walk the rows, take a picture unless one of its classes is full.

    `order`: the rows in the order of the walk (the published scripts shuffle the table); None: as they stand.

    The classes of a picture are those with the value 1 (blank counts as absent, -1 is not positive). A picture without
    any class belongs to none of the sets and is not taken (docs/decisions/032).
    """
    taken = np.zeros(len(values_nk), dtype=bool)
    positive = (values_nk == 1) & among[:, None]
    count = np.zeros(values_nk.shape[1], dtype=np.int64)
    labelled = positive.any(axis=1)
    for i in np.flatnonzero(labelled) if order is None else order[labelled[order]]:
        if not (count[positive[i]] >= per_class).any():
            taken[i] = True
            count += positive[i]
    return taken


# --- notes ------------------------------------------------------------------------------------------------------------


def _shortfalls(values_nk: np.ndarray, names: tuple[str, ...], evaluation: np.ndarray, config: Splitting) -> list[str]:
    chosen = values_nk[evaluation]
    positives, negatives = (chosen == 1).sum(axis=0), (chosen == 0).sum(axis=0)
    notes = [f"evaluation set: {int(evaluation.sum()):,} pictures, {config.per_class} positives a class wanted"]
    short = [f"{names[j]} {positives[j]}" for j in range(len(names)) if 0 < positives[j] < config.per_class]
    if short:
        notes.append(f"fewer positives than wanted: {', '.join(short)}")
    none = [names[j] for j in range(len(names)) if not positives[j]]
    if none:
        notes.append(f"no positive at all: {', '.join(none)} (their correlations are undefined)")
    alone = [names[j] for j in range(len(names)) if positives[j] and not negatives[j]]
    if alone:
        notes.append(f"no stated negative: {', '.join(alone)} (undefined unless blank counts as absent)")
    return notes
