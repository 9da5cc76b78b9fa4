"""Training speed and quality against libraries that people use; see docs/performance.md for how to run it.

python tests/bench/bench_training.py speed | dense | crossover | whole | sweep | sweep_whole | memory | kinds | gpu

`kinds topk gated` measures these alone. Everything of a table is measured in one process, in turns (one step of each, then again), and medians are shown: on a
machine that others use too, the ratios mean more than the milliseconds. Peers that are not installed are left out.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import itertools
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from medsae import config
from medsae.progress import Silent
from medsae.sae.gradients import Products, blocks, choose
from medsae.sae.kinds import pre_activations
from medsae.sae.metrics import dead_neurons, quality
from medsae.sae.model import activations
from medsae.sae.normalise import Normalisation
from medsae.sae.stream import InMemory
from medsae.sae.sweep import sweep as train_sweep
from medsae.sae.training import Trainer, Workspace, near_all, train

warnings.filterwarnings("ignore")
D, M, N = 512, 8192, 4096
LR, L1, K = 7e-6, 3e-4, 16
BIAS = -2.88  # of random inputs of norm sqrt(d) about 16 of 8,192 unit directions lie above 2.88


def data(n: int, d: int, seed: int = 0) -> torch.Tensor:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=1, keepdim=True) * math.sqrt(d)


def directions() -> torch.Tensor:
    w = torch.randn(M, D, generator=torch.Generator().manual_seed(1))
    return w / w.norm(dim=1, keepdim=True)


def in_turns(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, measured one after the other, `rounds` times, after one round to warm up."""
    took: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if turn:
                took[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in took.items()}


def table(took: dict[str, float], of: str) -> None:
    print(f"\n| path | ms a step | times {of} |\n|---|---|---|")
    for name, seconds in sorted(took.items(), key=lambda item: -item[1]):
        print(f"| {name} | {seconds * 1e3:,.0f} | {seconds / took[of]:.2f} |", flush=True)


