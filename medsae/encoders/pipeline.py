"""Run an encoder over many pictures: decoding ahead of the network, resumable shards, one answer for one question.

A shard is `shard_size` pictures (`medsae.shards`); a restart computes those that are not finished. How to compute
(device, precision, layout, batch) is fixed at the first start in plan.json, a batch never reaches over the end of a
shard, and on a CPU each batch is computed by one thread, so a killed and restarted run gives the bits of an undisturbed
one. Not covered: two kinds of processor, or two versions of torch, may differ in the last bits, and so may two runs on
a GPU.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from medsae import files, seals
from medsae.encoders import Encoder, TokenEncoder
from medsae.encoders.plan import Plan, Runner, make_plan
from medsae.progress import Progress, Silent, UserError
from medsae.shards import Part, Shards

AHEAD = 3
"""Batches that may wait decoded: enough to smooth a slow picture, little memory (19 MB for 32 MedCLIP inputs each)."""


class Pictures(Protocol):
    """Decodes on demand; __getitem__ is called from several threads at once."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray:
        """uint8 grey [h, w]; raises OSError or ValueError for one that cannot be used, UserError to stop."""
        ...


@dataclass(frozen=True)
class EmbedReport:
    """How embeddings were made."""

    device: str
    precision: Literal["fp32", "bf16"]
    cosine_to_fp32: float | None
    """Smallest cosine between a sample's bf16 and fp32 embeddings; None in fp32."""
    channels_last: bool
    pictures_per_second: float
    """Of the pictures encoded by this call (those of finished shards not counted); 0 where there were none."""
    seconds: float
    """Of this call, with the choice of precision and layout."""
    failed: list[tuple[int, str]]
    """Pictures that could not be decoded, with the reason; their rows are NaN."""


@dataclass(frozen=True, kw_only=True)
class How:
    """How pictures are encoded."""

    shard_size: int = 1024
    """Pictures that are finished together."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    batch: int = 32
    unit_norm: bool | None = None
    """Divide by the L2 norm; None: as the encoder's own code does."""
    workers: int | None = None
    """Threads that decode; None: one a core."""
    choices: Path | None = None
    """A file that remembers which precision and layout was fastest on this machine: two runs choose alike."""
    part: Part | None = None
    """Which of several commands this is; None: it is alone and makes all."""


def embed(
    pictures: Pictures, encoder: Encoder, how: How, *, shards: Path, progress: Progress | None = None
) -> tuple[np.ndarray | None, EmbedReport]:
    """x_nd float32 [n, d] (a read-only memory map of `shards`/x.npy) and how it was made; None for `x_nd` from one of
    several commands that has made its part.

    `shards` holds the finished work and belongs to this question; shards of another question in it are discarded.
    Rows of pictures that cannot be decoded are NaN and reported. Raises UserError when every picture fails, when the
    network gives NaN, infinity or (to be normalised) a zero vector, and when a forced device is not there.
    """
    unit_norm = encoder.unit_norm_default if how.unit_norm is None else how.unit_norm
    pieces = Shards(shards, "npy")

    def keep(k: int, rows: _Rows, plan: Plan, at: range) -> None:
        _write(pieces, k, *_checked(rows, unit_norm, plan, at))

    def done(k: int, count: int) -> bool:
        return _finished(pieces, k, (count, encoder.dim), "float32")

    ranges, report = _run(pictures, encoder, how, pieces, {"unit_norm": unit_norm}, keep, done, progress or Silent())
    if how.part and not how.part.merges:
        return None, report
    x_nd, failed = _merge(pieces, ranges, encoder.dim)
    return x_nd, _none_left(replace(report, failed=failed), len(pictures))


@dataclass(frozen=True)
class Sampled:
    """Which tokens of a picture are kept: all, or so many drawn at random."""

    cells: int
    """Tokens that the network gives."""
    kept: int
    seed: int

    def of(self, image: int) -> np.ndarray:
        """The cells of one picture that are kept, in order -> int64 [kept]."""
        if self.kept == self.cells:
            return np.arange(self.cells)
        return np.sort(np.random.default_rng([self.seed, image]).permutation(self.cells)[: self.kept])


