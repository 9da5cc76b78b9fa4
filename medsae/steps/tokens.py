"""Token embeddings on disk: how much they are, where they lie, and what a picture's activation is made of.

`tokens/0000k.npy` holds float16 [pictures, kept, d] of `shard` consecutive images of the cohort (rows of images that
could not be decoded are NaN), `cells.npy` the cells that were kept of each image, where not all were.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from medsae import config as c
from medsae.geometry import packed
from medsae.progress import Progress, UserError
from medsae.steps import located
from medsae.store.artifacts import Artifact, Build

FOLDER = "tokens"
CELLS = 2**24
"""Activations of tokens at a time (64 MiB)."""
HOLDOUT_TOKENS = 65_536
"""Tokens of held-out pictures that the quality is measured on."""
TOP_PICTURES = 24
"""Pictures of a neuron whose tokens are kept."""
TOP_CELLS = 16
"""Tokens that are kept of a picture, the largest first."""


@dataclass(frozen=True)
class Plan:
    """What is going to be written."""

    images: int
    cells: int
    kept: int
    d: int

    @property
    def bytes(self) -> int:
        return self.images * self.kept * self.d * 2

    def announce(self, where: Path, progress: Progress) -> None:
        """Say how much it will be; UserError when the disk has not so much room."""
        progress.say(f"tokens: {self.images:,} pictures x {self.kept:,} of {self.cells:,} x {self.d:,} in float16: "
                     f"{self.bytes / 1e9:,.2f} GB")  # fmt: skip
        free = shutil.disk_usage(where).free
        if free < self.bytes * 1.02:
            raise UserError(
                f"the disk has {free / 1e9:,.1f} GB free, the tokens need {self.bytes / 1e9:,.1f} GB", where,
                "keep fewer with --tokens-per-image, free space, or choose another --data",
            )  # fmt: skip


def keep(build: Build, shards: list[Path], shard: int, cells: np.ndarray | None) -> None:
    """Make finished shards part of the artifact, without copying them."""
    folder = build.path / FOLDER
    folder.mkdir(exist_ok=True, mode=0o700)
    for path in shards:
        (folder / path.name).unlink(missing_ok=True)
        os.link(path, folder / path.name)
    if cells is not None:
        np.save(build.path / "cells.npy", cells.astype(np.uint16), allow_pickle=False)


@dataclass(frozen=True)
class Tokens:
    """The tokens of an embeddings artifact, read when they are asked for."""

    artifact: Artifact

    @staticmethod
    def of(artifact: Artifact) -> Tokens | None:
        """Of embeddings that have tokens."""
        return Tokens(artifact) if artifact.facts.get("tokens") else None

    @property
    def kept(self) -> int:
        return int(self.artifact.facts["tokens"])

    @property
    def d(self) -> int:
        return int(self.artifact.facts["d"])

    @cached_property
    def _shards(self) -> list[np.ndarray]:
        names = sorted(n for n in self.artifact.manifest["files"] if n.startswith(f"{FOLDER}/"))
        return [np.load(self.artifact.file(name), mmap_mode="r", allow_pickle=False) for name in names]

    def read(self, images: np.ndarray) -> np.ndarray:
        """float32 [b, kept, d] of images of the cohort. Safe to call from threads."""
        size = int(self.artifact.facts["shard"])
        found = np.empty((len(images), self.kept, self.d), np.float32)
        for k in np.unique(images // size):
            here = images // size == k
            found[here] = self._shards[k][images[here] % size]
        return found

    def cells(self, images: np.ndarray) -> np.ndarray:
        """int64 [b, kept]: the cell of the grid that each token is of, row by row from the top left."""
        if "cells.npy" not in self.artifact.manifest["files"]:
            return np.broadcast_to(np.arange(self.kept), (len(images), self.kept))
        return np.load(self.artifact.file("cells.npy"), mmap_mode="r", allow_pickle=False)[images].astype(np.int64)

    def images_of(self, rows: np.ndarray) -> np.ndarray:
        """Images of rows of x.npy."""
        with self.artifact.connect() as connection:
            image = connection.execute('SELECT image FROM embedding_row ORDER BY "row"').df()["image"].to_numpy()
        return image[rows].astype(np.int64)


Pooled = Literal["max", "mean", "share"]


def pool(z_bt: np.ndarray, pooled: Pooled) -> np.ndarray:
    """The activation of pictures from those of their tokens, [b, tokens, ...] -> [b, ...]."""
    if pooled == "max":
        return z_bt.max(1)
    return (z_bt if pooled == "mean" else z_bt > 0).mean(1, dtype=np.float32)


@dataclass(frozen=True)
class TokenSource:
    """A representation whose activation of a picture is taken over its tokens (a `scoring.activity.Source`)."""

    tokens: Tokens
    images: np.ndarray
    m: int
    values: Callable[[np.ndarray], np.ndarray]
    """Tokens [k, d] -> float32 [k, m]."""
    pooled: Pooled
    sparse: bool = False

    def blocks(self, begin: int = 0, end: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        from medsae.scoring.activity import spans

        size = max(1, CELLS // (self.m * self.tokens.kept))
        for start, stop in spans(begin, len(self.images) if end is None else end, size):
            yield start, self.pool(self.of(self.images[start:stop]))

    def of_many(self, images: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(place of the first, activations of the tokens [b, kept, m]) of images, some at a time."""
        size = max(1, CELLS // (self.m * self.tokens.kept))
        for start in range(0, len(images), size):
            yield start, self.of(images[start : start + size])

    def pool(self, z_bt: np.ndarray) -> np.ndarray:
        """The activation of pictures from those of their tokens, [b, kept, ...] -> [b, ...]."""
        return pool(z_bt, self.pooled)

    def of(self, images: np.ndarray) -> np.ndarray:
        """Activations of the tokens of some images -> [b, kept, m]."""
        x_btd = self.tokens.read(images)
        return self.values(x_btd.reshape(-1, self.tokens.d)).reshape(len(images), self.tokens.kept, self.m)


def sources(
    tokens: Tokens, rows: np.ndarray, sae: Any, pooled: Pooled, seed: int, neurons: int
) -> tuple[TokenSource, TokenSource, dict[str, Any]]:
    """What is scored, the raw tokens, and the rivals in the recovery of planted factors. `sae`: None for raw."""
    from medsae.scoring.activity import random_directions

    images = tokens.images_of(rows)
    random_dm = random_directions(tokens.d, neurons, seed)

    def source(m: int, values: Callable[[np.ndarray], np.ndarray], sparse: bool = False) -> TokenSource:
        return TokenSource(tokens, images, m, values, pooled, sparse)

    raw = source(tokens.d, lambda x: x)
    random = source(neurons, lambda x: x @ random_dm)
    if sae is None:
        return raw, raw, {"random": random}
    rivals = {"preactivation": source(sae.m, sae.pre_activations), "raw": raw, "random": random}
    return source(sae.m, sae.encode, sparse=True), raw, rivals


def behind(source: TokenSource, activation: pd.DataFrame) -> pd.DataFrame:
    """The tokens behind the top pictures: neuron, image, cell, value; TOP_CELLS a picture, those that fire.

    `activation`: neuron, image, value, the largest first within a neuron."""
    top = activation.sort_values(["neuron", "value"], ascending=[True, False], kind="stable")
    top = top[top["value"] > 0].groupby("neuron").head(TOP_PICTURES)
    parts: list[pd.DataFrame] = []
    by_image = {int(image): part["neuron"].to_numpy() for image, part in top.groupby("image")}
    images = np.array(sorted(by_image), dtype=np.int64)
    for start, z_btm in source.of_many(images):
        here = images[start : start + len(z_btm)]
        cells_bt = source.tokens.cells(here)
        for image, z_tm, cell_t in zip(here, z_btm, cells_bt, strict=True):
            neurons = by_image[int(image)]
            z_tk = z_tm[:, neurons]
            best = np.argsort(-z_tk, axis=0, kind="stable")[:TOP_CELLS]
            value = np.take_along_axis(z_tk, best, 0)
            frame = pd.DataFrame({
                "neuron": np.broadcast_to(neurons, best.shape).ravel(), "image": np.int32(image),
                "cell": cell_t[best].ravel(), "value": value.ravel(),
            })  # fmt: skip
            parts.append(frame[frame["value"] > 0])
    columns = ["neuron", "image", "cell", "value"]
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return found.sort_values(["neuron", "image", "value"], ascending=[True, True, False], kind="stable")


def maps(source: TokenSource, activation: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The activations of all cells of each neuron's top pictures as the tables `cell` and `cell_grid`; {} where not all
    tokens were kept, or where it is not known which part of a picture a cell is of."""
    facts = source.tokens.artifact.facts
    one, grid = grid_row(facts), facts["grid"]
    if one is None or source.tokens.kept != grid[0] * grid[1]:
        return {}
    top = activation.sort_values(["neuron", "value"], ascending=[True, False], kind="stable")
    top = top[top["value"] > 0].groupby("neuron").head(TOP_PICTURES)
    parts: list[pd.DataFrame] = []
    by_image = {int(image): part["neuron"].to_numpy() for image, part in top.groupby("image")}
    images = np.array(sorted(by_image), dtype=np.int64)
    for start, z_btm in source.of_many(images):
        for image, z_tm in zip(images[start : start + len(z_btm)], z_btm, strict=True):
            neurons = by_image[int(image)]
            map_kc, scale = packed(np.ascontiguousarray(z_tm[:, neurons].T, np.float32))
            parts.append(pd.DataFrame({"neuron": neurons, "image": np.int32(image), "map": map_kc, "scale": scale,
                                       "constant": np.float32(0)}))  # fmt: skip
    if not parts:
        return {}
    cell = pd.concat(parts, ignore_index=True).sort_values(["neuron", "image"], kind="stable")
    return {"cell": cell, "cell_grid": pd.DataFrame([one])}


HOW = "activations of the tokens"


def grid_row(facts: dict[str, Any]) -> dict[str, Any] | None:
    """The row of the table `cell_grid` of token embeddings with these facts; None where it is not known which part of a
    picture a token is of."""
    place, grid = facts.get("cell_px"), facts["grid"]
    return None if place is None else {
        "rows": grid[0], "columns": grid[1], "first_px": place[0], "step_px": place[1], "reach_px": int(place[2]),
        "size_px": int(place[3]), "how": HOW,
    }  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """Scored images as `located.Told`: a map is the activations of the tokens of a picture."""

    cohort: Artifact
    images: pd.DataFrame
    activation: pd.DataFrame
    """neuron, row, value; sorted by neuron, value descending."""
    recovery: pd.DataFrame
    seed: int
    source: TokenSource
    rivals: dict[str, Any]

    @property
    def representations(self) -> tuple[str, ...]:
        return ("sae", "raw", "random") if self.source.sparse else ("raw", "random")

    @property
    def cells(self) -> located.Cells:
        """Where the tokens lie on a picture."""
        facts = self.source.tokens.artifact.facts
        first, step, _, size = facts["cell_px"]
        return located.Cells(tuple(facts["grid"]), first, step, int(size))

    @cached_property
    def spaces(self) -> list[TokenSource]:
        """The source of each representation."""
        return [self.rivals.get(name, self.source) for name in self.representations]

    def size(self, space: int) -> int:
        return self.spaces[space].m

    def fires(self, rows: np.ndarray) -> np.ndarray:
        images = self.source.images[rows]
        return np.concatenate([z.max(1) > 0 for _, z in self.source.of_many(images)]) if len(rows) else (
            np.zeros((0, self.source.m), bool))  # fmt: skip

    def values(self, space: int, neuron: int, rows: np.ndarray) -> np.ndarray:
        source = self.spaces[space]
        return np.concatenate([source.pool(z[..., neuron]) for _, z in source.of_many(source.images[rows])])


def localised(scored: Scored) -> dict[str, pd.DataFrame]:
    """The table `localisation`, {} where nothing was planted or marked."""
    cells = scored.cells
    questions = [q for finding in located.findings(scored, cells) for q in finding.questions(scored)]
    if not questions:
        return {}
    asked = located.Asked.joined([q.asked for q in questions])
    maps = np.full((len(asked.row), cells.count), np.nan, np.float32)
    for space, source in enumerate(scored.spaces):
        here = np.flatnonzero(asked.space == space)
        rows = np.unique(asked.row[here])
        for start, z_btm in source.of_many(source.images[rows]):
            for row, z_tm in zip(rows[start : start + len(z_btm)], z_btm, strict=True):
                places = here[asked.row[here] == row]
                maps[places] = z_tm[:, asked.neuron[places]].T
    return {"localisation": located.answers(questions, maps, scored.seed)}


def rows_of(tokens: Tokens, rows: np.ndarray) -> Any:
    """The tokens of some rows of x.npy as an array on disk (`sae.stream.TokenRows`)."""
    from medsae.sae.stream import TokenRows

    return TokenRows(tokens.read, tokens.images_of(rows), tokens.kept, tokens.d)


def held_out(tokens: Tokens, rows: np.ndarray) -> np.ndarray:
    """At most HOLDOUT_TOKENS tokens of these rows, evenly spread, float32 [k, d]."""
    every = rows_of(tokens, rows)
    return every[np.arange(0, len(every), max(1, -(-len(every) // HOLDOUT_TOKENS)))]


def check_scored(config: c.Score, tokens: Tokens | None) -> Pooled:
    """How tokens become an activation; UserError for --tokens without any."""
    c.check(config.tokens is None or tokens is not None, "--tokens: these embeddings are one vector a picture", None,
            "embed with --pool tokens")  # fmt: skip
    return config.tokens or "max"
