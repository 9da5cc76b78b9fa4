"""Plain embeddings that are streamed from disk in training, as tokens are."""

import dataclasses

import numpy as np
import pytest
import torch

from medsae import config
from medsae.arrays import Rows
from medsae.progress import Silent
from medsae.sae.normalise import Normalisation
from medsae.sae.stream import BlockRows, Streamed
from medsae.sae.training import train

D = 8


def plain(folder, n: int, chosen: np.ndarray) -> tuple[BlockRows, np.ndarray]:
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(n, D)).astype(np.float32))
    x_nd = np.load(folder / "x.npy", mmap_mode="r")
    return BlockRows(Rows(x_nd, chosen)), np.asarray(x_nd)[chosen]


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200, 640])
@pytest.mark.parametrize("memory", [1, 30_000, 2**30])
def test_an_epoch_of_plain_rows_deals_out_each_once_the_last_few_too(tmp_path, count, memory):
    disk, flat = plain(tmp_path, 1000, np.sort(np.random.default_rng(1).permutation(1000)[:count]))
    assert disk.shape == flat.shape and np.array_equal(disk[:], flat) and np.array_equal(disk[::-3], flat[::-3])
    stream = Streamed(disk, Normalisation(np.zeros(D, np.float32), 1.0), torch.device("cpu"), memory)
    deal = stream.epoch(seed=1, epoch=0, size=16)
    seen = torch.cat([deal(number) for number in range(stream.batches(16))]).numpy()
    ordered = lambda a: a[np.lexsort(a.T)]  # noqa: E731
    assert np.array_equal(ordered(seen), ordered(flat))
    assert np.array_equal(torch.cat(list(stream.in_order())).numpy(), flat)
    assert memory < 2**30 or count < 64 or not np.array_equal(seen, flat)


def test_plain_rows_on_disk_train_as_well_as_in_memory(tmp_path):
    disk, flat = plain(tmp_path, 1500, np.arange(1500))
    options = config.Train(embeddings="e", kind="topk", k=3, expansion=2, epochs=8, batch=64, lr=1e-2).resolved(1500)
    options = dataclasses.replace(options, token_memory_mib=1)
    one, other = (train(x, flat[:200], options, checkpoint_dir=tmp_path / name, progress=Silent())
                  for name, x in (("disk", disk), ("memory", flat)))  # fmt: skip
    assert abs(one.history[-1].fve - other.history[-1].fve) < 0.02 and one.history[-1].fve > 0.3
