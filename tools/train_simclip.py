"""Trains simclip on simulated radiographs: `python -m tools.train_simclip`.

Pictures are matched with short captions of what was planted ("right pleural effusion", "consolidation in the left lower
lobe", "AP projection"). Every caption is compared with every picture of a batch and asked whether it is true of it: the
pairwise sigmoid loss of SigLIP (Zhai et al. 2023, equation 1), in which a picture may match several captions. Sex, age,
markers, exposure and body are in no caption.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from medsae import simulated
from medsae.encoders.grey import square
from medsae.encoders.simclip import SIZE, WORDS, ConvUnit, ImageTower, TextTower, tokens
from medsae.simulated import projection

SEED = 900_001
"""Seed of the training patients; `SEED + 1` draws those that the record's probes are fitted and scored on."""

SHARD = 500
LOBE_WORDS = {"RUL": "right upper lobe", "RML": "right middle lobe", "RLL": "right lower lobe",
              "LUL": "left upper lobe", "LLL": "left lower lobe"}  # fmt: skip
WORDING: dict[str, tuple[str, ...]] = {
    "Cardiomegaly": ("cardiomegaly", "enlarged heart"),
    "Enlarged Cardiomediastinum": ("enlarged cardiomediastinum", "wide mediastinum"),
    "Lung Opacity": ("lung opacity", "haze"),
    "Lung Lesion": ("lung lesion", "nodule or mass"),
    "Edema": ("edema", "congestion"),
    "Consolidation": ("consolidation", "consolidation of the lung"),
    "Pneumonia": ("pneumonia", "infiltrate"),
    "Atelectasis": ("atelectasis", "collapse"),
    "Pneumothorax": ("pneumothorax", "pleural air"),
    "Pleural Effusion": ("pleural effusion", "pleural fluid"),
    "Pleural Other": ("pleural thickening", "pleural other"),
    "Fracture": ("fracture", "broken bone"),
    "Pacemaker": ("pacemaker", "pacemaker generator"),
    "Sternal wires": ("sternal wires", "sternotomy wires"),
    "Endotracheal tube": ("endotracheal tube", "intubated"),
    "Central line": ("central line", "central venous catheter"),
    "Chest tube": ("chest tube", "chest drain"),
    "ECG leads": ("ecg leads", "electrodes"),
    "AP view": ("ap projection", "portable ap view"),
}


@dataclass(frozen=True)
class Settings:
    images: int = 12_000
    epochs: int = 8
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.03
    positive_weight: float = 2.0
    shift_px: int = 6
    seed: int = 0


def captions(names: list[str]) -> list[tuple[str, tuple[str, ...]]]:
    """(factor, its wordings) of every factor that captions speak of."""
    out: list[tuple[str, tuple[str, ...]]] = []
    for name in names:
        finding, _, place = name.partition(":")
        if finding in WORDING:
            where = LOBE_WORDS.get(place, place)
            out.append((name, tuple(f"{w} {where}".strip() for w in WORDING[finding])))
    return out


def shard(job: tuple[Path, Path, int, int, int]) -> Path:
    """Draws one shard at encoder size: x uint8 [n, 128, 128], f bool [n, factors], names. Skips what is there."""
    folder, out, seed, start, stop = job
    path = out / f"{start:06d}.npz"
    if not path.exists():
        prepared = projection.read_once(folder, simulated.quality_for(320))
        drawn = [simulated.picture_of(prepared, study, 320) for study in simulated.plan(stop, seed, start)]
        part = out / f".{start:06d}.npz"
        np.savez(part, x=np.stack([square(d.picture, SIZE) for d in drawn]), names=np.array(list(drawn[0].factors)),
                 f=np.array([list(d.factors.values()) for d in drawn], bool))  # fmt: skip
        part.rename(path)
    return path


