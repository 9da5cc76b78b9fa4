"""What the statistics of `score` claim, by simulation: coverage of intervals, error rates of tests. For docs/statistics.md.

    python tests/bench/bench_coverage.py [all | auroc | selective | mixed | entropy | trainings | partial | tails] [--share 1]

auroc: coverage of the AUROC interval, 0.5 to 1, 5 to 500 positives, one and several images a patient.
selective: complete nulls, sparse and dense, one and several images a patient: runs with any selective neuron.
mixed: planted neurons among nothing: false-discovery proportion and power.
entropy: known populations: interval of the mean entropy at this n, its endless value, the share of selective neurons.
trainings: interval of SAE - raw over patients and trainings.
partial: neurons that follow No Finding alone: how often the two-sided p of the partial entropies is at or below 0.05.
tails: p at depth of complete nulls by pooled draws, generalised Pareto tails of own draws, and own exact tails.

`--share` shortens every part (0.1: a tenth of the repetitions). In full 15 minutes of one core.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtri
from scipy.stats import genpareto

sys.path.insert(0, str(Path(__file__).parents[2]))
from medsae.rates import benjamini_hochberg, centred_interval, endless, jackknife, trainings_interval
from medsae.scoring.activity import ArraySource, Held
from medsae.scoring.auroc import auroc_interval
from medsae.scoring.bootstrap import bootstrap
from medsae.scoring.curve import ALL, entropy_curve
from medsae.scoring.design import Design, Profiles
from medsae.scoring.draws import Patients, Permutations, Resamples, correlations_of_draws
from medsae.scoring.entropy import entropy_bits
from medsae.scoring.measures import number, statistics
from medsae.scoring.null import Null, permutation_null, reach
from medsae.scoring.offered.entropy import FIRING
from medsae.scoring.offered.selective import share_interval
from medsae.scoring.profile import Profile, profile
from medsae.scoring.selective import pooled_p
from medsae.scoring.sufficient import Correlations, Sufficient
from medsae.scoring.summary import two_sided

K = 14
PREVALENCE = np.geomspace(0.03, 0.4, K)


@dataclass(frozen=True)
class World:
    """Labels [n, k] with co-occurrence, and one patient an image."""

    y: np.ndarray
    patients: np.ndarray

    @staticmethod
    def of(rng: np.random.Generator, patients: int, images: int = 1, load: np.ndarray | None = None) -> World:
        load = np.random.default_rng(0).normal(size=(2, K)) * 0.5 if load is None else load
        own = rng.normal(size=(patients, 2)) @ load + (1 if images == 1 else 0.8) * rng.normal(size=(patients, K))
        code = np.repeat(np.arange(patients), images)
        latent = own[code] + (0 if images == 1 else 0.6) * rng.normal(size=(len(code), K))
        sd = np.sqrt((load**2).sum(0) + 1)
        return World((latent / sd > -ndtri(PREVALENCE)).astype(np.float32), code)


def activations(
    rng: np.random.Generator, world: World, m: int, sparse: bool, drive: np.ndarray | None = None
) -> np.ndarray:
    """[n, m]: independent of the labels unless `drive` [n, m] is added; alike within a patient."""
    code = world.patients
    if code[-1] + 1 == len(code):
        g = rng.normal(size=(len(code), m))
    else:
        g = 0.7 * rng.normal(size=(code[-1] + 1, m))[code] + 0.7 * rng.normal(size=(len(code), m))
    g = g if drive is None else g + drive
    if not sparse:
        return np.exp(0.5 * g).astype(np.float32)
    return (np.maximum(g + ndtri(np.geomspace(0.003, 0.1, m)), 0) ** 2).astype(np.float32)


@dataclass(frozen=True)
class Scored:
    held: Held
    design: Design
    found: Correlations
    profile: Profile
    patients: Patients


def scored(world: World, z: np.ndarray, sparse: bool, names: list[str] | None = None) -> Scored:
    held, mask = Held(ArraySource(z, sparse), len(z)), np.ones(world.y.shape, bool)
    design = Design.of(world.y, mask, names or [f"label {j}" for j in range(world.y.shape[1])], {})
    sums = Sufficient(design.all_nk, design.all_mask_nk)
    for rows, block in held.first_pass():
        sums.update(block, rows)
    found = sums.result()
    held.center(found.mean_m)
    return Scored(held, design, found, profile(held, found.mean_m, 10), Patients.of(world.patients))


def null_of(one: Scored, seed: int, draws: int = 200, measures: bool = False) -> Null:
    labels = one.found.columns(slice(0, len(one.design.labels)))
    return permutation_null(one.held, one.design, labels, one.profile, Permutations(one.patients, draws, seed),
                            statistics=statistics() if measures else None)  # fmt: skip


def error(share: float, n: int) -> str:
    return f"{100 * share:5.1f} % (se {100 * np.sqrt(max(share * (1 - share), 0.0025) / n):.1f})"


# --- parts ------------------------------------------------------------------------------------------------------------


def auroc(share: float) -> None:
    runs = max(50, int(1000 * share))
    print(f"\nAUROC interval: coverage in %, {runs} runs each (standard error {100 * np.sqrt(0.0475 / runs):.1f})")
    columns = (0.5, 0.7, 0.9, 0.97, 0.995, 1.0)
    print(f"{'activations':34s} {'positives':>9s} {'negatives':>9s}  " + "  ".join(f"{c:>5}" for c in columns))
    within: list[bool] = []
    for name in (
        "normal",
        "positives twice as spread",
        "sparse (ties)",
        "three images a patient",
        "1 to 4, of both labels",
    ):
        for p, n in ((5, 60), (10, 100), (30, 300), (100, 300), (500, 500)):
            rng = np.random.default_rng(p)
            cells = []
            for area in columns:
                held = [_covers(rng, name, p, n, area) for _ in range(runs)]
                cells.append(f"{100 * np.mean(held):5.1f}")
                within += [bool(abs(np.mean(held) - 0.95) <= 0.015)] if area < 1 else []
            print(f"{name:34s} {p:9d} {n:9d}  " + "  ".join(cells), flush=True)
    print(f"within 95 +- 1.5 %: {sum(within)} of {len(within)} cells below 1.0")


def _covers(rng: np.random.Generator, name: str, p: int, n: int, area: float) -> bool:
    y, patients = np.repeat([1, 0], [p, n]), np.arange(p + n)
    noise = rng.normal(size=p + n)
    if name.startswith("sparse"):
        # Fires with one strength distribution on both sides: AUROC = 0.5 + (f1 - f0) / 2; beyond that f1 = 1.
        f1 = min(1.0, 2 * area - 1 + 0.02)
        z = np.where(rng.random(p + n) < np.where(y > 0, f1, f1 + 1 - 2 * area), rng.exponential(1, p + n), 0)
    else:
        spread = np.where(y > 0, 2.0, 1.0) if "twice" in name else np.ones(p + n)
        if "three" in name:
            patients = np.concatenate([np.arange(p) // 3, p + np.arange(n) // 3])
            noise = np.sqrt(0.6) * rng.normal(size=p + n)[patients] + np.sqrt(0.4) * noise
        if "both" in name:
            patients = rng.permutation(np.repeat(np.arange(p + n), rng.integers(1, 5, p + n))[: p + n])
            noise = np.sqrt(0.5) * rng.normal(size=p + n)[patients] + np.sqrt(0.5) * noise
        shift = 1e6 if area == 1 else float(ndtri(area)) * np.sqrt(1 + spread[0] ** 2)
        z = spread * noise + shift * y
    found = auroc_interval(z, y, patients)
    return bool(found.low <= area <= found.high)


def selective(share: float) -> None:
    print("\nSelective neurons on complete nulls (400 images, 14 labels, 300 neurons, 200 draws)")
    for images in (1, 3):
        for sparse in (True, False):
            runs = max(10, int(500 * share))
            any_false, p = [], []
            for run in range(runs):
                rng = np.random.default_rng([run, images, sparse])
                world = World.of(rng, 400 // images, images)
                null = null_of(scored(world, activations(rng, world, 300, sparse), sparse), run, 100)
                any_false.append((null.q_m <= 0.05).any())
                p.append(null.p_m[np.isfinite(null.p_m)])
            depth = np.concatenate(p)
            print(f"{'sparse' if sparse else 'dense':7s} {images} image(s) a patient, {runs} runs: a false one in "
                  f"{error(float(np.mean(any_false)), runs)}; p <= 0.05 {(depth <= 0.05).mean():.4f}, <= 0.01 "
                  f"{(depth <= 0.01).mean():.4f}, <= 0.001 {(depth <= 0.001).mean():.5f}", flush=True)  # fmt: skip


def mixed(share: float) -> None:
    print("\nPlanted neurons among nothing (600 images, 300 neurons, 60 planted)")
    for images in (1, 3):
        runs = max(5, int(100 * share))
        false, found = [], []
        for run in range(runs):
            rng = np.random.default_rng([run, images, 7])
            world = World.of(rng, 600 // images, images)
            drive = np.zeros((len(world.y), 300))
            planted = rng.choice(300, 60, replace=False)
            drive[:, planted] = 1.2 * world.y[:, rng.integers(0, K, 60)]
            null = null_of(scored(world, activations(rng, world, 300, True, drive), True), run, 100)
            called = np.flatnonzero(null.q_m <= 0.05)
            real = np.isin(called, planted)
            false.append((~real).sum() / max(len(called), 1))
            found.append(real.sum() / 60)
        print(f"{images} image(s) a patient, {runs} runs: false-discovery proportion {np.mean(false):.4f} (se "
              f"{np.std(false) / np.sqrt(runs):.4f}), planted ones found {np.mean(found):.2f}", flush=True)  # fmt: skip


def entropy(share: float) -> None:
    print("\nMean entropy of known populations (120 neurons); truth at 240,000 images")
    runs = max(4, int(60 * share))
    for name in ("few labels each, sparse", "weak, sparse", "all labels a little, dense"):
        rng = np.random.default_rng(3)
        sparse = "sparse" in name
        weights = np.zeros((K, 120))
        if name.startswith("few"):
            for i in range(120):
                weights[rng.choice(K, rng.integers(0, 4), replace=False), i] = rng.exponential(1.0)
        else:
            weights = rng.normal(size=(K, 120)) * (0.15 if sparse else 0.3)

        def made(rng: np.random.Generator, n: int, weights: np.ndarray = weights, sparse: bool = sparse):
            world = World.of(rng, n)
            return world, activations(rng, world, 120, sparse, world.y @ weights)

        def bits_at(n: int, total: int, made: Callable = made) -> np.ndarray:
            each = []
            for run in range(max(1, total // n)):
                world, z = made(np.random.default_rng([99, n, run]), n)
                sums = Sufficient(world.y, np.ones(world.y.shape, bool)).update(z, slice(0, n))
                each.append(entropy_bits(sums.result().rho_mk))
            return np.array(each)

        true_m = bits_at(240_000, 1)[0]
        truth = float(true_m.mean())
        for n in (400, 800, 2000):
            here = float(np.nanmean(np.nanmean(bits_at(n, 80_000), axis=1)))
            at_n, whole, plain, reached = [], [], [], []
            for run in range(runs):
                rng = np.random.default_rng([run, n])
                world, z = made(rng, n)
                one = scored(world, z, sparse)
                labels = one.found.columns(slice(0, K))
                value = float(np.nanmean(entropy_bits(labels.rho_mk)))
                null = null_of(one, run, 40)
                some = {"mean_entropy": statistics()["mean_entropy"]}
                drawn = bootstrap(one.held, one.design, one.profile.active_m, Resamples(one.patients, 60, run), some,
                                  null, reach(null, labels, 0.05))  # fmt: skip
                low, high = centred_interval(value, drawn.values["mean_entropy"])
                at_n.append(low <= here <= high)
                rows = entropy_curve(one.held, one.design, one.patients, run, one.profile.active_m).rows
                ends = {g: endless(part["images"], part["mean_entropy"]) for g, part in rows.groupby("left_out")}
                low, high = jackknife(ends[ALL], [v for g, v in ends.items() if g != ALL])
                often = one.profile.active_m >= FIRING
                goal, bits = float(true_m[often].mean()), entropy_bits(labels.rho_mk)
                whole.append((low <= goal <= high, ends[ALL] - goal, high - low))
                plain.append(float(np.nanmean(bits[often])) - goal)
                share_now = float((null.q_m <= 0.05).mean())
                low, high = share_interval(int((null.q_m <= 0.05).sum()), 120, drawn.reaching_t)
                reached.append((share_now, low, high))
            mean_share = np.mean([r[0] for r in reached])
            covered = np.mean([low - 1e-9 <= mean_share <= high + 1e-9 for _, low, high in reached])
            covers, off, width = np.array(whole, float).T
            print(f"{name:27s} n = {n:4d}: truth {truth:.3f}, at n {here:.3f} | interval at n covers {100 * np.mean(at_n):3.0f} %"
                  f" | on 10 or more: plain - truth {np.mean(plain):+.3f} | endless - truth {off.mean():+.3f}, covers {100 * covers.mean():3.0f} %"
                  f" (width {width.mean():.2f}) | selective share {mean_share:.2f}, covered {100 * covered:3.0f} %",
                  flush=True)  # fmt: skip


def trainings(share: float) -> None:
    """Trainings as neurons drawn anew (an SAE of another seed finds other ones), minus fixed raw neurons."""
    runs = max(10, int(200 * share))
    print(f"\nSAE - raw over patients and trainings (400 images, 40 sparse neurons and 20 dense; {runs} runs)")
    raw_weights = np.random.default_rng(4).normal(size=(K, 20)) * 0.3

    def sae(rng: np.random.Generator, unlike: float) -> np.ndarray:
        """Weights of one training: `unlike` is how much its neurons are its own alone."""
        weights = np.zeros((K, 40))
        for i in range(40):
            weights[rng.choice(K, rng.integers(0, 4), replace=False), i] = rng.exponential(1.0)
        return weights * np.exp(unlike * rng.normal())

    def mean_of(one: Scored) -> float:
        return float(np.nanmean(entropy_bits(one.found.columns(slice(0, K)).rho_mk)))

    def drawn(one: Scored, seed: int) -> np.ndarray:
        again = Resamples(one.patients, 60, seed)
        return np.array([np.nanmean(entropy_bits(rho)) for rho, _ in correlations_of_draws(
            one.held, one.design.y_nk, one.design.mask_nk, again)])  # fmt: skip

    for unlike in (0.0, 1.0):

        def study(run: int, trained: int, unlike: float = unlike) -> tuple[World, list[Scored], Scored]:
            rng = np.random.default_rng([run, trained, 13])
            world = World.of(rng, 400)
            saes = [scored(world, activations(rng, world, 40, True, world.y @ sae(rng, unlike)), True)
                    for _ in range(trained)]  # fmt: skip
            return world, saes, scored(world, activations(rng, world, 20, False, world.y @ raw_weights), False)

        many = [(np.mean([mean_of(one) for one in saes]) - mean_of(raw))
                for _, saes, raw in (study(100_000 + run, 5) for run in range(max(20, int(400 * share))))]  # fmt: skip
        truth = float(np.mean(many))
        for trained in (1, 2, 3, 5):
            held, width = [], []
            for run in range(runs):
                _, saes, raw = study(run, trained)
                values = np.array([mean_of(one) for one in saes])
                moved = np.mean([drawn(one, run) for one in saes], axis=0) - drawn(raw, run)
                low, high = trainings_interval(float(values.mean()) - mean_of(raw), moved, values, [mean_of(raw)])
                held.append(low <= truth <= high)
                width.append(high - low)
            print(f"trainings differ {'in their neurons' if not unlike else 'in how strong they are too':25s} "
                  f"{trained} of them: covers {error(float(np.mean(held)), runs)}, width {np.mean(width):.3f}",
                  flush=True)  # fmt: skip


def partial(share: float) -> None:
    runs = max(10, int(200 * share))
    print(f"\nNeurons that follow No Finding alone (500 images, 150 neurons, {runs} runs): two-sided p <= 0.05 in")
    found: dict[str, list[float]] = {"mean_entropy": [], "partial_mean_entropy": [], "unique_mean_entropy": []}
    free: dict[str, list[float]] = {"partial_mean_entropy": []}
    for run in range(runs):
        rng = np.random.default_rng([run, 11])
        world = World.of(rng, 500)
        healthy = (world.y.sum(1) == 0).astype(np.float32)
        both = World(np.concatenate([world.y, healthy[:, None]], axis=1), world.patients)
        drive = healthy[:, None] * rng.normal(size=150)
        one = scored(both, activations(rng, both, 150, True, drive), True, [*(f"l{j}" for j in range(K)), "No Finding"])
        observed = one.design.profiles(one.found.rho_mk, one.found.n_k.astype(float), one.profile.active_m)
        null = null_of(one, run, 99, measures=True)
        for name, ps in found.items():
            ps.append(two_sided(number(statistics()[name](observed))[0], null.values[name]))
        # The same residual labels moved without regard to No Finding: what an unconditional null would say.
        k = K + 1
        moved = correlations_of_draws(one.held, one.design.residual_nr, np.ones(one.design.residual_nr.shape, bool),
                                      Permutations(one.patients, 99, run))  # fmt: skip
        empty = np.full((150, k), np.nan)
        draws = [number(statistics()["partial_mean_entropy"](
            Profiles(empty, np.ones(k), rho, one.design, one.profile.active_m)))[0] for rho, _ in moved]  # fmt: skip
        free["partial_mean_entropy"].append(
            two_sided(number(statistics()["partial_mean_entropy"](observed))[0], np.array(draws))
        )
    for name, ps in found.items():
        print(f"{name:24s} {error(float((np.array(ps) <= 0.05).mean()), runs)}")
    ps = np.array(free["partial_mean_entropy"])
    print(f"{'partial, rows moved freely':24s} {error(float((ps <= 0.05).mean()), runs)}", flush=True)


def tails(share: float) -> None:
    """A generalised Pareto tail above the 40th largest of a neuron's own smallest-p draws, as in GWAS practice."""
    runs = max(5, int(100 * share))
    print(
        f"\nComplete nulls (400 images, 300 sparse neurons, 200 draws, {runs} runs): runs with a false one, p at depth"
    )
    falses: dict[str, list[bool]] = {}
    ps: dict[str, list[np.ndarray]] = {}
    for run in range(runs):
        rng = np.random.default_rng([run, 5])
        world = World.of(rng, 400)
        one = scored(world, activations(rng, world, 300, True), True)
        labels = one.found.columns(slice(0, K))
        permutations = Permutations(one.patients, 200, run)
        strength = np.abs(labels.rho_mk) * np.sqrt(len(world.y) - 1)
        drawn = np.stack([np.abs(rho) for rho, _ in correlations_of_draws(
            one.held, world.y, np.ones(world.y.shape, bool), permutations)]) * np.sqrt(len(world.y) - 1)  # fmt: skip
        pooled, _ = pooled_p(strength, drawn.astype(np.float32), one.profile.spread_m, 0.05)
        own = permutation_null(one.held, one.design, labels, one.profile, permutations).p_m
        for name, p in (("pooled draws", pooled), ("Pareto tails", _pareto(strength, drawn)), ("own tails", own)):
            ps.setdefault(name, []).append(p[np.isfinite(p)])
            falses.setdefault(name, []).append(bool((benjamini_hochberg(p) <= 0.05).any()))
    for name, each in ps.items():
        p = np.concatenate(each)
        print(f"{name:14s} {error(float(np.mean(falses[name])), runs)}; p <= 0.05 {(p <= 0.05).mean():.4f}, <= 0.01 "
              f"{(p <= 0.01).mean():.4f}, <= 0.001 {(p <= 0.001).mean():.5f}, <= 0.0001 {(p <= 0.0001).mean():.6f}",
              flush=True)  # fmt: skip


