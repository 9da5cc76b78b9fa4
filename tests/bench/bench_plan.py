"""The unit costs of `medsae plan`, measured on this machine, and whether the plan holds at sizes that had no part in it.

    python tests/bench/bench_plan.py units DEMO --to units.json     # measure; medsae plan ... --units units.json
    python tests/bench/bench_plan.py check DEMO                     # two sizes against the plan, step by step

DEMO is a data folder with the simulated cohort (`medsae run demo`): its pictures are written as JPEG files. Counted are
core seconds (user and system) of each command with its processes, so that a busy machine disturbs little.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.optimize import nnls

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from medsae import scale  # noqa: E402
from medsae.store.artifacts import Store  # noqa: E402
from tests.bench import bench_scale  # noqa: E402

SMALL_PX, LARGE_PX = 320, 2000
FIT, CHECK = (1000, 4000), (2500, 8000)
LABELS = ("Cardiomegaly", "Edema", "Pneumothorax", "Pleural Effusion")
EPOCHS, NEURONS, ACTIVE = 60, 512, 16
MACHINE = scale.Machine(1, 0, 24, 100, 7, 20, 200, 0.05, 4, 0.023)


@dataclass(frozen=True)
class Took:
    """Core seconds of each step at one size."""

    n: int
    side: int
    core_s: dict[str, float]


def write_pictures(demo: Path, to: Path, n: int, side: int) -> Path:
    """n JPEG files of the demo's pictures and their table; returns the table."""
    cohort = Store(demo).list("cohort")[0]
    to.mkdir(parents=True)
    lines = ["Path,Patient," + ",".join(LABELS)]
    with cohort.connect() as connection:
        wanted = ", ".join(f"max(value) FILTER (label = '{name}')" for name in LABELS)
        labels = connection.execute(f"SELECT {wanted} FROM label GROUP BY image ORDER BY image").fetchall()
        patients = [r[0] for r in connection.execute("SELECT patient FROM image ORDER BY image").fetchall()]
        for at in range(0, n, 500):
            rows = connection.execute("SELECT image, jpeg FROM picture WHERE image >= ? AND image < ? ORDER BY image",
                                      [at, min(at + 500, n)]).fetchall()  # fmt: skip
            for image, jpeg in rows:
                if side != SMALL_PX:
                    out = io.BytesIO()
                    Image.open(io.BytesIO(jpeg)).resize((side, side), Image.Resampling.BICUBIC).save(out, "JPEG")
                    jpeg = out.getvalue()
                (to / f"{image:06}.jpg").write_bytes(jpeg)
                values = ",".join("" if v is None else str(v) for v in labels[image])
                lines.append(f"{image:06}.jpg,{patients[image]},{values}")
    (to / "table.csv").write_text("\n".join(lines) + "\n")
    return to / "table.csv"


def whole(
    demo: Path, n: int, side: int = SMALL_PX, steps: tuple[str, ...] = ("ingest", "embed", "train", "score")
) -> Took:
    """Every step by its command on n pictures."""
    with tempfile.TemporaryDirectory(prefix="plan-") as folder:
        data, table = Path(folder) / "data", write_pictures(demo, Path(folder) / "pictures", n, side)
        words: dict[str, list[str]] = {"ingest": ["table", "--table", str(table)]}
        took: dict[str, float] = {}
        made = ""
        for step, before in zip(steps, (None, "--cohort", "--embeddings", "--sae"), strict=False):
            used = bench_scale.use([step, *(words.get(step) or []), *([before, made] if before else []),
                                    *MORE.get(step, [])], data)  # fmt: skip
            made, took[step] = used.result, used.core_seconds
            print(f"{n:,} pictures of {side} px: {step} {used.core_seconds:.1f} core s", file=sys.stderr, flush=True)
    return Took(n, side, took)


MORE = {"embed": ["--encoder", "simclip"], "train": ["--epochs", str(EPOCHS), "--k", str(ACTIVE), "--expansion", "4"],
        "score": ["--images", "all"]}  # fmt: skip
SYNTHETIC = ((20_000, 512, 2048, 1), (40_000, 512, 1024, 4), (10_000, 512, 4096, 2))
"""Images, d, m, epochs."""


def synthetic() -> list[tuple[bench_scale.Shape, int, dict[str, bench_scale.Used]]]:
    """train (so many epochs) and score of embeddings that are drawn."""
    found = []
    for n, d, m, epochs in SYNTHETIC:
        with tempfile.TemporaryDirectory(prefix="plan-") as folder:
            shape = bench_scale.Shape(n, d, m, ACTIVE)
            found.append((shape, epochs, bench_scale.measure(Path(folder), shape, ("train", "score"), epochs)))
            print(n, d, m, {k: round(v.core_seconds, 1) for k, v in found[-1][2].items()}, file=sys.stderr, flush=True)
    return found


