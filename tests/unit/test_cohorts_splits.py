"""Splits: patients apart, rows in any order, the balanced set, the published walk by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae.cohorts.splits import assign_splits, share_of_patient, stratified, walk
from medsae.cohorts.tabular import MISSING, label_matrix, long_labels
from medsae.config import Splitting


def cohort(
    n: int, patients: int, seed: int, k: int = 4, source: str = ""
) -> tuple[pd.DataFrame, np.ndarray, tuple[str, ...]]:
    rng = np.random.default_rng(seed)
    images = pd.DataFrame(
        {
            "image": np.arange(n, dtype=np.int32),
            "path": [f"picture{i}.png" for i in range(n)],
            "patient": [f"patient{p}" for p in rng.integers(0, patients, n)],
            "source": source,
        }
    )
    share = np.array([0.02, 0.1, 0.3, 0.6])[:k]
    values = np.where(rng.random((n, k)) < share, 1, np.where(rng.random((n, k)) < 0.5, 0, MISSING)).astype(np.int8)
    values[rng.random((n, k)) < 0.05] = -1
    return images, values, tuple("abcd"[:k])


def test_long_labels_and_back() -> None:
    _, values, names = cohort(50, 20, 0)
    long = long_labels(values, names)
    assert (label_matrix(long, names, 50) == values).all()
    shuffled = long.sample(frac=1, random_state=1)
    assert (label_matrix(shuffled, names, 50) == values).all()
    assert (label_matrix(shuffled.astype({"label": "str"}), names, 50) == values).all()
    assert long["value"].isna().sum() == (values == MISSING).sum()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(0, 5))
def test_strict_is_the_same_for_any_order_of_rows(order_seed: int, per_class: int, seed: int) -> None:
    images, values, names = cohort(300, 120, 7)
    config = Splitting(per_class=per_class, seed=seed)
    split, evaluation, _ = assign_splits(images, long_labels(values, names), config)
    order = np.random.default_rng(order_seed).permutation(len(images))
    shuffled = images.iloc[order].reset_index(drop=True).assign(image=np.arange(300, dtype=np.int32))
    again, evaluation_again, _ = assign_splits(shuffled, long_labels(values[order], names), config)
    assert (again == split[order]).all()
    assert (evaluation_again == evaluation[order]).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 200))
def test_strict_keeps_its_promises(data_seed: int, per_class: int, patients: int) -> None:
    images, values, names = cohort(250, patients, data_seed)
    split, evaluation, _ = assign_splits(images, long_labels(values, names), Splitting(per_class=per_class))
    patient = images["patient"].to_numpy()
    sides = [set(patient[split == s]) for s in ("train", "holdout", "evaluation")]
    assert sum(map(len, sides)) == len(set(patient))
    assert (split[evaluation] == "evaluation").all()
    assert len(set(patient[evaluation])) == evaluation.sum()
    positives = (values[evaluation] == 1).sum(axis=0)
    assert (positives <= per_class).all()
    # Maximal: no patient left over could still give a positive of a class that is short.
    left = (split == "evaluation") & ~np.isin(patient, patient[evaluation])
    full = positives >= per_class
    useful = (values == 1).any(axis=1) & ~((values == 1) & full).any(axis=1)
    assert not (left & useful).any()


def test_hashed_a_patient_stays_where_he_is_when_others_come() -> None:
    images, values, names = cohort(300, 120, 7)
    split, _, _ = assign_splits(images, long_labels(values, names), Splitting(division="hashed"))
    half, _, _ = assign_splits(images[:150], long_labels(values[:150], names), Splitting(division="hashed"))
    assert (half == split[:150]).all()
    other, _, _ = assign_splits(images, long_labels(values, names), Splitting(seed=1))
    assert (other != split).any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(60, 400))
def test_stratified_every_split_has_its_share_of_every_label(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random((n, 5)) < np.array([0.08, 0.15, 0.3, 0.5, 0.9])
    positive[:25, 0] = True  # enough of the rarest label for a share of 0.05
    shares = (0.25, 0.05, 0.70)
    order = rng.random(n)
    side = stratified(positive, shares, order)
    assert set(side) <= {0, 1, 2}
    for s, share in enumerate(shares):
        assert abs((side == s).sum() - share * n) <= 6
        counts, wanted = positive[side == s].sum(axis=0), share * positive.sum(axis=0)
        assert (counts[wanted >= 1] >= 1).all(), (counts, wanted)
        assert (np.abs(counts - wanted) <= 6).all()
    again = rng.permutation(n)
    assert (stratified(positive[again], shares, order[again]) == side[again]).all()


def test_stratified_by_hand() -> None:
    # Four patients with the rare label, four without any: half of each on each side.
    positive = np.array([[True], [True], [True], [True], [False], [False], [False], [False]])
    side = stratified(positive, (0.5, 0.0, 0.5), np.arange(8) / 8)
    assert sorted(side[:4].tolist()) == [0, 0, 2, 2] and sorted(side[4:].tolist()) == [0, 0, 2, 2]


def test_what_could_not_be_had_is_said() -> None:
    values = np.zeros((200, 2), dtype=np.int8)
    values[:100, 0], values[0, 1] = 1, 1
    images = pd.DataFrame({"image": np.arange(200), "path": [f"{i}.png" for i in range(200)],
                           "patient": [f"p{i}" for i in range(200)], "source": ""})  # fmt: skip
    _, _, notes = assign_splits(images, long_labels(values, ("common", "once")), Splitting())
    text = "\n".join(notes)
    assert text.count("has no patient with once (1 in all)") == 2 and "with common" not in text


def test_shares_are_kept() -> None:
    shares = np.array([share_of_patient(f"patient{i:05}", 0) for i in range(20_000)])
    assert abs((shares < 0.25).mean() - 0.25) < 0.01
    assert abs(((shares >= 0.25) & (shares < 0.30)).mean() - 0.05) < 0.005


def test_rare_class_is_served_first_and_shortfalls_are_told() -> None:
    # 40 patients with one picture; class a on two pictures only, both of which also have the common class b.
    n = 40
    values = np.zeros((n, 3), dtype=np.int8)
    values[:, 1] = 1
    values[:2, 0] = 1
    images = pd.DataFrame(
        {
            "image": np.arange(n),
            "path": [f"{i}.png" for i in range(n)],
            "patient": [f"p{i}" for i in range(n)],
            "source": "",
        }
    )
    config = Splitting(per_class=5, evaluation_share=0.999, holdout_share=0)
    split, evaluation, notes = assign_splits(images, long_labels(values, ("a", "b", "c")), config)
    assert (split == "evaluation").all()
    assert evaluation[:2].all() and evaluation.sum() == 5
    text = "\n".join(notes)
    assert "fewer positives than wanted: a 2" in text
    assert "no positive at all: c" in text and "no stated negative: b" in text


def test_negatives_are_added() -> None:
    # One class; positives alone would make a constant label.
    n = 60
    values = (np.arange(n) % 2).astype(np.int8)[:, None]
    images = pd.DataFrame(
        {
            "image": np.arange(n),
            "path": [f"{i}.png" for i in range(n)],
            "patient": [f"p{i}" for i in range(n)],
            "source": "",
        }
    )
    config = Splitting(per_class=10, evaluation_share=0.999, holdout_share=0)
    _, evaluation, _ = assign_splits(images, long_labels(values, ("a",)), config)
    assert (values[evaluation] == 1).sum() == 10 and (values[evaluation] == 0).sum() == 10


def test_the_published_walk_by_hand() -> None:
    values = np.array(
        [
            [1, 0, MISSING],  # a 1: taken
            [1, 1, 0],  # a 2, b 1: taken
            [1, 0, 1],  # a is full: skipped although c has none
            [0, 0, 0],  # no class: belongs to no set
            [0, -1, -1],  # uncertain is not positive: no class
            [0, 1, 1],  # b 2, c 1: taken
            [0, 0, 1],  # not among the training rows
            [0, 0, 1],  # c 2: taken
            [0, 0, 1],  # c is full
        ],
        dtype=np.int8,
    )
    among = np.array([True] * 6 + [False] + [True] * 2)
    assert np.flatnonzero(walk(values, among, 2)).tolist() == [0, 1, 5, 7]


def test_paper_splits() -> None:
    images, values, names = cohort(200, 80, 3)
    images["source"] = ["train"] * 150 + ["valid"] * 30 + ["test"] * 20
    config = Splitting(protocol="paper", per_class=10)
    split, evaluation, notes = assign_splits(images, long_labels(values, names), config)
    assert (
        (split[:150] == "train").all() and (split[150:180] == "holdout").all() and (split[180:] == "evaluation").all()
    )
    assert evaluation.any() and not evaluation[150:].any()
    assert ((values[evaluation] == 1).sum(axis=0) <= 10).all()
    text = "\n".join(notes)
    assert "leakage" in text and "patients have pictures in train and outside it" in text


def test_paper_without_published_split_says_so() -> None:
    images, values, names = cohort(50, 20, 3)
    split, _, notes = assign_splits(images, long_labels(values, names), Splitting(protocol="paper"))
    assert (split == "train").all() and any("names no published split" in note for note in notes)
    images["source"] = "train"
    _, _, notes = assign_splits(images, long_labels(values, names), Splitting(protocol="paper"))
    assert any("nothing is held out" in note for note in notes)


def test_tiny_cohort_says_what_is_empty() -> None:
    images, values, names = cohort(2, 1, 3)
    split, evaluation, notes = assign_splits(images, long_labels(values, names), Splitting())
    assert len(set(split)) == 1
    assert any("no patient fell into" in note for note in notes)
    assert evaluation.sum() <= 1


def test_refused_images_may_be_left_out() -> None:
    images, values, names = cohort(300, 120, 7)
    kept = np.arange(300) % 3 != 0
    _, _, _ = assign_splits(images[kept], long_labels(values, names), Splitting())
    split, evaluation, _ = assign_splits(images[kept], long_labels(values, names), Splitting())
    again = images[kept].reset_index(drop=True).assign(image=np.arange(int(kept.sum()), dtype=np.int32))
    same, evaluation_same, _ = assign_splits(again, long_labels(values[kept], names), Splitting())
    assert (split == same).all() and (evaluation == evaluation_same).all()


def test_the_walk_may_take_a_shuffled_table() -> None:
    values = np.ones((6, 1), np.int8)
    order = np.array([4, 2, 0, 1, 3, 5])
    assert np.flatnonzero(walk(values, np.ones(6, bool), 2, order)).tolist() == [2, 4]
    assert np.flatnonzero(walk(values, np.ones(6, bool), 2)).tolist() == [0, 1]
