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
from torch import nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from tools.simgemma.pictures import MASKED, SIZE, Pictures
from tools.simgemma.schedule import Optimisers, go_on, keep


@dataclass(frozen=True)
class TowerSettings:
    """How the tower is built and trained."""

    images: int = 10_000
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
    shift_px: int = 6
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


def augment(x_bhw: torch.Tensor, shift_px: int, rng: np.random.Generator) -> torch.Tensor:
    """uint8 -> float32 [b, 1, h, w] in about -1 .. 1, moved and with other contrast; never mirrored: side is truth."""
    b = len(x_bhw)
    padded = F.pad(x_bhw[:, None].float() / 127.5 - 1, (shift_px,) * 4, mode="replicate")
    at = rng.integers(0, 2 * shift_px + 1, (b, 2)).tolist()
    moved = torch.stack([padded[i, :, r : r + SIZE, c : c + SIZE] for i, (r, c) in enumerate(at)])
    gain = torch.tensor(rng.uniform(0.85, 1.15, (b, 1, 1, 1)), dtype=torch.float32)
    return moved * gain + torch.tensor(rng.normal(0, 0.06, (b, 1, 1, 1)), dtype=torch.float32)


def patch_targets(masks: np.ndarray, grid: int) -> torch.Tensor:
    """uint8 [n, k, 16, 16] -> half [n, grid^2, k]: 1 where at least half of the patch is covered."""
    shares = F.avg_pool2d(torch.from_numpy(masks).float() / 255, masks.shape[-1] // grid)
    return (shares * 2).clamp(max=1).half().flatten(2).transpose(1, 2).contiguous()


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


def train(rank: int, workers: int, seen: Pictures, held_out: Pictures, settings: TowerSettings, folder: Path) -> None:
    """Trains a tower into `folder`/tower.pt; a stopped training goes on from there. Run by `schedule.together`."""
    s = settings
    torch.manual_seed(s.seed)
    net = Tower(s, len(seen.names))
    whiten(net, seen.x)
    optimisers = Optimisers(net.named_parameters(), s.steps, s.rate, s.muon, s.decay)
    x, f, targets = torch.from_numpy(seen.x), torch.from_numpy(seen.f), patch_targets(seen.masks, net.grid)
    done, began, mean = go_on(folder / "tower.pt", net, optimisers), time.monotonic(), 0.0
    for step, batch in zip(range(s.steps), rows(len(x), s.batch, s.seed), strict=False):
        if step < done:
            continue
        chosen, rng = batch[rank::workers], np.random.default_rng([s.seed, step, rank])
        loss = _loss(net, augment(x[chosen], s.shift_px, rng), f[chosen].float(), targets[chosen].float())
        optimisers.descend(loss, step)
        mean = float(loss.detach()) if step == done else 0.98 * mean + 0.02 * float(loss.detach())
        if rank == 0 and (step + 1) % 25 == 0:
            rate = (step + 1 - done) * s.batch / (time.monotonic() - began)
            print(f"tower {step + 1}/{s.steps}  loss {mean:.3f}  {rate:.0f} pictures/s", flush=True)
        if rank == 0 and ((step + 1) % 200 == 0 or step + 1 == s.steps):
            keep(folder / "tower.pt", net, optimisers, step + 1)
            _tell(net, held_out)


def trained(settings: TowerSettings, factors: int, folder: Path) -> Tower:
    """The tower that `train` has left in `folder`."""
    net = Tower(settings, factors)
    net.load_state_dict(torch.load(folder / "tower.pt", weights_only=True)["net"])
    return net.eval()


def _loss(net: Tower, x: torch.Tensor, y: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    s = net.settings
    with torch.autocast("cpu", torch.bfloat16):
        h, tokens = net(x)
    h, tokens = h.float(), tokens.float()
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
