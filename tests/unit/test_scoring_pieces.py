"""Work in pieces: shared, kept on disk or in memory, the bits are the same."""

import numpy as np
import pandas as pd
import pytest

from medsae.progress import Silent, UserError
from medsae.scoring import activity, neighbours, whole
from medsae.scoring.activity import ArraySource, Held
from medsae.scoring.auroc import Area, auroc_all
from medsae.scoring.best import Best
from medsae.scoring.draws import Patients
from medsae.scoring.matched import Matched
from medsae.scoring.measures import Value
from medsae.scoring.pieces import packed, unpacked
from medsae.scoring.profile import profile
from medsae.shards import Part
from medsae.steps.score import KeptPieces


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(activity, "ROWS", 16)


def activations(n=90, m=12):
    rng = np.random.default_rng(0)
    z = np.where(rng.random((n, m)) < 0.05, rng.integers(1, 9, (n, m)), 0).astype(np.float32)
    z[:, 3], z[:, 4], z[16:32] = 0, rng.random(n) + 1, rng.random((16, m))  # dead, dense; a block that is dense
    return z


def held_of(z, kept=None, rows=5, most=None):
    held = Held(ArraySource(z, True, rows), len(z), most, *([kept] if kept else []))
    held.prepare(Silent())
    blocks = [(rows, block if isinstance(block, np.ndarray) else block.toarray()) for rows, block in held.first_pass()]
    return held, blocks


def alone(folder):
    return KeptPieces(folder, None)


def part(folder, index, of):
    return KeptPieces(folder, Part(index, of, folder, ("medsae", "score")))