def embed_tokens(
    pictures: Pictures,
    encoder: TokenEncoder,
    how: How,
    keep: Sampled,
    *,
    shards: Path,
    progress: Progress | None = None,
) -> tuple[list[Path], np.ndarray | None, EmbedReport]:
    """Files of float16 [pictures, kept, d] (`how.shard_size` pictures each), the mean over all tokens of each picture
    as float32 [n, d], and how they were made. Rows of pictures that cannot be decoded are NaN.

    As `embed`; also raises UserError for a token that float16 cannot hold."""
    pieces, means, d = Shards(shards, "npy"), Shards(shards / "means", "npy"), encoder.token_dim
    flat = Flat(encoder)

    def write_both(k: int, rows: _Rows, plan: Plan, at: range) -> None:
        x, failed = _checked(rows, False, plan, at)
        x_btd = x.reshape(len(x), keep.cells, d)
        chosen = np.stack([x_btd[i - at.start, keep.of(i)] for i in at])
        if (np.abs(chosen) > np.finfo(np.float16).max).any():
            raise UserError("a token is larger than float16 can hold (65,504)", encoder.name,
                            "choose another --layer: the output after the last normalisation is smaller")  # fmt: skip
        _write(means, k, x_btd.mean(1, dtype=np.float32), failed)
        _write(pieces, k, chosen.astype(np.float16), failed)

    def done(k: int, count: int) -> bool:
        return (_finished(pieces, k, (count, keep.kept, d), "float16")
                and _finished(means, k, (count, d), "float32"))  # fmt: skip

    question = {"tokens": asdict(keep)}
    ranges, report = _run(pictures, flat, how, pieces, question, write_both, done, progress or Silent())
    if how.part and not how.part.merges:
        return [], None, report
    x_nd, failed = _merge(means, ranges, d)
    report = _none_left(replace(report, failed=failed), len(pictures))
    return [pieces.path(k) for k in range(len(ranges))], x_nd, report


class Flat:
    """A token encoder whose vector is all its tokens, one after the other: what the pipeline can carry."""

    unit_norm_default = False

    def __init__(self, encoder: TokenEncoder):
        self.name, self.size, self.weights_sha256 = f"{encoder.name} tokens", encoder.size, encoder.weights_sha256
        self.dim, self.prepare = encoder.grid[0] * encoder.grid[1] * encoder.token_dim, encoder.prepare
        self.module: torch.nn.Module = torch.nn.Sequential(encoder.token_module, torch.nn.Flatten()).eval()


def _run(
    pictures: Pictures,
    encoder: Encoder,
    how: How,
    pieces: Shards,
    more: dict[str, Any],
    keep: Callable[[int, _Rows, Plan, range], None],
    done: Callable[[int, int], bool],
    progress: Progress,
) -> tuple[list[range], EmbedReport]:
    """Encode what is not done, a shard after the other; `failed` of the report is not filled yet."""
    batch, shard_size, shards = how.batch, how.shard_size, pieces.folder
    assert batch >= 1 and shard_size >= 1
    n, began = len(pictures), time.monotonic()
    if n == 0:
        raise UserError("there are no pictures to encode")
    question = dict(n=n, encoder=encoder.name, weights_sha256=encoder.weights_sha256, dim=encoder.dim,
                    shard_size=shard_size, **more)  # fmt: skip
    threads = how.workers or os.cpu_count() or 1
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        plan = _kept_plan(shards, question, how.device, how.precision)
        if plan is None and how.part is not None:
            plan = _begun(shards, how.part)
        if plan is None:
            if how.part is None:  # else another command may have begun just now
                pieces.discard()
            sample = _sample(pictures, encoder, min(batch, n), pool)
            plan = make_plan(encoder, sample, how.device, how.precision, batch, how.choices, progress)
            plan = _agreed(shards / "plan.json", question, plan)
        ranges = [range(at, min(at + shard_size, n)) for at in range(0, n, shard_size)]
        own = [k for k in range(len(ranges)) if how.part is None or how.part.makes(k)]
        todo, n = [k for k in own if not done(k, len(ranges[k]))], sum(len(ranges[k]) for k in own)
        if how.part is not None:
            todo = how.part.mine(todo, pieces)
        left = sum(len(ranges[k]) for k in todo)
        if left < n:
            progress.say(f"{n - left:,} of {n:,} pictures are encoded already; going on with the other {left:,}")
        encoding = time.monotonic()
        if todo:
            with Runner(encoder.module, plan) as run, progress.task("encoding", left, "pictures") as task:
                stream = _prepared(pictures, encoder, [ranges[k] for k in todo], plan, pool)
                for k, rows in zip(todo, _embedded(stream, run, len(todo), encoder, task), strict=True):
                    keep(k, rows, plan, ranges[k])
        encoding = time.monotonic() - encoding
    rate, seconds = left / encoding if todo else 0.0, time.monotonic() - began
    return ranges, EmbedReport(plan.device, plan.precision, plan.cosine_to_fp32, plan.channels_last, rate, seconds, [])


