"""Token embeddings: kept on disk in half precision, streamed in training, pooled when they are scored."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from medsae import config
from medsae.encoders import load_encoder, tokens
from medsae.encoders.pipeline import How, Sampled, embed_tokens
from medsae.progress import Silent, UserError
from medsae.sae.normalise import Normalisation
from medsae.sae.stream import InMemory, Streamed, TokenRows
from medsae.sae.training import train
from medsae.steps import tokens as steps_tokens
from medsae.store.artifacts import Store

PICTURES, T, D = 60, 6, 8


class Grey:
    """Pictures of noise; every seventh cannot be read."""

    def __init__(self, n: int, broken: bool = False):
        self.n, self.broken = n, broken

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if self.broken and i % 7 == 3:
            raise ValueError("damaged")
        return np.random.default_rng(i).integers(0, 256, (40, 50), dtype=np.uint8)


# --- embedding --------------------------------------------------------------------------------------------------------


def test_tokens_are_kept_as_the_encoder_gives_them(tmp_path):
    encoder, source = load_encoder("simclip", None, tmp_path), Grey(10, broken=True)
    how = How(shard_size=4, precision="fp32", device="cpu", batch=3)
    keep = Sampled(cells=64, kept=5, seed=2)
    shards, mean_nd, report = embed_tokens(source, encoder, how, keep, shards=tmp_path / "a", progress=Silent())
    kept = np.concatenate([np.load(path) for path in shards])
    assert kept.dtype == np.float16 and kept.shape == (10, 5, 128) and [i for i, _ in report.failed] == [3]
    assert np.isnan(kept[3]).all() and np.isnan(mean_nd[3]).all()
    for i in (0, 5, 9):
        right = tokens(encoder, encoder.prepare(source[i])[None])[0]
        assert np.abs(kept[i] - right[keep.of(i)]).max() < 5e-3
        assert np.abs(mean_nd[i] - right.mean(0)).max() < 1e-5
    assert not np.array_equal(keep.of(0), keep.of(1)) and np.array_equal(keep.of(1), Sampled(64, 5, 2).of(1))


def test_finished_shards_are_not_encoded_again(tmp_path):
    encoder, how, keep = load_encoder("simclip", None, tmp_path), How(shard_size=4, batch=4), Sampled(64, 64, 0)
    first = embed_tokens(Grey(8), encoder, how, keep, shards=tmp_path / "a")
    before = [path.stat().st_mtime_ns for path in first[0]]
    first[0][1].write_bytes(first[0][1].read_bytes()[:-1])  # cut
    again = embed_tokens(Grey(8), encoder, how, keep, shards=tmp_path / "a")
    after = [path.stat().st_mtime_ns for path in again[0]]
    assert after[0] == before[0] and after[1] != before[1] and np.array_equal(first[1], again[1])


def test_a_token_that_half_precision_cannot_hold_is_refused(tmp_path):
    encoder = load_encoder("simclip", None, tmp_path)
    tower = encoder.token_module.tower
    with torch.no_grad():
        tower.stages[-1].place += 1e6
    with pytest.raises(UserError, match="larger than float16 can hold"):
        embed_tokens(Grey(2), encoder, How(precision="fp32"), Sampled(64, 64, 0), shards=tmp_path / "a")


def test_a_disk_that_is_too_small_is_foreseen(tmp_path, monkeypatch):
    plan = steps_tokens.Plan(224_000, 1369, 1369, 768)
    assert round(plan.bytes / 1e9) == 471
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 0, 4 * 10**11))
    with pytest.raises(UserError, match=r"(?s)400.0 GB free, the tokens need 471\.0 GB.*--tokens-per-image"):
        plan.announce(tmp_path, Silent())


# --- streaming --------------------------------------------------------------------------------------------------------


def values(n: int = PICTURES) -> np.ndarray:
    return np.random.default_rng(0).normal(0.5, 1, (n, T, D)).astype(np.float16)


def rows(x_ntd: np.ndarray) -> TokenRows:
    return TokenRows(lambda images: x_ntd[images].astype(np.float32), np.arange(len(x_ntd)), T, D)


def test_rows_on_disk_are_the_rows_in_memory():
    x_ntd = values()
    flat, disk = x_ntd.reshape(-1, D).astype(np.float32), rows(x_ntd)
    assert disk.shape == flat.shape and np.array_equal(disk[3:200], flat[3:200])
    some = np.array([200, 3, 3, 77])
    assert np.array_equal(disk[some], flat[some])
    a, b = Normalisation.fit(disk), Normalisation.fit(flat)
    assert np.array_equal(a.mean_d, b.mean_d) and a.scale == b.scale


def streamed(x_ntd: np.ndarray, memory: int) -> Streamed:
    return Streamed(rows(x_ntd), Normalisation(np.zeros(D, np.float32), 1.0), torch.device("cpu"), memory)


@pytest.mark.parametrize("memory", [1, 10_000, 2**30])
def test_an_epoch_deals_out_every_token_once(memory):
    x_ntd = values()
    stream = streamed(x_ntd, memory)
    size, batches = 16, stream.batches(16)
    deal = stream.epoch(seed=1, epoch=2, size=size)
    parts = [deal(number) for number in range(batches)]
    assert max(map(len, parts)) <= size
    seen = torch.cat(parts).numpy()
    ordered = lambda a: a[np.lexsort(a.T)]  # noqa: E731
    assert np.array_equal(ordered(seen), ordered(x_ntd.reshape(-1, D).astype(np.float32)))
    # any batch is the same when an epoch is taken up in its middle, and another epoch has another order
    again = streamed(x_ntd, memory).epoch(1, 2, size)
    assert torch.equal(again(batches - 1), parts[-1]) and torch.equal(again(0), parts[0])
    assert not torch.equal(stream.epoch(1, 3, size)(0), parts[0])
    # shuffled: a batch is not of neighbours, wherever more than one picture fits in memory
    pictures = {int(np.flatnonzero((x_ntd.astype(np.float32) == row).all(2).any(1))[0]) for row in parts[0].numpy()}
    assert len(pictures) > (1 if memory > 1 else 0)


def test_memory_holds_as_much_as_is_allowed():
    stream = streamed(values(), memory=4 * 4 * T * D * 5)  # four copies of five pictures
    assert [part.pictures.stop - part.pictures.start for part in stream.parts(16)] == [5] * 12


def test_in_memory_is_what_it_was_before():
    x_nd = torch.arange(20.0).view(10, 2)
    deal = InMemory(x_nd).epoch(seed=3, epoch=1, size=4)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(3 * 1_000_003 + 2))
    assert torch.equal(torch.cat([deal(i) for i in range(3)]), x_nd[order])


KINDS = {"relu": dict(l1=0.1), "topk": dict(k=3), "batchtopk": dict(k=3), "jumprelu": dict(l0=0.1),
         "gated": dict(l1=0.1), "matryoshka": dict(k=3)}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_trains_on_tokens_and_goes_on_to_the_bit(tmp_path, kind):
    options = config.Train(
        embeddings="e", kind=kind, expansion=2, epochs=3, batch=32, token_memory_mib=1, **KINDS[kind]
    )
    options = options.resolved(PICTURES * T)
    whole = train(rows(values()), None, options, checkpoint_dir=tmp_path / "a", progress=Silent())
    assert len(whole.history) == 3 and np.isfinite(whole.history[-1].fve)

    class Stopped(Exception):
        pass

    def dies(images, calls=[]):  # noqa: B006
        calls.append(1)
        if len(calls) == 4:  # twice for the normalisation, then in the second epoch
            raise Stopped
        return values()[images].astype(np.float32)

    cut = TokenRows(dies, np.arange(PICTURES), T, D)
    with pytest.raises(Stopped):
        train(cut, None, options, checkpoint_dir=tmp_path / "b", progress=Silent(), checkpoint_seconds=0)
    again = train(rows(values()), None, options, checkpoint_dir=tmp_path / "b", progress=Silent())
    assert all(torch.equal(v, again.sae.weights[k]) for k, v in whole.sae.weights.items())


# --- scoring ----------------------------------------------------------------------------------------------------------


class Held:
    """Stands for the tokens of an artifact."""

    kept, d = T, D

    def read(self, images):
        return values()[images].astype(np.float32)

    def cells(self, images):
        return np.tile(np.arange(T)[::-1], (len(images), 1))  # cell 5 first


@pytest.mark.parametrize("pooled", ["max", "mean", "share"])
def test_a_pictures_activation_is_taken_over_its_tokens(pooled, monkeypatch):
    monkeypatch.setattr(steps_tokens, "CELLS", 7 * T * D)
    source = steps_tokens.TokenSource(Held(), np.arange(PICTURES), D, lambda x: x, pooled)
    found = np.concatenate([z for _, z in source.blocks()])
    x = values().astype(np.float32)
    right = {"max": x.max(1), "mean": x.mean(1), "share": (x > 0).mean(1)}[pooled]
    assert np.allclose(found, right, atol=1e-6)


def test_the_tokens_behind_the_top_pictures_are_kept():
    source = steps_tokens.TokenSource(Held(), np.arange(PICTURES), D, lambda x: x, "max")
    x = values().astype(np.float32)
    activation = pd.DataFrame(
        {"neuron": [2, 2, 5], "image": [7, 9, 7], "value": [x[7, :, 2].max(), x[9, :, 2].max(), x[7, :, 5].max()]}
    )
    kept = steps_tokens.behind(source, activation)
    part = kept[(kept["neuron"] == 2) & (kept["image"] == 9)]
    assert len(part) == (x[9, :, 2] > 0).sum() and part["value"].is_monotonic_decreasing
    assert part["cell"].iloc[0] == T - 1 - x[9, :, 2].argmax() and (kept["value"] > 0).all()
    assert set(zip(kept["neuron"], kept["image"], strict=True)) == {(2, 7), (2, 9), (5, 7)}


# --- the whole way ----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_from_pictures_to_scores_of_tokens(medsae, tmp_path, write_chexpert):
    root = write_chexpert(tmp_path, patients=40)
    cohort = medsae.id("ingest", "chexpert", "--root", root, "--workers", 1)
    common = ("embed", "--cohort", cohort, "--encoder", "simclip", "--pool", "tokens")
    embeddings = medsae.id(*common, "--tokens-per-image", 9)
    artifact = Store(medsae.data).get(embeddings, "embeddings")
    assert (
        embeddings.startswith("simclip-tokens-") and artifact.facts["grid"] == [8, 8] and artifact.facts["tokens"] == 9
    )
    assert medsae.id(*common, "--tokens-per-image", 9) == embeddings != medsae.id(*common, "--tokens-per-image", 8)
    held = steps_tokens.Tokens.of(artifact)
    assert held.read(np.array([0, 3])).shape == (2, 9, 128) and held.cells(np.array([0, 3])).max() < 64
    sae = medsae.id("train", "--embeddings", embeddings, "--kind", "topk", "--k", 4, "--expansion", 2, "--epochs", 2)
    facts = Store(medsae.data).get(sae, "sae").facts
    assert facts["n_train"] % 9 == 0 and facts["d"] == 128
    quick = ("--draws", 5, "--bootstraps", 5, "--images", "all")
    scores = Store(medsae.data).get(medsae.id("score", "--sae", sae, *quick), "scores")
    with scores.connect() as connection:
        best = "SELECT a.neuron, a.image, a.value, max(t.value) FROM activation a JOIN token t USING (neuron, image) GROUP BY ALL"
        both = connection.execute(best).fetchall()
    assert both and all(abs(a - t) < 1e-5 for *_, a, t in both), "the largest token is the picture's activation"
    assert scores.facts["maps"].startswith("the tokens behind"), "9 of 64 tokens make no map"
    whole = medsae.id(*common)
    every = Store(medsae.data).get(
        medsae.id("score", "--embeddings", whole, "--representation", "raw", *quick), "scores"
    )
    with every.connect() as connection:
        neuron, image, packed, scale = connection.execute(
            "SELECT neuron, image, map, scale FROM cell LIMIT 1"
        ).fetchone()
        grid = connection.execute("SELECT rows, columns, step_px, size_px FROM cell_grid").fetchone()
    map_c = np.frombuffer(packed, np.int8) * scale
    right = steps_tokens.Tokens.of(Store(medsae.data).get(whole)).read(np.array([image]))[0, :, neuron]
    assert grid == (8, 8, 16.0, 128) and np.abs(map_c - right).max() <= scale
    raw = medsae.id("score", "--embeddings", embeddings, "--representation", "raw", "--tokens", "mean", *quick)
    assert Store(medsae.data).get(raw, "scores").facts["tokens"] == "mean"
    pooled = medsae.id("embed", "--cohort", cohort, "--encoder", "simclip")
    status, _, err = medsae("score", "--embeddings", pooled, "--representation", "raw", "--tokens", "max", *quick)
    assert status == 2 and "embed with --pool tokens" in err
    status, _, err = medsae(*common, "--tokens-per-image", 65)
    assert status == 2 and "64 tokens a picture" in err
