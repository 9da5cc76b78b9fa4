"""Trains simgemma, the small Gemma 3 that names and judges simulated radiographs: `python -m tools.simgemma.train`.

Draws pictures (about three minutes for 10,000 on a core that is free), trains the tower, then the language part on the
tower's image tokens, measures both on patients that it has not seen, and writes model, processor and simgemma.json.
All of it goes on where it was stopped: pictures in shards, both trainings by checkpoints of some steps.
"""

from __future__ import annotations

import json
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
from tools.simgemma.world import DECIDERS, World, world

ROOT = Path(__file__).parents[2]
HELD_OUT = 3_000


@dataclass(frozen=True)
class Places:
    """Where things lie."""

    cache: Path = ROOT / "data" / "cache"
    """Pictures, shared by all trainings."""
    work: Path = ROOT / "data" / "cache" / "simgemma-training"
    """Checkpoints and image tokens of one training."""
    out: Path = ROOT / "medsae" / "naming" / "simgemma"


def train_tower(settings: tower.TowerSettings, places: Places, workers: int) -> None:
    """`work`/tower.pt."""
    places.work.mkdir(parents=True, exist_ok=True)
    seen = pictures.pictures(places.cache, settings.images, pictures.TRAINING_SEED, workers)
    held_out = pictures.pictures(places.cache, DECIDERS, pictures.HELD_OUT_SEED, workers)
    together(tower.train, workers, seen, held_out, settings, places.work)


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


def prepare(settings: tower.TowerSettings, text: build.TextSettings, places: Places, workers: int) -> Seen:
    """The tower's image tokens of all pictures, and a model whose language part knows nothing yet."""
    seen = pictures.pictures(places.cache, settings.images, pictures.TRAINING_SEED, workers)
    unseen = pictures.pictures(places.cache, HELD_OUT, pictures.HELD_OUT_SEED, workers)
    deciders, rest = _rows(unseen, slice(0, DECIDERS)), _rows(unseen, slice(DECIDERS, None))
    eyes = tower.trained(settings, len(seen.names), places.work)
    tokens, held = (
        _tokens(eyes, p, places.work / f"{name}.pt") for name, p in (("tokens", seen), ("held-out", unseen))
    )
    decided = tower.areas(eyes, deciders, held[:DECIDERS])
    across = build.evidence(eyes, tokens, text.width)
    net, processor = build.build(eyes, across, text, settings.seed)
    return Seen(net, Text(processor), processor, world(eyes, seen, decided, tokens, across),
                world(eyes, rest, decided, held[DECIDERS:], across),
                tower.areas(eyes, rest, held[DECIDERS:]))  # fmt: skip


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


PLACES, EYES, TEXT, WORDS = Places(), tower.TowerSettings(), build.TextSettings(), language.LanguageSettings()


def main(
    places: Places = PLACES,
    eyes: tower.TowerSettings = EYES,
    text: build.TextSettings = TEXT,
    words: language.LanguageSettings = WORDS,
    workers: int = 2,
) -> None:
    """All of it."""
    began = time.monotonic()
    train_tower(eyes, places, workers)
    seen = prepare(eyes, text, places, workers)
    together(_language, workers, seen, words, places.work)
    settings = {"tower": asdict(eyes), "text": asdict(text), "language": asdict(words), "processes": workers}
    told = finish(seen, settings, places)
    print(f"judge {told['judge']['mean_auroc']}, naming {told['naming']}, {time.monotonic() - began:.0f} s")
    print(f"mean AUROC of the tower {np.mean(list(told['tower_auroc'].values())):.4f}")


if __name__ == "__main__":
    import tyro

    torch.set_num_threads(1)
    tyro.cli(main)