def _none_left(report: EmbedReport, n: int) -> EmbedReport:
    """The report; UserError where no picture could be used."""
    if len(report.failed) == n:
        reasons = "; ".join(f"picture {i}: {why}" for i, why in report.failed[:3])
        raise UserError(f"none of the {n:,} pictures could be decoded ({reasons})", do="check the cohort's pictures")
    return report


# --- decoding ahead ---------------------------------------------------------------------------------------------------


@dataclass
class _Batch:
    shard: int
    """Position among the shards to do."""
    last: bool
    """Whether the shard ends with it."""
    inputs: torch.Tensor
    """float32 [b, c, s, s]; zeros where decoding failed."""
    failed: list[tuple[int, str]]
    count: int


def _prepare(pictures: Pictures, encoder: Encoder, index: int, into: np.ndarray) -> str | None:
    """Decode and prepare one picture into its place of the batch; the reason where it cannot be used."""
    try:
        into[...] = encoder.prepare(pictures[index])
    except (OSError, ValueError) as error:
        into[...] = 0
        return str(error) or type(error).__name__
    return None


def _sample(pictures: Pictures, encoder: Encoder, size: int, pool: ThreadPoolExecutor) -> torch.Tensor:
    """The first `size` pictures as one batch (float32 [size, c, s, s]), to try the network on."""
    shape = encoder.prepare(np.zeros((encoder.size, encoder.size), np.uint8)).shape
    inputs = torch.empty((size, *shape))
    places = inputs.numpy()
    list(pool.map(lambda i: _prepare(pictures, encoder, i, places[i]), range(size)))
    return inputs


def _prepared(
    pictures: Pictures, encoder: Encoder, ranges: list[range], plan: Plan, pool: ThreadPoolExecutor
) -> Iterator[_Batch]:
    """Batches in order, at most AHEAD of them decoding or waiting; each worker writes into the batch itself."""
    shape = encoder.prepare(np.zeros((encoder.size, encoder.size), np.uint8)).shape
    starts = ((k, at) for k, rows in enumerate(ranges) for at in range(rows.start, rows.stop, plan.batch))
    waiting: deque[tuple[int, range, torch.Tensor, list[Future[str | None]]]] = deque()

    def submit() -> None:
        for k, at in starts:
            rows = range(at, min(at + plan.batch, ranges[k].stop))
            inputs = torch.empty((len(rows), *shape), pin_memory=plan.device == "cuda")
            places = inputs.numpy()
            jobs = [pool.submit(_prepare, pictures, encoder, i, places[i - at]) for i in rows]
            waiting.append((k, rows, inputs, jobs))
            return

    try:
        for _ in range(AHEAD):
            submit()
        while waiting:
            k, rows, inputs, jobs = waiting.popleft()
            reasons = [(i, job.result()) for i, job in zip(rows, jobs, strict=True)]
            submit()
            failed = [(i, why) for i, why in reasons if why is not None]
            yield _Batch(k, rows.stop == ranges[k].stop, inputs, failed, len(rows))
    finally:
        for *_, jobs in waiting:
            for job in jobs:
                job.cancel()


@dataclass
class _Rows:
    x: np.ndarray
    failed: list[tuple[int, str]]


def _embedded(stream: Iterator[_Batch], run: Runner, shards: int, encoder: Encoder, task) -> Iterator[_Rows]:
    """The rows of one shard after the other. The result of a batch is fetched after the next ones have been started, so
    that the network works while the host waits for pictures."""
    parts: list[np.ndarray] = []
    failed: list[tuple[int, str]] = []
    started: deque[tuple[_Batch, Callable[[], torch.Tensor]]] = deque()

    def fetch() -> bool:
        batch, wait = started.popleft()
        parts.append(wait().numpy())
        failed.extend(batch.failed)
        task.advance(batch.count)
        return batch.last

    with closing(stream):  # pyright: ignore[reportArgumentType]
        done = 0
        while done < shards:
            batch = next(stream, None)
            if batch is not None:
                started.append((batch, run.start(batch.inputs)))
            if (batch is None or len(started) > run.in_flight) and fetch():
                yield _Rows(np.concatenate(parts), list(failed))
                parts.clear()
                failed.clear()
                done += 1


