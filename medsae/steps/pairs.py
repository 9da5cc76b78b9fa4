"""pairs: patients of a simulated cohort drawn with and without one factor, and what each neuron makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from medsae import config as c
from medsae import encoders
from medsae.cohorts.checking import cores
from medsae.cohorts.pictures import decode, thumbnail
from medsae.progress import Progress, UserError
from medsae.shards import Shards
from medsae.steps import found
from medsae.steps.cohort_pictures import stored_bytes
from medsae.steps.eyes import embedded_with
from medsae.steps.tables import insert
from medsae.store.artifacts import Artifact, Build, Store

if TYPE_CHECKING:
    from medsae.scoring.paired import Answers, Best
    from medsae.scoring.paired import Pairs as Numbers
    from medsae.simulated.pairs import Factor, Session

_SCHEMA = pa.schema({"shot": pa.int32(), "jpeg": pa.binary()})
EXAMPLES = 3
"""Patients of whom a page can show pairs."""


@dataclass(frozen=True)
class Parents:
    """What pairs are made of."""

    embeddings: Artifact
    cohort: Artifact
    sae: Artifact | None
    untrained: Artifact | None

    @property
    def ids(self) -> dict[str, str]:
        every = {"embeddings": self.embeddings, "cohort": self.cohort, "sae": self.sae, "untrained": self.untrained}
        return {role: artifact.id for role, artifact in every.items() if artifact is not None}


def pairs(config: c.Pairs, store: Store, progress: Progress) -> dict[str, Any]:
    """Draw, embed and compare; the tables of docs/protocol.md."""
    of = _parents(config, store, progress)
    known = {role: id for role, id in of.ids.items() if role != "cohort" and (role != "embeddings" or not of.sae)}
    config = replace(config, **known)
    what = "sae" if of.sae else "raw"
    with store.build(f"pairs-{what}-{of.embeddings.facts['encoder']}", config, of.ids) as build:
        if build.existing:
            found("pairs", build.id, progress)
            return build.existing.manifest
        from medsae.simulated import pairs as planted

        factors = planted.factors()
        studies = _studies(of.cohort, config)
        sessions = [planted.session(study, factors, config.levels) for study in studies]
        progress.say(
            f"{len(studies)} patients, {len(factors)} factors: {sum(len(s.shots) for s in sessions):,} pictures"
        )
        pictures = Drawn(build, sessions)
        pictures.draw(of.cohort.config, config.workers, store.cache / "simulated", progress)
        x_nd, how = _embedded(pictures, of, build, config, store, progress)
        same = _reproduced(pictures, sessions, of.cohort)
        if not all(same):
            progress.say(f"{sum(not one for one in same)} of {len(same)} patients are not drawn as in the cohort, which"
                         " other versions made: pairs are among themselves, so they still count")  # fmt: skip
        frames, facts = _measured(x_nd, _numbers(sessions), factors, of, config)
        frames["drawn"] = frames["drawn"].assign(
            image=[s.index for s in studies], patient=[f"patient{s.patient:05d}" for s in studies], reproduced=same
        )
        frames["example"] = _examples(pictures, sessions)
        with build.database() as connection:
            for name, frame in frames.items():
                insert(connection, name, frame)
        facts |= {"patients": len(studies), "n": len(pictures), "encoder": of.embeddings.facts["encoder"], **how,
                  "reproduced": sum(same), "factors": len(factors), "severities": config.levels}  # fmt: skip
        return build.publish(facts | of.ids).manifest


def _parents(config: c.Pairs, store: Store, progress: Progress) -> Parents:
    """The artifacts; UserError says why there can be no pairs of them."""
    sae = store.parent(config.sae, "sae") if config.sae else None
    embeddings = store.parent(sae.parents["embeddings"] if sae else config.embeddings or "", "embeddings")
    cohort = store.parent(embeddings.parents["cohort"], "cohort")
    if cohort.facts.get("source") != "simulated":
        raise UserError(f"the pictures of {cohort.id} were not drawn here: no patient can be drawn again with one thing"
                        " changed", cohort.id, "pairs are of simulated cohorts: python -m medsae run demo")  # fmt: skip
    made = embedded_with(embeddings)
    if made.encoder is None:
        raise UserError("these embeddings were made elsewhere: there is no encoder here to show new pictures to",
                        embeddings.id, "embed the cohort here: python -m medsae embed --encoder NAME")  # fmt: skip
    if made.pool == "tokens":
        raise UserError("pairs read whole embeddings, and these are of tokens", embeddings.id, "embed without --pool")
    return Parents(embeddings, cohort, sae, _control(config, sae, store, progress))


def _control(config: c.Pairs, sae: Artifact | None, store: Store, progress: Progress) -> Artifact | None:
    """The untrained control; None without one. UserError for one of another SAE."""
    if sae is None:
        return None
    if config.untrained:
        control = store.parent(config.untrained, "sae")
        if control.facts.get("control_of") != sae.id:
            raise UserError(
                f"{control.id} is not the untrained control of {sae.id}", control.id, "leave --untrained out"
            )
        return control
    if sae.facts.get("untrained"):
        return None
    mine = [a for a in store.list("sae") if a.facts.get("control_of") == sae.id]
    if not mine:
        progress.say("no untrained control of this SAE (train --untrained makes it): compared with raw and random")
        return None
    return mine[0].check()


def _studies(cohort: Artifact, config: c.Pairs) -> list[Any]:
    """One image of each of so many patients of the evaluation split (of all, where there is none), as planned."""
    from medsae import simulated

    with cohort.connect() as connection:
        images = connection.execute("SELECT image, patient, split FROM image ORDER BY image").df()
    apart = images[images["split"] == "evaluation"]
    rng = np.random.default_rng([config.seed, 10])
    mixed = (apart if len(apart) else images).sample(frac=1, random_state=rng).drop_duplicates("patient")
    chosen = sorted(mixed["image"].head(config.patients))
    if len(chosen) < config.patients:
        raise UserError(f"{len(chosen)} patients can be drawn, {config.patients} are asked for", cohort.id,
                        f"--patients {max(8, len(chosen))}, or a larger cohort")  # fmt: skip
    of = cohort.config
    return [next(simulated.plan(int(of["images"]), int(of["seed"]), int(image))) for image in chosen]


class Drawn:
    """The pictures of all patients, one after the other, as the cohort would keep them; a shard a patient."""

    def __init__(self, build: Build, sessions: Sequence[Session]):
        self.pieces, self.sessions = Shards(build.shards / "drawn", "parquet"), sessions
        self.start = np.concatenate([[0], np.cumsum([len(s.shots) for s in sessions])])
        self._of_patient = lru_cache(maxsize=4)(self._read)

    def draw(self, cohort: dict[str, Any], workers: int | None, cache: Path, progress: Progress) -> None:
        """Draw the patients that are not finished; UserError where the prepared thorax cannot be kept."""
        from medsae import simulated

        size, count = int(cohort["size"]), workers or cores()
        folder = simulated.prepare(cache, size, count, progress)
        missing = [k for k in range(len(self.sessions)) if self.pieces.finished(k) is None]
        jobs = ((folder, shot.study, size) for k in missing for shot in self.sessions[k].shots)
        with (
            progress.task("drawing pairs", len(self), "pictures") as task,
            get_context("spawn").Pool(count, simulated.one_core) if count > 1 and missing else nullcontext() as pool,
        ):
            task.advance(len(self) - sum(len(self.sessions[k].shots) for k in missing))
            stream = iter(pool.imap(_draw, jobs, chunksize=8) if pool else map(_draw, jobs))
            for k in missing:
                rows = []
                for shot, jpeg in enumerate(islice(stream, len(self.sessions[k].shots))):
                    rows.append({"shot": shot, "jpeg": jpeg})
                    task.advance()
                with self.pieces.writing(k) as new:
                    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), new, compression="none")

    def __len__(self) -> int:
        return int(self.start[-1])

    def _read(self, patient: int) -> list[bytes]:
        return pq.read_table(self.pieces.path(patient))["jpeg"].to_pylist()

    def jpeg(self, patient: int, shot: int) -> bytes:
        return self._of_patient(patient)[shot]

    def __getitem__(self, number: int) -> np.ndarray:
        patient = int(np.searchsorted(self.start, number, side="right")) - 1
        return decode(self.jpeg(patient, number - int(self.start[patient])))


def _draw(job: tuple[Path, Any, int]) -> bytes:
    """One picture, in a worker process."""
    from medsae import simulated
    from medsae.simulated import compose, projection
    from medsae.steps.simulate import jpeg_of

    folder, study, size = job
    drawn = compose.draw(projection.read_once(folder, simulated.quality_for(size)), study, size)
    return jpeg_of(Image.fromarray(drawn.picture.astype(np.uint8)))


def _reproduced(pictures: Drawn, sessions: Sequence[Session], cohort: Artifact) -> list[bool]:
    """Whether each study with nothing changed is the cohort's picture to the byte."""
    kept = stored_bytes(cohort, [s.shots[0].study.index for s in sessions])
    return [pictures.jpeg(p, 0) == kept.get(s.shots[0].study.index) for p, s in enumerate(sessions)]


