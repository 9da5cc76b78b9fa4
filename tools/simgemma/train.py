"""Trains simgemma: `python -m tools.simgemma.train`."""

from __future__ import annotations

from pathlib import Path

from tools.simgemma import pictures, tower
from tools.simgemma.schedule import together


def train_tower(settings: tower.TowerSettings, cache: Path, work: Path, workers: int) -> None:
    work.mkdir(parents=True, exist_ok=True)
    seen = pictures.pictures(cache, settings.images, pictures.TRAINING_SEED, workers)
    held_out = pictures.pictures(cache, 1_000, pictures.HELD_OUT_SEED, workers)
    together(tower.train, workers, seen, held_out, settings, work)


if __name__ == "__main__":
    train_tower(tower.TowerSettings(), Path("/tmp/simgemma/cache"), Path("/tmp/simgemma/work"), 2)
