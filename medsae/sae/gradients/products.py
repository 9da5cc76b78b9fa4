"""One product of fp32 matrices, by one of the libraries at hand: which is chosen once by measurement, and then kept.

torch multiplies fp32 matrices by MKL, which runs at half the rate of oneDNN on some processors of AMD (205 against 440
GFLOP/s on two cores of one) and faster than it on others, and which of them wins depends on the product. The last bits
of the two differ, so a training keeps what it began with: in its checkpoint, in its artifact, and for the next one of
this shape on this machine in a file (docs/decisions/135).
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor

from medsae import files

Library: TypeAlias = Literal["onednn", "torch"]
ONEDNN = torch.backends.mkldnn.is_available() and platform.machine().lower() in ("x86_64", "amd64")
DEFAULT: Library = "onednn" if ONEDNN else "torch"
"""Where nothing is chosen: reading an SAE, and products that are too small to matter."""
GAIN = 1.1
"""How many times as fast the other library must be to be taken instead."""
SMALL = 2**26
"""Multiplications: a product of fewer takes about a millisecond, and nothing is gained by choosing."""
ROUNDS = 4
"""The first warms up."""


@dataclass(frozen=True)
class Products:
    """Which library carries out each of the three products of a step on all cells (n images, d inputs, m neurons)."""

    correlate: Library = DEFAULT
    """[n, d] by [m, d] -> [n, m]: pre-activations, and the residual against the decoder."""
    decode: Library = DEFAULT
    """[n, m] by [d, m] -> [n, d]."""
    outer: Library = DEFAULT
    """[d, n] by [m, n] -> [d, m]: gradients of the weights."""

    @property
    def here(self) -> bool:
        """Whether this machine has all of them."""
        return ONEDNN or all(value == "torch" for value in asdict(self).values())


_PLAIN = Products()
_PRODUCTS: ContextVar[Products] = ContextVar("products", default=_PLAIN)
Which: TypeAlias = Literal["correlate", "decode", "outer"]


@contextlib.contextmanager
def using(products: Products) -> Iterator[None]:
    """Within the block this thread multiplies as `products` says."""
    token = _PRODUCTS.set(products)
    try:
        yield
    finally:
        _PRODUCTS.reset(token)


def times_transposed(a_nk: Tensor, b_mk: Tensor, which: Which = "correlate") -> Tensor:
    """a b^T in fp32 -> [n, m]. `b` may have any strides; `a` is copied if its rows are not contiguous."""
    library = getattr(_PRODUCTS.get(), which)
    fits = a_nk.device.type == "cpu" and a_nk.dtype == torch.float32 and a_nk.numel() and b_mk.numel()
    return _by(library if fits else "torch", a_nk, b_mk)


def _by(library: Library, a_nk: Tensor, b_mk: Tensor) -> Tensor:
    if library == "onednn":
        return torch.ops.mkldnn._linear_pointwise(a_nk, b_mk, None, "none", [], "")
    return a_nk @ b_mk.T


def choose(n: int, d: int, m: int, choices: Path | None = None) -> Products:
    """The products for n images at a time on this CPU: from the file `choices` where they were chosen before, else
    measured, once a process and shape, and written there."""
    if not ONEDNN or n * d * m < SMALL:
        return Products()
    key = "|".join([f"{n}x{d}x{m}", _processor(), torch.__version__, f"{torch.get_num_threads()} threads"])
    known = _read(choices)
    found = _parsed(known.get(key))
    if found is None:
        found = _measured(n, d, m, torch.get_num_threads())
        if choices is not None:
            files.make_folder(choices.parent)
            files.write(choices, json.dumps(known | {key: asdict(found)}, indent=1, sort_keys=True))
    return found


def restored(saved: object) -> Products | None:
    """Of a checkpoint, as `asdict` wrote them (one from before there was a choice has none: the default of then); None
    where this machine cannot multiply so."""
    found = Products() if saved is None else _parsed(saved)
    return found if found is not None and found.here else None


@cache
def _measured(n: int, d: int, m: int, threads: int) -> Products:
    """The least of some rounds of each, in turns, so that a busy moment of the machine falls on both."""
    x_nd, w_md, v_nm = torch.ones(n, d), torch.ones(m, d), torch.ones(n, m)
    pairs = {"correlate": (x_nd, w_md), "decode": (v_nm, w_md.T), "outer": (x_nd.T, v_nm.T)}
    found: dict[str, Library] = {
        name: _faster(lambda library, pair=pair: _by(library, *pair)) for name, pair in pairs.items()
    }
    return Products(**found)


def _faster(product: Callable[[Library], object]) -> Library:
    least: dict[Library, float] = {}
    for turn in range(ROUNDS):
        for library in ("onednn", "torch"):
            began = time.perf_counter()
            product(library)
            took = time.perf_counter() - began
            least[library] = min(took, least[library]) if turn > 1 else took
    return "torch" if least["torch"] * GAIN < least["onednn"] else "onednn"


@cache
def _processor() -> str:
    """Name of the processor with what torch uses of it, and the number of cores."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        facts = dict(line.split(":", 1) for line in lines if ":" in line)
        facts = {key.strip(): value.strip() for key, value in facts.items()}
        name = " ".join(facts.get(key, "") for key in ("model name", "cpu family", "model"))
    return f"{name} {torch.backends.cpu.get_cpu_capability()} {os.cpu_count()}"


def _read(choices: Path | None) -> dict[str, object]:
    try:
        known = json.loads(choices.read_text()) if choices else {}
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _parsed(value: object) -> Products | None:
    names = {f.name for f in fields(Products)}
    if not isinstance(value, dict) or set(value) != names or not set(value.values()) <= {"onednn", "torch"}:
        return None
    return Products(**cast("dict[str, Library]", value))
