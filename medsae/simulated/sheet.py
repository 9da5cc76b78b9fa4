"""A contact sheet: two radiographs of each finding, captioned. `python -m medsae.simulated.sheet OUT.png`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from medsae.config import CHEXPERT_LABELS
from medsae.simulated import compose, patients, prepare, projection, quality_for
from medsae.simulated.probabilities import DEVICES, PATHOLOGIES

SHOWN = CHEXPERT_LABELS
CAPTION_PX = 16


def choose(seed: int, each: int, shown: tuple[str, ...] = SHOWN) -> Iterator[tuple[str, patients.Study]]:
    """The first studies of other patients that show one finding clearly and little else."""
    for name in shown:
        found: list[patients.Study] = []
        for study in patients.plan(8000, seed):
            findings = {n for n in study.present if n in PATHOLOGIES}
            tools = {n for n in study.present if n in DEVICES}
            if name == "No Finding":
                fits = not findings and not tools
            elif name == "Support Devices":
                fits = not findings and len(tools) >= 2
            else:
                fits = findings == {name} and not tools and study.present[name].severity > 0.55
            # Bed-side cables would hide what the sheet is to show.
            fits = fits and (name == "Support Devices" or "ECG leads" not in study.present)
            if fits and all(study.patient != other.patient for other in found):
                found.append(study)
                yield name, study
            if len(found) == each:
                break


def caption(name: str, study: patients.Study) -> str:
    """What the picture shows, in a few words."""
    names = [n for n in DEVICES if n in study.present] if name == "Support Devices" else [name]
    words = []
    for n in names:
        planted = study.present.get(n)
        detail = [planted.kind, *planted.places] if planted else []
        words.append(", ".join(filter(None, [n, *detail])))
    return f"{'; '.join(words)} ({study.view()}, {study.sex.lower()}, {study.age})"


def sheet(folder: Path, seed: int, size: int = 320, cell: int = 206, columns: int = 7, each: int = 2,
          shown: tuple[str, ...] = SHOWN) -> Image.Image:  # fmt: skip
    """A grey picture of captioned radiographs; `folder` is a prepared thorax."""
    prepared = projection.read(folder, quality_for(size))
    chosen = list(choose(seed, each, shown))
    rows = -(-len(chosen) // columns)
    page = Image.new("L", (columns * cell, rows * (cell + CAPTION_PX)), 255)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=10)
    for i, (name, study) in enumerate(chosen):
        x, y = (i % columns) * cell, (i // columns) * (cell + CAPTION_PX)
        picture = compose.draw(prepared, study, size).picture.astype("uint8")
        page.paste(Image.fromarray(picture).resize((cell - 2, cell - 2), Image.Resampling.LANCZOS), (x + 1, y + 1))
        text = caption(name, study)
        while pen.textlength(text, font=font) > cell - 4:
            text = text[:-2]
        pen.text((x + 2, y + cell + 1), text, fill=0, font=font)
    return page


if __name__ == "__main__":
    import sys

    sheet(prepare(Path("data/cache/simulated")), seed=3).save(sys.argv[1], optimize=True)