def ours(**fields) -> Trainer:
    options = config.Train(embeddings="bench", expansion=M // D, epochs=1, lr=LR, batch=N, **fields).resolved(N)
    trainer = Trainer(options, N, Workspace(N, D, M, torch.device("cpu")), D)
    trainer.weights["W_enc"].copy_(directions())
    trainer.weights["W_dec"].copy_(directions())
    return trainer


def ours_relu(path: float, bias: float = BIAS, products: Products | None = None) -> Callable[[], object]:
    trainer, x = ours(kind="relu", l1=L1), data(N, D)
    trainer.weights["b_enc"].fill_(bias)
    trainer.products = products or trainer.products

    def step() -> None:
        trainer.share = path
        trainer.step(x)

    return step


def ours_topk(**fields) -> Callable[[], object]:
    """Fresh images every step, so that the guess of the last one is really tried."""
    trainer, x, turn = ours(**fields), data(4 * N, D), iter(range(10**6))
    return lambda: trainer.step(x[(i := next(turn) % 4) * N : (i + 1) * N])


class Folded:
    """The dense loop that a careful hand writes: five products, buffers used again, no autograd, fused Adam."""

    def __init__(self, w: torch.Tensor, bias: float = BIAS, l1: float = L1, lr: float = LR):
        m, d = w.shape
        self.w_enc, self.w_dec, self.b_enc, self.b_pre = w.clone(), w.clone(), torch.full((m,), bias), torch.zeros(d)
        self.trained = [self.w_enc, self.w_dec, self.b_enc, self.b_pre]
        self.adam, self.l1 = torch.optim.Adam(self.trained, lr=lr, fused=True), l1
        self.z, self.g, self.e = torch.empty(N, m), torch.empty(N, m), torch.empty(N, d)
        for p in self.trained:
            p.grad = torch.zeros_like(p)

    @torch.no_grad()
    def step(self, x: torch.Tensor) -> float:
        """Gradients and Adam, decoder free -> squared error of the batch."""
        z, g, e, w_enc, w_dec, b_enc, b_pre = self.z, self.g, self.e, *self.trained[:2], self.b_enc, self.b_pre
        torch.addmm(b_enc - w_enc @ b_pre, x, w_enc.T, out=z).clamp_(min=0)
        torch.addmm(b_pre, z, w_dec, out=e).sub_(x)
        error = float(e.square().sum()) / N
        e.mul_(2 / N)
        torch.mm(e, w_dec.T, out=g).add_(self.l1 / N)
        torch.ops.aten.threshold_backward.grad_input(g, z, 0, grad_input=g)
        assert w_enc.grad is not None and b_enc.grad is not None, "made in __init__"
        torch.mm(z.T, e, out=w_dec.grad)
        torch.mm(g.T, x, out=w_enc.grad)
        torch.sum(g, 0, out=b_enc.grad)
        w_enc.grad.addr_(b_enc.grad, b_pre, alpha=-1)
        torch.sub(e.sum(0), b_enc.grad @ w_enc, out=b_pre.grad)
        self.adam.step()
        return error

    @torch.no_grad()
    def unit_step(self, x: torch.Tensor) -> float:
        """The same with rows of the decoder kept at norm 1."""
        hook = self.adam.register_step_pre_hook(lambda *_: self._project())
        error = self.step(x)
        hook.remove()
        self.w_dec.div_(self.w_dec.norm(dim=1, keepdim=True))
        return error

    def _project(self) -> None:
        g = self.w_dec.grad
        assert g is not None, "made in __init__"
        g.addcmul_(self.w_dec, torch.linalg.vecdot(g, self.w_dec)[:, None], value=-1)


def folded() -> Callable[[], object]:
    loop, x = Folded(directions()), data(N, D)
    return lambda: loop.step(x)


def dictionary_learning(**_) -> Callable[[], object]:
    module = importlib.import_module("dictionary_learning.trainers.standard")
    trainer = module.StandardTrainer(steps=10**6, activation_dim=D, dict_size=M, layer=0, lm_name="-", lr=LR,
                                     l1_penalty=L1, warmup_steps=0, sparsity_warmup_steps=None, device="cpu")  # fmt: skip
    trainer.ae.encoder.weight.data = directions()
    trainer.ae.decoder.weight.data = directions().T.contiguous()
    trainer.ae.encoder.bias.data.fill_(BIAS)
    x, turn = data(N, D), iter(range(10**6))
    return lambda: trainer.update(next(turn), x)


def sae_lens() -> Callable[[], object]:
    saes = importlib.import_module("sae_lens.saes.standard_sae")
    trainers = importlib.import_module("sae_lens.training.sae_trainer")
    settings = importlib.import_module("sae_lens.config")
    sae = saes.StandardTrainingSAE(saes.StandardTrainingSAEConfig(d_in=D, d_sae=M, l1_coefficient=L1))
    sae.W_enc.data, sae.W_dec.data = directions().T.contiguous(), directions()
    sae.b_enc.data.fill_(BIAS)
    options = settings.SAETrainerConfig(total_training_samples=10**9, train_batch_size_samples=N, lr=LR, lr_end=LR)
    trainer, x = trainers.SAETrainer(options, sae, iter(())), data(N, D)
    return lambda: trainer.step(x)


def sparsify() -> Callable[[], object]:
    """Its SparseCoder in the loop of its trainer: loss, parallel gradient away, Adam, unit norm."""
    module = importlib.import_module("sparsify")
    settings = importlib.import_module("sparsify.config")
    coder = module.SparseCoder(D, settings.SparseCoderConfig(num_latents=M, k=K))
    coder.encoder.weight.data, coder.W_dec.data = directions(), directions()
    adam, x, turn = torch.optim.Adam(coder.parameters(), lr=LR), data(4 * N, D), iter(range(10**6))

    def step() -> None:
        i = next(turn) % 4
        coder(x[i * N : (i + 1) * N]).fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        adam.step()
        adam.zero_grad()
        coder.set_decoder_norm_to_unit_norm()

    return step


def available(makers: dict[str, Callable[[], Callable[[], object]]]) -> dict[str, Callable[[], object]]:
    steps = {}
    for name, make in makers.items():
        try:
            steps[name] = make()
        except ImportError as error:
            print(f"left out: {name} ({error})")
    return steps


def speed() -> None:
    relu = available({
        "ours": lambda: ours_relu(0.0), "ours, all cells": lambda: ours_relu(1.0), "folded by hand": folded,
        "dictionary-learning": dictionary_learning, "sae-lens": sae_lens,
    })  # fmt: skip
    print(f"\nReLU, batch {N}, d {D}, m {M}, L0 about 16")
    table(in_turns(relu, 7), "ours")
    del relu
    top = available({
        "ours, topk": lambda: ours_topk(kind="topk", k=K), "ours, batchtopk": lambda: ours_topk(kind="batchtopk", k=K),
        "ours, matryoshka": lambda: ours_topk(kind="matryoshka", k=K), "eai-sparsify": sparsify,
    })  # fmt: skip
    print(f"\nTopK, k {K}, same shape")
    table(in_turns(top, 7), "ours, topk")


def dense() -> None:
    """Every cell of every batch: with the products that are chosen here, with each library alone, and folded by hand."""
    rows = -(-N // blocks(N, D, M))
    chosen = choose(rows, D, M)
    print(f"\nReLU through the matrix, batch {N}, d {D}, m {M}, {rows} images at a time: {chosen}")
    ways = {"chosen": chosen, "oneDNN": Products("onednn", "onednn", "onednn"),
            "torch (MKL)": Products("torch", "torch", "torch")}  # fmt: skip
    steps = {name: ours_relu(1.0, products=way) for name, way in ways.items()}
    loop, x = Folded(directions()), data(N, D)
    table(in_turns({**steps, "folded by hand, decoder at norm 1": lambda: loop.unit_step(x)}, 5), "chosen")


def crossover() -> None:
    """Both paths at several activities: where the list stops to pay."""
    print(
        f"\nReLU, batch {N}, d {D}, m {M}\n| active share | list, ms | matrix, ms | matrix / list |\n|---|---|---|---|"
    )
    for bias in (-2.88, -2.33, -2.05, -1.75, -1.4):
        steps = {name: ours_relu(share, bias) for name, share in (("list", 0.0), ("matrix", 1.0))}
        took = in_turns(steps, 3)
        share = 0.5 * math.erfc(-bias / math.sqrt(2))
        print(f"| {share:.2%} | {took['list'] * 1e3:,.0f} | {took['matrix'] * 1e3:,.0f} | "
              f"{took['matrix'] / took['list']:.2f} |", flush=True)  # fmt: skip


def clustered(n: int, d: int, atoms: int, active: float, seed: int) -> np.ndarray:
    """Embeddings with structure: sparse non-negative mixtures of random atoms, and a little noise."""
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(atoms, d)).astype(np.float32)
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    codes = (rng.random((n, atoms)) < active / atoms) * rng.gamma(2.0, 1.0, (n, atoms))
    return (codes.astype(np.float32) @ basis + 0.02 * rng.normal(size=(n, d))).astype(np.float32)


def whole(epochs: int = 24) -> None:
    """A run from the usual start (half of the neurons fire) to sparse, ours and the folded loop: same start, same batches,
    same decoder norm, d = 512, m = 8,192, batch 4,096, 28,672 images. The steps are timed, the measuring is not."""
    raw = clustered(7 * N + 2048, D, 1024, 8, seed=0)
    x = torch.from_numpy(Normalisation.fit(raw).apply(raw))
    x, seen = x[:-2048].clone(), x[-2048:].clone()
    options = config.Train(embeddings="bench", kind="relu", l1=3.0, expansion=M // D, epochs=epochs, lr=3e-3, batch=N)
    mine = Trainer(options.resolved(len(x)), len(x), Workspace(N, D, M, torch.device("cpu")), D)
    theirs = Folded(mine.weights["W_enc"], 0.0, 3.0, 3e-3)
    theirs.w_dec.copy_(mine.weights["W_dec"])
    weights = dict(W_enc=theirs.w_enc, b_enc=theirs.b_enc, W_dec=theirs.w_dec, b_pre=theirs.b_pre)
    spent, largest = [0.0, 0.0], 0.0
    print(
        "\n| epoch | ours, s | folded, s | times | FVE | FVE | L0 share | L0 share | error apart |\n" + "|---" * 9 + "|"
    )
    for epoch in range(epochs):
        rows, errors = InMemory(x), [0.0, 0.0]
        batch_of = rows.epoch(0, epoch, N)
        for number in range(rows.batches(N)):
            batch = batch_of(number)
            for i, step in enumerate((lambda: float(mine.step(batch).error), lambda: theirs.unit_step(batch))):  # noqa: B023
                began = time.perf_counter()
                errors[i] += step()
                spent[i] += time.perf_counter() - began
        found = [quality(options.resolved(len(x)).sae, w, seen) for w in (mine.weights, weights)]
        apart = abs(errors[0] - errors[1]) / errors[1]
        largest = max(largest, apart)
        print(f"| {epoch + 1} | {spent[0]:.1f} | {spent[1]:.1f} | {spent[1] / spent[0]:.2f} | {found[0].fve:.4f} | "
              f"{found[1].fve:.4f} | {found[0].active_share:.5f} | {found[1].active_share:.5f} | {apart:.1e} |", flush=True)  # fmt: skip
    dead = [int(dead_neurons(options.resolved(len(x)).sae, w, x).sum()) for w in (mine.weights, weights)]
    print(f"largest difference of the loss curves {largest:.1e}; dead {dead[0]} and {dead[1]} of {M}")


def memory(kind: str = "", path: str = "") -> None:
    """Peak of a training beside what there was before it, each in a process of its own (Linux). Before it: the images,
    and the code of torch, which two small trainings have read into memory, so that it is not counted as ours."""
    if not kind:
        print("\n| kind | path | peak beside the images, MiB | 4 x parameters | one [batch, m] in fp32 |\n" + "|---" * 5 + "|",
              flush=True)  # fmt: skip
        for case in itertools.product(
            ("relu", "gated", "jumprelu", "topk", "batchtopk", "matryoshka"), ("list", "matrix")
        ):
            subprocess.run([sys.executable, __file__, "memory", *case], check=True)
        return

    def steps(n: int, m: int, x: torch.Tensor, share: float) -> int:
        own: dict[str, Any] = {"relu": dict(l1=L1), "gated": dict(l1=L1), "jumprelu": dict(l0=1.0)}.get(kind, dict(k=K))
        options = config.Train(embeddings="bench", kind=kind, expansion=m // D, epochs=1, lr=LR, batch=n, **own)
        trainer = Trainer(options.resolved(n), n, Workspace(n, D, m, torch.device("cpu")), D)
        if share == 0.0:
            trainer.weights["b_enc"].fill_(BIAS)
        for turn in range(6):
            trainer.share = share
            trainer.step(x[turn % 2 * n :][:n])
        return sum(v.numel() for v in trainer.trained.values()) * 4

    x = data(2 * N, D)
    for share in (0.0, 1.0):
        steps(64, D, x, share)
    release_memory()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = status_mib("VmRSS")
    parameters = steps(N, M, x, 0.0 if path == "list" else 1.0) / 2**20
    print(f"| {kind} | {path} | {status_mib('VmHWM') - before:,.0f} | {4 * parameters:,.0f} | {N * M * 4 / 2**20:,.0f} |",
          flush=True)  # fmt: skip


def status_mib(name: str) -> float:
    """A line of Linux's /proc/self/status that is in kB."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{name}:", 1)[1].split()[0]) / 1024


def release_memory() -> None:
    """Hand freed memory back to the system (glibc)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def together(trainers: list[Trainer], x: torch.Tensor) -> None:
    near = near_all(trainers, x)
    for trainer in trainers:
        trainer.step(x, near)


def sweep() -> None:
    """Eight lambdas on the same batch against one, step by step in turns."""
    print("\n| shape | one, ms | eight, ms | ratio |\n|---|---|---|---|")
    for d, m, n in ((128, 1024, 256), (512, 8192, 4096)):
        x, space = data(n, d), Workspace(n, d, m, torch.device("cpu"))
        trainers = []
        for l1 in np.geomspace(1e-4, 1e-3, 9).tolist():
            options = config.Train(embeddings="bench", kind="relu", l1=l1, expansion=m // d, epochs=1, lr=LR, batch=n)
            trainers.append(Trainer(options.resolved(n), n, space, d))
            trainers[-1].weights["b_enc"].fill_(BIAS)
            trainers[-1].share = 0.0
        steps = {
            "one": lambda t=trainers, x=x: t[0].step(x),
            "eight": lambda t=trainers, x=x: together(t[1:], x),
        }
        took = in_turns(steps, 7)
        print(f"| d {d}, m {m}, batch {n} | {took['one'] * 1e3:,.1f} | {took['eight'] * 1e3:,.1f} | "
              f"{took['eight'] / took['one']:.2f} |", flush=True)  # fmt: skip


def sweep_whole() -> None:
    """Eight lambdas from start to end, `sweep` against eight trainings one after the other, and one alone: d = 128,
    m = 1,024, batch 256, 8,192 structured images, 20 epochs; measuring and checkpoints included."""
    n, d, m, epochs = 8192, 128, 1024, 20
    raw = clustered(n + 1024, d, 256, 6, seed=0)
    print("\n| lambdas | learning rate | one, s | eight alone, s | sweep, s | alone / sweep | sweep / one | active share at "
          "the end | same bits |\n" + "|---" * 9 + "|", flush=True)  # fmt: skip
    for low, high, lr in ((1e-4, 1e-3, 1.5e-4), (0.5, 4.0, 1e-3)):
        options = [
            config.Train(embeddings="b", kind="relu", l1=l1, expansion=m // d, epochs=epochs, lr=lr, batch=256)
            for l1 in np.geomspace(low, high, 8).tolist()
        ]
        options = [option.resolved(n) for option in options]
        with tempfile.TemporaryDirectory() as folder:
            took, alone = [], []
            for i, option in enumerate(options):
                began = time.perf_counter()
                alone.append(train(raw[:n], raw[n:], option, checkpoint_dir=Path(folder, f"alone{i}"),
                                   progress=Silent(), checkpoint_seconds=1e9))  # fmt: skip
                took.append(time.perf_counter() - began)
            began = time.perf_counter()
            folders = [Path(folder, f"sweep{i}") for i in range(8)]
            found = train_sweep(raw[:n], raw[n:], options, checkpoint_dirs=folders, progress=Silent())
            seconds = time.perf_counter() - began
        same = all(torch.equal(v, b.sae.weights[k]) for a, b in zip(alone, found, strict=True)
                   for k, v in a.sae.weights.items())  # fmt: skip
        shares = [result.history[-1].active_share for result in found]
        one = statistics.median(took)
        print(f"| {low:g} - {high:g} | {lr:g} | {one:.1f} | {sum(took):.1f} | {seconds:.1f} | {sum(took) / seconds:.2f} | "
              f"{seconds / one:.2f} | {min(shares):.2%} - {max(shares):.2%} | {same} |", flush=True)  # fmt: skip


def peer_trainer(name: str, d: int, m: int, steps: int, lr: float, seed: int, **own):
    at, cls = {
        "relu": ("standard", "StandardTrainer"), "topk": ("top_k", "TopKTrainer"),
        "batchtopk": ("batch_top_k", "BatchTopKTrainer"), "jumprelu": ("jumprelu", "JumpReluTrainer"),
        "gated": ("gdm", "GatedSAETrainer"),
        "matryoshka": ("matryoshka_batch_top_k", "MatryoshkaBatchTopKTrainer"),
    }[name]  # fmt: skip
    module = importlib.import_module(f"dictionary_learning.trainers.{at}")
    plain: dict[str, Any] = dict(steps=steps, activation_dim=d, dict_size=m, layer=0, lm_name="-", lr=lr, seed=seed, device="cpu",
                 warmup_steps=0)  # fmt: skip
    if name in ("relu", "gated", "jumprelu"):
        plain["sparsity_warmup_steps"] = None
    if name in ("batchtopk", "matryoshka", "topk"):
        plain["threshold_start_step"] = 0
    return getattr(module, cls)(**plain | own)


def gpu(device: str = "cuda", images: str = "224000", epochs: str = "200") -> None:
    """A training and a sweep of 16 on a GPU, d = 512, m = 8,192, batch 4,096: seconds, the share of the rate at which the
    same device multiplies fp32 matrices of these shapes, and how much of the time a kernel runs.

    `gpu cpu 8192 1` tries the program itself where there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        return print("left out: no CUDA device")
    where, n, count = torch.device(device), int(images), int(epochs)
    raw = clustered(n, D, 1024, 8, seed=0)
    x, w = data(N, D).to(where), directions().to(where)

    def waited(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        if where.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    product = statistics.median(waited(lambda: x @ w.T) for _ in range(20))
    rate = 2 * N * D * M / product
    print(f"\n{torch.cuda.get_device_name() if where.type == 'cuda' else device}, product at {rate / 1e9:,.0f} GFLOP/s\n"
          "\n| what | seconds | share of that rate |\n|---|---|---|", flush=True)  # fmt: skip
    lambdas = np.geomspace(0.5, 4.0, 16).tolist()
    options = [config.Train(embeddings="b", kind="relu", l1=l1, expansion=M // D, epochs=count, lr=1e-3, batch=N)
               for l1 in lambdas]  # fmt: skip
    options = [option.resolved(n) for option in options]
    for what, those in (("one", options[:1]), ("16 lambdas", options)):
        with tempfile.TemporaryDirectory() as folder:
            folders = [Path(folder, str(i)) for i in range(len(those))]
            began = time.perf_counter()
            train_sweep(raw, None, those, checkpoint_dirs=folders, progress=Silent(), device=device)
            seconds = time.perf_counter() - began
        work = len(those) * count * n * 5 * 2 * D * M
        print(f"| {what}, {n:,} images, {count} epochs | {seconds:.1f} | {work / seconds / rate:.0%} |", flush=True)
    trainer = Trainer(options[0], n, Workspace(N, D, M, where), D)
    activity = torch.profiler.ProfilerActivity
    kinds_of = [activity.CUDA] if where.type == "cuda" else [activity.CPU]
    trainer.step(x)
    with torch.profiler.profile(activities=kinds_of) as profile:
        seconds = waited(lambda: [trainer.step(x) for _ in range(50 if where.type == "cuda" else 2)])
    spent = sum(event.self_device_time_total if where.type == "cuda" else event.self_cpu_time_total
                for event in profile.key_averages()) / 1e6  # fmt: skip
    print(f"\nkernels run {spent / seconds:.0%} of the time of a step")


PEERS: dict[str, list[dict]] = {
    "relu": [dict(l1_penalty=v) for v in (1.0, 2.0, 4.0)],
    "topk": [dict(k=5)],
    "batchtopk": [dict(k=5)],
    "matryoshka": [dict(k=5, group_fractions=[1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2])],
    "gated": [dict(l1_penalty=v) for v in (2.0, 3.0, 5.0)],
    "jumprelu": [dict(sparsity_penalty=1.0, target_l0=v) for v in (2.0, 3.0, 4.0)],
}
OURS: dict[str, list[dict]] = {
    "relu": [dict(l1=v, encoder_norm=0.1) for v in (1.0, 2.0, 4.0)],
    "topk": [dict(k=5)],
    "batchtopk": [dict(k=5)],
    "matryoshka": [dict(k=5)],
    "gated": [dict(l1=v) for v in (2.0, 3.0, 5.0)],
    "jumprelu": [dict(l0=v) for v in (0.5, 1.0, 2.0)],
}
HELD, SEEDS = 2000, (0, 1, 2)


def kinds(only: tuple[str, ...] = ()) -> None:
    """Each kind against dictionary-learning's of it: same images, order, batches, learning rate, number of steps and
    seeds. Those that choose over a batch are measured in that way, too ("chosen"): L0 is the same by construction."""
    from tests.unit.test_sae_planted import RECIPES, planted, recovery

    x, atoms = planted(12_000)
    train_x, seen_x, batch = x[:-HELD], x[-HELD:], 256
    print("\n| kind | options | library | L0 | FVE (mean +- sd of 3 seeds) | mean max cosine |\n" + "|---" * 6 + "|")
    for kind in only or OURS:
        lr, epochs = float(RECIPES[kind]["lr"]), int(RECIPES[kind]["epochs"])
        normal = Normalisation.fit(train_x)
        data_nd, seen = (torch.from_numpy(normal.apply(part)) for part in (train_x, seen_x))
        by_batch = kind in ("batchtopk", "matryoshka")
        for own in OURS[kind]:
            found, chosen = [], []
            for seed in SEEDS:
                options = config.Train(embeddings="b", kind=kind, expansion=4, epochs=epochs, lr=lr, batch=batch,
                                       seed=seed, **own).resolved(len(train_x))  # fmt: skip
                with tempfile.TemporaryDirectory() as folder:
                    sae = train(train_x, seen_x, options, checkpoint_dir=Path(folder), progress=Silent(),
                                checkpoint_seconds=1e9).sae  # fmt: skip
                w, cosine = sae.weights, recovery(sae.weights["W_dec"], atoms)
                found.append((*l0_fve(activations(sae.kind, w, seen), w["W_dec"], w["b_pre"], seen), cosine))
                if by_batch:
                    z = top_of_batch(pre_activations(seen, w), own["k"])
                    chosen.append((*l0_fve(z, w["W_dec"], w["b_pre"], seen), cosine))
            line(kind, own, "ours", found, chosen)
        for own in PEERS[kind]:
            found, chosen = [], []
            for seed in SEEDS:
                steps, batches = epochs * -(-len(data_nd) // batch), -(-len(data_nd) // batch)
                try:
                    trainer = peer_trainer(kind, 64, 256, steps, lr, seed, **own)
                except ImportError as error:
                    return print(f"left out: dictionary-learning ({error})")
                for step in range(steps):
                    epoch, number = divmod(step, batches)
                    if number == 0:
                        batch_of = InMemory(data_nd).epoch(seed, epoch, batch)
                    trainer.update(step, batch_of(number))
                with torch.no_grad():
                    ae = trainer.ae
                    w_dec = (ae.W_dec if hasattr(ae, "W_dec") else ae.decoder.weight.T).detach()
                    back = {name: encoded(ae, seen, use_threshold=name == "found") if by_batch else encoded(ae, seen)
                            for name in ("found", "chosen")}  # fmt: skip
                    zero = ae.decode(torch.zeros_like(back["found"][:1]))[0]
                    cosine = recovery(w_dec, atoms)
                    found.append((*l0_fve(back["found"], w_dec, zero, seen), cosine))
                    if by_batch:
                        chosen.append((*l0_fve(back["chosen"], w_dec, zero, seen), cosine))
            line(kind, own, "dictionary-learning", found, chosen)


def encoded(ae, x: torch.Tensor, **how) -> torch.Tensor:
    f = ae.encode(x, **how)
    return f[0] if isinstance(f, tuple) else f


def top_of_batch(pre: torch.Tensor, k: int) -> torch.Tensor:
    """Activations of the k * n largest cells."""
    top = pre.flatten().topk(k * len(pre))
    return torch.zeros_like(pre).flatten().scatter_(0, top.indices, top.values.clamp(min=0)).view_as(pre)


def l0_fve(z: torch.Tensor, w_dec: torch.Tensor, bias: torch.Tensor, x: torch.Tensor) -> tuple[float, float]:
    error = (x - z @ w_dec - bias).square().sum() / (x - x.mean(0)).square().sum()
    return float((z > 0).float().sum(1).mean()), 1 - float(error)


def line(kind: str, own: dict, library: str, found: list, chosen: list) -> None:
    text = ", ".join(f"{k} {v:g}" for k, v in own.items() if k != "group_fractions")
    for what, values in (("", found), (", chosen", chosen)):
        if values:
            l0, fve, cosine = np.array(values).T
            print(f"| {kind}{what} | {text} | {library} | {l0.mean():.2f} | {fve.mean():.4f} ± {fve.std(ddof=1):.4f} | "
                  f"{cosine.mean():.3f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    if sys.argv[1:2] in (["memory"], ["gpu"]):
        globals()[sys.argv[1]](*sys.argv[2:])
    elif sys.argv[1:2] == ["kinds"]:
        kinds(tuple(sys.argv[2:]))
    else:
        for part in sys.argv[1:] or ["speed", "crossover", "whole", "sweep", "sweep_whole", "memory", "kinds", "gpu"]:
            globals()[part]()
