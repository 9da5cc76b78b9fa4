"""score: embeddings, raw or through an SAE, against the labels -> scores of every neuron."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike

from medsae import config as c
from medsae.arrays import Rows, rows_of
from medsae.progress import Progress, UserError
from medsae.shards import Part, Shards
from medsae.steps import found, located, tokens
from medsae.steps.labels import labels_of
from medsae.steps.tables import insert
from medsae.steps.train import split_rows
from medsae.store import coded
from medsae.store.artifacts import Artifact, Store
from medsae.store.coded import Values

if TYPE_CHECKING:
    from medsae.sae.model import Sae

_CELLS = 2**24
"""Activations encoded at a time (64 MiB)."""
_LARGE = 2**26
"""Bytes from which on an array of all images lies on disk."""
_AGE_BANDS = [0, 20, 40, 60, 80, 200]


def score(config: c.Score, store: Store, progress: Progress) -> dict[str, Any]:
    """Stream the representation over the scored images and write the tables of docs/protocol.md."""
    config = config.resolved()
    vocabulary_file = Path(config.vocabulary).expanduser() if config.vocabulary else None
    if vocabulary_file:
        from medsae.naming.vocabulary import stamp

        config = replace(config, vocabulary=stamp(vocabulary_file))
    sae = store.parent(config.sae, "sae") if config.sae else None
    embeddings = store.parent(sae.parents["embeddings"] if sae else config.embeddings or "", "embeddings")
    cohort = store.parent(embeddings.parents["cohort"], "cohort")
    versus = store.parent(config.versus, "sae") if config.versus else None
    parents = {"embeddings": embeddings.id, "cohort": cohort.id}
    if sae:
        parents, config = parents | {"sae": sae.id}, replace(config, sae=sae.id)
    else:
        config = replace(config, embeddings=embeddings.id)
    if versus:
        parents, config = parents | {"versus": versus.id}, replace(config, versus=versus.id)
    independent = _independent(config, embeddings, store)
    if independent:
        parents, config = parents | {"ms_embeddings": independent.id}, replace(config, ms_embeddings=independent.id)
    slug = f"{'sae' if sae else 'raw'}-{config.images}-{config.protocol}-{embeddings.facts['encoder']}"
    with store.build(slug, config, parents) as build:
        if build.existing:
            found("scores", build.id, progress)
            return build.existing.manifest
        # Imported here: finding that the scores are there already needs no torch and no scipy.
        from medsae.scoring.activity import ArraySource, near_one
        from medsae.scoring.measures import declared
        from medsae.scoring.scores import Choices, Known, make_some, score_arrays

        rows = split_rows(embeddings, cohort)["balanced" if config.images == "evaluation" else config.images]
        if not len(rows):
            raise UserError(
                f"no embedded image is in the scope --images {config.images}",
                embeddings.id,
                "--images all scores every image",
            )
        x_nd = rows_of(np.load(embeddings.file("x.npy"), mmap_mode="r"), rows)
        cells = tokens.Tokens.of(embeddings)
        pooled, model = tokens.check_scored(config, cells), None
        images, values_nk, labels = labels_of(embeddings, cohort, rows, config.label_list)
        near_nd, power = near_one(x_nd)
        if power:
            progress.say(
                f"the embeddings are scored in units of 2^{power}: at their own scale sums would not be finite"
            )
        raw = ArraySource(near_nd)
        if cells:
            model = _model(sae, cells.d, config) if sae else None
            m = model.m if model else cells.d
            source, raw, rivals = tokens.sources(cells, rows, model, pooled, config.seed, m)
            decoder = model.weights["W_dec"].cpu().numpy() if model else None
        elif sae:
            source, decoder, rivals = _sae_source(sae, x_nd, raw, config)
        else:
            source, decoder, rivals = raw, None, {"random": _random(raw, raw.m, config.seed)}
        assert config.uncertain and config.unstated
        planted = _truth(cohort, images["image"].to_numpy(), rivals)
        marked = located.truth(cohort, images["image"].to_numpy(), rivals) if config.maps and not planted else None
        patients = pd.factorize(images["patient"], sort=True)[0].astype(np.int32)
        known = Known(values_nk=values_nk, labels=labels, patients=patients,
                      attributes=_attributes(images) | _kept_attributes(cohort, images["image"]),
                      held=_held(config, cohort, images["image"].to_numpy()),
                      truth=planted or marked,
                      independent_nd=independent and _of_images(independent, images["image"].to_numpy()))  # fmt: skip
        images = images[["image", "patient"]]  # what else is said of them is in `known`, once
        part = build.part(config, progress)
        pieces = KeptPieces(build.shards, part)
        choices = Choices(uncertain=config.uncertain, unstated=config.unstated, draws=config.draws,
                          bootstraps=config.bootstraps, fdr=config.fdr, top=config.top, seed=config.seed,
                          given=config.attributes, kept=pieces)  # fmt: skip
        beside = None
        if sae and not cells and decoder is not None:
            from medsae.steps.beside import Beside

            beside = Beside(embeddings, cohort, sae, decoder, x_nd, images, rows, labels, values_nk, config,
                            vocabulary_file)  # fmt: skip
        if part and not part.merges:
            make_some(source, known, choices, decoder_md=decoder, raw=raw if sae else None, progress=progress,
                      besides=beside and (lambda active: beside.make(active, pieces, store, progress)))  # fmt: skip
            return build.shard_done(part, progress)
        scores = score_arrays(source, known, choices, decoder_md=decoder, raw=raw if sae else None, progress=progress)
        image_of_row = images["image"].to_numpy(np.int32)
        kept = scores.activation
        frames = {name: getattr(scores, name) for name in
                  ("neuron", "correlation", "histogram", "summary", "null_histogram", "label_summary", "draw",
                   "attribute_correlation", "recovery", "neighbour", "neuron_measure", "draw_measure",
                   "entropy_curve", "confounded", "given")}  # fmt: skip
        frames["measure"] = declared()
        if marked:  # who tells what readers marked is asked for the maps alone: nothing was planted
            frames.pop("recovery")
        own = {"neuron": kept.neuron, "value": kept.value}  # of very many images each copy would be gigabytes
        active = pd.DataFrame({**own, "row": kept.image}, copy=False)
        frames["activation"] = pd.DataFrame({**own, "image": image_of_row[kept.image]}, copy=False)
        frames["scored"] = pd.DataFrame({"image": image_of_row})
        about_maps = "not asked for (--no-maps)"
        first = _first(scores)
        if cells:
            assert isinstance(source, tokens.TokenSource)
            frames["token"] = tokens.behind(source, frames["activation"])
            made = tokens.maps(source, frames["activation"]) if config.maps else {}
            frames |= made
            if made:
                about = tokens.Scored(cohort, images, active, scores.recovery, config.seed, source, rivals)
                frames |= tokens.localised(about)
                if config.deletions:
                    from medsae.steps.deletion_of_tokens import AskedOfTokens

                    asked = AskedOfTokens(about, embeddings, model, config.deletions, first)
                    frames = _with(frames, asked.tables(store, progress))
            about_maps = "exact" if made else "the tokens behind the top images are kept in the table token"
        elif config.maps:
            from medsae.steps import eyes, maps

            scored = maps.Scored(embeddings, cohort, images, x_nd, active, scores.recovery, sae, config.seed,
                                 config.deletions, first, config.device, config.occlude)  # fmt: skip
            made = maps.at_score(scored, store, progress)
            frames, about_maps = _with(frames, made.tables), made.how
            if made.reference_cd is not None:
                np.save(build.path / eyes.REFERENCE_FILE, made.reference_cd)
        without_effects = without_words = "only of an SAE that takes whole embeddings"
        if beside:
            from medsae.steps import effects, words

            said, lens = beside.made(kept, pieces, store, progress)
            if said:
                frames, without_effects = frames | said.tables, "computed"
                np.save(build.path / effects.LOGITS_FILE, said.logit_nr)
            frames, without_words = frames | lens.tables, lens.why or "computed"
            if not lens.why:
                np.save(build.path / words.LENS_FILE, lens.cosine_mt)
                np.save(build.path / words.TERMS_FILE, lens.term_td)
        if scores.place_m2 is not None:
            frames["place"] = _places(scores.place_m2)
        if sae and versus:
            frames["match"], measures = _match(sae, versus, config.seed)
            frames["summary"] = pd.concat([frames["summary"], measures], ignore_index=True)
        with build.database() as connection:
            for name, frame in frames.items():
                insert(connection, name, frame)
        measures = scores.summary.set_index("measure")["value"]
        facts = {"representation": "sae" if sae else "raw", "m": source.m, "n": len(rows), "labels": labels,
                 "encoder": embeddings.facts["encoder"], "protocol": config.protocol, "images": config.images,
                 "activations_complete": bool(kept.complete), "maps": about_maps,
                 "effects": without_effects,
                 "words": without_words}  # fmt: skip
        facts |= {"tokens": pooled, "grid": embeddings.facts["grid"]} if cells else {}
        facts |= {"activation_unit": f"2^{power}"} if power and not sae and not cells else {}
        headline = ("mean_entropy", "null_mean_entropy", "selective_share", "active_share", "dead_share")
        facts |= {k: float(measures[k]) for k in headline if k in measures and np.isfinite(measures[k])}
        return build.publish(facts | parents).manifest


def _with(frames: dict[str, pd.DataFrame], tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The frames with these tables; rows of `summary` are added to those that are there."""
    more = [tables["summary"]] if "summary" in tables else []
    return frames | tables | {"summary": pd.concat([frames["summary"], *more])}