def units(demo: Path) -> dict[str, float]:
    """Unit costs that fit the sizes of FIT, one size of large pictures and the synthetic ones."""
    small, more = (whole(demo, n) for n in FIT)
    large = whole(demo, 300, LARGE_PX, ("ingest", "embed"))
    out: dict[str, float] = {}
    pixels = (LARGE_PX**2 - SMALL_PX**2) / 1e6
    for step, picture in (("ingest", "check"), ("embed", "encode")):
        slope = (more.core_s[step] - small.core_s[step]) / (more.n - small.n)
        start = max(0.0, small.core_s[step] - slope * small.n)
        out[f"start_{step}_s"] = start
        megapixel = max(0.0, ((large.core_s[step] - start) / large.n - slope) / pixels)
        out[f"{picture}_megapixel_s"] = megapixel
        out[f"{picture}_picture_s"] = max(0.0, slope - megapixel * SMALL_PX**2 / 1e6)
    out["encode_picture_s"] -= scale.NETWORKS["simclip"].on_core()
    drawn = synthetic()
    rows, seen = [], []
    for took in (small, more):
        seen.append(took.core_s["train"])
        rows.append(train_row(took.n, 128 * NEURONS, EPOCHS))
    for shape, epochs, used in drawn:
        seen.append(used["train"].core_seconds)
        rows.append(train_row(shape.n, shape.d * shape.m, epochs))
    out |= fitted(("start_train_s", "train_image_s", "train_cell_s", "train_pass_cell_s"), rows, seen)
    scored: list[dict[str, float]] = []
    seen = []
    for took in (small, more):
        encode = out["encode_picture_s"] + scale.NETWORKS["simclip"].on_core() + out["encode_megapixel_s"] * 0.1
        seen.append(
            took.core_s["score"]
            - scale.Units().start_maps_s
            - scale.MAP_ENCODES * min(took.n, scale.TOP_IMAGES * NEURONS) * encode
        )
        scored.append(score_row(bench_scale.Shape(took.n, 128, NEURONS, ACTIVE), len(LABELS)))
    for shape, _, used in drawn:
        seen.append(used["score"].core_seconds)
        scored.append(score_row(shape, scale.LABELS))
    return out | fitted(tuple(scored[0]), [list(row.values()) for row in scored], seen)


def train_row(n: int, cells: int, epochs: int) -> list[float]:
    images = scale.TRAIN_SHARE * n
    return [1, images * epochs, images * epochs * cells, images * cells]


def score_row(shape: bench_scale.Shape, labels: int) -> dict[str, float]:
    network = scale.Network(shape.d, 0, 0)
    return scale.score_terms(scale.Study(shape.n, network, shape.m, 0, 0, shape.active, 1, 0, labels))


def fitted(names: tuple[str, ...], rows: list[list[float]], seen: list[float]) -> dict[str, float]:
    """Costs that are not negative with the smallest relative error."""
    matrix, target = np.asarray(rows, float), np.asarray(seen, float)
    weighted = matrix / target[:, None]
    size = weighted.max(0)
    found, _ = nnls(weighted / size, np.ones(len(target)))
    return dict(zip(names, (found / size).tolist(), strict=True))


def check(demo: Path, costs: scale.Units) -> None:
    """Predicted and measured core seconds at the sizes of CHECK."""
    print("| images | step | planned, core s | measured, core s | planned / measured |\n|---|---|---|---|---|")
    for n in CHECK:
        took = whole(demo, n)
        study = scale.Study(n, scale.NETWORKS["simclip"], NEURONS, SMALL_PX**2 / 1e6, 20, ACTIVE, EPOCHS, 0)
        study = replace(study, labels=len(LABELS))
        planned = {step: scale.STEPS[step](study, MACHINE, costs).core_s for step in took.core_s}
        planned["all"], took.core_s["all"] = sum(planned.values()), sum(took.core_s.values())
        for step, seconds in took.core_s.items():
            print(
                f"| {n:,} | {step} | {planned[step]:.1f} | {seconds:.1f} | {planned[step] / seconds:.2f} |", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("units", "check"))
    parser.add_argument("demo", type=Path)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--units", type=Path)
    asked = parser.parse_args()
    if asked.what == "check":
        check(asked.demo, scale.Units.read(asked.units))
        return
    found = {name: float(f"{value:.3g}") for name, value in units(asked.demo).items()}
    text = json.dumps(found, indent=1, sort_keys=True)
    print(text)
    if asked.to:
        asked.to.write_text(text + "\n")


if __name__ == "__main__":
    main()
