# pyright: reportArgumentType=false, reportCallIssue=false, reportOptionalMemberAccess=false
"""Synthetic artifacts of any size, written through `Store.build` as the steps write theirs.

    python tests/bench/synthetic.py DATA --images 224000 --neurons 8192

Nothing here comes from a model: labels are drawn, a neuron either follows a label, or nothing, or is dead, and the
correlations and entropies are then computed exactly from the activations that were drawn. The null, the intervals
over patients and the neighbours are stand-ins of plausible size, for looking at pages, never for science.
"""

from __future__ import annotations

import argparse
import io
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[2]))

from medsae.config import CHEXPERT_LABELS, Embed, IngestSimulated, Pairs, Score, Train
from medsae.store.artifacts import Build, Store
from medsae.store.ledger import Ledger

POOL = 240
"""Different pictures drawn; a larger cohort shows them again."""
BLOCK = 100_000
"""Rows that are made and written at once."""


@dataclass(frozen=True)
class Synthetic:
    """Ids of what was written."""

    cohort: str
    embeddings: str
    sae: str
    scores: str
    raw: str


def write(
    data: Path, images: int = 240, neurons: int = 96, d: int = 24, seed: int = 0, active: float = 16, dead: float = 0.2,
    fve: float = 0.93, vectors: bool = False, maps: bool = False,
) -> Synthetic:  # fmt: skip
    """Write cohort, embeddings, SAE, and scores of SAE and raw; `active` neurons fire on an image on average.

    vectors: the numbers of the embedding too (x.npy, images x d x 4 bytes), which Compare matches neurons by. maps: maps
    of the 25 strongest images of every neuron.
    """
    rng = np.random.default_rng(seed)
    store = Store(data)
    labels = list(CHEXPERT_LABELS)
    patients = np.sort(rng.integers(0, max(2, int(images / 1.6)), images))
    y_nk = _labels(rng, images, len(labels))
    cohort = _cohort(store, rng, patients, y_nk, labels, seed)
    columns = _dense(np.random.default_rng([seed, 1]), d, y_nk)
    config = Embed(cohort=cohort, encoder="simclip")
    with store.build("emb-synthetic", config, {"cohort": cohort}) as build:
        embeddings = build.id
        if build.existing is None:
            with build.database() as db:
                _insert(db, "embedding_row", pd.DataFrame({"row": np.arange(images), "image": np.arange(images)}))
            if vectors:
                np.save(build.path / "x.npy", np.stack(columns, axis=1))
            build.publish({"encoder": "simclip", "n": images, "d": d, "device": "cpu", "precision": "fp32"})
    expansion = max(1, neurons // d)
    m = expansion * d
    train = Train(embeddings=embeddings, k=16, expansion=expansion, seed=seed).resolved(images)
    dead_m = rng.random(m) < dead
    with store.build(f"sae-topk16-x{expansion}", train, {"embeddings": embeddings}) as build:
        sae = build.id
        if build.existing is None:
            _sae(build, m, d, dead_m, active, fve, expansion, train.epochs or 1)
    z = _sparse(rng, m, y_nk, dead_m, active)
    scores = _scores(store, rng, Score(sae=sae, images="all", seed=seed).resolved(), "sae", z, m, y_nk, labels,
                     {"embeddings": embeddings, "cohort": cohort, "sae": sae}, maps)  # fmt: skip
    raw = _scores(store, rng, Score(embeddings=embeddings, representation="raw", images="all", seed=seed).resolved(),
                  "raw", columns, d, y_nk, labels, {"embeddings": embeddings, "cohort": cohort})  # fmt: skip
    return Synthetic(cohort, embeddings, sae, scores, raw)


def write_names(data: Path, scores: str, seed: int = 0) -> int:
    """Names and test results of every defined neuron in the ledger, as one run of a model; how many."""
    store, rng = Store(data), np.random.default_rng(seed)
    with store.get(scores, "scores").connect() as tables:
        rows = tables.execute(
            "SELECT neuron, top_label FROM neuron WHERE entropy IS NOT NULL ORDER BY neuron"
        ).fetchall()
    run = {"kind": "run", "run": "synthetic", "scores": scores, "protocol": "strict", "backend": "endpoint",
           "model": "none", "prompts": "1", "pictures": 30, "hard": 0.0, "controls": True, "seed": seed,
           "overlap": "disjoint"}  # fmt: skip
    names = []
    for neuron, label in rows:
        accuracy, luck = rng.beta(12, 7), rng.beta(10, 10)
        concept = f"{label}, {('right', 'left', 'faint', 'dense', 'basal', 'apical')[neuron % 6]} {neuron % 40}"
        names.append({
            "kind": "name", "run": "synthetic", "neuron": neuron, "take": 0, "status": "ok", "concept": concept,
            "description": f"A finding of the kind {label}, as a model would describe it in a sentence.",
            "group_key": concept.lower(), "accuracy": accuracy, "low": max(0, accuracy - 0.12),
            "high": min(1, accuracy + 0.1), "auroc": accuracy, "p": float(rng.random() ** 6), "judged": 60, "asked": 60,
            "shuffled_accuracy": luck, "shuffled_low": luck - 0.1, "shuffled_high": luck + 0.1,
            "shuffled_concept": "another", "naming": [1, 2],
        })  # fmt: skip
    with Ledger(store, scores).writer() as writer:
        writer.append([run, *names])
    return len(names)


PAIRED = {"side": 3, "side:right": 3, "side:left": 8, "device": 11}
"""Planted factor -> its best neuron in the pairs that are written; the factor `text` has none."""


def write_pairs(data: Path, ids: Synthetic, patients: int = 40) -> str:
    """Pairs of the SAE that differ in one of its planted factors; the id."""
    store, config = Store(data), Pairs(sae=ids.sae, patients=patients)
    parents = {"sae": ids.sae, "embeddings": ids.embeddings, "cohort": ids.cohort}
    with store.build("pairs-sae-synthetic", config, parents) as build:
        if build.existing is None:
            with build.database() as db:
                for name, frame in _pairs().items():
                    _insert(db, name, frame)
            build.publish({"m": 72, "n": 900, "patients": patients, "factors": 4})
        return build.id


def _pairs() -> dict[str, pd.DataFrame]:
    levels = ((False, ["side", "device", "text"]), (True, ["side:right", "side:left", "device", "text"]))
    moved, best, overall, dose = [], [], [], []
    for which, share in (("sae", 0.8), ("untrained", 0.3), ("raw", 0.2), ("random", 0.1)):
        for parts, names in levels:
            key = {"representation": which, "parts": parts}
            for name in names:
                if name not in PAIRED:
                    best.append({**key, "factor": name, "reason": "no neuron's change is settled"})
                    continue
                at = {**key, "factor": name, "neuron": PAIRED[name]}
                best.append({**at, "recovery": share + 0.01 * PAIRED[name], "specificity": 0.9, "low": 0.05, "high": 0.95,
                             "change": -1.5, "follows": 0.75, "monotone": 1.0})  # fmt: skip
                dose += [{**at, "step": k, "severity": s, "mean": float(k)} for k, s in enumerate((None, 0.2, 0.8))]
                moved += [{**at, "neuron": neuron, "change": -0.5, "low": -0.9, "high": -0.1, "specificity": 0.25,
                           "follows": 0.5} for neuron in sorted(set(PAIRED.values()))]  # fmt: skip
            overall.append({**key, "recovery": share, "specificity": 0.5, "low": share - 0.05, "high": share + 0.05,
                            "found": len(names) - 1, "factors": len(names)})  # fmt: skip
    small = io.BytesIO()
    Image.fromarray(np.full((160, 160), 90, np.uint8)).save(small, "WEBP")
    factor = [{"parts": parts, "factor": name, "finding": name.partition(":")[0], "severities": 2 if "side" in name else 1}
              for parts, names in levels for name in names]  # fmt: skip
    example = [{"factor": name, "image": 4, "severity": s, "webp": small.getvalue()}
               for name in levels[1][1] for s in (None, 0.2, 0.8)]  # fmt: skip
    return {"factor": pd.DataFrame(factor).assign(position=range(len(factor))), "moved": pd.DataFrame(moved),
            "best": pd.DataFrame(best), "overall": pd.DataFrame(overall), "dose": pd.DataFrame(dose),
            "example": pd.DataFrame(example)}  # fmt: skip


def _labels(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """Labels [n, k] of int8: 1, 0, -1 uncertain; the first label means none of the others."""
    share = np.linspace(0.06, 0.3, k)
    y = (rng.random((n, k)) < share).astype(np.int8)
    y[:, 0] = (y[:, 1:-1].sum(1) == 0).astype(np.int8)
    y[rng.random((n, k)) < 0.03] = -1
    return y


def _cohort(
    store: Store, rng: np.random.Generator, patients: np.ndarray, y_nk: np.ndarray, labels: list[str], seed: int
) -> str:  # fmt: skip
    n = len(patients)
    with store.build("cohort-synthetic", IngestSimulated(images=n, size=320, seed=seed), {}) as build:
        if build.existing is not None:
            return build.id
        sex = rng.choice(["F", "M"], n)
        view = rng.choice(["AP", "PA"], n, p=[0.7, 0.3])
        split = rng.choice(["train", "holdout", "evaluation"], patients.max() + 1, p=[0.7, 0.05, 0.25])[patients]
        which = rng.integers(0, min(POOL, n), n) if n > POOL else np.arange(n)
        full, small, sizes = _pictures(rng, y_nk, min(POOL, n))
        image = np.arange(n)
        age = rng.normal(60, 15, n).clip(18, 95).round()
        unknown_nk = rng.random(y_nk.shape) < 0.02
        with build.database() as db:
            for start in range(0, n, BLOCK):
                at = image[start : start + BLOCK]
                p = patients[at]
                _insert(db, "image", pd.DataFrame({
                    "image": at, "path": [f"patient{q:06d}/study1/view{i}_frontal.jpg" for i, q in zip(at, p, strict=True)],
                    "patient": [f"patient{q:06d}" for q in p], "study": "study1", "source": "train", "split": split[at],
                    "evaluation": split[at] == "evaluation", "view": view[at], "frontal": True, "sex": sex[at],
                    "age": age[at], "width": sizes[which[at], 0], "height": sizes[which[at], 1],
                    "sha256": [f"{i:064x}" for i in at],
                }))  # fmt: skip
                value = np.where(unknown_nk[at], np.nan, y_nk[at])
                _insert(db, "label", pd.DataFrame({
                    "image": np.repeat(at, len(labels)), "label": np.tile(labels, len(at)),
                    "value": pd.array(value.ravel(), dtype="Int8"),
                }))  # fmt: skip
                _insert(db, "attribute", pd.DataFrame({
                    "image": at, "attribute": "factor:device", "value": (y_nk[at, -1] == 1).astype(int).astype(str),
                }))  # fmt: skip
                _insert(db, "thumbnail", pd.DataFrame({"image": at, "webp": [small[w] for w in which[at]]}))
            _insert(db, "label_name", pd.DataFrame({"position": range(len(labels)), "label": labels}))
            kept = image[: min(n, 2000)]
            _insert(db, "picture", pd.DataFrame({"image": kept, "jpeg": [full[w] for w in which[kept]]}))
            _insert(db, "refused", pd.DataFrame({"path": ["broken.jpg"], "reason": ["the file is empty"]}))
            _insert(db, "note", pd.DataFrame({"note": ["synthetic pictures and labels: for looking at pages only"]}))
        facts = {"n": n, "patients": len(np.unique(patients)), "refused": 1, "source": "simulated", "labels": labels,
                 "root": None}  # fmt: skip
        return build.publish(facts).id


def _pictures(rng: np.random.Generator, y_nk: np.ndarray, count: int) -> tuple[list[bytes], list[bytes], np.ndarray]:
    """Grey drawings that look a little like a chest: full JPEGs, 160 px WebPs, sizes [count, 2]."""
    full, small, sizes = [], [], np.zeros((count, 2), int)
    for i in range(count):
        width, height = (320, 390) if i % 3 else (390, 320)
        x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1.1, 1.1, height))
        tilt = rng.normal(0, 0.05)
        x = x + tilt * y
        grey = 0.72 * np.exp(-((x / 0.86) ** 8 + (y / 1.3) ** 10))
        for side in (-1, 1):
            lung = 1 / (1 + np.exp(18 * (((x - side * 0.4) / 0.3) ** 2 + ((y + 0.05) / 0.68) ** 2 - 1)))
            grey -= 0.5 * lung * rng.uniform(0.85, 1.05)
        wide = 0.26 + 0.14 * (y_nk[i, 2] == 1)
        grey += 0.5 / (1 + np.exp(14 * (((x - 0.1) / wide) ** 2 + ((y - 0.28) / 0.34) ** 2 - 1)))
        grey += 0.35 * np.exp(-((x / 0.09) ** 2)) + 0.05 * np.cos(26 * (y + 0.25 * x**2)) * np.exp(-(x**4))
        if y_nk[i, 10] == 1:
            side = rng.choice([-1, 1])
            grey += (
                0.5
                / (1 + np.exp(-16 * (y - 0.35 - 0.3 * np.abs(x - side * 0.4))))
                * (np.sign(x) == side)
                * (np.abs(x) < 0.75)
            )
        if y_nk[i, 13] == 1:
            grey[(np.abs(x - 0.45) < 0.08) & (np.abs(y + 0.55) < 0.07)] = 1.0
        grey = np.clip(grey + rng.normal(0, 0.03, grey.shape), 0, 1)
        picture = Image.fromarray((255 * grey).astype(np.uint8))
        sizes[i] = picture.size
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=80)
        full.append(out.getvalue())
        thumb = picture.copy()
        thumb.thumbnail((160, 160))
        out = io.BytesIO()
        thumb.save(out, "WEBP", quality=55)
        small.append(out.getvalue())
    return full, small, sizes


