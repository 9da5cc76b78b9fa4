"""look: a picture of one's own through the same decoder, encoder and SAE. Nothing of it is kept.

A `Looker` holds the models; the command asks it once, `--watch` answers the app until nobody asks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from medsae import config as c
from medsae import encoders
from medsae.cohorts.checking import decode_apart
from medsae.cohorts.pictures import PictureError, read
from medsae.device import pick
from medsae.progress import Progress, UserError
from medsae.sae.model import Sae
from medsae.steps import eyes, occlusion, squares, tokens
from medsae.steps.train import split_rows
from medsae.store.artifacts import Artifact, Store
from medsae.store.ledger import Ledger
from medsae.store.looks import Looks

KNOWN, HELD_OUT = 20_000, 1_000
"""Training and held-out pictures that tell what is near and what is far."""
FAR = 0.99
"""Quantile of the held-out pictures' distances beyond which a picture is unlike what the SAE was trained on."""
NEAREST = 6
_REMEMBERED = 64
"""Pictures of the cohort of which the losses by occlusion are held: the next neuron is asked of them at once."""
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Seen:
    """One picture through encoder and SAE."""

    x_d: np.ndarray
    """Its embedding (of tokens their mean)."""
    z_m: np.ndarray
    maps: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None
    """Neurons -> maps [k, cells] and constants [k]; None where there are none."""


class Sight(Protocol):
    """How pictures are seen."""

    @property
    def encoder(self) -> encoders.Encoder: ...

    @property
    def unit_norm(self) -> bool: ...

    @property
    def grid(self) -> dict[str, Any] | None:
        """A row of the table `cell_grid`; None without maps."""
        ...

    @property
    def why(self) -> str:
        """Why there are no maps."""
        ...

    def see(self, picture: np.ndarray) -> Seen:
        """A decoded picture, uint8 [h, w]."""
        ...


@dataclass(frozen=True)
class ByCells:
    """The embedding is a sum over cells: exact maps."""

    eye: eyes.Eye
    sae: Sae | None
    directions: eyes.Direction
    why: str = ""

    @property
    def encoder(self) -> encoders.Encoder:
        return self.eye.encoder

    @property
    def unit_norm(self) -> bool:
        return self.eye.unit_norm

    @property
    def grid(self) -> dict[str, Any]:
        return self.eye.grid_row()

    def see(self, picture: np.ndarray) -> Seen:
        parts, constant = self.eye.parts([self.eye.prepared(picture)])
        x_d = parts[0].sum(0) + constant[0]
        z_m = self.sae.encode(x_d[None])[0] if self.sae else x_d
        return Seen(x_d, z_m, lambda neurons: self.eye.maps(parts[0], constant[0], self.directions, neurons))


@dataclass(frozen=True)
class ByTokens:
    """The SAE takes tokens: the map is their activations."""

    encoder: encoders.TokenEncoder
    sae: Sae | None
    pooled: tokens.Pooled
    grid: dict[str, Any] | None
    why: str
    unit_norm: bool = False

    def see(self, picture: np.ndarray) -> Seen:
        # In half precision, as tokens lie on disk.
        x_td = encoders.tokens(self.encoder, self.encoder.prepare(picture)[None])[0]
        z_tm = x_td.astype(np.float16).astype(np.float32)
        z_tm = self.sae.encode(z_tm) if self.sae else z_tm
        made = (lambda neurons: (z_tm[:, neurons].T, np.zeros(len(neurons)))) if self.grid else None
        return Seen(x_td.mean(0), tokens.pool(z_tm[None], self.pooled)[0], made)


@dataclass(frozen=True)
class ByWhole:
    """One vector a picture that is no sum over cells: maps only by occlusion."""

    encoder: encoders.Encoder
    unit_norm: bool
    sae: Sae | None
    why: str
    grid: None = None

    def see(self, picture: np.ndarray) -> Seen:
        x_d = squares.embedded(self.encoder, [picture], self.unit_norm)[0]
        return Seen(x_d, self.sae.encode(x_d[None])[0] if self.sae else x_d, None)