def _numbers(sessions: Sequence[Session]) -> Numbers:
    """The numbers of the pictures of each pair, over all patients."""
    from medsae.scoring.paired import Pairs as Numbers

    start = np.concatenate([[0], np.cumsum([len(s.shots) for s in sessions])])
    most = max(len(after) for after in sessions[0].after)
    padded = [[[*after, *[-1] * (most - len(after))] for after in s.after] for s in sessions]
    after_pfs = np.array(padded, np.intp)
    after_pfs = np.where(after_pfs < 0, -1, after_pfs + start[:-1, None, None])
    return Numbers(np.array([s.before for s in sessions], np.intp) + start[:-1, None], after_pfs)


def _embedded(
    pictures: Drawn, of: Parents, build: Build, config: c.Pairs, store: Store, progress: Progress
) -> tuple[np.ndarray, dict[str, Any]]:
    """Embeddings of the pictures in float32, by the encoder of the cohort's; UserError where it is not the same."""
    from medsae.encoders import pipeline

    made = embedded_with(of.embeddings)
    assert made.encoder is not None
    encoder = encoders.load_encoder(made.encoder, made.weights, store.cache, progress, made)
    if encoder.weights_sha256 != of.embeddings.facts.get("weights_sha256", encoder.weights_sha256):
        raise UserError("the encoder's weights are not those that made these embeddings", of.embeddings.id,
                        "embed the cohort again with these weights")  # fmt: skip
    # Differences within a pair may be small: they are not rounded to bf16, whatever the cohort's embeddings were.
    # The layout is measured once a machine: the same question has the same bits, however busy it is.
    how = pipeline.How(precision="fp32", device=config.device, unit_norm=made.unit_norm,
                       choices=store.cache / "encoders" / "choices.json")  # fmt: skip
    x_nd, report = pipeline.embed(pictures, encoder, how, shards=build.shards / "embedded", progress=progress)
    assert x_nd is not None and not report.failed
    return np.asarray(x_nd), {"device": report.device, "precision": report.precision}


