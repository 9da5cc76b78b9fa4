"""What a study of N images will take: a model of unit costs, so that it can be read before anything is bought.

Every figure of `Units` was measured on one CPU by `tests/bench/bench_plan.py` (how: docs/scale.md); on another machine
the same bench writes a file for `--units`. Nothing on a GPU was measured: seconds there are arithmetic over an assumed
rate, and every line that holds one says so. The model is for one machine; `--shard i/N` divides core hours by N.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from medsae import config as c
from medsae.progress import UserError

GIB = 2**30


@dataclass(frozen=True)
class Units:
    """Unit costs: seconds of one core (`_s`), bytes, as measured (docs/scale.md says where and when)."""

    start_ingest_s: float = 2.57
    """Starting `ingest` and publishing its artifact; so the others."""
    start_embed_s: float = 4.13
    start_train_s: float = 4.89
    start_score_s: float = 2
    check_picture_s: float = 0.00164
    """ingest: a picture, whatever its size: reading, hashing, thumbnail, tables."""
    check_megapixel_s: float = 0.000952
    """ingest: decoding and scaling down a million pixels more."""
    encode_picture_s: float = 0.000533
    """embed: reading and preparing a small picture, beside the network."""
    encode_megapixel_s: float = 0.00326
    """embed: decoding a million pixels."""
    train_cell_s: float = 5.23e-11
    """train: one image x neuron x dimension of a step that works on a list of active cells (top-k)."""
    train_pass_cell_s: float = 0
    """train: one image x neuron x dimension once, whatever the epochs: which neurons are dead."""
    train_image_s: float = 1.43e-05
    """train: one image of an epoch, beside its cells."""
    start_maps_s: float = 6.3
    """score: the encoder loaded, and the mean map, where maps are made."""
    score_cell_s: float = 2.9e-11
    """score: one image x neuron x dimension of a pass that computes activations."""
    score_firing_s: float = 1.38e-09
    """score: one activation above zero x draw x label, of null and bootstrap."""
    score_drawn_s: float = 3.08e-07
    """score: one neuron x draw x label: entropies and measures of each draw."""
    score_moved_s: float = 1.3e-07
    """score: one image x draw: whose labels it takes."""
    score_image_s: float = 2.5e-4
    """score: an image with 16 activations, once: what else neurons follow, AUROC, neighbours, tables."""
    score_neuron_s: float = 2.2e-3
    """score: a neuron, beside its activations: the map of neurons, neighbours, tables."""
    base_mib: float = 600
    """Memory of a step before it holds any data."""
    ingest_image_bytes: float = 1500
    """Memory of ingest for each row of the table."""
    embed_image_bytes: float = 400
    """Memory of embed for an image: path and sha256 as text (counted, not measured); x itself is written in blocks."""
    train_value_bytes: float = 8
    """Memory of train for each value of the training rows, while they are loaded: as read, and normalised (counted)."""
    score_base_mib: float = 290
    """Memory of score before it holds any data."""
    score_image_bytes: float = 500
    """Memory of score for an image: labels, residual labels, patients, attributes."""
    score_neuron_bytes: float = 49_152
    """Memory of score for a neuron: a block of 4,096 images, three times in float32."""
    score_firing_bytes: float = 12
    """Memory of score for an activation above zero that goes into the table."""
    thumbnail_bytes: float = 2400
    """Disk: the thumbnail of a picture."""
    table_image_bytes: float = 260
    """Disk: the rows of an image in the tables of a cohort."""
    table_firing_bytes: float = 7
    """Disk: an activation above zero in the tables of scores."""
    name_neuron_bytes: float = 5400
    """Disk: name and verdicts of a neuron in the ledger."""

    @staticmethod
    def read(path: Path | None) -> Units:
        """The shipped ones, or those of a file that `tests/bench/bench_plan.py` wrote; UserError for another file."""
        if path is None:
            return Units()
        try:
            found = json.loads(path.read_text("utf-8"))
            names = {f.name for f in fields(Units)}
            good = isinstance(found, dict) and all(isinstance(v, int | float) and v >= 0 for v in found.values())
        except (OSError, ValueError) as error:
            raise UserError(f"the unit costs cannot be read ({error})", path, "leave --units out") from error
        if not good or not set(found) <= names:
            raise UserError("this is no file of unit costs", path, f"names and numbers of: {', '.join(sorted(names))}")
        return replace(Units(), **found)


@dataclass(frozen=True)
class Network:
    """An encoder's size and cost."""

    d: int
    gflop: float
    """Of one picture: two for each multiplication and addition."""
    core_s: float | None
    """Measured seconds of one core a picture, float32; None: not measured, taken from `gflop` and CORE_GFLOPS."""

    def on_core(self) -> float:
        return self.gflop / CORE_GFLOPS if self.core_s is None else self.core_s