def _pareto(strength_mk: np.ndarray, drawn_tmk: np.ndarray) -> np.ndarray:
    """p of each neuron's largest strength against its own draws; a Pareto tail where fewer than 10 draws reach it."""
    top_m, top_tm = np.nanmax(strength_mk, axis=1), np.nanmax(drawn_tmk, axis=2)
    out = np.empty(len(top_m))
    draws = len(top_tm)
    for i, value in enumerate(top_m):
        sample = np.sort(top_tm[:, i])
        reaching = int((sample >= value * (1 - 1e-6)).sum())
        out[i] = (1 + reaching) / (1 + draws)
        threshold = (sample[-41] + sample[-40]) / 2
        if reaching < 10 and sample[-1] > threshold:
            shape, _, scale = genpareto.fit(sample[-40:] - threshold, floc=0)
            out[i] = max(40 / draws * genpareto.sf(value - threshold, shape, 0, scale), 1e-12)
    return out


PARTS = dict(
    auroc=auroc, selective=selective, mixed=mixed, entropy=entropy, trainings=trainings, partial=partial, tails=tails
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="all", choices=["all", *PARTS])
    parser.add_argument("--share", type=float, default=1.0)
    asked = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)
    for name, part in PARTS.items():
        if asked.part in ("all", name):
            began = time.process_time()
            part(asked.share)
            print(f"({name}: {time.process_time() - began:.0f} s of one core)", flush=True)


if __name__ == "__main__":
    main()
