"""What neurons do to labels' read-outs, at score time: probes on training patients, zero-shot text, effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medsae import config as c
from medsae import encoders, plugins
from medsae.arrays import Rows
from medsae.progress import Progress, UserError
from medsae.scoring.pieces import Arrays, packed, unpacked
from medsae.steps.eyes import embedded_with
from medsae.steps.labels import labels_of
from medsae.store.artifacts import Artifact, Store

if TYPE_CHECKING:
    from medsae.effects.algebra import Readout, Rebuilt
    from medsae.effects.probe import Probe

LOGITS_FILE = "readout.npy"
"""Scores of the scored images, float32 [n, r], columns in the order of the table `readout`."""
JUDGED = 20_000
"""Scored images on which falls are computed at most, evenly spread."""


NULL_IMAGES, NULL_DIRECTIONS = 4_000, 200
"""Scored images, and random directions, that tell what AUROC a read-out that means nothing can have."""


@dataclass(frozen=True)
class Scored:
    """What `score` has when effects are computed."""

    embeddings: Artifact
    cohort: Artifact
    images: pd.DataFrame
    """image, patient of each scored row."""
    rows: np.ndarray
    """Row of x.npy of each scored image."""
    labels: list[str]
    y_nk: np.ndarray
    mask_nk: np.ndarray
    """Labels of the scored images by the policy of these scores, and where they are known."""
    activation: pd.DataFrame
    """neuron, row (of the scored images), value: every non-zero."""
    sae_artifact: Artifact
    config: c.Score


@dataclass(frozen=True)
class Made:
    """Tables `readout` and `effect`, and the scores of the scored images [n, r]."""

    tables: dict[str, pd.DataFrame]
    logit_nr: np.ndarray

    def kept(self) -> Arrays:
        """As arrays that can be kept."""
        return packed(**self.tables) | {"logit": self.logit_nr}

    @staticmethod
    def of(arrays: Arrays) -> Made:
        """What was kept."""
        return Made({name: unpacked(arrays, name) for name in ("readout", "effect")}, arrays["logit"])


def at_score(scored: Scored, store: Store, progress: Progress) -> Made:
    """Every read-out that there can be, and what each neuron does to it."""
    from medsae.effects.algebra import Readout, Rebuilt
    from medsae.sae.model import Sae

    x_nd = np.load(scored.embeddings.file("x.npy"), mmap_mode="r")
    sae = Sae.load(scored.sae_artifact.file("sae.safetensors"))
    rebuilt = Rebuilt(
        sae.weights["W_dec"].cpu().numpy() / sae.normalisation.scale, sae.decode(np.zeros((1, sae.m), np.float32))[0]
    )
    probes = _probes(scored, x_nd, progress)
    text_ld, why = _text(scored, store, progress)
    rows, weights, bias, covariance = [], [], [], []
    for j, label in enumerate(scored.labels):
        probe = probes[j]
        row = {"label": label, "kind": "probe", "reason": probe if isinstance(probe, str) else None}
        if not isinstance(probe, str):
            row |= {"n": probe.n, "positives": probe.positives, "penalty": probe.penalty}
        rows.append(row)
        weights.append(np.full(sae.d, np.nan) if isinstance(probe, str) else probe.weight_d)
        bias.append(np.nan if isinstance(probe, str) else probe.bias)
        covariance.append(None if isinstance(probe, str) else probe.covariance_dd)
    for label, weight in zip(scored.labels, text_ld, strict=False):
        rows.append({"label": label, "kind": "text", "reason": None})
        weights.append(weight)
        bias.append(0.0)
        covariance.append(None)
    if why:
        progress.say(f"no zero-shot read-out: {why}")
    readout = Readout(np.stack(weights), np.array(bias))
    parts = np.array_split(scored.rows, max(1, len(scored.rows) // 8192))
    logit = np.concatenate([readout.scores(x_nd[part]) for part in parts])
    null = _null(scored, x_nd)
    table = pd.DataFrame(rows).assign(position=range(len(rows)), constant=readout.constants(rebuilt))
    table["null_high"] = [null[label] for label in table["label"]]
    return Made(_tables(scored, table, readout, (rebuilt, covariance, logit), progress), logit.astype(np.float32))


def _null(scored: Scored, x_nd: np.ndarray) -> dict[str, float]:
    """Label -> the AUROC below which 95 % of random directions lie; NaN where a label does not vary."""
    from medsae.effects.falls import areas
    from medsae.scoring.words import random_with_spread

    kept = np.arange(0, len(scored.rows), max(1, -(-len(scored.rows) // NULL_IMAGES)))
    near_nd = np.asarray(x_nd[scored.rows[kept]], np.float32)
    score_nr = near_nd @ random_with_spread(near_nd, NULL_DIRECTIONS, np.random.default_rng([scored.config.seed, 37])).T
    found = {}
    for j, label in enumerate(scored.labels):
        use = scored.mask_nk[kept, j]
        found[label] = float(np.quantile(areas(score_nr[use], scored.y_nk[kept[use], j]), 0.95))
    return found


def _probes(scored: Scored, x_nd: np.ndarray, progress: Progress) -> list[Probe | str]:
    """A probe a label on the patients of the train split of whom no image is scored."""
    from medsae.effects import probe
    from medsae.scoring.labels import label_matrix
    from medsae.steps.train import split_rows

    rows = split_rows(scored.embeddings, scored.cohort)["train"]
    images, values_nk, _ = labels_of(scored.embeddings, scored.cohort, rows, scored.labels)
    apart = ~images["patient"].isin(scored.images["patient"].unique()).to_numpy()
    rows, values_nk = rows[apart], values_nk[apart]
    y_nk, mask_nk = label_matrix(values_nk, "missing", scored.config.unstated or "missing")
    code = pd.factorize(images["patient"][apart])[0]
    found: list[Probe | str] = []
    with progress.task("probes of labels", len(scored.labels), "labels") as task:
        for j in range(len(scored.labels)):
            use = mask_nk[:, j]
            none = "this label is stated for no training image of a patient who is not scored"
            stated = Rows(x_nd, rows[use])
            found.append(probe.fit(stated, y_nk[use, j], code[use], scored.config.seed) if use.any() else none)
            task.advance()
    return found


def _text(scored: Scored, store: Store, progress: Progress) -> tuple[np.ndarray, str]:
    """Zero-shot directions [labels, d]: the label's own words, of unit length (a score is a cosine where embeddings
    have unit length); or none and why."""
    try:
        found = text_tower(scored.embeddings, store, progress).embed_text(list(scored.labels))
    except UserError as error:
        return np.zeros((0, 0)), error.what
    d = int(scored.embeddings.facts["d"])
    if found.shape[1] != d:
        return np.zeros((0, 0)), f"its text has {found.shape[1]} dimensions, the embeddings have {d}"
    return found.astype(np.float64), ""


def text_tower(embeddings: Artifact, store: Store, progress: Progress) -> encoders.TextTower:
    """The text tower of the encoder that made these embeddings; UserError says why there is none."""
    config = embedded_with(embeddings)
    if config.encoder is None:
        raise UserError("these embeddings were made elsewhere: there is no encoder here to ask", embeddings.id)
    if config.pool == "tokens" or plugins.encoders.get(config.encoder).text is None:
        raise UserError(f"{config.encoder} has no text tower in the space of these embeddings", embeddings.id,
                        "CLIP, SigLIP, MedCLIP and simclip have one")  # fmt: skip
    return encoders.load_text(config.encoder, config.weights, store.cache, progress, config)


def _tables(
    scored: Scored, table: pd.DataFrame, readout: Readout, known: tuple[Rebuilt, list[Any], np.ndarray],
    progress: Progress,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    from medsae.effects import falls
    from medsae.scoring.auroc import auroc_interval

    rebuilt, covariance, logit = known
    effect, spread = readout.effects(rebuilt), readout.spread(rebuilt, covariance)
    m, r = effect.shape
    column = [scored.labels.index(label) for label in table["label"]]
    code = pd.factorize(scored.images["patient"])[0]
    areas = []
    for k, j in enumerate(column):
        use = scored.mask_nk[:, j] & np.isfinite(logit[:, k])
        area = auroc_interval(logit[use, k], scored.y_nk[use, j], code[use])
        areas.append({"auroc": area.value, "low": area.low, "high": area.high, "why": area.reason})
    table = pd.concat([table, pd.DataFrame(areas)], axis=1)
    table["reason"] = table["reason"].where(table["reason"].notna(), table.pop("why").replace("", None))
    fired = _Fired.of(scored.activation, m)
    every = max(1, len(scored.images) // JUDGED)
    kept = np.arange(len(scored.images)) % every == 0
    ranked = [falls.Ranked.of(logit[:, k], scored.y_nk[:, j], scored.mask_nk[:, j] & kept & np.isfinite(logit[:, k]))
              for k, j in enumerate(column)]  # fmt: skip
    fall, alone = np.full((m, r), np.nan), np.full((m, r), np.nan)
    with progress.task("what neurons do to read-outs", m, "neurons") as task:
        for neuron in range(m):
            row, value = fired.of_neuron(neuron)
            for k in range(r):
                if len(row) and np.isfinite(effect[neuron, k]):
                    change = effect[neuron, k] * value
                    fall[neuron, k] = ranked[k].fall(row, -change)
                    alone[neuron, k] = ranked[k].alone(row, change)
            task.advance()
    middle, most = falls.of_like_density(fall, fired.active_m)
    mean = fired.mean_m[:, None]
    effects = pd.DataFrame({
        "neuron": np.repeat(np.arange(m, dtype=np.int32), r), "position": np.tile(np.arange(r), m),
        "effect": effect.ravel(), "typical": (effect * mean).ravel(),
        "low": ((effect - 1.96 * spread) * mean).ravel(), "high": ((effect + 1.96 * spread) * mean).ravel(),
        "fall": fall.ravel(), "null_fall": middle.ravel(), "null_most": most.ravel(), "alone": alone.ravel(),
    })  # fmt: skip
    live = np.repeat(fired.active_m > 0, r)
    return {"readout": table, "effect": effects[live & np.isfinite(effects["effect"].to_numpy())]}


@dataclass(frozen=True)
class _Fired:
    """Activations by neuron."""

    start_m: np.ndarray
    row: np.ndarray
    value: np.ndarray

    @staticmethod
    def of(activation: pd.DataFrame, m: int) -> _Fired:
        neuron = activation["neuron"].to_numpy()
        start = np.concatenate([[0], np.cumsum(np.bincount(neuron, minlength=m))])
        return _Fired(start, activation["row"].to_numpy(), activation["value"].to_numpy())

    def of_neuron(self, neuron: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(self.start_m[neuron], self.start_m[neuron + 1])
        return self.row[part], self.value[part]

    @property
    def active_m(self) -> np.ndarray:
        return np.diff(self.start_m)

    @property
    def mean_m(self) -> np.ndarray:
        """Mean activation on the images that fire."""
        neuron = np.repeat(np.arange(len(self.active_m)), self.active_m)
        total = np.bincount(neuron, self.value, len(self.active_m))
        return np.divide(total, self.active_m, out=np.zeros(len(total)), where=self.active_m > 0)
