"""How to compute: the device, and the precision and memory layout that are measured to be faster there.

Three ways are timed on a sample of the pictures: fp32; fp32 with channels last; bf16 with channels last. A way is taken
only when it is at least GAIN times as fast as the best before it, and bf16 only when no embedding of the sample turns
by more than LEAST_COSINE allows (a forced bf16 is only recorded).
"""

from __future__ import annotations

import copy
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from medsae import files, seals
from medsae.device import pick
from medsae.encoders import Encoder
from medsae.progress import Progress

GAIN = 1.1
LEAST_COSINE = 0.999
ROUNDS = 4
"""The first warms up."""
FEW = 4
"""Pictures a thread in a timed pass on a CPU."""
MOST_LANES = 16
"""Batches at once on a CPU: each holds its own activations (about 0.2 GB for 32 pictures in a ResNet-50)."""
CHOSEN = ("precision", "channels_last", "cosine_to_fp32")
"""The fields of a plan that are measured."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides the bits of an embedding besides picture and weights."""

    device: str
    precision: Literal["fp32", "bf16"]
    channels_last: bool
    cosine_to_fp32: float | None
    batch: int
    torch: str


class Runner:
    """A copy of the network on the plan's device and precision. A context: it owns threads on a CPU.

    On a CPU several batches are computed at once, each by one thread, instead of one batch by all threads: the bits do
    not depend on the number of threads then, and no thread waits for another inside a layer (docs/decisions/037).
    """

    def __init__(self, module: nn.Module, plan: Plan):
        self.plan = plan
        self.dtype = torch.bfloat16 if plan.precision == "bf16" else torch.float32
        self.module = copy.deepcopy(module).eval().to(plan.device, self.dtype)
        if plan.channels_last:
            self.module = self.module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.in_flight = min(torch.get_num_threads(), MOST_LANES) if plan.device == "cpu" else 1
        """Batches to start before the result of the first is fetched."""
        self.lanes: ThreadPoolExecutor | None = None

    def __enter__(self) -> Runner:
        self.threads_before = torch.get_num_threads()
        if self.plan.device == "cpu":
            self.lanes = ThreadPoolExecutor(self.in_flight, "network", torch.set_num_threads, (1,))
        return self

    def __exit__(self, *exc: object) -> None:
        if self.lanes is not None:
            self.lanes.shutdown(cancel_futures=True)
        torch.set_num_threads(self.threads_before)

    def start(self, inputs: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Begin with float32 [b, c, s, s] of the host; what is returned waits for float32 [b, d] on the host."""
        if self.lanes is not None:
            return self.lanes.submit(self._forward, inputs).result
        output = self._forward(inputs)
        return lambda: output.float().cpu()

    def _forward(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            inputs = inputs.to(self.plan.device, self.dtype, non_blocking=True)
            output = self.module(channels_last(inputs) if self.plan.channels_last else inputs)
            return output.float() if self.plan.device == "cpu" else output


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """`x` with channels-last strides, also where one channel makes both layouts the same memory: torch takes such an
    input for channels first and would compute the whole network that way."""
    _, c, h, w = x.shape
    return x.contiguous(memory_format=torch.channels_last).as_strided(x.shape, (c * h * w, 1, w * c, c))


def make_plan(
    encoder: Encoder,
    sample: torch.Tensor,
    device: str,
    precision: str,
    batch: int,
    choices: Path | None,
    progress: Progress,
) -> Plan:
    """The plan for this machine, from the file `choices` where it has been measured before, else measured on `sample`
    (float32 [b, c, s, s])."""
    device = pick(device).type
    plain = Plan(device, "fp32", False, None, batch, torch.__version__)
    network = (encoder.name, encoder.weights_sha256[:16])
    key = "|".join([*network, _hardware(device), plain.torch, precision])
    known = _read(choices)
    if key in known:
        made = replace(plain, **known[key])
    else:
        made = _fastest(encoder.module, sample, plain, precision, progress)
        _write(choices, known | {key: {name: getattr(made, name) for name in CHOSEN}})
    close = "" if made.cosine_to_fp32 is None else f", smallest cosine to fp32 {made.cosine_to_fp32:.5f}"
    progress.say(f"computing on {device} in {made.precision}{', channels last' if made.channels_last else ''}{close}")
    return made


def _fastest(module: nn.Module, sample: torch.Tensor, plain: Plan, precision: str, progress: Progress) -> Plan:
    """The ways take turns, so that a busy moment of the machine falls on all; the least time of each counts."""
    ways = [plain, replace(plain, channels_last=True)] if precision != "bf16" else []
    if precision != "fp32":
        ways.append(replace(plain, precision="bf16", channels_last=True))
    exact = _output(Runner(module, plain), sample)
    runners = [Runner(module, way) for way in ways]
    least = [float("inf")] * len(ways)
    few = sample[: FEW * runners[0].in_flight] if plain.device == "cpu" else sample
    with progress.task("choosing precision and layout", ROUNDS, "rounds") as task:
        for _ in range(ROUNDS):
            for i, run in enumerate(runners):
                began = time.perf_counter()
                _output(run, few)
                least[i] = min(least[i], time.perf_counter() - began)
            task.advance()
    best, best_seconds = ways[0], float("inf")
    for way, run, seconds in zip(ways, runners, least, strict=True):
        if way.precision == "bf16":
            close = torch.cosine_similarity(_output(run, sample), exact).min()
            way = replace(way, cosine_to_fp32=float(close))
            if precision != "bf16" and not close >= LEAST_COSINE:
                progress.say(f"bf16 is not used: its smallest cosine to fp32 is {close:.5f}")
                continue
        if seconds * GAIN < best_seconds:
            best, best_seconds = way, seconds
    return best


def _output(run: Runner, sample: torch.Tensor) -> torch.Tensor:
    with run:
        parts = sample.split(FEW if run.plan.device == "cpu" else len(sample))
        return torch.cat([wait() for wait in [run.start(part) for part in parts]])


def _hardware(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{device} {platform.machine()} {torch.backends.cpu.get_cpu_capability()} {os.cpu_count()}"


def _read(choices: Path | None) -> dict:
    try:
        return seals.read(choices) if choices else {}
    except (FileNotFoundError, ValueError):
        return {}  # measured anew


def _write(choices: Path | None, known: dict) -> None:
    if choices is None:
        return
    files.make_folder(choices.parent)
    files.write(choices, seals.text(known))
