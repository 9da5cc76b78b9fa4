"""Studies for notebooks and scripts: what the app's pages show, by the same queries, as pandas and numpy.

    import medsae

    data = medsae.open("data")
    scores = data.scores()                      # the newest scores of an SAE; data.studies() shows all there are
    scores.neurons(show="selective").head()
    scores.sae.encode(scores.embeddings.x[:32])

Nothing is read before it is asked for, and nothing is ever written. torch is imported by `Sae` alone. What an artifact
lacks (made by an older version, damaged) raises UserError, which says what to do.
"""

from __future__ import annotations

import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from medsae.progress import UserError
from medsae.store import maps, planted_pairs, queries, query_images
from medsae.store.artifacts import KINDS, Artifact, Store
from medsae.store.filter import SORTS, Filter
from medsae.store.ledger import Ledger
from medsae.store.query_images import Which
from medsae.store.reader import Reader
from medsae.store.titles import cohort_title, is_raw, titles

if TYPE_CHECKING:
    from medsae.sae.model import Sae as Model

Kind = Literal["cohort", "embeddings", "sae", "scores", "pairs"]


class Data:
    """Every artifact under one data folder, newest first."""

    def __init__(self, folder: Path | str | None = None):
        """`folder` None: the variable MEDSAE_DATA, else ./data. A folder without artifacts is an empty `Data`."""
        self.store = Store(Path(folder) if folder is not None else None)
        self.reader = Reader()

    def artifacts(self, kind: Kind | None = None) -> pd.DataFrame:
        """kind, id, created (UTC), facts (a dictionary: sizes, devices, headline numbers) of every whole artifact."""
        found = self.store.list(kind)
        created = [datetime.datetime.fromtimestamp(a.manifest["created"], datetime.UTC) for a in found]
        columns = {"kind": [a.kind for a in found], "id": [a.id for a in found], "created": created}
        return pd.DataFrame({**columns, "facts": [a.facts for a in found]})

    def studies(self) -> list[Study]:
        """A study is a cohort and what was made from it."""
        return [Study(self, artifact) for artifact in self.store.list("cohort")]

    def study(self, id: str | None = None) -> Study:
        """The study of a cohort's id (or the unique beginning of one); the newest without. UserError: there is none."""
        return Study(self, self._one("cohort", id))

    def scores(self, id: str | None = None) -> Scores:
        """Scores by id (or the unique beginning of one); without, the ones that the app opens with: the newest of an
        SAE, else the newest. UserError: there are none."""
        if id is None:
            found = self.store.list("scores")
            id = next((a.id for a in found if not is_raw(a)), found[0].id if found else None)
        return Scores(self, self._one("scores", id))

    def sae(self, id: str | None = None) -> Sae:
        """An SAE by id (or the unique beginning of one); the newest without. UserError: there is none."""
        return Sae(self, self._one("sae", id))

    def embeddings(self, id: str | None = None) -> Embeddings:
        """Embeddings by id (or the unique beginning of one); the newest without. UserError: there are none."""
        return Embeddings(self, self._one("embeddings", id))

    def close(self) -> None:
        """Let go of every file that was opened."""
        self.reader.close()

    def __enter__(self) -> Data:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self.store.list(kind))} {kind}" for kind in KINDS)
        return f"medsae.open({str(self.store.data)!r}): {counts}"

    def _one(self, kind: Kind, id: str | None) -> Artifact:
        if id is not None:
            return self.store.get(id, kind)
        found = self.store.list(kind)
        if not found:
            raise UserError(f"there is no {kind} yet", self.store.artifacts, "python -m medsae run demo makes one")
        return found[0]


class _Handle:
    """One artifact of `data`."""

    def __init__(self, data: Data, artifact: Artifact):
        self.data = data
        self.artifact = artifact

    @property
    def id(self) -> str:
        return self.artifact.id

    @property
    def config(self) -> dict[str, Any]:
        """The options it was made with."""
        return self.artifact.config

    @property
    def facts(self) -> dict[str, Any]:
        """What its step wrote down: sizes, devices, headline numbers."""
        return self.artifact.facts

    @property
    def path(self) -> Path:
        """Its folder (docs/protocol.md)."""
        return self.artifact.path

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def _parent(self, kind: Kind) -> Artifact:
        return self.data.store.get(self.artifact.parents[kind], kind)