def _first(scores: Any) -> tuple[int, ...]:
    """Neurons that readers meet first: the best of each label and of each planted factor."""
    found = pd.concat([scores.label_summary["half_neuron"], scores.recovery["neuron"]]).dropna().astype(int)
    return tuple(found.unique().tolist())


@dataclass(frozen=True)
class KeptPieces:
    """Pieces in a folder (`scoring.pieces.Kept`): those that commands share, and what one alone cannot hold."""

    folder: Path
    part: Part | None
    keeps: bool = True
    left: list[tuple[str, int, Callable[[], dict[str, np.ndarray]]]] = field(default_factory=list)
    """Pieces of other commands that were passed over."""

    @property
    def shared(self) -> bool:
        return self.part is not None

    def _of(self, what: str) -> Shards:
        return Shards(self.folder / what, "npz")

    def group(self, what: str, number: int, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray] | None:
        if self.part is None:
            return make()
        if not self.part.makes(number):
            self.left.append((what, number, make))
            return None
        self._finish(what, number, make)
        return self.read(what, number)

    def help(self) -> None:
        """Make what other commands have left, from the end: whoever owns pieces makes its last ones last."""
        for what, number, make in reversed(self.left):
            self._finish(what, number, make)

    def _finish(self, what: str, number: int, make: Callable[[], dict[str, np.ndarray]]) -> None:
        if self._of(what).finished(number) is None:
            self.put(what, number, make())

    def expect(self, what: str, groups: int) -> None:
        if self.part and self.part.merges:
            self._missing(self.part, what, groups)

    def every(self, what: str, groups: int, make: Callable[[int], dict[str, np.ndarray]]) -> None:
        assert self.part is not None, "one command alone needs no pieces of others"
        missing = self._missing(self.part, what, groups)
        own = [k for k in missing if self.part.makes(k)]
        # Others' pieces from their end, where whoever owns them comes last; made twice, a piece has the same bytes.
        others = [k for k in reversed(missing) if not self.part.makes(k)]
        for k in (*own, *others):
            self._finish(what, k, lambda k=k: make(k))

    def _missing(self, part: Part, what: str, groups: int) -> list[int]:
        """Pieces that are not there; UserError from the command that merges, if there are any."""
        pieces = self._of(what)
        missing = [k for k in range(groups) if pieces.finished(k) is None]
        if part.merges:
            part.mine(missing, pieces)
        return missing

    def put(self, what: str, number: int, arrays: dict[str, np.ndarray]) -> None:
        with self._of(what).writing(number) as new, new.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def read(self, what: str, number: int) -> dict[str, np.ndarray]:
        with np.load(self._of(what).path(number), allow_pickle=False) as found:
            return dict(found)

    def room(self, shape: tuple[int, ...], kind: DTypeLike) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        if size < _LARGE:
            return np.empty(shape, kind)
        with tempfile.TemporaryFile(dir=self.folder) as file:  # it goes with the last who looks into it
            os.posix_fallocate(file.fileno(), 0, size)  # a disk that is full is told here, not by a signal later
            return np.ndarray(shape, kind, mmap.mmap(file.fileno(), size))


