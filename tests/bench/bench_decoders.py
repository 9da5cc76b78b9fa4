"""Which decoder for what: milliseconds of one core a picture, and whether the levels survive (docs/decisions/085).

    python -m tests.bench.bench_decoders [--rounds 5] [--before FOLDER]

Pictures of 2,000 x 2,500 px (a CR plate) and of CheXpert-small's size, made here; medians and (between two states) the fastest of the rounds, all ways of
one kind taking turns. A way that is not installed (pyvips) is left out. `--before` is a checkout of another state of
the repository: its decoder of ingest takes turns with this one (the way to see that 8-bit JPEG did not become slower).
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image
from pydicom import dcmwrite
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from medsae.cohorts.pictures import decode

HERE = Path(__file__).parents[2]


def levels(h: int, w: int, top: int) -> np.ndarray:
    """Soft shapes and grain, uint16 [h, w] in 0..top."""
    y, x = np.mgrid[:h, :w]
    share = 0.5 + 0.4 * np.sin(x / w * 9) * np.cos(y / h * 7) + np.random.default_rng(0).normal(0, 0.01, (h, w))
    return (share.clip(0, 1) * top).astype(np.uint16)


def jpeg(grey: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def dicom(deep: np.ndarray, **header: str) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, "1.2.3"
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    file = FileDataset("x.dcm", {}, file_meta=meta, preamble=bytes(128))
    file.Rows, file.Columns = deep.shape
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
    for name, value in header.items():
        setattr(file, name, value)
    file.PixelData = deep.tobytes()
    file["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    dcmwrite(buffer, file, enforce_file_format=True)
    return buffer.getvalue()


def files() -> dict[str, tuple[bytes, np.ndarray]]:
    """What each file holds: its bytes, and the levels of its first channel."""
    small, large, deep = (
        levels(320, 390, 255).astype(np.uint8),
        levels(2500, 2000, 255).astype(np.uint8),
        levels(2500, 2000, 4095),
    )
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, np.dstack([deep] * 3), photometric="rgb", compression="zlib")
    header = dict(WindowCenter="2000", WindowWidth="3000")
    return {
        "JPEG, 8 bits, 390 x 320": (jpeg(small), small),
        "JPEG, 8 bits, 2000 x 2500": (jpeg(large), large),
        "PNG, RGB of 12 bits in 16, 2000 x 2500": (imagecodecs.png_encode(np.dstack([deep] * 3)), deep),
        "TIFF, RGB of 12 bits in 16, 2000 x 2500": (tiff.getvalue(), deep),
        "DICOM, 12 bits, 2000 x 2500": (dicom(deep), deep),
        "DICOM, 12 bits, with a window, 2000 x 2500": (dicom(deep, **header), deep),
    }  # fmt: skip


def ways() -> dict[str, Callable[[bytes], np.ndarray]]:
    found: dict[str, Callable[[bytes], np.ndarray]] = {
        "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data))),
        "imagecodecs": lambda data: np.asarray(imagecodecs.imread(data)),
        "tifffile": lambda data: tifffile.imread(io.BytesIO(data)),
    }
    try:
        import pyvips
    except (ImportError, OSError):
        return found
    return found | {"pyvips": lambda data: pyvips.Image.new_from_buffer(data, "").numpy()}


def seconds(work: Callable[[], object], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times


def compare_ways(rounds: int) -> None:
    for name, (data, right) in files().items():
        if name.startswith("DICOM"):
            continue  # pydicom's alone
        print(name)
        taken: dict[str, list[float]] = {}
        kept: dict[str, str] = {}
        times = 100 if len(data) < 10**5 else 1
        for _ in range(rounds):
            for way, read in ways().items():
                if (way == "tifffile") != name.startswith("TIFF") and way == "tifffile":
                    continue
                try:
                    found = read(data)
                except Exception as error:  # a way that cannot read this kind is left out, with its reason
                    kept[way] = f"not read ({type(error).__name__})"
                    continue
                first = found if found.ndim == 2 else found[..., 0]
                off = int(np.abs(first.astype(int) - right).max())
                kept[way] = f"{len(np.unique(first)):,} levels" + (", as packed" if off == 0 else "")
                taken.setdefault(way, []).append(seconds(lambda: read(data), times))  # noqa: B023
        for way, said in kept.items():
            ms = f"{1000 * statistics.median(taken[way]):8.2f} ms" if way in taken else " " * 11
            print(f"  {way:<12} {ms}  {said}")


ONE = """
import sys, time
from medsae.cohorts.pictures import decode
data = open(sys.argv[1], "rb").read()
decode(data)
began = time.process_time()
for _ in range(int(sys.argv[2])):
    decode(data)
print((time.process_time() - began) / int(sys.argv[2]))
"""


def compare_states(before: Path, rounds: int, folder: Path) -> None:
    """Our decoder against that of another checkout: each round one process of each, in turn."""
    for name, (data, _) in files().items():
        path = folder / "picture"
        path.write_bytes(data)
        times = 400 if len(data) < 10**5 else 5
        taken: dict[Path, list[float]] = {before: [], HERE: []}
        for _ in range(rounds):
            for state, measured in taken.items():
                done = subprocess.run([sys.executable, "-c", ONE, str(path), str(times)], cwd=state, check=True,
                                      capture_output=True, text=True)  # fmt: skip
                measured.append(float(done.stdout))
        for what, of in (("median", statistics.median), ("fastest", min)):
            old, new = (1000 * of(taken[state]) for state in (before, HERE))
            print(f"{name}, {what}: before {old:.3f} ms, now {new:.3f} ms, {old / new:.2f} x the rate")


def main() -> None:
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--before", type=Path)
    options = parser.parse_args()
    if options.before:
        with tempfile.TemporaryDirectory() as folder:
            compare_states(options.before.resolve(), options.rounds, Path(folder))
        return
    compare_ways(options.rounds)
    for name, (data, _) in files().items():
        print(f"ingest's own decoder, {name}: {1000 * seconds(lambda: decode(data), 3):.2f} ms")  # noqa: B023


if __name__ == "__main__":
    main()