class Study(_Handle):
    """A cohort: images, labels, patients, splits."""

    @property
    def title(self) -> str:
        """As the app's sidebar calls it."""
        return cohort_title(self.artifact)

    def scores(self) -> list[Scores]:
        """The scores that were taken over images of this cohort, newest first."""
        found = self.data.store.list("scores")
        return [Scores(self.data, a) for a in found if a.parents.get("cohort") == self.id]

    def images(self) -> pd.DataFrame:
        """One row an image (the index is its number, 0 .. n-1): path, patient, study, split, evaluation, view, sex,
        age (years), width, height (px), sha256. `patient` and `path` as the source has them (the app hashes them)."""
        return query_images.images(self.data.reader, self.artifact).set_index("image")

    def labels(self) -> pd.DataFrame:
        """[n, k] Int8: 1 present, 0 absent, -1 uncertain, <NA> not stated. Index: image; columns: as in the source."""
        table = query_images.label_table(self.data.reader, self.artifact)
        frame = pd.DataFrame(table.value_nk, columns=table.names).rename_axis("image").astype("Int8")
        return frame.mask(frame == query_images.UNSTATED)

    def thumbnail(self, image: int) -> bytes | None:
        """WebP of at most 160 px, or None. In a notebook: IPython.display.Image(data=...)."""
        return query_images.thumbnails(self.data.reader, self.artifact, [image]).get(image)


class Embeddings(_Handle):
    """What an encoder made of the images of a cohort."""

    @cached_property
    def x(self) -> np.ndarray:
        """float32 [n, d], read-only and mapped from the disk: rows are read when they are used."""
        return np.load(self.artifact.checked("x.npy"), mmap_mode="r")

    def rows(self) -> np.ndarray:
        """int64 [n]: the image of each row of `x`."""
        return queries.embedding_images(self.data.reader, self.artifact)

    @property
    def study(self) -> Study:
        return Study(self.data, self._parent("cohort"))


class Sae(_Handle):
    """A trained sparse autoencoder. m neurons over d dimensions; raw embeddings go in, normalisation is its own."""

    @cached_property
    def model(self) -> Model:
        """The torch model on the CPU, loaded on first use."""
        from medsae.sae.model import Sae as Model

        return Model.load(self.artifact.checked("sae.safetensors"))

    def encode(self, x_nd: np.ndarray) -> np.ndarray:
        """Raw embeddings [n, d] -> activations, float32 [n, m], >= 0; n * m numbers are held at once. UserError for
        another d."""
        return self.model.encode(np.asarray(x_nd, np.float32))

    def pre_activations(self, x_nd: np.ndarray) -> np.ndarray:
        """Raw embeddings [n, d] -> float32 [n, m] before the activation function."""
        return self.model.pre_activations(np.asarray(x_nd, np.float32))

    def decode(self, z_nm: np.ndarray) -> np.ndarray:
        """Activations [n, m] -> embeddings in raw units, float32 [n, d]."""
        return self.model.decode(z_nm)

    def directions(self) -> np.ndarray:
        """float32 [m, d]: what each neuron adds to an embedding (rows of W_dec, in raw units, without the mean)."""
        return self.model.weights["W_dec"].numpy() / self.model.normalisation.scale

    def history(self) -> pd.DataFrame:
        """Training history, a row an epoch; columns and units as in docs/protocol.md."""
        return queries.history(self.data.reader, self.artifact)

    @property
    def embeddings(self) -> Embeddings:
        return Embeddings(self.data, self._parent("embeddings"))


