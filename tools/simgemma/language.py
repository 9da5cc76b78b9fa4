"""The words: Gemma 3's language part, trained on the tower's image tokens, which are computed once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medsae.naming.backends.medgemma import _Features
from tools.simgemma.lessons import Lesson, Teacher, Text
from tools.simgemma.pictures import Spans
from tools.simgemma.schedule import Optimisers, go_on, keep
from tools.simgemma.world import World


@dataclass(frozen=True)
class LanguageSettings:
    """How the language part is trained. Batches are per process."""

    pictures: Spans = ((10_000, 20_000),)
    """Of `pictures.TRAINING_SEED`, and none that the tower was trained on: of those it believes too much, and a
    language part that trusts such beliefs is wrong about new pictures."""
    steps: int = 400
    judged: int = 40
    named: int = 6
    listed: int = 4
    chosen: int = 4
    naming_weight: float = 3.0
    hinted: bool = True
    """Whether the state before the last layer is told what it should hold (`Hints`)."""
    sets: int = 8_000
    """Sets that the regression is fitted on which tells how far the tower goes (see `lessons.Guess`)."""
    true: float = 0.5
    """Weight of what is true in the target of a name; the rest is what that regression tells of the evidence."""
    rate: float = 2e-3
    muon: float = 0.01
    seed: int = 0


def padded(ids: list[list[int]], left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Token numbers and mask, int64 [b, longest]."""
    longest = max(map(len, ids))
    out = torch.zeros(len(ids), longest, dtype=torch.long)
    mask = torch.zeros_like(out)
    for i, row in enumerate(ids):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        out[i, place], mask[i, place] = torch.tensor(row), 1
    return out, mask


def hidden(net: Any, ids: torch.Tensor, mask: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Last hidden states [b, length, width]; `features`: image tokens of all pictures in order."""
    return net.model(
        input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        token_type_ids=(ids == net.config.image_token_id).long(),
        mm_encoder_outputs={"image": _Features(features)}, use_cache=False,
    ).last_hidden_state  # fmt: skip


class Hints(nn.Module):
    """What the state before the last layer should hold at the end of a question and while a name is written: which
    fact it is about, and what the tower believes of the pictures. The last layer then only has to put the two
    together; without hints that is learned very slowly. Used in training alone."""

    def __init__(self, net: Any, facts: int):
        super().__init__()
        self.facts = facts
        self.read = nn.Linear(net.config.text_config.hidden_size, 2 * facts + 1)
        self.state = torch.zeros(0)
        net.model.language_model.layers[-2].register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, given: Any, out: Any) -> None:
        self.state = out[0] if isinstance(out, tuple) else out

    def loss(self, states: torch.Tensor, lesson: Lesson) -> torch.Tensor:
        """states: [hints of the lesson, width]."""
        about, seen = self.read(states).split([self.facts + 1, self.facts], 1)
        share = torch.zeros_like(about)
        for i, hint in enumerate(lesson.hints):
            for fact, part in hint.about.items():
                share[i, fact] = part
        said = -(share * about.log_softmax(1)).sum() / share.sum().clamp(min=1e-6)
        belief = torch.from_numpy(np.stack([hint.belief for hint in lesson.hints]))
        return 0.3 * said + 3.0 * nn.functional.binary_cross_entropy_with_logits(seen, belief)


def loss_of(net: Any, lesson: Lesson, world: World, parts: int = 1, hints: Hints | None = None) -> torch.Tensor:
    """Weighted mean cross-entropy against the lesson's shares, less their own entropy. Questions of one picture go in
    `parts` batches of like length, which leaves less padding."""
    order = sorted(range(len(lesson.ids)), key=lambda i: len(lesson.ids[i]))
    per = len(lesson.pictures) // len(lesson.ids)
    states: dict[int, torch.Tensor] = {}
    before: dict[int, torch.Tensor] = {}
    for group in np.array_split(np.array(order), min(parts, len(order))):
        ids, mask = padded([lesson.ids[i] for i in group])
        pictures = lesson.pictures.reshape(-1, per)[group].ravel()
        states |= dict(zip(group.tolist(), hidden(net, ids, mask, world.z[pictures]), strict=True))
        if hints is not None:
            before |= dict(zip(group.tolist(), hints.state, strict=True))
    at = torch.stack([states[row][place] for row, place, _, _ in lesson.targets])
    logs = net.lm_head(at).float().log_softmax(-1)
    share = torch.zeros_like(logs)
    for i, (_, _, pairs, _) in enumerate(lesson.targets):
        for token, part in pairs:
            share[i, token] += part
    own = -(share * share.clamp(min=1e-9).log()).sum(1)
    weight = torch.tensor([weight for *_, weight in lesson.targets])
    loss = ((-(share * logs).sum(1) - own) * weight).sum() / weight.sum()
    if hints is None:
        return loss
    return loss + hints.loss(torch.stack([before[hint.row][hint.place] for hint in lesson.hints]), lesson)


def train(
    rank: int,
    workers: int,
    net: Any,
    text: Text,
    world: World,
    settings: LanguageSettings,
    folder: Path,
    tell: Any = None,
) -> None:
    """Trains the language part into `folder`/language.pt; a stopped training goes on from there."""
    s, hints = settings, Hints(net, len(world.facts))
    teacher = Teacher(world, text, sets=s.sets, true=s.true)
    optimisers = Optimisers(
        [(n, p) for part in (net, hints) for n, p in part.named_parameters() if p.requires_grad],
        s.steps, s.rate, s.muon, 0.0,
    )  # fmt: skip
    net.train()
    trained: dict[str, nn.Module] = {"net": net, "hints": hints}
    done, began = go_on(folder / "language.pt", trained, optimisers), time.monotonic()
    means: dict[str, float] = {}
    for step in range(done, s.steps):
        rng = np.random.default_rng([s.seed, step, rank])
        lessons = {
            "judge": (teacher.judging(rng, s.judged), 1.0),
            "name": (teacher.naming(rng, s.named), s.naming_weight),
        }
        # The rarer questions take turns.
        lessons |= (
            {"list": (teacher.listing(rng, s.listed), 0.5)}
            if step % 2
            else {"choose": (teacher.choosing(rng, s.chosen), 0.3)}
        )
        total = torch.zeros(())
        for name, (lesson, weight) in lessons.items():
            loss = loss_of(
                net, lesson, world, 3 if name == "judge" else 1, hints if s.hinted and lesson.hints else None
            )
            total = total + weight * loss
            means[name] = 0.95 * means.get(name, float(loss.detach())) + 0.05 * float(loss.detach())
        optimisers.descend(total, step)
        if rank == 0 and (step + 1) % 25 == 0:
            pace = (time.monotonic() - began) / (step + 1 - done)
            print(f"language {step + 1}/{s.steps}  {pace:.2f} s a step  "
                  + "  ".join(f"{k} {v:.3f}" for k, v in means.items()), flush=True)  # fmt: skip
        if rank == 0 and ((step + 1) % 50 == 0 or step + 1 == s.steps):
            keep(folder / "language.pt", trained, optimisers, step + 1)
            if tell is not None:
                tell(net)
