"""One trainer for every kind of SAE (docs/decisions/020).

Adam with constant learning rate and betas (0.9, 0.999), fp32 weights and state. Rows of W_dec at norm 1 where the
kind says so: the part of the gradient along a row is taken away before the step (Adam would turn it into momentum)
and the row is scaled back after it. The order of epoch e comes from a generator seeded by (seed, e), so that nothing
but the counters must be saved to go on in the same order. Batches of an epoch are equal, and none is left out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medsae import config, files
from medsae.device import pick
from medsae.progress import Progress, Task, UserError
from medsae.sae import checkpoint, kinds
from medsae.sae.gradients import (
    Dense,
    Products,
    Question,
    Screen,
    SharedSearch,
    Sparse,
    above,
    blocks,
    choose,
    in_blocks,
    restored,
    using,
)
from medsae.sae.gradients.screen import low_precision_is_faster
from medsae.sae.metrics import dead_neurons, quality
from medsae.sae.model import Sae, normalised
from medsae.sae.normalise import Normalisation
from medsae.sae.stream import InMemory, Streamed, TokenRows

SPARSE_BELOW = 0.05
"""Share of active cells under which the list of cells is faster than the matrix (docs/decisions/021). A constant, and
the share that it is held against is that of the step before: the path, and with it the last bits of the weights,
depends on the data alone and not on how busy the machine is."""
HISTORY_IMAGES = 4096
"""Training images that the history is measured on where nobody is held out."""

HISTORY = "history.jsonl"
"""One `HistoryRow` a line, for those who watch; the checkpoint is what a training goes on from."""


@dataclass(frozen=True)
class HistoryRow:
    """One epoch, measured after it on held-out images (see `Quality` for the units)."""

    step: int
    epoch: int
    loss: float
    """mse + l1 coefficient * l1 (and what else the kind's loss has on the training batches of the epoch, as a mean)."""
    mse: float
    l1: float
    active_share: float
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
    products: Products
    """Which library carried out the products on all cells (CPU)."""


def train(
    x_train_nd: np.ndarray | TokenRows,
    x_holdout_nd: np.ndarray | None,
    options: config.Train,
    *,
    checkpoint_dir: Path,
    progress: Progress,
    device: str = "auto",
    checkpoint_seconds: float = 60.0,
    choices: Path | None = None,
) -> TrainResult:
    """Train an SAE on raw embeddings [n, d] by a resolved config; goes on from the checkpoint in `checkpoint_dir`.

    Tokens on disk (`TokenRows`) are streamed, within `token_memory_mib`.
    In the folder it keeps `checkpoint.safetensors` and `history.jsonl` (one `HistoryRow` a line, for those who watch).
    Killed and started again on a CPU it ends with the same bits as if it had never stopped.
    `choices`: a file that remembers which library multiplies fastest here, so that two runs choose alike.
    UserError for what cannot be trained (see `check`), and for a loss that is no longer a number."""
    return train_together(x_train_nd, x_holdout_nd, [options], checkpoint_dirs=[checkpoint_dir], progress=progress,
                          device=device, checkpoint_seconds=checkpoint_seconds, choices=choices)[0]  # fmt: skip


def train_together(
    x_train_nd: np.ndarray | TokenRows,
    x_holdout_nd: np.ndarray | None,
    options: list[config.Train],
    *,
    checkpoint_dirs: list[Path],
    progress: Progress,
    device: str = "auto",
    checkpoint_seconds: float = 60.0,
    choices: Path | None = None,
) -> list[TrainResult]:
    """`train` for several configs of one batch size, number of epochs and seed: each batch is fetched once, and every
    one of them takes its step on it. Each ends with the same bits as if it were trained alone."""
    for option in options:
        check(x_train_nd, x_holdout_nd, option)
    assert len({(o.batch, o.epochs, o.seed) for o in options}) == 1, "these do not see the same batches"
    where = pick(device, AUTO)
    if where.type == "mps":
        raise UserError("SAEs are not trained on MPS: it lacks float64 sums and lists of cells", do="--device cpu")
    normalisation = Normalisation.fit(x_train_nd)
    if isinstance(x_train_nd, TokenRows):
        memory = max(option.token_memory_mib for option in options) * 2**20
        x_nd: Tensor | Streamed = Streamed(x_train_nd, normalisation, where, memory)
    else:
        x_nd = normalised(normalisation, x_train_nd).to(where)
    if x_holdout_nd is not None and len(x_holdout_nd):
        x_seen_nd, seen = normalised(normalisation, x_holdout_nd).to(where), "held-out images"
    else:
        if isinstance(x_nd, Streamed):
            x_seen_nd = x_nd.sample(HISTORY_IMAGES)
        else:
            x_seen_nd = x_nd[:: max(1, len(x_nd) // HISTORY_IMAGES)][:HISTORY_IMAGES].clone()
        seen = "training images (nothing is held out)"
    spaces: dict[int, Workspace] = {}
    members = []
    for option, folder in zip(options, checkpoint_dirs, strict=True):
        assert option.batch and option.expansion
        m = option.expansion * x_nd.shape[1]
        if m not in spaces:
            spaces[m] = Workspace(option.batch, x_nd.shape[1], m, where, choices)
        space = spaces[m]
        members.append(Member(option, x_nd, normalisation, space, folder, progress))
    run_epochs(members, x_nd, x_seen_nd, progress, checkpoint_seconds)
    results = []
    for member in members:
        kind, weights = member.options.sae, member.trainer.weights
        every = x_nd.in_order() if isinstance(x_nd, Streamed) else [x_nd]
        with using(member.trainer.products):
            dead_m = torch.stack([dead_neurons(kind, weights, x) for x in every]).all(0).cpu().numpy()
        sae = Sae(kind, {k: v.detach().cpu() for k, v in weights.items()}, normalisation)
        results.append(TrainResult(sae, member.history, dead_m, member.seconds, device_name(where), seen,
                                   member.trainer.products))  # fmt: skip
    return results


def check(x_train_nd: np.ndarray | TokenRows, x_holdout_nd: np.ndarray | None, options: config.Train) -> None:
    """UserError for what cannot be trained, before any work."""
    n, d = x_train_nd.shape
    assert options.expansion and options.batch and options.epochs and options.lr, "resolve the config first"
    m = options.expansion * d
    k = getattr(options.sae, "k", None)
    config.check(k is None or k <= m, f"--k {k} does not fit m = {m} neurons (d = {d} x expansion "
                 f"{options.expansion})", do="choose a smaller --k or a larger --expansion")  # fmt: skip
    config.check(n >= options.batch, f"{n:,} training images are fewer than one batch of {options.batch:,}",
                 do=f"choose --batch {max(1, n // 8)} or less, or train on more images")  # fmt: skip
    if x_holdout_nd is not None:
        config.check(x_holdout_nd.shape[1] == d, f"held-out embeddings have {x_holdout_nd.shape[1]} dimensions, "
                     f"those to train on {d}")  # fmt: skip
        config.check(bool(np.isfinite(x_holdout_nd).all()), "held-out embeddings hold NaN or infinity",
                     do="embed those pictures again, or leave them out")  # fmt: skip


class Workspace:
    """Memory for the search of active cells in a batch, made once and used by every training of this shape in turn."""

    def __init__(self, n: int, d: int, m: int, device: torch.device, choices: Path | None = None):
        self.shape, self.device, self.choices = (n, d, m), device, choices

    @cached_property
    def screen(self) -> Screen:
        """Made when the first step is done on a list."""
        n, d, m = self.shape
        return Screen(n, d, m, low_precision_is_faster(d, m))

    @cached_property
    def products(self) -> Products:
        """Measured, or taken from `choices`, when a training begins that has no checkpoint."""
        n, d, m = self.shape
        return choose(-(-n // blocks(n, d, m)), d, m, self.choices) if self.device.type == "cpu" else Products()

    @cached_property
    def shared(self) -> SharedSearch:
        return SharedSearch(self.screen)


class Trainer:
    """Weights, Adam and one step. Knows no epochs, no files and no clock."""

    def __init__(self, options: config.Train, images: int, space: Workspace, d: int):
        assert options.expansion and options.lr
        device = space.device
        self.kind, self.space = kinds.of(options.sae), space
        start = kinds.Start(d, options.expansion * d, images)
        trained = initial_weights(self.kind, start, torch.Generator().manual_seed(options.seed))
        self.trained = {k: v.to(device) for k, v in trained.items()}
        memory = {k: v.to(device) for k, v in self.kind.memory(start).items()}
        self.weights = {**self.trained, **memory}
        self.adam = Adam(self.trained, options.lr)
        self.share = 1.0
        """Share of cells that had a part in the last step: decides how the next one is done (on a CPU)."""
        self.asked: Question | None = None
        """The question of the next step, if somebody asked for it."""

    @cached_property
    def products(self) -> Products:
        """Who multiplies: what was chosen for this shape, unless a checkpoint says otherwise (`restore`)."""
        return self.space.products

    @property
    def question(self) -> Question | None:
        """Which cells the next step will work on, if it is done on a list."""
        if self.space.device.type != "cpu" or self.share >= SPARSE_BELOW:
            return None
        if self.asked is None:
            w = self.weights
            self.asked = Question(w["W_enc"], kinds.pre_activation_bias(w), self.kind.floor(w))
        return self.asked

    def step(self, x_nd: Tensor, near: Sparse | None = None) -> kinds.Step:
        """One batch of normalised embeddings [n, d]: gradients, Adam, decoder norms. `near`: candidates of this batch,
        if they have been found already (`step_together`)."""
        with torch.no_grad():
            grads = kinds.Gradients()
            done = self._gradients(x_nd, near, grads)
            self.asked = None
            for name in grads:  # one at a time, so that only one is held twice
                grads[name] = grads[name].contiguous()
            w_dec, g_dec = self.trained["W_dec"], grads["W_dec"]
            if self.kind.unit_decoder:
                for g, w in zip(parts(g_dec), parts(w_dec), strict=True):
                    g.addcmul_(w, torch.linalg.vecdot(g, w)[:, None], value=-1)
            self.adam.step(grads)
            if self.kind.unit_decoder:
                for w in parts(w_dec):
                    w.div_(torch.linalg.vector_norm(w, dim=1, keepdim=True).clamp_(min=1e-12))
            return done

    def _gradients(self, x_nd: Tensor, near: Sparse | None, grads: kinds.Gradients) -> kinds.Step:
        w, n, on_cpu = self.weights, len(x_nd), x_nd.device.type == "cpu"
        m, question = len(w["b_enc"]), self.question
        if question is not None:
            cells = self.space.screen.cells(x_nd, question) if near is None else above(near, x_nd, question)
            step = self.kind.gradients(cells, x_nd, w, grads)
            if step is not None:
                self.share = len(cells.values) / (n * m)
                return step
        with using(self.products):
            step = on_all_cells(self.kind, x_nd, w, grads)
        if on_cpu:
            self.share = float(step.active) / (n * m)
        return step

    def state(self) -> dict[str, Tensor]:
        """All tensors that the next step depends on."""
        tensors = {f"weights.{k}": v for k, v in self.weights.items()}
        return tensors | {f"adam.{k}": v for k, v in self.adam.state.items()}

    def restore(self, tensors: dict[str, Tensor], share: float, products: Products) -> None:
        """Take over what `state` gave."""
        self.share, self.asked, self.products = share, None, products
        for name, tensor in self.weights.items():
            tensor.copy_(tensors[f"weights.{name}"])
        for name, tensor in self.adam.state.items():
            tensor.copy_(tensors[f"adam.{name}"])


def on_all_cells(kind: kinds.Kind, x_nd: Tensor, w: kinds.Weights, grads: kinds.Gradients) -> kinds.Step:
    """One batch by matrix products, some images at a time; kinds that choose cells work on the list of these."""
    m, step, lists = len(w["b_enc"]), None, []
    for x in in_blocks(x_nd, m, kind.matrices):
        cells = Dense(kinds.pre_activations(x, w), len(x_nd))
        chosen = kind.chosen(cells)
        if chosen is None:
            part = kind.gradients(cells, x, w, grads)
            assert part is not None, "only a list can be too short"
            step = part if step is None else step.add_(part)
        else:
            lists.append(kinds.listed_cells(cells, chosen))
        del cells, chosen  # before the next ones are made
    if lists:
        w["guess"].zero_()  # nothing is hidden in this list
        step = kind.gradients(Sparse.joined(lists), x_nd, w, grads)
    assert step is not None, "a batch has images"
    return step


def parts(w_md: Tensor) -> tuple[Tensor, ...]:
    """Rows in order, on a CPU so many at a time that what is made of them stays in the cache."""
    return w_md.split(max(1, 2**20 // w_md.shape[1])) if w_md.device.type == "cpu" else (w_md,)


class Adam:
    """torch's fused Adam, betas (0.9, 0.999), epsilon 1e-8, without the optimiser around it: that takes longer than the
    arithmetic on an SAE of some hundred neurons."""

    def __init__(self, trained: dict[str, Tensor], lr: float):
        self.trained, self.lr = trained, lr
        self.state = {
            f"{name}.{what}": torch.zeros_like(tensor) if what != "step" else torch.zeros((), device=tensor.device)
            for name, tensor in trained.items()
            for what in ("step", "exp_avg", "exp_avg_sq")
        }

    def step(self, gradients: dict[str, Tensor]) -> None:
        mean, square, steps = (
            [self.state[f"{name}.{what}"] for name in self.trained] for what in ("exp_avg", "exp_avg_sq", "step")
        )
        torch._foreach_add_(steps, 1.0)  # pyright: ignore[reportPrivateImportUsage]
        torch._fused_adam_(  # pyright: ignore[reportPrivateImportUsage]
            list(self.trained.values()), [gradients[name] for name in self.trained], mean, square, [], steps,
            lr=self.lr, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip


def near_all(trainers: list[Trainer], x_nd: Tensor) -> Sparse | None:
    """Candidates of a batch for all of these trainers of one shape; None where each should look for its own. Which of
    the two makes no difference to a bit of their steps."""
    with torch.no_grad():
        questions = [question for trainer in trainers if (question := trainer.question) is not None]
        return trainers[0].space.shared.near(x_nd, questions) if len(questions) > 1 else None


def initial_weights(kind: kinds.Kind, start: kinds.Start, generator: torch.Generator) -> dict[str, Tensor]:
    """W_dec: random directions of norm 1; W_enc the same, of the kind's norm; biases 0 (x is centred)."""
    w_dec = torch.randn(start.m, start.d, generator=generator)
    w_dec /= w_dec.norm(dim=1, keepdim=True)
    return {
        "W_enc": w_dec * kind.encoder_norm,
        "b_enc": torch.zeros(start.m),
        "W_dec": w_dec,
        "b_pre": torch.zeros(start.d),
        **kind.start(start),
    }


class Member:
    """One training among those that see the same batches: its trainer, history and checkpoint."""

    def __init__(
        self,
        options: config.Train,
        x_nd: Tensor | Streamed,
        normalisation: Normalisation,
        space: Workspace,
        folder: Path,
        progress: Progress,
    ):
        self.options, self.folder, self.images = options, folder, len(x_nd)
        self.question = question(options, x_nd, normalisation)
        self.trainer = Trainer(options, len(x_nd), space, x_nd.shape[1])
        self.history: list[HistoryRow] = []
        self.steps = 0
        self.seconds = 0.0
        self.penalty = torch.zeros((), dtype=torch.float64, device=x_nd.device)
        self.fired_m = torch.zeros_like(self.trainer.weights["b_enc"], dtype=torch.bool)
        self.bad_step = torch.full((), -1, dtype=torch.int64, device=x_nd.device)
        files.make_folder(folder)
        self._resume(progress)

    def step(self, x_nd: Tensor, near: Sparse | None) -> None:
        began = time.monotonic()
        done = self.trainer.step(x_nd, near)
        self.steps += 1
        self.penalty += done.penalty * len(x_nd)
        self.fired_m |= done.fired_m
        # Looked at when the device is read anyway, so that no step waits for it.
        bad = ~torch.isfinite(done.error + done.penalty) & (self.bad_step < 0)
        self.bad_step.masked_fill_(bad, self.steps)
        self.seconds += time.monotonic() - began

    def end_epoch(self, x_seen_nd: Tensor) -> HistoryRow:
        """Measure, append to the history, and start to count anew."""
        self._stop_if_bad()
        with using(self.trainer.products):
            found = quality(self.options.sae, self.trainer.weights, x_seen_nd)
        loss = found.mse + float(self.penalty) / self.images
        dead = int((~self.fired_m).sum())
        row = HistoryRow(
            self.steps, len(self.history) + 1, loss, found.mse, found.l1, found.active_share, found.fve, dead
        )
        self.history.append(row)
        self.penalty.zero_()
        self.fired_m.zero_()
        files.append_line(self.folder / HISTORY, json.dumps(dataclasses.asdict(row)), durable=False)
        return row

    def save(self) -> None:
        """Write the checkpoint, unless the loss went bad since the last one."""
        self._stop_if_bad()
        own = {"penalty": self.penalty, "fired": self.fired_m}
        facts: dict[str, Any] = dict(
            question=self.question, steps=self.steps, share=self.trainer.share, seconds=self.seconds,
            products=dataclasses.asdict(self.trainer.products),
            history=[dataclasses.asdict(row) for row in self.history],
        )  # fmt: skip
        checkpoint.save(self.folder, self.trainer.state() | own, facts)

    def _stop_if_bad(self) -> None:
        step = int(self.bad_step)
        if step >= 0:
            epoch, batch = divmod(step - 1, -(-self.images // (self.options.batch or 1)))
            raise UserError(
                f"the loss is no longer a number at step {step} (epoch {epoch + 1}, batch {batch + 1}) of "
                f"{self.question}",
                f"{self.folder} (the last good checkpoint is kept)",
                "train with a smaller --lr",
            )

    def _resume(self, progress: Progress) -> None:
        found = checkpoint.load(self.folder)
        if found is not None and found[1]["question"] != self.question:
            progress.say(f"the checkpoint in {self.folder} is of another training: starting anew")
            found = None
        if found is not None:
            tensors, facts = found
            products = restored(facts.get("products"))
            if products is None:
                progress.say("the products of this training cannot be carried out by the library that it began with: "
                             "its last bits will differ")  # fmt: skip
            self.trainer.restore(tensors, facts["share"], products or Products())
            self.steps, self.seconds = facts["steps"], facts["seconds"]
            self.history = [_row(row) for row in facts["history"]]
            self.penalty.copy_(tensors["penalty"])
            self.fired_m.copy_(tensors["fired"])
            progress.say(f"going on after step {self.steps}")
        lines = [json.dumps(dataclasses.asdict(row)) + "\n" for row in self.history]
        files.write(self.folder / HISTORY, "".join(lines), durable=False)


def run_epochs(
    members: list[Member], x_nd: Tensor | Streamed, x_seen_nd: Tensor, progress: Progress, every: float
) -> None:
    """Take every member to its last epoch, with checkpoints every so many seconds. After a kill between two of their
    checkpoints members stand at different steps: those ahead wait."""
    options = members[0].options
    assert options.epochs and options.batch
    rows = x_nd if isinstance(x_nd, Streamed) else InMemory(x_nd)
    batches = rows.batches(options.batch)
    steps, total = min(member.steps for member in members), options.epochs * batches
    saved = time.monotonic()
    what = "train" if len(members) == 1 else f"train {len(members)} together"
    with progress.task(what, total=total, unit="steps") as task:
        task.advance(steps)
        batch = rows.epoch(options.seed, steps // batches, options.batch)
        while steps < total:
            x_batch_nd = batch(steps % batches)
            due = [member for member in members if member.steps == steps]
            for space in {id(member.trainer.space): member.trainer.space for member in due}.values():
                alike = [member for member in due if member.trainer.space is space]
                began = time.monotonic()
                near = near_all([member.trainer for member in alike], x_batch_nd)
                took = time.monotonic() - began
                for member in alike:
                    member.seconds += took / len(alike)
                    member.step(x_batch_nd, near)
            steps += 1
            if steps % batches == 0:
                wait_for(x_nd.device, due)
                show(task, [member.end_epoch(x_seen_nd) for member in due])
                batch = rows.epoch(options.seed, steps // batches, options.batch)
            else:
                task.advance(1)
            if time.monotonic() - saved > every or steps == total:
                for member in due:
                    member.save()
                saved = time.monotonic()


def wait_for(device: torch.device, members: list[Member]) -> None:
    """Steps on a GPU return before they are done: what is left of them at the end of an epoch is their time as well."""
    if device.type == "cuda":
        began = time.monotonic()
        torch.cuda.synchronize(device)
        took = time.monotonic() - began
        for member in members:
            member.seconds += took / len(members)


def _row(saved: dict[str, Any]) -> HistoryRow:
    """A row of a checkpoint; one of an older version calls the share of active neurons `l0`."""
    return HistoryRow(**{"active_share" if name == "l0" else name: value for name, value in saved.items()})


def show(task: Task, rows: list[HistoryRow]) -> None:
    """Report the end of an epoch (of the first member, where there are several)."""
    row = rows[0]
    task.advance(1, epoch=row.epoch, loss=row.loss, fve=row.fve, active_share=row.active_share, dead=row.dead)


def question(options: config.Train, x_nd: Tensor | Streamed, normalisation: Normalisation) -> dict[str, Any]:
    """What is being trained on what, as JSON: a checkpoint is only used for the same question."""
    data = hashlib.sha256(normalisation.mean_d.tobytes() + np.float64(normalisation.scale).tobytes()).hexdigest()
    kind = {"kind": type(options.sae).__name__, **dataclasses.asdict(options.sae)}
    own = {name: getattr(options, name) for name in ("expansion", "epochs", "lr", "batch", "seed")}
    own |= {"token_memory_mib": options.token_memory_mib} if isinstance(x_nd, Streamed) else {}
    return {**kind, **own, "images": len(x_nd), "d": x_nd.shape[1], "data": data[:16]}


AUTO = ("cuda", "cpu")
"""What `--device auto` means for an SAE: MPS can be asked for, to encode."""


def device_name(device: torch.device) -> str:
    """`cpu, 2 threads`, or the name of the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type