class Scores(_Handle):
    """What was measured of every neuron of a representation: an SAE, or `raw` (a neuron is a dimension of x)."""

    @property
    def title(self) -> str:
        """As the app calls it."""
        artifacts = self.data.store.list()
        mine = [a for a in artifacts if a.kind == "scores" and a.parents.get("cohort") == self.study.id]
        return titles(artifacts, mine)[self.id]

    @property
    def is_raw(self) -> bool:
        return is_raw(self.artifact)

    @property
    def study(self) -> Study:
        return Study(self.data, self._parent("cohort"))

    @property
    def embeddings(self) -> Embeddings:
        return Embeddings(self.data, self._parent("embeddings"))

    @property
    def sae(self) -> Sae:
        """The SAE; UserError for scores of the raw embedding."""
        if self.is_raw:
            raise UserError(f"{self.id} are scores of the raw embedding: there is no SAE", None, "use .embeddings")
        return Sae(self.data, self._parent("sae"))

    def neurons(self, **filter: Any) -> pd.DataFrame:
        """One row a neuron (the index is its number). Entropy is in bits, density a share of the scored images, NULL
        entropy has a `reason`; all columns are in docs/protocol.md.

        `filter` is what the app's gallery filters by: show="all", "defined", "selective" or "dead"; label="Edema" (the
        label it follows most), low, high (bits), density_low, density_high, rho (least |rho|); sort="neuron",
        "entropy", "-entropy", "-rho", "density", "-density" or "q". Without any: every neuron, by number."""
        chosen = Filter(**{"sort": "neuron", **filter})
        if chosen.show not in ("all", "defined", "selective", "dead") or chosen.search or chosen.sort not in SORTS:
            raise UserError(f"neurons cannot be filtered by {filter}", None, "join with names() for names")
        return queries.neurons(self.data.reader, self.artifact, chosen, limit=None).set_index("neuron")

    def correlations(self, neuron: int | None = None) -> pd.DataFrame:
        """label, rho (Pearson), n (images where the label is known), low, high (95 %), reason (why rho is NULL), of one
        neuron strongest first, or of all with a column `neuron` (m * k rows)."""
        return queries.correlations(self.data.reader, self.artifact, neuron)

    def activations(self, neuron: int) -> pd.Series:
        """float32, index: image; largest first. An SAE's are all that are not zero; of a dense (raw) neuron the
        images kept at both ends (`--top`)."""
        frame = queries.activations(self.data.reader, self.artifact, neuron)
        return frame.set_index("image")["value"].rename(f"neuron {neuron}")

    def top_images(self, neuron: int, n: int = 24, which: Which = "top", one_a_patient: bool = True) -> pd.DataFrame:
        """At most n rows: image, value (activation; NULL: silent), slice, patient. `which`: top, bottom, slices (even
        over quantiles), random (of the images that fire), silent (near misses)."""
        return query_images.images_of(
            self.data.reader, self.artifact, self.study.artifact, neuron, which, one_a_patient, n
        )

    def names(self) -> pd.DataFrame:
        """The newest result of every neuron in every run of naming: neuron, concept, description, status, accuracy with
        its interval, q (false-discovery rate over the run), run ...; no rows while nothing is named."""
        return Ledger(self.data.store, self.id).names()

    def verdicts(self, run: str, neuron: int) -> pd.DataFrame:
        """Every image that was judged for a name: about (name, shuffled, random), image, fires, yes, p, status ..."""
        return Ledger(self.data.store, self.id).verdicts(run, neuron)

    def summary(self) -> pd.DataFrame:
        """Index: measure; value, low, high (95 %), n, note. What was not computed then is not a row."""
        found = queries.summary(self.data.reader, self.artifact)
        frame = pd.DataFrame([vars(measure) for measure in found.values()], index=pd.Index(found, name="measure"))
        return frame.astype({"value": float, "low": float, "high": float})

    def difference(self, other: Scores, strong: bool = False) -> queries.Difference:
        """Mean entropy of these minus that of `other` (bits) with paired draws of patients; `strong`: over neurons with
        max |rho| > 0.2. `note` says why there is no interval."""
        return queries.difference(self.data.reader, self.artifact, other.artifact, strong)

    def labels(self) -> pd.DataFrame:
        """One row a label: positives, negatives, the best neuron by |rho| and by AUROC with its AUROC on the half of
        the patients that did not choose it; all columns are in docs/protocol.md."""
        return queries.best_of_labels(self.data.reader, self.artifact).set_index("label")

    def recovery(self) -> pd.DataFrame:
        """One row a planted factor of a simulated cohort: how well its best neuron finds it (AUROC); else no rows."""
        return queries.recovery(self.data.reader, self.artifact).set_index("factor")

    def pairs(self, parts: bool = False) -> pd.DataFrame:
        """One row a planted factor: the neuron that best follows it and nothing else, in pairs that differ in it alone
        (`medsae pairs`), judged on patients that did not choose it, and the recovery by what else was measured (sae,
        untrained, raw, random). `parts`: sides and lobes apart. UserError: no pairs were drawn for these neurons."""
        found = planted_pairs.of(self.data.store.list(), self.artifact)
        if found is None:
            raise UserError("no pairs were drawn for these neurons", self.artifact.id, "python -m medsae pairs --help")
        which = planted_pairs.representation(self.artifact)
        return planted_pairs.best(self.data.reader, found, parts, which).set_index("factor")

    def localisation(self) -> pd.DataFrame:
        """One row a finding (planted, or marked by readers) and representation: whether its best neuron's maps look
        there, beside two nulls, with a verdict by rule; no rows where nothing is known of places, or without maps."""
        return maps.localisation(self.data.reader, self.artifact)
