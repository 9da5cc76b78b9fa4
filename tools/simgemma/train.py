"""Trains simgemma, the small Gemma 3 that names and judges simulated radiographs: `python -m tools.simgemma.train`.

Draws pictures (about three minutes for 10,000 on a core that is free), trains the tower, then the language part on the
tower's image tokens of other pictures, measures both on patients that neither has seen, and writes model, processor and
simgemma.json. All of it goes on where it was stopped: pictures in shards, both trainings by checkpoints of some steps.
`--start FOLDER` begins with a simgemma that is there in place of nothing; `--smoke` goes through all of it in a minute
and writes a model that knows nothing to the place of the checkpoints.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medsae.simulated import projection
from tools.simgemma import build, language, pictures, tower
from tools.simgemma.lessons import Text
from tools.simgemma.record import record
from tools.simgemma.schedule import together
from tools.simgemma.world import World, world

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Places:
    """Where things lie."""

    cache: Path = ROOT / "data" / "cache"
    """Pictures, shared by all trainings."""
    work: Path = ROOT / "data" / "cache" / "simgemma-training"
    """Checkpoints and image tokens of one training."""
    out: Path = ROOT / "medsae" / "naming" / "simgemma"
    start: Path | None = None
    """A simgemma whose tower and language part are the beginning, such as the one that comes with the program. With 0
    steps of the tower its eyes stay as they are."""


@dataclass(frozen=True)
class Measured:
    """What the record is of."""

    held_out: int = 3_000
    """Pictures of `pictures.HELD_OUT_SEED`."""
    deciders: int = 1_000
    """The first so many of them decide what is visible; the record is of the rest."""
    px: int = pictures.DRAWN_PX
    """Side of all pictures as they are drawn; another than the default is for tests."""


def begin(places: Places) -> Places:
    """Keeps the beginning beside the checkpoints: a training may write over the model that it began with."""
    places.work.mkdir(parents=True, exist_ok=True)
    kept = places.work / "start"
    if places.start and not kept.exists():
        shutil.copytree(places.start, kept.with_suffix(".part"), dirs_exist_ok=True)
        kept.with_suffix(".part").rename(kept)
    return replace(places, start=kept if kept.exists() else None)


def train_tower(settings: tower.TowerSettings, places: Places, measured: Measured, workers: int) -> None:
    """`work`/tower.pt."""
    seen = pictures.pictures(places.cache, settings.pictures, pictures.TRAINING_SEED, workers, measured.px)
    held_out = _held_out(places, measured, workers)
    deciders = _rows(held_out, slice(0, measured.deciders))
    together(tower.train, workers, seen, deciders, settings, places.work, places.start)


def _held_out(places: Places, measured: Measured, workers: int) -> pictures.Pictures:
    spans = ((0, measured.held_out),)
    return pictures.pictures(places.cache, spans, pictures.HELD_OUT_SEED, workers, measured.px)


@dataclass(frozen=True)
class Seen:
    """What the language part learns from, and is measured on."""

    net: Any
    text: Text
    processor: Any
    training: World
    held_out: World
    areas: dict[str, float]
    """AUROC of each factor as the tower's head reads it, on the held-out pictures that decide nothing."""


def prepare(
    eyes: tower.TowerSettings,
    text: build.TextSettings,
    words: language.LanguageSettings,
    places: Places,
    measured: Measured,
    workers: int,
) -> Seen:
    """The tower's image tokens of the pictures that the language part is taught with and of those of the record, and a
    model whose language part knows what that of the beginning knows."""
    seen = pictures.pictures(places.cache, words.pictures, pictures.TRAINING_SEED, workers, measured.px)
    unseen, first = _held_out(places, measured, workers), measured.deciders
    deciders, rest = _rows(unseen, slice(0, first)), _rows(unseen, slice(first, None))
    as_it_is = places.start if not eyes.steps else None
    if as_it_is:
        net = tower.Tower(eyes, len(seen.names)).eval()
        tower.take_up(net, as_it_is, seen)
    else:
        net = tower.trained(eyes, len(seen.names), places.work)
    tokens, held = (_tokens(net, p, places.work / f"{name}.pt") for name, p in (("tokens", seen), ("held-out", unseen)))
    decided = tower.areas(net, deciders, held[:first])
    across = torch.eye(text.width) if as_it_is else build.evidence(net, tokens, text.width)
    model, processor = build.build(net, across, text, eyes.seed)
    if places.start is not None:
        build.take_up(model, places.start)
    return Seen(model, Text(processor), processor, world(net, seen, decided, tokens, across),
                world(net, rest, decided, held[first:], across), tower.areas(net, rest, held[first:]))  # fmt: skip


