"""The picture side: a SigLIP tower and Gemma 3's projector, trained to tell every planted factor.

Two losses: what is in the picture (from the image tokens that the language model will read), and where (from the
patches). The first layer starts as whitened principal components of patches and without the mean anatomy: without that
small things (wires, lines, markers) are never found (docs/decisions/071).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from tools.simgemma.pictures import CELLS, MASKED, SIZE, Pictures


@dataclass(frozen=True)
class Settings:
    """How the tower is built and trained."""

    width: int = 192
    layers: int = 4
    heads: int = 4
    mlp: int = 3
    """Inner width of a layer as a multiple of `width`."""
    patch_px: int = 16
    side: int = 2
    """A picture becomes side x side image tokens."""
    text_width: int = 192
    steps: int = 7000
    batch: int = 64
    learning_rate: float = 2e-3
    muon: float = 0.02
    """Learning rate of the layers' matrices."""
    weight_decay: float = 0.03
    mask_weight: float = 1.0
    shift_px: int = 6
    seed: int = 0


class Tower(nn.Module):
    """Pixels float [b, 1, 128, 128] -> patches [b, p, width], image tokens [b, side * side, text_width]."""

    def __init__(self, settings: Settings, factors: int):
        super().__init__()
        s = settings
        self.vision_config = dict(
            hidden_size=s.width, intermediate_size=s.width * s.mlp, num_hidden_layers=s.layers,
            num_attention_heads=s.heads, image_size=SIZE, patch_size=s.patch_px, vision_use_head=False,
        )  # fmt: skip
        self.vision = SiglipVisionModel(SiglipVisionConfig(**self.vision_config))
        self.norm = nn.Parameter(torch.zeros(s.width))
        """Gemma 3's mm_soft_emb_norm."""
        self.projection = nn.Parameter(torch.randn(s.width, s.text_width) / s.width**0.5)
        """Gemma 3's mm_input_projection."""
        self.head = nn.Linear(s.text_width, factors)
        self.patch_head = nn.Linear(s.width, len(MASKED))
        self.grid, self.side = SIZE // s.patch_px, s.side

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        patches = self.vision(pixel_values=pixels.expand(-1, 3, -1, -1)).last_hidden_state
        b, _, width = patches.shape
        grid = patches.transpose(1, 2).reshape(b, width, self.grid, self.grid)
        pooled = F.avg_pool2d(grid, self.grid // self.side).flatten(2).transpose(1, 2).float()
        scale = torch.rsqrt(pooled.pow(2).mean(-1, keepdim=True) + 1e-6)
        return patches, (pooled * scale * (1 + self.norm)) @ self.projection


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal by five Newton-Schulz steps (Jordan et al. 2024), for the matrices of layers."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.02):
        super().__init__(list(parameters), dict(lr=lr, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for p in group["params"]:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 0.05)
                u = p.grad.lerp(momentum, 0.95)
                tall = u.shape[0] > u.shape[1]
                x = (u.T if tall else u).bfloat16()
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    gram = x @ x.T
                    x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
                x = (x.T if tall else x).float()
                rate = group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(x, alpha=-rate)


def whiten(net: Tower, x: np.ndarray, pictures: int = 3000, eps: float = 1e-3) -> None:
    """Patch embedding = whitened principal components of patches; the position embedding takes the mean anatomy away."""
    side = SIZE // net.grid
    pixels = scaled(torch.from_numpy(x[:pictures]))
    patches = F.unfold(pixels, side, stride=side).transpose(1, 2)
    mean = patches.mean(0)
    centred = (patches - mean).reshape(-1, side * side)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    width = net.norm.shape[0]
    kept = min(width, side * side)
    values, vectors = values.flip(0)[:kept], vectors.flip(1)[:, :kept]
    weight = torch.zeros(width, side * side)
    weight[:kept] = (vectors / (values + eps * values.mean()).sqrt()).T
    embeddings = getattr(net.vision, "vision_model", net.vision).embeddings
    with torch.no_grad():
        embeddings.patch_embedding.weight.copy_(weight.reshape(width, 1, side, side).expand(-1, 3, -1, -1) / 3)
        embeddings.patch_embedding.bias.zero_()
        embeddings.position_embedding.weight.copy_(torch.randn(net.grid**2, width) * 0.3 - mean @ weight.T)


def scaled(x_bhw: Tensor) -> Tensor:
    """uint8 [b, h, w] -> float [b, 1, h, w] in [-1, 1], as Gemma 3's image processor gives it."""
    return (x_bhw.float() / 127.5 - 1)[:, None]


def augment(x_bhw: Tensor, shift_px: int, rng: np.random.Generator) -> Tensor:
    """Moved, with other contrast and brightness; never mirrored: side is part of the truth."""
    b = len(x_bhw)
    padded = F.pad(scaled(x_bhw), (shift_px,) * 4, mode="replicate")
    at = rng.integers(0, 2 * shift_px + 1, (b, 2)).tolist()
    x = torch.stack([padded[i, :, r : r + SIZE, c : c + SIZE] for i, (r, c) in enumerate(at)])
    gain = torch.tensor(rng.uniform(0.85, 1.15, (b, 1, 1, 1)), dtype=torch.float32)
    offset = torch.tensor(rng.normal(0, 0.06, (b, 1, 1, 1)), dtype=torch.float32)
    return x * gain + offset


def warm_then_cosine(step: int, steps: int, warm: float = 0.06) -> float:
    """Factor of the learning rate."""
    q = step / steps
    return q / warm if q < warm else 0.5 * (1 + math.cos(math.pi * (q - warm) / (1 - warm))) + 0.003


def train(data: Pictures, settings: Settings, every: int = 500) -> Tower:
    """A trained tower, in eval mode."""
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    net = Tower(settings, len(data.names))
    whiten(net, data.x)
    x, f = torch.from_numpy(data.x), torch.from_numpy(data.f)
    masks = torch.from_numpy(data.masks).float() / 255
    masks = (F.avg_pool2d(masks, CELLS // net.grid) * 2).clamp(max=1).half()
    matrices = [p for name, p in net.named_parameters() if ".layers." in name and p.ndim == 2]
    own = {id(p) for p in matrices}
    muon = Muon(matrices, settings.muon)
    adam = torch.optim.AdamW([p for p in net.parameters() if id(p) not in own], settings.learning_rate,
                             weight_decay=settings.weight_decay, betas=(0.9, 0.98))  # fmt: skip
    order, loss, began = torch.empty(0, dtype=torch.long), 0.0, time.monotonic()
    for step in range(settings.steps):
        if len(order) < settings.batch:
            order = torch.from_numpy(rng.permutation(len(x)))
        rows, order = order[: settings.batch], order[settings.batch :]
        rate = warm_then_cosine(step + 1, settings.steps)
        adam.param_groups[0]["lr"], muon.param_groups[0]["lr"] = settings.learning_rate * rate, settings.muon * rate
        with torch.autocast("cpu", torch.bfloat16):
            patches, tokens = net(augment(x[rows], settings.shift_px, rng))
        y = f[rows].float()
        logits = net.head(tokens.float().mean(1))
        total = 4 * F.binary_cross_entropy_with_logits(logits, y, torch.where(y > 0, 2.0, 1.0))
        where = masks[rows].float().flatten(2).transpose(1, 2)
        seen = net.patch_head(patches.float())
        weight = torch.where(where > 0, 3.0, 1.0)
        whole = total + settings.mask_weight * 4 * F.binary_cross_entropy_with_logits(seen, where, weight)
        net.zero_grad(set_to_none=True)
        whole.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
        muon.step()
        loss = float(total.detach()) if step == 0 else 0.99 * loss + 0.01 * float(total.detach())
        if (step + 1) % every == 0:
            print(f"tower step {step + 1}/{settings.steps}  loss {loss:.4f}  {time.monotonic() - began:.0f} s", flush=True)
    return net.eval()


@torch.inference_mode()
def encode(net: Tower, x: np.ndarray, batch: int = 128) -> tuple[Tensor, Tensor]:
    """Image tokens float32 [n, side * side, text_width] and the head's logits [n, factors]."""
    tokens = torch.cat([net(scaled(part))[1].float() for part in torch.from_numpy(x).split(batch)])
    return tokens, net.head(tokens.mean(1))


def auroc(net: Tower, data: Pictures, least: int = 8) -> dict[str, float]:
    """AUROC of the tower's own head for every factor with at least `least` pictures on both sides."""
    from sklearn.metrics import roc_auc_score

    logits = encode(net, data.x)[1].numpy()
    counted = [i for i in range(len(data.names)) if least <= data.f[:, i].sum() <= len(data.f) - least]
    return {data.names[i]: round(float(roc_auc_score(data.f[:, i], logits[:, i])), 4) for i in counted}
