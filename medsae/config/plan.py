"""`plan`: what a study of so many images will take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medsae.config.base import Command, check


@dataclass(frozen=True, kw_only=True)
class Plan(Command):
    """What a study of so many images will take, step by step: core hours, GPU hours, memory, disk, dollars, and which
    step breaks first. Core hours by measured unit costs, GPU hours by assumed rates (docs/scale.md)."""

    pictures: int
    """Images of the study."""
    encoder: str = "simclip"
    """Encoder; of one whose cost is not known here give --d and --gflop."""
    neurons: int = 8192
    """Neurons of the SAE."""
    gpus: int = 0
    """GPUs; without, encoder and SAE run on the cores."""
    cores: int = 8
    """Cores."""
    memory_gib: float = 32.0
    """Memory of the machine."""
    disk_gb: float = 2000.0
    """Room for what each step keeps."""
    days: float = 7.0
    """Longest that one step may take."""
    d: int | None = None
    """Dimensions of the embeddings (default: the encoder's)."""
    gflop: float | None = None
    """Billion operations of the encoder for a picture (default: the encoder's)."""
    megapixels: float = 0.12
    """Million pixels of a picture: 0.12 is CheXpert-small, 6 a full radiograph."""
    picture_kb: float | None = None
    """Kilobytes of a picture's file (default: 0.4 bytes a pixel)."""
    active: float = 16.0
    """Active neurons an image."""
    epochs: int = 60
    """Epochs of the training."""
    named: int | None = None
    """Neurons that are named (default: all)."""
    gpu_tflops: float = 20.0
    """Assumed of a GPU: thousand billion operations a second that it reaches in float32."""
    gpu_low_tflops: float = 200.0
    """Assumed of a GPU: the same in bfloat16, for encoders and vision-language models."""
    core_hour: float = 0.05
    """Dollars of an hour of a core (2025 list prices of large clouds, on demand, rounded; give yours)."""
    gpu_hour: float = 4.0
    """Dollars of an hour of a GPU of the class of an H100 (the same)."""
    gb_month: float = 0.023
    """Dollars of a gigabyte in object storage for a month; each step's is counted once (the same)."""
    units: Path | None = None
    """A file of unit costs measured on your machine (tests/bench/bench_plan.py units)."""

    step = "plan"

    def __post_init__(self) -> None:
        for name in ("pictures", "neurons", "cores", "epochs"):
            check(getattr(self, name) >= 1, f"--{name} {getattr(self, name)} must be at least 1")
        for name in ("gpus", "core_hour", "gpu_hour", "gb_month"):
            check(getattr(self, name) >= 0, f"--{name.replace('_', '-')} must not be negative")
        for name in ("memory_gib", "disk_gb", "days", "megapixels", "active", "gpu_tflops", "gpu_low_tflops"):
            check(getattr(self, name) > 0, f"--{name.replace('_', '-')} must be positive")
        for name in ("d", "gflop", "picture_kb", "named"):
            value = getattr(self, name)
            check(value is None or value > 0, f"--{name.replace('_', '-')} must be positive")
