"""Rows that stay on disk are the rows in memory, for whoever reads them; scores and SAEs do not notice the difference."""

import numpy as np
import pytest

from medsae import arrays
from medsae.arrays import Rows, blocks, rows_of
from medsae.scoring.activity import near_one
from medsae.store.artifacts import Store


@pytest.fixture
def written(tmp_path):
    x_nd = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    np.save(tmp_path / "x.npy", x_nd)
    return np.load(tmp_path / "x.npy", mmap_mode="r"), x_nd


def test_rows_are_those_of_the_array(written):
    disk, x_nd = written
    chosen = np.array([0, 3, 4, 5, 250, 299])
    rows = Rows(disk, chosen)
    assert rows.shape == (6, 5) and len(rows) == 6 and rows.dtype == np.float32 and rows.ndim == 2
    for part in (slice(1, 4), slice(None, None, 2), np.array([5, 0, 0]), np.array([True, False] * 3)):
        assert np.array_equal(rows[part], x_nd[chosen][part])
    assert np.allclose(rows @ np.ones(5, np.float32), x_nd[chosen].sum(1), atol=1e-6)
    assert not isinstance(rows[1:3], np.memmap)


@pytest.mark.parametrize(("n", "size", "parts"), [(0, 4, [0]), (4, 4, [4]), (9, 4, [4, 4, 1])])
def test_blocks_are_all_rows_once(n, size, parts):
    x_nd = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    made = list(blocks(x_nd, size))
    assert [len(block) for block in made] == parts and np.array_equal(np.concatenate(made), x_nd)


def test_few_rows_are_loaded_and_many_left_on_disk(written, monkeypatch):
    disk, _ = written
    assert isinstance(rows_of(disk, np.arange(10)), np.ndarray)
    monkeypatch.setattr(arrays, "IN_MEMORY_BYTES", 199)
    assert isinstance(rows_of(disk, np.arange(10)), Rows) and isinstance(rows_of(disk, np.arange(9)), np.ndarray)


def test_only_what_must_be_scaled_is_loaded(written):
    disk, x_nd = written
    rows = Rows(disk, np.arange(300))
    assert near_one(rows) == (rows, 0)
    large = Rows(x_nd * np.float32(1e30), np.arange(300))
    scaled, power = near_one(large)
    again, same = near_one(x_nd * np.float32(1e30))
    assert power == same != 0 and np.array_equal(np.asarray(scaled[:]), again[:])


TABLES = ("neuron", "correlation", "activation", "histogram", "summary", "draw", "readout", "effect", "confounded")


def test_an_sae_is_trained_and_scored_alike_from_disk(tmp_path, medsae, chexpert_root, monkeypatch):
    """The same scores to the bit; a training that streams sees every row and is another question."""
    store = Store(medsae.data)
    cohort = medsae.id("ingest", "chexpert", "--root", chexpert_root, "--no-pictures", "--per-class", 5)
    with store.get(cohort).connect() as connection:
        paths = [r[0] for r in connection.execute("SELECT path FROM image ORDER BY image").fetchall()]
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(size=(len(paths), 8)).astype(np.float32))
    (tmp_path / "rows.csv").write_text("Path\n" + "\n".join(paths) + "\n")
    x = medsae.id("embed", "--cohort", cohort, "--from", tmp_path / "x.npy", "--rows", tmp_path / "rows.csv")
    training = ["train", "--embeddings", x, "--k", 2, "--expansion", 2, "--epochs", 2]
    sae = medsae.id(*training)
    tables = []
    for limit in (arrays.IN_MEMORY_BYTES, 0):
        monkeypatch.setattr(arrays, "IN_MEMORY_BYTES", limit)
        scores = store.get(medsae.id("score", "--sae", sae, "--images", "train", "--draws", 5, "--bootstraps", 5))
        with scores.connect() as connection:
            tables.append([connection.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall() for name in TABLES])
        medsae.id("rm", scores.id)
    assert tables[0] == tables[1] and all(len(rows) for rows in tables[0][:4])
    assert medsae.id(*training, "--stream-above-mib", 4096) == sae  # the default: the old id


@pytest.mark.parametrize("values", [[], [3.0], [2, 2, 2], np.random.default_rng(0).integers(0, 9, 200), [0.1, -1, 0.1]])
def test_ranks_are_scipys(values):
    from scipy.stats import rankdata

    np.testing.assert_array_equal(arrays.ranks(np.asarray(values, float)), rankdata(np.asarray(values, float)))
