"""What a finished training should have been told: what went wrong by its own history, and the option to try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medsae import config

RISEN = 0.03
"""A held-out loss that ends by more than this share above its best is called risen."""
STILL_FALLING = 0.05
"""A held-out loss that fell by more than this share over the last fifth of the epochs is called unfinished."""
MANY_DEAD = 0.3
LARGE_RATE = 0.1
"""At such a learning rate patience helps nobody."""
LEAST_EPOCHS = 10
"""Fewer epochs show no trend."""


@dataclass(frozen=True)
class Advice:
    """One thing that went wrong; `problem` is a short name, `what` says it with its figures, `do` is the option."""

    problem: str
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.what}; {self.do}"


def advice(losses: Sequence[float], fve: float, dead_share: float, train: config.Train, held_out: bool) -> list[Advice]:
    """What to tell of a training, worst first; empty where nothing is wrong.

    losses: after each epoch (of held-out images, where `held_out`); fve: at the end; dead_share: neurons that fire on
    no training image; train: resolved. The published settings (preset paper) are judged like all others.
    """
    found = [_worse_than_the_mean(fve, losses, train), _risen(losses, train, held_out),
             _dead(dead_share, train), _unfinished(losses, fve, train)]  # fmt: skip
    return [one for one in found if one is not None]


def _worse_than_the_mean(fve: float, losses: Sequence[float], train: config.Train) -> Advice | None:
    if not fve < 0:
        return None
    rate = train.lr or 0
    what = f"the reconstruction is worse than the mean image (FVE {fve:.2f})" if fve > -1000 else (
        f"the reconstruction is worse than the mean image (FVE {fve:.2g})")  # fmt: skip
    if fve < -1 and (rate >= LARGE_RATE or losses[-1] > losses[0]):
        return Advice(
            "diverged", f"{what}: the training diverged", f"give a smaller learning rate (--lr {rate / 10:g})"
        )
    return Advice("too short", what, f"train longer (--epochs {4 * len(losses)}) or faster (--lr {10 * rate:g})")


def _risen(losses: Sequence[float], train: config.Train, held_out: bool) -> Advice | None:
    if not held_out or len(losses) < 2:
        return None
    best = min(range(len(losses)), key=losses.__getitem__)
    rise = losses[-1] / losses[best] - 1 if losses[best] > 0 else 0.0
    if not rise > RISEN:
        return None
    what = (
        f"the loss on held-out images rises after epoch {best + 1} of {len(losses)}, by {100 * rise:.0f} %: it overfits"
    )
    return Advice("overfits", what, f"stop there (--epochs {best + 1})" + _fewer(train))


def _dead(dead_share: float, train: config.Train) -> Advice | None:
    if not dead_share > MANY_DEAD:
        return None
    what = f"{100 * dead_share:.0f} % of the neurons fire on no training image"
    fewer = _fewer(train, "give fewer neurons")
    return Advice("dead", what, fewer or _milder(train))


def _fewer(train: config.Train, words: str = ", or fewer neurons") -> str:
    smaller = max(1, (train.expansion or 1) // 2)
    return f"{words} (--expansion {smaller})" if smaller < (train.expansion or 1) else ""


def _milder(train: config.Train) -> str:
    if train.k is not None:
        return f"let more of them fire on an image (--k {2 * train.k})"
    for name in ("l1", "l0"):
        value = getattr(train, name)
        if value:
            return f"give a smaller penalty (--{name} {value / 3:.2g})"
    return f"give a smaller learning rate (--lr {(train.lr or 0) / 3:.2g})"


def _unfinished(losses: Sequence[float], fve: float, train: config.Train) -> Advice | None:
    if len(losses) < LEAST_EPOCHS or fve < 0:
        return None
    before = losses[-1 - len(losses) // 5]
    fall = 1 - losses[-1] / before if before > 0 else 0.0
    if not fall > STILL_FALLING:
        return None
    fallen = f"{100 * fall:.0f} % over the last fifth of {len(losses)} epochs"
    what = f"the loss still falls, by {fallen}: the run was too short"
    return Advice("too short", what, f"train longer (--epochs {2 * len(losses)})")
