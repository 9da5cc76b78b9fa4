"""The eyes: a SigLIP tower and Gemma 3's projector, trained on what was planted in a picture and where.

What made a tower this small see at all, in order of effect: a patch embedding that starts as whitened principal
components of the patches (small eigenvalues too: wires and letters live there), a position embedding that starts by
taking away the mean anatomy, masks as targets of the patches, Muon. From labels alone it learns little.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from tools.simgemma.pictures import MASKED, SIZE, Pictures, Spans
from tools.simgemma.schedule import Optimisers, go_on, keep


@dataclass(frozen=True)
class TowerSettings:
    """How the tower is built and trained."""

    pictures: Spans = ((0, 10_000),)
    """Of `pictures.TRAINING_SEED`."""
    steps: int = 700
    batch: int = 80
    width: int = 192
    layers: int = 4
    heads: int = 4
    mlp: int = 3
    patch: int = 16
    side: int = 2
    """A picture becomes side x side image tokens."""
    text_width: int = 192
    rate: float = 1e-3
    muon: float = 0.02
    decay: float = 0.03
    mask_weight: float = 1.0
    positive_weight: float = 2.0
    shift_px: float = 6
    turn_degrees: float = 5
    zoom: float = 0.08
    eps: float = 0.001
    """Whitening: what is added to the eigenvalues, as a share of their mean."""
    seed: int = 0


class Tower(nn.Module):
    """SigLIP, the projector of Gemma 3 (its `w` and `proj`), and the heads of the training."""

    def __init__(self, settings: TowerSettings, factors: int):
        super().__init__()
        s = settings
        self.settings, self.grid = s, SIZE // s.patch
        self.config = {
            "hidden_size": s.width, "intermediate_size": s.width * s.mlp, "num_hidden_layers": s.layers,
            "num_attention_heads": s.heads, "image_size": SIZE, "patch_size": s.patch, "vision_use_head": False,
        }  # fmt: skip
        self.vision = SiglipVisionModel(SiglipVisionConfig(**self.config))
        self.w = nn.Parameter(torch.zeros(s.width))
        self.proj = nn.Parameter(torch.randn(s.width, s.text_width) / s.width**0.5)
        self.head, self.patch_head = nn.Linear(s.text_width, factors), nn.Linear(s.width, len(MASKED))

    def tokens(self, h_bpw: torch.Tensor) -> torch.Tensor:
        """Patches [b, grid^2, width] -> image tokens [b, side^2, text_width], as Gemma3MultiModalProjector does it."""
        b, _, width = h_bpw.shape
        square = h_bpw.transpose(1, 2).reshape(b, width, self.grid, self.grid)
        pooled = F.avg_pool2d(square, self.grid // self.settings.side).flatten(2).transpose(1, 2).float()
        return (pooled * torch.rsqrt(pooled.pow(2).mean(-1, keepdim=True) + 1e-6) * (1 + self.w)) @ self.proj

    def forward(self, x_b1hw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches and image tokens of pictures in -1 .. 1."""
        h = self.vision(pixel_values=x_b1hw.expand(-1, 3, -1, -1)).last_hidden_state
        return h, self.tokens(h)


@torch.no_grad()
def whiten(net: Tower, x: np.ndarray, pictures: int = 3_000) -> None:
    """The patch embedding starts as whitened principal components of the patches; the position embedding takes away
    the mean of its place."""
    s, patch = net.settings, net.settings.patch
    scaled = torch.from_numpy(x[:pictures])[:, None].float() / 127.5 - 1
    patches = F.unfold(scaled, patch, stride=patch).transpose(1, 2)
    mean = patches.mean(0)
    rest = (patches - mean).reshape(-1, patch * patch)
    values, vectors = torch.linalg.eigh(rest.T @ rest / len(rest))
    values, vectors = values.flip(0)[: s.width], vectors.flip(1)[:, : s.width]
    weight = (vectors / (values + s.eps * values.mean()).sqrt()).T
    embeddings: Any = net.vision.embeddings
    embeddings.patch_embedding.weight.copy_(weight.reshape(s.width, 1, patch, patch).expand(-1, 3, -1, -1) / 3)
    embeddings.patch_embedding.bias.zero_()
    noise = torch.randn(net.grid**2, s.width) * 0.3
    embeddings.position_embedding.weight.copy_(noise - mean @ weight.T)