def pictures(cache: Path, images: int, seed: int, processes: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """x uint8 [n, 128, 128], f bool [n, factors] and the factors' names, drawn once and kept under `cache`."""
    folder, out = simulated.prepare(cache / "simulated", 320, processes), cache / f"simclip-{seed}"
    out.mkdir(parents=True, exist_ok=True)
    jobs = [(folder, out, seed, start, min(images, start + SHARD)) for start in range(0, images, SHARD)]
    with get_context("spawn").Pool(processes) as pool:
        shards = [np.load(path) for path in pool.imap(shard, jobs)]
    names = [str(n) for n in shards[0]["names"]]
    return np.concatenate([s["x"] for s in shards]), np.concatenate([s["f"] for s in shards]), names


def augment(x_bhw: torch.Tensor, shift_px: int, rng: np.random.Generator) -> torch.Tensor:
    """uint8 [b, 128, 128] -> float32 [b, 1, 128, 128] as `SimClip.prepare` scales it, moved and with other contrast.

    Never mirrored: side is part of the truth."""
    b = len(x_bhw)
    x = (x_bhw.float() / 255 - 0.5) / 0.25
    padded = nn.functional.pad(x[:, None], (shift_px,) * 4, mode="replicate")
    at = rng.integers(0, 2 * shift_px + 1, (b, 2))
    x = torch.stack([padded[i, :, r : r + SIZE, c : c + SIZE] for i, (r, c) in enumerate(at.tolist())])
    gain = torch.tensor(rng.uniform(0.85, 1.15, (b, 1, 1, 1)), dtype=torch.float32)
    offset = torch.tensor(rng.normal(0, 0.12, (b, 1, 1, 1)), dtype=torch.float32)
    return x * gain + offset


def train(
    x: np.ndarray, f: np.ndarray, names: list[str], settings: Settings
) -> tuple[ImageTower, TextTower, list[float]]:
    """Both towers, the image tower with BatchNorm folded, and the mean loss of every epoch."""
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    image, text = ImageTower(norm=True).to(memory_format=torch.channels_last), TextTower()  # pyright: ignore
    scale, bias = nn.Parameter(torch.tensor(math.log(10.0))), nn.Parameter(torch.tensor(-4.0))
    spoken = captions(names)
    columns = [names.index(name) for name, _ in spoken]
    wordings = [tokens([w[i] for _, w in spoken]) for i in range(2)]
    x_all, y_all = torch.from_numpy(x), torch.from_numpy(f[:, columns])
    parameters = [*image.parameters(), *text.parameters(), scale, bias]
    optimiser = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
    steps = len(x) // settings.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, settings.epochs * steps, pct_start=0.15
    )
    history: list[float] = []
    for epoch in range(settings.epochs):
        began, total = time.monotonic(), 0.0
        for rows in torch.from_numpy(rng.permutation(len(x)))[: steps * settings.batch].split(settings.batch):
            seen = image(augment(x_all[rows], settings.shift_px, rng).contiguous(memory_format=torch.channels_last))
            said = text(wordings[int(rng.integers(2))])
            logits = scale.exp() * nn.functional.normalize(seen) @ nn.functional.normalize(said).T + bias
            y = y_all[rows].float()
            weight = torch.where(y > 0, settings.positive_weight, 1.0)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, y, weight)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        history.append(total / steps)
        print(
            f"epoch {epoch + 1}/{settings.epochs}  loss {history[-1]:.4f}  {time.monotonic() - began:.0f} s", flush=True
        )
    return folded(image.eval()), text.eval(), history


def folded(image: ImageTower) -> ImageTower:
    """The same function without BatchNorm."""
    plain = ImageTower()
    kept = {k: v for k, v in image.state_dict().items() if ".norm." not in k}
    for name, unit in image.named_modules():
        if isinstance(unit, ConvUnit):
            assert isinstance(unit.norm, nn.BatchNorm2d)
            conv = fuse_conv_bn_eval(unit.conv, unit.norm)
            kept |= {f"{name}.conv.weight": conv.weight, f"{name}.conv.bias": conv.bias}
    plain.load_state_dict(kept)
    return plain.eval()


@torch.inference_mode()
def embed(image: ImageTower, x: np.ndarray, batch: int = 128) -> np.ndarray:
    """float32 [n, 128] of pictures uint8 [n, 128, 128]; not normalised."""
    parts = [image((part[:, None].float() / 255 - 0.5) / 0.25) for part in torch.from_numpy(x).split(batch)]
    return torch.cat(parts).numpy()


def probes(z: np.ndarray, f: np.ndarray, names: list[str]) -> dict[str, dict[str, float | int]]:
    """AUROC of a logistic probe for every factor: fitted on the first half of the patients, scored on the second."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    half = len(z) // 2
    z = (z - z[:half].mean(0)) / z[:half].std(0)
    out: dict[str, dict[str, float | int]] = {}
    for i, name in enumerate(names):
        y = f[:, i]
        if min(y[:half].sum(), (~y[:half]).sum(), y[half:].sum(), (~y[half:]).sum()) >= 8:
            probe = LogisticRegression(C=0.03, max_iter=500).fit(z[:half], y[:half])
            auroc = float(roc_auc_score(y[half:], probe.decision_function(z[half:])))
            out[name] = {"auroc": round(auroc, 4), "positives": int(y[half:].sum())}
    return out


def main(settings: Settings, cache: Path, out: Path, processes: int = 2) -> None:
    """Draws, trains, probes; writes simclip.safetensors and simclip.json into `out`."""
    began = time.monotonic()
    x, f, names = pictures(cache, settings.images, SEED, processes)
    drawn = time.monotonic()
    image, text, history = train(x, f, names, settings)
    trained = time.monotonic()
    x, f, names = pictures(cache, 3000, SEED + 1, processes)
    record = {
        "name": "simclip", "settings": asdict(settings), "training_seed": SEED, "probe_seed": SEED + 1,
        "parameters": {n: sum(p.numel() for p in t.parameters()) for n, t in (("image", image), ("text", text))},
        "words": len(WORDS), "loss": [round(v, 4) for v in history], "projection_version": projection.VERSION,
        "seconds": {"drawing": round(drawn - began), "training": round(trained - drawn)},
        "probe_pictures": {"fitted": len(x) // 2, "scored": len(x) - len(x) // 2},
        "probe_auroc": probes(embed(image, x), f, names),
        "licence": "Apache-2.0, as the rest of the repository; trained on simulated pictures only",
    }  # fmt: skip
    weights = {f"image.{k}": v.contiguous() for k, v in image.state_dict().items()}
    weights |= {f"text.{k}": v.contiguous() for k, v in text.state_dict().items()}
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / "simclip.safetensors")
    (out / "simclip.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    import tyro

    def train_simclip(settings: Settings = Settings(), cache: Path = Path("data/cache"),
                      out: Path = Path(__file__).parent / "weights", processes: int = 2) -> None:  # fmt: skip
        main(settings, cache, out, processes)

    tyro.cli(train_simclip)