def _checked(rows: _Rows, unit_norm: bool, plan: Plan, at: range) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Rows normalised where wanted and NaN where decoding failed; raises UserError for what the network got wrong."""
    x = rows.x
    good = np.ones(len(x), bool)
    good[[i - at.start for i, _ in rows.failed]] = False
    norm = np.linalg.norm(x, axis=1)
    bad = good & (~np.isfinite(norm) | ((norm == 0) & unit_norm))
    if bad.any():
        first = at.start + int(np.flatnonzero(bad)[0])
        how = f"{plan.device}, {plan.precision}"
        raise UserError(
            f"the network gave NaN, infinity or zero for {int(bad.sum())} of {len(x)} pictures ({how})",
            f"first for picture {first}",
            "try --precision fp32" if plan.precision == "bf16" else "check that the weights fit the encoder",
        )
    if unit_norm:
        x = x / np.where(good, norm, 1)[:, None]
    x[~good] = np.nan
    return np.ascontiguousarray(x, np.float32), rows.failed


# --- shards on disk ---------------------------------------------------------------------------------------------------


def _kept_plan(shards: Path, question: dict, device: str, precision: str) -> Plan | None:
    """The plan of an earlier start, where it answers the same question and fits what is asked for now."""
    try:
        saved = seals.read(shards / "plan.json")
        plan = Plan(**{k: saved.pop(k) for k in Plan.__dataclass_fields__})
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    fits = device in ("auto", plan.device) and precision in ("auto", plan.precision)
    return plan if saved == question and fits and plan.torch == torch.__version__ else None


def _begun(shards: Path, part: Part) -> None:
    """UserError where other shards have begun in another way than is asked for now; theirs is not thrown away."""
    if (shards / "plan.json").exists():
        told = (shards / "plan.json").read_text()
        raise UserError("the shards here were begun in another way (device, precision, torch or encoder)", shards,
                        f"what they began with: {' '.join(told.split())}; ask for the same, or throw them away with "
                        "`medsae gc --yes`")  # fmt: skip
    if part.merges:
        raise UserError("no shard has encoded anything here yet", shards, part.command(1, 2))


def _agreed(path: Path, question: dict[str, Any], plan: Plan) -> Plan:
    """The plan that is kept at `path`: ours, or that of another command that came first."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    files.write(new, seals.text({**question, **asdict(plan)}))
    try:
        os.link(new, path)  # unlike a rename it never replaces what is there
    except FileExistsError:
        other = _kept_plan(path.parent, question, plan.device, "auto")
        if other is not None:
            return other
        os.replace(new, path)  # of another question
    finally:
        new.unlink(missing_ok=True)
    return plan


def _finished(pieces: Shards, k: int, shape: tuple[int, ...], dtype: str) -> bool:
    """Whether shard `k` is there, whole and of this shape and type."""
    if pieces.finished(k) is None:
        return False
    try:
        x = np.load(pieces.path(k), mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        return False
    return x.shape == shape and x.dtype == dtype


def _write(pieces: Shards, k: int, x: np.ndarray, failed: list[tuple[int, str]]) -> None:
    with pieces.writing(k, failed=failed) as new, new.open("wb") as file:
        np.save(file, x, allow_pickle=False)


def _merge(pieces: Shards, ranges: list[range], dim: int) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """All shards as one array on disk, and every failure."""
    failed: list[tuple[int, str]] = []
    whole = pieces.folder / "x.npy"
    # written, not mapped: a full disk is an error here and would be a SIGBUS there
    with files.replacing(whole) as new, new.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (ranges[-1].stop, dim)}
        np.lib.format.write_array_header_1_0(file, header)
        for k in range(len(ranges)):
            file.write(np.load(pieces.path(k), allow_pickle=False).astype("<f4").tobytes())
            failed += [(int(i), str(why)) for i, why in pieces.remembered(k)["failed"]]
    return np.load(whole, mmap_mode="r", allow_pickle=False), failed