def _sae(
    build: Build, m: int, d: int, dead_m: np.ndarray, active: float, fve: float, expansion: int, epochs: int
) -> None:  # fmt: skip
    with build.database() as db:
        t = np.linspace(0, 1, epochs)
        mse = d * (0.08 + 0.9 * np.exp(-6 * t))
        _insert(db, "history", pd.DataFrame({
            "step": (np.arange(epochs) + 1) * 40, "epoch": np.arange(epochs) + 1, "loss": mse * 1.1, "mse": mse,
            "l1": 9.0 + 0 * t, "active_share": active / m + 0.2 * np.exp(-8 * t), "fve": fve * (1 - np.exp(-7 * t)),
            "dead": dead_m.mean() * t,
        }))  # fmt: skip
        _insert(db, "dead", pd.DataFrame({"neuron": np.arange(m), "dead": dead_m}))
    build.publish({"kind": "topk", "m": m, "d": d, "k": 16, "expansion": expansion, "epochs": epochs, "seed": 0,
                   "fve": fve, "active_share": active / m, "active_neurons": active, "dead_share": float(dead_m.mean()), "mse": float(mse[-1])})  # fmt: skip


def _sparse(
    rng: np.random.Generator, m: int, y_nk: np.ndarray, dead_m: np.ndarray, active: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Non-zero activations (neuron, image, value) sorted by neuron, value descending."""
    n, k = y_nk.shape
    share = rng.lognormal(0, 1, m) * ~dead_m
    counts = np.maximum(1, np.minimum(0.6 * n, share / share.sum() * active * n)).astype(int) * ~dead_m
    follows = np.where(rng.random(m) < 0.45, rng.integers(0, k, m), -1)
    positives = [np.flatnonzero(y_nk[:, j] == 1) for j in range(k)]
    parts = []
    for i in np.flatnonzero(counts):
        c = counts[i]
        if follows[i] >= 0 and len(positives[follows[i]]):
            some = rng.choice(positives[follows[i]], int(c * rng.uniform(0.4, 0.95)))
            image = np.unique(np.concatenate([some, rng.integers(0, n, c - len(some))]))
            value = rng.gamma(2, 0.4, len(image)) + 1.2 * (y_nk[image, follows[i]] == 1)
        else:
            image = np.unique(rng.integers(0, n, c))
            value = rng.gamma(2, 0.6, len(image))
        order = np.argsort(-value)
        parts.append(
            (np.full(len(image), i, np.int32), image[order].astype(np.int32), (value[order] + 1e-3).astype(np.float32))
        )
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]


def _dense(rng: np.random.Generator, d: int, y_nk: np.ndarray) -> list[np.ndarray]:
    """Columns of a dense representation that follow some labels a little."""
    centred = y_nk - y_nk.mean(0)
    return [(centred @ rng.normal(0, 0.25, y_nk.shape[1]) + rng.normal(0, 1, len(y_nk))).astype("f4") for _ in range(d)]


def _scores(
    store: Store, rng: np.random.Generator, config: Score, what: str, z: object, m: int, y_nk: np.ndarray,
    labels: list[str], parents: dict[str, str], maps: bool = False,
) -> str:  # fmt: skip
    n, k = y_nk.shape
    with store.build(f"scores-{what}", config, parents) as build:
        if build.existing is not None:
            return build.id
        yn = np.where(y_nk < 0, 0, y_nk).astype(float)
        if isinstance(z, list):
            sums, squares = np.array([c.sum() for c in z], float), np.array([(c**2).sum() for c in z], float)
            cross = np.stack([c @ yn for c in z])
            low, high, density = (np.array([f(c) for c in z]) for f in (np.min, np.max, lambda c: (c > 0).mean()))
            keep = min(500, n // 2)
            neuron, image, value, edges = [], [], [], []
            for i, c in enumerate(z):
                order = np.argsort(-c)
                ends = order if 2 * keep >= n else np.concatenate([order[:keep], order[-keep:]])
                neuron.append(np.full(len(ends), i, np.int32))
                image.append(ends.astype(np.int32))
                value.append(c[ends])
                edges.append(np.histogram(c, 30))
            neuron, image, value = map(np.concatenate, (neuron, image, value))
        else:
            neuron, image, value = z  # type: ignore[misc]
            sums = np.bincount(neuron, value, m)
            squares = np.bincount(neuron, value.astype(float) ** 2, m)
            cross = np.stack([np.bincount(neuron, value * yn[image, j], m) for j in range(k)], 1)
            fired = np.bincount(neuron, minlength=m)
            starts = np.concatenate([[0], np.cumsum(fired)])
            high = np.array([value[starts[i]] if fired[i] else 0.0 for i in range(m)])
            low, density = np.zeros(m), fired / n
            edges = [np.histogram(value[starts[i] : starts[i + 1]], 30) if fired[i] else None for i in range(m)]
        mean, std = sums / n, np.sqrt(np.maximum(0, squares / n - (sums / n) ** 2))
        with np.errstate(invalid="ignore", divide="ignore"):
            rho = (cross / n - mean[:, None] * yn.mean(0)) / (std[:, None] * yn.std(0))
        rho[std < 1e-9] = np.nan
        defined = np.isfinite(rho).all(1)
        share = np.abs(rho) / np.abs(rho).sum(1, keepdims=True)
        entropy = -(share * np.log2(np.where(share > 0, share, 1))).sum(1)
        strongest = np.where(defined[:, None], np.abs(rho), 0).argmax(1)
        top = rho[np.arange(m), strongest]
        profile = np.abs(rng.standard_normal((4000, k)))
        profile /= profile.sum(1, keepdims=True)
        null = -(profile * np.log2(profile)).sum(1)
        p = np.where(defined, 1 - (1 - 2 * stats.norm.sf(np.abs(top) * np.sqrt(n))) ** k, np.nan)
        q = np.full(m, np.nan)
        q[defined] = stats.false_discovery_control(p[defined])
        half = 1.96 / np.sqrt(max(4, n - 3))
        with build.database() as db:
            _insert(db, "neuron", pd.DataFrame({
                "neuron": np.arange(m), "active": (density * n).round().astype(int), "density": density, "mean": mean, "std": std, "min": low, "max": high,
                "entropy": entropy, "entropy_null_mean": np.where(defined, null.mean(), np.nan),
                "entropy_null_sd": np.where(defined, null.std(), np.nan), "max_abs_rho": np.abs(top),
                "top_label": np.where(defined, np.array(labels, object)[strongest], None), "top_rho": top, "p": p,
                "q": q, "selective": np.where(defined, q <= config.fdr, None),
                "reason": np.where(defined, None, "dead: fires on no scored image"),
            }))  # fmt: skip
            flat = rho.ravel()
            _insert(db, "correlation", pd.DataFrame({
                "neuron": np.repeat(np.arange(m), k), "label": np.tile(labels, m), "rho": flat, "n": n,
                "low": np.tanh(np.arctanh(np.clip(flat, -0.999, 0.999)) - half),
                "high": np.tanh(np.arctanh(np.clip(flat, -0.999, 0.999)) + half),
                "reason": np.where(np.isfinite(flat), None, "dead: fires on no scored image"),
            }))  # fmt: skip
            for start in range(0, len(neuron), 100 * BLOCK):
                at = slice(start, start + 100 * BLOCK)
                _insert(db, "activation", pd.DataFrame({
                    "neuron": neuron[at], "image": image[at], "value": value[at].astype("f4"),
                }))  # fmt: skip
            rows = [(i, b, e[1][b], e[1][b + 1], e[0][b]) for i, e in enumerate(edges) if e for b in range(30)]
            _insert(db, "histogram", pd.DataFrame(rows, columns=["neuron", "bin", "low", "high", "count"]))
            _insert(db, "scored", pd.DataFrame({"image": np.arange(n)}))
            draws = config.draws
            strong = defined & (np.abs(top) > 0.2)
            means = [entropy[defined].mean(), entropy[strong].mean() if strong.any() else np.nan]
            frames = [
                pd.DataFrame({"kind": kind, "draw": np.arange(draws), "mean_entropy": a + rng.normal(0, 0.012, draws),
                              "mean_entropy_strong": b + rng.normal(0, 0.02, draws)})
                for kind, a, b in (("bootstrap", *means), ("permutation", null.mean(), null.mean() - 0.4))
            ]  # fmt: skip
            _insert(db, "draw", pd.concat(frames))
            _insert(db, "null_histogram", _null_histogram(null, k))
            _insert(db, "summary", _summary(means, null, defined, strong, q, config, top, density, frames))
            _insert(db, "label_summary", _label_summary(y_nk, labels, rho, neuron, image, value))
            attributes = [("view", "AP"), ("sex", "F"), ("age", "over the median")]
            near = rng.normal(0, 0.05, (m, 3)) * defined[:, None]
            _insert(db, "attribute_correlation", pd.DataFrame({
                "neuron": np.repeat(np.arange(m), 3), "attribute": [a for a, _ in attributes] * m,
                "value": [v for _, v in attributes] * m, "rho": near.ravel(), "n": n, "low": near.ravel() - half,
                "high": near.ravel() + half,
            }))  # fmt: skip
            _insert(
                db,
                "confounded",
                _confounded(rng, top, half, np.where(defined, np.array(labels, object)[strongest], None), n),
            )
            _insert(db, "given", pd.DataFrame([
                {"neuron": i, "attribute": a, "label": labels[strongest[i]], "rho": top[i] * s, "low": top[i] * s - half,
                 "high": top[i] * s + half}
                for i in np.flatnonzero(defined) for a, s in (("view", 0.97), ("devices", 0.6))
            ]))  # fmt: skip
            if what == "sae":
                _insert(db, "neighbour", _neighbours(rng, m))
                _insert(db, "place", _places(np.where(density > 0, strongest, -1)))
                _insert(db, "recovery", pd.DataFrame({
                    "factor": ["side:right", "side:left", "device"], "positives": [90, 85, 60], "negatives": 200, "neuron": [3, 8, 11],
                    "activation": [0.78, 0.75, 0.91], "preactivation": [0.84, 0.82, 0.95], "raw": [0.74, 0.73, 0.88],
                    "random": [0.72, 0.73, 0.81],
                }))  # fmt: skip
            if maps:
                for table, frame in _maps(rng, neuron, image, m).items():
                    _insert(db, table, frame)
        facts = {"representation": what, "m": m, "n": n, "labels": labels, "protocol": config.protocol}
        facts |= {"maps": "exact"} if maps else {}
        return build.publish(facts).id


def _maps(rng: np.random.Generator, neuron: np.ndarray, image: np.ndarray, m: int) -> dict[str, pd.DataFrame]:
    """Maps of 8 x 8 cells; activations come sorted by neuron, the largest first."""
    rank = np.arange(len(neuron)) - np.searchsorted(neuron, neuron)
    top = np.flatnonzero(rank < 25)
    cells = [m_.tobytes() for m_ in rng.integers(-127, 128, (len(top), 64), np.int8)]
    usual = [m_.tobytes() for m_ in rng.integers(-127, 128, (m, 64), np.int8)]
    grid = {"rows": 8, "columns": 8, "first_px": 0.0, "step_px": 16.0, "reach_px": 127, "size_px": 128, "how": "exact"}
    return {
        "cell": pd.DataFrame(
            {"neuron": neuron[top], "image": image[top], "map": cells, "scale": 0.01, "constant": 0.5}
        ),
        "cell_average": pd.DataFrame({"neuron": np.arange(m), "map": usual, "scale": 0.01}),
        "cell_grid": pd.DataFrame([grid]),
    }


def _confounded(rng: np.random.Generator, top: np.ndarray, half: float, label: np.ndarray, n: int) -> pd.DataFrame:
    left = top * rng.uniform(0.3, 1, len(top))
    known = np.array([x is not None for x in label])
    table = {"rho": top, "low": top - half, "high": top + half, "within_rho": top * 0.9, "given": left,
             "given_low": left - half, "given_high": left + half, "fall": abs(top - left),
             "fall_low": abs(top - left) - half / 2, "fall_high": abs(top - left) + half / 2,
             "null_fall": np.full(len(top), 0.01)}  # fmt: skip
    return pd.DataFrame({
        "neuron": np.arange(len(top)), "label": label, "n": n, "within": "view AP", "within_n": n // 2,
        "attributes": "view, devices", "verdict": np.where(known, np.where(left / top < 0.75, "partly devices", "holds"), None),
        "reason": np.where(known, None, "no defined correlation"),
        **{name: np.where(known, value, np.nan) for name, value in table.items()},
    })  # fmt: skip


def _null_histogram(null: np.ndarray, k: int) -> pd.DataFrame:
    counts, edges = np.histogram(null, np.linspace(0, np.log2(k), 77))
    share = counts / counts.sum()
    return pd.DataFrame({"bin": range(len(share)), "low": edges[:-1], "high": edges[1:], "observed": share, "mean": share, "low_share": 0.8 * share,
                         "high_share": 1.2 * share})  # fmt: skip


def _summary(
    means: list[float], null: np.ndarray, defined: np.ndarray, strong: np.ndarray, q: np.ndarray, config: Score,
    top: np.ndarray, density: np.ndarray, frames: list[pd.DataFrame],
) -> pd.DataFrame:  # fmt: skip
    def interval(frame: pd.DataFrame, column: str) -> list[float]:
        return list(np.quantile(frame[column], [0.025, 0.975]))

    m, n_defined, n_strong = len(defined), int(defined.sum()), int(strong.sum())
    selective = int((q[defined] <= config.fdr).sum())
    rows = [
        ("mean_entropy", means[0], *interval(frames[0], "mean_entropy"), n_defined, "bits, over defined neurons"),
        ("mean_entropy_strong", means[1], *interval(frames[0], "mean_entropy_strong"), n_strong, "max |rho| > 0.2"),
        ("null_mean_entropy", null.mean(), *interval(frames[1], "mean_entropy"), n_defined, "labels shuffled"),
        ("null_mean_entropy_strong", null.mean() - 0.4, *interval(frames[1], "mean_entropy_strong"), n_strong, ""),
        ("selective_share", selective / n_defined, None, None, n_defined, "share of defined neurons, FDR 5 %"),
        ("dead_share", float((density == 0).mean()), None, None, m, "share of neurons"),
        ("median_max_rho", float(np.nanmedian(np.abs(top))), None, None, n_defined, "over defined neurons"),
        ("active_share", float(density.mean()), None, None, m, "share of active neurons (L0 / m)"),
        ("active_neurons", float(density.sum()), None, None, m, "mean active neurons an image (L0)"),
    ]
    return pd.DataFrame(rows, columns=["measure", "value", "low", "high", "n", "note"])


def _label_summary(
    y_nk: np.ndarray, labels: list[str], rho: np.ndarray, neuron: np.ndarray, image: np.ndarray, value: np.ndarray
) -> pd.DataFrame:
    rows = []
    n = len(y_nk)
    for j, label in enumerate(labels):
        best = int(np.nanargmax(np.abs(rho[:, j])))
        z = np.zeros(n)
        mine = neuron == best
        z[image[mine]] = value[mine]
        positive = y_nk[:, j] == 1
        rank = stats.rankdata(z)
        auroc = (rank[positive].sum() - positive.sum() * (positive.sum() + 1) / 2) / (
            positive.sum() * (~positive).sum()
        )
        auroc = max(auroc, 1 - auroc)
        rows.append((label, int(positive.sum()), int((y_nk[:, j] == 0).sum()), int((y_nk[:, j] == -1).sum()), 0, n,
                     best, rho[best, j], best, auroc, auroc - 0.02, min(1, auroc + 0.02), auroc - 0.01, None))  # fmt: skip
    return pd.DataFrame(rows, columns=["label", "positives", "negatives", "uncertain", "unstated", "used",
                                       "best_neuron_rho", "rho", "best_neuron_auroc", "auroc", "low", "high",
                                       "auroc_other_half", "reason"]).assign(other_half_low=lambda f: f.auroc_other_half - 0.03,
                                                                             other_half_high=lambda f: f.auroc_other_half + 0.03)  # fmt: skip


def _neighbours(rng: np.random.Generator, m: int) -> pd.DataFrame:
    count = min(10, m - 1)
    frames = []
    for measure in ("decoder", "coactivation"):
        other = (np.arange(m)[:, None] + 1 + rng.integers(0, m - 1, (m, count))) % m
        value = -np.sort(-rng.beta(2, 4, (m, count)), 1)
        frames.append(pd.DataFrame({"neuron": np.repeat(np.arange(m), count), "rank": np.tile(np.arange(1, count + 1), m),
                                    "other": other.ravel(), "measure": measure, "value": value.ravel()}))  # fmt: skip
    return pd.concat(frames).sort_values(["neuron", "measure", "rank"])


def _places(group_m: np.ndarray) -> pd.DataFrame:
    """A map with one heap a label; neurons of group -1 are not on it."""
    rng = np.random.default_rng(0)
    turn = 2 * np.pi * group_m / (1 + group_m.max())
    at = 0.7 * np.stack([np.cos(turn), np.sin(turn)], 1) + rng.normal(0, 0.08, (len(group_m), 2))
    at /= np.abs(at).max()
    return pd.DataFrame({"neuron": np.arange(len(at)), "x": at[:, 0], "y": at[:, 1]})[group_m >= 0]


def _insert(db: object, table: str, frame: pd.DataFrame) -> None:
    db.register("frame", frame)  # type: ignore[attr-defined]
    names = ", ".join(f'"{c}"' for c in frame.columns)
    db.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM frame")  # type: ignore[attr-defined]
    db.unregister("frame")  # type: ignore[attr-defined]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=2400)
    parser.add_argument("--neurons", type=int, default=512)
    parser.add_argument("--d", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--names", action="store_true", help="a ledger with a name for every defined neuron of the SAE")
    parser.add_argument("--vectors", action="store_true", help="the numbers of the embedding (x.npy)")
    parser.add_argument("--maps", action="store_true", help="maps of the strongest images of every neuron")
    given = parser.parse_args()
    made = write(given.data, given.images, given.neurons, given.d, given.seed, vectors=given.vectors, maps=given.maps)
    if given.names:
        write_names(given.data, made.scores, given.seed)
    print(made)
