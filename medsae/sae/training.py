"""One trainer for every kind of SAE (docs/decisions/020).

Adam with constant learning rate and betas (0.9, 0.999), fp32 weights and state. Rows of W_dec at norm 1 where the
kind says so: the part of the gradient along a row is taken away before the step (Adam would turn it into momentum)
and the row is scaled back after it. The order of epoch e comes from a generator seeded by (seed, e), so that nothing
but the counters must be saved to go on in the same order. The last, smaller batch of an epoch is used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medsae import config
from medsae.progress import Progress, UserError
from medsae.sae import checkpoint, kinds
from medsae.sae.gradients import Dense, Screen
from medsae.sae.gradients.screen import low_precision_is_faster
from medsae.sae.metrics import dead_neurons, quality
from medsae.sae.model import Sae, normalised
from medsae.sae.normalise import Normalisation

SPARSE_BELOW = 0.03
"""Share of active cells under which the list of cells is faster than the matrix (docs/decisions/021). A constant, and
the share that it is held against is that of the step before: the path, and with it the last bits of the weights,
depends on the data alone and not on how busy the machine is."""
HISTORY_IMAGES = 4096
"""Training images that the history is measured on where nobody is held out."""


@dataclass(frozen=True)
class HistoryRow:
    """One epoch, measured after it on held-out images (see `Quality` for the units)."""

    step: int
    epoch: int
    loss: float
    """mse + l1 coefficient * l1 (and what else the kind's loss has on the training batches of the epoch, as a mean)."""
    mse: float
    l1: float
    l0: float
    fve: float
    dead: int
    """Neurons that were active on no training image in this epoch."""


@dataclass(frozen=True)
class TrainResult:
    sae: Sae
    history: list[HistoryRow]
    dead_m: np.ndarray
    """bool [m]: active on no training image, with the final weights."""
    seconds: float
    """Over all runs that it took."""
    device: str
    history_on: str
    """Which images the history was measured on."""


def train(
    x_train_nd: np.ndarray,
    x_holdout_nd: np.ndarray | None,
    options: config.Train,
    *,
    checkpoint_dir: Path,
    progress: Progress,
    device: str = "auto",
    checkpoint_seconds: float = 60.0,
) -> TrainResult:
    """Train an SAE on raw embeddings [n, d] by a resolved config; goes on from the checkpoint in `checkpoint_dir`.

    There it keeps `checkpoint.safetensors` and `history.jsonl` (one `HistoryRow` a line, for those who watch).
    Killed and started again on a CPU it ends with the same bits as if it had never stopped.
    UserError for what cannot be trained (see `check`), and for a loss that is no longer a number."""
    check(x_train_nd, x_holdout_nd, options)
    where = choose_device(device)
    normalisation = Normalisation.fit(x_train_nd)
    x_nd = normalised(normalisation, x_train_nd).to(where)
    if x_holdout_nd is not None and len(x_holdout_nd):
        x_seen, seen = normalised(normalisation, x_holdout_nd).to(where), "held-out images"
    else:
        every = max(1, len(x_nd) // HISTORY_IMAGES)
        x_seen, seen = x_nd[::every][:HISTORY_IMAGES].clone(), "training images (nothing is held out)"
    run = Run(x_nd, x_seen, options, normalisation, checkpoint_dir, progress)
    run.go(checkpoint_seconds)
    dead_m = dead_neurons(options.sae, run.trainer.weights, x_nd).cpu().numpy()
    sae = Sae(options.sae, {k: v.detach().cpu() for k, v in run.trainer.weights.items()}, normalisation)
    return TrainResult(sae, run.history, dead_m, run.seconds, device_name(where), seen)


def check(x_train_nd: np.ndarray, x_holdout_nd: np.ndarray | None, options: config.Train) -> None:
    """UserError for what cannot be trained, before any work."""
    kind, n, d = options.sae, *x_train_nd.shape
    assert options.expansion and options.batch and options.epochs and options.lr, "resolve the config first"
    m = options.expansion * d
    for name in ("l1", "l0"):
        config.check(getattr(kind, name, 0) >= 0, f"--{name} {getattr(kind, name, 0)} must not be negative")
    config.check(options.expansion >= 1, f"--expansion {options.expansion} must be at least 1")
    k = getattr(kind, "k", None)
    config.check(k is None or 1 <= k <= m, f"--k {k} does not fit m = {m} neurons (d = {d} x expansion "
                 f"{options.expansion})", do="choose a smaller --k or a larger --expansion")  # fmt: skip
    config.check(n >= options.batch, f"{n:,} training images are fewer than one batch of {options.batch:,}",
                 do=f"choose --batch {max(1, n // 8)} or less, or train on more images")  # fmt: skip
    if x_holdout_nd is not None:
        config.check(x_holdout_nd.shape[1] == d, f"held-out embeddings have {x_holdout_nd.shape[1]} dimensions, "
                     f"those to train on {d}")  # fmt: skip
        config.check(bool(np.isfinite(x_holdout_nd).all()), "held-out embeddings hold NaN or infinity",
                     do="embed those pictures again, or leave them out")  # fmt: skip


class Trainer:
    """Weights, Adam and one step. Knows no epochs, no files and no clock."""

    def __init__(self, options: config.Train, d: int, images: int, device: torch.device):
        assert options.expansion and options.batch and options.lr
        self.kind, self.device = kinds.of(options.sae), device
        start = kinds.Start(d, options.expansion * d, images)
        trained = initial_weights(self.kind, start, torch.Generator().manual_seed(options.seed))
        self.trained = {k: v.to(device) for k, v in trained.items()}
        memory = {k: v.to(device) for k, v in self.kind.memory(start).items()}
        self.weights = {**self.trained, **memory}
        self.adam = torch.optim.Adam(list(self.trained.values()), lr=options.lr, fused=device.type != "mps")
        for tensor in self.trained.values():
            tensor.grad = torch.zeros_like(tensor)
        self.share = 1.0
        """Share of cells that had a part in the last step: decides how the next one is done."""
        self.batch, self.screen = options.batch, None
        self.spare_nm: Tensor | None = None

    def step(self, x_nd: Tensor) -> kinds.Step:
        """One batch of normalised embeddings [n, d]: gradients, Adam, decoder norms."""
        with torch.no_grad():
            done = self._gradients(x_nd)
            w_dec, g_dec = self.trained["W_dec"], done.gradients["W_dec"]
            if self.kind.unit_decoder:
                g_dec.addcmul_(w_dec, torch.linalg.vecdot(g_dec, w_dec)[:, None], value=-1)
            for name, tensor in self.trained.items():
                tensor.grad = done.gradients[name]
            self.adam.step()
            if self.kind.unit_decoder:
                w_dec.div_(torch.linalg.vector_norm(w_dec, dim=1, keepdim=True).clamp_(min=1e-12))
            return done

    def _gradients(self, x_nd: Tensor) -> kinds.Step:
        w, bias_m = self.weights, kinds.pre_activation_bias(self.weights)
        m, d = w["W_enc"].shape
        if self.device.type == "cpu" and self.share < SPARSE_BELOW:
            self.spare_nm = None
            self.screen = self.screen or Screen(self.batch, d, m, low_precision_is_faster(d, m))
            cells = self.screen.cells(x_nd, w["W_enc"], bias_m, self.kind.floor(w))
            share = len(cells.values) / (cells.n * m)
            step = self.kind.gradients(cells, x_nd, w)
            if step is not None:
                self.share = share
                return step
        self.screen = None
        self.spare_nm = x_nd.new_empty(self.batch, m) if self.spare_nm is None else self.spare_nm
        pre_nm = torch.addmm(bias_m, x_nd, w["W_enc"].T)
        step = self.kind.gradients(Dense(pre_nm, self.spare_nm[: len(x_nd)]), x_nd, w)
        assert step is not None, "only a list can be too short"
        if self.device.type == "cpu":
            self.share = float(step.active) / (len(x_nd) * m)
        return step

    def state(self) -> dict[str, Tensor]:
        """All tensors that the next step depends on."""
        tensors = {f"weights.{k}": v for k, v in self.weights.items()}
        for name, tensor in self.trained.items():
            tensors |= {f"adam.{name}.{k}": v for k, v in self.adam.state[tensor].items()}
        return tensors

    def restore(self, tensors: dict[str, Tensor], share: float) -> None:
        self.share = share
        for name, tensor in self.weights.items():
            tensor.copy_(tensors[f"weights.{name}"])
        for name, tensor in self.trained.items():
            saved = {k: tensors[f"adam.{name}.{k}"] for k in ("step", "exp_avg", "exp_avg_sq")}
            self.adam.state[tensor] = {k: v.to(self.device) for k, v in saved.items()}


def initial_weights(kind: kinds.Kind, start: kinds.Start, generator: torch.Generator) -> dict[str, Tensor]:
    """W_dec: random directions of norm 1; W_enc = W_dec; biases 0 (x is centred)."""
    w_dec = torch.randn(start.m, start.d, generator=generator)
    w_dec /= w_dec.norm(dim=1, keepdim=True)
    return {
        "W_enc": w_dec.clone(),
        "b_enc": torch.zeros(start.m),
        "W_dec": w_dec,
        "b_pre": torch.zeros(start.d),
        **kind.start(start),
    }


class Run:
    """Epochs, order, history and checkpoints around a `Trainer`."""

    def __init__(
        self,
        x_nd: Tensor,
        x_seen_nd: Tensor,
        options: config.Train,
        normalisation: Normalisation,
        folder: Path,
        progress: Progress,
    ):
        self.x_nd, self.x_seen_nd, self.options, self.progress = x_nd, x_seen_nd, options, progress
        self.folder, self.question = folder, question(options, x_nd, normalisation)
        self.trainer = Trainer(options, x_nd.shape[1], len(x_nd), x_nd.device)
        self.history: list[HistoryRow] = []
        self.epoch = self.batch_of_epoch = self.steps = 0
        self.seconds = 0.0
        m = self.trainer.weights["b_enc"]
        self.penalty = torch.zeros((), dtype=torch.float64, device=x_nd.device)
        self.fired_m = torch.zeros_like(m, dtype=torch.bool)
        self.bad_step = torch.full((), -1, dtype=torch.int64, device=x_nd.device)
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    def go(self, checkpoint_seconds: float) -> None:
        """Train to the end."""
        epochs, batch, n = self.options.epochs, self.options.batch, len(self.x_nd)
        assert epochs and batch
        batches = -(-n // batch)
        began = saved = time.monotonic()
        before = self.seconds
        with self.progress.task("train", total=epochs * batches, unit="steps") as task:
            if self.steps:
                task.advance(self.steps)
            while self.epoch < epochs:
                order = self._order()
                while self.batch_of_epoch < batches:
                    first = self.batch_of_epoch * batch
                    self._step(self.x_nd[order[first : first + batch]])
                    self.batch_of_epoch += 1
                    task.advance(1)
                    if time.monotonic() - saved > checkpoint_seconds:
                        self.seconds = before + time.monotonic() - began
                        self._save()
                        saved = time.monotonic()
                self._end_epoch()
                row = self.history[-1]
                task.advance(0, epoch=row.epoch, loss=row.loss, fve=row.fve, l0=row.l0, dead=row.dead)
                if time.monotonic() - saved > checkpoint_seconds or self.epoch == epochs:
                    self.seconds = before + time.monotonic() - began
                    self._save()
                    saved = time.monotonic()

    def _order(self) -> Tensor:
        """The order of the images in this epoch -> int64 [n]."""
        generator = torch.Generator(self.x_nd.device).manual_seed(self.options.seed * 1_000_003 + self.epoch + 1)
        return torch.randperm(len(self.x_nd), generator=generator, device=self.x_nd.device)

    def _step(self, x_nd: Tensor) -> None:
        done = self.trainer.step(x_nd)
        self.steps += 1
        self.penalty += done.penalty * len(x_nd)
        self.fired_m |= done.fired_m
        # Looked at when the device is read anyway, so that no step waits for it.
        bad = ~torch.isfinite(done.error + done.penalty) & (self.bad_step < 0)
        self.bad_step.masked_fill_(bad, self.steps)

    def _stop_if_bad(self) -> None:
        step = int(self.bad_step)
        if step >= 0:
            raise UserError(
                f"the loss is no longer a number at step {step} (epoch {self.epoch + 1}, batch "
                f"{(step - 1) % -(-len(self.x_nd) // (self.options.batch or 1)) + 1}) of {self.question}",
                f"{self.folder} (the last good checkpoint is kept)",
                "train with a smaller --lr",
            )

    def _end_epoch(self) -> None:
        self._stop_if_bad()
        found = quality(self.options.sae, self.trainer.weights, self.x_seen_nd)
        penalty = float(self.penalty) / len(self.x_nd)
        dead = int((~self.fired_m).sum())
        self.epoch, self.batch_of_epoch = self.epoch + 1, 0
        row = HistoryRow(self.steps, self.epoch, found.mse + penalty, found.mse, found.l1, found.l0, found.fve, dead)
        self.history.append(row)
        self.penalty.zero_()
        self.fired_m.zero_()
        with open(self.folder / "history.jsonl", "a") as file:
            file.write(json.dumps(dataclasses.asdict(row)) + "\n")

    def _save(self) -> None:
        self._stop_if_bad()
        own = {"penalty": self.penalty, "fired": self.fired_m}
        facts: dict[str, Any] = dict(
            question=self.question, epoch=self.epoch, batch_of_epoch=self.batch_of_epoch, steps=self.steps,
            share=self.trainer.share, seconds=self.seconds, history=[dataclasses.asdict(row) for row in self.history],
        )  # fmt: skip
        checkpoint.save(self.folder, self.trainer.state() | own, facts)

    def _resume(self) -> None:
        found = checkpoint.load(self.folder)
        if found is not None and found[1]["question"] != self.question:
            self.progress.say(f"the checkpoint in {self.folder} is of another training: starting anew")
            found = None
        if found is not None:
            tensors, facts = found
            self.trainer.restore(tensors, facts["share"])
            self.epoch, self.batch_of_epoch, self.steps = facts["epoch"], facts["batch_of_epoch"], facts["steps"]
            self.history = [HistoryRow(**row) for row in facts["history"]]
            self.seconds = facts["seconds"]
            self.penalty.copy_(tensors["penalty"])
            self.fired_m.copy_(tensors["fired"])
            self.progress.say(f"going on at epoch {self.epoch + 1}, step {self.steps + 1}")
        lines = [json.dumps(dataclasses.asdict(row)) + "\n" for row in self.history]
        (self.folder / "history.jsonl").write_text("".join(lines))


def question(options: config.Train, x_nd: Tensor, normalisation: Normalisation) -> dict[str, Any]:
    """What is being trained on what, as JSON: a checkpoint is only used for the same question."""
    data = hashlib.sha256(normalisation.mean_d.tobytes() + np.float64(normalisation.scale).tobytes()).hexdigest()
    kind = {"kind": type(options.sae).__name__, **dataclasses.asdict(options.sae)}
    own = {name: getattr(options, name) for name in ("expansion", "epochs", "lr", "batch", "seed")}
    return {**kind, **own, "images": len(x_nd), "d": x_nd.shape[1], "data": data[:16]}


def choose_device(device: str) -> torch.device:
    """`auto`: CUDA, then the CPU (MPS lacks operations that some kinds need, but can be asked for)."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device is available", do="leave --device out, or install a CUDA build of torch")
    if device == "mps" and not torch.backends.mps.is_available():
        raise UserError("no MPS device is available", do="leave --device out")
    return torch.device(device)


def device_name(device: torch.device) -> str:
    """`cpu, 2 threads`, or the name of the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type
