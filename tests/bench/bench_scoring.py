"""Scoring against what people would write by hand, in one run, and at the size of CheXpert.

    python tests/bench/bench_scoring.py pearson | draws | whole [--images 224000] [--dense]

pearson: 2,800 x 8,192 x 14, in turns, medians; the error against float64. Asked for: no slower than a two-pass numpy
product, within 1e-6.
draws: 200 permutations with entropies, p and q values at that size, stated and partly missing labels. Asked for: 10 s.
whole: everything `score` computes for an SAE of 8,192 neurons with 16 active an image (or, `--dense`, 512 raw neurons),
each part's seconds and the peak memory of the process. Asked for: 3 GiB. What making the activations costs is not in it.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from medsae.progress import Terminal
from medsae.scoring.activity import ArraySource, Held
from medsae.scoring.design import Design
from medsae.scoring.draws import Patients, Permutations
from medsae.scoring.measures import statistics as declared_statistics
from medsae.scoring.null import permutation_null
from medsae.scoring.profile import profile
from medsae.scoring.scores import Choices, Known, score_arrays
from medsae.scoring.sufficient import Sufficient

N, M, K, ACTIVE = 2800, 8192, 14, 16
MEAN = "mean_entropy"


def in_turns(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, one after the other, `rounds` times, after one round to warm up."""
    took: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            time.sleep(0.3)  # the threads of the product before spin for a while before they sleep
            began = time.perf_counter()
            step()
            if turn:
                took[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in took.items()}


def two_passes(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The honest baseline: centre, then one product (float32)."""
    z, y = z - z.mean(0), y - y.mean(0)
    return (z.T @ y) / np.sqrt(np.einsum("nm,nm->m", z, z)[:, None] * np.einsum("nk,nk->k", y, y))


def pearson(rounds: int) -> None:
    from sklearn.feature_selection import r_regression

    rng = np.random.default_rng(0)
    z = np.maximum(rng.standard_normal((N, M), dtype=np.float32) - 1, 0)
    y = (rng.random((N, K)) < 0.2).astype(np.float32)
    everything = np.ones(y.shape, bool)
    some = rng.random(y.shape) < 0.6

    def one_pass(mask: np.ndarray) -> np.ndarray:
        return Sufficient(y, mask).update(z, slice(0, N)).result().rho_mk

    took = in_turns(
        {
            "one pass of sufficient statistics": lambda: one_pass(everything),
            "the same, every label with its own missing images": lambda: one_pass(some),
            "numpy, two passes": lambda: two_passes(z, y),
            "scikit-learn r_regression": lambda: [r_regression(z, y[:, j]) for j in range(K)],
        },
        rounds,
    )
    wide, y64 = z.astype(float), y.astype(float)
    expected = two_passes(wide, y64)
    for name, seconds in took.items():
        print(f"{name:52s} {seconds * 1e3:8.1f} ms   {seconds / took['numpy, two passes']:6.2f} x")
    print(f"largest difference from float64: one pass {np.abs(one_pass(everything) - expected).max():.1e}, "
          f"numpy float32 {np.abs(two_passes(z, y) - expected).max():.1e}")  # fmt: skip


def draws() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random((N, K)) < 0.2).astype(np.float32)
    patients = Patients.of(np.arange(N))
    for share in (0.002, 0.02):
        z = np.where(rng.random((N, M)) < share, rng.exponential(1, (N, M)), 0).astype(np.float32)
        for name, mask in (("all labels stated", np.ones(y.shape, bool)), ("40 % missing", rng.random(y.shape) < 0.6)):
            held = Held(ArraySource(z, sparse=True), N)
            sums = Sufficient(y, mask)
            for rows, block in held.first_pass():
                sums.update(block, rows)
            found = sums.result()
            profiles = profile(held, found.mean_m, 10)
            design = Design.of(y, mask, [f"label {j}" for j in range(K)], {})
            began = time.perf_counter()
            null = permutation_null(
                held, design, found, profiles, Permutations(patients, 200, 0), statistics=declared_statistics()
            )
            print(f"{share:.1%} active, {name:18s} 200 draws in {time.perf_counter() - began:5.1f} s, "
                  f"null mean {null.values[MEAN].mean():.3f} bits, smallest p {np.nanmin(null.p_m):.1e}")  # fmt: skip


@dataclass(frozen=True)
class Made:
    """Activations of any number of images without holding them: one block of numbers, laid out anew for each block."""

    n: int
    m: int
    sparse: bool

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        rows = 2048
        rng = np.random.default_rng(0)
        normal = rng.standard_normal((rows, self.m), dtype=np.float32) if not self.sparse else None
        for start in range(0, self.n, rows):
            b = min(rows, self.n - start)
            if normal is not None:
                yield start, np.roll(normal, start // rows, axis=1)[:b] + np.float32(3)
                continue
            z = np.zeros((b, self.m), np.float32)
            image = np.repeat(np.arange(b), ACTIVE)
            # Squared uniforms: some neurons fire often, most seldom, as in real SAEs.
            neuron = (rng.random(b * ACTIVE) ** 2 * self.m).astype(int)
            z[image, neuron] = rng.exponential(1, b * ACTIVE)
            yield start, z


def whole(images: int, dense: bool) -> None:
    rng = np.random.default_rng(1)
    values = (rng.random((images, K)) < 0.2).astype(np.int8)
    values[rng.random((images, K)) < 0.5] = -128
    source = Made(images, 512, False) if dense else Made(images, M, True)
    began = time.perf_counter()
    known = Known(values_nk=values, labels=[f"label {j}" for j in range(K)], patients=np.arange(images) // 3)
    scores = score_arrays(source, known, Choices(), progress=Terminal())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"n = {images:,}, m = {source.m:,}: {len(scores.activation.value):,} activations kept, "
          f"{time.perf_counter() - began:.0f} s, peak {peak:.2f} GiB")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["pearson", "draws", "whole"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=224_000)
    parser.add_argument("--dense", action="store_true")
    asked = parser.parse_args()
    if asked.part == "pearson":
        pearson(asked.rounds)
    elif asked.part == "draws":
        draws()
    else:
        whole(asked.images, asked.dense)