CORE_GFLOPS = 100.0
"""Billion operations a second that a core reaches in a network whose time was not measured."""
NETWORKS = {
    "simclip": Network(128, 0.1, 1.0e-3),
    "efficientnet-lite0": Network(1280, 0.8, 0.045),
    "medclip-resnet": Network(512, 8.2, 0.029),
    "medclip-vit": Network(512, 9.0, 0.071),
    "hf:microsoft/rad-dino": Network(768, 300.0, None),
}
"""Cost of the encoders that are known here; another one is told by --d and --gflop."""
BYTES_A_PIXEL = 0.4
"""Of a grey JPEG (CheXpert-small: 0.39)."""
TABLE_FIRING = 60_000_000
"""Activations above zero that `score` writes to its table; of more, the 500 largest of each neuron."""
HELD_FIRING = 2**25
"""Activations above zero that `score` holds in memory; those beyond lie on disk, 8 bytes each, while it runs."""
STREAMED_BYTES = 4 * GIB
"""Training rows beyond this stay on disk (`train --stream-above-mib`)."""
TRAIN_SHARE, LABELS, DRAWS = 0.7, 14, 400
TOP_IMAGES, MAP_ENCODES = 24, 2.6
"""Images of a neuron that maps are made of, and what a map takes beside encoding the image once (measured: 2.6 x)."""
QUESTIONS, QUESTION_GFLOP = 121, 12_000.0
"""naming by `strict`: questions a neuron (a name, then 30 + 30 images, each asked about two names); billion operations
a question of a model of 4 billion parameters (350 tokens, a vision tower of 3.3 times their reading): assumed."""


@dataclass(frozen=True)
class Machine:
    """What the study runs on, and what it costs."""

    cores: int
    gpus: int
    memory_gib: float
    disk_gb: float
    days: float
    """Longest that a step may take."""
    gpu_tflops: float
    """Assumed: reached by a GPU, in thousand billion operations a second of float32."""
    gpu_low_tflops: float
    """Assumed: the same in bfloat16 (encoders, vision-language models)."""
    core_hour: float
    gpu_hour: float
    gb_month: float
    """Dollars."""


@dataclass(frozen=True)
class Study:
    """What is asked."""

    images: int
    network: Network
    neurons: int
    megapixels: float
    picture_kb: float
    active: float
    epochs: int
    named: int
    labels: int = LABELS
    maps: bool = True
    draws: int = DRAWS
    """Of null and bootstrap together."""

    @property
    def trained(self) -> float:
        return TRAIN_SHARE * self.images

    @property
    def firing(self) -> float:
        return self.images * self.active


@dataclass(frozen=True)
class Cost:
    """What one step takes."""

    core_s: float
    gpu_s: float = 0.0
    """Assumed, never measured."""
    memory_bytes: float = 0.0
    disk_bytes: float = 0.0


Step = Callable[[Study, Machine, Units], Cost]


