"""What naming reads of a study: activities, patients, labels, pictures. Thread-safe where backends call it."""

from __future__ import annotations

import io
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from PIL import Image

from medsae import config as c
from medsae.cohorts.pictures import PictureChanged, PictureError, PictureMissing, decode, read
from medsae.naming import planted
from medsae.naming.audit import Sample, choose
from medsae.naming.backends import Picture, PictureGone
from medsae.naming.selection import (
    Activity,
    Patients,
    Plan,
    Wish,
    choose_paper,
    choose_strict,
    difference_hash,
    firing_least,
)
from medsae.store.artifacts import NOT_THEN, Artifact, Store

SIDE_PX = 896
"""Longest side of a picture as a model gets it: MedGemma's own input size."""
_KEPT_PICTURES = 2048
_KEPT_PLANS = 1024
"""Those that `--top`, the number of pictures and the estimate of the cost have chosen are not chosen again."""
MOST_PICTURES = 30
FEWER_PICTURES = (30, 25, 20, 15, 12, 10, 8, 6, 5)
"""Pictures a side that are tried where none are asked for; `--pictures` takes any number."""
_WORDY = 5.0
"""Blanks that a value of a column of reports has on average, at least."""
_ENOUGH = 24
"""Neurons that should be testable with the number of pictures that is chosen."""
SILENT = 1e-7
"""An SAE neuron fires above this activation (the published threshold); a dense one above its mean."""


