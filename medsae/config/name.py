"""`name`: words for neurons, put to the test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro.conf

from medsae.config.base import Command, Protocol, Sharded, added, check, numbers, repeated, runtime

NO_MODEL = ("labels", "reports", "vocabulary")
"""Backends that look at no picture."""


@dataclass(frozen=True, kw_only=True)
class Name(Sharded, Command):
    """Name neurons and put the names to the test: which pictures fire, judged by someone who knows only the name."""

    scores: str
    """Id (or unique beginning of the id) of the scores."""
    neurons: str | None = None
    """Comma-separated neurons: 12,57."""
    top: int | None = None
    """The best N neurons --by a measure, of those that fire on enough pictures to be named and tested."""
    by: Literal["entropy", "correlation", "density"] = "entropy"
    """What --top orders by: lowest entropy, strongest |rho|, or highest density."""
    all: bool = False
    """Every neuron."""
    backend: str = "labels"
    """Who names and judges: `labels` (no model, the baseline), `endpoint` (a server), `medgemma` (in this process), or
    one that an installed package adds."""
    protocol: Protocol = "strict"
    """`strict`: one picture a prompt, naming and detection patients disjoint. `paper`: the published way."""
    model: str | None = None
    """endpoint: name of the model (default: the only one served). medgemma: google/medgemma-4b-it (default), a folder,
    or simgemma, a small one that comes with the program and knows only simulated radiographs."""
    endpoint: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = repeated()
    """endpoint: base address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1. Given several times: all
    serve the same model, and the least busy is asked."""
    pictures: int | None = None
    """Firing and silent pictures each that a name is tested on (default: 30, or fewer where these scores do not allow
    so many; it is said)."""
    namer: str | None = added(None)
    """Another backend that gives the names, such as `reports` or `labels`; --backend then only judges."""
    in_words: bool = added(False)
    """The model of --backend puts into words what --namer found, without pictures, and then judges it. What --namer
    says of a neuron (enriched phrases, never sentences of reports) is part of the question."""
    reports: str | None = added(None)
    """Column of the cohort that holds report text (default: the only one)."""
    test: Literal["detection", "intruder", "rank"] = added("detection")
    """`detection`: does this picture show the concept? `intruder`: which of five pictures does not belong (needs no
    name)? `rank`: which of five excites the neuron most, for one who knows its name?"""
    against: Literal["ordinary", "hard"] = added("ordinary")
    """What naming compares with: ordinary radiographs as the model knows them, or `hard`, silent pictures with the
    neuron's own label shown beside (strict)."""
    hard: float = 0.0
    """Share of the silent pictures that carry the neuron's own label (hard negatives; strict)."""
    controls: bool = True
    """Judge the same pictures for another neuron's name and for a random description too."""
    audit: bool = runtime(True)
    """First ask a judge that these scores have not met about the cohort's own labels: what can it see?"""
    four_bit: bool = False
    """medgemma: weights in 4 bits (needs a CUDA device and the package bitsandbytes)."""
    seed: int = 0
    """Seed of the choice of pictures and controls; sent to the model too."""
    force: bool = runtime(False)
    """Use simgemma on other pictures than simulated ones too; its names then mean nothing."""
    allow_remote: bool = runtime(False)
    """endpoint: allow an address outside this machine; radiographs are then sent there."""
    again: bool = runtime(False)
    """Ask anew what has been answered before; both answers stay."""
    watch: bool = runtime(False)
    """Keep the model loaded and take requests from the app."""
    cost: bool = runtime(False)
    """Print what it would cost, and stop."""
    concurrency: int = runtime(8)
    """endpoint: requests in flight at each server."""
    timeout_seconds: float = runtime(120.0)
    """endpoint: longest wait for one reply."""
    batch: int | None = runtime(None)
    """medgemma: prompts a forward pass (default: 8; simgemma: 64)."""
    idle_minutes: float = runtime(30.0)
    """watch: stop after so many minutes without a request."""
    device: Literal["auto", "cuda", "mps", "cpu"] = runtime("auto")
    """medgemma: where to compute."""

    step = "name"
    makes = "names"

    def __post_init__(self) -> None:
        Sharded.__post_init__(self)
        check(self.in_parts is None or not (self.watch or self.again),
              f"{self.in_parts} does not go with --watch or --again")  # fmt: skip
        check(self.on is None or not self.cost, "--cost asks nothing: leave --on out")
        chosen = [flag for flag, on in (("--neurons", self.neurons is not None), ("--top", self.top is not None),
                                        ("--all", self.all)) if on]  # fmt: skip
        check(len(chosen) <= 1, f"{' and '.join(chosen)} exclude each other")
        check(len(chosen) == 1 or self.watch, "which neurons?", do="give --neurons 12,57, --top 200, --all or --watch")
        check(self.top is None or self.top >= 1, f"--top {self.top} must be at least 1")
        self.neuron_list()
        given = (self.endpoint,) if isinstance(self.endpoint, str) else self.endpoint or ()
        object.__setattr__(self, "endpoint", given)
        check(bool(self.endpoint) or self.backend != "endpoint",
              "--backend endpoint and --endpoint ADDRESS go together")  # fmt: skip
        check(not self.endpoint or self.backend not in (*NO_MODEL, "medgemma"),
              "--backend endpoint and --endpoint ADDRESS go together")  # fmt: skip
        twice = next((one for one in self.endpoint if self.endpoint.count(one) > 1), None)
        check(twice is None, f"--endpoint {twice} is given twice")
        check(self.model is None or self.backend not in NO_MODEL,
              f"--model does not belong to --backend {self.backend}")  # fmt: skip
        check(self.namer != self.backend, f"--namer {self.namer} is what --backend does anyway", do="leave it out")
        check(not self.in_words or (self.namer in NO_MODEL and self.backend not in NO_MODEL),
              "--in-words: a model puts into words what --namer found",
              do="give --namer reports (or labels, vocabulary) and a --backend that is a model")  # fmt: skip
        check(not self.four_bit or self.backend == "medgemma", "--four-bit belongs to --backend medgemma")
        check(0 <= self.hard <= 1, f"--hard {self.hard} must lie in [0, 1]")
        check(self.hard == 0 or self.protocol == "strict", "--hard belongs to --protocol strict")
        check(self.against == "ordinary" or self.protocol == "strict", "--against hard belongs to --protocol strict")
        check(self.test == "detection" or self.pictures is None or self.pictures >= 5,
              f"--test {self.test} shows five pictures at once: --pictures must be at least 5")  # fmt: skip
        check(self.backend not in NO_MODEL or (self.test, self.against) == ("detection", "ordinary"),
              f"--backend {self.backend} looks at no picture: it is tested by detection alone, and compares nothing",
              do="choose another --backend")  # fmt: skip
        for name in ("pictures", "concurrency", "batch"):
            value = getattr(self, name)
            check(value is None or value >= 1, f"--{name} {value} must be at least 1")
        for name in ("timeout_seconds", "idle_minutes"):
            check(getattr(self, name) > 0, f"--{name.replace('_', '-')} must be positive")

    def neuron_list(self) -> list[int]:
        """The neurons of --neurons in the given order without repeats; UserError when it is not a list of numbers."""
        return numbers(self.neurons)