def ingest(study: Study, machine: Machine, units: Units) -> Cost:
    each = units.check_picture_s + units.check_megapixel_s * study.megapixels
    kept = units.thumbnail_bytes + units.table_image_bytes + 1e3 * study.picture_kb
    memory = _memory(study.images * units.ingest_image_bytes, units)
    return Cost(units.start_ingest_s + study.images * each, 0.0, memory, study.images * kept)


def embed(study: Study, machine: Machine, units: Units) -> Cost:
    core, gpu = _encoded(study, machine, units)
    memory = _memory(study.images * units.embed_image_bytes, units)
    return Cost(units.start_embed_s + study.images * core, study.images * gpu, memory,
                4.0 * study.images * study.network.d)  # fmt: skip


def _encoded(study: Study, machine: Machine, units: Units) -> tuple[float, float]:
    """Seconds of core and GPU for one picture through the encoder."""
    core = units.encode_picture_s + units.encode_megapixel_s * study.megapixels
    if machine.gpus:
        return core, study.network.gflop / (1e3 * machine.gpu_low_tflops)
    return core + study.network.on_core(), 0.0


def train(study: Study, machine: Machine, units: Units) -> Cost:
    d, m = study.network.d, study.neurons
    rows = study.epochs * study.trained
    loaded = study.trained * d * 4
    held = study.trained * d * units.train_value_bytes if loaded <= STREAMED_BYTES else 1.5 * GIB
    weights = 2.0 * d * m * 4
    memory = _memory(held + 6 * weights, units)
    if machine.gpus:  # there every step is on all cells: five products
        gpu = rows * 10 * d * m / (1e12 * machine.gpu_tflops)
        return Cost(units.start_train_s + rows * units.train_image_s, gpu, memory, weights)
    core = units.start_train_s + rows * (units.train_image_s + d * m * units.train_cell_s)
    return Cost(core + study.trained * d * m * units.train_pass_cell_s, 0.0, memory, weights)


def score(study: Study, machine: Machine, units: Units) -> Cost:
    n, m = study.images, study.neurons
    core = sum(getattr(units, cost) * times for cost, times in score_terms(study).items())
    if study.maps:  # the strongest images of each neuron go through the encoder again
        core += units.start_maps_s + MAP_ENCODES * min(n, TOP_IMAGES * m) * sum(
            _encoded(study, replace(machine, gpus=0), units)
        )
    kept = study.firing if study.firing <= TABLE_FIRING else min(study.firing, 500.0 * m)
    rows = 4.0 * n * study.network.d
    held = 8 * min(study.firing, HELD_FIRING) + kept * units.score_firing_bytes + n * units.score_image_bytes
    held += (rows if rows <= GIB else 0) + m * units.score_neuron_bytes  # more rows stay on disk
    held += study.draws / 2 * m * study.labels * 4  # strengths of every draw of the null
    return Cost(core, 0.0, units.score_base_mib * 2**20 + held, kept * units.table_firing_bytes)


def score_terms(study: Study) -> dict[str, float]:
    """How often each unit cost of `score` is paid."""
    n, m, drawn = float(study.images), float(study.neurons), float(study.draws)
    return {
        "start_score_s": 1, "score_image_s": n, "score_neuron_s": m, "score_cell_s": n * study.network.d * m,
        "score_firing_s": study.firing * drawn * study.labels, "score_drawn_s": m * drawn * study.labels,
        "score_moved_s": n * drawn,
    }  # fmt: skip


def name(study: Study, machine: Machine, units: Units) -> Cost:
    """A model on a GPU (without one a server elsewhere answers, whose hours are counted all the same)."""
    questions = study.named * QUESTIONS
    seconds = questions * QUESTION_GFLOP / (1e3 * machine.gpu_low_tflops)
    return Cost(
        units.start_embed_s + questions * 0.01, seconds, _memory(0, units), study.named * units.name_neuron_bytes
    )


def _memory(data: float, units: Units) -> float:
    return units.base_mib * 2**20 + data