def _rows(seen: pictures.Pictures, rows: slice) -> pictures.Pictures:
    return replace(seen, x=seen.x[rows], f=seen.f[rows], masks=seen.masks[rows], patient=seen.patient[rows])


def _tokens(eyes: tower.Tower, seen: pictures.Pictures, path: Path) -> torch.Tensor:
    if not path.exists():
        torch.save(tower.encode(eyes, seen.x), path)
    return torch.load(path, weights_only=True)


def _language(rank: int, workers: int, seen: Seen, settings: language.LanguageSettings, folder: Path) -> None:
    language.train(rank, workers, seen.net, seen.text, seen.training, settings, folder)


def finish(seen: Seen, settings: dict[str, Any], places: Places) -> dict[str, Any]:
    """Measures the trained model as it is shipped (bf16) and writes it with its record."""
    state = torch.load(places.work / "language.pt", weights_only=True)["net"]
    seen.net.load_state_dict(state)
    build.save(seen.net, seen.processor, places.out)
    seen.net.float().eval()
    simclip = json.loads((ROOT / "medsae" / "encoders" / "weights" / "simclip.json").read_text())["probe_auroc"]
    probes = {fact: row["auroc"] for fact, row in simclip.items()}
    told = {
        "name": "simgemma", "knows": "simulated radiographs only", "settings": settings,
        "training_seed": pictures.TRAINING_SEED, "held_out_seed": pictures.HELD_OUT_SEED,
        "projection_version": projection.VERSION,
        "parameters": sum(p.numel() for p in seen.net.parameters()),
        "licence": "Apache-2.0, as the rest of the repository; trained on simulated pictures only",
        **record(seen.net, seen.text, seen.held_out, seen.areas, probes),
    }  # fmt: skip
    (places.out / "simgemma.json").write_text(json.dumps(told, indent=1) + "\n")
    return told


def _beginning(places: Places) -> dict[str, Any] | None:
    """What a training began with: the hash of the weights, and how these were made."""
    if places.start is None:
        return None
    weights = (places.start / "model.safetensors").read_bytes()
    told = json.loads((places.start / "simgemma.json").read_text())
    return {"sha256": hashlib.sha256(weights).hexdigest(), "settings": told["settings"]}


PLACES, EYES, TEXT, WORDS = Places(), tower.TowerSettings(), build.TextSettings(), language.LanguageSettings()
MEASURED = Measured()


def small(places: Places) -> tuple[Places, tower.TowerSettings, language.LanguageSettings, Measured]:
    """The smallest training that goes through all of it."""
    return (
        replace(places, cache=places.work / "cache", out=places.work / "out"),
        replace(EYES, pictures=((0, 250),), steps=2, batch=8),
        replace(WORDS, pictures=((250, 500),), steps=2, judged=2, named=2, listed=1, chosen=1, sets=200),
        Measured(500, 250, 96),
    )


def main(
    places: Places = PLACES,
    eyes: tower.TowerSettings = EYES,
    text: build.TextSettings = TEXT,
    words: language.LanguageSettings = WORDS,
    measured: Measured = MEASURED,
    workers: int = 2,
    smoke: bool = False,
) -> dict[str, Any]:
    """All of it; returns the record."""
    began = time.monotonic()
    if smoke:
        places, eyes, words, measured = small(places)
    places = begin(places)
    if places.start is not None:  # its image tokens are as wide as its words
        eyes = replace(eyes, text_width=text.width)
    if eyes.steps:
        train_tower(eyes, places, measured, workers)
    seen = prepare(eyes, text, words, places, measured, workers)
    together(_language, workers, seen, words, places.work)
    settings = {"tower": asdict(eyes), "text": asdict(text), "language": asdict(words), "processes": workers,
                "start": _beginning(places)}  # fmt: skip
    told = finish(seen, settings, places)
    print(f"judge {told['judge']['mean_auroc']}, naming {told['naming']}, {time.monotonic() - began:.0f} s")
    print(f"mean AUROC of the tower {np.mean(list(told['tower_auroc'].values())):.4f}")
    return told


if __name__ == "__main__":
    import tyro

    torch.set_num_threads(1)
    tyro.cli(main)
