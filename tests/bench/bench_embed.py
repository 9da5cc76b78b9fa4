"""embed against its two parts in one run: decoding alone and the network alone, on the same pictures.

    python tests/bench/bench_embed.py [--pictures 256] [--rounds 3] [--encoders efficientnet-lite0 medclip-resnet]

Asked for: at least 0.85 x the slower part. On a CPU both parts use the same cores, so no program can be faster than
1 / (1/decoding + 1/network) once each part alone keeps every core busy; that bound is printed beside the ratio, and
the processor time of embed over that of its parts, which other programs on the machine disturb least.
Rounds take turns so that a busy moment of the machine falls on all; medians. MedCLIP runs with random weights: the speed
is that of the real ones. `rad-dino` and `medsiglip` are towers of the published widths and inputs; with fewer --layers the
network is cheaper and decoding weighs more, which is harder to meet.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from medsae.cohorts.pictures import decode
from medsae.encoders import Encoder, load_encoder
from medsae.encoders.medclip import ResNetTower, ViTTower
from medsae.encoders.pipeline import How, embed
from medsae.encoders.plan import Plan, Runner

REAL = Path(__file__).parents[2] / "../shared/cxr"


class Jpegs:
    """Radiographs of the optional folder of real ones, else generated ones of CheXpert-small's size (390 x 320)."""

    def __init__(self, n: int):
        files = sorted(REAL.glob("*/*/*/*.jpg"))
        made = [path.read_bytes() for path in files[:n]] if files else [generated(seed) for seed in range(min(n, 64))]
        self.data = [made[i % len(made)] for i in range(n)]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> np.ndarray:
        return decode(self.data[i])


def generated(seed: int) -> bytes:
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (20, 24), np.uint8)).resize((390, 320), Image.Resampling.BICUBIC)
    grain = random.integers(-12, 13, (320, 390))
    out = io.BytesIO()
    Image.fromarray((np.asarray(coarse).astype(int) + grain).clip(0, 255).astype(np.uint8)).save(
        out, "JPEG", quality=90
    )
    return out.getvalue()


def shaped(name: str, layers: int, folder: Path) -> Encoder:
    """A tower of the published widths and input, with random weights and `layers` layers."""
    import transformers as t

    torch.manual_seed(0)
    if name == "rad-dino":  # microsoft/rad-dino: ViT-B/14 at 518 px, 1 + 1369 tokens
        model: t.PreTrainedModel = t.Dinov2Model(
            t.Dinov2Config(hidden_size=768, num_attention_heads=12, num_hidden_layers=layers, image_size=518)
        )
        processor = t.BitImageProcessor(size={"shortest_edge": 518}, crop_size={"height": 518, "width": 518})
    else:  # google/medsiglip-448: so400m/14 at 448 px, 1024 tokens
        shape: dict[str, Any] = dict(
            hidden_size=1152, intermediate_size=4304, num_attention_heads=16, patch_size=14, image_size=448
        )
        model = t.SiglipVisionModel(t.SiglipVisionConfig(**shape, num_hidden_layers=layers))
        processor = t.SiglipImageProcessor(size={"height": 448, "width": 448})
    model.save_pretrained(folder / name)
    processor.save_pretrained(folder / name)
    return load_encoder(f"hf:{folder / name}", None, folder)


def encoder_of(name: str, folder: Path, layers: int) -> Encoder:
    if name in ("rad-dino", "medsiglip"):
        return shaped(name, layers, folder)
    towers = {"medclip-resnet": ResNetTower, "medclip-vit": ViTTower}
    if name not in towers:
        return load_encoder(name, None, folder)
    weights = folder / f"{name}.bin"
    torch.save({f"vision_model.{k}": v for k, v in towers[name]().state_dict().items()}, weights)
    return load_encoder(name, weights, folder)


def cost(work: Callable[[], object], n: int) -> tuple[float, float]:
    """Wall and processor seconds a picture."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - began) / n, (time.process_time() - used) / n


def measure(name: str, pictures: Jpegs, options: argparse.Namespace, root: Path) -> str:
    encoder, n, choices = encoder_of(name, root, options.layers), len(pictures), root / "choices.json"
    batch, rounds = options.batch, options.rounds
    how = How(batch=batch, device=options.device, precision=options.precision, choices=choices)
    x_nd, report = embed(Jpegs(batch), encoder, how, shards=root / f"{name}-warm")
    assert x_nd is not None and np.isfinite(x_nd).all()
    plan = Plan(report.device, report.precision, report.channels_last, None, batch, "")
    inputs = torch.from_numpy(np.stack([encoder.prepare(pictures[i % n]) for i in range(batch)]))

    def decoding() -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda i: encoder.prepare(pictures[i]), range(n)))

    def network() -> None:
        with Runner(encoder.module, plan) as run:
            for wait in [run.start(inputs) for _ in range(0, n, batch)]:
                wait()

    def everything(round_: int) -> None:
        embed(pictures, encoder, how, shards=root / f"{name}-{round_}")

    costs: dict[str, list[tuple[float, float]]] = {"decoding": [], "network": [], "embed": []}
    for round_ in range(rounds):
        costs["decoding"].append(cost(decoding, n))
        costs["network"].append(cost(network, n))
        costs["embed"].append(cost(lambda r=round_: everything(r), n))
    d, w, e = (1 / statistics.median(wall for wall, _ in costs[k]) for k in ("decoding", "network", "embed"))
    dc, wc, ec = (statistics.median(cpu for _, cpu in costs[k]) for k in ("decoding", "network", "embed"))
    way = f"{report.device} {report.precision}{' channels last' if report.channels_last else ''}"
    return f"| {name} | {way} | {d:.0f} | {w:.1f} | {e:.1f} | {e / min(d, w):.2f} | {e / (1 / (1 / d + 1 / w)):.2f} | {ec / (dc + wc):.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--layers", type=int, default=12, help="of rad-dino and medsiglip")
    parser.add_argument("--encoders", nargs="+", default=["efficientnet-lite0", "medclip-resnet", "medclip-vit"])
    options = parser.parse_args()
    pictures = Jpegs(options.pictures // options.batch * options.batch)
    print(f"{len(pictures)} pictures, {'real' if REAL.is_dir() else 'generated'}, {torch.get_num_threads()} threads")
    print(
        "| encoder | computed on | decoding/s | network/s | embed/s | embed : slower part | embed : both on one set of cores | processor seconds, embed : sum |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.encoders:
            print(measure(name, pictures, options, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