STEPS: dict[str, Step] = {"ingest": ingest, "embed": embed, "train": train, "score": score, "name": name}
THEN = {
    ("ingest", "time"): "ingest --shard i/N on N machines, then merge",
    ("ingest", "memory"): "one cohort a data set; a machine with more memory reads the table",
    ("ingest", "disk"): "pictures stay in the bucket (--root s3://...); thumbnails are what remains",
    ("embed", "time"): "a GPU, or embed --shard i/N on N machines, then merge",
    ("embed", "memory"): "a machine with more memory for the merge, or an encoder of fewer dimensions",
    ("embed", "disk"): "a larger disk: embeddings are 4 bytes x d an image",
    ("train", "time"): "a GPU; fewer --epochs (an image seen once in 10 M is much already)",
    ("train", "memory"): "fewer neurons (--expansion): rows are streamed from disk already",
    ("train", "disk"): "fewer neurons (--expansion)",
    ("score", "time"): "score --shard i/N on N machines, then merge; fewer --draws; or --images evaluation",
    ("score", "memory"): "score --images evaluation, or a cohort that is a sample of the images",
    ("score", "disk"): "score --images evaluation",
    ("name", "time"): "name fewer neurons (--neurons), or several endpoints",
    ("name", "memory"): "a server on another machine",
    ("name", "disk"): "name fewer neurons",
}
"""What is done where a step of this machine breaks."""


@dataclass(frozen=True)
class Line:
    """A step as it is told: hours of cores and GPUs, GiB at most held, GB left on disk, wall hours, dollars; the number
    of images at which it no longer fits on the machine, by what, and what is done then."""

    step: str
    core_hours: float
    gpu_hours: float
    memory_gib: float
    disk_gb: float
    hours: float
    dollars: float
    fits_to: int
    breaks_by: str
    then: str


@dataclass(frozen=True)
class Plan:
    """All steps of one study on one machine."""

    images: int
    lines: Sequence[Line]

    @property
    def first(self) -> Line:
        """The step that breaks at the fewest images."""
        return min(self.lines, key=lambda line: line.fits_to)

    def record(self) -> dict[str, Any]:
        return {"images": self.images, "steps": [asdict(line) for line in self.lines], "breaks_first": self.first.step,
                "dollars": sum(line.dollars for line in self.lines)}  # fmt: skip


def plan(study: Study, machine: Machine, units: Units) -> Plan:
    """What each step takes, and which breaks first."""
    return Plan(study.images, [_line(step, study, machine, units) for step in STEPS])


def _line(step: str, study: Study, machine: Machine, units: Units) -> Line:
    cost = STEPS[step](study, machine, units)
    core_h, gpu_h, gb = cost.core_s / 3600, cost.gpu_s / 3600, cost.disk_bytes / 1e9
    to, by = _breaks(step, study, machine, units)
    paid = core_h * machine.core_hour + gpu_h * machine.gpu_hour + gb * machine.gb_month
    return Line(step, core_h, gpu_h, cost.memory_bytes / GIB, gb, _hours(cost, machine), paid, to, by, THEN[step, by])


def _hours(cost: Cost, machine: Machine) -> float:
    return max(cost.core_s / machine.cores, cost.gpu_s / max(1, machine.gpus)) / 3600


MOST = 10**12


def _breaks(step: str, study: Study, machine: Machine, units: Units) -> tuple[int, str]:
    """The most images that the step does on this machine, and what ends it (memory, time or disk)."""
    limits: dict[str, Callable[[Cost], bool]] = {
        "memory": lambda cost: cost.memory_bytes > machine.memory_gib * GIB,
        "time": lambda cost: _hours(cost, machine) > 24 * machine.days,
        "disk": lambda cost: cost.disk_bytes > 1e9 * machine.disk_gb,
    }

    def at(images: int) -> Cost:
        return STEPS[step](replace(study, images=images), machine, units)

    found = {by: _most(lambda n, over=over: over(at(n))) for by, over in limits.items()}
    by = min(found, key=lambda name: found[name])
    return found[by], by


