"""look: a picture of one's own through the same decoder, encoder and SAE. Nothing of it is kept.

A `Looker` holds the models; the command asks it once, `--watch` answers the app until nobody asks.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import numpy as np

from medsae import config as c
from medsae import encoders
from medsae.cohorts.checking import decode_apart
from medsae.cohorts.pictures import PictureError, read
from medsae.progress import Progress, UserError
from medsae.sae.model import Sae
from medsae.steps import maps
from medsae.steps.train import split_rows
from medsae.store.artifacts import Artifact, Store
from medsae.store.ledger import Ledger
from medsae.store.looks import Looks

KNOWN, HELD_OUT = 20_000, 1_000
"""Training and held-out pictures that tell what is near and what is far."""
FAR = 0.99
"""Quantile of the held-out pictures' distances beyond which a picture is unlike what the SAE was trained on."""
NEAREST = 6
_POLL_SECONDS = 0.05


class Looker:
    """Encoder, SAE and what is known of the cohort, loaded once."""

    def __init__(self, scores: Artifact, store: Store, progress: Progress):
        self.scores, self.store = scores, store
        self.embeddings = store.parent(scores.parents["embeddings"], "embeddings")
        self.cohort = store.parent(scores.parents["cohort"], "cohort")
        self.why_no_maps = ""
        try:
            self.eye: maps.Eye | None = maps.eye_of(self.embeddings, store, progress)
        except UserError as error:
            self.eye, self.why_no_maps = None, error.what
        config = maps.embedded_with(self.embeddings)
        if config.encoder is None or config.pool == "tokens":
            raise UserError(self.why_no_maps, self.embeddings.id, "score embeddings that an encoder made here")
        self.encoder = self.eye.encoder if self.eye else encoders.load_encoder(
            config.encoder, config.weights, store.cache, progress, config)  # fmt: skip
        unit = config.unit_norm if config.unit_norm is not None else self.encoder.unit_norm_default
        self.unit_norm = bool(unit)
        sae = scores.parents.get("sae")
        self.sae = Sae.load(store.parent(sae, "sae").file("sae.safetensors")) if sae else None
        d = int(self.embeddings.facts["d"])
        self.directions = maps.Direction.of_sae(self.sae) if self.sae else maps.Direction.of_raw(d)
        self._remember_cohort()

    def _remember_cohort(self) -> None:
        self.x_nd = np.load(self.embeddings.file("x.npy"), mmap_mode="r")
        rows = split_rows(self.embeddings, self.cohort)
        rng = np.random.default_rng(0)
        known = _some(rows["train"], KNOWN, rng)
        self.known_nd = np.asarray(self.x_nd[known], np.float32)
        held = rows["holdout"] if len(rows["holdout"]) else rows["evaluation"]
        self.held_out = _distances(np.asarray(self.x_nd[_some(held, HELD_OUT, rng)], np.float32), self.known_nd)
        with self.embeddings.connect() as connection:
            found = connection.execute('SELECT image FROM embedding_row ORDER BY "row"').df()["image"].to_numpy()
        self.image_of_row = found
        with self.cohort.connect() as connection:
            self.patient = dict(connection.execute("SELECT image, patient FROM image").fetchall())
        with self.scores.connect() as connection:
            self.neurons = connection.execute("SELECT neuron, max, top_label, top_rho FROM neuron").df()
        self.most = self.neurons.set_index("neuron")["max"]
        if self.eye is not None:
            self.eye = self._with_reference(self.eye)

    def _with_reference(self, eye: maps.Eye) -> maps.Eye:
        """With the mean parts that the scores keep; scores from before maps have none, so they are made anew."""
        if maps.REFERENCE_FILE in self.scores.manifest["files"]:
            return replace(eye, reference_cd=np.load(self.scores.file(maps.REFERENCE_FILE)))
        sample = maps.sampled(maps.pictures_of(self.cohort))
        return eye.with_reference(sample) if sample else eye

    def look(self, data: bytes, most: int) -> dict[str, Any]:
        """What a picture's bytes give. UserError for bytes that are no picture."""
        try:
            picture = decode_apart(data)
        except PictureError as error:
            raise UserError(f"this picture cannot be used: {error}") from error
        parts = None
        if self.eye is not None:
            parts = self.eye.parts([picture])
            x_d = parts[0][0].sum(0) + parts[1][0]
        else:
            x_d = self._embedded(picture)
        z_m = self.sae.encode(x_d[None])[0] if self.sae else x_d
        return {
            "scores": self.scores.id, "height": int(picture.shape[0]), "width": int(picture.shape[1]),
            "neurons": self._neurons(z_m, parts, most), "fires": int((z_m > 0).sum()),
            "grid": self._grid(), "no_maps": self.why_no_maps,
            "distance": self._distance(x_d), "nearest": self._nearest(x_d),
            "note": "research use only, not for diagnosis",
        }  # fmt: skip

    def _embedded(self, picture: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            x = self.encoder.module(torch.from_numpy(self.encoder.prepare(picture)[None]))[0].float().numpy()
        return x / np.linalg.norm(x) if self.unit_norm else x

    def _grid(self) -> dict[str, Any] | None:
        return None if self.eye is None else maps.grid_frame(self.eye).to_dict("records")[0]

    def _neurons(self, z_m: np.ndarray, parts: Any, most: int) -> list[dict[str, Any]]:
        largest = self.most.reindex(range(len(z_m))).to_numpy(float)
        share = np.divide(z_m, largest, out=np.full(len(z_m), np.nan), where=largest > 0)
        order = np.argsort(-np.where(z_m > 0, np.nan_to_num(share, nan=-1), -2), kind="stable")
        order = order[z_m[order] > 0][:most]
        names = _names(self.store, self.scores)
        about = self.neurons.set_index("neuron")
        found = []
        made = self.eye.maps(parts[0][0], parts[1][0], self.directions, order) if self.eye is not None else None
        for k, neuron in enumerate(order.tolist()):
            label = about["top_label"].get(neuron)
            entry: dict[str, Any] = {
                "neuron": neuron, "activation": float(z_m[neuron]),
                "share_of_max": None if np.isnan(share[neuron]) else float(share[neuron]),
                "name": names.get(neuron), "label": label if isinstance(label, str) else None,
                "map": None, "map_constant": None,
            }  # fmt: skip
            if made is not None and self.eye is not None:
                rows, columns = self.eye.cells.grid
                entry["map"] = np.round(made[0][k].reshape(rows, columns), 5).tolist()
                entry["map_constant"] = float(made[1][k])
            found.append(entry)
        return found

    def _distance(self, x_d: np.ndarray) -> dict[str, Any]:
        value = float(_distances(x_d[None].astype(np.float32), self.known_nd)[0])
        quantile = float((self.held_out <= value).mean())
        return {
            "value": value, "quantile": quantile, "median_of_held_out": float(np.median(self.held_out)),
            "largest_of_held_out": float(self.held_out.max()), "unlike_training": quantile >= FAR,
            "what": f"Euclidean distance to the nearest of {len(self.known_nd):,} training embeddings; quantile among "
            f"{len(self.held_out):,} held-out ones",
        }  # fmt: skip

    def _nearest(self, x_d: np.ndarray) -> list[dict[str, Any]]:
        """The most similar pictures of the cohort, one a patient, by cosine about the mean."""
        mean = self.known_nd.mean(0)
        own = (x_d - mean) / max(float(np.linalg.norm(x_d - mean)), 1e-12)
        cosine = np.empty(len(self.x_nd), np.float32)
        for start in range(0, len(self.x_nd), 65_536):
            block = np.asarray(self.x_nd[start : start + 65_536], np.float32) - mean
            cosine[start : start + len(block)] = block @ own / np.maximum(np.linalg.norm(block, axis=1), 1e-12)
        found, seen = [], set()
        for row in np.argsort(-cosine, kind="stable"):
            image = int(self.image_of_row[row])
            if self.patient[image] not in seen:
                seen.add(self.patient[image])
                found.append({"image": image, "cosine": float(cosine[row])})
            if len(found) == NEAREST:
                break
        return found


def _some(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return np.sort(rng.permutation(rows)[:count])


def _distances(x_nd: np.ndarray, known_nd: np.ndarray) -> np.ndarray:
    """Euclidean distance of each row to the nearest row of `known_nd`."""
    squares = (known_nd**2).sum(1)
    out = np.empty(len(x_nd))
    for start in range(0, len(x_nd), 256):
        part = x_nd[start : start + 256]
        both = (part**2).sum(1)[:, None] + squares[None] - 2 * part @ known_nd.T
        out[start : start + len(part)] = np.sqrt(np.maximum(both.min(1), 0))
    return out


def _names(store: Store, scores: Artifact) -> dict[int, str]:
    """neuron -> the name with the best accuracy in the ledger."""
    rows = Ledger(store, scores.id).names()
    if not len(rows):
        return {}
    rows = rows[rows["status"] == "ok"]
    return {int(n): str(t) for n, t in zip(rows["neuron"][::-1], rows["concept"][::-1], strict=True)}


def look(config: c.Look, store: Store, progress: Progress) -> dict[str, Any]:
    """What one picture gives, or with `--watch` what the app's pictures give, one after the other."""
    scores = store.parent(config.scores, "scores")
    if config.watch:
        return _watch(config, scores, store, progress)
    assert config.picture is not None
    try:
        data = read(config.picture.expanduser())
    except PictureError as error:
        raise UserError(f"this picture cannot be used: {error}", config.picture) from error
    found = Looker(scores, store, progress).look(data, config.most)
    _tell(found, progress)
    return {"id": scores.id, **found}


def _tell(found: dict[str, Any], progress: Progress) -> None:
    far = found["distance"]
    further = f"further from the training images than {100 * far['quantile']:.0f} % of the held-out ones"
    progress.say(f"{found['fires']:,} neurons fire; distance {far['value']:.3g}, {further}")
    if far["unlike_training"]:
        progress.say("this picture is unlike anything that the SAE was trained on: what follows may mean nothing")
    for n in found["neurons"]:
        share = "" if n["share_of_max"] is None else f"{100 * n['share_of_max']:4.0f} % of its maximum"
        progress.say(f"  {n['neuron']:6}  {n['activation']:8.3f}  {share}  {n['name'] or n['label'] or ''}")


def _watch(config: c.Look, scores: Artifact, store: Store, progress: Progress) -> dict[str, Any]:
    looks, answered = Looks(store.data, scores.id), 0
    with looks.serving():
        looker = Looker(scores, store, progress)
        progress.say("ready: the models are loaded; pictures come from the app")
        looks.tell(phase="ready")
        quiet_since = time.monotonic()
        try:
            while time.monotonic() - quiet_since < config.idle_minutes * 60:
                asked = looks.take()
                if asked is None:
                    time.sleep(_POLL_SECONDS)
                    continue
                token, data = asked
                try:
                    reply = looker.look(data, config.most)
                except UserError as error:
                    reply = {"error": error.what}
                looks.answer(token, json.dumps(reply))
                answered, quiet_since = answered + 1, time.monotonic()
        finally:
            looks.tell(phase="stopped")
    return {"id": scores.id, "answered": answered}
