"""Is the SAE's entropy what any neurons give that fire as seldom? Raw neurons, cut to fire as often, beside it.

A neuron that fires on eight pictures has a noisy profile whatever it encodes, so an SAE and the raw embedding are
compared at unlike sizes. Here every SAE neuron gets a partner: a raw coordinate (each in turn, upwards or downwards),
cut by a threshold so that it fires on exactly as many of the scored images. What is left between the two means is not
a matter of how often neurons fire.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsae.progress import Progress, Silent
from medsae.rates import centred_interval
from medsae.scoring.activity import Held, Source
from medsae.scoring.design import Design
from medsae.scoring.draws import Permutations, Resamples, correlations_of_draws
from medsae.scoring.entropy import entropy_bits
from medsae.scoring.measures import Value, mean_over

MOST = 512
"""Partners at most; the SAE neurons are then a random choice of those that fire."""
DRAWS = 100
"""Draws of null and bootstrap at most (the first ones, which pair with the SAE's)."""
AT_THIS_N = "95 % interval by bootstrap over patients, at this n"
SAMPLED = 50_000
"""Images that the thresholds are found on."""


@dataclass(frozen=True)
class Cut:
    """Raw neurons of `x` with a sign and a threshold: max(sign * x - threshold, 0)."""

    x: Source
    of_p: NDArray[np.intp]
    sign_p: NDArray[np.float32]
    threshold_p: NDArray[np.float32]
    sparse: bool = True

    @property
    def m(self) -> int:
        return len(self.of_p)

    def blocks(self, begin: int = 0, end: int | None = None) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for start, x_bd in self.x.blocks(begin, end):
            yield start, np.maximum(x_bd[:, self.of_p] * self.sign_p - self.threshold_p, 0)


def cut_to_fire_like(x: Source, active_m: NDArray[np.int64], n: int, seed: int) -> tuple[Cut, NDArray[np.intp]]:
    """Partners of the SAE neurons that fire, and which neurons these are."""
    rng = np.random.default_rng([seed, 6])
    live = np.flatnonzero((active_m > 0) & (active_m < n))
    neurons = np.sort(rng.permutation(live)[:MOST])
    of = np.arange(len(neurons)) % x.m
    sign = np.where(rng.random(len(neurons)) < 0.5, -1, 1).astype(np.float32)
    threshold = np.zeros(len(neurons), np.float32)
    held, images = [], 0
    for _, x_bd in x.blocks():  # the first images are enough for a threshold of many
        held.append(x_bd[:, np.unique(of)] if len(neurons) else x_bd[:, :0])
        images += len(x_bd)
        if images >= SAMPLED:
            break
    z_nd = np.concatenate(held)
    share = active_m[neurons] / n
    for p, (column, s) in enumerate(zip(of, sign, strict=True)):
        z = np.sort(s * z_nd[:, column])
        fire = min(max(1, round(share[p] * len(z))), len(z) - 1)
        threshold[p] = (z[-fire] + z[-fire - 1]) / 2
    return Cut(x, of.astype(np.intp), sign, threshold), neurons


@dataclass(frozen=True)
class Matched:
    """Mean entropies (bits) of both sides of the partnership."""

    cut: Value
    """Raw neurons cut to fire as often: interval by bootstrap over patients, and its null."""
    own: Value
    """The SAE neurons that have such a partner."""


def matched_entropy(
    x: Source,
    bits_m: NDArray[np.float64],
    active_m: NDArray[np.int64],
    design: Design,
    permutations: Permutations,
    resamples: Resamples,
    seed: int,
    progress: Progress | None = None,
) -> Matched | None:
    """Mean entropy of cut raw neurons and of their SAE partners; None where no neuron fires on some images only."""
    n = len(design.y_nk)
    cut, neurons = cut_to_fire_like(x, active_m, n, seed)
    if not len(neurons):
        return None
    held = Held(cut, n)
    for _ in held.first_pass():
        pass
    y, mask = design.y_nk, design.mask_nk

    def mean(rho_mk: NDArray[np.float64]) -> float:
        return mean_over(entropy_bits(rho_mk))[0]

    with (progress or Silent()).task("raw neurons cut to fire as often", 1, "pass") as task:
        value_rho = next(iter(correlations_of_draws(held, y, mask, _Once(len(y)))))[0]
        few = Permutations(permutations.patients, min(DRAWS, permutations.draws), permutations.seed)
        drawn = [mean(rho) for rho, _ in correlations_of_draws(held, y, mask, few)]
        again = Resamples(permutations.patients, min(DRAWS, resamples.draws), resamples.seed)
        patients = [mean(rho) for rho, _ in correlations_of_draws(held, y, mask, again)]
        task.advance()
    value, count = mean_over(entropy_bits(value_rho))
    low, high = centred_interval(value, patients)
    own, own_n = mean_over(bits_m[neurons])
    return Matched(Value(value, low, high, count, AT_THIS_N, null_t=np.array(drawn)), Value(own, n=own_n))


@dataclass(frozen=True)
class _Once:
    """Every image once."""

    n: int
    draws: int = 1

    def group(self, begin: int, end: int) -> tuple[None, NDArray[np.float32]]:
        return None, np.ones((end - begin, self.n), np.float32)