class Looker:
    """Encoder, SAE and what is known of the cohort, loaded once."""

    def __init__(self, scores: Artifact, store: Store, progress: Progress):
        self.scores, self.store = scores, store
        self.passed: Callable[[int], None] = lambda _: None
        """Told how many more of the `occlusion.PASSES` runs of the encoder are over, of a map by occlusion."""
        self.embeddings = store.parent(scores.parents["embeddings"], "embeddings")
        self.cohort = store.parent(scores.parents["cohort"], "cohort")
        sae = scores.parents.get("sae")
        self.sae = Sae.load(store.parent(sae, "sae").file("sae.safetensors")) if sae else None
        d = int(self.embeddings.facts["d"])
        self.directions = eyes.Direction.of_sae(self.sae) if self.sae else eyes.Direction.of_raw(d)
        self.sight = self._sight(progress)
        self._remember_cohort()

    def _sight(self, progress: Progress) -> Sight:
        encoder = eyes.encoder_of(self.embeddings, self.store, progress)
        if self.embeddings.facts.get("tokens"):
            grid = tokens.grid_row(self.embeddings.facts)
            why = "" if grid else "the encoder's own preparation crops: it is not known which part a token is of"
            return ByTokens(encoders.tokens_of(encoder), self.sae, self.scores.facts.get("tokens") or "max", grid, why)
        try:
            eye = eyes.eye_with(encoder, self.embeddings)
        except UserError as error:
            encoder.module.to(pick("auto", ("cuda", "cpu")))  # a map by occlusion runs it 65 times
            return ByWhole(encoder, eyes.unit_norm(encoder, self.embeddings), self.sae, error.what)
        return ByCells(self._with_reference(eye), self.sae, self.directions)

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

    def _with_reference(self, eye: eyes.Eye) -> eyes.Eye:
        """With the mean parts that the scores keep; scores from before maps have none, so they are made anew."""
        if eyes.REFERENCE_FILE in self.scores.manifest["files"]:
            return replace(eye, reference_cd=np.load(self.scores.file(eyes.REFERENCE_FILE)))
        sample = eyes.sampled(eyes.pictures_of(self.cohort))
        return eye.with_reference(sample) if sample else eye

    def look(self, data: bytes, most: int, occlude: bool = False) -> dict[str, Any]:
        """What a picture's bytes give. UserError for bytes that are no picture."""
        try:
            picture = decode_apart(data)
        except PictureError as error:
            raise UserError(f"this picture cannot be used: {error}") from error
        seen = self.sight.see(picture)
        neurons, share = self._strongest(seen.z_m, most)
        made = self._maps(picture, seen, neurons, occlude)
        return {
            "scores": self.scores.id, "height": int(picture.shape[0]), "width": int(picture.shape[1]),
            "neurons": self._neurons(seen.z_m, neurons, share, made), "fires": int((seen.z_m > 0).sum()),
            "grid": made.grid, "no_maps": "" if made.grid else self.sight.why,
            "distance": self._distance(seen.x_d), "nearest": self._nearest(seen.x_d),
            "note": "research use only, not for diagnosis",
        }  # fmt: skip

    def maps_of(self, image: int, neurons: list[int], occlude: bool = False) -> dict[str, Any]:
        """The maps of some neurons on a picture of the cohort: image, grid, maps {neuron: {"map", "constant"}}.
        UserError for a picture that is not there and for neurons that are not."""
        pictures, m = self._pictures, len(self.neurons)
        if not 0 <= image < len(pictures):
            raise UserError(f"picture {image} of the cohort is not here", self.cohort.id)
        if not all(0 <= n < m for n in neurons):
            raise UserError(f"neurons are numbered 0 .. {m - 1}", self.scores.id)
        try:
            picture = pictures[image]
        except ValueError as error:
            raise UserError(f"picture {image} cannot be decoded: {error}", self.cohort.id) from error
        chosen = np.array(neurons, np.intp)
        made = self._maps(picture, self.sight.see(picture), chosen, occlude, image)
        found = {n: {"map": map_, "constant": k} for n, (map_, k) in zip(neurons, made.each, strict=False)}
        return {"image": image, "grid": made.grid, "maps": found, "no_maps": "" if made.grid else self.sight.why}

    def answer(self, what: dict[str, Any], data: bytes, most: int) -> dict[str, Any]:
        """What the app asked: of a picture that came with the question, or of one of the cohort."""
        occlude = bool(what.get("occlude"))
        if "image" in what:
            return self.maps_of(int(what["image"]), [int(n) for n in what["neurons"]], occlude)
        return self.look(data, most, occlude)

    def _maps(
        self, picture: np.ndarray, seen: Seen, neurons: np.ndarray, occlude: bool, image: int | None = None
    ) -> Drawn:
        if seen.maps is not None:
            map_kc, constant_k = seen.maps(neurons)
            return Drawn.of(map_kc, constant_k, self.sight.grid)
        if not occlude or isinstance(self.sight, ByTokens):
            return Drawn(None, [])
        losses = self._losses.get(image) if image is not None else None
        if losses is None:
            losses = self._occluder.losses(picture, self.passed)
        if image is not None:
            self._losses[image] = losses
            while len(self._losses) > _REMEMBERED:
                self._losses.pop(next(iter(self._losses)))
        map_kc = self._occluder.maps(losses, self.directions, neurons)
        value_k = self.directions.row_md[neurons] @ seen.x_d + self.directions.constant_m[neurons]
        return Drawn.of(map_kc, value_k - map_kc.sum(1), self._occluder.grid_row())

    @cached_property
    def _pictures(self) -> Any:
        return eyes.pictures_of(self.cohort)

    @cached_property
    def _losses(self) -> dict[int, np.ndarray]:
        return {}

    @cached_property
    def _occluder(self) -> occlusion.Occluder:
        return occlusion.Occluder(self.sight.encoder, self.sight.unit_norm, squares.mean_of(self.cohort))

    def _strongest(self, z_m: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Neurons that fire, by share of their maximum, and the share of every neuron (NaN where it is not known)."""
        largest = self.most.reindex(range(len(z_m))).to_numpy(float)
        share = np.divide(z_m, largest, out=np.full(len(z_m), np.nan), where=largest > 0)
        order = np.argsort(-np.where(z_m > 0, np.nan_to_num(share, nan=-1), -2), kind="stable")
        return order[z_m[order] > 0][:most], share

    def _neurons(self, z_m: np.ndarray, neurons: np.ndarray, share_m: np.ndarray, made: Drawn) -> list[dict[str, Any]]:
        names = _names(self.store, self.scores)
        about = self.neurons.set_index("neuron")
        found = []
        for k, neuron in enumerate(neurons.tolist()):
            label = about["top_label"].get(neuron)
            map_, constant = made.each[k] if made.each else (None, None)
            found.append({
                "neuron": neuron, "activation": float(z_m[neuron]),
                "share_of_max": None if np.isnan(share_m[neuron]) else float(share_m[neuron]),
                "name": names.get(neuron), "label": label if isinstance(label, str) else None,
                "map": map_, "map_constant": constant,
            })  # fmt: skip
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


@dataclass(frozen=True)
class Drawn:
    """Maps as they go into JSON."""

    grid: dict[str, Any] | None
    each: list[tuple[list[list[float]], float]]
    """(rows of cells, constant) of each neuron that was asked for."""

    @staticmethod
    def of(map_kc: np.ndarray, constant_k: np.ndarray, grid: dict[str, Any] | None) -> Drawn:
        assert grid is not None
        shape = (int(grid["rows"]), int(grid["columns"]))
        rounded = np.round(map_kc.reshape(len(map_kc), *shape).astype(float), 5).tolist()
        return Drawn(grid, list(zip(rounded, np.asarray(constant_k, float).tolist(), strict=True)))


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
    looker = Looker(scores, store, progress)
    if config.occlude and isinstance(looker.sight, ByWhole):
        with progress.task("occlusion", occlusion.PASSES, "passes") as task:
            looker.passed = task.advance
            found = looker.look(data, config.most, config.occlude)
    else:
        found = looker.look(data, config.most, config.occlude)
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


class _Counted:
    """Writes into the state how far a map by occlusion is: it may take minutes."""

    def __init__(self, looks: Looks):
        self.looks, self.done = looks, 0

    def __call__(self, more: int) -> None:
        self.done += more
        over = self.done >= occlusion.PASSES
        self.looks.tell(phase="ready", **({} if over else {"passes": self.done, "of": occlusion.PASSES}))


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
                token, what, data = asked
                looker.passed = _Counted(looks)
                try:
                    reply = looker.answer(what, data, config.most)
                except UserError as error:
                    reply = {"error": error.what}
                looks.answer(token, json.dumps(reply))
                answered, quiet_since = answered + 1, time.monotonic()
        finally:
            looks.tell(phase="stopped")
    return {"id": scores.id, "answered": answered}