def test_shared_activations_are_those_of_one_command(tmp_path):
    z = activations()
    one, blocks = held_of(z)
    for kept in (part(tmp_path, 2, 2), part(tmp_path, 1, 2), part(tmp_path, 0, 0)):
        other, again = held_of(z, kept)
        assert [(r, b.dtype) for r, b in again] == [(r, b.dtype) for r, b in blocks]
        assert all((a[1] == b[1]).all() for a, b in zip(blocks, again, strict=True))
        for name in ("low_m", "high_m", "active_m"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        for a, b in zip(one.parts(), other.parts(), strict=True):
            assert a[0] == b[0] and (a[1] != b[1]).nnz == 0


def test_what_does_not_fit_lies_on_disk_and_changes_nothing(tmp_path, monkeypatch):
    z = activations()
    y = np.random.default_rng(1).random((len(z), 2)) < 0.4
    inside, _ = held_of(z)
    monkeypatch.setattr(activity, "AT_HAND", 30)
    monkeypatch.setattr(activity, "AT_ONCE", 20)
    far, _ = held_of(z, alone(tmp_path), most=40)
    assert far.held is not None and sum(block is None for _, block in far.held.inside) >= 4
    assert len(list((tmp_path / "activations").glob("*.npz"))) >= 4
    known = [np.ones(y.shape, bool)]
    np.testing.assert_array_equal(auroc_all(far, y, known)[0], auroc_all(inside, y, known)[0])
    mean = z.mean(0, dtype=float)
    some, every = profile(far, mean, 3), profile(inside, mean, 3)
    np.testing.assert_array_equal(some.counts_mb, every.counts_mb)
    np.testing.assert_array_equal(some.spread_m, every.spread_m)
    assert not some.activations.complete and every.activations.complete
    for i in range(z.shape[1]):
        kept, whole_ = (a.image[a.neuron == i] for a in (some.activations, every.activations))
        np.testing.assert_array_equal(kept, whole_[:3])


def test_groups_of_neurons_hold_about_as_many_non_zeros(monkeypatch):
    held, _ = held_of(activations())
    monkeypatch.setattr(activity, "AT_ONCE", 60)
    order = np.array([4, 0, 1, 2, 3, 11, 5])
    groups = list(held.groups(order))
    np.testing.assert_array_equal(np.concatenate(groups), order)
    assert groups[0].tolist() == [4], "one neuron may have more"
    assert len(groups) > 2 and all(held.active_m[g].sum() <= 60 for g in groups[1:])
    columns = held.columns(order)
    np.testing.assert_array_equal(columns.toarray(), activations()[:, order])
    assert (np.diff(columns.indices)[np.diff(np.repeat(np.arange(7), np.diff(columns.indptr))) == 0] > 0).all()


def test_neighbours_of_many_are_summed_block_by_block(monkeypatch):
    held, _ = held_of(activations())
    joined = neighbours.coactivation_neighbours(held, 4)
    monkeypatch.setattr(neighbours, "AT_ONCE", 0)
    monkeypatch.setattr(neighbours, "ROWS", 5)
    monkeypatch.setattr(neighbours, "GRAM_BYTES", 4 * 12 * 5)
    summed = neighbours.coactivation_neighbours(held, 4)
    pd.testing.assert_frame_equal(summed, joined, rtol=1e-5)


def test_a_command_makes_its_own_pieces_first_and_then_what_is_left(tmp_path):
    made = []

    def make(k):
        made.append(k)
        return {"x": np.array([k])}

    first = part(tmp_path, 1, 3)
    assert [first.group("draws", k, lambda k=k: make(k)) is not None for k in range(7)] == [True, False, False] * 2 + [
        True
    ]
    assert made == [0, 3, 6]
    other = part(tmp_path, 2, 3)
    assert other.group("draws", 1, lambda: make(1)) is not None
    first.help()
    assert made == [0, 3, 6, 1, 5, 4, 2], "from the end; 1 is there already"
    last = part(tmp_path, 3, 3)
    assert last.group("draws", 2, lambda: make(2)) is not None and len(made) == 7
    part(tmp_path, 0, 0).expect("draws", 7)
    with pytest.raises(UserError, match="2 pieces are not finished"):
        part(tmp_path, 0, 0).expect("draws", 9)


def test_all_pieces_that_everyone_needs_are_made_once(tmp_path):
    made = []
    for index in (2, 1):
        part(tmp_path, index, 2).every(
            "activations", 5, lambda k, i=index: (made.append((i, k)), {"x": np.array(k)})[1]
        )
    assert made == [(2, 1), (2, 3), (2, 4), (2, 2), (2, 0)]
    path = tmp_path / "activations" / "00002.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="1 damaged"):
        part(tmp_path, 0, 0).every("activations", 5, lambda k: {})
    part(tmp_path, 2, 2).every("activations", 5, lambda k: (made.append(k), {"x": np.array(k)})[1])
    assert made[5:] == [2] and part(tmp_path, 0, 0).read("activations", 2)["x"] == 2


def test_one_command_alone_keeps_no_piece(tmp_path):
    kept = alone(tmp_path)
    kept.expect("draws", 3)
    assert kept.group("draws", 0, lambda: {"x": np.zeros(1)}) is not None and not list(tmp_path.iterdir())


def test_tables_and_results_come_back_as_they_were():
    one = pd.DataFrame({"neuron": np.arange(3, dtype=np.int32), "why": ["a", None, "b"], "rho": [0.1, np.nan, -1e-300]})
    none = pd.DataFrame({"rank": np.zeros(0, np.int16), "measure": np.zeros(0, object)})
    arrays = packed(a=one, b=none)
    assert all(value.dtype != object for value in arrays.values())
    back = unpacked(arrays, "a")
    assert (
        back["why"].fillna("none").tolist() == ["a", "none", "b"]
        and back["rho"][2] == -1e-300
        and back["neuron"].dtype == np.int32
    )
    assert list(unpacked(arrays, "b")) == ["rank", "measure"] and unpacked(arrays, "b")["rank"].dtype == np.int16
    area = Area(0.1 + 0.2, np.nan, 1.0, 3, 4)
    best = {"raw": [Best(None, -1, np.nan, area, 7, 1, area, "too few")], "": []}
    assert repr(whole.bests(whole.kept_bests(best))) == repr(best)
    matched = Matched(Value(1 / 3, n=5, null_t=np.array([0.1, np.nan])), Value(np.nan, note="n"))
    assert repr(whole.matched(whole.kept_matched(matched))) == repr(matched)
    assert whole.matched(whole.kept_matched(None)) is None


def test_images_of_a_patient_are_sorted_as_by_both_keys():
    rng = np.random.default_rng(0)
    for patients in (rng.integers(0, 40, 200), np.arange(50), np.zeros(9, int), np.repeat([3, 1, 2], [1, 200, 2])):
        about, key = Patients.of(patients), rng.integers(0, 5, len(patients)) / 5
        np.testing.assert_array_equal(about.sorted_within(key), np.lexsort((key, about.code_n)))
        for patient in np.unique(about.code_n):
            mine = np.flatnonzero(about.code_n == patient)
            np.testing.assert_array_equal(about.place_n[mine], np.arange(len(mine)))