def take_up(net: Tower, folder: Path, seen: Pictures, pictures: int = 3_000) -> None:
    """The tower becomes the eyes of a simgemma that was written to `folder`. Their image tokens are evidence already,
    one coordinate a factor; how much of it and from where on is fitted on some pictures."""
    eyes, seeing, k = load_file(folder / "model.safetensors"), "vision_tower.", seen.f.shape[1]
    net.vision.load_state_dict({key.split(seeing)[1]: v.float() for key, v in eyes.items() if seeing in key})
    with torch.no_grad():
        net.w.copy_(eyes["multi_modal_projector.mm_soft_emb_norm.weight"])
        net.proj.copy_(eyes["multi_modal_projector.mm_input_projection_weight"])
    given = encode(net, seen.x[:pictures]).mean(1)[:, :k].clone()
    y = torch.from_numpy(seen.f[:pictures]).float()
    weight = torch.where(y > 0, net.settings.positive_weight, 1.0)
    much, least = torch.ones(k, requires_grad=True), torch.full((k,), -3.0, requires_grad=True)
    optimiser = torch.optim.LBFGS([much, least], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        found = F.binary_cross_entropy_with_logits(given * much + least, y, weight, reduction="none").mean(0).sum()
        found.backward()
        return found

    optimiser.step(loss)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.weight[:, :k].copy_(torch.diag(much.detach()))
        net.head.bias.copy_(least.detach())


def augment(
    x_bhw: torch.Tensor, masks_bkhw: torch.Tensor, s: TowerSettings, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 pictures -> float32 [b, 1, h, w] in about -1 .. 1, moved, turned, made larger or smaller, and with other
    contrast; never mirrored: side is truth. uint8 masks -> float32 [b, k, 16, 16] in 0 .. 1, moved with them."""
    b = len(x_bhw)
    turn, zoom = np.radians(rng.uniform(-s.turn_degrees, s.turn_degrees, b)), 1 + rng.uniform(-s.zoom, s.zoom, b)
    move = rng.uniform(-s.shift_px, s.shift_px, (b, 2)) * 2 / SIZE
    cos, sin = np.cos(turn) * zoom, np.sin(turn) * zoom
    theta = np.stack([np.stack([cos, -sin, move[:, 0]], 1), np.stack([sin, cos, move[:, 1]], 1)], 1)

    def moved(of: torch.Tensor, beyond: str) -> torch.Tensor:
        grid = F.affine_grid(torch.from_numpy(theta).float(), list(of.shape), align_corners=False)
        return F.grid_sample(of, grid, padding_mode=beyond, align_corners=False)

    gain = torch.tensor(rng.uniform(0.85, 1.15, (b, 1, 1, 1)), dtype=torch.float32)
    light = torch.tensor(rng.normal(0, 0.06, (b, 1, 1, 1)), dtype=torch.float32)
    x = moved(x_bhw[:, None].float() / 127.5 - 1, "border")
    return x * gain + light, moved(masks_bkhw.float() / 255, "zeros")


def patch_targets(masks: torch.Tensor, grid: int) -> torch.Tensor:
    """float32 [n, k, 16, 16] in 0 .. 1 -> [n, grid^2, k]: 1 where at least half of the patch is covered."""
    shares = F.avg_pool2d(masks, masks.shape[-1] // grid)
    return (shares * 2).clamp(max=1).flatten(2).transpose(1, 2)


@torch.inference_mode()
def encode(net: Tower, x: np.ndarray, batch: int = 125) -> torch.Tensor:
    """Image tokens float32 [n, side^2, text_width] of pictures uint8 [n, 128, 128]."""
    parts = [net((part.float() / 127.5 - 1)[:, None])[1] for part in torch.from_numpy(x).split(batch)]
    return torch.cat(parts).float()


def areas(net: Tower, seen: Pictures, tokens: torch.Tensor | None = None) -> dict[str, float]:
    """AUROC of each factor as the training's head reads it, where at least 8 pictures have it. tokens: those of the
    pictures, where they are known."""
    from sklearn.metrics import roc_auc_score

    with torch.inference_mode():
        logits = net.head((encode(net, seen.x) if tokens is None else tokens).mean(1)).numpy()
    present = seen.f.sum(0)
    return {
        name: round(float(roc_auc_score(seen.f[:, i], logits[:, i])), 4)
        for i, name in enumerate(seen.names)
        if 8 <= present[i] <= len(seen.f) - 8
    }


def rows(n: int, batch: int, seed: int) -> Iterator[torch.Tensor]:
    """Batches of row numbers, epoch after epoch, without end."""
    epoch = 0
    while True:
        order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(n))
        yield from order[: n // batch * batch].split(batch)
        epoch += 1


def train(
    rank: int,
    workers: int,
    seen: Pictures,
    held_out: Pictures,
    settings: TowerSettings,
    folder: Path,
    start: Path | None = None,
) -> None:
    """Trains a tower into `folder`/tower.pt; a stopped training goes on from there. start: see `take_up`. Run by
    `schedule.together`."""
    s = settings
    torch.manual_seed(s.seed)
    net = Tower(s, len(seen.names))
    if start is None:
        whiten(net, seen.x)
    else:
        take_up(net, start, seen)
    optimisers = Optimisers(net.named_parameters(), s.steps, s.rate, s.muon, s.decay)
    x, f, masks = torch.from_numpy(seen.x), torch.from_numpy(seen.f), torch.from_numpy(seen.masks)
    done, began, mean = go_on(folder / "tower.pt", {"net": net}, optimisers), time.monotonic(), 0.0
    for step, batch in zip(range(s.steps), rows(len(x), s.batch, s.seed), strict=False):
        if step < done:
            continue
        chosen, rng = batch[rank::workers], np.random.default_rng([s.seed, step, rank])
        moved, covered = augment(x[chosen], masks[chosen], s, rng)
        loss = _loss(net, moved, f[chosen].float(), patch_targets(covered, net.grid))
        optimisers.descend(loss, step)
        mean = float(loss.detach()) if step == done else 0.98 * mean + 0.02 * float(loss.detach())
        if rank == 0 and (step + 1) % 25 == 0:
            rate = (step + 1 - done) * s.batch / (time.monotonic() - began)
            print(f"tower {step + 1}/{s.steps}  loss {mean:.3f}  {rate:.0f} pictures/s", flush=True)
        if rank == 0 and ((step + 1) % 200 == 0 or step + 1 == s.steps):
            keep(folder / "tower.pt", {"net": net}, optimisers, step + 1)
            _tell(net, held_out)


def trained(settings: TowerSettings, factors: int, folder: Path) -> Tower:
    """The tower that `train` has left in `folder`."""
    net = Tower(settings, factors)
    net.load_state_dict(torch.load(folder / "tower.pt", weights_only=True)["net"])
    return net.eval()


def _loss(net: Tower, x: torch.Tensor, y: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    s = net.settings
    h, tokens = net(x)
    of_picture = F.binary_cross_entropy_with_logits(
        net.head(tokens.mean(1)), y, torch.where(y > 0, s.positive_weight, 1.0)
    )
    of_patches = F.binary_cross_entropy_with_logits(net.patch_head(h), targets, torch.where(targets > 0, 3.0, 1.0))
    return 4 * of_picture + 4 * s.mask_weight * of_patches


def _tell(net: Tower, held_out: Pictures) -> None:
    net.eval()
    found = areas(net, held_out)
    net.train()
    print(
        f"tower on unseen patients: mean AUROC {np.mean(list(found.values())):.4f} of {len(found)} factors", flush=True
    )