class StudyOfScores:
    """One scores artifact with its cohort."""

    def __init__(self, store: Store, scores: Artifact, seed: int):
        self.store, self.scores, self.seed = store, scores, seed
        self.cohort = _cohort(store, scores)
        self.dense = "sae" not in scores.parents
        self.lock = threading.Lock()
        self.tables = scores.connect()
        self.pictures = self.cohort.connect()
        self.m = int(self._one("SELECT count(*) FROM neuron")[0])
        self.scored = np.array(self._column("SELECT image FROM scored ORDER BY image"), dtype=np.int64)
        images = self.pictures.execute("SELECT image, patient, path, sha256 FROM image ORDER BY image").fetchall()
        size = max((row[0] for row in images), default=-1) + 1
        patient_n, self.paths, self.shas = [""] * size, [""] * size, [""] * size
        self.recorded: list[str | None] = [None] * size
        self.unlike: set[int] = set()
        """Pictures that were asked for and are not those that the cohort was made of."""
        for image, patient, path, sha in images:
            patient_n[image], self.paths[image] = patient, path
            self.recorded[image] = sha
            self.shas[image] = sha or f"{self.cohort.id}:{image}"
        self.patients = Patients.of(patient_n, seed)
        self.top_label = dict(self._rows("SELECT neuron, top_label FROM neuron"))
        self.top_rho = dict(self._rows("SELECT neuron, top_rho FROM neuron"))
        self.mean = dict(self._rows("SELECT neuron, mean FROM neuron"))
        self._jpegs: OrderedDict[int, bytes] = OrderedDict()
        self.hash_of = lru_cache(65_536)(self._hash_of)
        self.labels_of = lru_cache(65_536)(self._labels_of)
        self.plan = lru_cache(_KEPT_PLANS)(self._plan)
        self._facts = lru_cache(1)(self._planted_facts)

    def close(self) -> None:
        """Let go of the artifacts' files, once no thread reads them."""
        with self.lock:
            self.tables.close()
            self.pictures.close()

    def ordered(self, order: str, least: int) -> list[int]:
        """Neurons with a defined value that fire on at least `least` of the scored images, best first."""
        column = order.split()[0]
        return self._column(f"SELECT neuron FROM neuron WHERE {column} IS NOT NULL AND active >= {least}"
                            f" ORDER BY {order}, neuron")  # fmt: skip

    def pictures_allowed(self, protocol: str) -> int:
        """Firing and silent pictures a side that these scores allow, `MOST_PICTURES` at most: the largest number of
        `FEWER_PICTURES` at which `_ENOUGH` neurons can be named and tested; where no number allows so many, the one at
        which most can. It depends on the scores alone, so that all results of a study belong to one run."""
        if protocol == "paper":
            return MOST_PICTURES  # the published number; with fewer it would be another protocol
        best, most = FEWER_PICTURES[-1], 0
        for pictures in FEWER_PICTURES:
            able = self.ordered("max_abs_rho DESC", firing_least(protocol, pictures))[: 4 * _ENOUGH]
            if len(able) <= most:
                continue
            count = 0
            for neuron in able:
                count += self.plan(neuron, protocol, pictures, 0.0).status == "ok"
                if count == _ENOUGH:
                    return pictures
            if count > most:
                best, most = pictures, count
        return best

    def activity(self, neuron: int) -> Activity:
        """Where a neuron fires and where it is silent.

        SAE: above SILENT it fires, everywhere else among the scored images it is silent. Dense (raw): above its mean
        it fires, at or below it is silent, and only the pictures kept at both ends are known (docs/decisions/063).
        """
        rows = self._rows(
            f"SELECT image, value FROM activation WHERE neuron = {int(neuron)} ORDER BY value DESC, image"
        )
        images = np.array([r[0] for r in rows], dtype=np.int64)
        values = np.array([r[1] for r in rows], dtype=float)
        threshold = (self.mean.get(neuron) or 0.0) if self.dense else SILENT
        fires = values > threshold
        if self.dense:
            return Activity(images[fires], values[fires], np.sort(images[~fires]))
        return Activity(images[fires], values[fires], np.setdiff1d(self.scored, images[fires], assume_unique=True))

    def _plan(self, neuron: int, protocol: str, pictures: int, hard: float, against: bool = False) -> Plan:
        """The pictures for one neuron under a protocol."""
        activity = self.activity(neuron)
        if protocol == "paper":
            return choose_paper(neuron, activity, pictures=pictures, seed=self.seed, patients=self.patients)
        own = self._own_label(neuron) if hard or against else np.zeros(len(self.paths), dtype=bool)
        wish = Wish(pictures=pictures, hard=hard, seed=self.seed, against=against)
        return choose_strict(neuron, activity, self.patients, self.hash_of, own, wish)

    def picture(self, image: int) -> Picture:
        return Picture(image, self.shas[image])

    def jpeg(self, image: int) -> bytes:
        """The picture as grey JPEG, longest side at most 896 px; raises PictureGone."""
        with self.lock:
            if image in self._jpegs:
                self._jpegs.move_to_end(image)
                return self._jpegs[image]
            stored = self.pictures.execute("SELECT jpeg FROM picture WHERE image = ?", [image]).fetchone()
        root = self.cohort.facts.get("root")
        if stored is None and not root:
            raise PictureGone("the cohort keeps no full picture and knows no folder")
        try:
            grey = decode(stored[0] if stored else read(Path(str(root)) / self.paths[image], self.recorded[image]))
        except PictureError as error:
            if isinstance(error, PictureChanged | PictureMissing):
                self.unlike.add(image)
            raise PictureGone(str(error)) from error
        picture = Image.fromarray(grey)
        if max(picture.size) > SIDE_PX:
            picture.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        with self.lock:
            self._jpegs[image] = buffer.getvalue()
            while len(self._jpegs) > _KEPT_PICTURES:
                self._jpegs.popitem(last=False)
        return buffer.getvalue()

    def rho(self, neuron: int) -> dict[str, float]:
        """label -> correlation, where it is defined."""
        query = f"SELECT label, rho FROM correlation WHERE neuron = {int(neuron)} AND rho IS NOT NULL ORDER BY label"
        return dict(self._rows(query))

    def other_label(self, neuron: int) -> tuple[str, float] | None:
        """Label and correlation that another neuron follows most: a control while no other neuron has a name."""
        own = self.top_label.get(neuron)
        others = [n for n, label in sorted(self.top_label.items()) if label is not None and label != own]
        if not others:
            return None
        other = others[int(np.random.default_rng([self.seed, neuron, 3]).integers(len(others)))]
        return str(self.top_label[other]), float(self.top_rho[other] or 1.0)

    def reports(self, column: str | None) -> tuple[str, dict[int, str]]:
        """The attribute that holds report text, and image -> text of the scored images; UserError without one."""
        with self.lock:
            rows = self.pictures.execute(
                "SELECT attribute, avg(length(value) - length(replace(value, ' ', ''))) FROM attribute "
                "WHERE attribute NOT LIKE 'factor:%' GROUP BY attribute ORDER BY attribute"
            ).fetchall()
        wordy = [name for name, spaces in rows if spaces is not None and spaces >= _WORDY]
        if column is None:
            named = [name for name, spaces in rows
                     if spaces and re.search(r"report|findings|impression", name, re.IGNORECASE)]  # fmt: skip
            best = [n for n in named if re.search("report", n, re.IGNORECASE)] or named or wordy
            c.check(bool(best), "this cohort has no report text", self.cohort.id,
                    "ingest a table that has a column with it, or choose another --backend")  # fmt: skip
            c.check(len(best) == 1, f"which column holds the reports? {', '.join(best)}", self.cohort.id,
                    "give --reports COLUMN")  # fmt: skip
            column = best[0]
        assert column is not None
        c.check(column in [name for name, _ in rows], f"this cohort has no column {column!r}", self.cohort.id,
                f"columns with text: {', '.join(wordy) or 'none'}")  # fmt: skip
        with self.lock:
            found = self.pictures.execute(
                "SELECT image, value FROM attribute WHERE attribute = ? AND value IS NOT NULL", [column]
            ).fetchall()
        scored = set(self.scored.tolist())
        return column, {image: text for image, text in found if image in scored}

    def terms(self, neuron: int) -> list[tuple[str, float]]:
        """The terms nearest to a neuron's direction and their cosines; UserError for scores that have no words."""
        why = self.scores.facts.get("words") or NOT_THEN
        c.check(why == "computed", f"these scores have no vocabulary: {why}", self.scores.id,
                "choose another --backend")  # fmt: skip
        return self._rows(
            f"SELECT term, cosine FROM lens JOIN term USING (position) WHERE neuron = {int(neuron)} ORDER BY rank"
        )  # type: ignore[return-value]

    def nearness(self) -> Callable[[int, str], bool | None]:
        """(image, term) -> whether the image's cosine with the term is among the largest quarter of the scored images;
        None for an image or a term that is not there."""
        self.terms(0)
        embeddings = self.store.parent(self.scores.parents["embeddings"], "embeddings")
        with embeddings.connect() as connection:
            rows = connection.execute('SELECT image, "row" FROM embedding_row').fetchall()
        row_of = dict(rows)
        known = [(image, row_of[image]) for image in self.scored.tolist() if image in row_of]
        x_nd = np.load(embeddings.file("x.npy"), mmap_mode="r")[[row for _, row in known]]
        place = {image: i for i, (image, _) in enumerate(known)}
        term_td = np.load(self.scores.file("terms.npy"))
        column = {str(term).lower(): int(p) for term, p in self._rows("SELECT term, position FROM term")}
        unit = np.asarray(x_nd, np.float32) / np.maximum(np.linalg.norm(x_nd, axis=1, keepdims=True), 1e-12)

        @lru_cache(1024)
        def nearest(position: int) -> np.ndarray:
            cosine = unit @ term_td[position]
            return cosine >= np.quantile(cosine, 0.75)

        def near(image: int, term: str) -> bool | None:
            position = column.get(term.strip().lower())
            return None if position is None or image not in place else bool(nearest(position)[place[image]])

        return near

    def naming_evidence(self, neuron: int) -> tuple[list[int], list[int]]:
        """Scored pictures of naming patients, one a patient: those on which a neuron fires, strongest first, and those
        of patients on whom it never fires."""
        activity, code, names = self.activity(neuron), self.patients.code_n, self.patients.names_n
        fires = set(code[activity.images].tolist())
        sides = []
        for images, wanted in ((activity.images, True), (activity.silent, False)):
            images = images[names[images]]
            _, first = np.unique(code[images], return_index=True)
            chosen = images[np.sort(first)].tolist()
            sides.append([i for i in chosen if (int(code[i]) in fires) == wanted])
        return sides[0], sides[1]

    def audit_samples(self) -> list[Sample]:
        """Balanced pictures of every label of the cohort among the scored ones, for the audit of a judge."""
        with self.lock:
            rows = self.pictures.execute(
                "SELECT label, image, value FROM label WHERE value IN (0, 1) ORDER BY label, image"
            ).fetchall()
        scored, values = set(self.scored.tolist()), dict[str, dict[int, int]]()
        for label, image, value in rows:
            if image in scored:
                values.setdefault(label, {})[image] = int(value)
        code = self.patients.code_n
        samples = [choose(value_n, lambda i: int(code[i]), label, self.seed) for label, value_n in values.items()]
        return [sample for sample in samples if sample is not None]

    def follows(self, neuron: int) -> planted.Followed | None:
        """The planted fact that a neuron of a simulated cohort follows best; None for other cohorts."""
        names, f = self._facts()
        if not names:
            return None
        rows = self._rows(f"SELECT image, value FROM activation WHERE neuron = {int(neuron)}")
        value = dict(rows)
        if self.dense:  # of a dense neuron only some pictures are known
            known = np.isin(self.scored, list(value))
            return planted.follows(np.array([value[i] for i in self.scored[known].tolist()]), f[known], names)
        return planted.follows(np.array([value.get(i, 0.0) for i in self.scored.tolist()], dtype=float), f, names)

    def _planted_facts(self) -> tuple[list[str], np.ndarray]:
        """Names and bool [scored images, facts] of what was planted; nothing where the truth is not known."""
        with self.lock:
            rows = self.pictures.execute(
                "SELECT image, attribute, value FROM attribute WHERE starts_with(attribute, ?) ORDER BY attribute",
                [planted.FACTOR],
            ).fetchall()
        if self.cohort.facts.get("source") != "simulated" or not rows:
            return [], np.zeros((len(self.scored), 0), dtype=bool)
        names = list(dict.fromkeys(attribute.removeprefix(planted.FACTOR) for _, attribute, _ in rows))
        place, column = {int(i): k for k, i in enumerate(self.scored)}, {n: k for k, n in enumerate(names)}
        f = np.zeros((len(self.scored), len(names)), dtype=bool)
        for image, attribute, value in rows:
            if value == "1" and image in place:
                f[place[image], column[attribute.removeprefix(planted.FACTOR)]] = True
        return planted.facts(names, f)

    def overlap(self, protocol: str, backend: str) -> str:
        """What the detection pictures share with the naming pictures and with the SAE's training, in words."""
        train = self._train_patients()
        said = ["naming and detection use the same pictures" if protocol == "paper" else
                "naming and detection patients are disjoint"]  # fmt: skip
        if backend == "reports":
            said = ["names come from the reports of naming patients, verdicts from those of other patients"]
        if backend == "vocabulary":
            said = ["names and verdicts are both the encoder's own: a circle"]
        if backend == "labels":
            said = ["the labels' correlations are taken over all scored images, the tested ones among them"]
        if not self.dense:
            n = int(np.isin(self.scored, train).sum())
            said.append(f"{n:,} of {len(self.scored):,} scored images are of patients that the SAE was trained on")
        return "; ".join(said)

    def _train_patients(self) -> np.ndarray:
        query = "SELECT image FROM image WHERE patient IN (SELECT patient FROM image WHERE split = 'train')"
        with self.lock:
            return np.array([r[0] for r in self.pictures.execute(query).fetchall()], dtype=np.int64)

    def _own_label(self, neuron: int) -> np.ndarray:
        """bool by image number: carries the label the neuron follows most (or lacks it, for a negative correlation)."""
        own = np.zeros(len(self.paths), dtype=bool)
        label, rho = self.top_label.get(neuron), self.top_rho.get(neuron)
        if label is not None and rho:
            query = "SELECT image FROM label WHERE label = ? AND value = ?"
            with self.lock:
                own[[r[0] for r in self.pictures.execute(query, [label, int(rho > 0)]).fetchall()]] = True
        return own

    def _labels_of(self, image: int) -> dict[str, int | None]:
        with self.lock:
            return dict(self.pictures.execute("SELECT label, value FROM label WHERE image = ?", [image]).fetchall())

    def _hash_of(self, image: int) -> int | None:
        with self.lock:
            row = self.pictures.execute("SELECT webp FROM thumbnail WHERE image = ?", [image]).fetchone()
        return None if row is None else difference_hash(row[0])

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        try:
            with self.lock:
                return self.tables.execute(query).fetchall()
        except duckdb.Error as error:
            raise self.scores.trouble(error) from error

    def _column(self, query: str) -> list[Any]:
        return [row[0] for row in self._rows(query)]

    def _one(self, query: str) -> tuple[Any, ...]:
        return self._rows(query)[0]


def _cohort(store: Store, scores: Artifact) -> Artifact:
    """The cohort that scores stand on, by way of the embeddings where the scores do not name it."""
    if "cohort" in scores.parents:
        return store.parent(scores.parents["cohort"], "cohort")
    return store.parent(store.get(scores.parents["embeddings"], "embeddings").parents["cohort"], "cohort")