def _representations(x_nd: np.ndarray, of: Parents, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """(name, activations [n, m]) of everything that is compared."""
    from medsae.sae.model import Sae
    from medsae.scoring.activity import random_directions

    m = x_nd.shape[1]
    for name, artifact in (("sae", of.sae), ("untrained", of.untrained)):
        if artifact is not None:
            sae = Sae.load(artifact.file("sae.safetensors"))
            m = sae.m
            yield name, sae.encode(x_nd)
    yield "raw", x_nd
    yield "random", x_nd @ random_directions(x_nd.shape[1], m, seed)


def _measured(
    x_nd: np.ndarray, numbers: Numbers, factors: Sequence[Factor], of: Parents, config: c.Pairs
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Every table but `example`, and the headline facts."""
    from medsae.scoring import paired

    chooses_p = paired.halves(len(numbers.before_pf), config.seed)
    findings = list(dict.fromkeys(factor.finding for factor in factors))
    groups = [findings.index(factor.finding) for factor in factors]
    names = {False: findings, True: [factor.name for factor in factors]}
    severities = {name: config.levels for factor in factors if factor.graded for name in (factor.name, factor.finding)}
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in ("moved", "best", "overall", "dose")}
    facts: dict[str, Any] = {}
    for representation, z_nm in _representations(x_nd, of, config.seed):
        apart = paired.answers(z_nm, numbers)
        for level, answers in ((False, apart.grouped(groups)), (True, apart)):
            key = {"representation": representation, "parts": level}
            chosen = paired.best(answers, names[level], chooses_p, config.seed)
            parts["best"].append(chosen.frame.assign(**key))
            parts["overall"].append(_overall(chosen, len(names[level])).assign(**key))
            parts["dose"].append(_dose(answers, chosen, names[level], severities).assign(**key))
            if representation in ("sae", "raw"):
                parts["moved"].append(paired.table(answers, names[level]).assign(**key))
            if not level:
                facts[f"{representation}_recovery"] = chosen.recovery
        if representation == ("sae" if of.sae else "raw"):
            facts["m"] = z_nm.shape[1]
    frames = {name: pd.concat(some, ignore_index=True) for name, some in parts.items()}
    frames["factor"] = _factors(factors, config.levels)
    frames["drawn"] = pd.DataFrame({"chooses": chooses_p})
    return frames, facts


def _overall(chosen: Best, factors: int) -> pd.DataFrame:
    names = ("recovery", "low", "high", "specificity", "found")
    return pd.DataFrame([{name: getattr(chosen, name) for name in names} | {"factors": factors}])


def _dose(
    answers: Answers, chosen: Best, names: Sequence[str], severities: dict[str, list[float]]
) -> pd.DataFrame:  # fmt: skip
    """Mean activation of each factor's best neuron without the factor and at each severity."""
    rows = []
    for row in chosen.frame.dropna(subset="neuron").to_dict("records"):
        name, neuron = str(row["factor"]), int(row["neuron"])
        means = answers.curve_fsm[names.index(name), :, neuron]
        at = [None, *severities.get(name, [None])]
        rows += [{"factor": name, "neuron": neuron, "step": k, "severity": severity, "mean": float(means[k])}
                 for k, severity in enumerate(at)]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["factor", "neuron", "step", "severity", "mean"])
    return frame.astype({"severity": float})


def _factors(factors: Sequence[Factor], levels: Sequence[float]) -> pd.DataFrame:
    whole = {factor.finding: factor for factor in factors}
    rows = [{"parts": False, "factor": name, "finding": name, "graded": one.graded} for name, one in whole.items()]
    rows += [{"parts": True, "factor": one.name, "finding": one.finding, "graded": one.graded} for one in factors]
    frame = pd.DataFrame(rows)
    severities = np.where(frame.pop("graded"), len(levels), 1)
    return frame.assign(position=range(len(frame)), severities=severities)


def _examples(pictures: Drawn, sessions: Sequence[Session]) -> pd.DataFrame:
    """Small pictures of some patients: without each factor, and with it at every severity."""
    rows = []
    for p, session in enumerate(sessions[:EXAMPLES]):
        image = session.shots[0].study.index
        for after, before in zip(session.after, session.before, strict=True):
            name = session.shots[after[0]].factor
            for shot in (before, *after):
                severity = None if shot == before else session.shots[shot].severity
                small = thumbnail(Image.fromarray(decode(pictures.jpeg(p, shot))))
                rows.append({"factor": name, "image": image, "severity": severity, "webp": small})
    return pd.DataFrame(rows).astype({"severity": float})