def _most(over: Callable[[int], bool]) -> int:
    """The largest number of images below MOST before the first at which `over` is true, by doubling and halving."""
    high = 1
    while high < MOST and not over(high):
        high *= 2
    low = high // 2
    while high - low > max(1, low // 200):
        middle = (low + high) // 2
        low, high = (low, middle) if over(middle) else (middle, high)
    return min(low, MOST)


def asked(config: c.Plan) -> tuple[Plan, Machine]:
    """The plan of a command line; UserError for an encoder of which nothing is known."""
    machine = Machine(config.cores, config.gpus, config.memory_gib, config.disk_gb, config.days, config.gpu_tflops,
                      config.gpu_low_tflops, config.core_hour, config.gpu_hour, config.gb_month)  # fmt: skip
    kilobytes = config.picture_kb or BYTES_A_PIXEL * 1e3 * config.megapixels
    named = config.neurons if config.named is None else min(config.named, config.neurons)
    study = Study(config.pictures, network(config.encoder, config.d, config.gflop), config.neurons, config.megapixels,
                  kilobytes, min(config.active, config.neurons), config.epochs, named)  # fmt: skip
    return plan(study, machine, Units.read(config.units)), machine


def network(encoder: str, d: int | None, gflop: float | None) -> Network:
    """The encoder by its name, with what was given of it."""
    known = NETWORKS.get(encoder)
    if known is None and (d is None or gflop is None):
        raise UserError(f"nothing is known of what {encoder} costs", None,
                        f"give --d and --gflop (of one picture), or one of {', '.join(NETWORKS)}")  # fmt: skip
    base = known or Network(1, 1.0, None)
    if gflop is not None:
        base = replace(base, gflop=gflop, core_s=None)
    return base if d is None else replace(base, d=d)


# --- as a table -------------------------------------------------------------------------------------------------------


def table(made: Plan, machine: Machine) -> str:
    """What a person reads: a line a step, the sum, what breaks first and what is done then."""
    head = f"{'step':8}{'core h':>10}{'GPU h':>9}{'hours':>9}{'GiB held':>10}{'GB kept':>10}{'$':>10}  fits to"
    rows = [f"{made.images:,} images on {machine.cores} cores, {machine.gpus} GPUs, {machine.memory_gib:g} GiB", head]
    for line in made.lines:
        to = "any number" if line.fits_to >= MOST // 2 else f"{_round(line.fits_to)} images ({line.breaks_by})"
        rows.append(f"{line.step:8}{line.core_hours:10,.1f}{line.gpu_hours:9,.2f}{line.hours:9,.1f}"
                    f"{line.memory_gib:10,.1f}{line.disk_gb:10,.1f}{line.dollars:10,.2f}  {to}")  # fmt: skip
    sums = [sum(getattr(line, field) for line in made.lines) for field in ("core_hours", "gpu_hours", "hours")]
    gb, dollars = (sum(getattr(line, field) for line in made.lines) for field in ("disk_gb", "dollars"))
    rows.append(f"{'all':8}{sums[0]:10,.1f}{sums[1]:9,.2f}{sums[2]:9,.1f}{'':10}{gb:10,.1f}{dollars:10,.2f}")
    first = made.first
    done = [line for line in made.lines if line.fits_to < made.images]
    if done:
        rows += [f"{line.step} does not fit ({line.breaks_by}): {line.then}" for line in done]
    rows.append(
        "GPU hours are arithmetic over assumed rates (--gpu-tflops, --gpu-low-tflops), core hours over measured ones"
    )
    rows.append(f"first to break: {first.step}, at {_round(first.fits_to)} images, by {first.breaks_by}; "
                f"then: {first.then}")  # fmt: skip
    return "\n".join(rows)


def _round(n: int) -> str:
    """Two digits of a number that is a model's."""
    digits = max(0, len(str(n)) - 2)
    return f"{round(n, -digits):,}"