@dataclass(frozen=True)
class _Encoded:
    """The activations (or pre-activations) of an SAE, computed again in every pass."""

    load: Callable[[], Sae]
    """Called when a pass begins: who finds all activations kept needs no torch."""
    m: int
    x_nd: np.ndarray | Rows
    before: bool = False

    @property
    def sparse(self) -> bool:
        return not self.before

    def blocks(self, begin: int = 0, end: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        from medsae.scoring.activity import spans

        sae = self.load()
        for start, stop in spans(begin, len(self.x_nd) if end is None else end, max(1, _CELLS // self.m)):
            part = self.x_nd[start:stop]
            yield start, sae.pre_activations(part) if self.before else sae.encode(part)


def _model(sae: Artifact, d: int, config: c.Score) -> Sae:
    """The SAE on the device; UserError for one of embeddings of another size."""
    from medsae.device import pick
    from medsae.sae.model import Sae
    from medsae.sae.training import AUTO

    model = Sae.load(sae.file("sae.safetensors")).to(pick(config.device, AUTO))
    _same_size(sae, model.d, d)
    return model


def _same_size(sae: Artifact, own: int, d: int) -> None:
    if own != d:
        raise UserError(f"the SAE takes d = {own}, the embeddings have d = {d}", sae.id, "train on these embeddings")


def _sae_source(
    sae: Artifact, x_nd: np.ndarray | Rows, raw: Any, config: c.Score
) -> tuple[_Encoded, np.ndarray, dict[str, Any]]:
    decoder, d = _decoder(sae), x_nd.shape[1]
    _same_size(sae, decoder.shape[1], d)
    load, m = cache(lambda: _model(sae, d, config)), len(decoder)
    rivals = {
        "preactivation": _Encoded(load, m, x_nd, before=True),
        "raw": raw,
        "random": _random(raw, m, config.seed),
    }
    return _Encoded(load, m, x_nd), decoder, rivals


def _decoder(sae: Artifact) -> np.ndarray:
    """Decoder rows [m, d]; UserError where they cannot be read."""
    from safetensors import SafetensorError, safe_open

    path = sae.file("sae.safetensors")
    try:
        with safe_open(path, framework="numpy") as file:
            return file.get_tensor("W_dec")
    except (OSError, SafetensorError) as error:
        raise UserError(f"the weights of the SAE cannot be read: {error}", path, "train the SAE again") from error


def _places(xy_m2: np.ndarray) -> pd.DataFrame:
    """Rows of the table `place`: the map of those neurons that fire."""
    frame = pd.DataFrame({"neuron": np.arange(len(xy_m2)), "x": xy_m2[:, 0], "y": xy_m2[:, 1]})
    return frame.dropna().reset_index(drop=True)


def _match(sae: Artifact, versus: Artifact, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Matched neurons of two SAEs, and the stability as rows of `summary`."""
    from medsae.sae.model import Sae
    from medsae.scoring.stability import stability

    if sae.parents != versus.parents:
        raise UserError("--versus is an SAE of other embeddings: there are no neurons to match", versus.id,
                        "choose two SAEs of the same embeddings")  # fmt: skip
    decoders, live = [], []
    for artifact in (sae, versus):
        decoders.append(Sae.load(artifact.file("sae.safetensors")).weights["W_dec"].cpu().numpy())
        with artifact.connect() as connection:
            live.append(~connection.execute("SELECT dead FROM dead ORDER BY neuron").df()["dead"].to_numpy(bool))
    found = stability(decoders[0], decoders[1], seed, live[0], live[1])
    note = f"mean decoder cosine of live neurons matched one to one with {versus.id}"
    summary = pd.DataFrame([
        {"measure": "stability", "value": found.mean, "low": found.quantiles[0], "high": found.quantiles[-1],
         "n": len(found.a), "note": f"{note}; low and high: 5 % and 95 % of the pairs"},
        {"measure": "random_stability", "value": found.random_mean, "low": found.random_quantiles[0],
         "high": found.random_quantiles[-1], "n": len(found.a), "note": "the same for random directions"},
    ])  # fmt: skip
    return pd.DataFrame({"neuron": found.a, "other": found.b, "cosine": found.cosine}), summary


def _random(raw: Any, m: int, seed: int) -> Any:
    from medsae.scoring.activity import RandomDirections

    return RandomDirections(raw, m, seed)


def _attributes(images: pd.DataFrame) -> dict[str, Values]:
    """What a neuron may follow instead of a finding."""
    bands = [f"{low}-{high - 1}" for low, high in pairwise(_AGE_BANDS)]
    age = pd.cut(images["age"], _AGE_BANDS, right=False, labels=bands)
    columns = {"view": images["view"], "sex": images["sex"], "age": age}
    return {name: pd.Categorical(column) for name, column in columns.items() if column.notna().any()}


def _independent(config: c.Score, embeddings: Artifact, store: Store) -> Artifact | None:
    """The embeddings of --ms-embeddings; UserError for those of another cohort, and of the scored encoder itself."""
    if config.ms_embeddings is None:
        return None
    other = store.parent(config.ms_embeddings, "embeddings")
    if other.parents["cohort"] != embeddings.parents["cohort"]:
        raise UserError("--ms-embeddings are of another cohort", other.id, "embed this cohort with another encoder")
    own = [_made_by(one) for one in (embeddings, other)]
    if other.id == embeddings.id or own[0] == own[1]:
        raise UserError("--ms-embeddings come from the encoder whose neurons are scored: to it, whatever lies in one "
                        "direction is alike", other.id,
                        "give embeddings of an encoder that is independent of it")  # fmt: skip
    return other


def _made_by(embeddings: Artifact) -> object:
    """What tells encoders apart: their weights; of embeddings made elsewhere their file."""
    return embeddings.facts.get("weights_sha256") or embeddings.manifest["inputs"].get("embeddings", embeddings.id)


def _of_images(embeddings: Artifact, image: np.ndarray) -> np.ndarray:
    """Rows of some embeddings by image [n, d]; UserError where an image has none, or one of length 0."""
    with embeddings.connect() as connection:
        frame = connection.execute('SELECT image, "row" FROM embedding_row').df()
    row = frame.set_index("image")["row"].reindex(image)
    lacking = int(row.isna().sum())
    if lacking:
        raise UserError(f"{lacking:,} of {len(image):,} scored images have no row in --ms-embeddings", embeddings.id,
                        "embed the whole cohort")  # fmt: skip
    e_nd = np.load(embeddings.file("x.npy"), mmap_mode="r")[row.to_numpy(int)]
    empty = int((np.linalg.norm(e_nd, axis=1) == 0).sum())
    if empty:
        raise UserError(f"{empty} of the --ms-embeddings are zero and have no direction", embeddings.id)
    return e_nd


_MOST_ATTRIBUTES, _MOST_VALUES = 12, 12


def _kept_attributes(cohort: Artifact, image: pd.Series) -> dict[str, Values]:
    """The publisher's other columns that sort the pictures (site, scanner, ward): name -> value an image, None unknown.

    At most 12, of 2 to 12 values each, in the order of the table; a published split and the labels of another labeller
    ("negbio: Edema") are no confounders. Empty for cohorts that were made before attributes had types.
    """
    with cohort.connect() as connection:
        if not connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'attribute_name'").fetchall():
            return {}
        names = connection.execute(
            "SELECT attribute FROM attribute JOIN attribute_name n USING (attribute) WHERE n.type = 'category'"
            " AND attribute NOT IN ('split', 'view', 'sex', 'age') AND NOT contains(attribute, ': ')"
            " GROUP BY attribute HAVING count(DISTINCT value) BETWEEN 2 AND ? ORDER BY any_value(n.position) LIMIT ?",
            [_MOST_VALUES, _MOST_ATTRIBUTES],
        ).fetchall()
        found: dict[str, Values] = {}
        for (name,) in names:
            codes = coded.codes("attribute", "value", "attribute = $name")
            asked = {"name": name}
            code = connection.execute(
                f"SELECT image, code FROM attribute JOIN {codes} ON word = value WHERE attribute = $name", asked
            ).df()
            words = connection.execute(coded.words(codes), asked).fetchnumpy()["word"]
            column = code.set_index("image")["code"].reindex(image)
            found[name] = coded.held(column.fillna(-1).to_numpy(np.int32), words)
    return found


def _held(config: c.Score, cohort: Artifact, image: np.ndarray) -> dict[str, Values]:
    """The attributes of --confounders that the cohort has; UserError for one that it has not and nobody offers."""
    from medsae.store import followed
    from medsae.store.reader import Reader

    known = followed.attributes(Reader(), cohort)
    names = {name.lower(): name for name in known.values}
    strange = [name for name in config.held if name not in names and name not in followed.DEFAULT]
    if strange:
        raise UserError(f"--confounders: the cohort has no attribute {', '.join(strange)} that sorts images", cohort.id,
                        f"it has {', '.join(known.values) or 'none'}")  # fmt: skip
    of = known.of(image)
    return {names[name]: of[names[name]] for name in config.held if name in names}


def _truth(cohort: Artifact, image: np.ndarray, rivals: dict[str, Any]) -> Any:
    """Planted factors of the scored images; None for a cohort without them."""
    from medsae.scoring.scores import Truth

    with cohort.connect() as connection:
        table = connection.execute(
            "SELECT image, substr(attribute, 8) AS factor, value = '1' AS present FROM attribute"
            " WHERE attribute LIKE 'factor:%'"
        ).df()  # fmt: skip
    if table.empty:
        return None
    wide = table.pivot(index="image", columns="factor", values="present").reindex(image)
    known = wide.notna().to_numpy()
    return Truth([str(name) for name in wide.columns], wide.fillna(False).to_numpy(bool), known, rivals)
